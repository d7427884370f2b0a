//! Detects files that another program removes, replaces or cuts while they are ours.
//!
//! Writes to an open file succeed whatever became of its name. A file that was cut grows again,
//! with a hole where a verified piece was. So before each write, a file must be as long as it was
//! before. After a sync and at the end, its name must still lead to it. Its pieces stay recorded:
//! if the file is put back, nothing is lost, and if not, the next start notices that it is gone.
//!
//! Some file systems give a file another id once it is closed ([`Disk::has_stable_ids`]). There the
//! store does not notice that a file of ours was replaced. It notices only that a file is gone,
//! cut, or new where there was none.

use std::io;
use std::sync::atomic::Ordering;

use super::Store;
use super::layout::{Location, Segment};
use crate::{Disk, FileId, Operation, Stat, StoreError};

impl<D: Disk> Store<D> {
    /// Checks before a write to `file` that the file is as long as it was.
    pub(super) fn check_length(
        &self,
        location: Location,
        file: &D::File,
    ) -> Result<(), StoreError> {
        let Some(known) = self.known_length(location).filter(|known| *known > 0) else {
            return Ok(());
        };
        let stat = self.disk().file_stat(file);
        let stat = stat.map_err(|error| self.location_error(Operation::Stat, location, &error))?;
        match stat.length < known {
            true => Err(self.location_error(Operation::Write, location, &cut(known, stat.length))),
            false => Ok(()),
        }
    }

    /// Records that a segment was written.
    pub(super) fn note_length(&self, segment: &Segment) {
        if let Location::File(slot) = segment.location {
            let known = &self.layout.slot(slot).known_length;
            known.fetch_max(segment.offset + segment.length, Ordering::Relaxed);
        }
    }

    pub(super) fn known_length(&self, location: Location) -> Option<u64> {
        let Location::File(slot) = location else { return None };
        Some(self.layout.slot(slot).known_length.load(Ordering::Relaxed))
    }

    /// Returns the file that now has the name of each recorded slot.
    pub(super) fn stat_known(
        &self,
        slots: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<KnownFile>, StoreError> {
        let mut files = Vec::new();
        for slot in slots {
            let location = self.layout.location(slot);
            let Some(file) = self.ledger().file(slot) else { continue };
            // Read before the stat, because other workers write meanwhile.
            let length = self.known_length(location).unwrap_or(0);
            let in_use = self.is_in_use(location);
            let found = self.stat_location(location)?;
            files.push(KnownFile { slot, id: file.id, in_use, length, found });
        }
        Ok(files)
    }

    /// Checks that the files still have their names and are no shorter. A seed-only torrent has
    /// written nothing that could be lost.
    pub(super) fn check_names(&self, files: &[KnownFile]) -> Result<(), StoreError> {
        files.iter().filter(|file| file.in_use && !self.seed_only).try_for_each(|file| {
            let location = self.layout.location(file.slot);
            let known = self.present_id(Some(file.id), file.found);
            let same = compare(known, file.length, file.found);
            same.map_err(|error| self.location_error(Operation::Stat, location, &error))
        })
    }

    /// Returns the id that the `known` file must have now. Where ids are not stable, that is the id
    /// of the file that was found.
    pub(super) fn present_id(&self, known: Option<FileId>, found: Option<Stat>) -> Option<FileId> {
        let renumbered = found.filter(|_| !self.stable_ids);
        known.map(|id| renumbered.map_or(id, |stat| stat.id))
    }

    /// Whether bytes are read from and written to the file with the name of a location.
    fn is_in_use(&self, location: Location) -> bool {
        match location {
            Location::File(slot) => self.single.is_none() && self.layout.slot(slot).has_own_file(),
            Location::Parts => self.parts.has_name(),
            Location::Zeros => false,
        }
    }

    fn stat_location(&self, location: Location) -> Result<Option<Stat>, StoreError> {
        match location {
            Location::File(slot) => self.stat_path(self.layout.path(slot)),
            Location::Parts | Location::Zeros => self.stat_parts(),
        }
    }
}

/// A file of the torrent, and the file that has its name now.
#[derive(Debug)]
pub(super) struct KnownFile {
    pub(super) slot: u32,
    pub(super) id: FileId,
    in_use: bool,
    /// The least length that it must have.
    length: u64,
    pub(super) found: Option<Stat>,
}

/// Compares a file with the one that was `found` under its name. The file must be at least `length`
/// bytes long and, if it was `known`, still have its id.
pub(super) fn compare(known: Option<FileId>, length: u64, found: Option<Stat>) -> io::Result<()> {
    let Some(stat) = found else {
        let message = "it was removed while it was in use";
        return match known.is_some() || length > 0 {
            true => Err(busy(message)),
            false => Ok(()),
        };
    };
    if known.is_some_and(|known| !known.is(stat.id)) {
        let message = "it was replaced while it was in use";
        return Err(busy(message));
    }
    if stat.length < length { Err(cut(length, stat.length)) } else { Ok(()) }
}

/// Refuses a file that is about to be written for the first time, unless it is empty or the `known`
/// one: another program put it there.
pub(super) fn check_identity(known: Option<FileId>, stat: &Stat) -> io::Result<()> {
    match stat.length == 0 || known.is_some_and(|known| known.is(stat.id)) {
        true => Ok(()),
        false => Err(put_there()),
    }
}

/// The error for a file with the name of one that is ours to create.
pub(super) fn put_there() -> io::Error {
    busy("another download or program put it there")
}

fn busy(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}

fn cut(known: u64, got: u64) -> io::Error {
    let message = format!("expected at least {known} bytes, got {got}");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

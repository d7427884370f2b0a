//! Files that somebody else removes, replaces or cuts while they are ours.
//!
//! An open file takes what is written to it, whatever became of its name. One that was cut grows
//! again, with a hole where a verified piece was. So a file must be, before each write, as long as
//! what was written to it before. After a sync and at the end, its name must still lead to it. The
//! pieces in it stay recorded: if the file is put back, nothing is lost, and if not, the next start
//! notices that it is gone.
//!
//! Some file systems give a file another number once nobody has it open ([`Disk::has_stable_ids`]):
//! there, a file of ours that was replaced is not seen, only one that is gone, cut, or put where
//! none was.

use std::io;
use std::sync::atomic::Ordering;

use super::Store;
use super::layout::{Place, PlacedRange, Slot};
use crate::{Disk, FileId, Operation, Stat, StoreError};

impl<D: Disk> Store<D> {
    /// Checks, before something is written to `file`, that what was written before is still in it.
    pub(super) fn check_length(&self, place: Place, file: &D::File) -> Result<(), StoreError> {
        let Some(known) = self.known_length(place).filter(|known| *known > 0) else {
            return Ok(());
        };
        let stat = self.disk.file_stat(file);
        let stat = stat.map_err(|error| self.place_error(Operation::Stat, place, &error))?;
        match stat.length < known {
            true => Err(self.place_error(Operation::Write, place, &cut(known, stat.length))),
            false => Ok(()),
        }
    }

    /// Notes that a range was written.
    pub(super) fn note_length(&self, range: &PlacedRange) {
        if let Place::File(index) = range.place
            && let Some(slot) = self.layout.slots.get(index)
        {
            slot.known_length.fetch_max(range.offset + range.length, Ordering::Relaxed);
        }
    }

    pub(super) fn known_length(&self, place: Place) -> Option<u64> {
        let Place::File(index) = place else { return None };
        Some(self.layout.slots.get(index)?.known_length.load(Ordering::Relaxed))
    }

    /// Returns the file that has the name of each recorded slot now.
    pub(super) fn stat_known(
        &self,
        slots: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<KnownFile>, StoreError> {
        let mut files = Vec::new();
        for slot in slots {
            let place = self.place_of(slot);
            let Some(file) = self.ledger().file(slot) else { continue };
            // Read before the stat, because other workers write meanwhile.
            let (in_use, length) = (self.is_in_use(place), self.known_length(place).unwrap_or(0));
            let found = self.stat_place(place)?;
            files.push(KnownFile { slot, id: file.id, in_use, length, found });
        }
        Ok(files)
    }

    /// Checks that the files are still those that have their names, and no shorter. A seed-only
    /// torrent has written nothing that could be lost.
    pub(super) fn check_names(&self, files: &[KnownFile]) -> Result<(), StoreError> {
        files.iter().filter(|file| file.in_use && !self.read_only).try_for_each(|file| {
            let place = self.place_of(file.slot);
            let known = self.as_numbered(Some(file.id), file.found);
            let same = compare(known, file.length, file.found);
            same.map_err(|error| self.place_error(Operation::Stat, place, &error))
        })
    }

    /// The number that a file which is `known` must be found with: where numbers do not last, the
    /// one it has.
    pub(super) fn as_numbered(&self, known: Option<FileId>, found: Option<Stat>) -> Option<FileId> {
        let renumbered = found.filter(|_| !self.stable_ids);
        known.map(|id| renumbered.map_or(id, |stat| stat.id))
    }

    /// Whether bytes are read from and written to the file that has the name of a place.
    fn is_in_use(&self, place: Place) -> bool {
        match place {
            Place::File(index) => {
                self.single.is_none() && self.layout.slots.get(index).is_some_and(Slot::in_place)
            }
            Place::Parts => self.parts.have_a_name(),
            Place::Zeros => false,
        }
    }

    fn stat_place(&self, place: Place) -> Result<Option<Stat>, StoreError> {
        match place {
            Place::File(index) => match self.layout.slots.get(index) {
                Some(slot) => self.stat_path(slot.path()),
                None => Ok(None),
            },
            Place::Parts | Place::Zeros => self.stat_parts(),
        }
    }
}

/// A file of the torrent, and what has its name now.
#[derive(Debug)]
pub(super) struct KnownFile {
    pub(super) slot: u32,
    pub(super) id: FileId,
    in_use: bool,
    /// How long it is at least.
    length: u64,
    pub(super) found: Option<Stat>,
}

/// Compares a file that was `known` as ours, if so, and at least `length` bytes long with what its
/// name stands for now.
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

/// Refuses a file that is about to be written, for the first time since it was `known` as ours, if
/// it was: somebody put it there since.
pub(super) fn check_identity(known: Option<FileId>, stat: &Stat) -> io::Result<()> {
    match stat.length == 0 || known.is_some_and(|known| known.is(stat.id)) {
        true => Ok(()),
        false => Err(put_there()),
    }
}

/// The error for a file that has the name of one that we were to create.
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

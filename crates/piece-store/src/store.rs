//! One torrent's data on a disk: the work without the threads.
//!
//! A [`Store`] is shared by several workers. Two locks matter: that of the table of open files and
//! that of the [ledger], and neither is held while payload is read, hashed or written. Who
//! opens the parts file holds its lock and takes the ledger's, never the other way round. Who writes to
//! a file has the [turn](Handles) at it.
//!
//! Invariants:
//! - A piece is had only after its hash matched, its bytes were written and the journal has its
//!   `Written` record, in this order.
//! - A range of a piece that is had is never written.
//! - A payload file is never cut, and is written only after the check found it not unrelated; but one that
//!   has no bytes, or no others, gets before what the parts file has of it.
//! - A sync that failed proves nothing: what it was to make durable is no longer had.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bt_types::{Bitfield, Geometry, PieceIndex, Sha1Digest};

use crate::disk;
use crate::hashing::range_count;
use crate::{Disk, Kind, OpenSpec, Opened, Operation, SPAN_LENGTH, Stat, StoreError, StoreLayout};

mod changed;
mod check;
mod commit;
mod files;
mod handles;
mod journal;
mod layout;
mod lease;
mod ledger;
mod parts;
mod read;
mod record;
mod resume;
mod stage;
mod sync;

pub(crate) use commit::hash_side_by_side;
pub use handles::Handles;
#[doc(hidden)]
pub use record::fuzz;

use journal::{Journal, JournalKey};
use layout::{Layout, Slot};
use ledger::Ledger;
use parts::{Parts, SingleFile};
use record::History;
use resume::Found;

/// How many bytes are read at once to be hashed: the length of a worker's scratch buffer.
pub const STRIP_LENGTH: usize = SPAN_LENGTH as usize;

/// The data of one open torrent.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: Arc<D>,
    handles: Arc<Handles<D::File>>,
    /// The number under which its files are in the table.
    number: u64,
    metainfo: Arc<metainfo::Metainfo>,
    layout: Layout,
    folder: D::Folder,
    /// The canonical path of `folder`.
    folder_path: Arc<Path>,
    parts: Parts<D>,
    single: Option<Box<SingleFile<D::File>>>,
    preallocate: bool,
    overwrite: bool,
    read_only: bool,
    /// See [`Disk::ids_last`]: of its files and of the parts file.
    ids_last: bool,
    /// The hash of a piece of zeros, once it was needed.
    zero_piece: OnceLock<Sha1Digest>,
    ledger: Mutex<Ledger<D>>,
    /// Told when a span that was staged has been hashed, or will not be.
    hashed: Condvar,
}

impl<D: Disk> Store<D> {
    /// Opens a torrent's data, and believes what the journal and the disk agree on.
    ///
    /// # Errors
    /// The disk fails; the torrent is in use; a folder has the name of a file.
    pub fn open(
        disk: Arc<D>,
        handles: Arc<Handles<D::File>>,
        spec: &OpenSpec,
    ) -> Result<(Self, Opened), StoreError> {
        let layout = Layout::new(spec);
        let (folder, folder_path) = open_folder(&*disk, &handles, spec)?;
        let folder_path = handles.share(&folder_path);
        let (journal, history) = open_journal(&disk, &handles, spec, &folder_path)?;
        let store = Self {
            number: handles.new_store(),
            handles,
            metainfo: Arc::clone(&spec.metainfo),
            parts: Parts::new(journal.as_ref().map(Journal::at)),
            single: parts::open_single(&*disk, &folder, &folder_path, spec, &layout)?.map(Box::new),
            preallocate: spec.preallocate,
            overwrite: spec.overwrite,
            read_only: spec.read_only,
            ids_last: disk.ids_last(&folder)
                && journal.as_ref().is_none_or(|journal| disk.ids_last(&journal.at().folder)),
            zero_piece: OnceLock::new(),
            ledger: Mutex::new(Ledger::new(empty_plan(&layout), journal, (0, 0))),
            hashed: Condvar::new(),
            layout,
            folder,
            folder_path,
            disk,
        };
        let opened = store.resume(&history)?;
        Ok((store, opened))
    }

    /// Compares the history with the disk, and begins this run's journal with what holds if the last
    /// run's says anything else. Only then is anything changed.
    fn resume(&self, history: &History) -> Result<Opened, StoreError> {
        let found = self.look(history)?;
        let plan = resume::plan(&self.layout, history, &found);
        let system = self.disk.file_system(&self.folder);
        let (file_system, free) =
            system.map_err(|error| self.error(Operation::Stat, Path::new(""), &error))?;
        let opened = Opened {
            have: plan.have.clone(),
            to_verify: verify_ranges(&self.layout.geometry, &plan.to_verify),
            wanted: self.layout.wanted.clone(),
            unfinished: unfinished_blocks(&self.layout.geometry, &plan.unfinished),
            uploaded: history.uploaded,
            downloaded: history.downloaded,
            file_system,
            free,
        };
        let mut ledger = self.ledger();
        let totals = (history.uploaded, history.downloaded);
        let journal = ledger.journal.take();
        let as_closed = resume::is_as_closed(history, &plan);
        *ledger = Ledger { as_closed, ..Ledger::new(plan, journal, totals) };
        if !as_closed {
            ledger.rewrite()?;
        }
        drop(ledger);
        self.move_parts(&found.moves)?;
        Ok(opened)
    }

    /// What is on disk. Decides which files that are not to be made have their bytes in the parts file.
    fn look(&self, history: &History) -> Result<Found, StoreError> {
        let mut slots = Vec::with_capacity(self.layout.slots.len());
        for (number, slot) in (0u32..).zip(&self.layout.slots) {
            slots.push(match (slot.pad, slot.selected) {
                (true, _) => None,
                (false, true) => {
                    let stat = self.look_at(slot)?;
                    let apart =
                        self.read_only && self.is_apart(number, slot, stat.as_ref(), history);
                    slot.keep_in_parts(apart);
                    let used = stat.filter(|_| !apart);
                    slot.note_length(used);
                    used
                }
                (false, false) => {
                    let stat = self.look_at_unwanted(number, slot, history);
                    slot.keep_in_parts(stat.is_none());
                    slot.note_length(stat);
                    stat
                }
            });
        }
        let (parts, boot) = (self.stat_parts()?, self.disk.boot());
        let mut found = Found { slots, parts, boot, moves: Vec::new() };
        if !self.read_only {
            found.moves = resume::moves(&self.layout, history, &found);
        }
        Ok(found)
    }

    /// What a wanted file is, if it is there.
    fn look_at(&self, slot: &Slot) -> Result<Option<Stat>, StoreError> {
        let stat = self.stat_path(&slot.path)?;
        let error = match stat.map(|stat| stat.kind) {
            None | Some(Kind::File) => return Ok(stat),
            Some(Kind::Folder) => std::io::ErrorKind::IsADirectory.into(),
            Some(Kind::Other) => disk::not_a_file(),
        };
        Err(self.error(Operation::Open, &slot.path, &error))
    }

    /// Whether who only serves finds the bytes of a file in the parts file. It makes no file, so what an
    /// earlier run kept apart stays there, whatever the user has in its place.
    fn is_apart(&self, number: u32, slot: &Slot, stat: Option<&Stat>, history: &History) -> bool {
        if !resume::has_bytes(history, number, stat) {
            return true;
        }
        let is_unknown = history.used(self.layout.parts_slot()) && !history.may_use(number);
        let apart = is_unknown && !resume::boundaries(&self.layout, history, slot).is_empty();
        if apart {
            let path = self.folder_path.join(&slot.path);
            log::warn!("{} is not looked into: it was not wanted before", path.display());
        }
        apart
    }

    /// What a file is that is not wanted, if it is there and may be used. It is nobody's business what
    /// else has its name.
    fn look_at_unwanted(&self, number: u32, slot: &Slot, history: &History) -> Option<Stat> {
        // While nothing is kept apart, none of it is hidden by looking: a check that was broken off has
        // seen some of the files only.
        let is_apart = history.used(self.layout.parts_slot());
        if is_apart && !history.may_use(number) {
            return None;
        }
        let stat = self.stat_path(&slot.path).ok().flatten();
        stat.filter(|stat| stat.kind == Kind::File)
            .filter(|stat| resume::may_be_used(history, number, slot.length, stat))
    }

    /// The torrent's numbers.
    pub fn geometry(&self) -> Geometry {
        self.layout.geometry
    }

    /// What is had now.
    pub fn have(&self) -> Bitfield {
        self.ledger().have.clone()
    }

    /// What is durable now: had even after a power cut.
    pub fn durable(&self) -> Bitfield {
        self.ledger().durable.clone()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<D>> {
        // A worker that panicked leaves the ledger as it was before or after one record.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of `operation` on the file or folder `path` below the download folder.
    fn error(&self, operation: Operation, path: &Path, error: &std::io::Error) -> StoreError {
        StoreError::disk(operation, &self.folder_path.join(path), error)
    }
}

impl<D: Disk> Drop for Store<D> {
    fn drop(&mut self) {
        self.handles.forget(self.number);
    }
}

fn open_folder<D: Disk>(
    disk: &D,
    handles: &Handles<D::File>,
    spec: &OpenSpec,
) -> Result<(D::Folder, PathBuf), StoreError> {
    let path = match &spec.layout {
        StoreLayout::Torrent => spec.folder.as_path(),
        StoreLayout::SinglePiece { output, .. } => output.parent().unwrap_or(Path::new("")),
    };
    let opened = handles.make_room(disk, || disk.folder(path, !spec.read_only));
    opened.map_err(|error| StoreError::disk(Operation::OpenFolder, path, &error))
}

fn open_journal<D: Disk>(
    disk: &Arc<D>,
    handles: &Arc<Handles<D::File>>,
    spec: &OpenSpec,
    save_path: &Path,
) -> Result<(Option<Journal<D>>, History), StoreError> {
    let geometry = spec.metainfo.info().geometry();
    let nothing = History::new(geometry.piece_count());
    let (Some(state_dir), StoreLayout::Torrent) = (&spec.state_dir, &spec.layout) else {
        return Ok((None, nothing));
    };
    let key = JournalKey { info_hash: spec.metainfo.info_hash(), save_path, geometry };
    let (journal, history) = Journal::open(Arc::clone(disk), Arc::clone(handles), state_dir, &key)?;
    Ok((Some(journal), if spec.resume { history } else { nothing }))
}

fn empty_plan(layout: &Layout) -> resume::Plan {
    let pieces = layout.geometry.piece_count();
    let found = Found { slots: Vec::new(), parts: None, boot: 0, moves: Vec::new() };
    resume::plan(layout, &History::new(pieces), &found)
}

/// The pieces of a set as ranges that one worker verifies at a time.
fn verify_ranges(geometry: &Geometry, pieces: &Bitfield) -> Vec<std::ops::Range<u32>> {
    let most = range_count(geometry);
    let cut = |range: std::ops::Range<u32>| {
        let starts = range.clone().step_by(most as usize);
        starts.map(move |start| start..range.end.min(start + most))
    };
    record::to_ranges(pieces.iter()).into_iter().flat_map(cut).collect()
}

fn unfinished_blocks(
    geometry: &Geometry,
    unfinished: &std::collections::BTreeMap<u32, Vec<u16>>,
) -> Vec<(PieceIndex, Vec<u32>)> {
    let blocks = |masks: &[u16]| {
        let bit = |(span, mask): (u32, u16)| {
            (0..u16::BITS)
                .filter(move |bit| mask >> bit & 1 == 1)
                .map(move |bit| span * u16::BITS + bit)
        };
        (0u32..).zip(masks.iter().copied()).flat_map(bit).collect()
    };
    let piece = |(piece, masks): (&u32, &Vec<u16>)| Some((geometry.piece(*piece)?, blocks(masks)));
    unfinished.iter().filter_map(piece).collect()
}

//! One torrent's data on a disk: the work without the threads.
//!
//! A [`Store`] is shared by several workers. Two locks matter: that of the table of open files and
//! that of the [ledger], and neither is held while payload is read, hashed or written. Lock order:
//! parts file, then ledger. A worker that writes to a file has the [turn](Handles) at it.
//!
//! Invariants:
//! - A piece is had only after its hash matched, its bytes were written and the journal has its
//!   `Written` record, in this order.
//! - A range of a piece that is had is never written.
//! - A payload file is written only if it is [ours](owner), and is cut only if it is too long and
//!   its user said that it may be overwritten.
//! - A sync that failed proves nothing: what it was to make durable is no longer had.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bt_types::{Bitfield, Geometry, PieceIndex, Sha1Digest};

use crate::disk;
use crate::hashing::range_count;
use crate::{Disk, Kind, OpenSpec, Opened, Operation, SPAN_LENGTH, Stat, StoreError, StoreLayout};

mod adopt;
mod changed;
mod check;
mod claims;
mod commit;
mod files;
mod handles;
mod history;
mod journal;
mod layout;
mod ledger;
mod lock;
mod names;
mod owner;
mod parts;
mod read;
mod record;
mod resume;
mod settle;
mod stage;
mod sync;

pub(crate) use commit::hash_side_by_side;
pub use handles::Handles;
#[cfg(any(test, feature = "fuzz"))]
pub use record::fuzz;

use history::History;
use journal::{Journal, JournalAt, JournalKey};
use layout::{Layout, Place, PlacedRange, Slot};
use ledger::Ledger;
use parts::{Parts, SingleFile};
use record::Record;
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
    layout: Arc<Layout>,
    folder: D::Folder,
    parts: Parts<D>,
    single: Option<Box<SingleFile<D::File>>>,
    preallocate: bool,
    overwrite: bool,
    read_only: bool,
    /// See [`Disk::has_stable_ids`]: of its files and of the parts file.
    stable_ids: bool,
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
        let (folder, folder_path) = open_folder(&*disk, &handles, spec)?;
        let folder_path = handles.share(&folder_path);
        let (journal, history) = open_journal(&disk, &handles, spec, &folder_path)?;
        Self::open_in(disk, handles, spec, (folder, folder_path), journal, history)
    }

    /// Opens a torrent's data to be compared with its hashes, without its journal. Also returns
    /// what that says, if there is one: so far it only gives the names of the files, if it can be
    /// read.
    pub(crate) fn open_to_verify(
        disk: Arc<D>,
        handles: Arc<Handles<D::File>>,
        spec: &OpenSpec,
    ) -> Result<(Self, Recorded), StoreError> {
        let (folder, folder_path) = open_folder(&*disk, &handles, spec)?;
        let folder_path = handles.share(&folder_path);
        let recorded = recorded_history(&*disk, &handles, spec, &folder_path);
        let history = match &recorded {
            Ok(Some((_, history))) => history.clone().into_names(),
            _ => History::new(spec.metainfo.info().geometry().piece_count()),
        };
        let place = (folder, folder_path);
        let (store, _) = Self::open_in(disk, handles, spec, place, None, history)?;
        let recorded = recorded.map(|recorded| recorded.map(|(_, history)| history));
        Ok((store, Recorded(recorded)))
    }

    /// Records that pieces which were compared with their hashes differ, in the journal of this
    /// torrent and folder, if it said otherwise when they were opened. Returns whether it did.
    pub(crate) fn record_different(
        &self,
        spec: &OpenSpec,
        recorded: Recorded,
        different: &[u32],
    ) -> Result<bool, StoreError> {
        if different.is_empty() {
            return Ok(false);
        }
        let Some(history) = recorded.0? else { return Ok(false) };
        let mut lost = self.recorded_among(different.to_vec(), history);
        let save_path = &self.layout.folder_path;
        if !lost.is_empty()
            && let Some((at, _)) = recorded_history(&*self.disk, &self.handles, spec, save_path)?
        {
            let (disk, handles) = (Arc::clone(&self.disk), Arc::clone(&self.handles));
            let (mut journal, history) =
                Journal::take(disk, handles, at, save_path, &self.layout.geometry)?;
            lost = self.recorded_among(lost, history);
            if !lost.is_empty() {
                journal.amend(&[Record::Lost(record::to_ranges(lost.iter().copied()))])?;
            }
        }
        Ok(!lost.is_empty())
    }

    /// Those of some pieces that a journal says were written to files. `verify` does not read the
    /// parts file.
    fn recorded_among(&self, mut pieces: Vec<u32>, mut history: History) -> Vec<u32> {
        history.find_old_parts(self.layout.parts_slot());
        let is_in_parts = |range: PlacedRange| match range.place {
            Place::File(slot) => history.is_in_parts(slot as u32),
            _ => false,
        };
        let is_written = |piece: &u32| {
            self.layout.geometry.piece(*piece).is_some_and(|piece| {
                history.written.contains(piece) && !self.layout.piece_ranges(piece).any(is_in_parts)
            })
        };
        pieces.retain(is_written);
        pieces
    }

    fn open_in(
        disk: Arc<D>,
        handles: Arc<Handles<D::File>>,
        spec: &OpenSpec,
        (folder, folder_path): (D::Folder, Arc<Path>),
        journal: Option<Journal<D>>,
        history: History,
    ) -> Result<(Self, Opened), StoreError> {
        let recorded = history.place.as_ref().map(|(_, _, naming)| *naming);
        let info = spec.metainfo.info();
        let naming = names::choose(&*disk, &handles, &folder, info, recorded, !spec.read_only);
        let layout = Arc::new(Layout::new(spec, folder_path, naming));
        let single = parts::open_single(&*disk, &folder, spec, &layout)?.map(Box::new);
        let stable_ids = disk.has_stable_ids(&folder)
            && journal.as_ref().is_none_or(|journal| disk.has_stable_ids(&journal.at().folder));
        let nothing = Ledger::new(Arc::clone(&layout), empty_plan(&layout), None, (0, 0));
        let store = Self {
            number: handles.new_store(),
            handles,
            parts: Parts::new(journal.as_ref().map(Journal::at)),
            single,
            preallocate: spec.preallocate,
            overwrite: spec.overwrite,
            read_only: spec.read_only,
            stable_ids,
            zero_piece: OnceLock::new(),
            ledger: Mutex::new(nothing),
            hashed: Condvar::new(),
            layout,
            folder,
            disk,
        };
        let opened = store.resume(history, journal)?;
        Ok((store, opened))
    }

    /// Compares the history with the disk, and begins this run's journal with what holds if the
    /// last run's says anything else. Only then is anything changed.
    fn resume(
        &self,
        mut history: History,
        journal: Option<Journal<D>>,
    ) -> Result<Opened, StoreError> {
        let found = self.look(&mut history)?;
        let plan = resume::plan(&self.layout, &history, &found);
        self.place_unselected(&found);
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
            naming: self.layout.naming,
        };
        let totals = (history.uploaded, history.downloaded);
        let as_closed = resume::is_as_closed(&history, &plan);
        let mut ledger = self.ledger();
        *ledger = Ledger::new(Arc::clone(&self.layout), plan, journal, totals);
        ledger.as_closed = as_closed;
        if !as_closed {
            ledger.rewrite()?;
        }
        Ok(opened)
    }

    /// Looks for the files of the torrent. One whose bytes are in the parts file is not looked for,
    /// unless it is to be written or ours: whatever has its name is the user's.
    fn look(&self, history: &mut History) -> Result<Found, StoreError> {
        history.find_old_parts(self.layout.parts_slot());
        let boot = self.disk.boot();
        let mut slots = Vec::with_capacity(self.layout.slots.len());
        for (number, slot) in (0u32..).zip(&self.layout.slots) {
            if let Some(file) = history.files.get(&number)
                && file.path != Path::new("")
                && file.path != slot.path()
            {
                slot.rename(&file.path);
            }
            let is_written = slot.selected && !self.read_only;
            let in_parts = history.is_in_parts(number) && !is_written;
            let was_created = history.was_created(number, boot);
            let is_looked_for = !in_parts || was_created || history.is_ours(number);
            let stat = if !slot.pad && is_looked_for { self.look_at(slot)? } else { None };
            if let (true, Some(stat)) = (was_created, &stat) {
                history.record_created(number, slot.path(), stat);
            }
            let known = history.known(number);
            let stat = stat.filter(|stat| {
                // An empty or too long unselected file is used only if the journal knows it.
                let may_be = (1..=slot.length).contains(&stat.length);
                slot.selected || may_be || owner::may_trust(known, stat)
            });
            let length = stat.map_or(0, |stat| stat.length);
            let is_filled = resume::is_filled(&self.layout, history, number, length);
            let is_absent = stat.is_none() && !history.files.contains_key(&number);
            let is_left = !slot.selected && (is_absent || was_created);
            slot.keep_in_parts((in_parts && !is_filled) || is_left);
            slots.push(stat.filter(|_| slot.in_place()));
        }
        let is_recorded = |slot| history.is_ours(slot);
        names::find_numbered(&*self.disk, &self.folder, &self.layout, &mut slots, is_recorded);
        for ((number, slot), stat) in (0u32..).zip(&self.layout.slots).zip(&slots) {
            slot.note_length(*stat);
            // The file that we created may have a numbered path.
            if let (true, Some(stat)) = (history.was_created(number, boot), stat) {
                history.record_created(number, slot.path(), stat);
            }
        }
        Ok(Found { slots, parts: self.stat_parts()?, writes: !self.read_only })
    }

    /// Returns the `Stat` of a slot's file, or `None` if it is missing. Anything but a file fails,
    /// if it has the name of a file that we write.
    fn look_at(&self, slot: &Slot) -> Result<Option<Stat>, StoreError> {
        let is_written = slot.selected && !self.read_only;
        let stat = match self.make_room(|| self.disk.stat(&self.folder, slot.path())) {
            Err(error) if !is_written && self.cannot_be_there(slot, &error) => None,
            stat => stat.map_err(|error| self.error(Operation::Stat, slot.path(), &error))?,
        };
        let error = match stat.map(|stat| stat.kind) {
            None | Some(Kind::File) => return Ok(stat),
            Some(_) if !is_written => return Ok(None),
            Some(Kind::Folder) => std::io::ErrorKind::IsADirectory.into(),
            Some(Kind::Other) => disk::not_a_file(),
        };
        Err(self.error(Operation::Open, slot.path(), &error))
    }

    /// Whether an error says that no file of the torrent can have this path. Other errors may pass:
    /// what the journal says of the file must not be forgotten.
    fn cannot_be_there(&self, slot: &Slot, error: &std::io::Error) -> bool {
        let is_refused = || {
            error.kind() == std::io::ErrorKind::PermissionDenied
                || self.disk.naming_after(error).is_some()
        };
        error.kind() == std::io::ErrorKind::NotADirectory || (!slot.selected && is_refused())
    }

    /// Keeps boundary bytes of missing unselected files in the parts file from now on.
    fn place_unselected(&self, found: &Found) {
        for (slot, stat) in self.layout.slots.iter().zip(&found.slots) {
            if !slot.selected && stat.is_none() {
                slot.keep_in_parts(true);
            }
        }
    }

    /// The paths of the files below the folder, in the torrent's order.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.layout.slots.iter().map(|slot| slot.path().to_owned()).collect()
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
        StoreError::disk(operation, &self.layout.folder_path.join(path), error)
    }
}

impl<D: Disk> Drop for Store<D> {
    fn drop(&mut self) {
        self.handles.forget(self.number);
    }
}

/// What the journal of a torrent said that is not open; `None` if there is none.
#[derive(Debug)]
pub(crate) struct Recorded(Result<Option<History>, StoreError>);

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
    let at = JournalAt::open(&**disk, handles, state_dir, &key, true)?;
    let (disk, handles) = (Arc::clone(disk), Arc::clone(handles));
    let (journal, history) = Journal::take(disk, handles, at, save_path, &geometry)?;
    Ok((Some(journal), if spec.resume { history } else { history.into_names() }))
}

/// Reads the journal without taking the torrent's lock. `None` if there is none.
fn recorded_history<D: Disk>(
    disk: &D,
    handles: &Handles<D::File>,
    spec: &OpenSpec,
    save_path: &Path,
) -> Result<Option<(JournalAt<D>, History)>, StoreError> {
    let geometry = spec.metainfo.info().geometry();
    let Some(state_dir) = &spec.state_dir else { return Ok(None) };
    let key = JournalKey { info_hash: spec.metainfo.info_hash(), save_path, geometry };
    let at = match JournalAt::open(disk, handles, state_dir, &key, false) {
        Err(StoreError::Disk { kind: std::io::ErrorKind::NotFound, .. }) => return Ok(None),
        at => at?,
    };
    let history = at.history(disk, handles, &geometry)?;
    Ok(history.map(|(history, _)| (at, history)))
}

fn empty_plan(layout: &Layout) -> resume::Plan {
    let pieces = layout.geometry.piece_count();
    let found = Found { slots: Vec::new(), parts: None, writes: false };
    resume::plan(layout, &History::new(pieces), &found)
}

/// The pieces of a set as ranges that one worker verifies at a time.
fn verify_ranges(geometry: &Geometry, pieces: &Bitfield) -> Vec<Range<u32>> {
    let most = range_count(geometry);
    let cut = |range: Range<u32>| {
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

//! The state that changes while a torrent is open: which pieces we have, which are durable, what
//! must be synced. It is behind one lock, which is never held while payload is read, hashed or
//! written.
//!
//! ```text
//!            commit / verify                      sync
//! missing -------------------> have (Written) ------------> durable (Durable)
//!    ^                             |                           |
//!    '------- failed sync (Lost) --'                           |
//!    '------- verified and found bad (Lost) -------------------'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{Bitfield, PieceIndex};

use super::dirty::{Dirty, Touched};
use super::journal::Journal;
use super::layout::Layout;
use super::owner::{Hold, Known};
use super::record::{Expected, NO_ID, Record, in_ranges, to_ranges};
use super::resume::{Checking, Pending, Plan, TorrentFile};
use super::staged::Staged;
use crate::{Disk, FileId, StoreError};

/// The state behind the lock.
#[derive(Debug)]
pub(super) struct Ledger<D: Disk> {
    layout: Arc<Layout>,
    pub(super) have: Bitfield,
    /// What the journal calls written: `have`, and until the check is finished also the pieces that
    /// must be verified first.
    pub(super) claimed: Bitfield,
    pub(super) durable: Bitfield,
    /// `None` while nothing is staged and everything is synced, so that an idle torrent takes
    /// little memory.
    active: Option<Box<Active<D::File>>>,
    /// The files that the torrent uses, ascending by slot.
    pub(super) files: Vec<TorrentFile>,
    /// `None` is like the default.
    pending: Option<Box<Pending>>,
    pub(super) journal: Option<Journal<D>>,
    /// Whether the journal is still the one that the last launch closed. It is rewritten before
    /// anything changes.
    pub(super) as_closed: bool,
    pub(super) phase: Phase,
    /// Counts failed syncs. Bytes that were being written during one can't be trusted.
    pub(super) failed_syncs: u64,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
}

/// The state of a torrent that is being written.
#[derive(Debug)]
struct Active<F> {
    /// The blocks on disk of missing pieces, by piece.
    staged: BTreeMap<u32, Staged>,
    dirty: Dirty<F>,
}

impl<F> Default for Active<F> {
    fn default() -> Self {
        Self { staged: BTreeMap::new(), dirty: Dirty::default() }
    }
}

/// What may be done with a torrent.
#[derive(Debug)]
pub(super) enum Phase {
    /// Files are verified.
    Checking(Box<Checking>),
    /// Pieces are written.
    Ready,
    /// Nothing.
    Closed,
}

/// What a worker knows when it starts to write a piece.
#[derive(Debug)]
pub(super) struct WriteStart {
    pub(super) failed_syncs: u64,
    /// Whether we have the piece already.
    pub(super) have: bool,
    pub(super) staged: Option<Staged>,
}

impl<D: Disk> Ledger<D> {
    /// The state at a start. `as_closed`: see the field; `totals`: the bytes uploaded and
    /// downloaded before. Nothing is written to the journal yet.
    pub(super) fn new(
        layout: Arc<Layout>,
        plan: Plan,
        journal: Option<Journal<D>>,
        as_closed: bool,
        totals: (u64, u64),
    ) -> Self {
        let stage = |(piece, masks)| (piece, Staged::left_over(masks));
        let staged: BTreeMap<u32, Staged> = plan.unfinished.into_iter().map(stage).collect();
        let active = Active { staged, dirty: Dirty::default() };
        Self {
            layout,
            have: plan.have,
            claimed: plan.claimed,
            durable: plan.durable,
            active: (!active.staged.is_empty()).then(|| Box::new(active)),
            files: plan.files,
            pending: (plan.pending != Pending::default()).then(|| Box::new(plan.pending)),
            journal,
            as_closed,
            phase: Phase::Checking(Box::new(plan.checking)),
            failed_syncs: 0,
            uploaded: totals.0,
            downloaded: totals.1,
        }
    }

    /// Returns the whole state in as few records as possible.
    pub(super) fn snapshot(&self) -> Vec<Record> {
        let (uploaded, downloaded) = (self.uploaded, self.downloaded);
        let save_path = Record::SavePath(self.layout.save_path());
        let mut records = vec![save_path, Record::Open { uploaded, downloaded }];
        records.extend(self.files.iter().map(|file| self.file_record(*file)));
        records.push(Record::InParts(self.in_parts().to_vec()));
        if let Some(expected) = self.expected() {
            records.push(Record::Expected(expected.clone()));
        }
        if !self.claimed.is_empty() {
            records.push(Record::Written(to_ranges(self.claimed.iter())));
        }
        if !self.durable.is_empty() {
            records.push(Record::Durable(to_ranges(self.durable.iter())));
        }
        records
    }

    fn file_record(&self, TorrentFile { slot, hold, id }: TorrentFile) -> Record {
        Record::File { slot, id, hold, path: self.layout.path(slot).to_owned() }
    }

    /// Replaces the journal with a snapshot.
    pub(super) fn rewrite(&mut self) -> Result<(), StoreError> {
        let records = self.snapshot();
        self.journal.as_mut().map_or(Ok(()), |journal| journal.rewrite(&records))?;
        self.as_closed = false;
        Ok(())
    }

    /// Starts this launch's journal, unless that was done. Must be called before anything changes.
    pub(super) fn start_journal(&mut self) -> Result<(), StoreError> {
        if self.as_closed { self.rewrite() } else { Ok(()) }
    }

    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.start_journal()?;
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(records))
    }

    /// Starts to write `piece` in this attempt.
    pub(super) fn start_write(
        &mut self,
        piece: PieceIndex,
        attempt: u32,
    ) -> Result<WriteStart, StoreError> {
        match self.phase {
            Phase::Checking(_) => return Err(StoreError::NotChecked),
            Phase::Closed => return Err(StoreError::NotOpen),
            Phase::Ready => {}
        }
        self.start_journal()?;
        if self.staged_mut(piece).is_some_and(|staged| staged.attempt < attempt) {
            self.forget_staged(piece);
        }
        let staged = self.staged_mut(piece).filter(|staged| staged.attempt == attempt);
        let (staged, have) = (staged.cloned(), self.have.contains(piece));
        Ok(WriteStart { failed_syncs: self.failed_syncs, have, staged })
    }

    fn active(&mut self) -> &mut Active<D::File> {
        self.active.get_or_insert_default()
    }

    /// What is staged of `piece`, in any attempt.
    pub(super) fn staged_mut(&mut self, piece: PieceIndex) -> Option<&mut Staged> {
        self.active.as_mut()?.staged.get_mut(&piece.get())
    }

    pub(super) fn forget_staged(&mut self, piece: PieceIndex) {
        self.active.iter_mut().for_each(|active| _ = active.staged.remove(&piece.get()));
    }

    /// Returns what is staged of `piece` in this attempt; `None` if a later one has started.
    pub(super) fn staged(
        &mut self,
        piece: PieceIndex,
        attempt: u32,
        spans: u32,
    ) -> Option<&mut Staged> {
        let staged = self.active().staged.entry(piece.get());
        let staged = staged.or_insert_with(|| Staged::new(attempt, spans));
        (staged.attempt == attempt).then_some(staged)
    }

    /// Checks that bytes written since there were `failed_syncs` failed syncs may be recorded.
    pub(super) fn confirm(&self, piece: PieceIndex, failed_syncs: u64) -> Result<(), StoreError> {
        if matches!(self.phase, Phase::Closed) {
            return Err(StoreError::NotOpen);
        }
        if self.failed_syncs != failed_syncs {
            return Err(StoreError::SyncFailed { piece: piece.get() });
        }
        Ok(())
    }

    /// Records that we have `pieces`, ascending.
    pub(super) fn written(
        &mut self,
        pieces: &[u32],
        touched: Touched<D::File>,
    ) -> Result<(), StoreError> {
        touched.into_files().for_each(|(slot, file)| self.active().dirty.touched.push(slot, file));
        if pieces.is_empty() {
            return Ok(());
        }
        self.append(&[Record::Written(to_ranges(pieces.iter().copied()))])?;
        let geometry = self.layout.geometry;
        for piece in pieces.iter().filter_map(|piece| geometry.piece(*piece)) {
            self.have.insert(piece);
            self.claimed.insert(piece);
            self.forget_staged(piece);
        }
        Ok(())
    }

    /// Adds the name `path`, which may be new, to what must be synced.
    pub(super) fn add_name(&mut self, path: &Path) {
        self.active().dirty.add_name(path);
    }

    /// Closes the files that wait for a sync. Then the whole file system is synced instead of them.
    pub(super) fn close_touched(&mut self) {
        if let Some(active) = &mut self.active {
            active.dirty.touched.close_except(self.layout.parts_slot());
        }
    }

    /// Takes what must be synced.
    pub(super) fn take_dirty(&mut self) -> Dirty<D::File> {
        let dirty = self.active.as_mut().map(|active| std::mem::take(&mut active.dirty));
        self.active.take_if(|active| active.staged.is_empty());
        dirty.unwrap_or_default()
    }

    /// Records a failed sync: what was written since the last one can't be trusted. The names in
    /// `folders`, and those that are new since the sync started, still must be synced, because
    /// later pieces may be in files that are open already.
    pub(super) fn fail_sync(&mut self, mut folders: BTreeSet<PathBuf>) {
        self.failed_syncs += 1;
        if let Some(active) = self.active.take() {
            folders.extend(active.dirty.folders);
        }
        if !folders.is_empty() {
            self.active().dirty.folders = folders;
        }
    }

    /// Records pieces as missing. Returns those that we had until now.
    pub(super) fn lose(&mut self, pieces: &[u32]) -> (Vec<u32>, Result<(), StoreError>) {
        let mut claimed = Vec::new();
        let mut lost = Vec::new();
        for piece in pieces.iter().filter_map(|piece| self.layout.geometry.piece(*piece)) {
            if self.claimed.remove(piece) {
                claimed.push(piece.get());
            }
            if self.have.remove(piece) {
                lost.push(piece.get());
            }
            self.durable.remove(piece);
        }
        let result = match claimed.is_empty() {
            true => Ok(()),
            false => self.append(&[Record::Lost(to_ranges(claimed))]),
        };
        (lost, result)
    }

    fn checking(&self) -> Option<&Checking> {
        match &self.phase {
            Phase::Checking(checking) => Some(checking),
            Phase::Ready | Phase::Closed => None,
        }
    }

    /// Returns the id that an untrusted file had when this launch started, and what the journal
    /// says about it; `None` once the check is finished.
    pub(super) fn untrusted(&self, slot: u32) -> Option<(FileId, Known)> {
        let files = &self.checking()?.untrusted;
        let at = files.binary_search_by_key(&slot, |(slot, ..)| *slot).ok()?;
        let (_, id, known) = files[at];
        Some((id, known))
    }

    /// Whether a piece has bytes in the parts file that belong into a file.
    pub(super) fn is_import(&self, piece: u32) -> bool {
        self.checking().is_some_and(|checking| checking.imports.binary_search(&piece).is_ok())
    }

    /// Takes the pieces that are to be imported. From here on, a piece that is bad in its own file
    /// is lost.
    pub(super) fn take_imports(&mut self) -> Vec<u32> {
        match &mut self.phase {
            Phase::Checking(checking) => std::mem::take(&mut checking.imports),
            Phase::Ready | Phase::Closed => Vec::new(),
        }
    }

    /// Records that the check is finished.
    pub(super) fn end_check(&mut self) {
        self.phase = Phase::Ready;
        self.pending.take_if(|pending| **pending == Pending::default());
    }

    /// Records that the torrent uses the file.
    pub(super) fn record_file(&mut self, file: TorrentFile) -> Result<(), StoreError> {
        let known = self.files.binary_search_by_key(&file.slot, |file| file.slot);
        if known.is_ok_and(|at| self.files[at] == file) {
            return Ok(());
        }
        self.append(&[self.file_record(file)])?;
        match known {
            Ok(at) => self.files[at] = file,
            Err(at) => self.files.insert(at, file),
        }
        Ok(())
    }

    /// The file of `slot`, if the torrent uses it.
    pub(super) fn file(&self, slot: u32) -> Option<TorrentFile> {
        let at = self.files.binary_search_by_key(&slot, |file| file.slot).ok()?;
        Some(self.files[at])
    }

    /// Records that the torrent no longer uses the file of `slot`.
    pub(super) fn forget_file(&mut self, slot: u32) -> Result<(), StoreError> {
        if self.file(slot).is_none() {
            return Ok(());
        }
        self.append(&[self.file_record(TorrentFile { slot, hold: Hold::Read, id: NO_ID })])?;
        self.files.retain(|file| file.slot != slot);
        Ok(())
    }

    /// The slots whose bytes are in the parts file.
    pub(super) fn in_parts(&self) -> &[Range<u32>] {
        self.pending.as_ref().map_or(&[], |pending| &pending.in_parts)
    }

    pub(super) fn is_in_parts(&self, slot: u32) -> bool {
        in_ranges(self.in_parts(), slot)
    }

    /// Records the slots whose bytes are in the parts file.
    pub(super) fn record_in_parts(&mut self, slots: Vec<Range<u32>>) -> Result<(), StoreError> {
        if slots != self.in_parts() {
            self.append(&[Record::InParts(slots.clone())])?;
            self.pending.get_or_insert_default().in_parts = slots;
        }
        Ok(())
    }

    /// The files that are ours to create; `None` if there are none.
    pub(super) fn expected(&self) -> Option<&Expected> {
        let expected = self.pending.as_ref().map(|pending| &pending.expected);
        expected.filter(|expected| !expected.slots.is_empty())
    }

    /// Records the files that are ours to create.
    pub(super) fn record_expected(&mut self, expected: Expected) -> Result<(), StoreError> {
        if self.expected() != Some(&expected).filter(|expected| !expected.slots.is_empty()) {
            self.append(&[Record::Expected(expected.clone())])?;
            self.pending.get_or_insert_default().expected = expected;
        }
        Ok(())
    }

    /// Returns the staged blocks of missing pieces.
    pub(super) fn unfinished_records(&self) -> Vec<Record> {
        let any = |staged: &&Staged| staged.masks.iter().any(|mask| *mask != 0);
        let record = |(piece, staged): (&u32, &Staged)| Record::Unfinished {
            piece: *piece,
            masks: staged.masks.clone(),
        };
        let staged = self.active.iter().flat_map(|active| &active.staged);
        staged.filter(|(_, staged)| any(staged)).map(record).collect()
    }
}

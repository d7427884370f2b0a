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

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bt_types::{Bitfield, Blank, OnDemand, PieceIndex};

use super::dirty::{Dirty, Touched};
use super::journal::Journal;
use super::layout::Layout;
use super::owner::{Hold, Known};
use super::record::{NO_ID, Record, to_ranges};
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
    pub(super) staged: OnDemand<BTreeMap<u32, Staged>>,
    /// The files that the torrent uses, ascending by slot.
    pub(super) files: Vec<TorrentFile>,
    pub(super) pending: OnDemand<Pending>,
    pub(super) dirty: OnDemand<Dirty<D::File>>,
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
        Self {
            layout,
            have: plan.have,
            claimed: plan.claimed,
            durable: plan.durable,
            staged: plan.unfinished.into_iter().map(stage).collect(),
            files: plan.files,
            pending: on_demand(plan.pending),
            dirty: OnDemand::default(),
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
        records.push(Record::InParts(self.pending.in_parts.clone()));
        if !self.pending.expected.slots.is_empty() {
            records.push(Record::Expected(self.pending.expected.clone()));
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
        if self.staged.get(&piece.get()).is_some_and(|staged| staged.attempt < attempt) {
            self.staged.remove(&piece.get());
        }
        let staged = self.staged.get(&piece.get()).filter(|staged| staged.attempt == attempt);
        let (have, staged) = (self.have.contains(piece), staged.cloned());
        Ok(WriteStart { failed_syncs: self.failed_syncs, have, staged })
    }

    /// Returns what is staged of `piece` in this attempt; `None` if a later one has started.
    pub(super) fn staged(
        &mut self,
        piece: PieceIndex,
        attempt: u32,
        spans: u32,
    ) -> Option<&mut Staged> {
        let staged = self.staged.entry(piece.get()).or_insert_with(|| Staged::new(attempt, spans));
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
        touched.into_iter().for_each(|(slot, file)| self.dirty.touched.push(slot, file));
        if pieces.is_empty() {
            return Ok(());
        }
        self.append(&[Record::Written(to_ranges(pieces.iter().copied()))])?;
        for piece in pieces.iter().filter_map(|piece| self.layout.geometry.piece(*piece)) {
            self.have.insert(piece);
            self.claimed.insert(piece);
            self.staged.remove(&piece.get());
        }
        Ok(())
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
        if *self.pending == *Pending::BLANK {
            self.pending.give_up();
        }
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

    /// Records the slots whose bytes are in the parts file.
    pub(super) fn record_in_parts(&mut self, slots: Vec<Range<u32>>) -> Result<(), StoreError> {
        if slots != self.pending.in_parts {
            self.append(&[Record::InParts(slots.clone())])?;
            self.pending.in_parts = slots;
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
        self.staged.iter().filter(|(_, staged)| any(staged)).map(record).collect()
    }
}

/// Stores `value`, without memory of its own if it is blank.
fn on_demand<T: Blank + PartialEq>(value: T) -> OnDemand<T> {
    let mut slot = OnDemand::default();
    if value != *T::BLANK {
        *slot = value;
    }
    slot
}

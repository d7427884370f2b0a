//! What is had, what is durable, what must be synced: everything that changes while a torrent is
//! open, behind one lock that is never held while payload is read, hashed or written.
//!
//! ```text
//!            commit / verify                     sync
//! nothing ------------------> had (Written) ------------> durable (Durable)
//!    ^                             |                           |
//!    '------- failed sync (Lost) --'                           |
//!    '------- verified and found bad (Lost) -------------------'
//! ```

use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap, Entry};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{Bitfield, Blank, OnDemand, PieceIndex};
use piece_hash::Hasher;

use super::handles::Kept;
use super::journal::Journal;
use super::layout::Layout;
use super::owner::{Hold, Known};
use super::record::{NO_ID, Record, to_ranges};
use super::resume::{Pending, Plan, TorrentFile};
use crate::{Disk, FileId, StoreError};

/// Above this many, one sync of the whole file system is cheaper than one a file.
pub(super) const MAX_DIRTY_FILES: usize = 64;

/// The state behind the lock.
#[derive(Debug)]
pub(super) struct Ledger<D: Disk> {
    layout: Arc<Layout>,
    pub(super) have: Bitfield,
    /// What the journal calls written: `have`, and during the check what it said so of before.
    pub(super) claimed: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) staged: OnDemand<BTreeMap<u32, Staged>>,
    /// The files that the torrent uses, ascending by slot.
    pub(super) files: Vec<TorrentFile>,
    pub(super) pending: OnDemand<Pending>,
    pub(super) dirty: OnDemand<Dirty<D::File>>,
    pub(super) journal: Option<Journal<D>>,
    /// Whether the journal is still the one that the last run closed. It says what holds until
    /// something changes: before that, this run's is begun.
    pub(super) as_closed: bool,
    pub(super) checked: bool,
    pub(super) closed: bool,
    /// Counts failed syncs: what was being written meanwhile can't be trusted.
    pub(super) epoch: u64,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
}

/// The blocks of an unfinished piece that are on disk.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    /// Which attempt at the piece they belong to. Those of an earlier one are forgotten.
    pub(super) attempt: u32,
    /// A mask a span.
    pub(super) masks: Vec<u16>,
    /// How many spans from the first were hashed when they were staged, and the hash so far; `None`
    /// while a worker has it.
    pub(super) hashed: Option<(u32, Hasher)>,
    /// The spans that workers are staging at this moment.
    pub(super) under_way: Vec<u32>,
    /// Whether a block was staged twice: what was hashed may not be what is on disk.
    pub(super) spoiled: bool,
}

/// Whether a span may go on with the hash of its piece.
pub(super) enum Turn {
    /// With this, the hash of all spans before it.
    Now(Hasher),
    /// Once an earlier span that is under way is through.
    Later,
    /// Something before it is not there.
    Never,
}

impl Staged {
    /// Nothing of a piece of `spans` spans.
    pub(super) fn new(attempt: u32, spans: u32) -> Self {
        let hashed = Some((0, Hasher::new()));
        let masks = vec![0; spans as usize];
        Self { attempt, masks, hashed, under_way: Vec::new(), spoiled: false }
    }

    /// A worker begins to stage `blocks` of span `index`.
    pub(super) fn begin(&mut self, index: u32, blocks: u16) {
        self.under_way.push(index);
        if self.mask(index as usize) & blocks != 0 {
            (self.spoiled, self.hashed) = (true, None);
        }
    }

    /// A worker is through with span `index`, and has `hashed` it if its turn came.
    pub(super) fn finish(&mut self, index: u32, hashed: Option<Hasher>) {
        self.under_way.retain(|other| *other != index);
        if let (Some(hasher), false) = (hashed, self.spoiled) {
            self.hashed = Some((index + 1, hasher));
        }
    }

    /// Whether span `index`, which is whole, may go on with the hash; if so, the hash is taken out.
    pub(super) fn turn(&mut self, index: u32) -> Turn {
        match self.hashed.take() {
            Some((next, hasher)) if next == index => return Turn::Now(hasher),
            hashed => self.hashed = hashed,
        }
        let earlier = !self.spoiled && self.under_way.iter().any(|other| *other < index);
        if earlier { Turn::Later } else { Turn::Never }
    }

    /// Which blocks of span `span` are on disk.
    pub(super) fn mask(&self, span: usize) -> u16 {
        self.masks.get(span).copied().unwrap_or(0)
    }
}

/// Files that were written, or read to be verified, by the number of their slot.
///
/// They are kept open so that the system reports its errors. If they are more than
/// [`MAX_DIRTY_FILES`], or more than [`Handles::keep`](super::Handles::keep) allows all torrents,
/// some are not kept open, and the whole file system is synced.
#[derive(Debug)]
pub(super) struct Touched<F>(BTreeMap<u32, Option<Kept<F>>>);

impl<F> Touched<F> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether no more files are kept open.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_DIRTY_FILES
    }

    /// Whether there are files that are not kept open.
    pub(super) fn has_closed(&self) -> bool {
        self.0.values().any(Option::is_none)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.0.contains_key(&slot)
    }

    /// The numbers of the slots, ascending.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// Notes `file`; `None` if it is not kept open. A file that was closed is not kept again: a
    /// file that is opened again does not report its earlier errors.
    ///
    /// `None` replaces an open file too. A selected file that is given up is removed and made again
    /// in the same slot, so the open one may be the removed one. Its sync would prove nothing.
    pub(super) fn push(&mut self, slot: u32, file: Option<Kept<F>>) {
        let is_full = self.is_full();
        match self.0.entry(slot) {
            Entry::Vacant(entry) => _ = entry.insert(file.filter(|_| !is_full)),
            Entry::Occupied(mut entry) if entry.get().is_some() => _ = entry.insert(file),
            Entry::Occupied(_) => {}
        }
    }

    /// Lets go of the open files, but for that of slot `keep`, which may be on another file system.
    pub(super) fn let_go(&mut self, keep: u32) {
        self.0.iter_mut().filter(|(slot, _)| **slot != keep).for_each(|(_, file)| *file = None);
    }
}

impl<F> IntoIterator for Touched<F> {
    type Item = (u32, Option<Kept<F>>);
    type IntoIter = btree_map::IntoIter<u32, Option<Kept<F>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What must be synced before pieces are durable.
#[derive(Debug)]
pub(super) struct Dirty<F> {
    pub(super) touched: Touched<F>,
    /// Folders with names in them that may be new, relative.
    pub(super) folders: BTreeSet<PathBuf>,
}

impl<F> Default for Dirty<F> {
    fn default() -> Self {
        Self { touched: Touched::new(), folders: BTreeSet::new() }
    }
}

impl<F: 'static> Blank for Dirty<F> {
    const BLANK: &'static Self = &Self { touched: Touched::new(), folders: BTreeSet::new() };
}

impl<F> Dirty<F> {
    /// Notes that the name `path` may be new, and those of the folders above it.
    pub(super) fn name(&mut self, path: &Path) {
        self.folders.extend(path.ancestors().skip(1).map(Path::to_owned));
    }
}

/// What a worker knows when it begins to write a piece.
#[derive(Debug)]
pub(super) struct Began {
    pub(super) epoch: u64,
    pub(super) had: bool,
    pub(super) staged: Option<Staged>,
}

impl<D: Disk> Ledger<D> {
    /// The state at a start. Nothing is written to the journal yet.
    pub(super) fn new(
        layout: Arc<Layout>,
        plan: Plan,
        journal: Option<Journal<D>>,
        totals: (u64, u64),
    ) -> Self {
        let stage = |(piece, masks)| (piece, Staged { masks, hashed: None, ..Staged::new(0, 0) });
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
            as_closed: false,
            checked: false,
            closed: false,
            epoch: 0,
            uploaded: totals.0,
            downloaded: totals.1,
        }
    }

    /// Everything there is to say, in as few records as it takes.
    pub(super) fn snapshot(&self) -> Vec<Record> {
        let (uploaded, downloaded) = (self.uploaded, self.downloaded);
        let mut records = vec![self.layout.place_record(), Record::Open { uploaded, downloaded }];
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

    /// Replaces the journal by a snapshot.
    pub(super) fn rewrite(&mut self) -> Result<(), StoreError> {
        let records = self.snapshot();
        self.journal.as_mut().map_or(Ok(()), |journal| journal.rewrite(&records))?;
        self.as_closed = false;
        Ok(())
    }

    /// Begins this run's journal, unless that was done: something is about to change.
    pub(super) fn begin_journal(&mut self) -> Result<(), StoreError> {
        if self.as_closed { self.rewrite() } else { Ok(()) }
    }

    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.begin_journal()?;
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(records))
    }

    /// Begins to write `piece`, for the `attempt`th time.
    pub(super) fn begin(&mut self, piece: PieceIndex, attempt: u32) -> Result<Began, StoreError> {
        if self.closed {
            return Err(StoreError::NotOpen);
        }
        if !self.checked {
            return Err(StoreError::NotChecked);
        }
        self.begin_journal()?;
        if self.staged.get(&piece.get()).is_some_and(|staged| staged.attempt < attempt) {
            self.staged.remove(&piece.get());
        }
        let staged = self.staged.get(&piece.get()).filter(|staged| staged.attempt == attempt);
        let staged = staged.cloned();
        Ok(Began { epoch: self.epoch, had: self.have.contains(piece), staged })
    }

    /// What is staged of `piece` in this attempt; `None` if a later one has begun already.
    pub(super) fn staged(
        &mut self,
        piece: PieceIndex,
        attempt: u32,
        spans: u32,
    ) -> Option<&mut Staged> {
        let staged = self.staged.entry(piece.get()).or_insert_with(|| Staged::new(attempt, spans));
        (staged.attempt == attempt).then_some(staged)
    }

    /// Whether what was written since `epoch` may be recorded.
    pub(super) fn confirm(&self, piece: PieceIndex, epoch: u64) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::NotOpen);
        }
        if self.epoch != epoch {
            return Err(StoreError::SyncFailed { piece: piece.get() });
        }
        Ok(())
    }

    /// Records pieces as had. `pieces` is ascending.
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

    /// Records pieces as no longer had; answers those that were had until now.
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

    /// Returns the id that an untrusted file had when this launch began, and what the journal says
    /// of it.
    pub(super) fn untrusted(&self, slot: u32) -> Option<(FileId, Known)> {
        let files = &self.pending.untrusted;
        let place = files.binary_search_by_key(&slot, |(slot, ..)| *slot).ok()?;
        files.get(place).map(|(_, id, known)| (*id, *known))
    }

    /// Whether a piece has bytes in the parts file that are to be in a file.
    pub(super) fn is_import(&self, piece: u32) -> bool {
        self.pending.imports.binary_search(&piece).is_ok()
    }

    /// Forgets what is of no more use once the check is finished.
    pub(super) fn end_check(&mut self) {
        self.checked = true;
        if !self.pending.imports.is_empty() || !self.pending.untrusted.is_empty() {
            (self.pending.imports, self.pending.untrusted) = (Vec::new(), Vec::new());
        }
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
        self.files.get(at).copied()
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

    /// Records which slots have their bytes in the parts file.
    pub(super) fn record_in_parts(&mut self, slots: Vec<Range<u32>>) -> Result<(), StoreError> {
        if slots != self.pending.in_parts {
            self.append(&[Record::InParts(slots.clone())])?;
            self.pending.in_parts = slots;
        }
        Ok(())
    }

    /// What is on disk of pieces that are not had.
    pub(super) fn unfinished_records(&self) -> Vec<Record> {
        let any = |staged: &&Staged| staged.masks.iter().any(|mask| *mask != 0);
        let record = |(piece, staged): (&u32, &Staged)| Record::Unfinished {
            piece: *piece,
            masks: staged.masks.clone(),
        };
        self.staged.iter().filter(|(_, staged)| any(staged)).map(record).collect()
    }
}

/// `value`, without memory of its own if it is blank.
fn on_demand<T: Blank + PartialEq>(value: T) -> OnDemand<T> {
    let mut slot = OnDemand::default();
    if value != *T::BLANK {
        *slot = value;
    }
    slot
}

//! Ranges of pieces that were read into the page cache. One job reads the blocks of a whole range;
//! requests of any peer for it within the next second need no other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex};
use metainfo::Info;
use piece_store::{Extent, TorrentKey};

use crate::engine::keys::LinkKey;
use crate::limits::{MAX_READ_RANGE_FILES, MAX_RESIDENT, READ_RANGE_LENGTH, SERVED_FILES_SHARE};

/// For how long a range is taken to be in the page cache after it was read.
const RESIDENT_TIME: Duration = Duration::from_secs(1);

/// A range of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RangeKey {
    torrent: TorrentKey,
    piece: PieceIndex,
    /// In bytes from the start of the piece.
    start: u32,
    end: u32,
}

impl RangeKey {
    /// Returns the range for `request` from `skip` bytes on, and the number of its files.
    ///
    /// Pieces are cut every [`READ_RANGE_LENGTH`] bytes. A request across a cut, or in a range of
    /// more than `max_files` files, gets a range of its own: the rest of the request, as far as it
    /// is in `max_files` files.
    pub(crate) fn of(
        torrent: TorrentKey,
        info: &Info,
        request: BlockRequest,
        skip: u32,
        max_files: usize,
    ) -> (Self, usize) {
        let (piece, offset) = (request.piece(), request.offset() + skip);
        let start = offset - offset % READ_RANGE_LENGTH;
        let end = start.saturating_add(READ_RANGE_LENGTH).min(info.geometry().length_of(piece));
        let last = request.offset() + request.length();
        let wide = Self { torrent, piece, start, end };
        let files = wide.lengths(info).take(max_files + 1).count();
        if last <= end && files <= max_files {
            return (wide, files);
        }
        let rest = Self { torrent, piece, start: offset, end: last };
        let lengths = rest.lengths(info).take(max_files);
        let (files, length) = lengths.fold((0, 0), |(files, sum), next| (files + 1, sum + next));
        (Self { end: offset + length, ..rest }, files)
    }

    /// The length of its part in each file, in order.
    fn lengths(self, info: &Info) -> impl Iterator<Item = u32> {
        let offset = info.geometry().offset_of(self.piece) + u64::from(self.start);
        let ranges = info.ranges(offset, u64::from(self.end - self.start));
        ranges.map(|range| range.length as u32)
    }

    pub(crate) fn torrent(self) -> TorrentKey {
        self.torrent
    }

    pub(crate) fn piece(self) -> PieceIndex {
        self.piece
    }

    /// The range of a job.
    pub(crate) fn named(torrent: TorrentKey, piece: PieceIndex, range: &Range<u32>) -> Self {
        Self { torrent, piece, start: range.start, end: range.end }
    }

    /// Its range in the piece, in bytes.
    pub(crate) fn range(self) -> Range<u32> {
        self.start..self.end
    }
}

/// A range that was read.
#[derive(Debug)]
pub(crate) struct ReadRange<F> {
    key: RangeKey,
    extents: Vec<Extent<F>>,
    read_at: Duration,
}

impl<F> ReadRange<F> {
    /// Whether it was read within the last second.
    pub(crate) fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.read_at) <= RESIDENT_TIME
    }

    /// Where the bytes from `offset` of the piece are, at most `length` of one file.
    pub(crate) fn extent(&self, offset: u32, length: u32) -> Option<Extent<F>> {
        let mut skip = offset.checked_sub(self.key.start)?;
        for extent in &self.extents {
            if skip < extent.length {
                return Some(Extent {
                    offset: extent.offset + u64::from(skip),
                    length: length.min(extent.length - skip),
                    ..extent.clone()
                });
            }
            skip -= extent.length;
        }
        None
    }
}

/// A block that a link waits for.
pub(crate) type Waiter = (LinkKey, BlockRequest);

#[derive(Debug)]
enum State<F> {
    Reading(Vec<Waiter>),
    Ready(Arc<ReadRange<F>>),
}

/// The ranges of all torrents.
#[derive(Debug)]
pub(crate) struct ReadRanges<F> {
    /// The most files that reads under way open, and that ready ranges hold open. The two are
    /// equal, so that ranges which are answered together are all kept.
    max_files: usize,
    ranges: BTreeMap<RangeKey, State<F>>,
    /// Ranges to be read, in order, with the number of their files.
    to_read: VecDeque<(RangeKey, usize)>,
    /// Ranges being read, with the number of their files.
    reading: BTreeMap<RangeKey, usize>,
    /// Ranges that are or were ready, oldest first. Only these hold files open, apart from a send.
    ready: VecDeque<Arc<ReadRange<F>>>,
    /// The number of extents in `ready`.
    extents: usize,
    /// The number of extents in `ready` by open file, which is named by its address.
    files: BTreeMap<usize, usize>,
}

impl<F> ReadRanges<F> {
    /// Returns no ranges, of a store that has at most `open_files` open.
    pub(super) fn new(open_files: usize) -> Self {
        Self {
            max_files: (open_files / SERVED_FILES_SHARE).max(1),
            ranges: BTreeMap::new(),
            to_read: VecDeque::new(),
            reading: BTreeMap::new(),
            ready: VecDeque::new(),
            extents: 0,
            files: BTreeMap::new(),
        }
    }

    /// The most files of one range, so that any range fits.
    pub(crate) fn max_range_files(&self) -> usize {
        MAX_READ_RANGE_FILES.min(self.max_files)
    }

    /// Returns the range if it is fresh. Otherwise [`Self::next_read`] returns it when it is to be
    /// read, and [`Self::finish`] returns `waiter`.
    pub(crate) fn ask(
        &mut self,
        now: Duration,
        (key, files): (RangeKey, usize),
        waiter: Waiter,
    ) -> Option<Arc<ReadRange<F>>> {
        match self.ranges.get_mut(&key) {
            Some(State::Ready(range)) if range.is_fresh(now) => return Some(Arc::clone(range)),
            Some(State::Reading(waiting)) => waiting.push(waiter),
            Some(State::Ready(_)) | None => {
                self.ranges.insert(key, State::Reading(vec![waiter]));
                self.to_read.push_back((key, files));
            }
        }
        None
    }

    /// The next range to be read, if there is room for its files.
    pub(crate) fn next_read(&mut self) -> Option<RangeKey> {
        let (key, files) = *self.to_read.front()?;
        if self.reading.values().sum::<usize>() + files > self.max_files {
            return None;
        }
        self.to_read.pop_front();
        self.reading.insert(key, files);
        Some(key)
    }

    /// The range is no longer being read.
    pub(crate) fn end_read(&mut self, key: RangeKey) {
        self.reading.remove(&key);
    }

    /// The range was read. Returns it, and the blocks that wait for it.
    pub(crate) fn finish(
        &mut self,
        now: Duration,
        key: RangeKey,
        extents: Vec<Extent<F>>,
    ) -> (Arc<ReadRange<F>>, Vec<Waiter>) {
        self.hold(&extents);
        let range = Arc::new(ReadRange { key, extents, read_at: now });
        self.ready.push_back(Arc::clone(&range));
        let waiting = match self.ranges.insert(key, State::Ready(Arc::clone(&range))) {
            Some(State::Reading(waiting)) => waiting,
            Some(State::Ready(_)) | None => Vec::new(),
        };
        self.expire(now);
        (range, waiting)
    }

    /// Forgets a range that is not in the page cache any more, unless it was read again.
    pub(crate) fn invalidate(&mut self, range: &Arc<ReadRange<F>>) {
        if self.is_current(range) {
            self.ranges.remove(&range.key);
        }
    }

    /// Forgets ranges that are not fresh, and the oldest if there are too many.
    pub(crate) fn expire(&mut self, now: Duration) {
        while let Some(range) = self.ready.front()
            && (!range.is_fresh(now) || self.is_full())
            && let Some(range) = self.ready.pop_front()
        {
            self.release(&range.extents);
            self.invalidate(&range);
        }
    }

    /// Forgets the ranges of a torrent, none of which is being read.
    pub(crate) fn forget(&mut self, torrent: TorrentKey) {
        self.ranges.retain(|key, _| key.torrent != torrent);
        self.to_read.retain(|(key, _)| key.torrent != torrent);
        for range in std::mem::take(&mut self.ready) {
            if range.key.torrent == torrent {
                self.release(&range.extents);
            } else {
                self.ready.push_back(range);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.extents > MAX_RESIDENT || self.files.len() > self.max_files
    }

    fn hold(&mut self, extents: &[Extent<F>]) {
        self.extents += extents.len();
        for extent in extents {
            *self.files.entry(address(extent)).or_default() += 1;
        }
    }

    fn release(&mut self, extents: &[Extent<F>]) {
        self.extents -= extents.len();
        for extent in extents {
            if let Entry::Occupied(mut held) = self.files.entry(address(extent)) {
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
        }
    }

    fn is_current(&self, range: &Arc<ReadRange<F>>) -> bool {
        matches!(self.ranges.get(&range.key), Some(State::Ready(ready)) if Arc::ptr_eq(ready, range))
    }
}

/// Names its open file. The number is only compared.
fn address<F>(extent: &Extent<F>) -> usize {
    Arc::as_ptr(&extent.file).addr()
}

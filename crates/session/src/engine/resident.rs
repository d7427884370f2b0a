//! What lies in the page cache because it was put there a moment ago. One job makes a whole run of
//! blocks resident; what any peer asks of it within the next second is served without another.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex};
use metainfo::Info;
use piece_store::{Extent, TorrentKey};

use super::keys::LinkKey;
use crate::limits::{MAX_RESIDENT, MAX_RUN_FILES, RUN_LENGTH, SERVED_FILES_SHARE};

/// For how long a run that was made resident is trusted to be so.
const RESIDENT_TIME: Duration = Duration::from_secs(1);

/// Which part of which piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunKey {
    torrent: TorrentKey,
    piece: PieceIndex,
    /// In bytes from the begin of the piece.
    start: u32,
    end: u32,
}

impl RunKey {
    /// The run that holds `request` from `skip` bytes on, and how many files it lies in at most: the
    /// piece is cut every [`RUN_LENGTH`]. What is across such a cut, or would be in more than
    /// `max_files` files, is a run of its own: the request from there on, or the start of it.
    pub(super) fn of(
        torrent: TorrentKey,
        info: &Info,
        request: BlockRequest,
        skip: u32,
        max_files: usize,
    ) -> (Self, usize) {
        let (piece, offset) = (request.piece(), request.offset() + skip);
        let start = offset - offset % RUN_LENGTH;
        let end = start.saturating_add(RUN_LENGTH).min(info.geometry().length_of(piece));
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

    /// How much of each file it has, in order.
    fn lengths(self, info: &Info) -> impl Iterator<Item = u32> {
        let offset = info.geometry().offset_of(self.piece) + u64::from(self.start);
        let ranges = info.ranges(offset, u64::from(self.end - self.start));
        ranges.map(|range| range.length as u32)
    }

    pub(super) fn torrent(self) -> TorrentKey {
        self.torrent
    }

    pub(super) fn piece(self) -> PieceIndex {
        self.piece
    }

    /// The one that a job named.
    pub(super) fn named(torrent: TorrentKey, piece: PieceIndex, range: &Range<u32>) -> Self {
        Self { torrent, piece, start: range.start, end: range.end }
    }

    /// Its range in the piece, in bytes.
    pub(super) fn range(self) -> Range<u32> {
        self.start..self.end
    }
}

/// Bytes that were made resident together.
#[derive(Debug)]
pub(super) struct Run<F> {
    key: RunKey,
    extents: Vec<Extent<F>>,
    /// When they were.
    at: Duration,
}

impl<F> Run<F> {
    /// Whether it was made resident within the last second.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) <= RESIDENT_TIME
    }

    /// Where the bytes from `offset` of the piece lie, at most `length` of one file.
    pub(super) fn extent(&self, offset: u32, length: u32) -> Option<Extent<F>> {
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

/// A block that a link has to send.
pub(super) type Wanted = (LinkKey, BlockRequest);

/// What is known of a run.
pub(super) enum Residence<F> {
    /// It is resident.
    Resident(Arc<Run<F>>),
    /// It will be once it was read; whoever asked is remembered.
    Absent,
}

#[derive(Debug)]
enum State<F> {
    Reading(Vec<Wanted>),
    Ready(Arc<Run<F>>),
}

/// The runs of all torrents.
#[derive(Debug)]
pub(super) struct Resident<F> {
    /// How many files those being read may open, and how many those that are ready may hold open.
    /// The same, so that what is answered at once is all remembered.
    max_files: usize,
    runs: BTreeMap<RunKey, State<F>>,
    /// Those to be read, in the order they were asked for, and how many files each lies in.
    to_read: VecDeque<(RunKey, usize)>,
    /// Those being read.
    reading: BTreeMap<RunKey, usize>,
    /// The ready ones, oldest first, and those that were ready once. Nobody else holds their files
    /// open for longer than it takes to send some bytes.
    ready: VecDeque<Arc<Run<F>>>,
    /// How many extents `ready` has.
    extents: usize,
    /// How many extents of `ready` lie in each open file, by its address.
    files: BTreeMap<usize, usize>,
}

impl<F> Resident<F> {
    /// None yet, of a store that has at most `open_files` open.
    pub(super) fn new(open_files: usize) -> Self {
        Self {
            max_files: (open_files / SERVED_FILES_SHARE).max(1),
            runs: BTreeMap::new(),
            to_read: VecDeque::new(),
            reading: BTreeMap::new(),
            ready: VecDeque::new(),
            extents: 0,
            files: BTreeMap::new(),
        }
    }

    /// How many files one run may lie in, so that any run fits.
    pub(super) fn max_run_files(&self) -> usize {
        MAX_RUN_FILES.min(self.max_files)
    }

    /// Whether the run, in so many files, is resident. If not, [`Self::next_read`] names it when its
    /// turn has come, and `wanted` is answered by [`Self::finish`].
    pub(super) fn ask(
        &mut self,
        now: Duration,
        (key, files): (RunKey, usize),
        wanted: Wanted,
    ) -> Residence<F> {
        match self.runs.get_mut(&key) {
            Some(State::Ready(run)) if run.is_fresh(now) => Residence::Resident(Arc::clone(run)),
            Some(State::Reading(waiting)) => {
                waiting.push(wanted);
                Residence::Absent
            }
            _ => {
                self.runs.insert(key, State::Reading(vec![wanted]));
                self.to_read.push_back((key, files));
                Residence::Absent
            }
        }
    }

    /// The next run to be read, if those being read leave room for its files.
    pub(super) fn next_read(&mut self) -> Option<RunKey> {
        let (key, files) = *self.to_read.front()?;
        if self.reading.values().sum::<usize>() + files > self.max_files {
            return None;
        }
        self.to_read.pop_front();
        self.reading.insert(key, files);
        Some(key)
    }

    /// The run is not being read any more.
    pub(super) fn end_read(&mut self, key: RunKey) {
        self.reading.remove(&key);
    }

    /// The run was made resident: it, and who waits for it.
    pub(super) fn finish(
        &mut self,
        now: Duration,
        key: RunKey,
        extents: Vec<Extent<F>>,
    ) -> (Arc<Run<F>>, Vec<Wanted>) {
        self.hold(&extents);
        let run = Arc::new(Run { key, extents, at: now });
        self.ready.push_back(Arc::clone(&run));
        let before = self.runs.insert(key, State::Ready(Arc::clone(&run)));
        let waiting = match before {
            Some(State::Reading(waiting)) => waiting,
            _ => Vec::new(),
        };
        self.expire(now);
        (run, waiting)
    }

    /// The run turned out not to be resident any more, if nobody made it so since.
    pub(super) fn renounce(&mut self, run: &Arc<Run<F>>) {
        if self.is_current(run) {
            self.runs.remove(&run.key);
        }
    }

    /// Lets go of what is too old to be trusted, and of the oldest if it is too much.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(run) = self.ready.front()
            && (!run.is_fresh(now) || self.is_full())
            && let Some(run) = self.ready.pop_front()
        {
            self.release(&run.extents);
            self.renounce(&run);
        }
    }

    /// Lets go of everything of a torrent, of which nothing is being read.
    pub(super) fn forget(&mut self, torrent: TorrentKey) {
        self.runs.retain(|key, _| key.torrent != torrent);
        self.to_read.retain(|(key, _)| key.torrent != torrent);
        for run in std::mem::take(&mut self.ready) {
            if run.key.torrent == torrent {
                self.release(&run.extents);
            } else {
                self.ready.push_back(run);
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

    fn is_current(&self, run: &Arc<Run<F>>) -> bool {
        matches!(self.runs.get(&run.key), Some(State::Ready(ready)) if Arc::ptr_eq(ready, run))
    }
}

/// Which open file it is in. It says nothing else, and is only counted.
fn address<F>(extent: &Extent<F>) -> usize {
    Arc::as_ptr(&extent.file).addr()
}

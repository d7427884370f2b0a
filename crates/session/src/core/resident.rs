//! What lies in the page cache because it was put there a moment ago. One job makes a whole run of
//! blocks resident; what any peer asks of it within the next second is served without another.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{BlockRequest, Geometry, PieceIndex};
use piece_store::{Extent, TorrentKey};

use super::link::LinkKey;
use crate::limits::{MAX_RESIDENT, RUN_LENGTH};

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
    /// The run that holds `request`: the piece is cut every [`RUN_LENGTH`]. A request across such a
    /// cut is a run of its own.
    pub(super) fn of(torrent: TorrentKey, geometry: Geometry, request: BlockRequest) -> Self {
        let (piece, offset) = (request.piece(), request.offset());
        let start = offset - offset % RUN_LENGTH;
        let end = start.saturating_add(RUN_LENGTH).min(geometry.length_of(piece));
        let last = offset + request.length();
        let (start, end) = if last <= end { (start, end) } else { (offset, last) };
        Self { torrent, piece, start, end }
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
pub(super) struct Run {
    key: RunKey,
    extents: Vec<Extent>,
    /// When they were.
    at: Duration,
}

impl Run {
    /// Whether it was made resident within the last second.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) <= RESIDENT_TIME
    }

    /// Where the bytes from `offset` of the piece lie, at most `length` of one file.
    pub(super) fn extent(&self, offset: u32, length: u32) -> Option<Extent> {
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
pub(super) enum Residence {
    /// It is resident.
    Resident(Arc<Run>),
    /// It will be soon; whoever asked is remembered.
    Underway,
    /// The same, once the caller has had it read.
    Absent,
}

#[derive(Debug)]
enum State {
    Reading(Vec<Wanted>),
    Ready(Arc<Run>),
}

/// The runs of all torrents.
#[derive(Debug, Default)]
pub(super) struct Resident {
    runs: BTreeMap<RunKey, State>,
    /// The ready ones, oldest first, and those that were ready once.
    ready: VecDeque<Arc<Run>>,
    /// How many extents `ready` has: each may hold a file open.
    extents: usize,
}

impl Resident {
    /// Whether the run is resident. If not, `wanted` is answered by [`Self::finish`].
    pub(super) fn ask(&mut self, now: Duration, key: RunKey, wanted: Wanted) -> Residence {
        match self.runs.get_mut(&key) {
            Some(State::Ready(run)) if run.is_fresh(now) => Residence::Resident(Arc::clone(run)),
            Some(State::Reading(waiting)) => {
                waiting.push(wanted);
                Residence::Underway
            }
            _ => {
                self.runs.insert(key, State::Reading(vec![wanted]));
                Residence::Absent
            }
        }
    }

    /// The run was made resident: it, and who waits for it.
    pub(super) fn finish(
        &mut self,
        now: Duration,
        key: RunKey,
        extents: Vec<Extent>,
    ) -> (Arc<Run>, Vec<Wanted>) {
        self.extents += extents.len();
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
    pub(super) fn renounce(&mut self, run: &Arc<Run>) {
        if self.is_current(run) {
            self.runs.remove(&run.key);
        }
    }

    /// Lets go of what is too old to be trusted, and of the oldest if it is too much.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(run) = self.ready.front()
            && (!run.is_fresh(now) || self.extents > MAX_RESIDENT)
            && let Some(run) = self.ready.pop_front()
        {
            self.extents -= run.extents.len();
            self.renounce(&run);
        }
    }

    /// Lets go of everything of a torrent, of which nothing is being read.
    pub(super) fn forget(&mut self, torrent: TorrentKey) {
        self.runs.retain(|key, _| key.torrent != torrent);
        self.ready.retain(|run| run.key.torrent != torrent);
        self.extents = self.ready.iter().map(|run| run.extents.len()).sum();
    }

    fn is_current(&self, run: &Arc<Run>) -> bool {
        matches!(self.runs.get(&run.key), Some(State::Ready(ready)) if Arc::ptr_eq(ready, run))
    }
}

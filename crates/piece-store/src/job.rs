//! What can be asked of the store, and its answers; [`Torrents`] does one after another, without
//! threads. The pool has its threads call it, a simulation calls it itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bt_types::{Bitfield, PieceIndex, Sha1Digest};

use crate::store::{Handles, STRIP_LENGTH};
use crate::{
    Disk, Extent, HeldSpan, MAX_OPEN_FILES, OpenSpec, Opened, OsFile, Outcome, Span, Store,
    StoreError,
};

/// Names a torrent in jobs and answers. Chosen by the caller, one for each open torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentKey(pub u64);

/// Something to do for a torrent. Each is answered by the [`Done`] named in its description.
#[derive(Debug)]
pub enum Job {
    /// Open a torrent's data; see [`Opened`] for what comes next. Answer: [`Done::Opened`].
    Open {
        /// The name it gets.
        torrent: TorrentKey,
        /// What to open, and how.
        spec: Box<OpenSpec>,
    },
    /// Compare pieces on disk with their hashes; good ones are had from then on, others are not.
    /// A range takes one worker as long as reading it does: keep it to some 16 MiB. Answer:
    /// [`Done::Checked`].
    Verify {
        /// The torrent.
        torrent: TorrentKey,
        /// The pieces, by number. Numbers past the last piece are passed over.
        pieces: Range<u32>,
    },
    /// Everything of [`Opened::to_verify`] was verified, without an error: stop if a file is
    /// unrelated, else make the torrent ready to be written. Answer: [`Done::CheckFinished`].
    FinishCheck {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// Every block of a piece is in: hash it and, if it is good, write it and record it as had.
    /// Answer: [`Done::Committed`].
    Commit {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Which attempt at the piece this is, from 0. What was staged in an earlier one is
        /// forgotten; what comes late of an earlier one has no effect.
        attempt: u32,
        /// One entry a span, in order. `None`: the span was staged whole. Blocks that were staged
        /// are taken from the disk, whatever the buffer has in their place.
        spans: Vec<Option<Span>>,
        /// Whether a good piece is answered with the digest of each block; a bad one always is.
        digests: bool,
    },
    /// Write blocks of an unfinished piece to their final place, to have the buffer back. Not
    /// verified, not had. Answer: [`Done::Staged`].
    Stage {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Which attempt at the piece this is; see [`Job::Commit`].
        attempt: u32,
        /// The number of the span in the piece.
        span_index: u32,
        /// The buffer, as long as that span.
        span: Span,
        /// Which of its blocks are valid; bit 0 is the span's first.
        blocks: u16,
    },
    /// Make a range resident. Answer: [`Done::Ready`].
    Read {
        /// The torrent.
        torrent: TorrentKey,
        /// A piece that is had.
        piece: PieceIndex,
        /// The range of it, in bytes.
        range: Range<u32>,
    },
    /// Make what is had durable. Done by `bt-sync`. Answer: [`Done::Synced`].
    Sync {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// Stage what is unfinished, sync, record the end of the run, and forget the torrent. Done by
    /// `bt-sync`. Answer: [`Done::Closed`].
    Close {
        /// The torrent.
        torrent: TorrentKey,
        /// Bytes uploaded in all runs together, to be recorded.
        uploaded: u64,
        /// Bytes downloaded in all runs together, to be recorded.
        downloaded: u64,
        /// The buffers of unfinished pieces.
        unfinished: Vec<HeldSpan>,
    },
}

/// The answer to a [`Job`].
#[derive(Debug)]
pub enum Done<F = OsFile> {
    /// The torrent was opened, or could not be.
    Opened {
        /// The torrent.
        torrent: TorrentKey,
        /// What was found; on an error the torrent is not open.
        result: Result<Box<Opened>, StoreError>,
    },
    /// Pieces were compared with their hashes.
    Checked {
        /// The torrent.
        torrent: TorrentKey,
        /// The pieces the job named.
        pieces: Range<u32>,
        /// Those that are good, ascending. They are had now.
        good: Vec<u32>,
        /// Why the rest of the range was not looked at, if so.
        error: Option<StoreError>,
    },
    /// The check is over.
    CheckFinished {
        /// The torrent.
        torrent: TorrentKey,
        /// The pieces that we have now; on an error nothing may be written.
        result: Result<Bitfield, StoreError>,
    },
    /// A piece was hashed and, if good, written.
    Committed {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// The buffers of the job, given back.
        spans: Vec<Option<Span>>,
        /// Whether it is had now.
        outcome: Outcome,
    },
    /// A span was staged.
    Staged {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// The number of the span in the piece.
        span_index: u32,
        /// The buffer, given back.
        span: Span,
        /// On an error the blocks are not on disk.
        result: Result<(), StoreError>,
    },
    /// A range was made resident.
    Ready {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// The range of it, in bytes.
        range: Range<u32>,
        /// Where its bytes are, in order.
        result: Result<Vec<Extent<F>>, StoreError>,
    },
    /// What was had is durable, or a sync failed.
    Synced {
        /// The torrent.
        torrent: TorrentKey,
        /// On an error the torrent should stop.
        result: Result<(), StoreError>,
        /// Pieces that are no longer had, because whether they are on disk can't be known.
        lost: Vec<u32>,
    },
    /// The torrent is closed, whatever the result.
    Closed {
        /// The torrent.
        torrent: TorrentKey,
        /// What could not be made durable or recorded, if anything.
        result: Result<(), StoreError>,
        /// The buffers of the job, given back.
        spans: Vec<Span>,
    },
}

/// The open torrents of a session, over any disk. Several threads may have it do jobs at once, but
/// for the order that [`Pool`](crate::Pool) asks of its callers.
#[derive(Debug)]
pub struct Torrents<D: Disk> {
    disk: Arc<D>,
    handles: Arc<Handles<D::File>>,
    open: Mutex<BTreeMap<TorrentKey, Arc<Store<D>>>>,
}

impl<D: Disk> Torrents<D> {
    /// None yet, on `disk`.
    pub fn new(disk: Arc<D>) -> Self {
        Self::with_open_files(disk, MAX_OPEN_FILES)
    }

    /// The same with at most `open_files` open; see [`Resources`](crate::Resources).
    pub fn with_open_files(disk: Arc<D>, open_files: usize) -> Self {
        Self { disk, handles: Arc::new(Handles::new(open_files)), open: Mutex::default() }
    }

    /// The memory that [`Self::handle_job`] works in: one for each thread.
    pub fn scratch() -> Vec<u8> {
        vec![0; STRIP_LENGTH]
    }

    /// Does a job; may block for as long as the disk does. `scratch` is of [`Self::scratch`].
    /// `hashed` is the digest of a piece to commit, if the caller knows it.
    pub fn handle_job(
        &self,
        job: Job,
        hashed: Option<Sha1Digest>,
        scratch: &mut [u8],
    ) -> Done<D::File> {
        match job {
            Job::Open { torrent, spec } => {
                Done::Opened { torrent, result: self.open(torrent, &spec) }
            }
            Job::Verify { torrent, pieces } => self.verify(torrent, pieces, scratch),
            Job::FinishCheck { torrent } => {
                let result = self.find(torrent).and_then(|store| store.finish_check());
                Done::CheckFinished { torrent, result }
            }
            Job::Commit { torrent, piece, attempt, mut spans, digests } => {
                let commit = |store: Arc<Store<D>>| {
                    store.commit(piece, attempt, &mut spans, hashed, digests, scratch)
                };
                let outcome = self.find(torrent).map_or_else(Outcome::Failed, commit);
                Done::Committed { torrent, piece, spans, outcome }
            }
            Job::Stage { torrent, piece, attempt, span_index, span, blocks } => {
                let store = self.find(torrent);
                let result =
                    store.and_then(|store| store.stage(piece, attempt, span_index, &span, blocks));
                Done::Staged { torrent, piece, span_index, span, result }
            }
            Job::Read { torrent, piece, range } => {
                let store = self.find(torrent);
                let result = store.and_then(|store| store.read(piece, range.clone(), scratch));
                Done::Ready { torrent, piece, range, result }
            }
            Job::Sync { torrent } => self.sync(torrent),
            Job::Close { torrent, uploaded, downloaded, unfinished } => {
                self.close(torrent, uploaded, downloaded, unfinished)
            }
        }
    }

    fn with_open<T>(&self, work: impl FnOnce(&mut BTreeMap<TorrentKey, Arc<Store<D>>>) -> T) -> T {
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, torrent: TorrentKey) -> Result<Arc<Store<D>>, StoreError> {
        self.with_open(|open| open.get(&torrent).cloned()).ok_or(StoreError::NotOpen)
    }

    fn open(&self, torrent: TorrentKey, spec: &OpenSpec) -> Result<Box<Opened>, StoreError> {
        let (store, opened) = Store::open(Arc::clone(&self.disk), Arc::clone(&self.handles), spec)?;
        self.with_open(|open| open.insert(torrent, Arc::new(store)));
        Ok(Box::new(opened))
    }

    fn verify(&self, torrent: TorrentKey, pieces: Range<u32>, scratch: &mut [u8]) -> Done<D::File> {
        let (good, error) = match self.find(torrent) {
            Ok(store) => store.verify(pieces.clone(), scratch),
            Err(error) => (Vec::new(), Some(error)),
        };
        Done::Checked { torrent, pieces, good, error }
    }

    fn sync(&self, torrent: TorrentKey) -> Done<D::File> {
        let synced = match self.find(torrent) {
            Ok(store) => store.sync(),
            Err(error) => Err((error, Vec::new())),
        };
        match synced {
            Ok(()) => Done::Synced { torrent, result: Ok(()), lost: Vec::new() },
            Err((error, lost)) => Done::Synced { torrent, result: Err(error), lost },
        }
    }

    fn close(
        &self,
        torrent: TorrentKey,
        uploaded: u64,
        downloaded: u64,
        unfinished: Vec<HeldSpan>,
    ) -> Done<D::File> {
        let store = self.with_open(|open| open.remove(&torrent));
        let result = store
            .ok_or(StoreError::NotOpen)
            .and_then(|store| store.close(uploaded, downloaded, &unfinished));
        let spans = unfinished.into_iter().map(|held| held.span).collect();
        Done::Closed { torrent, result, spans }
    }
}

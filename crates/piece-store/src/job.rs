//! The jobs of the store and its answers. [`Torrents`] does one job after another, without threads.
//! The threads of the pool call it; a simulation calls it directly.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bt_types::{Bitfield, PieceIndex, Sha1Digest};
use metainfo::{Magnet, Metainfo};

use crate::info::check_info;
use crate::store::{STRIP_LENGTH, SharedDisk};
use crate::{
    CommitResult, Disk, Extent, HeldSpan, InfoError, MAX_OPEN_FILES, OpenSpec, Opened, OsFile,
    Span, Store, StoreError,
};

/// Names a torrent in jobs and answers. The caller chooses one for each open torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentKey(pub u64);

/// Work for a torrent. Each job is answered by the [`Done`] that its description names.
#[derive(Debug)]
pub enum Job {
    /// Compare an `info` dictionary that peers sent with its info-hash, and parse it (BEP 9). The
    /// torrent need not be open. Answer: [`Done::InfoChecked`].
    CheckInfo {
        /// The torrent.
        torrent: TorrentKey,
        /// A number for the answer.
        attempt: u64,
        /// The link: its info-hash, and the trackers and web seeds that the torrent gets.
        link: Arc<Magnet>,
        /// The bytes.
        info: Vec<u8>,
    },
    /// Open a torrent's data; see [`Opened`] for what comes next. Answer: [`Done::Opened`].
    Open {
        /// The key it gets.
        torrent: TorrentKey,
        /// What to open, and how.
        spec: Box<OpenSpec>,
    },
    /// Compare pieces on disk with their hashes. Afterwards we have the good ones, and the others
    /// are missing. One worker reads the whole range: use ranges of some 16 MiB. Answer:
    /// [`Done::Checked`].
    Verify {
        /// The torrent.
        torrent: TorrentKey,
        /// The pieces, by number. Numbers past the last piece are skipped.
        pieces: Range<u32>,
    },
    /// Finish the check, after everything of [`Opened::to_verify`] was verified without an error:
    /// fail if a file is unrelated, else make the torrent ready to be written. Answer:
    /// [`Done::CheckFinished`].
    FinishCheck {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// Hash a piece of which every block has arrived and, if it is good, write and record it.
    /// Answer: [`Done::Committed`].
    Commit {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// Which attempt at the piece this is, from 0. Blocks staged in an earlier attempt are
        /// forgotten. Jobs of an earlier attempt have no effect afterwards.
        attempt: u32,
        /// One entry for each span, in order; `None` if the whole span was staged. Staged blocks
        /// are read from the disk, whatever the buffer has for them.
        spans: Vec<Option<Span>>,
        /// Whether the answer for a good piece has the digest of each block. For a bad piece it
        /// always has.
        digests: bool,
    },
    /// Write blocks of an unfinished piece to its files, to free the buffer. The piece stays
    /// missing. Answer: [`Done::Staged`].
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
        /// A piece that we have.
        piece: PieceIndex,
        /// The range of it, in bytes.
        range: Range<u32>,
    },
    /// Make the pieces that we have durable. Done by `bt-sync`. Answer: [`Done::Synced`].
    Sync {
        /// The torrent.
        torrent: TorrentKey,
    },
    /// Stage unfinished blocks, sync, record the end of the launch, and forget the torrent. Done by
    /// `bt-sync`. Answer: [`Done::Closed`].
    Close {
        /// The torrent.
        torrent: TorrentKey,
        /// Bytes uploaded in all launches together, to be recorded.
        uploaded: u64,
        /// Bytes downloaded in all launches together, to be recorded.
        downloaded: u64,
        /// The buffers of unfinished pieces.
        unfinished: Vec<HeldSpan>,
    },
}

/// The answer to a [`Job`].
#[derive(Debug)]
pub enum Done<F = OsFile> {
    /// The answer to [`Job::CheckInfo`].
    InfoChecked {
        /// The torrent.
        torrent: TorrentKey,
        /// The number in the job.
        attempt: u64,
        /// The torrent, if the bytes are right.
        result: Result<Box<Metainfo>, InfoError>,
    },
    /// The answer to [`Job::Open`].
    Opened {
        /// The torrent.
        torrent: TorrentKey,
        /// What was found. After an error the torrent is not open.
        result: Result<Box<Opened>, StoreError>,
    },
    /// Pieces were compared with their hashes.
    Checked {
        /// The torrent.
        torrent: TorrentKey,
        /// The pieces the job named.
        pieces: Range<u32>,
        /// The good pieces, ascending. We have them now.
        good: Vec<u32>,
        /// Why the rest of the range was not compared, if so.
        error: Option<StoreError>,
    },
    /// The check is finished.
    CheckFinished {
        /// The torrent.
        torrent: TorrentKey,
        /// The pieces that we have now. After an error nothing may be written.
        result: Result<Bitfield, StoreError>,
    },
    /// A piece was hashed and, if good, written.
    Committed {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// The buffers of the job.
        spans: Vec<Option<Span>>,
        /// Whether we have it now.
        result: CommitResult,
    },
    /// A span was staged.
    Staged {
        /// The torrent.
        torrent: TorrentKey,
        /// The piece.
        piece: PieceIndex,
        /// The number of the span in the piece.
        span_index: u32,
        /// The buffer of the job.
        span: Span,
        /// After an error the blocks are not on disk.
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
    /// The answer to [`Job::Sync`].
    Synced {
        /// The torrent.
        torrent: TorrentKey,
        /// After an error the torrent should stop.
        result: Result<(), StoreError>,
        /// Pieces that are missing now, because they may not be on disk.
        lost: Vec<u32>,
    },
    /// The torrent is closed, also after an error.
    Closed {
        /// The torrent.
        torrent: TorrentKey,
        /// The first step that failed, if any.
        result: Result<(), StoreError>,
        /// The buffers of the job.
        spans: Vec<Span>,
    },
}

/// The open torrents of a session, over any disk. Several threads may call it at once, in the order
/// that [`Pool`](crate::Pool) asks of its callers.
#[derive(Debug)]
pub struct Torrents<D: Disk> {
    shared: Arc<SharedDisk<D>>,
    open: Mutex<BTreeMap<TorrentKey, Arc<Store<D>>>>,
}

impl<D: Disk> Torrents<D> {
    /// No open torrents, on `disk`.
    pub fn new(disk: Arc<D>) -> Self {
        Self::with_open_files(disk, MAX_OPEN_FILES)
    }

    /// No open torrents, on `disk`, with at most `open_files` files open; see
    /// [`Resources`](crate::Resources).
    pub fn with_open_files(disk: Arc<D>, open_files: usize) -> Self {
        let shared = Arc::new(SharedDisk::with_open_files(disk, open_files));
        Self { shared, open: Mutex::default() }
    }

    /// Returns the scratch buffer that [`Self::handle_job`] needs, one for each thread.
    pub fn scratch() -> Vec<u8> {
        vec![0; STRIP_LENGTH]
    }

    /// Does a job. Blocks as long as the disk does. `scratch` is from [`Self::scratch`]. `hashed`
    /// is the digest of a piece to commit, if the caller knows it.
    pub fn handle_job(
        &self,
        job: Job,
        hashed: Option<Sha1Digest>,
        scratch: &mut [u8],
    ) -> Done<D::File> {
        match job {
            Job::CheckInfo { torrent, attempt, link, info } => {
                let result = check_info(&link, &info);
                Done::InfoChecked { torrent, attempt, result }
            }
            Job::Open { torrent, spec } => {
                Done::Opened { torrent, result: self.open(torrent, &spec) }
            }
            Job::Verify { torrent, pieces } => self.verify(torrent, pieces, scratch),
            Job::FinishCheck { torrent } => {
                let result = self.find(torrent).and_then(|store| store.finish_check());
                Done::CheckFinished { torrent, result }
            }
            Job::Commit { torrent, piece, attempt, mut spans, digests } => {
                let result = self.find(torrent).and_then(|store| {
                    store.commit(piece, attempt, &mut spans, hashed, digests, scratch)
                });
                let result = result.unwrap_or_else(CommitResult::Failed);
                Done::Committed { torrent, piece, spans, result }
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
        let (store, opened) = Store::open(Arc::clone(&self.shared), spec)?;
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
        let store = self.find(torrent).map_err(|error| (error, Vec::new()));
        let (result, lost) = match store.and_then(|store| store.sync()) {
            Ok(()) => (Ok(()), Vec::new()),
            Err((error, lost)) => (Err(error), lost),
        };
        Done::Synced { torrent, result, lost }
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

//! One thread of the pool: take a job, do it, answer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bt_types::Sha1Digest;
use crossbeam_channel::Sender;

use super::queue::{Queue, Work};
use super::{Done, Job, TorrentKey};
use crate::disk::OsDisk;
use crate::store::{Handles, STRIP_LENGTH, hash_side_by_side};
use crate::{HeldSpan, OpenSpec, Opened, Outcome, Span, Store, StoreError};

type OsStore = Store<OsDisk>;
type Torrents = BTreeMap<TorrentKey, Arc<OsStore>>;

/// What all threads of one pool share.
pub(super) struct WorkerShared {
    disk: Arc<OsDisk>,
    handles: Arc<Handles<std::fs::File>>,
    torrents: Mutex<Torrents>,
    answers: Sender<Done>,
    wake: Arc<dyn Fn() + Send + Sync>,
    stopping: Arc<AtomicBool>,
}

impl WorkerShared {
    pub(super) fn new(
        answers: Sender<Done>,
        wake: Arc<dyn Fn() + Send + Sync>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self {
            disk: Arc::new(OsDisk::new()),
            handles: Arc::new(Handles::default()),
            torrents: Mutex::default(),
            answers,
            wake,
            stopping,
        }
    }

    fn with_torrents<T>(&self, work: impl FnOnce(&mut Torrents) -> T) -> T {
        work(&mut self.torrents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, torrent: TorrentKey) -> Result<Arc<OsStore>, StoreError> {
        self.with_torrents(|torrents| torrents.get(&torrent).cloned()).ok_or(StoreError::NotOpen)
    }

    fn answer(&self, done: Done) {
        // An error means that the pool is being dropped: nobody wants the answer.
        if self.answers.send(done).is_ok() {
            (self.wake)();
        }
    }
}

/// One thread.
pub(super) struct Worker {
    shared: Arc<WorkerShared>,
    queue: Arc<Mutex<Queue>>,
    scratch: Vec<u8>,
}

impl Worker {
    pub(super) fn new(shared: Arc<WorkerShared>, queue: Arc<Mutex<Queue>>) -> Self {
        Self { shared, queue, scratch: vec![0; STRIP_LENGTH] }
    }

    /// Works until the pool is dropped.
    pub(super) fn run(mut self) {
        while let Some(work) = self.next_work() {
            match work {
                Work::One(job) => self.work_on(job, None),
                Work::Commits(jobs) => self.commit_all(jobs),
            }
        }
    }

    fn next_work(&self) -> Option<Work> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Commits whole pieces that are hashed side by side.
    fn commit_all(&mut self, jobs: Vec<Job>) {
        let digests = hash_side_by_side(&jobs.iter().map(spans_of).collect::<Vec<_>>());
        for (job, digest) in jobs.into_iter().zip(digests) {
            self.work_on(job, Some(digest));
        }
    }

    /// Does a job and answers. `hashed` is the digest of a piece to commit, if it is known already.
    fn work_on(&mut self, job: Job, hashed: Option<Sha1Digest>) {
        if self.shared.stopping.load(Ordering::Relaxed) && !writes(&job) {
            return;
        }
        let done = self.handle_job(job, hashed);
        self.shared.answer(done);
    }

    fn handle_job(&mut self, job: Job, hashed: Option<Sha1Digest>) -> Done {
        match job {
            Job::Open { torrent, spec } => {
                Done::Opened { torrent, result: self.open(torrent, &spec) }
            }
            Job::Verify { torrent, pieces } => self.verify(torrent, pieces),
            Job::FinishCheck { torrent } => {
                let result = self.shared.find(torrent).and_then(|store| store.finish_check());
                Done::CheckFinished { torrent, result }
            }
            Job::Commit { torrent, piece, attempt, mut spans, digests } => {
                let (spans_of, scratch) = (&mut spans, &mut self.scratch);
                let committed = self
                    .shared
                    .find(torrent)
                    .map(|store| store.commit(piece, attempt, spans_of, hashed, digests, scratch));
                let outcome = committed.unwrap_or_else(Outcome::Failed);
                Done::Committed { torrent, piece, spans, outcome }
            }
            Job::Stage { torrent, piece, attempt, span_index, span, blocks } => {
                let store = self.shared.find(torrent);
                let result =
                    store.and_then(|store| store.stage(piece, attempt, span_index, &span, blocks));
                Done::Staged { torrent, piece, span_index, span, result }
            }
            Job::Read { torrent, piece, range } => {
                let store = self.shared.find(torrent);
                let result =
                    store.and_then(|store| store.read(piece, range.clone(), &mut self.scratch));
                Done::Ready { torrent, piece, range, result }
            }
            Job::Sync { torrent } => self.sync(torrent),
            Job::Close { torrent, uploaded, downloaded, unfinished } => {
                self.close(torrent, uploaded, downloaded, unfinished)
            }
        }
    }

    fn open(&self, torrent: TorrentKey, spec: &OpenSpec) -> Result<Box<Opened>, StoreError> {
        let handles = Arc::clone(&self.shared.handles);
        let (store, opened) = Store::open(Arc::clone(&self.shared.disk), handles, spec)?;
        self.shared.with_torrents(|torrents| torrents.insert(torrent, Arc::new(store)));
        Ok(Box::new(opened))
    }

    fn verify(&mut self, torrent: TorrentKey, pieces: Range<u32>) -> Done {
        let (good, error) = match self.shared.find(torrent) {
            Ok(store) => store.verify(pieces.clone(), &mut self.scratch),
            Err(error) => (Vec::new(), Some(error)),
        };
        Done::Checked { torrent, pieces, good, error }
    }

    fn sync(&self, torrent: TorrentKey) -> Done {
        let synced = match self.shared.find(torrent) {
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
    ) -> Done {
        let store = self.shared.with_torrents(|torrents| torrents.remove(&torrent));
        let result = store
            .ok_or(StoreError::NotOpen)
            .and_then(|store| store.close(uploaded, downloaded, &unfinished));
        let spans = unfinished.into_iter().map(|held| held.span).collect();
        Done::Closed { torrent, result, spans }
    }
}

/// Whether a job is done even when the pool is being dropped: what came over the network is kept.
fn writes(job: &Job) -> bool {
    matches!(job, Job::Commit { .. } | Job::Stage { .. } | Job::Sync { .. } | Job::Close { .. })
}

/// The buffers of a piece that is to be committed.
fn spans_of(job: &Job) -> &[Option<Span>] {
    match job {
        Job::Commit { spans, .. } => spans,
        _ => &[],
    }
}

//! One thread of the pool: takes a job, does it, answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bt_types::Sha1Digest;
use crossbeam_channel::Sender;

use super::queue::{Queue, Work};
use super::{Done, Job};
use crate::disk::OsDisk;
use crate::store::hash_in_lanes;
use crate::{Resources, Span, Torrents};

/// The state that all threads of one pool share.
pub(super) struct WorkerShared {
    torrents: Torrents<OsDisk>,
    answers: Sender<Done>,
    wake: Arc<dyn Fn() + Send + Sync>,
    stopping: Arc<AtomicBool>,
}

impl WorkerShared {
    pub(super) fn new(
        resources: Resources,
        answers: Sender<Done>,
        wake: Arc<dyn Fn() + Send + Sync>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let disk = Arc::new(OsDisk::new());
        let torrents = Torrents::with_open_files(disk, resources.open_files);
        Self { torrents, answers, wake, stopping }
    }

    fn answer(&self, done: Done) {
        // An error means that the pool is being dropped. Then the answer is not needed.
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
        Self { shared, queue, scratch: Torrents::<OsDisk>::scratch() }
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

    /// Commits whole pieces that are hashed together.
    fn commit_all(&mut self, jobs: Vec<Job>) {
        let digests = hash_in_lanes(&jobs.iter().map(spans_of).collect::<Vec<_>>());
        for (job, digest) in jobs.into_iter().zip(digests) {
            self.work_on(job, Some(digest));
        }
    }

    /// Does a job and answers. `hashed` is the digest of a piece to commit, if known.
    fn work_on(&mut self, job: Job, hashed: Option<Sha1Digest>) {
        if self.shared.stopping.load(Ordering::Relaxed) && !writes(&job) {
            return;
        }
        let done = self.shared.torrents.handle_job(job, hashed, &mut self.scratch);
        self.shared.answer(done);
    }
}

/// Whether a job is done even when the pool is being dropped, so that downloaded data is kept.
fn writes(job: &Job) -> bool {
    match job {
        Job::Commit { .. } | Job::Stage { .. } | Job::Sync { .. } | Job::Close { .. } => true,
        Job::CheckInfo { .. }
        | Job::Open { .. }
        | Job::Verify { .. }
        | Job::FinishCheck { .. }
        | Job::Read { .. } => false,
    }
}

/// Returns the buffers of a job that commits a piece.
fn spans_of(job: &Job) -> &[Option<Span>] {
    let Job::Commit { spans, .. } = job else { unreachable!("only commits are gathered") };
    spans
}

//! The threads that hash, write, read and verify.
//!
//! ```text
//! submit(job) --> [ one bounded channel ] --> bt-store-0 .. bt-store-N --.
//!            \--> [ bounded channel ] ------> bt-sync (Sync, Close) ------+--> [ answers ] --> try_recv()
//!                                                                         '--> wake()
//! ```
//!
//! Invariants:
//! - Every job that `submit` accepts is answered exactly once, unless the pool is dropped.
//! - At most [`PoolConfig::outstanding`] jobs are accepted and not yet received. Each channel has
//!   room for that many, so no thread ever waits to answer, and two full channels can't deadlock.
//! - Jobs are done in any order. A caller that needs an order submits the second job after the
//!   answer to the first: it uses a torrent after `Opened`, and closes it when none of its jobs is
//!   under way.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // This is where the threads live.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::resources::worker_count;
use crate::{Done, Job, Resources};

pub mod check;
pub mod create;
mod queue;
mod ranges;
mod worker;

use queue::Queue;
use worker::{Worker, WorkerShared};

/// How large a pool is.
#[derive(Clone)]
pub struct PoolConfig {
    /// How many `bt-store` threads work, and how many files are open.
    pub resources: Resources,
    /// How many jobs may be submitted whose answers were not received yet. At least 1.
    pub outstanding: usize,
    /// Called by a worker after each answer, to wake the caller. Must not block.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolConfig")
            .field("resources", &self.resources)
            .field("outstanding", &self.outstanding)
            .finish_non_exhaustive()
    }
}

impl PoolConfig {
    /// A pool with 1024 outstanding jobs and a `wake` that does nothing.
    pub fn new(resources: Resources) -> Self {
        Self { resources, outstanding: 1024, wake: Arc::new(|| ()) }
    }
}

/// The threads. On drop they finish the jobs that write and skip the others, and are joined.
pub struct Pool {
    jobs: Option<Sender<Job>>,
    syncs: Option<Sender<Job>>,
    answers: Receiver<Done>,
    outstanding: AtomicUsize,
    limit: usize,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(config: PoolConfig) -> std::io::Result<Self> {
        let limit = config.outstanding.max(1);
        // No channel gets full: `submit` accepts at most `limit` jobs until answers are received.
        let (job_sender, jobs) = bounded(limit);
        let (sync_sender, syncs) = bounded(limit);
        let (answer_sender, answers) = bounded(limit);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut pool = Self {
            jobs: Some(job_sender),
            syncs: Some(sync_sender),
            answers,
            outstanding: AtomicUsize::new(0),
            limit,
            stopping: Arc::clone(&stopping),
            threads: Vec::new(),
        };
        let shared =
            Arc::new(WorkerShared::new(config.resources, answer_sender, config.wake, stopping));
        let queue = Arc::new(Mutex::new(Queue::new(jobs)));
        for number in 0..worker_count(config.resources.workers) {
            pool.spawn(format!("bt-store-{number}"), &shared, &queue)?;
        }
        let queue = Arc::new(Mutex::new(Queue::new(syncs)));
        pool.spawn("bt-sync".to_owned(), &shared, &queue)?;
        Ok(pool)
    }

    fn spawn(
        &mut self,
        name: String,
        shared: &Arc<WorkerShared>,
        queue: &Arc<Mutex<Queue>>,
    ) -> std::io::Result<()> {
        let worker = Worker::new(Arc::clone(shared), Arc::clone(queue));
        self.threads.push(std::thread::Builder::new().name(name).spawn(move || worker.run())?);
        Ok(())
    }

    /// Submits a job. Never blocks.
    ///
    /// # Errors
    /// Returns the job if the pool allows no more outstanding jobs: receive answers first.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        if self.outstanding.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
            return Err(job);
        }
        let channel = match job {
            Job::Sync { .. } | Job::Close { .. } => &self.syncs,
            Job::CheckInfo { .. }
            | Job::Open { .. }
            | Job::Verify { .. }
            | Job::FinishCheck { .. }
            | Job::Commit { .. }
            | Job::Stage { .. }
            | Job::Read { .. } => &self.jobs,
        };
        let Some(channel) = channel else { return Err(job) };
        channel.try_send(job).map_err(|error| {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
            }
        })
    }

    /// Returns the next answer, if there is one. Never blocks.
    pub fn try_recv(&self) -> Option<Done> {
        let done = self.answers.try_recv().ok()?;
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        Some(done)
    }

    /// Waits for the next answer. `None` if no job is outstanding.
    pub fn recv(&self) -> Option<Done> {
        if self.outstanding() == 0 {
            return None;
        }
        let done = self.answers.recv().ok()?;
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        Some(done)
    }

    /// Returns how many jobs were submitted whose answers were not received yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads.len())
            .field("outstanding", &self.outstanding())
            .finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.syncs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a store thread panicked");
            }
        }
    }
}

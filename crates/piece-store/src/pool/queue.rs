//! The jobs that wait for a worker.
//!
//! One worker at a time waits at the queue. When it gets a piece to commit, it waits a moment for
//! more of them, because pieces are hashed faster in parallel lanes than one after another
//! ([`piece_hash::Lanes`]). With any other job it leaves at once.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::Job;
use crate::SPAN_LENGTH;

/// How long a piece waits for others with which it can be hashed.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// The most bytes that are hashed together. They stay in memory until they are written.
const BATCH_LENGTH: usize = 8 << 20;
/// The length of the longest piece that is hashed together with others, in bytes. Longer ones are
/// mostly staged, and partly hashed before they are complete.
const BATCH_PIECE_LENGTH: usize = 8 * SPAN_LENGTH as usize;

/// What one worker does next.
#[derive(Debug)]
pub(super) enum Work {
    /// A job on its own.
    One(Job),
    /// [`Job::Commit`]s of pieces that are whole in memory.
    Commits(Vec<Job>),
}

/// The receiving end of a channel of jobs.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: Receiver<Job>,
    /// A job that was received and could not be gathered with those before it.
    next: Option<Job>,
    /// The most pieces that are hashed together.
    lanes: usize,
}

impl Queue {
    pub(super) fn new(jobs: Receiver<Job>) -> Self {
        Self { jobs, next: None, lanes: piece_hash::lane_count() }
    }

    /// Waits for work. `None` when the pool is being dropped and no job is left.
    pub(super) fn take(&mut self) -> Option<Work> {
        let first = self.next.take().or_else(|| self.jobs.recv().ok())?;
        match whole_length(&first) {
            Some(length) if self.lanes > 1 => Some(Work::Commits(self.gather(first, length))),
            _ => Some(Work::One(first)),
        }
    }

    /// Gathers more whole pieces, until there are enough or none arrives in time.
    fn gather(&mut self, first: Job, mut length: usize) -> Vec<Job> {
        let deadline = Instant::now() + BATCH_TIME;
        let mut commits = vec![first];
        while commits.len() < self.lanes {
            let Ok(job) = self.jobs.recv_deadline(deadline) else { break };
            match whole_length(&job) {
                Some(more) if length + more <= BATCH_LENGTH => {
                    length += more;
                    commits.push(job);
                }
                _ => {
                    self.next = Some(job);
                    break;
                }
            }
        }
        commits
    }
}

/// Returns the length of the piece that a job commits, if it is whole in memory and short enough to
/// be hashed together with others.
fn whole_length(job: &Job) -> Option<usize> {
    let Job::Commit { spans, .. } = job else { return None };
    let length = spans.iter().try_fold(0, |sum, span| Some(sum + span.as_ref()?.len()))?;
    (length <= BATCH_PIECE_LENGTH).then_some(length)
}

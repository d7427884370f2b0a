//! The jobs that wait for a worker, and which of them one worker takes together.
//!
//! One worker at a time stands at the queue. When it gets a piece to commit, it stays a moment for
//! more of them, for pieces are hashed faster side by side than one after another
//! ([`piece_hash::Lanes`]). Any other job sends it off at once.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::Job;
use crate::SPAN_LENGTH;

/// How long a piece waits for others to be hashed with.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// How many bytes are hashed side by side at most: they lie in memory until they are written.
const BATCH_LENGTH: usize = 8 << 20;
/// The length of a longest piece that is hashed side by side with others. Longer ones are mostly
/// staged, and hashed in part when they are whole.
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
    /// A job that was taken out and did not go with those before it.
    next: Option<Job>,
    /// How many pieces are hashed side by side at most.
    lanes: usize,
}

impl Queue {
    pub(super) fn new(jobs: Receiver<Job>) -> Self {
        Self { jobs, next: None, lanes: piece_hash::lane_count() }
    }

    /// Waits for work; `None` when the pool is being dropped and nothing is left.
    pub(super) fn take(&mut self) -> Option<Work> {
        let first = self.next.take().or_else(|| self.jobs.recv().ok())?;
        match whole_length(&first) {
            Some(length) if self.lanes > 1 => Some(Work::Commits(self.gather(first, length))),
            _ => Some(Work::One(first)),
        }
    }

    /// Takes more whole pieces, until there are enough or nothing came for too long.
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

/// The length of the piece that a job commits, if it is whole in memory and short enough to be hashed
/// side by side with others.
fn whole_length(job: &Job) -> Option<usize> {
    let Job::Commit { spans, .. } = job else { return None };
    let length = spans.iter().try_fold(0, |sum, span| Some(sum + span.as_ref()?.len()))?;
    (length <= BATCH_PIECE_LENGTH).then_some(length)
}

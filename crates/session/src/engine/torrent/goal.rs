//! Decides when a torrent stops on its own: once it is complete, has seeded enough, or must be
//! given up.

use std::time::Duration;

use swarm::{DeadEnd, Swarm};

use super::metadata::Metadata;
use super::phase::{Phase, Torrent};
use super::transfer::Transfer;
use crate::config::Goal;
use crate::event::{GiveUp, ratio};
use crate::limits::{BANNED_TIME, LAST_UPLOAD_TIME, UNREACHABLE_TIME};

/// Why a torrent stops on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The torrent is complete, or has seeded enough.
    Done,
    /// The torrent is given up.
    GiveUp(GiveUp),
}

/// Compares a torrent with its goal.
#[derive(Debug)]
pub(super) struct GoalWatch {
    pub(super) goal: Goal,
    /// The torrent's size in bytes.
    pub(super) size: u64,
    started_at: Duration,
    /// When the user was last notified of the completion.
    completed_at: Option<Duration>,
    /// The condition that ends the torrent if it lasts, and since when the condition has held.
    condition: Option<(Condition, Duration)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// The goal's ratio is reached. The last bytes may still be on their way to the peer.
    RatioReached,
    DeadEnd(DeadEnd),
}

impl Torrent {
    /// Returns whether to notify the user of the completion now. If so, notes the time.
    pub(crate) fn take_completion(&mut self, now: Duration) -> bool {
        let complete = self.transfer_mut().is_some_and(Transfer::take_completion);
        if let Some(watch) = self.watch.as_mut().filter(|_| complete) {
            watch.completed_at = Some(now);
        }
        complete
    }

    /// Notes which condition holds, and since when. `may_find` says whether the DHT may still find
    /// peers.
    pub(super) fn note_condition(&mut self, now: Duration, may_find: impl FnOnce() -> bool) {
        let swarm = match &self.phase {
            Phase::Metadata(metadata) => &metadata.swarm,
            Phase::Transfer(transfer) => &transfer.swarm,
            Phase::Opening(_) | Phase::Checking(_) | Phase::Stopping(_) | Phase::Stopped(_) => {
                return;
            }
        };
        let Some(watch) = &mut self.watch else { return };
        let condition = watch.condition_of(swarm, swarm.uploaded() + self.earlier.1, may_find);
        let before = watch.condition.filter(|(before, _)| Some(*before) == condition);
        watch.condition = before.or(condition.map(|condition| (condition, now)));
    }

    /// Returns what ends the torrent now.
    pub(crate) fn ending(&self, now: Duration) -> Option<Ending> {
        self.next_ending().filter(|(at, _)| *at <= now).map(|(_, ending)| ending)
    }

    /// Returns what ends the torrent next if nothing changes, and when. The time may be past.
    pub(super) fn next_ending(&self) -> Option<(Duration, Ending)> {
        let watch = self.watch.as_ref()?;
        let transfer = match &self.phase {
            Phase::Metadata(metadata) => return watch.ending_of_metadata(metadata),
            Phase::Opening(_) | Phase::Checking(_) => return watch.timeout(),
            Phase::Transfer(transfer) => transfer,
            Phase::Stopping(_) | Phase::Stopped(_) => return None,
        };
        if self.add.seed_only && transfer.progress.pieces == 0 && watch.goal.give_up {
            return Some((transfer.last_piece_at, Ending::GiveUp(GiveUp::NothingToSeed)));
        }
        let lasting = watch.condition.map(|(condition, since)| condition.ending(since));
        // If several are due at the same time, the first is the most specific.
        let endings = match watch.completed_at {
            Some(at) => [lasting, watch.seeded_enough(at), None],
            None => [lasting, watch.stalled(transfer.last_piece_at), watch.timeout()],
        };
        endings.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

impl GoalWatch {
    pub(super) fn new(goal: Goal, size: u64) -> Self {
        Self { goal, size, started_at: Duration::ZERO, completed_at: None, condition: None }
    }

    /// Resets the watch, because the torrent starts or starts again.
    pub(super) fn start(&mut self, now: Duration) {
        (self.started_at, self.completed_at, self.condition) = (now, None, None);
    }

    fn condition_of(
        &self,
        swarm: &Swarm,
        uploaded: u64,
        may_find: impl FnOnce() -> bool,
    ) -> Option<Condition> {
        if self.completed_at.is_some() {
            let reached = self.goal.ratio.is_some_and(|limit| ratio(uploaded, self.size) >= limit);
            return reached.then_some(Condition::RatioReached);
        }
        if !self.goal.give_up || swarm.is_complete() {
            return None;
        }
        let dead_end = swarm.dead_end().filter(|_| !may_find());
        dead_end.map(Condition::DeadEnd)
    }

    fn seeded_enough(&self, completed_at: Duration) -> Option<(Duration, Ending)> {
        let at_once = self.goal.stop_when_complete.then_some(Duration::ZERO);
        let time = at_once.or(self.goal.seed_time)?;
        Some((completed_at.saturating_add(time), Ending::Done))
    }

    /// Returns what ends a torrent whose metadata is fetched. One that waits for the user's choice
    /// of files does not end.
    fn ending_of_metadata(&self, metadata: &Metadata) -> Option<(Duration, Ending)> {
        metadata.fetch.as_ref()?;
        let lasting = self.condition.map(|(condition, since)| condition.ending(since));
        let no_metadata = self.goal.metadata_timeout.map(|limit| {
            let at = self.started_at.saturating_add(limit);
            (at, Ending::GiveUp(GiveUp::NoMetadata(limit)))
        });
        let endings = [lasting, no_metadata, self.timeout()];
        endings.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn stalled(&self, last_piece_at: Duration) -> Option<(Duration, Ending)> {
        let limit = self.goal.stall_timeout?;
        Some((last_piece_at.saturating_add(limit), Ending::GiveUp(GiveUp::Stalled(limit))))
    }

    fn timeout(&self) -> Option<(Duration, Ending)> {
        let limit = self.goal.timeout?;
        Some((self.started_at.saturating_add(limit), Ending::GiveUp(GiveUp::TimedOut(limit))))
    }
}

impl Condition {
    /// Returns how the torrent ends if the condition lasts, and when.
    fn ending(self, since: Duration) -> (Duration, Ending) {
        let (limit, ending) = match self {
            Self::RatioReached => (LAST_UPLOAD_TIME, Ending::Done),
            Self::DeadEnd(DeadEnd::AllBanned) => (BANNED_TIME, Ending::GiveUp(GiveUp::AllBanned)),
            Self::DeadEnd(DeadEnd::Unreachable) => {
                (UNREACHABLE_TIME, Ending::GiveUp(GiveUp::Unreachable(UNREACHABLE_TIME)))
            }
        };
        (since + limit, ending)
    }
}

//! When a torrent stops on its own: once it has seeded enough, or once there is a reason to give up.

use std::time::Duration;

use swarm::DeadEnd;

use super::phase::{Phase, Torrent};
use crate::event::{GiveUp, ratio};
use crate::limits::{BANNED_TIME, LAST_UPLOAD_TIME, UNREACHABLE_TIME};

/// What ends a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is complete, or has seeded enough.
    Done,
    /// It is given up.
    GiveUp(GiveUp),
}

/// What ends a torrent if it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    kind: ConditionKind,
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConditionKind {
    /// As much was uploaded as the goal says. The last of it may still be on its way.
    RatioReached,
    DeadEnd(DeadEnd),
}

impl Torrent {
    /// Returns what ends the torrent next if nothing changes, and when. The time may be past.
    pub(super) fn next_goal(&self) -> Option<(Duration, Ending)> {
        let goal = &self.add.goal;
        let timeout = timed(goal.timeout, self.started_at, GiveUp::TimedOut);
        let transfer = match &self.phase {
            Phase::Opening | Phase::Checking(_) => return timeout,
            Phase::Transfer(transfer) => transfer,
            Phase::Stopping(_) | Phase::Stopped(_) => return None,
        };
        if self.add.seed_only && transfer.progress.pieces == 0 {
            let nothing = (transfer.last_piece_at, Ending::GiveUp(GiveUp::NothingToSeed));
            return goal.give_up.then_some(nothing);
        }
        let lasting = transfer.condition.map(Condition::ending);
        let Some(completed_at) = transfer.completed_at else {
            let stalled = timed(goal.stall_timeout, transfer.last_piece_at, GiveUp::Stalled);
            // Of those due at once, the first says most.
            let reasons = [lasting, stalled, timeout].into_iter().flatten();
            return reasons.min_by_key(|(at, _)| *at);
        };
        let at_once = goal.stop_when_complete.then_some(completed_at);
        let later = goal.seed_time.map(|time| completed_at.saturating_add(time));
        let done = at_once.or(later).map(|at| (at, Ending::Done));
        [lasting, done].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Returns what ends the torrent now.
    pub(crate) fn ending(&self, now: Duration) -> Option<Ending> {
        self.next_goal().filter(|(at, _)| *at <= now).map(|(_, ending)| ending)
    }

    /// Notes which condition holds, and since when.
    pub(super) fn note_condition(&mut self, now: Duration) {
        let kind = self.condition();
        let Phase::Transfer(transfer) = &mut self.phase else { return };
        let before = transfer.condition.filter(|before| Some(before.kind) == kind);
        transfer.condition = before.or(kind.map(|kind| Condition { kind, since: now }));
    }

    fn condition(&self) -> Option<ConditionKind> {
        let (goal, Phase::Transfer(transfer)) = (&self.add.goal, &self.phase) else { return None };
        if transfer.completed_at.is_some() {
            let uploaded = transfer.swarm.uploaded() + self.earlier.1;
            let ratio = ratio(uploaded, self.add.metainfo.info().content_size());
            return goal.ratio.filter(|limit| ratio >= *limit).map(|_| ConditionKind::RatioReached);
        }
        transfer.swarm.dead_end().filter(|_| goal.give_up).map(ConditionKind::DeadEnd)
    }
}

impl Condition {
    /// Returns what follows if it lasts, and when.
    fn ending(self) -> (Duration, Ending) {
        let (limit, ending) = match self.kind {
            ConditionKind::RatioReached => (LAST_UPLOAD_TIME, Ending::Done),
            ConditionKind::DeadEnd(DeadEnd::AllBanned) => {
                (BANNED_TIME, Ending::GiveUp(GiveUp::AllBanned))
            }
            ConditionKind::DeadEnd(DeadEnd::Unreachable) => {
                (UNREACHABLE_TIME, Ending::GiveUp(GiveUp::Unreachable(UNREACHABLE_TIME)))
            }
        };
        (self.since + limit, ending)
    }
}

/// Returns when to give up because of a limit the user gave, counted from `start`.
fn timed(
    limit: Option<Duration>,
    start: Duration,
    why: impl FnOnce(Duration) -> GiveUp,
) -> Option<(Duration, Ending)> {
    let limit = limit?;
    Some((start.saturating_add(limit), Ending::GiveUp(why(limit))))
}

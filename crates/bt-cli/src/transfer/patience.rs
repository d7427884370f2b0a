//! How long a torrent goes on: until it has seeded enough, or until there is a reason to give up.

use std::time::{Duration, Instant};

use session::{PhaseKind, TorrentStatus};

use super::tracker_results::TrackerResults;

/// How long a download goes on while every tracker fails and no peer can be reached.
const HOPELESS_TIME: Duration = Duration::from_secs(60);
/// How long a download goes on while every known peer is banned.
const BANNED_TIME: Duration = Duration::from_secs(5);

/// When a torrent is over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Goal {
    /// Whether it goes on when complete.
    pub(crate) seed: bool,
    /// Stop seeding when this many times the torrent's size has been uploaded.
    pub(crate) ratio: Option<f64>,
    /// Stop seeding after this time.
    pub(crate) seed_time: Option<Duration>,
    /// Give up when not complete after this time.
    pub(crate) timeout: Option<Duration>,
    /// Give up after this time without a verified piece.
    pub(crate) stall_timeout: Option<Duration>,
    /// Whether nothing is downloaded. An incomplete torrent is seeded too.
    pub(crate) seed_only: bool,
}

/// Why a download is given up. The durations are the limits that were reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveUp {
    /// Every known peer is banned.
    AllBanned,
    /// No tracker answered and no peer could be reached.
    Hopeless(Duration),
    /// No piece was verified.
    Stalled(Duration),
    /// The download is not complete.
    TimedOut(Duration),
}

/// Decides when a torrent is over.
#[derive(Debug)]
pub(super) struct Patience {
    goal: Goal,
    /// Since when every tracker has failed and no peer could be reached.
    hopeless: Option<Instant>,
    /// Since when every known peer has been banned.
    all_banned: Option<Instant>,
}

impl Patience {
    pub(super) fn new(goal: Goal) -> Self {
        Self { goal, hopeless: None, all_banned: None }
    }

    pub(super) fn goal(&self) -> Goal {
        self.goal
    }

    /// Takes the state of the torrent at `now`. `absent_peers` is the number of peers that could
    /// not be reached or have left.
    pub(super) fn handle_status(
        &mut self,
        now: Instant,
        status: &TorrentStatus,
        trackers: &TrackerResults<'_>,
        absent_peers: usize,
    ) {
        let is_alone = status.phase == PhaseKind::Transfer && status.peers_connected == 0;
        let unreachable = status.peers_known + status.peers_banned <= absent_peers;
        let hopeless = is_alone && unreachable && trackers.all_failed();
        self.hopeless = hopeless.then(|| self.hopeless.unwrap_or(now));
        let banned = status.peers_banned > 0 && status.peers_known == 0;
        let all_banned = is_alone && banned && trackers.all_done();
        self.all_banned = all_banned.then(|| self.all_banned.unwrap_or(now));
    }

    /// Whether a torrent that has seeded for `time`, up to `ratio`, is over.
    pub(super) fn seeded_enough(&self, time: Duration, ratio: f64) -> bool {
        self.goal.seed_time.is_some_and(|limit| time >= limit)
            || self.goal.ratio.is_some_and(|limit| ratio >= limit)
    }

    /// Returns why to give up an incomplete torrent that was added `age` ago.
    pub(super) fn reason_to_give_up(
        &self,
        now: Instant,
        age: Duration,
        status: &TorrentStatus,
    ) -> Option<GiveUp> {
        let lasts = |start: Option<Instant>, limit: Duration| {
            start.is_some_and(|at| now.duration_since(at) >= limit)
        };
        if lasts(self.all_banned, BANNED_TIME) {
            return Some(GiveUp::AllBanned);
        }
        if lasts(self.hopeless, HOPELESS_TIME) {
            return Some(GiveUp::Hopeless(HOPELESS_TIME));
        }
        let stalled = |limit: &Duration| {
            status.phase == PhaseKind::Transfer && status.since_last_piece >= *limit
        };
        if let Some(limit) = self.goal.stall_timeout.filter(stalled) {
            return Some(GiveUp::Stalled(limit));
        }
        self.goal.timeout.filter(|limit| age >= *limit).map(GiveUp::TimedOut)
    }
}

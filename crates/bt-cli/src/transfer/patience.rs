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

#[cfg(test)]
pub(super) mod tests {
    use session::{InfoHashV1, TorrentKey};

    use super::*;

    /// Returns the state of a complete torrent of 100 bytes, without peers and trackers.
    pub(in crate::transfer) fn status() -> TorrentStatus {
        TorrentStatus {
            torrent: TorrentKey(1),
            info_hash: InfoHashV1([1; 20]),
            name: "film".to_owned(),
            phase: PhaseKind::Transfer,
            bytes_done: 100,
            bytes_total: 100,
            pieces_done: 1,
            pieces_total: 1,
            checked: (1, 1),
            downloaded: 0,
            uploaded: 0,
            earlier: (0, 0),
            down_rate: 0,
            up_rate: 0,
            peers_connected: 0,
            peers_known: 0,
            peers_banned: 0,
            seconds_left: None,
            trackers: Vec::new(),
            next_announce: Some(1800),
            since_last_piece: Duration::ZERO,
            events_dropped: 0,
            buffers_peak: 0,
        }
    }

    /// Repeats a state from 1 s to `seconds` after another one. Returns the reason to give up.
    fn reason_after(seconds: u64, first: &TorrentStatus, then: &TorrentStatus) -> Option<GiveUp> {
        let (start, tiers) = (Instant::now(), [vec!["a".to_owned(), "b".to_owned()]]);
        let mut patience = Patience::new(Goal::default());
        for second in 0..=seconds {
            let (now, status) =
                (start + Duration::from_secs(second), if second == 0 { first } else { then });
            patience.handle_status(now, status, &TrackerResults::new(&tiers, status), 1);
        }
        let time = Duration::from_secs(seconds);
        patience.reason_to_give_up(start + time, time, then)
    }

    #[test]
    fn hopeless_state_must_last() {
        let failed = |url: &str| (url.to_owned(), Err("refused".to_owned()));
        let answered = ("b".to_owned(), Ok(()));
        let hopeless =
            TorrentStatus { peers_known: 1, trackers: vec![failed("a"), failed("b")], ..status() };
        let one_silent = TorrentStatus { trackers: vec![failed("a")], ..hopeless.clone() };
        let another_peer = TorrentStatus { peers_known: 2, ..hopeless.clone() };
        let connected = TorrentStatus { peers_connected: 1, ..hopeless.clone() };
        let banned = TorrentStatus {
            peers_known: 0,
            peers_banned: 2,
            trackers: vec![failed("a"), answered],
            ..hopeless.clone()
        };
        for (seconds, first, then, expected) in [
            (59, &hopeless, &hopeless, None),
            (60, &hopeless, &hopeless, Some(GiveUp::Hopeless(HOPELESS_TIME))),
            (60, &connected, &hopeless, None),
            (90, &hopeless, &one_silent, None),
            (90, &hopeless, &another_peer, None),
            (90, &hopeless, &connected, None),
            (4, &banned, &banned, None),
            (5, &banned, &banned, Some(GiveUp::AllBanned)),
            (5, &hopeless, &banned, None),
        ] {
            assert_eq!(reason_after(seconds, first, then), expected, "{seconds} s: {then:?}");
        }
    }
}

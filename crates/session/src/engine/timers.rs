//! When something is due: one time for each torrent, and one for the sweep over all links.

use std::collections::BTreeSet;
use std::time::Duration;

use piece_store::TorrentKey;

use super::torrent::Torrent;
use crate::limits::SWEEP_INTERVAL;

/// The times at which `handle_timeout` is due.
#[derive(Debug)]
pub(super) struct Timers {
    torrents: BTreeSet<(Duration, TorrentKey)>,
    /// When to look over all links for deadlines and memory.
    sweep: Duration,
}

impl Timers {
    pub(super) fn new(now: Duration) -> Self {
        Self { torrents: BTreeSet::new(), sweep: now + SWEEP_INTERVAL }
    }

    /// Moves the torrent's time to `at`.
    pub(super) fn set(&mut self, torrent: &mut Torrent, at: Option<Duration>) {
        if torrent.timer == at {
            return;
        }
        self.clear(torrent);
        torrent.timer = at;
        if let Some(at) = at {
            self.torrents.insert((at, torrent.key));
        }
    }

    /// Takes the torrent out.
    pub(super) fn clear(&mut self, torrent: &mut Torrent) {
        if let Some(at) = torrent.timer.take() {
            self.torrents.remove(&(at, torrent.key));
        }
    }

    /// The next torrent whose time came. Its time stays until it is set anew.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<TorrentKey> {
        let due = self.torrents.first().is_some_and(|(at, _)| *at <= now);
        due.then(|| self.torrents.pop_first()).flatten().map(|(_, torrent)| torrent)
    }

    /// Whether links are to be looked over now; if so, the next time is set.
    pub(super) fn is_sweep_due(&mut self, now: Duration) -> bool {
        let due = self.sweep <= now;
        if due {
            self.sweep = now + SWEEP_INTERVAL;
        }
        due
    }

    pub(super) fn next(&self) -> Option<Duration> {
        let torrent = self.torrents.first().map(|(at, _)| *at);
        Some(torrent.map_or(self.sweep, |at| at.min(self.sweep)))
    }
}

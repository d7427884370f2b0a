//! When each torrent is due.

use std::collections::BTreeSet;
use std::time::Duration;

use piece_store::TorrentKey;

use super::phase::Torrent;

/// The times at which torrents are due, at most one for each.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Duration, TorrentKey)>);

impl Timers {
    /// Moves the torrent's time to its next timeout.
    pub(super) fn set(&mut self, torrent: &mut Torrent) {
        let at = torrent.next_timeout();
        if torrent.timer == at {
            return;
        }
        self.clear(torrent);
        torrent.timer = at;
        self.0.extend(at.map(|at| (at, torrent.key)));
    }

    /// Takes the torrent out.
    pub(super) fn clear(&mut self, torrent: &mut Torrent) {
        if let Some(at) = torrent.timer.take() {
            self.0.remove(&(at, torrent.key));
        }
    }

    /// Takes the next torrent out whose time came.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<TorrentKey> {
        let (at, _) = self.0.first()?;
        if *at > now {
            return None;
        }
        self.0.pop_first().map(|(_, torrent)| torrent)
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }
}

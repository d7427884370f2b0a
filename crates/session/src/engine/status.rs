//! Snapshots of the state of torrents.

use piece_store::TorrentKey;

use super::Engine;
use super::torrent::Torrent;
use crate::event::TorrentStatus;

impl<F> Engine<F> {
    /// The state of every torrent, in the order they were added.
    pub fn status(&self) -> Vec<TorrentStatus> {
        self.torrents.keys().filter_map(|key| self.status_of(key)).collect()
    }

    /// The state of one torrent.
    pub fn status_of(&self, key: TorrentKey) -> Option<TorrentStatus> {
        self.torrents.get(key).map(|torrent| self.complete_status(torrent))
    }

    fn complete_status(&self, torrent: &Torrent) -> TorrentStatus {
        let (spans, messages) = (self.disk.buffers.peak(), self.links.buffered_peak());
        TorrentStatus {
            nodes: self.dht.as_ref().and_then(|dht| dht.node_count()),
            events_dropped: self.events_dropped,
            buffers_peak: (self.config.fixed_memory + spans + messages) as u64,
            ..torrent.status(self.now)
        }
    }
}

//! The keys of links and announces.

use piece_store::TorrentKey;
use swarm::PeerKey;

/// A connection, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey(u64);

impl LinkKey {
    pub(super) fn new(slot: usize, generation: u32) -> Self {
        Self((u64::from(generation) << 32) | slot as u64)
    }

    /// The index of the link in a table. It is used again after the link ended.
    pub fn slot(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    /// The key of the link in the swarm of its torrent.
    pub(super) fn peer(self) -> PeerKey {
        PeerKey(self.0)
    }

    pub(super) fn of_peer(peer: PeerKey) -> Self {
        Self(peer.0)
    }
}

/// An announce of a torrent, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceKey {
    pub(super) torrent: TorrentKey,
    pub(super) number: u64,
}

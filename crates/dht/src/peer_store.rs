//! Peers that others announced to us (BEP 5, "announce_peer"; BEP 33).

mod torrent;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::InfoHashV1;

use crate::bloom::Bloom;
use crate::node_id::OwnIds;
use torrent::TorrentPeers;

/// The most torrents for which peers are stored.
pub const MAX_TORRENTS: usize = 2_000;
/// The most peers that are stored, of all torrents.
pub const MAX_PEERS: usize = 16_384;
/// The most peers of a torrent that are stored, of each family.
pub const PEERS_PER_TORRENT: usize = 500;
/// How long a peer is kept after its last announce.
pub const PEER_LIFETIME: Duration = Duration::from_secs(45 * 60);
/// The most torrents that an IP address (IPv6: a /64) is kept for.
pub const TORRENTS_PER_ADDRESS: usize = 100;

/// The peers, by torrent.
#[derive(Debug, Default)]
pub(crate) struct PeerStore {
    torrents: BTreeMap<InfoHashV1, TorrentPeers>,
    peers: usize,
    /// The torrent that is farthest from the ids with which it was looked for.
    farthest: Option<(OwnIds, InfoHashV1)>,
}

/// Why a peer was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreFull;

impl PeerStore {
    /// Stores a peer, or that it is still there. If there are too many, the torrent farthest from us
    /// is forgotten: other nodes are nearer to it.
    pub(crate) fn announce(
        &mut self,
        now: Duration,
        own: OwnIds,
        (hash, peer, seed): (InfoHashV1, SocketAddr, bool),
    ) -> Result<(), StoreFull> {
        if !self.accepts(own, hash, peer) {
            return Err(StoreFull);
        }
        let is_new = self.torrents.get(&hash).is_none_or(|torrent| !torrent.contains(peer));
        if is_new {
            if self.torrents_of(peer) >= TORRENTS_PER_ADDRESS {
                return Err(StoreFull);
            }
            self.make_room(own, hash);
        }
        self.insert(now, hash, peer, seed);
        Ok(())
    }

    /// Stores a peer for which there is room.
    pub(crate) fn insert(&mut self, now: Duration, hash: InfoHashV1, peer: SocketAddr, seed: bool) {
        let torrent = self.torrents.entry(hash).or_insert_with(|| {
            self.farthest = None;
            TorrentPeers::default()
        });
        if torrent.announce(now, peer, seed) {
            self.peers += 1;
        }
    }

    /// Returns whether an announce of `peer` would be stored, as far as the torrent is concerned.
    /// Otherwise it gets no token.
    pub(crate) fn accepts(&mut self, own: OwnIds, hash: InfoHashV1, peer: SocketAddr) -> bool {
        if let Some(torrent) = self.torrents.get(&hash) {
            let has_room = torrent.len_like(peer) < PEERS_PER_TORRENT;
            return torrent.has_place_of(peer)
                || has_room && (self.peers < MAX_PEERS || self.farthest(own) != Some(hash));
        }
        let is_full = self.torrents.len() == MAX_TORRENTS || self.peers == MAX_PEERS;
        !is_full || self.is_nearer(own, hash)
    }

    fn is_nearer(&mut self, own: OwnIds, hash: InfoHashV1) -> bool {
        let farthest = self.farthest(own).map(|farthest| own.distance(&farthest.into()));
        farthest.is_some_and(|farthest| own.distance(&hash.into()) < farthest)
    }

    fn farthest(&mut self, own: OwnIds) -> Option<InfoHashV1> {
        if let Some((_, hash)) = self.farthest.filter(|(ids, _)| *ids == own) {
            return Some(hash);
        }
        let farthest =
            self.torrents.keys().max_by_key(|hash| own.distance(&(**hash).into())).copied();
        self.farthest = farthest.map(|hash| (own, hash));
        farthest
    }

    fn make_room(&mut self, own: OwnIds, hash: InfoHashV1) {
        let is_known = self.torrents.contains_key(&hash);
        while self.peers >= MAX_PEERS || !is_known && self.torrents.len() >= MAX_TORRENTS {
            let Some(farthest) = self.farthest(own) else { return };
            self.remove(farthest);
        }
    }

    fn remove(&mut self, hash: InfoHashV1) {
        if let Some(torrent) = self.torrents.remove(&hash) {
            self.peers -= torrent.len();
        }
        self.farthest = None;
    }

    fn torrents_of(&self, peer: SocketAddr) -> usize {
        self.torrents.values().filter(|torrent| torrent.has_owner_of(peer)).count()
    }

    /// Appends peers of `hash` to `out`, as elements of a bencoded list, `limit` bytes at most: those of
    /// the asker's family, and local ones only for a local asker. `start` chooses the first of them.
    /// With `noseed`, seeds are left out.
    pub(crate) fn values(
        &self,
        hash: InfoHashV1,
        asker: IpAddr,
        noseed: bool,
        start: u32,
        limit: usize,
        out: &mut Vec<u8>,
    ) {
        if let Some(torrent) = self.torrents.get(&hash) {
            torrent.values(asker, noseed, start as usize, limit, out);
        }
    }

    /// Returns the filters of the seeds and of the other peers, if there are any.
    pub(crate) fn filters(&self, hash: InfoHashV1) -> Option<(Bloom, Bloom)> {
        self.torrents.get(&hash).map(TorrentPeers::filters)
    }

    /// Forgets peers that have not been announced for [`PEER_LIFETIME`].
    pub(crate) fn expire(&mut self, now: Duration) {
        let Some(oldest) = now.checked_sub(PEER_LIFETIME) else { return };
        let mut left = 0;
        self.torrents.retain(|_, torrent| {
            torrent.expire(oldest);
            left += torrent.len();
            torrent.len() > 0
        });
        self.peers = left;
        self.farthest = None;
    }

    pub(crate) fn torrent_count(&self) -> usize {
        self.torrents.len()
    }

    pub(crate) fn peer_count(&self) -> usize {
        self.peers
    }

    pub(crate) fn memory(&self) -> usize {
        let tree = 2 * self.torrents.len() * (size_of::<InfoHashV1>() + size_of::<TorrentPeers>());
        tree + self.torrents.values().map(TorrentPeers::memory).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;

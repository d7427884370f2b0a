//! Peers that others announced to us (BEP 5, "announce_peer"; BEP 33).

mod swarm;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::InfoHashV1;

use crate::bloom::Bloom;
use crate::node_id::OwnIds;
use swarm::Swarm;

/// The most torrents.
pub const MAX_HASHES: usize = 2_000;
/// The most peers of all torrents.
pub const MAX_PEERS: usize = 16_384;
/// The most peers of a torrent, in each family.
pub const MAX_PEERS_EACH: usize = 500;
/// How long a peer is kept after its last announce.
pub const PEER_LIFETIME: Duration = Duration::from_secs(45 * 60);
/// The most torrents that an IP address (IPv6: a /64) is kept for.
pub const HASHES_AN_ADDRESS: usize = 100;

/// The peers, by torrent.
#[derive(Debug, Default)]
pub(crate) struct PeerStore {
    swarms: BTreeMap<InfoHashV1, Swarm>,
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
        let is_new = self.swarms.get(&hash).is_none_or(|swarm| !swarm.contains(peer));
        if is_new {
            if self.hashes_of(peer) >= HASHES_AN_ADDRESS {
                return Err(StoreFull);
            }
            self.make_room(own, hash);
        }
        self.insert(now, hash, peer, seed);
        Ok(())
    }

    /// Stores a peer for which there is room.
    pub(crate) fn insert(&mut self, now: Duration, hash: InfoHashV1, peer: SocketAddr, seed: bool) {
        let swarm = self.swarms.entry(hash).or_insert_with(|| {
            self.farthest = None;
            Swarm::default()
        });
        if swarm.announce(now, peer, seed) {
            self.peers += 1;
        }
    }

    /// Returns whether an announce of `peer` would be stored, as far as the torrent is concerned.
    /// Otherwise it gets no token.
    pub(crate) fn accepts(&mut self, own: OwnIds, hash: InfoHashV1, peer: SocketAddr) -> bool {
        if let Some(swarm) = self.swarms.get(&hash) {
            let has_room = swarm.len_like(peer) < MAX_PEERS_EACH;
            return swarm.has_place_of(peer)
                || has_room && (self.peers < MAX_PEERS || self.farthest(own) != Some(hash));
        }
        let is_full = self.swarms.len() == MAX_HASHES || self.peers == MAX_PEERS;
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
            self.swarms.keys().max_by_key(|hash| own.distance(&(**hash).into())).copied();
        self.farthest = farthest.map(|hash| (own, hash));
        farthest
    }

    fn make_room(&mut self, own: OwnIds, hash: InfoHashV1) {
        let is_known = self.swarms.contains_key(&hash);
        while self.peers >= MAX_PEERS || !is_known && self.swarms.len() >= MAX_HASHES {
            let Some(farthest) = self.farthest(own) else { return };
            self.remove(farthest);
        }
    }

    fn remove(&mut self, hash: InfoHashV1) {
        if let Some(swarm) = self.swarms.remove(&hash) {
            self.peers -= swarm.len();
        }
        self.farthest = None;
    }

    fn hashes_of(&self, peer: SocketAddr) -> usize {
        self.swarms.values().filter(|swarm| swarm.has_owner_of(peer)).count()
    }

    /// Appends peers of `hash` of the asker's family, local ones only to a local asker, as elements of a bencoded list, `limit` bytes
    /// at most, from a position on that `start` chooses. With `noseed`, seeds are left out.
    pub(crate) fn values(
        &self,
        hash: InfoHashV1,
        asker: IpAddr,
        noseed: bool,
        start: u32,
        limit: usize,
        out: &mut Vec<u8>,
    ) {
        if let Some(swarm) = self.swarms.get(&hash) {
            swarm.values(asker, noseed, start as usize, limit, out);
        }
    }

    /// Returns the filters of the seeds and of the other peers, if there are any.
    pub(crate) fn filters(&self, hash: InfoHashV1) -> Option<(Bloom, Bloom)> {
        self.swarms.get(&hash).map(Swarm::filters)
    }

    /// Forgets peers that have not been announced for [`PEER_LIFETIME`].
    pub(crate) fn expire(&mut self, now: Duration) {
        let Some(oldest) = now.checked_sub(PEER_LIFETIME) else { return };
        let mut left = 0;
        self.swarms.retain(|_, swarm| {
            swarm.expire(oldest);
            left += swarm.len();
            swarm.len() > 0
        });
        self.peers = left;
        self.farthest = None;
    }

    pub(crate) fn hash_count(&self) -> usize {
        self.swarms.len()
    }

    pub(crate) fn peer_count(&self) -> usize {
        self.peers
    }

    pub(crate) fn memory(&self) -> usize {
        let tree = 2 * self.swarms.len() * (size_of::<InfoHashV1>() + size_of::<Swarm>());
        tree + self.swarms.values().map(Swarm::memory).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;

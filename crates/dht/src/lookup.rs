//! What the caller, or the node itself, looks for: a walk in each family, and what they found.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::InfoHashV1;

use crate::address::host;
use crate::bloom::{BLOOM_LENGTH, Bloom};
use crate::message::{Method, Want};
use crate::table::K;
use crate::walk::Walk;
use crate::{Announce, Family, Stats};

/// The most peers that one lookup reports.
pub const MAX_LOOKUP_PEERS: usize = 2_000;

/// The most of them that one node names.
const PEERS_PER_INFORMANT: usize = 50;

/// The most peers in a node's filter that is believed. No node stores that many, and a single full
/// filter would hide all others.
const MAX_FILTER_PEERS: f64 = 6_000.0;

/// How long a lookup waits for the first node to become known.
const FIRST_NODE_WAIT: Duration = Duration::from_secs(15);

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupKind {
    /// Peers of a torrent.
    Peers { hash: InfoHashV1, announce: Announce },
    /// The number of peers of a torrent.
    Scrape { hash: InfoHashV1 },
    /// The nodes closest to the target, for the caller.
    Nodes,
    /// An item.
    #[cfg(feature = "items")]
    Get,
    /// Where to put an item.
    #[cfg(feature = "items")]
    Put,
    /// The nodes closest to us, to join.
    Join,
    /// A few nodes on the way to a target, to fill the routing table.
    Refresh,
}

impl LookupKind {
    /// Whether the node looks for it without being asked to.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Join | Self::Refresh)
    }

    /// Whether an item is looked for or put.
    pub(crate) fn is_item(&self) -> bool {
        #[cfg(feature = "items")]
        if matches!(self, Self::Get | Self::Put) {
            return true;
        }
        false
    }

    /// Whether something is stored at the end.
    pub(crate) fn stores(&self) -> bool {
        #[cfg(feature = "items")]
        if *self == Self::Put {
            return true;
        }
        matches!(self, Self::Peers { announce: Announce::Port { .. }, .. })
    }
}

/// A lookup.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) kind: LookupKind,
    pub(crate) started: Duration,
    /// By family; `None` where we have no socket.
    pub(crate) walks: [Option<Walk>; 2],
    pub(crate) stats: Stats,
    /// By family, whether it stores something and our id has changed since it started: its tokens are
    /// bound to the former one.
    pub(crate) has_former_id: [bool; 2],
    /// Digests of the peers that were reported, in order.
    seen: Vec<u64>,
    /// The seeds and the other peers that nodes know of, for a scrape.
    filters: Option<Box<(Bloom, Bloom)>>,
    /// The item that is looked for or put.
    #[cfg(feature = "items")]
    pub(crate) item: Option<Box<crate::items::ItemLookup>>,
}

impl Lookup {
    pub(crate) fn new(now: Duration, kind: LookupKind, walks: [Option<Walk>; 2]) -> Self {
        let filters = matches!(kind, LookupKind::Scrape { .. }).then(Box::default);
        Self {
            kind,
            started: now,
            walks,
            stats: Stats::default(),
            has_former_id: [false; 2],
            seen: Vec::new(),
            filters,
            #[cfg(feature = "items")]
            item: None,
        }
    }

    /// Returns the query that is sent to the nodes of `family`.
    pub(crate) fn method(&self, family: Family, want: Want) -> Option<Method<'static>> {
        let walk = self.walks[family.index()].as_ref()?;
        Some(match self.kind {
            LookupKind::Peers { hash, announce } => {
                // A seed needs no other seeds.
                let noseed = matches!(announce, Announce::Port { seed: true, .. });
                Method::GetPeers { info_hash: hash, want, noseed, scrape: false }
            }
            LookupKind::Scrape { hash } => {
                Method::GetPeers { info_hash: hash, want, noseed: false, scrape: true }
            }
            #[cfg(feature = "items")]
            LookupKind::Get | LookupKind::Put => {
                Method::Get { target: walk.target(), want, seq: None }
            }
            LookupKind::Nodes | LookupKind::Join | LookupKind::Refresh => {
                Method::FindNode { target: walk.target(), want }
            }
        })
    }

    /// Returns those of `peers` at an IP address, or a local address and port, that was not returned
    /// before; `most` at most. `secret` makes it impossible to choose a peer that is taken for another.
    pub(crate) fn take_new(
        &mut self,
        secret: u64,
        most: usize,
        peers: impl Iterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let mut new = Vec::new();
        for peer in peers {
            if new.len() == most {
                break;
            }
            let mut hasher = DefaultHasher::new();
            (secret, host(peer)).hash(&mut hasher);
            let digest = hasher.finish();
            if self.seen.len() < MAX_LOOKUP_PEERS
                && let Err(at) = self.seen.binary_search(&digest)
            {
                self.seen.insert(at, digest);
                new.push(peer);
            }
        }
        new
    }

    /// Returns those of `peers` that a node named and that are new, without the one at `own`, which is
    /// what we announce.
    pub(crate) fn take_named(
        &mut self,
        secret: u64,
        own: Option<IpAddr>,
        peers: impl Iterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let announced = match self.kind {
            LookupKind::Peers { announce: Announce::Port { port, .. }, .. } => Some(port),
            _ => None,
        };
        let is_own = |peer: &SocketAddr| own == Some(peer.ip()) && announced == Some(peer.port());
        self.take_new(secret, PEERS_PER_INFORMANT, peers.filter(|peer| !is_own(peer)))
    }

    /// Adds the filters of a reply, if they can be true.
    pub(crate) fn merge_filters(&mut self, seeds: &[u8; BLOOM_LENGTH], peers: &[u8; BLOOM_LENGTH]) {
        if let Some((all_seeds, all_peers)) = self.filters.as_deref_mut() {
            for (all, filter) in [(all_seeds, seeds), (all_peers, peers)] {
                let mut one = Bloom::default();
                one.merge(filter);
                if one.estimate() <= MAX_FILTER_PEERS {
                    all.merge(filter);
                }
            }
        }
    }

    /// Counts a peer that a node without filters named (BEP 33, "Handling legacy responses").
    pub(crate) fn count_peer(&mut self, peer: SocketAddr) {
        if let Some(filters) = &mut self.filters {
            filters.1.insert(peer.ip());
        }
    }

    /// Returns the estimated numbers of seeds and of other peers.
    pub(crate) fn counts(&self) -> Option<(u32, u32)> {
        let (seeds, peers) = self.filters.as_deref()?;
        Some((seeds.estimate().round() as u32, peers.estimate().round() as u32))
    }

    /// Whether it has found enough before it is at its target.
    pub(crate) fn is_satisfied(&self) -> bool {
        #[cfg(feature = "items")]
        if self.item.as_ref().is_some_and(|item| item.is_final()) {
            return true;
        }
        self.kind == LookupKind::Refresh && self.stats.answered as usize >= K
    }

    /// When it gives up waiting for the first node to become known.
    pub(crate) fn wakes_at(&self) -> Duration {
        self.started + FIRST_NODE_WAIT
    }

    pub(crate) fn memory(&self) -> usize {
        let walks = self.walks.iter().flatten().map(Walk::memory).sum::<usize>();
        let filters = self.filters.as_ref().map_or(0, |_| 2 * BLOOM_LENGTH);
        #[cfg(feature = "items")]
        let walks = walks + self.item.as_ref().map_or(0, |item| item.memory());
        size_of::<Self>() + walks + self.seen.capacity() * size_of::<u64>() + filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn lookup(kind: LookupKind) -> Lookup {
        let walk = Walk::new(NodeId([1; 20]), kind.stores());
        Lookup::new(Duration::ZERO, kind, [Some(walk), None])
    }

    #[test]
    fn peers_are_reported_once_and_limited() {
        let hash = InfoHashV1([1; 20]);
        let mut lookup = lookup(LookupKind::Peers { hash, announce: Announce::No });
        let peer = |number: u32| {
            SocketAddr::from((std::net::Ipv4Addr::from_bits(0x2d00_0000 + number), 6881))
        };
        let mut take = |peers: Vec<SocketAddr>| lookup.take_named(1, None, peers.into_iter());
        assert_eq!(take(vec![peer(1), peer(1), peer(2)]).len(), 2);
        assert_eq!(take(vec![peer(2), peer(3)]), [peer(3)]);
        let mut other_port = peer(3);
        other_port.set_port(1);
        assert_eq!(take(vec![other_port]), []);
        assert_eq!(take((0..9999).map(peer).collect()).len(), PEERS_PER_INFORMANT);
        let all = lookup.take_new(1, usize::MAX, (0..9999).map(peer)).len();
        assert_eq!(all, MAX_LOOKUP_PEERS - 3 - PEERS_PER_INFORMANT);
        assert!(lookup.memory() <= 64 * 1024, "{}", lookup.memory());
    }

    #[test]
    fn scrape_counts_without_filters_too() {
        let mut lookup = lookup(LookupKind::Scrape { hash: InfoHashV1([1; 20]) });
        let mut seeds = Bloom::default();
        (0..20).for_each(|last| seeds.insert([45, 0, 0, last].into()));
        lookup.merge_filters(seeds.as_bytes(), &[0; BLOOM_LENGTH]);
        lookup.merge_filters(seeds.as_bytes(), &[0xff; BLOOM_LENGTH]);
        (0..5).for_each(|port| lookup.count_peer(SocketAddr::from(([45, 1, 1, 1], port))));
        assert_eq!(lookup.counts(), Some((20, 1)));
    }
}

//! The peers of one torrent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bt_types::compact;

use crate::address::is_local;
use crate::bloom::Bloom;
use crate::message::push_value;

/// The most peers of a reply: IPv4, IPv6.
const MAX_VALUES: usize = 50;
const MAX_VALUES_V6: usize = 20;
/// The most peers of an IPv6 /64, which one host can have for itself.
const PEERS_PER_NET: usize = 4;
/// By how many peers a list grows. Doubling would leave half of it unused.
const GROWTH: usize = 4;

/// A peer: 12 bytes for IPv4, 24 for IPv6.
#[derive(Debug, Clone, Copy)]
struct Peer<const N: usize> {
    ip: [u8; N],
    port: u16,
    seed: bool,
    /// When it was last announced, in seconds.
    announced: u32,
}

/// The peers of one torrent. An IP address has one entry (BEP 33), a local one an entry for each
/// port.
#[derive(Debug, Default)]
pub(super) struct TorrentPeers {
    v4: Vec<Peer<4>>,
    v6: Vec<Peer<16>>,
}

impl TorrentPeers {
    /// Stores the peer; returns whether it is new.
    pub(super) fn announce(&mut self, now: Duration, peer: SocketAddr, seed: bool) -> bool {
        let (port, announced) = (peer.port(), now.as_secs() as u32);
        match peer.ip() {
            IpAddr::V4(ip) => put(&mut self.v4, Peer { ip: ip.octets(), port, seed, announced }),
            IpAddr::V6(ip) => {
                let peer = Peer { ip: ip.octets(), port, seed, announced };
                match self.replaceable(peer) {
                    Some(at) => {
                        self.v6[at] = peer;
                        false
                    }
                    None => put(&mut self.v6, peer),
                }
            }
        }
    }

    /// Returns the oldest peer of the /64 of a new one, if there are [`PEERS_PER_NET`].
    fn replaceable(&self, peer: Peer<16>) -> Option<usize> {
        if is_local(peer.address().ip()) || position(&self.v6, peer.ip, peer.port).is_some() {
            return None;
        }
        let like = || (0..self.v6.len()).filter(|at| self.v6[*at].ip[..8] == peer.ip[..8]);
        let is_full = like().count() >= PEERS_PER_NET;
        like().min_by_key(|at| self.v6[*at].announced).filter(|_| is_full)
    }

    /// Whether the peer, if it is announced, takes the place of another, or its own.
    pub(super) fn has_place_of(&self, peer: SocketAddr) -> bool {
        let IpAddr::V6(ip) = peer.ip() else { return self.contains(peer) };
        let new = Peer { ip: ip.octets(), port: peer.port(), seed: false, announced: 0 };
        self.contains(peer) || self.replaceable(new).is_some()
    }

    /// Returns how many peers of the family of `peer` there are.
    pub(super) fn len_like(&self, peer: SocketAddr) -> usize {
        if peer.is_ipv4() { self.v4.len() } else { self.v6.len() }
    }

    pub(super) fn contains(&self, peer: SocketAddr) -> bool {
        match peer.ip() {
            IpAddr::V4(ip) => position(&self.v4, ip.octets(), peer.port()).is_some(),
            IpAddr::V6(ip) => position(&self.v6, ip.octets(), peer.port()).is_some(),
        }
    }

    /// Whether a peer of whoever owns the address of `peer` is here: the IP address, or for IPv6
    /// the /64.
    pub(super) fn has_owner_of(&self, peer: SocketAddr) -> bool {
        match peer.ip() {
            IpAddr::V4(_) => self.contains(peer),
            IpAddr::V6(ip) if is_local(ip.into()) => self.contains(peer),
            IpAddr::V6(ip) => self.v6.iter().any(|other| other.ip[..8] == ip.octets()[..8]),
        }
    }

    pub(super) fn values(
        &self,
        asker: IpAddr,
        noseed: bool,
        start: usize,
        limit: usize,
        out: &mut Vec<u8>,
    ) {
        let local = is_local(asker);
        if asker.is_ipv4() {
            let most = MAX_VALUES.min(limit / (2 + compact::V4_LENGTH));
            push_some(&self.v4, (noseed, local), start, most, out);
        } else {
            let most = MAX_VALUES_V6.min(limit / (3 + compact::V6_LENGTH));
            push_some(&self.v6, (noseed, local), start, most, out);
        }
    }

    pub(super) fn filters(&self) -> (Bloom, Bloom) {
        let (mut seeds, mut peers) = (Bloom::default(), Bloom::default());
        let v4 = self.v4.iter().map(|peer| (peer.seed, peer.address().ip()));
        let v6 = self.v6.iter().map(|peer| (peer.seed, peer.address().ip()));
        for (seed, ip) in v4.chain(v6) {
            if seed { &mut seeds } else { &mut peers }.insert(ip);
        }
        (seeds, peers)
    }

    pub(super) fn expire(&mut self, oldest: Duration) {
        let oldest = oldest.as_secs() as u32;
        self.v4.retain(|peer| peer.announced > oldest);
        self.v6.retain(|peer| peer.announced > oldest);
        self.v4.shrink_to(self.v4.len() + GROWTH);
        self.v6.shrink_to(self.v6.len() + GROWTH);
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.v4.capacity() * size_of::<Peer<4>>() + self.v6.capacity() * size_of::<Peer<16>>()
    }
}

trait Address {
    fn address(&self) -> SocketAddr;
}

impl Address for Peer<4> {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from(self.ip), self.port))
    }
}

impl Address for Peer<16> {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv6Addr::from(self.ip), self.port))
    }
}

fn position<const N: usize>(peers: &[Peer<N>], ip: [u8; N], port: u16) -> Option<usize>
where
    Peer<N>: Address,
{
    let is_it =
        |peer: &Peer<N>| peer.ip == ip && (peer.port == port || !is_local(peer.address().ip()));
    peers.iter().position(is_it)
}

fn put<const N: usize>(peers: &mut Vec<Peer<N>>, peer: Peer<N>) -> bool
where
    Peer<N>: Address,
{
    if let Some(at) = position(peers, peer.ip, peer.port) {
        peers[at] = peer;
        return false;
    }
    peers.reserve_exact(if peers.len() == peers.capacity() { GROWTH } else { 0 });
    peers.push(peer);
    true
}

fn push_some<const N: usize>(
    peers: &[Peer<N>],
    (noseed, local): (bool, bool),
    start: usize,
    most: usize,
    out: &mut Vec<u8>,
) where
    Peer<N>: Address,
{
    let (before, after) = peers.split_at(start.checked_rem(peers.len()).unwrap_or(0));
    let wanted =
        |peer: &&Peer<N>| !(noseed && peer.seed) && (local || !is_local(peer.address().ip()));
    let wanted = after.iter().chain(before).filter(wanted);
    wanted.take(most).for_each(|peer| push_value(peer.address(), out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_small() {
        assert_eq!((size_of::<Peer<4>>(), size_of::<Peer<16>>()), (12, 24));
    }
}

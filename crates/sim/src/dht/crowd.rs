//! Modelled nodes, for networks that are too large or too long-lived for real ones: each knows
//! everybody close to any target, also some that have gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::dht::message::{Body, Message, Method, Want};
use ::dht::{InfoHashV1, NodeId};

use super::hostile::{self, Sent};
use crate::rng::Rng;

/// How long a node that has gone is still named.
const NAMED_AFTER: Duration = Duration::from_secs(15 * 60);
/// How many nodes are named.
const K: usize = 8;
/// How many nodes on either side of a target are compared.
const NEIGHBOURS: usize = 32;

/// A modelled network in which nodes come and go.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Half of the nodes live longer.
    median_life: Duration,
    /// Those that live, and those that are still named.
    by_id: BTreeMap<NodeId, SocketAddr>,
    live: BTreeMap<IpAddr, NodeId>,
    /// When nodes go, and when they are no longer named.
    ends: BTreeSet<(Duration, IpAddr, NodeId)>,
}

impl Crowd {
    pub(super) fn new(now: Duration, count: usize, median_life: Duration, rng: &mut Rng) -> Self {
        let (by_id, live, ends) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut crowd = Self { median_life, by_id, live, ends };
        (0..count).for_each(|_| crowd.add(now, rng));
        crowd
    }

    fn add(&mut self, now: Duration, rng: &mut Rng) {
        let ip = loop {
            let ip = IpAddr::from(Ipv4Addr::from_bits(rng.within(1 << 24..200 << 24) as u32));
            if bt_types::is_public(ip) && !self.live.contains_key(&ip) {
                break ip;
            }
        };
        let id = NodeId::for_address(ip, rng.source());
        // Exponential, from a number that is never 0.
        let lives = -(1.0 - rng.fraction()).log2() * self.median_life.as_secs_f64();
        self.by_id.insert(id, (ip, 6881).into());
        self.live.insert(ip, id);
        self.ends.insert((now + Duration::from_secs_f64(lives), ip, id));
    }

    /// Lets nodes go, and others come in their places.
    pub(super) fn advance(&mut self, now: Duration, rng: &mut Rng) {
        while let Some((time, ip, id)) = self.ends.first().copied().filter(|end| end.0 <= now) {
            self.ends.pop_first();
            if self.live.get(&ip) == Some(&id) {
                self.live.remove(&ip);
                self.ends.insert((time + NAMED_AFTER, ip, id));
                self.add(now, rng);
            } else {
                self.by_id.remove(&id);
            }
        }
    }

    pub(super) fn is_live(&self, address: SocketAddr) -> bool {
        self.live.contains_key(&address.ip())
    }

    /// Returns a node that lives.
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<(NodeId, SocketAddr)> {
        let mut id = NodeId([0; 20]);
        rng.fill(&mut id.0);
        let mut from = self.by_id.range(id..).chain(&self.by_id);
        from.find(|(_, address)| self.is_live(**address)).map(|(id, address)| (*id, *address))
    }

    /// Returns what a node sends that receives a datagram: an answer, or an announce with the token
    /// that it got.
    pub(super) fn receive(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        let Some(id) = self.live.get(&to.ip()) else { return Vec::new() };
        let Ok(message) = Message::decode(bytes) else { return Vec::new() };
        let bytes = match message.body {
            Body::Query(query) => {
                let named = match query.method {
                    Method::FindNode { target, .. } | Method::Get { target, .. } => {
                        self.closest(&target)
                    }
                    Method::GetPeers { info_hash, .. } => self.closest(&info_hash.into()),
                    _ => Vec::new(),
                };
                hostile::reply(message.transaction, *id, from, &named)
            }
            Body::Reply(reply) => {
                let hash = message.transaction.try_into().map(InfoHashV1);
                let (Ok(hash), Some(token)) = (hash, reply.token) else { return Vec::new() };
                hostile::announce(*id, hash, token)
            }
            _ => return Vec::new(),
        };
        vec![(to, from, bytes)]
    }

    fn closest(&self, target: &NodeId) -> Vec<(NodeId, SocketAddr)> {
        let after = self.by_id.range(*target..).take(NEIGHBOURS);
        let before = self.by_id.range(..*target).rev().take(NEIGHBOURS);
        let mut near: Vec<_> = after.chain(before).map(|(id, at)| (*id, *at)).collect();
        near.sort_by_key(|(id, _)| target.distance(id));
        near.truncate(K);
        near
    }

    /// Returns a query of a node that lives: mostly for the peers of a torrent.
    pub(super) fn ask(&self, to: SocketAddr, rng: &mut Rng) -> Option<Sent> {
        let (id, from) = self.draw(rng)?;
        let mut hash = InfoHashV1([0; 20]);
        rng.fill(&mut hash.0);
        let want = Want::default();
        let method = match rng.below(4) {
            0 => Method::FindNode { target: hash.into(), want },
            _ => Method::GetPeers { info_hash: hash, want, noseed: false, scrape: false },
        };
        // The transaction tells which torrent the token is for.
        Some((from, to, hostile::query(&hash.0, id, method)))
    }
}

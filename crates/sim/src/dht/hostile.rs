//! Nodes that work against the others.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ::dht::message::{Body, Message, Method, Nodes, Query, Reply, Want};
use ::dht::{Family, InfoHashV1, NodeId};

use crate::rng::Rng;

/// A datagram that a hostile node sends: from where, where to, its bytes.
pub(super) type Sent = (SocketAddr, SocketAddr, Vec<u8>);

/// Tokens that are kept to be used when they are too old.
const MAX_KEPT: usize = 64;
/// When a token is surely too old.
const OLD: Duration = Duration::from_secs(11 * 60);

/// What a hostile node does.
#[derive(Debug)]
pub(super) enum Manner {
    /// Names the others of its kind, and knows no peer.
    Sybil(Rc<Vec<(NodeId, SocketAddr)>>),
    /// Names nodes close to the target: where nobody is, or where victims are.
    Polluter { victims: Vec<SocketAddr> },
    /// Says that we are at another address.
    Voter(SocketAddr),
    /// Answers with another id each time.
    Shifter,
    /// Stores as much as it can, and abuses tokens.
    Storer(Store),
}

/// What a storer is about to do.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// The torrents for which tokens were asked, by the number in the transaction.
    asked: Vec<InfoHashV1>,
    kept: VecDeque<(Duration, SocketAddr, InfoHashV1, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) struct Hostile {
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    pub(super) manner: Manner,
}

impl Hostile {
    pub(super) fn new(id: NodeId, address: SocketAddr, manner: Manner) -> Self {
        Self { id, address, manner }
    }

    /// Returns a query that makes it known.
    pub(super) fn introduce(&self, to: SocketAddr) -> Sent {
        (self.address, to, query(b"hi", self.id, Method::Ping))
    }

    /// Returns queries for tokens of torrents that do not exist.
    pub(super) fn store(&mut self, to: SocketAddr, count: usize, rng: &mut Rng) -> Vec<Sent> {
        let Manner::Storer(store) = &mut self.manner else { return Vec::new() };
        let ask = |_| {
            let mut hash = InfoHashV1([0; 20]);
            rng.fill(&mut hash.0);
            let transaction = (store.asked.len() as u32).to_be_bytes();
            store.asked.push(hash);
            let method = Method::GetPeers {
                info_hash: hash,
                want: Want::default(),
                noseed: false,
                scrape: false,
            };
            (self.address, to, query(&transaction, self.id, method))
        };
        (0..count).map(ask).collect()
    }

    /// Returns what it sends when it receives a datagram.
    pub(super) fn receive(
        &mut self,
        now: Duration,
        (from, to): (SocketAddr, SocketAddr),
        bytes: &[u8],
        rng: &mut Rng,
    ) -> Vec<Sent> {
        let Ok(message) = Message::decode(bytes) else { return Vec::new() };
        match message.body {
            Body::Query(query) => {
                let bytes = self.answer(from, message.transaction, &query, rng);
                vec![(to, from, bytes)]
            }
            Body::Reply(reply) => self.use_token(now, from, message.transaction, &reply, rng),
            _ => Vec::new(),
        }
    }

    fn answer(&self, from: SocketAddr, tid: &[u8], query: &Query<'_>, rng: &mut Rng) -> Vec<u8> {
        let target = match query.method {
            Method::FindNode { target, .. } | Method::Get { target, .. } => target,
            Method::GetPeers { info_hash, .. } => info_hash.into(),
            _ => return reply(tid, self.id, from, &[]),
        };
        match &self.manner {
            Manner::Sybil(ring) => {
                let start = rng.below(ring.len() as u64) as usize;
                let named: Vec<_> = ring.iter().cycle().skip(start).take(8).copied().collect();
                reply(tid, self.id, from, &named)
            }
            Manner::Polluter { victims } => {
                let named: Vec<_> = (0..8).map(|_| polluted(&target, victims, rng)).collect();
                reply(tid, self.id, from, &named)
            }
            Manner::Voter(claimed) => reply(tid, self.id, *claimed, &[]),
            Manner::Shifter => {
                let mut id = NodeId([0; 20]);
                rng.fill(&mut id.0);
                reply(tid, id, from, &[])
            }
            Manner::Storer(_) => reply(tid, self.id, from, &[]),
        }
    }

    /// Uses a token as it should be used, or in a way that must be refused.
    fn use_token(
        &mut self,
        now: Duration,
        to: SocketAddr,
        transaction: &[u8],
        reply: &Reply<'_>,
        rng: &mut Rng,
    ) -> Vec<Sent> {
        let Manner::Storer(store) = &mut self.manner else { return Vec::new() };
        let number = transaction.try_into().map(u32::from_be_bytes);
        let hash = number.ok().and_then(|number| store.asked.get(number as usize).copied());
        let (Some(hash), Some(token)) = (hash, reply.token) else { return Vec::new() };
        let mut sent = Vec::new();
        if store.kept.front().is_some_and(|(time, ..)| *time + OLD <= now)
            && let Some((_, to, hash, token)) = store.kept.pop_front()
        {
            sent.push((self.address, to, announce(self.id, hash, &token)));
        }
        let (mut from, mut id, mut named, mut token) =
            (self.address, self.id, hash, token.to_vec());
        match rng.below(10) {
            0 => from = elsewhere(from),
            1 => from.set_port(from.port() ^ 1),
            2 => id.0[19] ^= 1,
            3 => named.0[19] ^= 1,
            4 => token[0] ^= 1,
            5 if store.kept.len() < MAX_KEPT => {
                store.kept.push_back((now, to, hash, token));
                return sent;
            }
            _ => {}
        }
        sent.push((from, to, announce(id, named, &token)));
        sent
    }
}

/// Returns the next address.
fn elsewhere(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (Ipv4Addr::from_bits(v4.ip().to_bits() ^ 1), address.port()).into(),
        SocketAddr::V6(_) => address,
    }
}

/// Returns a node close to `target` that is none.
fn polluted(target: &NodeId, victims: &[SocketAddr], rng: &mut Rng) -> (NodeId, SocketAddr) {
    let mut id = *target;
    rng.fill(&mut id.0[10..]);
    let victim = rng.pick(victims).copied().filter(|_| rng.chance(30));
    (id, victim.unwrap_or_else(|| nowhere(rng)))
}

/// Returns an address where nobody is.
pub(super) fn nowhere(rng: &mut Rng) -> SocketAddr {
    let ip = Ipv4Addr::from_bits((170 << 24) | rng.below(8 << 24) as u32);
    (ip, 6881).into()
}

pub(super) fn announce(id: NodeId, hash: InfoHashV1, token: &[u8]) -> Vec<u8> {
    let method = Method::AnnouncePeer { info_hash: hash, port: Some(7777), seed: false, token };
    query(b"an", id, method)
}

pub(super) fn query(transaction: &[u8], id: NodeId, method: Method<'_>) -> Vec<u8> {
    encode(transaction, Body::Query(Query { id, method }), None)
}

/// Returns a reply with IPv4 nodes that says that the asker is at `seen`.
pub(super) fn reply(
    transaction: &[u8],
    id: NodeId,
    seen: SocketAddr,
    named: &[(NodeId, SocketAddr)],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, address) in named {
        bytes.extend(id.0);
        bt_types::compact::encode(*address, &mut bytes);
    }
    let reply =
        Reply { nodes: Nodes::new(Family::V4, &bytes), token: Some(b"token"), ..Reply::new(id) };
    encode(transaction, Body::Reply(reply), Some(seen))
}

pub(super) fn encode(transaction: &[u8], body: Body<'_>, ip: Option<SocketAddr>) -> Vec<u8> {
    let mut out = Vec::new();
    Message { ip, ..Message::new(transaction, body) }.encode(&mut out);
    out
}

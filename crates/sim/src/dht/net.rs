//! The network: datagrams under way, a clock, honest and hostile nodes, and the rules that are
//! checked after each event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use ::dht::message::{Body, Message, Method, Nodes, Want};
use ::dht::{Config, Dht, LookupKey, NodeId};

use super::crowd::Crowd;
use super::hostile::{self, Hostile, Sent};
use super::node::{Found, Nat, Node};
use super::watch::MAX_HASHES;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::watch::Broken;

/// How often the sizes of tables are checked.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// The longest that a lookup may take.
const MAX_LOOKUP_TIME: Duration = Duration::from_secs(120);
/// The most events without the clock advancing.
const MAX_AT_ONCE: u32 = 100_000;
/// The most lookups that run, and that wait; the most queries under way.
const MAX_LOOKUPS: usize = 16;
const MAX_QUEUED_LOOKUPS: usize = 1_024;
const MAX_CALLS: usize = 512;
const MAX_PEERS: usize = 16_384;
const MAX_MEMORY: usize = 4 << 20;
/// The first buckets have 128, 64, 32 and 16 nodes, 46 further ones have 8 each.
const MAX_TABLE: usize = 240 + 46 * 8;
/// The most queries of a lookup in one family.
const MAX_ASKED: u32 = 200;

/// What happens to datagrams.
#[derive(Debug, Clone)]
pub(super) struct Quality {
    /// Of 1000 datagrams, how many are lost, and how many arrive twice.
    pub(super) loss: u64,
    pub(super) twice: u64,
    /// How long they take, in milliseconds.
    pub(super) delay: Range<u64>,
}

/// Forged queries, and some answers, to one node.
#[derive(Debug, Clone)]
pub(super) struct Flood {
    pub(super) to: usize,
    /// In whose name; `None` for anybody's.
    pub(super) from: Option<SocketAddr>,
    pub(super) per_second: u32,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Node>,
    /// How many were ever started.
    started: usize,
    by_ip: BTreeMap<IpAddr, usize>,
    pub(super) hostiles: Vec<Hostile>,
    hostile_ips: BTreeMap<IpAddr, usize>,
    /// Modelled nodes.
    pub(super) crowd: Option<Crowd>,
    pub(super) flood: Option<Flood>,
    flooded: Duration,
    queue: BTreeMap<(Duration, u64), Datagram>,
    timers: BTreeSet<(Duration, usize)>,
    next_check: Duration,
    at_once: u32,
    pub(super) rng: Rng,
    next_datagram: u64,
    pub(super) quality: Quality,
    /// Whether nobody has a network.
    pub(super) is_down: bool,
    /// The family in which nothing arrives: 0 for IPv4, 1 for IPv6.
    pub(super) lost_family: Option<usize>,
    /// Of the nodes named in replies, how many could not be reached by others, and all.
    pub(super) named: (u64, u64),
    pub(super) trace: Trace,
    /// Datagrams that could not be sent: by whom, to whom.
    failed: Vec<(usize, SocketAddr)>,
    broken: Option<Broken>,
}

impl Net {
    pub(super) fn new(rng: Rng, quality: Quality, trace: Trace) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: Vec::new(),
            started: 0,
            by_ip: BTreeMap::new(),
            hostiles: Vec::new(),
            hostile_ips: BTreeMap::new(),
            crowd: None,
            flood: None,
            flooded: Duration::ZERO,
            queue: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_check: CHECK_EVERY,
            at_once: 0,
            rng,
            next_datagram: 0,
            quality,
            is_down: false,
            lost_family: None,
            named: (0, 0),
            trace,
            failed: Vec::new(),
            broken: None,
        }
    }

    /// Starts a node at new addresses.
    pub(super) fn add(&mut self, config: Config, nat: Nat) -> usize {
        let v4 = config.v4.then(|| self.free_v4());
        let v6 = config.v6.then(|| self.free_v6());
        self.add_at(config, [v4, v6], nat)
    }

    pub(super) fn add_at(
        &mut self,
        config: Config,
        addresses: [Option<SocketAddr>; 2],
        nat: Nat,
    ) -> usize {
        self.started += 1;
        let node = Node::new(self.started, self.now, config, addresses, nat);
        // A node that is gone needs no memory.
        let free = self.nodes.iter().position(|node| !node.is_running);
        let index = free.unwrap_or(self.nodes.len());
        for address in addresses.iter().flatten() {
            self.by_ip.insert(address.ip(), index);
        }
        match self.nodes.get_mut(index) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        self.drain(index);
        index
    }

    /// Draws an address of a network of its own.
    pub(super) fn free_v4(&mut self) -> SocketAddr {
        loop {
            let ip = std::net::Ipv4Addr::from_bits(self.rng.within(1 << 24..160 << 24) as u32);
            let is_free = !self.by_ip.contains_key(&ip.into());
            if bt_types::is_public(ip.into()) && is_free {
                return (ip, self.rng.within(1025..65_000) as u16).into();
            }
        }
    }

    pub(super) fn free_v6(&mut self) -> SocketAddr {
        let net = self.rng.number();
        let segments = [0x2a00 | (net & 0xff) as u16, (net >> 16) as u16, (net >> 32) as u16];
        let [a, b, c] = segments;
        let ip = std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 1);
        (ip, self.rng.within(1025..65_000) as u16).into()
    }

    /// Gives a node another address in the place of `old`.
    pub(super) fn change_address(&mut self, index: usize) {
        let new = self.free_v4();
        let node = &mut self.nodes[index];
        if let Some(old) = node.addresses[0].replace(new) {
            self.by_ip.remove(&old.ip());
            node.former.push(old);
        }
        self.by_ip.insert(new.ip(), index);
    }

    /// Ends a node's process.
    pub(super) fn remove(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.is_running = false;
        for address in node.addresses.iter().flatten() {
            self.by_ip.remove(&address.ip());
        }
        if let Some(timer) = node.timer.take() {
            self.timers.remove(&(timer, index));
        }
    }

    pub(super) fn add_hostile(&mut self, hostile: Hostile) -> usize {
        let index = self.hostiles.len();
        self.hostile_ips.insert(hostile.address.ip(), index);
        self.hostiles.push(hostile);
        index
    }

    /// Calls a node and drains its polls.
    pub(super) fn with<T>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Dht, Duration) -> T,
    ) -> T {
        let result = call(&mut self.nodes[index].dht, self.now);
        self.drain(index);
        result
    }

    /// Gives a node the address of another.
    pub(super) fn introduce(&mut self, index: usize, address: SocketAddr) {
        self.nodes[index].watch.give(address);
        self.with(index, |dht, now| dht.handle_node(now, address));
    }

    /// Lets the time pass.
    pub(super) fn run(&mut self, period: Duration) -> Result<(), Broken> {
        let end = self.now + period;
        self.run_until(end, |_| false)?;
        self.now = end;
        Ok(())
    }

    /// Lets the time pass to `end`, or until `is_over` holds after an event.
    fn run_until(&mut self, end: Duration, is_over: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        while self.broken.is_none() && !is_over(self) {
            let datagram = self.queue.first_key_value().map(|(key, _)| key.0);
            let timer = self.timers.first().map(|timer| timer.0);
            let flood = self.flood.as_ref().map(|_| self.now + Duration::from_millis(1));
            let times = [datagram, timer, flood, Some(self.next_check)];
            let next = times.into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.at_once = if next > self.now { 0 } else { self.at_once + 1 };
            if self.at_once > MAX_AT_ONCE {
                return Err("the clock stands still".to_owned());
            }
            self.now = self.now.max(next);
            if datagram == Some(next) {
                if let Some((_, datagram)) = self.queue.pop_first() {
                    self.deliver(&datagram);
                }
            } else if timer == Some(next) {
                if let Some((_, index)) = self.timers.first().copied() {
                    self.with(index, Dht::handle_timeout);
                }
            } else if next == self.next_check {
                self.next_check += CHECK_EVERY;
                self.check_sizes()?;
            }
            self.send_flood();
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Runs lookups to their ends; returns what each found.
    pub(super) fn look_up(&mut self, started: &[(usize, LookupKey)]) -> Result<Vec<Found>, Broken> {
        let end = self.now + MAX_LOOKUP_TIME;
        let is_over = |net: &Self, (index, key): (usize, LookupKey)| {
            net.nodes[index].lookups.get(&key).is_some_and(|found| found.stats.is_some())
        };
        self.run_until(end, |net| started.iter().all(|lookup| is_over(net, *lookup)))?;
        let mut all = Vec::new();
        for (index, key) in started {
            let node = &mut self.nodes[*index];
            let found = node.lookups.remove(key).unwrap_or_default();
            let Some(stats) = found.stats else {
                return Err(format!("{}: a lookup does not end", node.name));
            };
            let families = u32::from(node.config.v4) + u32::from(node.config.v6);
            if stats.asked > MAX_ASKED * families {
                return Err(format!("{}: a lookup asked {} nodes", node.name, stats.asked));
            }
            all.push(found);
        }
        Ok(all)
    }

    /// Takes what a node wants to do.
    fn drain(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(ip) = node.take_events() {
            self.trace.note(now, &node.name, "address", [0, 0], || ip.to_string());
            let own = node.addresses.iter().flatten().chain(&node.former);
            if !own.into_iter().any(|address| address.ip() == ip) {
                self.broken = Some(format!("{}: it believes to be at {ip}", node.name));
            }
        }
        let mut sent = Vec::new();
        while let Some(transmit) = node.dht.poll_transmit() {
            sent.push((transmit.to, transmit.bytes.to_vec()));
        }
        if let Some(timer) = node.timer.take() {
            self.timers.remove(&(timer, index));
        }
        node.timer = node.dht.poll_timeout();
        if let Some(timer) = node.timer {
            self.timers.insert((timer, index));
        }
        for (to, bytes) in sent {
            self.send(index, to, bytes);
        }
        while let Some((index, to)) = self.failed.pop() {
            self.with(index, |dht, now| dht.handle_send_failed(now, to));
        }
    }

    fn send(&mut self, index: usize, to: SocketAddr, bytes: Vec<u8>) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let message = Message::decode(&bytes);
        let checked = match &message {
            Ok(message) => node.watch.send(now, to, &bytes, message),
            Err(error) => Err(format!("a datagram that is no message: {error}")),
        };
        let numbers = [bytes.len() as u64, digest(&bytes)];
        self.trace.note(now, &node.name, "sends", numbers, || text(to, &message));
        if let Err(rule) = checked {
            self.broken.get_or_insert(format!("{}: {rule}", node.name));
            return;
        }
        let port = self.rng.within(10_000..60_000) as u16;
        let Some(from) = node.bind(now, to, port) else {
            self.broken.get_or_insert(format!("{}: it has no address to ask {to}", node.name));
            return;
        };
        if let Ok(Message { body: Body::Reply(reply), .. }) = message {
            let nodes = [reply.nodes, reply.nodes6].into_iter().flatten().flat_map(Nodes::iter);
            for (_, address) in nodes {
                let node = self.by_ip.get(&address.ip()).map(|index| &self.nodes[*index]);
                self.named.0 += u64::from(node.is_some_and(|node| node.nat != Nat::None));
                self.named.1 += 1;
            }
        }
        let node = &self.nodes[index];
        if node.is_online && !self.is_down {
            self.post(from, to, bytes);
        } else if node.knows_offline {
            self.failed.push((index, to));
        }
    }

    /// Puts a datagram on its way, which may be lost or doubled.
    fn post(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let is_lost = self.lost_family == Some(usize::from(to.is_ipv6()));
        if self.is_down || is_lost || self.rng.below(1000) < self.quality.loss {
            return;
        }
        if self.rng.below(1000) < self.quality.twice {
            self.enqueue(Datagram { from, to, bytes: bytes.clone() });
        }
        self.enqueue(Datagram { from, to, bytes });
    }

    fn enqueue(&mut self, datagram: Datagram) {
        let delay = self.rng.millis(self.quality.delay.clone());
        self.next_datagram += 1;
        self.queue.insert((self.now + delay, self.next_datagram), datagram);
    }

    /// Sends what hostile nodes send.
    pub(super) fn post_all(&mut self, sent: Vec<Sent>) {
        sent.into_iter().for_each(|(from, to, bytes)| self.post(from, to, bytes));
    }

    /// Sends the forged queries of the time that has passed.
    fn send_flood(&mut self) {
        let passed = self.now.saturating_sub(self.flooded);
        self.flooded = self.now;
        let Some(flood) = self.flood.clone() else { return };
        let Some(to) = self.nodes[flood.to].addresses[0] else { return };
        for _ in 0..(passed.as_secs_f64() * f64::from(flood.per_second)).round() as u32 {
            let (mut id, mut target) = (NodeId([0; 20]), NodeId([0; 20]));
            self.rng.fill(&mut id.0);
            self.rng.fill(&mut target.0);
            let want = Want::default();
            let method = match self.rng.below(3) {
                0 => Method::FindNode { target, want },
                1 => Method::Ping,
                _ => {
                    let info_hash = ::dht::InfoHashV1(target.0);
                    Method::GetPeers { info_hash, want, noseed: false, scrape: self.rng.chance(50) }
                }
            };
            let bytes = match self.rng.below(20) {
                0 => hostile::reply(b"ffff", id, to, &[]),
                _ => hostile::query(b"ff", id, method),
            };
            let from = flood.from.unwrap_or_else(|| hostile::nowhere(&mut self.rng));
            self.deliver(&Datagram { from, to, bytes });
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let (from, to, now) = (datagram.from, datagram.to, self.now);
        if let Some(index) = self.hostile_ips.get(&to.ip()) {
            let path = (from, to);
            let hostile = &mut self.hostiles[*index];
            let sent = hostile.receive(now, path, &datagram.bytes, &mut self.rng);
            return self.post_all(sent);
        }
        let Some(index) = self.by_ip.get(&to.ip()).copied() else {
            if let Some(crowd) = &self.crowd {
                let sent = crowd.receive(from, to, &datagram.bytes);
                self.post_all(sent);
            }
            return;
        };
        if self.is_down || !self.nodes[index].lets_in(now, from, to) {
            return;
        }
        self.nodes[index].watch.receive(now, from, &datagram.bytes);
        self.with(index, |dht, now| dht.handle_datagram(now, from, &datagram.bytes));
        self.nodes[index].watch.rest();
    }

    /// Checks that everything that a node keeps is bounded.
    fn check_sizes(&self) -> Result<(), Broken> {
        for node in self.nodes.iter().filter(|node| node.is_running) {
            let status = node.dht.status();
            let sizes = [
                ("nodes", status.nodes_v4, MAX_TABLE),
                ("nodes", status.nodes_v6, MAX_TABLE),
                ("lookups", status.lookups, MAX_LOOKUPS),
                ("waiting lookups", status.queued, MAX_QUEUED_LOOKUPS),
                ("queries", status.calls, MAX_CALLS),
                ("torrents", status.torrents, MAX_HASHES),
                ("peers", status.peers, MAX_PEERS),
                ("bytes", status.memory, MAX_MEMORY),
            ];
            for (what, count, most) in sizes {
                if count > most {
                    return Err(format!("{}: {count} {what}, {most} at most", node.name));
                }
            }
        }
        Ok(())
    }
}

/// Formats a datagram for people.
fn text(to: SocketAddr, message: &Result<Message<'_>, ::dht::message::MessageError>) -> String {
    let what = match message {
        Ok(Message { body: Body::Query(query), .. }) => format!("{:?}", query.method),
        Ok(Message { body: Body::Reply(reply), .. }) => {
            let nodes = [reply.nodes, reply.nodes6].into_iter().flatten();
            let nodes = nodes.flat_map(Nodes::iter).count();
            let values = reply.values.map_or(0, |values| values.iter().count());
            format!("reply: {nodes} nodes, {values} peers")
        }
        Ok(Message { body: Body::Error(code), .. }) => format!("error {code}"),
        other => format!("{other:?}"),
    };
    format!("to {to}: {what}")
}

/// FNV-1a of eight bytes at a time.
fn digest(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |digest, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (digest ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3)
    })
}

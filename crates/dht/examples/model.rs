//! Real nodes look up torrents in a modelled network of a million nodes.
//!
//! `cargo run --release -p dht --example model [NODES [DEAD_PERCENT [LOOKUPS]]] [--json]`
//!
//! `--json` prints one object, with an object of medians for `read` and `announce`; `recall` is a
//! mean, the times are in milliseconds.
//!
//! A modelled node has no state: its routing table is drawn from the network when it is asked. It
//! has 128, 64, 32, 16 and then 8 nodes in a bucket, of which the given share is dead. The time of a
//! round trip is lognormal with a median of 90 ms and a sigma of 0.75; 2 % are lost.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use dht::message::{Body, Message, Method, Nodes, Query, Reply};
use dht::{Announce, Config, Dht, Event, Family, InfoHashV1, NodeId};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const BUCKETS: [usize; 4] = [128, 64, 32, 16];
const K: usize = 8;
const LOSS: f64 = 0.02;
/// How long a node joins before its first lookup, and how many lookups it does, how far apart.
const JOIN: Duration = Duration::from_secs(180);
const LOOKUPS_PER_NODE: usize = 10;
const PAUSE: Duration = Duration::from_secs(20);

struct Network {
    /// Sorted.
    nodes: Vec<(NodeId, Ipv4Addr, bool)>,
    by_ip: BTreeMap<Ipv4Addr, u32>,
    seed: u64,
}

impl Network {
    fn new(count: usize, dead: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut nodes = Vec::with_capacity(count);
        while nodes.len() < count {
            let ip = Ipv4Addr::from_bits(rng.next_u32());
            if bt_types::is_public(ip.into()) {
                let id = NodeId::for_address(ip.into(), &mut rng);
                nodes.push((id, ip, rng.random_bool(dead)));
            }
        }
        nodes.sort_unstable();
        let by_ip = nodes.iter().zip(0..).map(|((_, ip, _), index)| (*ip, index)).collect();
        Self { nodes, by_ip, seed }
    }

    /// Returns the range of the nodes that share exactly `bits` bits with `id`.
    fn range(&self, id: &NodeId, bits: u32) -> std::ops::Range<usize> {
        let (mut low, mut high) = (*id, *id);
        for bit in bits..160 {
            let (byte, mask) = ((bit / 8) as usize, 0x80 >> (bit % 8));
            if bit == bits {
                low.0[byte] ^= mask;
                high.0[byte] ^= mask;
            } else {
                low.0[byte] &= !mask;
                high.0[byte] |= mask;
            }
        }
        let start = self.nodes.partition_point(|(other, ..)| *other < low);
        start..self.nodes.partition_point(|(other, ..)| *other <= high)
    }

    /// Appends the bucket of the node `id` for `bits` shared bits.
    fn bucket(&self, id: &NodeId, bits: u32, out: &mut Vec<usize>) {
        let range = self.range(id, bits);
        let capacity = BUCKETS.get(bits as usize).copied().unwrap_or(K);
        if range.len() <= capacity {
            out.extend(range);
            return;
        }
        let seed = u64::from_be_bytes(id.0[8..16].try_into().expect("eight bytes"));
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ self.seed ^ u64::from(bits));
        out.extend((0..capacity).map(|_| rng.random_range(range.clone())));
    }

    /// Returns the nodes that the node `id` answers with.
    fn table_closest(&self, id: &NodeId, target: &NodeId) -> Vec<usize> {
        let shared = id.distance(target).shared_bits();
        let mut found = Vec::new();
        for bits in shared..(shared + 30).min(160) {
            self.bucket(id, bits, &mut found);
            if found.len() >= K {
                break;
            }
        }
        for bits in (0..shared).rev() {
            if found.len() >= K {
                break;
            }
            self.bucket(id, bits, &mut found);
        }
        found.sort_unstable_by_key(|index| self.nodes[*index].0.distance(target));
        found.dedup();
        found.truncate(K);
        found
    }

    /// Returns the live nodes closest to `target`.
    fn truth(&self, target: &NodeId) -> Vec<Ipv4Addr> {
        let at = self.nodes.partition_point(|(id, ..)| id < target);
        let near = at.saturating_sub(4000)..(at + 4000).min(self.nodes.len());
        let mut live: Vec<_> = self.nodes[near].iter().filter(|(.., dead)| !dead).collect();
        live.sort_unstable_by_key(|(id, ..)| id.distance(target));
        live.iter().take(K).map(|(_, ip, _)| *ip).collect()
    }

    fn address(&self, index: usize) -> SocketAddr {
        (self.nodes[index].1, 6881).into()
    }

    fn random_live(&self, rng: &mut ChaCha8Rng) -> SocketAddr {
        loop {
            let index = rng.random_range(0..self.nodes.len());
            if !self.nodes[index].2 {
                return self.address(index);
            }
        }
    }

    /// Returns what the node at `to` answers, unless it is dead.
    fn answer(&self, me: SocketAddr, to: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
        let IpAddr::V4(ip) = to.ip() else { return None };
        let index = *self.by_ip.get(&ip)?;
        let (id, _, dead) = self.nodes[index as usize];
        let Ok(Message { transaction, body: Body::Query(query), .. }) = Message::decode(query)
        else {
            return None;
        };
        let mut nodes = Vec::new();
        let mut reply = Reply::new(id);
        let target = match query.method {
            Method::FindNode { target, .. } => Some(target),
            Method::GetPeers { info_hash, .. } => {
                reply.token = Some(b"modelled");
                Some(info_hash.into())
            }
            _ => None,
        };
        for index in target.into_iter().flat_map(|target| self.table_closest(&id, &target)) {
            nodes.extend(self.nodes[index].0.0);
            bt_types::compact::encode(self.address(index), &mut nodes);
        }
        reply.nodes = Nodes::new(Family::V4, &nodes);
        let body = Body::Reply(reply);
        let message = Message { ip: Some(me), ..Message::new(transaction, body) };
        let mut out = Vec::new();
        message.encode(&mut out);
        (!dead).then_some(out)
    }
}

/// A real node in the network.
struct Player<'n> {
    network: &'n Network,
    dht: Dht,
    address: SocketAddr,
    now: Duration,
    rng: ChaCha8Rng,
    /// Answers under way: when they arrive, from where.
    queue: BTreeMap<(Duration, u64), (SocketAddr, Vec<u8>)>,
    count: u64,
    /// Since the start of the lookup: who was asked to store, and whose answers to it arrived.
    stored: Vec<SocketAddr>,
    answered: Vec<(Duration, SocketAddr)>,
    pending: BTreeMap<u64, bool>,
}

/// What a lookup took.
struct Sample {
    rpcs: f64,
    first: f64,
    done: f64,
    recall: f64,
}

impl<'n> Player<'n> {
    fn join(network: &'n Network, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ip = Ipv4Addr::new(45, rng.random(), rng.random(), 1);
        let id = NodeId::for_address(ip.into(), &mut rng);
        let config = Config {
            id_v4: Some(id),
            v6: false,
            wants_routers: false,
            ..Config::new(rng.random())
        };
        let mut player = Self {
            network,
            dht: Dht::new(&config),
            address: (ip, 6881).into(),
            now: Duration::ZERO,
            rng,
            queue: BTreeMap::new(),
            count: 0,
            stored: Vec::new(),
            answered: Vec::new(),
            pending: BTreeMap::new(),
        };
        for _ in 0..3 {
            let contact = network.random_live(&mut player.rng);
            player.dht.handle_node(player.now, contact);
        }
        player.drain();
        player.run(JOIN);
        player
    }

    fn drain(&mut self) -> Vec<Event> {
        while let Some(transmit) = self.dht.poll_transmit() {
            let (to, bytes) = (transmit.to, transmit.bytes);
            let method = match Message::decode(bytes).map(|message| message.body) {
                Ok(Body::Query(Query { method, .. })) => method,
                _ => continue,
            };
            if matches!(method, Method::AnnouncePeer { .. }) {
                self.stored.push(to);
            }
            let is_lookup = matches!(method, Method::GetPeers { .. });
            let answer = self.network.answer(self.address, to, bytes);
            if let Some(answer) = answer.filter(|_| !self.rng.random_bool(LOSS)) {
                let arrival = self.now + round_trip(&mut self.rng);
                self.count += 1;
                self.queue.insert((arrival, self.count), (to, answer));
                self.pending.insert(self.count, is_lookup);
            }
        }
        std::iter::from_fn(|| self.dht.poll_event()).collect()
    }

    /// Handles what is next, if it is not after `end`; returns the events.
    fn step(&mut self, end: Duration) -> Option<Vec<Event>> {
        let arrival = self.queue.first_key_value().map(|(key, _)| key.0);
        let timer = self.dht.poll_timeout();
        let next = arrival.into_iter().chain(timer).min().filter(|next| *next <= end)?;
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let ((_, count), (from, bytes)) = self.queue.pop_first()?;
            if self.pending.remove(&count) == Some(true) {
                self.answered.push((self.now, from));
            }
            self.dht.handle_datagram(self.now, from, &bytes);
        } else {
            self.dht.handle_timeout(self.now);
        }
        Some(self.drain())
    }

    fn run(&mut self, period: Duration) {
        let end = self.now + period;
        while self.step(end).is_some() {}
        self.now = end;
    }

    fn lookup(&mut self, announce: Announce) -> Sample {
        let target = NodeId::random(&mut self.rng);
        let truth = self.network.truth(&target);
        self.stored.clear();
        self.answered.clear();
        let start = self.now;
        let key = self.dht.find_peers(start, InfoHashV1::from(target), announce);
        let mut events = self.drain();
        let stats = loop {
            let done = events.iter().find_map(|event| match event {
                Event::Done { lookup, stats } if *lookup == key => Some(*stats),
                _ => None,
            });
            if let Some(stats) = done {
                break stats;
            }
            events = self.step(start + Duration::from_secs(60)).expect("the lookup ends");
        };
        let is_true = |address: &SocketAddr| truth.iter().any(|ip| IpAddr::V4(*ip) == address.ip());
        let first = self.answered.iter().find(|(_, from)| is_true(from));
        let found: Vec<&SocketAddr> = match announce {
            Announce::No => self.answered.iter().map(|(_, from)| from).collect(),
            Announce::Port { .. } => self.stored.iter().collect(),
        };
        Sample {
            rpcs: f64::from(stats.asked),
            first: first.map_or(f64::NAN, |(time, _)| (*time - start).as_secs_f64() * 1000.0),
            done: stats.elapsed.as_secs_f64() * 1000.0,
            recall: found.iter().filter(|address| is_true(address)).count() as f64 / K as f64,
        }
    }
}

fn round_trip(rng: &mut ChaCha8Rng) -> Duration {
    // Box and Muller.
    let (a, b): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    Duration::from_secs_f64((0.09 * (0.75 * normal).exp()).min(3.0))
}

fn main() {
    let (flags, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word == "--json");
    let argument = |at: usize, default: usize| {
        words.get(at).map_or(default, |text| text.parse().expect("a number"))
    };
    let (count, dead, lookups) = (argument(0, 1_000_000), argument(1, 50), argument(2, 1500));
    let network = Network::new(count, dead as f64 / 100.0, 7);
    let read = measure(&network, lookups, Announce::No);
    let announce = measure(&network, lookups, Announce::Port { port: 6881, seed: false });
    if flags.is_empty() {
        println!("{count} nodes, {dead} % dead, {lookups} lookups each");
        println!("read     {}", read.text());
        println!("announce {}", announce.text());
    } else {
        println!("{{ \"read\": {}, \"announce\": {} }}", read.json(), announce.json());
    }
}

/// What lookups of one kind took.
struct Outcome {
    samples: Vec<Sample>,
    /// Nodes in the routing table of each node that looked up, sorted.
    tables: Vec<usize>,
}

fn measure(network: &Network, lookups: usize, announce: Announce) -> Outcome {
    let (mut samples, mut tables) = (Vec::new(), Vec::new());
    for seed in 0..lookups.div_ceil(LOOKUPS_PER_NODE) as u64 {
        let mut player = Player::join(network, seed);
        tables.push(player.dht.status().nodes_v4);
        for _ in 0..LOOKUPS_PER_NODE {
            samples.push(player.lookup(announce));
            player.run(PAUSE);
        }
    }
    tables.sort_unstable();
    Outcome { samples, tables }
}

impl Outcome {
    fn percentile(&self, of: fn(&Sample) -> f64, share: f64) -> f64 {
        let mut values: Vec<f64> =
            self.samples.iter().map(of).filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    }

    fn recall(&self) -> f64 {
        self.samples.iter().map(|sample| sample.recall).sum::<f64>() / self.samples.len() as f64
    }

    fn text(&self) -> String {
        let p = |of| format!("{:.0}/{:.0}", self.percentile(of, 0.5), self.percentile(of, 0.95));
        let missed = self.samples.iter().filter(|sample| sample.first.is_nan()).count();
        format!(
            "RPCs {} first {} ms done {} ms (p50/p95) recall {:.3} missed {missed}, table of {} nodes",
            p(|sample| sample.rpcs),
            p(|sample| sample.first),
            p(|sample| sample.done),
            self.recall(),
            self.tables[self.tables.len() / 2]
        )
    }

    fn json(&self) -> String {
        format!(
            "{{ \"rpcs\": {}, \"first\": {:.1}, \"done\": {:.1}, \"recall\": {:.4} }}",
            self.percentile(|sample| sample.rpcs, 0.5),
            self.percentile(|sample| sample.first, 0.5),
            self.percentile(|sample| sample.done, 0.5),
            self.recall()
        )
    }
}

//! The network: datagrams under way, addresses, NATs and a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use dht::message::{Body, Message, Method, Query, Want};
use dht::{Config, Dht, Event, LookupKey, NodeId, Stats};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How long a NAT keeps a binding that is not used.
const BINDING: Duration = Duration::from_secs(60);

/// Answers a query: from where, its transaction and what it asks for.
type Script = Box<dyn FnMut(SocketAddr, (&[u8], Method<'_>)) -> Vec<u8>>;

/// What lets datagrams in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Everything comes in.
    None,
    /// What comes from an address and port that was sent to.
    PortRestricted,
    /// The same, and each destination sees another port.
    Symmetric,
}

pub(crate) struct Node {
    pub(crate) dht: Dht,
    pub(crate) address: SocketAddr,
    /// The address in the other family.
    pub(crate) other_address: Option<SocketAddr>,
    pub(crate) nat: Nat,
    /// The destination, our port there, and when it was last used.
    bindings: BTreeMap<SocketAddr, (u16, Duration)>,
    pub(crate) online: bool,
    pub(crate) events: Vec<Event>,
    timer: Option<Duration>,
    /// When a datagram went to whom.
    pub(crate) sent: Vec<(Duration, SocketAddr, usize)>,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    by_ip: BTreeMap<IpAddr, usize>,
    /// Nodes that are not ours.
    scripts: BTreeMap<SocketAddr, Script>,
    /// The node that is flooded with forged queries, and how many there are per second.
    pub(crate) flood: Option<(usize, u32)>,
    flooded: Duration,
    queue: BTreeMap<(Duration, u64), Datagram>,
    timers: BTreeSet<(Duration, usize)>,
    pub(crate) rng: ChaCha8Rng,
    count: u64,
    /// Of 1000 datagrams, how many are lost.
    pub(crate) loss: u32,
    /// How many nodes that replies named were behind a NAT, and how many there were.
    pub(crate) named: (u64, u64),
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: Vec::new(),
            by_ip: BTreeMap::new(),
            scripts: BTreeMap::new(),
            flood: None,
            flooded: Duration::ZERO,
            queue: BTreeMap::new(),
            timers: BTreeSet::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            count: 0,
            loss: 20,
            named: (0, 0),
        }
    }

    /// Returns a configuration for a node with IPv4 only.
    pub(crate) fn config(&mut self) -> Config {
        Config { v6: false, wants_routers: false, ..Config::new(self.rng.random()) }
    }

    /// Adds a node in a network of its own.
    pub(crate) fn add(&mut self, config: &Config, nat: Nat) -> usize {
        let index = self.nodes.len();
        let ip = Ipv4Addr::from_bits(0x2d00_0000 + (index as u32 * 0x0001_0203) % 0x2000_0000);
        self.add_at(config, nat, SocketAddr::from((ip, 6881)))
    }

    pub(crate) fn add_at(&mut self, config: &Config, nat: Nat, address: SocketAddr) -> usize {
        let index = self.nodes.len();
        self.by_ip.insert(address.ip(), index);
        self.nodes.push(Node {
            dht: Dht::new(config),
            address,
            other_address: None,
            nat,
            bindings: BTreeMap::new(),
            online: true,
            events: Vec::new(),
            timer: None,
            sent: Vec::new(),
        });
        self.touch(index);
        index
    }

    /// Adds a node that is not ours.
    pub(crate) fn add_script(
        &mut self,
        address: SocketAddr,
        script: impl FnMut(SocketAddr, (&[u8], Method<'_>)) -> Vec<u8> + 'static,
    ) {
        self.scripts.insert(address, Box::new(script));
    }

    /// Gives a node an address in the other family.
    pub(crate) fn add_address(&mut self, index: usize, address: SocketAddr) {
        self.by_ip.insert(address.ip(), index);
        self.nodes[index].other_address = Some(address);
    }

    /// Adds nodes that join through the first one, a second apart.
    pub(crate) fn join(&mut self, count: usize, nat: Nat) {
        for _ in 0..count {
            let config = self.config();
            let index = self.add(&config, nat);
            let first = self.nodes[0].address;
            if index > 0 {
                self.with(index, |dht, now| dht.handle_node(now, first));
            }
            self.run(Duration::from_secs(1));
        }
    }

    /// Calls a node and drains its polls.
    pub(crate) fn with<T>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Dht, Duration) -> T,
    ) -> T {
        let result = call(&mut self.nodes[index].dht, self.now);
        self.touch(index);
        result
    }

    /// Lets the time pass.
    pub(crate) fn run(&mut self, period: Duration) {
        let end = self.now + period;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Lets the time pass to `end`, or until `is_over` holds after an event.
    fn run_until(&mut self, end: Duration, is_over: impl Fn(&Self) -> bool) {
        while !is_over(self) {
            let datagram = self.queue.first_key_value().map(|(key, _)| key.0);
            let timer = self.timers.first().map(|timer| timer.0);
            let next = datagram.into_iter().chain(timer).min();
            let Some(next) = next.filter(|next| *next <= end) else { return };
            self.now = self.now.max(next);
            self.send_flood();
            if datagram == Some(next) {
                if let Some((_, datagram)) = self.queue.pop_first() {
                    self.deliver(&datagram);
                }
            } else if let Some((_, index)) = self.timers.first().copied() {
                self.with(index, Dht::handle_timeout);
            }
        }
    }

    /// Runs a lookup to its end; returns the peers and what it took.
    pub(crate) fn lookup(
        &mut self,
        index: usize,
        start: impl FnOnce(&mut Dht, Duration) -> LookupKey,
    ) -> (Vec<SocketAddr>, Stats) {
        self.nodes[index].events.clear();
        let key = self.with(index, start);
        let done = |event: &Event| matches!(event, Event::Done { lookup, .. } if *lookup == key);
        let end = self.now + Duration::from_secs(60);
        self.run_until(end, |net| net.nodes[index].events.iter().any(done));
        let mut peers = Vec::new();
        let mut stats = None;
        for event in &self.nodes[index].events {
            match event {
                Event::Peers { lookup, addresses, .. } if *lookup == key => peers.extend(addresses),
                Event::Done { lookup, stats: found } if *lookup == key => stats = Some(*found),
                _ => {}
            }
        }
        (peers, stats.expect("the lookup ends within a minute"))
    }

    fn touch(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(event) = node.dht.poll_event() {
            node.events.push(event);
        }
        let mut sent = Vec::new();
        while let Some(transmit) = node.dht.poll_transmit() {
            assert!(transmit.bytes.len() <= if cfg!(feature = "items") { 1450 } else { 1024 });
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
    }

    fn send(&mut self, index: usize, to: SocketAddr, bytes: Vec<u8>) {
        self.check_reply(&bytes);
        let now = self.now;
        let port = 10_000 + (self.rng.next_u32() % 50_000) as u16;
        let node = &mut self.nodes[index];
        node.sent.push((now, to, bytes.len()));
        let addresses = [Some(node.address), node.other_address];
        let from = addresses.into_iter().flatten().find(|from| from.is_ipv4() == to.is_ipv4());
        let mut from = from.expect("nobody sends to a family that it does not have");
        if node.nat == Nat::Symmetric {
            let binding = node.bindings.get(&to).filter(|binding| now < binding.1 + BINDING);
            from.set_port(binding.map_or(port, |binding| binding.0));
        }
        if node.nat != Nat::None {
            node.bindings.insert(to, (from.port(), now));
        }
        if !node.online || self.rng.random_range(0..1000) < self.loss {
            return;
        }
        let delay = Duration::from_millis(self.rng.random_range(20..180));
        self.count += 1;
        self.queue.insert((now + delay, self.count), Datagram { from, to, bytes });
    }

    /// Sends the forged queries of the time that has passed.
    fn send_flood(&mut self) {
        let passed = self.now.saturating_sub(self.flooded);
        self.flooded = self.now;
        let Some((index, rate)) = self.flood else { return };
        for _ in 0..(passed.as_secs_f64() * f64::from(rate)).round() as u32 {
            let ip = Ipv4Addr::from_bits(0x5000_0000 + (self.rng.next_u32() >> 4));
            let (id, target) = (NodeId(self.rng.random()), NodeId(self.rng.random()));
            let method = Method::FindNode { target, want: Want::default() };
            let body = Body::Query(Query { id, method });
            let mut bytes = Vec::new();
            Message { transaction: b"ff", body, ip: None, read_only: false, version: None }
                .encode(&mut bytes);
            self.with(index, |dht, now| dht.handle_datagram(now, (ip, 6881).into(), &bytes));
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        if let Some(script) = self.scripts.get_mut(&datagram.to) {
            if let Ok(Message { transaction, body: Body::Query(query), .. }) =
                Message::decode(&datagram.bytes)
            {
                let bytes = script(datagram.from, (transaction, query.method));
                self.count += 1;
                let delay = Duration::from_millis(self.rng.random_range(20..180));
                let answer = Datagram { from: datagram.to, to: datagram.from, bytes };
                self.queue.insert((self.now + delay, self.count), answer);
            }
            return;
        }
        let Some(index) = self.by_ip.get(&datagram.to.ip()).copied() else { return };
        let now = self.now;
        let node = &self.nodes[index];
        let is_open = match node.nat {
            Nat::None => [Some(node.address), node.other_address].contains(&Some(datagram.to)),
            Nat::PortRestricted | Nat::Symmetric => {
                let binding = node.bindings.get(&datagram.from);
                binding.is_some_and(|(port, used)| {
                    *port == datagram.to.port() && now < *used + BINDING
                })
            }
        };
        if node.online && is_open {
            let (from, bytes) = (datagram.from, &datagram.bytes);
            self.with(index, |dht, now| dht.handle_datagram(now, from, bytes));
        }
    }

    /// Counts the nodes in replies, and those of them that cannot be reached.
    fn check_reply(&mut self, bytes: &[u8]) {
        let Ok(Message { body: Body::Reply(reply), .. }) = Message::decode(bytes) else { return };
        for (_, address) in reply.nodes.into_iter().flat_map(dht::message::Nodes::iter) {
            let node = self.by_ip.get(&address.ip()).map(|index| &self.nodes[*index]);
            self.named.0 += u64::from(node.is_none_or(|node| node.nat != Nat::None));
            self.named.1 += 1;
        }
    }
}

//! One node of the DHT on sockets of its own, for programs that ask it and wait: a blocking driver of
//! [`dht::Dht`].
//!
//! A [`Node`] needs no session. Its calls return at their time limit at the latest, with what has
//! been found until then. Between two calls it does nothing; [`Node::run`] has it answer others.
//!
//! ```
//! use std::time::Duration;
//! use session::DhtConfig;
//! use session::node::{Announce, Node};
//!
//! let first = DhtConfig { routers: Vec::new(), ..DhtConfig::new() };
//! let here = Some("127.0.0.1".parse()?);
//! let mut other = Node::start(&first, &(0..=0), here)?;
//! let address = other.addresses()[0];
//! # let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
//! # let stopped = std::sync::Arc::clone(&stop);
//! let answering = std::thread::spawn(move || {
//! #     while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
//!     other.run(Duration::from_millis(20));
//! #     }
//! });
//!
//! let config = DhtConfig { nodes: vec![address.to_string()], read_only: true, ..first };
//! let mut node = Node::start(&config, &(0..=0), here)?;
//! let torrent = "00112233445566778899aabbccddeeff00112233".parse()?;
//! let answer = node.find_peers(torrent, Announce::No, Duration::from_secs(30));
//! assert!(answer.found.is_empty() && answer.stats.answered == 1);
//! # stop.store(true, std::sync::atomic::Ordering::Relaxed);
//! # answering.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A blocking call has a clock.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Events, Poll, Waker};

use crate::config::DhtConfig;
use crate::engine::Resolved;
use crate::limits::{MAX_NODE_NAMES, NODE_SILENCE};
use crate::net;
use crate::node_names::{Found, NodeNames};
use crate::reactor::datagrams::{BATCHES_PER_TURN, Datagrams};
use crate::reactor::{WAKER, helpers};
use crate::session::{on, ports};

use dht::{Dht, Event, LookupKey};

pub use bt_types::InfoHashV1;
pub use dht::{
    Announce, Counters, ITEM_LENGTH, Item, ItemError, NodeId, SALT_LENGTH, Stats, Status,
    mutable_target, public_key,
};

/// How often a silent or busy address is pinged.
const PINGS: u32 = 4;
/// The time between two pings of an address.
const PING_PAUSE: Duration = Duration::from_secs(1);
/// What is waited for: two sockets and the threads that look names up.
const SOURCES: usize = 3;

/// A name, and its addresses.
type LookedUp = (String, Resolved);

/// A node cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Occurs when no port is free for UDP.
    #[error("cannot open UDP {}{}: {source}", ports(*first, *last), on(*bind))]
    Open {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
        /// The address it had to be on.
        bind: Option<IpAddr>,
        /// What the system said last.
        source: io::Error,
    },
    /// Occurs when the system cannot wait for the sockets.
    #[error("cannot wait for datagrams: {0}")]
    Poll(#[source] io::Error),
}

/// What was found, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was found.
    pub found: T,
    /// What it took.
    pub stats: Stats,
}

/// How many peers a torrent has, estimated from filters (BEP 33).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Peers that have everything.
    pub seeds: u32,
    /// The other peers.
    pub peers: u32,
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// The address that answered.
    pub address: SocketAddr,
    /// The id of the node there.
    pub id: NodeId,
    /// How long the answer took.
    pub rtt: Duration,
}

/// A node of the DHT.
pub struct Node {
    dht: Dht,
    names: NodeNames,
    /// Names that could not be looked up, and why.
    unresolved: BTreeMap<String, String>,
    poll: Poll,
    waker: Arc<Waker>,
    datagrams: Datagrams,
    addresses: Vec<SocketAddr>,
    resolved: (Sender<LookedUp>, Receiver<LookedUp>),
    started: Instant,
    /// When the first datagram was sent.
    first_sent: Option<Duration>,
    /// Whether a datagram was received.
    is_heard: bool,
}

impl Node {
    /// Opens the first port of `ports` that is free for UDP, on `bind` if given, and joins the DHT
    /// through the nodes that `config` names. `0..=0` has the system choose the port.
    ///
    /// # Errors
    /// No port is free, or the system has no more sockets.
    pub fn start(
        config: &DhtConfig,
        ports: &RangeInclusive<u16>,
        bind: Option<IpAddr>,
    ) -> Result<Self, NodeError> {
        let (first, last) = (*ports.start(), *ports.end());
        let sockets = net::open_udp(ports, bind);
        let sockets = sockets.map_err(|source| NodeError::Open { first, last, bind, source })?;
        let both = [&sockets.v4, &sockets.v6].into_iter().flatten();
        let addresses = both.filter_map(|socket| socket.local_addr().ok()).collect();
        let poll = Poll::new().map_err(NodeError::Poll)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(NodeError::Poll)?;
        let datagrams = Datagrams::register(sockets, poll.registry()).map_err(NodeError::Poll)?;
        let mut node = Self {
            dht: Dht::new(&config.node(datagrams.families(), rand::random())),
            names: NodeNames::new(&config.nodes, &config.routers),
            unresolved: BTreeMap::new(),
            poll,
            waker: Arc::new(waker),
            datagrams,
            addresses,
            resolved: bounded(MAX_NODE_NAMES),
            started: Instant::now(),
            first_sent: None,
            is_heard: false,
        };
        let known = node.names.look_up_nodes();
        node.take_nodes(known);
        Ok(node)
    }

    /// Looks for peers of a torrent, and announces us if wanted.
    pub fn find_peers(
        &mut self,
        info_hash: InfoHashV1,
        announce: Announce,
        limit: Duration,
    ) -> Answer<Vec<SocketAddr>> {
        let mut found = Vec::new();
        let start = |dht: &mut Dht, now| dht.find_peers(now, info_hash, announce);
        let stats = self.ask(limit, start, |event| {
            if let Event::Peers { addresses, .. } = event {
                found.extend(addresses);
            }
        });
        Answer { found, stats }
    }

    /// Counts the peers of a torrent (BEP 33).
    pub fn scrape(&mut self, info_hash: InfoHashV1, limit: Duration) -> Answer<Counts> {
        let mut found = Counts::default();
        let stats = self.ask(
            limit,
            |dht, now| dht.scrape(now, info_hash),
            |event| {
                if let Event::Scraped { seeds, peers, .. } = event {
                    found = Counts { seeds, peers };
                }
            },
        );
        Answer { found, stats }
    }

    /// Looks for the nodes closest to `target`, the closest first in each family.
    pub fn find_nodes(
        &mut self,
        target: NodeId,
        limit: Duration,
    ) -> Answer<Vec<(NodeId, SocketAddr)>> {
        let mut found = Vec::new();
        let stats = self.ask(
            limit,
            |dht, now| dht.find_nodes(now, target),
            |event| {
                if let Event::Nodes { nodes, .. } = event {
                    found = nodes;
                }
            },
        );
        Answer { found, stats }
    }

    /// Looks for an item (BEP 44). `salt` is that of a mutable item, or empty. Of a mutable item the
    /// newest version is found.
    pub fn get(&mut self, target: NodeId, salt: &[u8], limit: Duration) -> Answer<Option<Item>> {
        let mut found = None;
        let stats = self.ask(
            limit,
            |dht, now| dht.get(now, target, salt),
            |event| {
                if let Event::Item { item, .. } = event {
                    found = Some(item);
                }
            },
        );
        Answer { found, stats }
    }

    /// Stores an item (BEP 44). With `cas`, nodes that have a version store it only if theirs has
    /// that sequence number. The statistics say how many nodes stored it, and how many have another
    /// version.
    pub fn put(&mut self, item: Item, cas: Option<i64>, limit: Duration) -> Stats {
        self.ask(limit, |dht, now| dht.put(now, item, cas), drop)
    }

    /// Pings the node at `addresses`, which may be several of one name. Returns the first answer;
    /// `None` if none comes in time.
    pub fn ping(&mut self, addresses: &[SocketAddr], limit: Duration) -> Option<Pong> {
        let deadline = self.now() + limit;
        let mut waiting: BTreeMap<LookupKey, SocketAddr> = BTreeMap::new();
        let (mut rounds, mut next) = (0, self.now());
        loop {
            while let Some(event) = self.next_event() {
                match event {
                    Event::Pong { lookup, id, rtt } => {
                        if let Some(address) = waiting.remove(&lookup) {
                            waiting.into_keys().for_each(|key| self.dht.stop(key));
                            return Some(Pong { address, id, rtt });
                        }
                    }
                    Event::Done { lookup, .. } => drop(waiting.remove(&lookup)),
                    _ => {}
                }
            }
            let now = self.now();
            if now >= deadline || (waiting.is_empty() && rounds == PINGS) {
                break;
            }
            if waiting.is_empty() && now >= next {
                (rounds, next) = (rounds + 1, now + PING_PAUSE);
                let ping = |address: &SocketAddr| (self.dht.ping(now, *address), *address);
                waiting = addresses.iter().map(ping).collect();
                // One that the budget does not allow is over at once.
                continue;
            }
            self.turn(if waiting.is_empty() { deadline.min(next) } else { deadline });
        }
        waiting.into_keys().for_each(|key| self.dht.stop(key));
        None
    }

    /// Takes part in the DHT for `time`: answers queries and keeps the routing table alive.
    pub fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.turn(end);
            while self.next_event().is_some() {}
        }
    }

    /// Adds nodes to join through, each as `host:port`.
    pub fn add_nodes(&mut self, nodes: impl IntoIterator<Item = String>) {
        let found = self.names.look_up(nodes);
        self.take_nodes(found);
    }

    /// Returns how the node is doing.
    pub fn status(&self) -> Status {
        self.dht.status()
    }

    /// Returns the ids of the node, of each family that it has a socket for.
    pub fn ids(&self) -> Vec<NodeId> {
        self.dht.node_ids().into_iter().flatten().collect()
    }

    /// Returns the addresses of its sockets, unspecified ones for all of this machine.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns its addresses as other nodes see them, once enough of them agree.
    pub fn external_addresses(&self) -> Vec<IpAddr> {
        self.dht.external_address().into_iter().flatten().collect()
    }

    /// Returns the names of nodes and routers that could not be looked up, each with the error of
    /// the system.
    pub fn unresolved(&self) -> &BTreeMap<String, String> {
        &self.unresolved
    }

    /// Returns what the next launch should know: [`DhtConfig::state`].
    pub fn save(&self) -> Vec<u8> {
        self.dht.save().encode()
    }

    /// Starts a lookup and waits for its end. Passes its events to `take`.
    fn ask(
        &mut self,
        limit: Duration,
        start: impl FnOnce(&mut Dht, Duration) -> LookupKey,
        mut take: impl FnMut(Event),
    ) -> Stats {
        let now = self.now();
        let (key, deadline) = (start(&mut self.dht, now), now + limit);
        loop {
            while let Some(event) = self.next_event() {
                match event {
                    Event::Done { lookup, stats } if lookup == key => return stats,
                    event => take(event),
                }
            }
            let silent_at = self.silent_at().unwrap_or(deadline);
            self.turn(deadline.min(silent_at));
            let now = self.now();
            if now >= deadline || self.silent_at().is_some_and(|at| now >= at) {
                self.dht.conclude(now, key);
            }
        }
    }

    /// Until when the first datagram is waited for; `None` if there was one, or nothing was sent.
    fn silent_at(&self) -> Option<Duration> {
        self.first_sent.filter(|_| !self.is_heard).map(|sent| sent + NODE_SILENCE)
    }

    /// Returns the next event that the caller of a call may want.
    fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.dht.poll_event()? {
                Event::RoutersWanted => {
                    let known = self.names.look_up_again();
                    self.take_nodes(known);
                }
                Event::Address { ip } => log::info!("the DHT sees us at {ip}"),
                event => return Some(event),
            }
        }
    }

    /// Waits until something happens or `deadline`, and does what is due.
    fn turn(&mut self, deadline: Duration) {
        self.send();
        self.wait(deadline);
        while let Ok((host, result)) = self.resolved.1.try_recv() {
            self.handle_resolved(host, &result);
        }
        self.receive();
        let now = self.now();
        if self.dht.poll_timeout().is_some_and(|due| due <= now) {
            self.dht.handle_timeout(now);
        }
        self.send();
    }

    fn wait(&mut self, deadline: Duration) {
        let due = self.dht.poll_timeout().map_or(deadline, |due| due.min(deadline));
        let time = match self.datagrams.is_ready() {
            true => Duration::ZERO,
            false => due.saturating_sub(self.now()),
        };
        let mut events = Events::with_capacity(SOURCES);
        if let Err(error) = self.poll.poll(&mut events, Some(time)) {
            log::debug!("the wait for datagrams was interrupted: {error}");
        }
        for event in events.iter().filter(|event| event.token() != WAKER) {
            self.datagrams.note_readiness(event.token());
        }
    }

    /// Takes datagrams, a bounded number of them.
    fn receive(&mut self) {
        for _ in 0..BATCHES_PER_TURN {
            let count = self.datagrams.receive();
            if count == 0 {
                return;
            }
            self.is_heard = true;
            for index in 0..count {
                let now = self.now();
                let (from, bytes) = self.datagrams.received(index);
                self.dht.handle_datagram(now, from, bytes);
                self.queue_transmits(now);
            }
        }
    }

    /// Sends what is to be sent. Ends, because nothing more is sent where it fails again and again.
    fn send(&mut self) {
        let now = self.now();
        self.queue_transmits(now);
        self.datagrams.flush();
        while let Some(to) = self.datagrams.poll_failed() {
            self.dht.handle_send_failed(now, to);
            self.queue_transmits(now);
            self.datagrams.flush();
        }
    }

    fn queue_transmits(&mut self, now: Duration) {
        while let Some(transmit) = self.dht.poll_transmit() {
            self.first_sent.get_or_insert(now);
            self.datagrams.send(transmit.to, transmit.bytes);
        }
    }

    /// Takes nodes whose addresses are known, and has the names of others looked up.
    fn take_nodes(&mut self, found: Found) {
        found.pass_to(&mut self.dht, self.started.elapsed());
        while let Some(host) = self.names.poll_name() {
            self.resolve(host);
        }
    }

    /// Has a thread look a name up.
    fn resolve(&mut self, host: String) {
        let (name, sender, waker) =
            (host.clone(), self.resolved.0.clone(), Arc::clone(&self.waker));
        let thread = thread::Builder::new().name("bt-resolve".to_owned());
        // Not joined: a look-up can't be interrupted, and may take until the process ends.
        let started = thread.spawn(move || {
            let result = helpers::resolve(&name);
            // If either fails, the node is gone.
            let _ = sender.send((name, result));
            let _ = waker.wake();
        });
        if let Err(error) = started {
            self.handle_resolved(host, &Err(error.to_string()));
        }
    }

    fn handle_resolved(&mut self, host: String, result: &Resolved) {
        let found = self.names.handle_resolved(&host, result);
        if let Err(error) = result {
            self.unresolved.insert(host, error.clone());
        }
        self.take_nodes(found);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

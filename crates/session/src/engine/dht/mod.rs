//! Our node of the DHT, and which torrent asks it for peers when (BEP 5).
//!
//! The node starts with the first public torrent. Torrents that found no peer are looked up again
//! after 5 s, then 10 s, and so on, announced seeders after a minute, then two; the others after a
//! quarter of an hour. A large session is slower than that, because the node limits its own
//! queries: then both kinds get every other lookup.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::InfoHashV1;
use dht::{Announce, Config, Dht, Event, LookupKey, SavedState};
use piece_store::TorrentKey;
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::announce::{Families, Resolved};
use crate::config::DhtConfig;
use crate::limits::{DHT_INTERVAL, DHT_JITTER, DHT_RETRY, DHT_SEED_RETRY, MAX_DHT_LOOKUPS};
use crate::node_names::{self, NodeNames};

/// The node, and the torrents that use it.
#[derive(Debug)]
pub(super) struct DhtClient {
    /// The configuration of the node that is not started yet.
    setup: Config,
    node: Option<Box<Dht>>,
    rng: ChaCha8Rng,
    names: NodeNames,
    torrents: BTreeMap<TorrentKey, Wanted>,
    /// When torrents without peers are due, and when the others are.
    without_peers: BTreeSet<(Duration, TorrentKey)>,
    with_peers: BTreeSet<(Duration, TorrentKey)>,
    /// Which of the two a lookup was started from last.
    last_had_peers: bool,
    /// The lookups that run, at most [`MAX_DHT_LOOKUPS`].
    lookups: BTreeMap<LookupKey, TorrentKey>,
    found: VecDeque<Found>,
}

/// Peers of a torrent that were found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) torrent: TorrentKey,
    /// The node that named them; `None` if that was our own.
    pub(super) informant: Option<SocketAddr>,
    pub(super) peers: Vec<SocketAddr>,
}

/// A torrent for which peers are wanted.
#[derive(Debug)]
struct Wanted {
    info_hash: InfoHashV1,
    announce: Announce,
    lookup: Lookup,
    /// How many lookups in a row have found nobody.
    in_vain: u32,
    /// Whether a lookup has ended.
    ended: bool,
}

impl Wanted {
    /// Returns how long it rests after another lookup that found nobody. With `is_announced`, nodes
    /// know of us.
    fn retry(&self, is_announced: bool) -> Duration {
        let is_seed = matches!(self.announce, Announce::Port { seed: true, .. });
        let first = if is_seed && is_announced { DHT_SEED_RETRY } else { DHT_RETRY };
        first.saturating_mul(2u32.saturating_pow(self.in_vain.saturating_sub(1))).min(DHT_INTERVAL)
    }
}

/// The lookup of a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookup {
    /// It starts at this time or later.
    Due(Duration),
    /// It runs, and has found this many peers.
    Runs(LookupKey, usize),
}

impl DhtClient {
    /// Returns a client whose node is not started yet.
    pub(super) fn new(config: &DhtConfig, families: Families, rng: &mut impl Rng) -> Self {
        let setup = config.node(families, rng.random());
        Self {
            setup,
            node: None,
            rng: ChaCha8Rng::from_rng(rng),
            names: NodeNames::new(&config.nodes, &config.routers),
            torrents: BTreeMap::new(),
            without_peers: BTreeSet::new(),
            with_peers: BTreeSet::new(),
            last_had_peers: true,
            lookups: BTreeMap::new(),
            found: VecDeque::new(),
        }
    }

    /// A datagram came from a node.
    pub(super) fn handle_datagram(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        if let Some(node) = &mut self.node {
            node.handle_datagram(now, from, bytes);
            self.advance(now);
        }
    }

    /// A datagram could not be sent.
    pub(super) fn handle_send_failed(&mut self, now: Duration, to: SocketAddr) {
        if let Some(node) = &mut self.node {
            node.handle_send_failed(now, to);
            self.advance(now);
        }
    }

    /// A name was looked up, perhaps one of ours.
    pub(super) fn handle_resolved(&mut self, now: Duration, host: &str, result: &Resolved) {
        let found = self.names.handle_resolved(host, result);
        self.take_nodes(now, found);
        self.advance(now);
    }

    /// A node may be at `address`, by what a peer says.
    pub(super) fn handle_node(&mut self, now: Duration, address: SocketAddr) {
        if let Some(node) = &mut self.node {
            node.handle_peer_node(now, address);
            self.advance(now);
        }
    }

    /// The time of [`Self::poll_timeout`] came.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if let Some(node) = self.node.as_mut().filter(|node| is_due(node, now)) {
            node.handle_timeout(now);
        }
        self.advance(now);
    }

    /// Looks for peers of a public torrent from now on, and announces it if `announce` says so. If
    /// that has changed, it is due at once. `hints` are nodes by name that the torrent knows.
    pub(super) fn want(
        &mut self,
        now: Duration,
        torrent: TorrentKey,
        info_hash: InfoHashV1,
        announce: Announce,
        hints: impl IntoIterator<Item = String>,
    ) {
        self.start(now);
        let hinted = self.names.look_up(hints);
        self.take_nodes(now, hinted);
        match self.torrents.get_mut(&torrent) {
            Some(wanted) if wanted.announce == announce => return,
            Some(wanted) => {
                wanted.announce = announce;
                // What runs announces something else.
                if let Lookup::Runs(key, _) = wanted.lookup {
                    self.stop_lookup(key);
                }
            }
            None => {
                let (lookup, in_vain, ended) = (Lookup::Due(now), 0, false);
                let wanted = Wanted { info_hash, announce, lookup, in_vain, ended };
                self.torrents.insert(torrent, wanted);
            }
        }
        self.wait_until(torrent, now);
        self.advance(now);
    }

    /// Looks for no peers of a torrent any more.
    pub(super) fn forget(&mut self, torrent: TorrentKey) {
        let Some(wanted) = self.torrents.remove(&torrent) else { return };
        match wanted.lookup {
            Lookup::Due(at) => self.unschedule(torrent, at),
            Lookup::Runs(key, _) => self.stop_lookup(key),
        }
        self.found.retain(|found| found.torrent != torrent);
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let transmit = self.node.as_mut()?.poll_transmit()?;
        Some((transmit.to, transmit.bytes.to_vec()))
    }

    /// The next name to look up.
    pub(super) fn poll_name(&mut self) -> Option<String> {
        self.names.poll_name()
    }

    /// The next peers that were found.
    pub(super) fn poll_peers(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let node = self.node.as_ref()?;
        let has_room = self.lookups.len() < MAX_DHT_LOOKUPS;
        let next = [self.without_peers.first(), self.with_peers.first()].into_iter().flatten();
        let next = next.map(|(at, _)| *at).filter(|_| has_room);
        next.chain(node.poll_timeout()).min()
    }

    /// Returns how many nodes are known; `None` if the node has not started.
    pub(super) fn node_count(&self) -> Option<usize> {
        self.node.as_ref().map(|node| node.node_count())
    }

    /// Whether peers of a torrent may still be found: until the first lookup has ended or, for a
    /// link whose metadata is missing, ever.
    pub(super) fn may_find(&self, torrent: TorrentKey, is_link: bool) -> bool {
        let knows_nodes = self.node_count().is_some_and(|count| count > 0);
        let hopes = |wanted: &Wanted| is_link || !wanted.ended;
        knows_nodes && self.torrents.get(&torrent).is_some_and(hopes)
    }

    /// Returns what the next launch should know, if the node has started.
    pub(super) fn save(&self) -> Option<SavedState> {
        self.node.as_ref().map(|node| node.save())
    }

    /// Starts the node.
    fn start(&mut self, now: Duration) {
        if self.node.is_none() {
            self.node = Some(Box::new(Dht::new(&self.setup)));
            self.setup.state = None;
            let known = self.names.look_up_nodes();
            self.take_nodes(now, known);
        }
    }

    fn take_nodes(&mut self, now: Duration, found: node_names::Found) {
        if let Some(node) = &mut self.node {
            found.pass_to(node, now);
        }
    }

    /// Does what the node's events ask for and what is due, until nothing is left.
    fn advance(&mut self, now: Duration) {
        self.take_events(now);
        while self.start_lookups(now) {
            self.take_events(now);
        }
    }

    fn take_events(&mut self, now: Duration) {
        while let Some(event) = self.node.as_mut().and_then(|node| node.poll_event()) {
            match event {
                Event::Peers { lookup, from, addresses } => {
                    self.handle_peers(lookup, from, addresses);
                }
                Event::Done { lookup, stats } => self.handle_done(now, lookup, stats.stored > 0),
                Event::RoutersWanted => {
                    let found = self.names.look_up_again();
                    self.take_nodes(now, found);
                }
                Event::Address { ip } => log::info!("the DHT sees us at {ip}"),
                // Nobody asks for these here.
                _ => {}
            }
        }
    }

    fn handle_peers(
        &mut self,
        lookup: LookupKey,
        informant: Option<SocketAddr>,
        peers: Vec<SocketAddr>,
    ) {
        let Some(torrent) = self.lookups.get(&lookup) else { return };
        if let Some(Wanted { lookup: Lookup::Runs(_, found), .. }) = self.torrents.get_mut(torrent)
        {
            *found += peers.len();
        }
        self.found.push_back(Found { torrent: *torrent, informant, peers });
    }

    fn handle_done(&mut self, now: Duration, lookup: LookupKey, is_announced: bool) {
        let Some(torrent) = self.lookups.remove(&lookup) else { return };
        let Some(wanted) = self.torrents.get_mut(&torrent) else { return };
        let found = matches!(wanted.lookup, Lookup::Runs(_, found) if found > 0);
        wanted.in_vain = if found { 0 } else { wanted.in_vain.saturating_add(1) };
        wanted.ended = true;
        let rest = if found { DHT_INTERVAL } else { wanted.retry(is_announced) };
        let jitter = DHT_JITTER.min(rest / 4).as_millis() as u64;
        let jitter = Duration::from_millis(self.rng.random_range(0..jitter));
        self.wait_until(torrent, now + rest + jitter);
    }

    /// Lines a torrent up, which waits or whose lookup ended.
    fn wait_until(&mut self, torrent: TorrentKey, at: Duration) {
        let Some(wanted) = self.torrents.get_mut(&torrent) else { return };
        let (before, in_vain) = (wanted.lookup, wanted.in_vain > 0 || !wanted.ended);
        wanted.lookup = Lookup::Due(at);
        if let Lookup::Due(before) = before {
            self.unschedule(torrent, before);
        }
        let queue = if in_vain { &mut self.without_peers } else { &mut self.with_peers };
        queue.insert((at, torrent));
    }

    fn unschedule(&mut self, torrent: TorrentKey, at: Duration) {
        self.without_peers.remove(&(at, torrent));
        self.with_peers.remove(&(at, torrent));
    }

    fn stop_lookup(&mut self, key: LookupKey) {
        self.lookups.remove(&key);
        if let Some(node) = &mut self.node {
            node.stop(key);
        }
    }

    /// Starts lookups of the torrents that are due, while there is room. Returns whether it started
    /// any.
    fn start_lookups(&mut self, now: Duration) -> bool {
        let mut started = false;
        while self.lookups.len() < MAX_DHT_LOOKUPS
            && let Some(torrent) = self.pop_due(now)
            && let Some(wanted) = self.torrents.get_mut(&torrent)
            && let Some(node) = &mut self.node
        {
            let key = node.find_peers(now, wanted.info_hash, wanted.announce);
            wanted.lookup = Lookup::Runs(key, 0);
            self.lookups.insert(key, torrent);
            started = true;
        }
        started
    }

    /// Takes the next torrent that is due.
    fn pop_due(&mut self, now: Duration) -> Option<TorrentKey> {
        let is_due = |queue: &BTreeSet<(Duration, TorrentKey)>| {
            queue.first().is_some_and(|(at, _)| *at <= now)
        };
        let has_peers = match (is_due(&self.without_peers), is_due(&self.with_peers)) {
            (false, false) => return None,
            (true, true) => !self.last_had_peers,
            (_, with_peers) => with_peers,
        };
        self.last_had_peers = has_peers;
        let queue = if has_peers { &mut self.with_peers } else { &mut self.without_peers };
        queue.pop_first().map(|(_, torrent)| torrent)
    }
}

fn is_due(node: &Dht, now: Duration) -> bool {
    node.poll_timeout().is_some_and(|at| at <= now)
}

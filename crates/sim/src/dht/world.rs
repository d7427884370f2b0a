//! A simulation: a network is drawn and joins, things happen to it, and what honest nodes store is
//! looked for.

mod long;
mod themes;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::dht::{Announce, Config, InfoHashV1, Item};

use super::net::Net;
use super::node::{Found, Nat};
use super::plan::Plan;
use crate::Share;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::watch::Broken;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// How long a node may take to learn its address.
const ADDRESS_TIME: Duration = Duration::from_secs(15 * 60);
/// From how many nodes on a network is large enough for that. Eight networks have to vote, each of
/// which needs a node.
const ENOUGH_VOTERS: usize = 20;
/// How long a peer is stored, and a little more.
const PEER_LIFETIME: Duration = Duration::from_secs(47 * 60);
/// The most lookups at a time.
const PARALLEL: usize = 8;

/// What is expected to be found, in which situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Quiet,
    Churn,
    Saved,
    Recovered,
    Nat,
    Sybils,
    ManySybils,
    Polluted,
    Flooded,
}

/// The least shares in percent: over many seeds, and in each.
const SHARES: [(When, &str, f64, f64); 9] = [
    (When::Quiet, "found in a quiet network", 99.0, 80.0),
    (When::Churn, "found while nodes come and go", 95.0, 60.0),
    (When::Saved, "found soon after a start with dead nodes", 95.0, 0.0),
    (When::Recovered, "found two minutes after an outage", 99.0, 80.0),
    (When::Nat, "found at and by nodes behind NATs", 98.0, 80.0),
    (When::Sybils, "found among Sybils of few networks", 99.0, 80.0),
    (When::ManySybils, "found among Sybils of many networks", 95.0, 60.0),
    (When::Polluted, "found among polluters", 99.0, 80.0),
    (When::Flooded, "found while a node is flooded", 98.0, 80.0),
];

/// A peer that was announced.
#[derive(Debug, Clone)]
struct Announced {
    hash: InfoHashV1,
    /// In both families.
    peers: [Option<SocketAddr>; 2],
}

/// The state of a simulation.
pub(super) struct World {
    net: Net,
    plan: Plan,
    rng: Rng,
    shares: Vec<Share>,
}

impl World {
    pub(super) fn new(seed: u64, readable: bool) -> Self {
        let plan = Plan::draw(&mut Rng::new(seed).split());
        Self::of(plan, seed, readable)
    }

    fn of(plan: Plan, seed: u64, readable: bool) -> Self {
        let mut rng = Rng::new(seed);
        let net = Net::new(rng.split(), plan.quality.clone(), Trace::new(readable));
        let share = |(_, what, least, each)| Share { what, found: 0, tried: 0, least, each };
        Self { net, plan, rng, shares: SHARES.map(share).to_vec() }
    }

    pub(super) fn end(self) -> (Plan, Duration, Vec<Share>, Trace) {
        (self.plan, self.net.now, self.shares, self.net.trace)
    }

    /// Plays everything.
    pub(super) fn play(&mut self) -> Result<(), Broken> {
        self.join(self.plan.nodes, Nat::None)?;
        self.net.run(self.plan.settle)?;
        let first = self.find(When::Quiet, 4, 12)?;
        self.exchange_items()?;
        for theme in self.plan.themes.clone() {
            let text = format!("{theme:?}");
            self.net.trace.remark(self.net.now, "", &text);
            self.happen(theme)?;
        }
        if self.rng.chance(15) {
            self.net.run(PEER_LIFETIME)?;
        }
        self.look_for_old(&first)?;
        self.check_addresses()
    }

    /// Draws the configuration of a node.
    fn config(&mut self) -> Config {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let (v4, v6) = match self.rng.below(3) {
            _ if !self.plan.has_v6 => (true, false),
            0 => (true, true),
            1 => (true, false),
            _ => (false, true),
        };
        Config { v4, v6, wants_routers: false, ..Config::new(seed) }
    }

    /// Adds nodes that join through one that is there.
    fn join(&mut self, count: usize, nat: Nat) -> Result<(), Broken> {
        for _ in 0..count {
            let mut config = self.config();
            if self.net.nodes.is_empty() {
                (config.v4, config.v6) = (true, self.plan.has_v6);
            }
            let index = self.net.add(config, nat);
            self.introduce(index);
            self.net.run(Duration::from_millis(self.plan.gap))?;
        }
        Ok(())
    }

    /// Gives a node the addresses of another, which others can reach.
    fn introduce(&mut self, index: usize) {
        let config = self.net.nodes[index].config.clone();
        for (family, is_on) in [config.v4, config.v6].into_iter().enumerate() {
            let known = self.live(|at, node| {
                at != index && node.is_reachable() && node.addresses[family].is_some()
            });
            let contact = known.first().and_then(|at| self.net.nodes[*at].addresses[family]);
            if let Some(contact) = contact.filter(|_| is_on) {
                self.net.introduce(index, contact);
            }
        }
    }

    /// Returns the nodes that run and have a network, and are `wanted`.
    fn live(&self, wanted: impl Fn(usize, &super::node::Node) -> bool) -> Vec<usize> {
        let nodes = self.net.nodes.iter().enumerate();
        let nodes = nodes.filter(|(_, node)| node.is_running && node.is_online);
        nodes.filter(|(at, node)| wanted(*at, node)).map(|(at, _)| at).collect()
    }

    fn pick(&mut self, of: &[usize]) -> Result<usize, Broken> {
        self.rng.pick(of).copied().ok_or_else(|| "no node is left".to_owned())
    }

    fn hash(&mut self) -> InfoHashV1 {
        let mut hash = InfoHashV1([0; 20]);
        self.rng.fill(&mut hash.0);
        hash
    }

    /// Has nodes announce torrents, and others look for them.
    fn find(
        &mut self,
        when: When,
        announces: usize,
        lookups: usize,
    ) -> Result<Vec<Announced>, Broken> {
        let all = self.live(|_, _| true);
        let mut announced = Vec::new();
        for _ in 0..announces {
            let (index, hash) = (self.pick(&all)?, self.hash());
            announced.push(self.announce(index, hash)?);
        }
        self.net.run(SECOND)?;
        for _ in 0..lookups.div_ceil(PARALLEL) {
            self.find_all(when, &announced, &all)?;
        }
        Ok(announced)
    }

    /// Has nodes look for torrents that were announced at the start. Nobody may name a peer that
    /// was not announced for long.
    fn look_for_old(&mut self, announced: &[Announced]) -> Result<(), Broken> {
        let all = self.live(|_, _| true);
        for torrent in announced {
            let (index, hash) = (self.pick(&all)?, torrent.hash);
            let key = self.net.with(index, |dht, now| dht.find_peers(now, hash, Announce::No));
            self.net.look_up(&[(index, key)])?;
        }
        Ok(())
    }

    /// Has a node announce a torrent.
    fn announce(&mut self, index: usize, hash: InfoHashV1) -> Result<Announced, Broken> {
        let port = self.rng.within(2..65_535) as u16;
        let announce = Announce::Port { port, seed: self.rng.chance(50) };
        let key = self.net.with(index, |dht, now| dht.find_peers(now, hash, announce));
        self.net.look_up(&[(index, key)])?;
        let peer = |address: SocketAddr| SocketAddr::new(address.ip(), port);
        Ok(Announced { hash, peers: self.net.nodes[index].addresses.map(|own| own.map(peer)) })
    }

    /// Has several nodes look for one of the torrents each, at the same time.
    fn find_all(
        &mut self,
        when: When,
        announced: &[Announced],
        askers: &[usize],
    ) -> Result<Vec<Found>, Broken> {
        let (mut started, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..PARALLEL {
            let index = self.pick(askers)?;
            let Some(torrent) = self.rng.pick(announced) else { break };
            let own = self.net.nodes[index].addresses;
            let peers = (0..2).filter(|family| own[*family].is_some());
            let peers: Vec<_> = peers.filter_map(|family| torrent.peers[family]).collect();
            if peers.is_empty() {
                continue;
            }
            let hash = torrent.hash;
            let find = |dht: &mut ::dht::Dht, now| dht.find_peers(now, hash, Announce::No);
            started.push((index, self.net.with(index, find)));
            expected.push(peers);
        }
        let found = self.net.look_up(&started)?;
        for ((found, expected), (index, _)) in found.iter().zip(&expected).zip(&started) {
            let is_found = expected.iter().any(|peer| found.peers.contains(peer));
            self.count(when, is_found, *index);
        }
        Ok(found)
    }

    fn count(&mut self, when: When, is_found: bool, index: usize) {
        let at = SHARES.iter().position(|(other, ..)| *other == when).unwrap_or(0);
        self.shares[at].tried += 1;
        self.shares[at].found += u32::from(is_found);
        let name = self.net.nodes[index].name.clone();
        let text = if is_found { "has found it" } else { "HAS NOT FOUND IT" };
        self.net.trace.remark(self.net.now, &name, text);
    }

    /// Has a node put an item, and another get it.
    fn exchange_items(&mut self) -> Result<(), Broken> {
        let all = self.live(|_, node| node.config.v4);
        for _ in 0..2 {
            let value = format!("i{}e", self.rng.below(1 << 40)).into_bytes();
            let (mut seed, salt) = ([0; 32], b"salt".to_vec());
            self.rng.fill(&mut seed);
            let item = match self.rng.chance(50) {
                true => Item::immutable(value),
                false => Item::sign(&seed, salt.clone(), 1, value),
            };
            let item = item.map_err(|error| error.to_string())?;
            let (by, asker) = (self.pick(&all)?, self.pick(&all)?);
            let put = item.clone();
            let key = self.net.with(by, |dht, now| dht.put(now, put, None));
            self.net.look_up(&[(by, key)])?;
            let key = self.net.with(asker, |dht, now| dht.get(now, item.target(), &salt));
            let found = self.net.look_up(&[(asker, key)])?;
            let is_found = found.iter().any(|found| found.item.as_ref() == Some(&item));
            self.count(When::Quiet, is_found, asker);
        }
        Ok(())
    }

    /// Checks that nodes that have run for long know their address and have an id that fits it.
    fn check_addresses(&self) -> Result<(), Broken> {
        let is_old = |node: &super::node::Node| node.started + ADDRESS_TIME <= self.net.now;
        let old = self.live(|_, node| is_old(node) && node.addresses[0].is_some());
        if old.len() < ENOUGH_VOTERS {
            return Ok(());
        }
        for node in old.into_iter().map(|index| &self.net.nodes[index]) {
            let own: Option<IpAddr> = node.addresses[0].map(|own| own.ip());
            let id = node.dht.node_ids()[0];
            let fits = own.zip(id).is_some_and(|(ip, id)| id.fits_address(ip));
            if node.dht.external_address()[0] != own || !fits {
                return Err(format!(
                    "{}: it does not know its address, or has no such id",
                    node.name
                ));
            }
        }
        Ok(())
    }
}

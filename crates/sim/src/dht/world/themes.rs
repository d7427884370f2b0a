//! What happens to a network.

mod attacks;

use std::time::Duration;

use ::dht::{Config, NodeId, SavedState};

use super::{MINUTE, SECOND, When, World};
use crate::dht::hostile::{self, Hostile, Manner};
use crate::dht::node::Nat;
use crate::dht::plan::Theme;
use crate::watch::Broken;

/// The share of nodes that are gone within a minute, in percent: half of them live ten minutes.
const DEATHS: u32 = 7;
/// How long a network may take to work again after an outage.
const RECOVERY: Duration = Duration::from_secs(2 * 60);
/// How long a node may take to find something with mostly dead saved nodes.
const SAVED_TIME: Duration = Duration::from_secs(30);
/// The most nodes behind NATs among those that are named, in percent.
const UNREACHABLE: u64 = 4;
/// From how many nodes on that holds: in a smaller network everybody talks with everybody, so that
/// bindings stay open.
const FEW_TALK: usize = 60;
/// How long a node may take to notice that its address has changed.
const MOVE_TIME: Duration = Duration::from_secs(40 * 60);

impl World {
    pub(super) fn happen(&mut self, theme: Theme) -> Result<(), Broken> {
        match theme {
            Theme::Join => self.grow(),
            Theme::Churn => {
                let minutes = self.rng.within(12..25);
                self.churn(minutes)
            }
            Theme::Saved => self.start_with_saved_nodes(),
            Theme::Outage => self.lose_network(),
            Theme::Nat => self.add_unreachable(),
            Theme::Families => self.lose_family(),
            Theme::Address => self.change_addresses(),
            Theme::Eclipse => self.eclipse(),
            Theme::Pollute => self.pollute(),
            Theme::Spoof => self.spoof(),
            Theme::Flood => self.flood_store(),
        }
    }

    /// A quarter more nodes join, some of them read-only, and are used at once.
    fn grow(&mut self) -> Result<(), Broken> {
        let start = self.net.now;
        self.join(self.plan.nodes / 4, Nat::None)?;
        let mut config = self.config();
        config.read_only = true;
        let reader = self.net.add(config, Nat::None);
        self.introduce(reader);
        self.net.run(MINUTE)?;
        if let Some(to) = self.net.nodes[reader].addresses[0] {
            let query = hostile::query(b"ro", NodeId([1; 20]), ::dht::message::Method::Ping);
            let from = hostile::nowhere(&mut self.rng);
            self.net.post_all(vec![(from, to, query); 3]);
        }
        let all = self.live(|_, _| true);
        let new = self.live(|_, node| node.started >= start);
        let by = self.pick(&new)?;
        let hash = self.hash();
        let torrent = [self.announce(by, hash)?];
        self.find_all(When::Quiet, &torrent, &all)?;
        self.find_all(When::Quiet, &torrent, &new)?;
        self.count_swarm()
    }

    /// Many nodes announce a torrent, and one counts them.
    fn count_swarm(&mut self) -> Result<(), Broken> {
        let hash = self.hash();
        let all = self.live(|_, node| node.config.v4);
        let count = all.len().min(40);
        for index in &all[..count] {
            self.announce(*index, hash)?;
        }
        let asker = self.pick(&all)?;
        let key = self.net.with(asker, |dht, now| dht.scrape(now, hash));
        let found = self.net.look_up(&[(asker, key)])?;
        let (seeds, peers) = found[0].counts.unwrap_or_default();
        let counted = (seeds + peers) as usize;
        let is_near = counted.abs_diff(count) <= 3 + count / 5;
        if self.plan.has_v6 || is_near {
            return Ok(());
        }
        Err(format!("{counted} peers are counted of {count}"))
    }

    /// Nodes come and go; some come back elsewhere, with the nodes that they had saved.
    pub(super) fn churn(&mut self, minutes: u64) -> Result<(), Broken> {
        for minute in 0..minutes {
            for index in self.live(|index, _| index > 2) {
                if !self.rng.chance(DEATHS) {
                    continue;
                }
                self.net.remove(index);
                let node = &self.net.nodes[index];
                let (config, nat) = (node.config.clone(), node.nat);
                let state = SavedState::decode(&node.dht.save().encode());
                let state = state.map_err(|error| format!("{}: {error}", node.name))?;
                let mut fresh = self.config();
                (fresh.v4, fresh.v6) = (config.v4, config.v6);
                // Who died before it met others asks a router.
                let returns = self.rng.chance(50) && !state.nodes.is_empty();
                fresh.state = returns.then_some(state);
                let new = self.net.add(fresh, nat);
                if !returns {
                    self.introduce(new);
                }
            }
            self.net.run(MINUTE)?;
            if minute >= 6 && minute % 3 == 0 {
                self.find(When::Churn, 1, 6)?;
            }
        }
        Ok(())
    }

    /// Of the saved nodes nine of ten are dead, and so are the routers.
    fn start_with_saved_nodes(&mut self) -> Result<(), Broken> {
        let live = self.live(|_, node| node.is_reachable() && node.config.v4);
        let (by, hash) = (self.pick(&live)?, self.hash());
        let torrent = [self.announce(by, hash)?];
        for _ in 0..3 {
            let mut nodes: Vec<(NodeId, _)> = Vec::new();
            for index in live.iter().take(30) {
                let node = &self.net.nodes[*index];
                nodes.extend(node.dht.node_ids()[0].zip(node.addresses[0]));
                for _ in 0..9 {
                    let mut id = NodeId([0; 20]);
                    self.rng.fill(&mut id.0);
                    nodes.push((id, hostile::nowhere(&mut self.rng)));
                }
            }
            self.rng.shuffle(&mut nodes);
            let state = Some(SavedState { nodes, ..SavedState::default() });
            let config = Config { state, v4: true, v6: false, ..self.config() };
            let index = self.net.add(config, Nat::None);
            let routers = [hostile::nowhere(&mut self.rng), hostile::nowhere(&mut self.rng)];
            routers.iter().for_each(|router| self.net.nodes[index].watch.give(*router));
            self.net.with(index, |dht, now| dht.handle_routers(now, &routers));
            let start = self.net.now;
            self.find_all(When::Saved, &torrent, &[index])?;
            let took = self.net.now - start;
            if took > SAVED_TIME {
                return Err(format!("a start with dead nodes takes {took:?}"));
            }
            self.net.run(2 * MINUTE)?;
            let known = self.net.nodes[index].dht.node_count();
            if known < live.len() / 3 {
                return Err(format!("after two minutes a node with saved nodes knows {known}"));
            }
        }
        Ok(())
    }

    /// One node, or all, have no network for a while, and use the DHT meanwhile.
    fn lose_network(&mut self) -> Result<(), Broken> {
        let is_for_all = self.rng.chance(50);
        if self.rng.chance(50) {
            self.join(1, Nat::PortRestricted)?;
            self.net.run(2 * MINUTE)?;
        }
        let all = self.live(|_, _| true);
        // One that nobody can send anything unasked, if there is one.
        let hidden = self.live(|_, node| node.nat != Nat::None);
        let one = self.pick(if hidden.is_empty() { &all } else { &hidden })?;
        let stay: Vec<usize> = all.iter().copied().filter(|index| *index != one).collect();
        let by = self.pick(&stay)?;
        let count = |world: &Self| -> usize {
            all.iter().map(|index| world.net.nodes[*index].dht.node_count()).sum()
        };
        let before = count(self);
        self.net.is_down = is_for_all;
        self.net.nodes[one].is_online = false;
        self.net.nodes[one].knows_offline = self.rng.chance(50);
        let minutes = self.rng.within(2..40);
        for _ in 0..minutes {
            let hash = self.hash();
            let lost = if is_for_all { self.pick(&all)? } else { one };
            let key =
                self.net.with(lost, |dht, now| dht.find_peers(now, hash, ::dht::Announce::No));
            self.net.run(MINUTE)?;
            self.net.look_up(&[(lost, key)])?;
        }
        let after = count(self);
        // Until silence is known for an outage, it is held against the nodes that were asked.
        if after * 4 < before * 3 {
            return Err(format!("an outage leaves {after} of {before} nodes in the tables"));
        }
        let hash = self.hash();
        let earlier = if is_for_all { None } else { Some(self.announce(by, hash)?) };
        self.net.is_down = false;
        self.net.nodes[one].is_online = true;
        self.net.run(RECOVERY)?;
        let torrent = match earlier {
            Some(torrent) => torrent,
            None => self.announce(by, hash)?,
        };
        let askers = if is_for_all { all } else { vec![one] };
        self.find_all(When::Recovered, &[torrent], &askers)?;
        Ok(())
    }

    /// Nodes behind NATs join, announce and look up; others do not name them.
    fn add_unreachable(&mut self) -> Result<(), Broken> {
        let start = self.net.now;
        self.join(self.plan.nodes / 6, Nat::PortRestricted)?;
        self.join(self.plan.nodes / 6, Nat::Symmetric)?;
        self.net.run(5 * MINUTE)?;
        let all = self.live(|_, _| true);
        let new = self.live(|_, node| node.started >= start);
        for askers in [&all, &new] {
            let (by, hash) = (self.pick(&new)?, self.hash());
            let torrent = [self.announce(by, hash)?];
            self.find_all(When::Nat, &torrent, askers)?;
        }
        self.net.run(15 * MINUTE)?;
        self.net.named = (0, 0);
        self.find(When::Nat, 3, 32)?;
        self.net.run(2 * MINUTE)?;
        let (unreachable, named) = self.net.named;
        let is_small = named < 1000 || self.plan.nodes < FEW_TALK;
        if is_small || unreachable * 100 <= named * UNREACHABLE {
            return Ok(());
        }
        Err(format!("{unreachable} of {named} nodes that are named are behind NATs"))
    }

    /// One family fails; the nodes that have the other one find what they did, and the first works
    /// again soon after it is back.
    fn lose_family(&mut self) -> Result<(), Broken> {
        let lost = self.rng.below(2) as usize;
        let others = self.live(|_, node| node.addresses[1 - lost].is_some());
        let members = self.live(|_, node| node.addresses[lost].is_some());
        self.net.lost_family = Some(lost);
        self.net.run(self.rng.within(1..15) as u32 * MINUTE)?;
        let (by, hash) = (self.pick(&others)?, self.hash());
        let mut torrent = self.announce(by, hash)?;
        torrent.peers[lost] = None;
        self.find_all(When::Recovered, &[torrent], &others)?;
        self.net.lost_family = None;
        self.net.run(RECOVERY)?;
        let (by, hash) = (self.pick(&members)?, self.hash());
        let mut torrent = self.announce(by, hash)?;
        torrent.peers[1 - lost] = None;
        self.find_all(When::Recovered, &[torrent], &members)?;
        Ok(())
    }

    /// The addresses of some nodes change, while liars say that everybody is at another one.
    fn change_addresses(&mut self) -> Result<(), Broken> {
        let claimed = hostile::nowhere(&mut self.rng);
        let liars: Vec<std::net::SocketAddr> =
            (0..self.rng.within(1..8) as u8).map(|net| ([200, net, 1, 1], 6881).into()).collect();
        for liar in &liars {
            self.plant(*liar, Manner::Voter(claimed));
        }
        // A node that hears the liars first.
        let config = Config { v4: true, v6: false, ..self.config() };
        let new = self.net.add(config, Nat::None);
        liars.iter().for_each(|liar| self.net.introduce(new, *liar));
        self.net.run(2 * SECOND)?;
        self.introduce(new);
        self.net.run(2 * MINUTE)?;
        let all = self.live(|index, node| index > 0 && node.addresses[0].is_some());
        let moving: Vec<usize> = all.into_iter().filter(|_| self.rng.chance(10)).collect();
        moving.iter().for_each(|index| self.net.change_address(*index));
        let end = self.net.now + MOVE_TIME;
        let is_known = |world: &Self, index: usize| {
            let node = &world.net.nodes[index];
            node.dht.external_address()[0] == node.addresses[0].map(|own| own.ip())
        };
        while self.net.now < end && !moving.iter().all(|index| is_known(self, *index)) {
            self.net.run(MINUTE)?;
        }
        self.find(When::Quiet, 2, 8).map(|_| ())
    }

    /// Adds a hostile node with an id that fits its address and makes it known to everybody.
    fn plant(&mut self, address: std::net::SocketAddr, manner: Manner) -> usize {
        let id = NodeId::for_address(address.ip(), self.rng.source());
        self.plant_as(id, address, manner)
    }

    fn plant_as(&mut self, id: NodeId, address: std::net::SocketAddr, manner: Manner) -> usize {
        let hostile = self.net.add_hostile(Hostile::new(id, address, manner));
        for index in self.live(|_, node| node.addresses[0].is_some()) {
            if self.rng.chance(50) {
                self.net.introduce(index, address);
            } else if let Some(to) = self.net.nodes[index].addresses[0] {
                let sent = self.net.hostiles[hostile].introduce(to);
                self.net.post_all(vec![sent]);
            }
        }
        hostile
    }

    /// Lets a second pass.
    fn tick(&mut self) -> Result<(), Broken> {
        self.net.run(SECOND)
    }
}

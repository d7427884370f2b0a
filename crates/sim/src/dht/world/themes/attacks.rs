//! What hostile nodes do to a network.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ::dht::{Announce, InfoHashV1, NodeId};

use super::super::{MINUTE, SECOND, When, World};
use crate::dht::hostile::{self, Manner, Store};
use crate::dht::net::Flood;
use crate::watch::Broken;

/// How many forged queries there are per second.
const FLOOD: u32 = 10_000;
/// How many lookups of a new node run at once.
const MANY_LOOKUPS: usize = 64;

impl World {
    /// Sybils of few or many networks, with ids next to a torrent, name each other.
    pub(super) fn eclipse(&mut self) -> Result<(), Broken> {
        let count = self.rng.within(8..257);
        let is_wide = self.rng.chance(30);
        let (nets, when) = match is_wide {
            true => (256, When::ManySybils),
            false => (self.rng.within(1..5), When::Sybils),
        };
        let hash = self.hash();
        let sybils: Vec<(NodeId, SocketAddr)> = (0..count)
            .map(|number: u64| {
                let mut id: NodeId = hash.into();
                self.rng.fill(&mut id.0[18..]);
                let host = (number / nets) as u8;
                (id, ([201, (number % nets) as u8, host, 1], 6881).into())
            })
            .collect();
        let ring = Rc::new(sybils.clone());
        for (id, address) in sybils {
            let hostile = hostile::Hostile::new(id, address, Manner::Sybil(Rc::clone(&ring)));
            self.net.add_hostile(hostile);
        }
        for index in self.live(|_, node| node.addresses[0].is_some()) {
            for _ in 0..4 {
                let at = self.rng.below(ring.len() as u64) as usize;
                self.net.introduce(index, ring[at].1);
            }
        }
        self.net.run(MINUTE)?;
        let all = self.live(|_, node| node.addresses[0].is_some());
        let by = self.pick(&all)?;
        let torrent = [self.announce(by, hash)?];
        for _ in 0..4 {
            self.find_all(when, &torrent, &all)?;
            self.tick()?;
        }
        Ok(())
    }

    /// Nodes name nodes that do not exist, victims, or have another id each time.
    pub(super) fn pollute(&mut self) -> Result<(), Broken> {
        let before = self.cost(When::Quiet)?;
        let all = self.live(|_, node| node.config.v4);
        let victims: Vec<_> = (0..3).map(|_| hostile::nowhere(&mut self.rng)).collect();
        for number in 0..(all.len() as u64 * self.rng.within(5..21) / 100).max(1) {
            let address = ([202, number as u8, 1, 1], 6881).into();
            let manner = match self.rng.below(6) {
                0 => Manner::Shifter,
                _ => Manner::Polluter { victims: victims.clone() },
            };
            self.plant(address, manner);
            self.tick()?;
        }
        self.net.run(2 * MINUTE)?;
        let after = self.cost(When::Polluted)?;
        if after > 2 * before + 8 {
            return Err(format!("{after} queries of a lookup, without polluters {before}"));
        }
        self.start_many_lookups()
    }

    /// Has nodes look for torrents; returns how many queries a lookup took on average.
    fn cost(&mut self, when: When) -> Result<u32, Broken> {
        let all = self.live(|_, node| node.config.v4);
        let (mut asked, mut count) = (0, 0);
        for _ in 0..4 {
            let (by, hash) = (self.pick(&all)?, self.hash());
            let torrent = [self.announce(by, hash)?];
            for found in self.find_all(when, &torrent, &all)? {
                asked += found.stats.map_or(0, |stats| stats.asked);
                count += 1;
            }
        }
        Ok(asked / count.max(1))
    }

    /// A node starts, and looks for many torrents at once.
    fn start_many_lookups(&mut self) -> Result<(), Broken> {
        let mut config = self.config();
        (config.v4, config.v6) = (true, false);
        let index = self.net.add(config, crate::dht::node::Nat::None);
        self.introduce(index);
        let mut started = Vec::new();
        for _ in 0..MANY_LOOKUPS {
            let hash = self.hash();
            let find = |dht: &mut ::dht::Dht, now| dht.find_peers(now, hash, Announce::No);
            started.push((index, self.net.with(index, find)));
        }
        self.net.run(2 * MINUTE)?;
        self.net.look_up(&started).map(|_| ())
    }

    /// One node gets forged queries, from anywhere or in the name of a victim.
    pub(super) fn spoof(&mut self) -> Result<(), Broken> {
        let live = self.live(|_, node| node.is_reachable() && node.addresses[0].is_some());
        let to = self.pick(&live)?;
        let before = self.lookup_time(to, 9)?;
        let victim = hostile::nowhere(&mut self.rng);
        let from = self.rng.chance(40).then_some(victim);
        self.net.flood = Some(Flood { to, from, per_second: FLOOD });
        self.net.run(SECOND)?;
        let after = self.lookup_time(to, 5)?;
        let hash = self.hash();
        let others: Vec<usize> = live.into_iter().filter(|index| *index != to).collect();
        let by = self.pick(&others)?;
        let torrent = [self.announce(by, hash)?];
        self.find_all(When::Flooded, &torrent, &[to])?;
        self.net.flood = None;
        // Two medians of few lookups differ by chance.
        let most = before * 3 / 2 + 2 * Duration::from_millis(self.plan.quality.delay.end);
        if after > most {
            return Err(format!("a lookup takes {after:?}, without forged queries {before:?}"));
        }
        Ok(())
    }

    /// Returns the median time of lookups for nodes.
    fn lookup_time(&mut self, index: usize, rounds: usize) -> Result<Duration, Broken> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let target = NodeId(self.hash().0);
            let key = self.net.with(index, |dht, now| dht.find_nodes(now, target));
            let found = self.net.look_up(&[(index, key)])?;
            times.extend(found[0].stats.map(|stats| stats.elapsed));
        }
        times.sort();
        Ok(times[times.len() / 2])
    }

    /// Hostile nodes fill the store of one node, and abuse its tokens.
    pub(super) fn flood_store(&mut self) -> Result<(), Broken> {
        let live = self.live(|_, node| node.is_reachable() && node.addresses[0].is_some());
        let target = self.pick(&live)?;
        let Some(to) = self.net.nodes[target].addresses[0] else { return Ok(()) };
        let count = self.rng.within(4..50);
        let storers: Vec<usize> = (0..count)
            .map(|number| {
                let address = ([203, number as u8, 1, 2], 6881).into();
                let id = NodeId::for_address(SocketAddr::ip(&address), self.rng.source());
                let manner = Manner::Storer(Store::default());
                self.net.add_hostile(hostile::Hostile::new(id, address, manner))
            })
            .collect();
        // Long enough for more torrents than an address may have, or for tokens to be too old.
        let seconds = if self.rng.chance(30) { 750 } else { 120 };
        for second in 0..seconds {
            let is_busy = !(120..720).contains(&second);
            for storer in storers.iter().filter(|_| is_busy) {
                let sent = self.net.hostiles[*storer].store(to, 2, &mut self.rng);
                self.net.post_all(sent);
            }
            self.tick()?;
        }
        // A torrent close to the node.
        let own = self.net.nodes[target].dht.node_ids()[0].unwrap_or(NodeId([0; 20]));
        let mut hash = InfoHashV1(own.0);
        self.rng.fill(&mut hash.0[12..]);
        let by = self.pick(&live)?;
        let torrent = [self.announce(by, hash)?];
        self.find_all(When::Flooded, &torrent, &live)?;
        Ok(())
    }
}

//! Networks that are too large, or live too long, for a seed.

use std::time::Duration;

use super::{MINUTE, SECOND, When, World};
use crate::dht::crowd::Crowd;
use crate::dht::net::Quality;
use crate::dht::node::Nat;
use crate::dht::plan::Plan;
use crate::watch::Broken;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How many modelled nodes there are around an idle one, and how long half of them live.
const CROWD: usize = 3_000;
const MEDIAN_LIFE: Duration = Duration::from_secs(3 * 60 * 60);
/// How many days a node is idle.
const IDLE_DAYS: u32 = 24;
/// The most bytes of queries that an idle node sends in a day.
const IDLE_BYTES: u64 = 2_000_000;
/// How many nodes of the table are alive at least, in percent.
const ALIVE: usize = 90;
/// How much more memory a day may take than the second one.
const GROWTH: usize = 64 * 1024;
/// The time between two queries to an idle node.
const QUERY_GAP: Duration = Duration::from_secs(3);

/// Returns a plan for a network that is only used as a whole.
fn plan(nodes: usize, gap: u64, minutes: u64) -> Plan {
    Plan {
        themes: Vec::new(),
        nodes,
        has_v6: false,
        quality: Quality { loss: 20, twice: 5, delay: 20..180 },
        gap,
        settle: Duration::from_secs(60 * minutes),
    }
}

impl World {
    /// A network of 5,000 nodes.
    pub(in crate::dht) fn large() -> Self {
        Self::of(plan(5_000, 20, 5), 0, false)
    }

    /// Everybody joins, and finds what anybody announces.
    pub(in crate::dht) fn play_large(&mut self) -> Result<(), Broken> {
        self.join(self.plan.nodes, Nat::None)?;
        self.net.run(self.plan.settle)?;
        self.find(When::Quiet, 100, 1_000).map(|_| ())
    }

    /// A network in which half of the nodes live ten minutes.
    pub(in crate::dht) fn restless() -> Self {
        Self::of(plan(60, 500, 4), 0, false)
    }

    /// Nodes come and go for a day.
    pub(in crate::dht) fn play_restless(&mut self) -> Result<(), Broken> {
        self.join(self.plan.nodes, Nat::None)?;
        self.net.run(self.plan.settle)?;
        self.churn(24 * 60)
    }

    /// A node among thousands.
    pub(in crate::dht) fn idle() -> Self {
        Self::of(plan(1, 0, 0), 0, false)
    }

    /// The node answers queries and stores peers for days. What it uses does not grow.
    pub(in crate::dht) fn play_idle(&mut self) -> Result<(), Broken> {
        let crowd = Crowd::new(self.net.now, CROWD, MEDIAN_LIFE, &mut self.rng);
        let contact = crowd.draw(&mut self.rng).map(|(_, address)| address);
        self.net.crowd = Some(crowd);
        let config = self.config();
        let index = self.net.add(config, Nat::None);
        contact.into_iter().for_each(|contact| self.net.introduce(index, contact));
        let (mut sent, mut second) = (0, 0);
        for day in 0..IDLE_DAYS {
            let (alive, known) = self.idle_for(DAY, index)?;
            let status = self.net.nodes[index].dht.status();
            let bytes = status.counters.sent_bytes - sent;
            sent = status.counters.sent_bytes;
            let memory = status.memory;
            let text = format!(
                "day {day}: {bytes} bytes of queries, {alive} of {known} nodes alive, {} torrents, \
                 {} peers, {memory} bytes of memory",
                status.torrents, status.peers
            );
            self.net.trace.remark(self.net.now, "n0", &text);
            if day == 1 {
                second = memory;
            }
            let grows = day > 1 && memory > second + GROWTH;
            if bytes > IDLE_BYTES || alive * 100 < known * ALIVE || known < 24 * 200 || grows {
                return Err(format!("an idle node: {text}"));
            }
        }
        Ok(())
    }

    /// Lets a node be asked by others. Returns how many nodes of its table are alive, and how many
    /// there are, in sum over the hours.
    fn idle_for(&mut self, period: Duration, index: usize) -> Result<(usize, usize), Broken> {
        let (mut alive, mut known) = (0, 0);
        let end = self.net.now + period;
        let mut next_hour = self.net.now + 60 * MINUTE;
        while self.net.now < end {
            self.net.run(QUERY_GAP)?;
            let Some(to) = self.net.nodes[index].addresses[0] else { break };
            let Some(crowd) = &mut self.net.crowd else { break };
            crowd.advance(self.net.now, &mut self.rng);
            let asked: Vec<_> = crowd.ask(to, &mut self.rng).into_iter().collect();
            if self.net.now >= next_hour {
                next_hour += 60 * MINUTE;
                let dht = &self.net.nodes[index].dht;
                let nodes = dht.save().nodes;
                let count = dht.node_count();
                known += count;
                alive += nodes.iter().take(count).filter(|node| crowd.is_live(node.1)).count();
            }
            self.net.post_all(asked);
        }
        self.net.run(SECOND)?;
        Ok((alive, known))
    }
}

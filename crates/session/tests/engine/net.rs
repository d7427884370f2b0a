//! Several nodes on one clock. Their links split bytes at random.

use std::net::SocketAddr;
use std::time::Duration;

use session::engine::{EngineConfig, LinkKey};

use super::node::Node;

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    pairs: Vec<[(usize, LinkKey); 2]>,
    /// The state of the generator that splits bytes.
    random: u64,
}

pub(crate) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 6881))
}

impl Net {
    pub(crate) fn new(configs: impl IntoIterator<Item = EngineConfig>) -> Self {
        let nodes = configs.into_iter().map(Node::new).collect();
        Self { nodes, pairs: Vec::new(), random: 1 }
    }

    pub(crate) fn now(&self) -> Duration {
        self.nodes[0].now
    }

    /// Runs until `done` holds. Panics after `limit` of virtual time.
    #[track_caller]
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now() + limit;
        while !done(self) {
            assert!(self.now() < end, "not within {limit:?}: {:?}", self.nodes[0].engine.status());
            if !self.step() {
                self.sleep(end);
            }
        }
    }

    /// Cuts every connection of a node.
    pub(crate) fn cut(&mut self, node: usize) {
        let (cut, kept) =
            self.pairs.drain(..).partition(|pair| pair.iter().any(|(at, _)| *at == node));
        self.pairs = kept;
        let cut: Vec<[(usize, LinkKey); 2]> = cut;
        for (at, link) in cut.into_iter().flatten() {
            let node = &mut self.nodes[at];
            node.engine.handle_closed(node.now, link, None);
            node.act();
        }
    }

    fn step(&mut self) -> bool {
        self.nodes.iter_mut().for_each(Node::tick);
        self.connect() | self.carry()
    }

    fn sleep(&mut self, end: Duration) {
        // Nobody wakes a node whose quota for reading is used up.
        let refill = self.now() + Duration::from_millis(50);
        let waiting = self.pairs.iter().flatten().any(|(at, link)| {
            self.nodes[*at].sent.get(link).is_some_and(|bytes| !bytes.is_empty())
        });
        let end = if waiting { end.min(refill) } else { end };
        let next = self.nodes.iter().map(|node| node.next_due(end)).min().unwrap_or(end);
        let next = next.max(self.now() + Duration::from_micros(1));
        self.nodes.iter_mut().for_each(|node| node.now = next);
    }

    fn connect(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.nodes.len() {
            while let Some((link, to)) = self.nodes[at].connecting.pop_front() {
                any = true;
                let now = self.now();
                let other = (0..self.nodes.len()).find(|node| address(*node) == to);
                let from = SocketAddr::new(address(at).ip(), 40_000 + self.pairs.len() as u16);
                let accepted = other.and_then(|other| {
                    Some((other, self.nodes[other].engine.handle_accepted(now, from)?))
                });
                let node = &mut self.nodes[at];
                match accepted {
                    Some(there) => {
                        self.pairs.push([(at, link), there]);
                        node.engine.handle_connected(now, link);
                    }
                    None => node.engine.handle_connect_failed(now, link, "connection refused"),
                }
                node.act();
            }
        }
        any
    }

    fn carry(&mut self) -> bool {
        let mut any = false;
        for pair in self.pairs.clone() {
            let [one, other] = pair;
            any |= self.carry_one(one, other) | self.carry_one(other, one);
            let gone = pair.iter().any(|(at, link)| self.nodes[*at].closed.contains(link));
            if gone {
                self.pairs.retain(|known| *known != pair);
                for (at, link) in pair {
                    let node = &mut self.nodes[at];
                    node.engine.handle_closed(node.now, link, None);
                    node.act();
                }
                any = true;
            }
        }
        any
    }

    fn carry_one(&mut self, (from, link): (usize, LinkKey), (to, there): (usize, LinkKey)) -> bool {
        let Some(bytes) = self.nodes[from].sent.get_mut(&link).map(std::mem::take) else {
            return false;
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let node = &mut self.nodes[to];
            let quota = node.engine.receive_quota(node.now, there).min(rest.len());
            if quota == 0 {
                break;
            }
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let split = 1 + (self.random >> 33) as usize % 40_000;
            let (now, later) = rest.split_at(split.min(quota));
            rest = later;
            self.nodes[to].receive(there, now);
        }
        let moved = rest.len() < bytes.len();
        let rest = rest.to_vec();
        let sent = self.nodes[from].sent.entry(link).or_default();
        sent.splice(0..0, rest);
        moved
    }
}

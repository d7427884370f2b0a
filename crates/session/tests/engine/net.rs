//! Several nodes on one clock. Their links split bytes at random.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use session::engine::{EngineConfig, LinkKey};
use session::{EventKind, TorrentKey};
use testkit::Payload;

use super::node::{Node, config};

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    /// The torrents that node 0 downloads, each to its [`Self::folder`].
    pub(crate) downloads: Vec<TorrentKey>,
    pub(crate) payloads: Vec<Payload>,
    folder: tempfile::TempDir,
    pairs: Vec<[(usize, LinkKey); 2]>,
    /// The state of the generator that splits bytes.
    random: u64,
    /// The datagrams that were carried, with the nodes that sent them.
    pub(crate) carried: Vec<(usize, Vec<u8>)>,
}

pub(crate) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 6881))
}

impl Net {
    pub(crate) fn new(configs: impl IntoIterator<Item = EngineConfig>) -> Self {
        let nodes = configs.into_iter().map(Node::new).collect();
        let folder = tempfile::tempdir().unwrap();
        let (downloads, payloads) = (Vec::new(), Vec::new());
        Self {
            nodes,
            downloads,
            payloads,
            folder,
            pairs: Vec::new(),
            random: 1,
            carried: Vec::new(),
        }
    }

    /// Node 0 is the leecher. The others have everything.
    pub(crate) fn swarm(leecher: EngineConfig, seeders: usize, payloads: Vec<Payload>) -> Self {
        let mut net = Self::new([leecher].into_iter().chain((1..=seeders as u64).map(config)));
        payloads.into_iter().for_each(|payload| net.add(payload));
        net
    }

    /// Adds a torrent that node 0 downloads from all others.
    pub(crate) fn add(&mut self, payload: Payload) {
        self.nodes[1..].iter_mut().for_each(|seeder| _ = seeder.seed(&payload));
        let (folder, peers) =
            (self.folder(self.downloads.len()), (1..self.nodes.len()).map(address));
        self.downloads.push(self.nodes[0].leech(&payload, folder, peers));
        self.payloads.push(payload);
    }

    /// The folder of a download of node 0.
    pub(crate) fn folder(&self, number: usize) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    /// Runs until node 0 has completed all downloads, and compares them.
    #[track_caller]
    pub(crate) fn complete(&mut self, limit: Duration) {
        self.run_until(limit, |net| net.completed() >= net.payloads.len());
        for (number, payload) in self.payloads.iter().enumerate() {
            assert_eq!(payload.compare(self.folder(number)), Ok(()));
        }
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

    /// How many downloads of node 0 are complete.
    pub(crate) fn completed(&self) -> usize {
        self.nodes[0].count(|kind| *kind == EventKind::Completed)
    }

    /// Cuts every connection of a node.
    pub(crate) fn cut(&mut self, node: usize) {
        let is_cut = |pair: &mut [(usize, LinkKey); 2]| pair.iter().any(|(at, _)| *at == node);
        let cut: Vec<_> = self.pairs.extract_if(.., is_cut).collect();
        self.close(cut.into_iter().flatten());
    }

    fn close(&mut self, links: impl IntoIterator<Item = (usize, LinkKey)>) {
        for (at, link) in links {
            let node = &mut self.nodes[at];
            node.engine.handle_closed(node.now, link, None);
            node.act();
        }
    }

    fn step(&mut self) -> bool {
        self.nodes.iter_mut().for_each(Node::tick);
        self.connect() | self.carry() | self.carry_datagrams()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            if !self.step() {
                self.sleep(end);
            }
        }
    }

    fn carry_datagrams(&mut self) -> bool {
        let mut any = false;
        for from in 0..self.nodes.len() {
            while let Some((to, bytes)) = self.nodes[from].datagrams.pop_front() {
                any = true;
                if let Some(other) = (0..self.nodes.len()).find(|node| address(*node) == to) {
                    self.nodes[other].datagram(address(from), &bytes);
                }
                self.carried.push((from, bytes));
            }
        }
        any
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
                        node.act();
                    }
                    None => node.refuse(link),
                }
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
                self.close(pair);
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

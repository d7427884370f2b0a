//! Several swarms that exchange a torrent over links with a delay and a rate, on a virtual clock.
//! A node's disk verifies after a millisecond. The digest of a bad block names the node that
//! hashed it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use swarm::{
    Bitfield, BlockFate, BlockRequest, Committed, ConnectedPeer, DisconnectReason, Geometry,
    Output, PeerId, PeerKey, PieceIndex, Sha1Digest, SpanBudget, SpanLayout, Swarm, SwarmConfig,
};

use crate::bench::{address, peer_id};

/// The properties of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) seed: bool,
    /// The rate at which it sends, in bytes per second.
    pub(crate) up: u64,
    /// Every how many blocks it sends a corrupt one; `None` for never.
    pub(crate) lies_every: Option<u64>,
    pub(crate) memory: usize,
}

pub(crate) const SEED: Node = Node { seed: true, up: 1 << 20, lies_every: None, memory: 64 << 20 };
pub(crate) const LEECH: Node = Node { seed: false, ..SEED };

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wire(usize, Box<Wire>),
    Verify(usize, PieceIndex, bool),
    /// The node's link is free again.
    Serve(usize),
}

/// A message on its way to a node, from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    Interested(usize),
    NotInterested(usize),
    Choke(usize),
    Unchoke(usize),
    Have(usize, PieceIndex),
    Request(usize, BlockRequest),
    Cancel(usize, BlockRequest),
    Reject(usize, BlockRequest),
    Block(usize, BlockRequest, bool),
    Closed(usize),
}

struct State {
    node: Node,
    swarm: Swarm,
    budget: SpanBudget,
    /// The blocks of unfinished pieces, and whether they are good.
    data: BTreeMap<(PieceIndex, u32), bool>,
    uploading_until: Duration,
    sent_blocks: u64,
    serving: VecDeque<usize>,
    /// The requests of each other node that are not answered.
    wants: BTreeMap<usize, VecDeque<BlockRequest>>,
    waits_for_link: bool,
    linked: BTreeMap<usize, bool>,
    completed_at: Option<Duration>,
    banned: usize,
    log: Vec<String>,
}

/// Nodes, linked each with each.
pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) geometry: Geometry,
    states: Vec<State>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    delay: Duration,
}

impl Net {
    pub(crate) fn new(geometry: Geometry, delay: Duration, seed: u64, nodes: &[Node]) -> Self {
        let state = |(index, node): (usize, &Node)| {
            let pieces = geometry.piece_count();
            let have = if node.seed { Bitfield::full(pieces) } else { Bitfield::new(pieces) };
            let mut config = SwarmConfig::new(id(index));
            config.seed = seed.wrapping_add(index as u64);
            let (now, wanted) = (Duration::ZERO, Bitfield::full(pieces));
            let mut swarm = Swarm::new(now, &config);
            swarm.begin_transfer(now, geometry, have, wanted, &[]).unwrap();
            State {
                node: *node,
                swarm,
                budget: SpanBudget::new(node.memory),
                data: BTreeMap::new(),
                uploading_until: Duration::ZERO,
                sent_blocks: 0,
                serving: VecDeque::new(),
                wants: BTreeMap::new(),
                waits_for_link: false,
                linked: BTreeMap::new(),
                completed_at: None,
                banned: 0,
                log: Vec::new(),
            }
        };
        let states = nodes.iter().enumerate().map(state).collect();
        let (events, now) = (BinaryHeap::new(), Duration::ZERO);
        let mut net = Self { now, geometry, states, events, sequence: 0, delay };
        for from in 0..nodes.len() {
            (from + 1..nodes.len()).for_each(|to| net.link(from, to));
        }
        net
    }

    pub(crate) fn swarm(&self, node: usize) -> &Swarm {
        &self.states[node].swarm
    }

    pub(crate) fn completed_at(&self, node: usize) -> Option<Duration> {
        self.states[node].completed_at
    }

    /// How many addresses the node banned.
    pub(crate) fn bans(&self, node: usize) -> usize {
        self.states[node].banned
    }

    /// Every output of a node, in order.
    pub(crate) fn log(&self, node: usize) -> &[String] {
        &self.states[node].log
    }

    /// Runs until every leecher is complete, or `limit`; says whether all are.
    pub(crate) fn run(&mut self, limit: Duration) -> bool {
        loop {
            (0..self.states.len()).for_each(|node| self.drain(node));
            if self.states.iter().all(|state| state.swarm.is_complete()) {
                return true;
            }
            let timeouts = self.states.iter().filter_map(|state| state.swarm.poll_timeout());
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let Some(next) = timeouts.chain(event).min().filter(|at| *at <= limit) else {
                return false;
            };
            self.now = next.max(self.now);
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= self.now
        {
            let Some(Reverse((_, _, event))) = self.events.pop() else { break };
            match event {
                Event::Wire(to, wire) => self.receive(to, *wire),
                Event::Serve(node) => self.states[node].waits_for_link = false,
                Event::Verify(node, piece, digests) => self.verify(node, piece, digests),
            }
        }
        for state in &mut self.states {
            if state.swarm.poll_timeout().is_some_and(|at| at <= self.now) {
                state.swarm.handle_timeout(self.now);
            }
        }
    }

    fn link(&mut self, from: usize, to: usize) {
        for (at, other, outgoing) in [(from, to, true), (to, from, false)] {
            let address = address(other as u64 + 1);
            let peer = ConnectedPeer { address, outgoing, fast: true, peer_id: id(other) };
            let state = &mut self.states[at];
            if state.swarm.handle_connected(self.now, key(other), peer).is_ok() {
                state.linked.insert(other, true);
            }
        }
        for (at, other) in [(from, to), (to, from)] {
            let have = self.states[other].swarm.pieces().unwrap().have().clone();
            let swarm = &mut self.states[at].swarm;
            swarm.handle_bitfield(self.now, key(other), 0, &have.as_bytes(), true);
        }
    }

    fn post(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn send(&mut self, to: usize, wire: Wire) {
        self.post(self.now + self.delay, Event::Wire(to, Box::new(wire)));
    }

    fn drain(&mut self, node: usize) {
        loop {
            let state = &mut self.states[node];
            let Some(output) = state.swarm.poll_output(self.now, &mut state.budget) else { break };
            state.log.push(format!("{:?} {output:?}", self.now));
            self.carry_out(node, &output);
        }
        self.serve(node);
    }

    fn carry_out(&mut self, node: usize, output: &Output) {
        let layout = SpanLayout::new(self.geometry);
        let to = |peer: PeerKey| peer.0 as usize;
        match *output {
            Output::Interested { peer } => self.send(to(peer), Wire::Interested(node)),
            Output::NotInterested { peer } => self.send(to(peer), Wire::NotInterested(node)),
            Output::Choke { peer } => {
                self.send(to(peer), Wire::Choke(node));
                let void = self.states[node].wants.remove(&to(peer)).unwrap_or_default();
                void.into_iter().for_each(|want| self.send(to(peer), Wire::Reject(node, want)));
            }
            Output::Unchoke { peer } => self.send(to(peer), Wire::Unchoke(node)),
            Output::Have { peer, piece } => self.send(to(peer), Wire::Have(node, piece)),
            Output::Request { peer, request } => self.send(to(peer), Wire::Request(node, request)),
            Output::Cancel { peer, request } => self.send(to(peer), Wire::Cancel(node, request)),
            Output::Disconnect { peer, .. } => {
                self.states[node].linked.remove(&to(peer));
                self.states[node].wants.remove(&to(peer));
                self.send(to(peer), Wire::Closed(node));
            }
            Output::ClosePiece { piece } => {
                let state = &mut self.states[node];
                state.budget.release(layout.cost(piece));
                state.data.retain(|(other, _), _| *other != piece);
            }
            Output::StageSpan { .. } => {
                let state = &mut self.states[node];
                state.budget.release(layout.span_length() as usize);
            }
            Output::Commit { piece, digests } => {
                let at = self.now + Duration::from_millis(1);
                self.post(at, Event::Verify(node, piece, digests));
            }
            Output::Banned { .. } => self.states[node].banned += 1,
            Output::Completed => self.states[node].completed_at = Some(self.now),
            _ => {}
        }
    }

    /// Sends blocks while the link is free, to the peers in turn.
    fn serve(&mut self, node: usize) {
        while self.states[node].uploading_until <= self.now + Duration::from_millis(50) {
            let Some(to) = self.states[node].serving.pop_front() else { return };
            let now = self.now;
            let state = &mut self.states[node];
            let wants = state.wants.get_mut(&to);
            let Some(request) = wants.and_then(VecDeque::pop_front) else { continue };
            state.serving.push_back(to);
            state.sent_blocks += 1;
            let lie = state.node.lies_every.is_some_and(|n| state.sent_blocks.is_multiple_of(n));
            let took = u64::from(request.length()) * 1_000_000 / state.node.up;
            let start = state.uploading_until.max(now);
            state.uploading_until = start + Duration::from_micros(took);
            state.swarm.handle_sent(now, key(to), request.length());
            let arrival = state.uploading_until + self.delay;
            let wire = Wire::Block(node, request, !lie);
            self.post(arrival, Event::Wire(to, Box::new(wire)));
        }
        let state = &mut self.states[node];
        if !state.serving.is_empty() && !std::mem::replace(&mut state.waits_for_link, true) {
            let at = state.uploading_until;
            self.post(at, Event::Serve(node));
        }
    }

    fn receive(&mut self, to: usize, wire: Wire) {
        let now = self.now;
        let state = &mut self.states[to];
        let swarm = &mut state.swarm;
        match wire {
            Wire::Interested(from) => swarm.handle_interested(now, key(from)),
            Wire::NotInterested(from) => swarm.handle_not_interested(now, key(from)),
            Wire::Choke(from) => swarm.handle_choke(now, key(from)),
            Wire::Unchoke(from) => swarm.handle_unchoke(now, key(from)),
            Wire::Have(from, piece) => swarm.handle_have(now, key(from), piece),
            Wire::Cancel(from, request) => {
                let wants = state.wants.entry(from).or_default();
                if let Some(place) = wants.iter().position(|want| *want == request) {
                    wants.remove(place);
                    self.send(from, Wire::Reject(to, request));
                }
            }
            Wire::Reject(from, request) => swarm.handle_reject(now, key(from), request),
            Wire::Request(from, request) => {
                if !swarm.serves(key(from), request.piece()) {
                    return self.send(from, Wire::Reject(to, request));
                }
                state.wants.entry(from).or_default().push_back(request);
                if !state.serving.contains(&from) {
                    state.serving.push_back(from);
                }
            }
            Wire::Block(from, request, good) => {
                if state.linked.contains_key(&from) {
                    swarm.handle_payload(now, key(from), request.length());
                    if swarm.handle_part(now, key(from), request, 0) == BlockFate::Keep {
                        state.data.insert((request.piece(), request.block()), good);
                    }
                    swarm.handle_block(now, key(from), request);
                }
            }
            Wire::Closed(from) => {
                state.linked.remove(&from);
                state.wants.remove(&from);
                swarm.handle_disconnected(now, key(from), DisconnectReason::Closed);
            }
        }
    }

    fn verify(&mut self, node: usize, piece: PieceIndex, wanted: bool) {
        let blocks = self.geometry.block_count(piece);
        let state = &mut self.states[node];
        let good: Vec<bool> = (0..blocks).map(|block| state.data[&(piece, block)]).collect();
        let digests: Vec<Sha1Digest> = good
            .iter()
            .map(|good| if *good { Sha1Digest([0; 20]) } else { Sha1Digest([node as u8 + 1; 20]) })
            .collect();
        let committed = if good.iter().all(|good| *good) {
            Committed::Verified { digests: wanted.then_some(digests) }
        } else {
            Committed::Mismatch { digests }
        };
        state.budget.release(SpanLayout::new(self.geometry).cost(piece));
        state.data.retain(|(other, _), _| *other != piece);
        state.swarm.handle_committed(self.now, piece, committed);
    }
}

pub(crate) fn key(node: usize) -> PeerKey {
    PeerKey(node as u64)
}

fn id(node: usize) -> PeerId {
    peer_id(node as u64 + 1)
}

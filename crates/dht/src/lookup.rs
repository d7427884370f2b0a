//! The walk towards a target in one family (BEP 5, "Overview"): which nodes to ask next, when it is
//! over, and where to store.

use std::net::SocketAddr;

use crate::NodeId;
use crate::address::{Group, host, is_local, net, wide_net};
use crate::table::K;

/// The most queries on the way to the closest nodes at a time.
pub const ALPHA: usize = 4;
/// The most nodes that a walk remembers; the farthest are forgotten.
pub const MAX_CANDIDATES: usize = 100;
/// How many nodes of a /16 (IPv6: /48) are asked while there are others. Whoever has many addresses
/// close to each other must not fill the space around a target with nodes.
const NODES_PER_NET: usize = 2;
/// How many nodes of a /16 (IPv6: /48) a walk remembers, so that they do not displace all others.
const CANDIDATES_PER_NET: usize = 16;
/// How many of the nodes that one node alone named are asked before one of them answers. The others of
/// them are asked last.
const UNPROVEN_NAMED: usize = 3;
/// The most nodes that a value is stored at.
const MAX_STORES: usize = 2 * K;
/// How many of them have ids that fit their addresses, if there are enough (BEP 42).
const COMPLIANT_STORES: usize = 6;

/// The walk.
#[derive(Debug)]
pub(crate) struct Lookup {
    target: NodeId,
    /// Whether only nodes count that gave a token.
    needs_token: bool,
    /// The closest first.
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    id: NodeId,
    address: SocketAddr,
    /// The only node that named it; `None` if several did, or our table.
    informant: Option<SocketAddr>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    New,
    Asked,
    /// Silent for longer than the short timeout. It may still answer, but others are asked.
    Stalled,
    /// Silent for so long that nothing waits for it. It may still answer.
    Overdue,
    Failed,
    Answered {
        token: Option<Box<[u8]>>,
        store: Store,
    },
}

/// Whether the value was stored at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    No,
    Asked,
    Over,
}

/// What a walk needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The node to ask.
    pub(crate) next: Option<(NodeId, SocketAddr)>,
    /// Whether the closest nodes known have answered or stalled.
    pub(crate) is_settled: bool,
    /// Whether none of them may still answer in time.
    pub(crate) is_done: bool,
}

impl Lookup {
    pub(crate) fn new(target: NodeId, needs_token: bool) -> Self {
        Self { target, needs_token, candidates: Vec::new() }
    }

    pub(crate) fn target(&self) -> NodeId {
        self.target
    }

    /// Adds a node that `informant` named, or that is in our table, unless it, its address or its /24
    /// (IPv6: /64) is there already. Returns whether it was added.
    pub(crate) fn add(
        &mut self,
        id: NodeId,
        address: SocketAddr,
        informant: Option<SocketAddr>,
    ) -> bool {
        let (own_host, own_net, own_wide) = (host(address), net(address), wide_net(address));
        let mut of_net = 0;
        for other in &mut self.candidates {
            if other.id == id && other.address == address && other.informant != informant {
                other.informant = None;
            }
            let is_live = other.state != State::Failed;
            let is_like = other.id == id
                || host(other.address) == own_host
                || net(other.address) == own_net && is_live;
            if is_like {
                return false;
            }
            of_net += usize::from(is_live && wide_net(other.address) == own_wide);
        }
        if of_net >= CANDIDATES_PER_NET {
            return false;
        }
        let distance = self.target.distance(&id);
        let is_closer = |other: &Candidate| self.target.distance(&other.id) < distance;
        let at = self.candidates.partition_point(is_closer);
        if at == MAX_CANDIDATES {
            return false;
        }
        self.candidates.insert(at, Candidate { id, address, informant, state: State::New });
        self.candidates.truncate(MAX_CANDIDATES);
        true
    }

    /// Returns what the walk needs now.
    pub(crate) fn progress(&self) -> Progress {
        let (diverse, deferred) = self.scan(true);
        if diverse.is_done && deferred { self.scan(false).0 } else { diverse }
    }

    /// Goes through the candidates up to the last one of the [`K`] closest. With `diverse`, nodes of
    /// different networks count, and neither nodes of networks that have answered already are asked,
    /// nor those that an untrustworthy node named. Returns whether there are such nodes, too.
    fn scan(&self, diverse: bool) -> (Progress, bool) {
        let mut progress = Progress { next: None, is_settled: true, is_done: true };
        let mut nets: Vec<Group> = Vec::with_capacity(2 * K);
        let (mut counted, mut asked, mut deferred) = (0, 0, false);
        for candidate in &self.candidates {
            let group = wide_net(candidate.address);
            let of_net = nets.iter().filter(|other| **other == group).count();
            match &candidate.state {
                State::Answered { token, .. } if token.is_some() || !self.needs_token => {
                    counted += usize::from(!diverse || of_net == 0);
                    nets.push(group);
                    if counted == K {
                        return (progress, false);
                    }
                }
                State::New
                    if diverse && (of_net >= NODES_PER_NET || self.is_doubtful(candidate)) =>
                {
                    deferred = true;
                }
                State::New => {
                    if asked < ALPHA && progress.next.is_none() {
                        progress.next = Some((candidate.id, candidate.address));
                    }
                    (progress.is_settled, progress.is_done) = (false, false);
                }
                State::Asked => {
                    asked += 1;
                    (progress.is_settled, progress.is_done) = (false, false);
                }
                State::Stalled => progress.is_done = false,
                State::Answered { .. } | State::Overdue | State::Failed => {}
            }
        }
        (progress, deferred)
    }

    /// Whether only a node named it of whose nodes enough have been asked and none has answered.
    fn is_doubtful(&self, candidate: &Candidate) -> bool {
        if candidate.informant.is_none() {
            return false;
        }
        let mut unproven = 0;
        for other in self.candidates.iter().filter(|other| other.informant == candidate.informant) {
            match other.state {
                State::Answered { .. } => return false,
                State::Asked | State::Stalled | State::Overdue | State::Failed => unproven += 1,
                State::New => {}
            }
        }
        unproven >= UNPROVEN_NAMED
    }

    /// Records that the node at `address` is being asked.
    pub(crate) fn handle_asked(&mut self, address: SocketAddr) {
        self.set(address, State::Asked);
    }

    /// Records that it has been silent for the short timeout.
    pub(crate) fn handle_stalled(&mut self, address: SocketAddr) {
        self.set(address, State::Stalled);
    }

    /// Records that it has been silent for longer than an announce waits.
    pub(crate) fn handle_overdue(&mut self, address: SocketAddr) {
        self.set(address, State::Overdue);
    }

    /// Records that it will not answer.
    pub(crate) fn handle_failed(&mut self, address: SocketAddr) {
        self.set(address, State::Failed);
    }

    fn set(&mut self, address: SocketAddr, state: State) {
        if let Some(candidate) = self.find(address) {
            candidate.state = state;
        }
    }

    /// Records that the node answered.
    pub(crate) fn handle_answered(&mut self, address: SocketAddr, token: Option<&[u8]>) {
        let token = token.filter(|_| self.needs_token).map(Box::from);
        self.set(address, State::Answered { token, store: Store::No });
    }

    /// Returns a node to store at, and its token: the closest that gave one, until [`K`] networks are
    /// reached and enough ids fit their addresses.
    pub(crate) fn next_store(&self) -> Option<(NodeId, SocketAddr, &[u8])> {
        let mut nets: Vec<Group> = Vec::with_capacity(2 * K);
        let (mut compliant, mut total) = (0, 0);
        for Candidate { id, address, state, .. } in &self.candidates {
            let State::Answered { token: Some(token), store } = state else { continue };
            if *store == Store::No {
                return Some((*id, *address, token));
            }
            let group = wide_net(*address);
            if !nets.contains(&group) {
                nets.push(group);
            }
            total += 1;
            compliant += usize::from(is_local(address.ip()) || id.fits_address(address.ip()));
            let is_enough = nets.len() >= K && compliant >= COMPLIANT_STORES;
            if is_enough || total == MAX_STORES {
                return None;
            }
        }
        None
    }

    /// Records that the node is being asked to store.
    pub(crate) fn handle_store_asked(&mut self, address: SocketAddr) {
        self.set_store(address, Store::Asked);
    }

    /// Records that it answered, or that nothing waits for its answer.
    pub(crate) fn handle_store_over(&mut self, address: SocketAddr) {
        self.set_store(address, Store::Over);
    }

    fn set_store(&mut self, address: SocketAddr, new: Store) {
        let candidate = self.find(address).map(|candidate| &mut candidate.state);
        if let Some(State::Answered { store, .. }) = candidate {
            *store = new;
        }
    }

    /// Whether a node is being asked to store.
    pub(crate) fn is_storing(&self) -> bool {
        let is_asked = |state: &State| matches!(state, State::Answered { store: Store::Asked, .. });
        self.candidates.iter().any(|candidate| is_asked(&candidate.state))
    }

    /// Returns the nodes that answered, the closest first, [`K`] at most.
    pub(crate) fn closest(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        let answered = self
            .candidates
            .iter()
            .filter(|candidate| matches!(candidate.state, State::Answered { .. }));
        answered.map(|candidate| (candidate.id, candidate.address)).take(K)
    }

    /// Whether it has no node to start from.
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.address == address)
    }

    pub(crate) fn memory(&self) -> usize {
        let tokens = self.candidates.iter().map(|candidate| match &candidate.state {
            State::Answered { token: Some(token), .. } => token.len(),
            _ => 0,
        });
        self.candidates.capacity() * size_of::<Candidate>() + tokens.sum::<usize>()
    }
}

#[cfg(test)]
mod tests;

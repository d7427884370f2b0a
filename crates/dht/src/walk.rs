//! The walk towards a target in one family (BEP 5, "Overview"): which nodes to ask next, when it is
//! over, and where to store.

use std::net::SocketAddr;

use crate::NodeId;
use crate::address::{Group, host, net, wide_net};
use crate::node_id::NodeInfo;
use crate::table::K;

/// The most queries of a walk at a time. A node that is silent for the short timeout no longer counts.
pub const ALPHA: usize = 4;
/// The most nodes that a walk remembers; the farthest are forgotten.
pub const MAX_CANDIDATES: usize = 100;
/// The most nodes that a walk asks. One in twenty walks asks more than 48; a walk that asks many more
/// is being led astray.
pub const MAX_LOOKUP_QUERIES: usize = 200;
/// How many nodes of a /16 (IPv6: /48) are asked while there are others. The owner of many addresses
/// close to each other must not fill the space around a target with nodes.
const ASKED_PER_WIDE_NET: usize = 2;
/// How many nodes of a /16 (IPv6: /48) a walk remembers, so that they do not displace all others.
const CANDIDATES_PER_WIDE_NET: usize = 16;
/// How many entries with the same id, and how many at the same host, a walk remembers that have not
/// answered. Only the node itself can tell which of them is right, so one must not exclude the others.
const CANDIDATES_PER_ID: usize = 3;
const CANDIDATES_PER_HOST: usize = 2;
/// How many nodes a walk remembers that one node alone named and that have not answered.
const CANDIDATES_PER_INFORMANT: usize = K;
/// How many of the nodes that one node alone named are asked before one of them answers. The others of
/// them are asked last.
const UNPROVEN_NAMED: usize = 3;
/// The most nodes that a value is stored at.
const MAX_STORES: usize = 2 * K;
/// How many of them have ids that fit their addresses, if there are enough (BEP 42).
const COMPLIANT_STORES: usize = 6;
/// How many nodes whose ids fit their addresses are asked, if there are enough, before a walk ends
/// that stores nothing. Whoever has many addresses can choose ids next to a target for all of them,
/// but not such ids.
const COMPLIANT_READS: usize = 4;

/// The walk.
#[derive(Debug)]
pub(crate) struct Walk {
    target: NodeId,
    /// Whether only nodes count that gave a token.
    needs_token: bool,
    /// The closest first.
    candidates: Vec<Candidate>,
    /// How many candidates were tried.
    tried: usize,
}

#[derive(Debug)]
struct Candidate {
    id: NodeId,
    address: SocketAddr,
    /// The only node that named it; `None` if several did, or our table.
    informant: Option<SocketAddr>,
    /// Whether it answered with another id than the one it was named with.
    is_misnamed: bool,
    /// Whether the id fits the address.
    is_compliant: bool,
    state: CandidateState,
}

impl Candidate {
    fn is(&self, node: NodeInfo) -> bool {
        (self.id, self.address) == node
    }

    fn has_answered(&self) -> bool {
        matches!(self.state, CandidateState::Answered { .. })
    }

    /// Whether the value is stored at it, or is about to be.
    fn is_store(&self) -> bool {
        matches!(&self.state, CandidateState::Answered { store, .. } if *store != StoreState::No)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum CandidateState {
    New,
    Asked,
    /// Silent for longer than the short timeout. It may still answer, but others are asked.
    Stalled,
    /// Silent for so long that nothing waits for it. It may still answer.
    Overdue,
    Failed,
    Answered {
        token: Option<Box<[u8]>>,
        store: StoreState,
    },
}

/// Whether the value was stored at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreState {
    No,
    Asked,
    Over,
}

/// What a walk needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The node to ask.
    pub(crate) next: Option<NodeInfo>,
    /// Whether the closest nodes known have answered or stalled.
    pub(crate) is_settled: bool,
    /// Whether none of them may still answer in time.
    pub(crate) is_done: bool,
}

impl Walk {
    pub(crate) fn new(target: NodeId, needs_token: bool) -> Self {
        Self { target, needs_token, candidates: Vec::new(), tried: 0 }
    }

    pub(crate) fn target(&self) -> NodeId {
        self.target
    }

    /// Adds a node that `informant` named, or that is in our table, unless it is there already, a node
    /// of its /24 (IPv6: /64) has answered, or there are too many like it. Returns whether it was
    /// added.
    pub(crate) fn add(&mut self, (id, address): NodeInfo, informant: Option<SocketAddr>) -> bool {
        if let Some(known) = self.find((id, address)) {
            known.informant = known.informant.filter(|other| Some(*other) == informant);
            return false;
        }
        let own_net = net(address);
        let is_taken = |other: &Candidate| other.has_answered() && net(other.address) == own_net;
        if self.candidates.iter().any(is_taken) || !self.make_room((id, address), informant) {
            return false;
        }
        self.insert(Candidate {
            id,
            address,
            informant,
            is_misnamed: false,
            is_compliant: id.is_compliant(address.ip()),
            state: CandidateState::New,
        });
        if self.candidates.len() > MAX_CANDIDATES {
            let worst = self.worst(|_| true).unwrap_or_else(|| self.farthest());
            return !self.candidates.remove(worst).is((id, address));
        }
        true
    }

    /// Returns the farthest node of those whose ids fit their addresses, or of the others, whichever
    /// are more: neither displace the other kind.
    fn farthest(&self) -> usize {
        let are_most_compliant = 2 * self.count(|other| other.is_compliant) > MAX_CANDIDATES;
        let is_of_most = |other: &Candidate| other.is_compliant == are_most_compliant;
        self.candidates.iter().rposition(is_of_most).unwrap_or(MAX_CANDIDATES)
    }

    fn insert(&mut self, candidate: Candidate) {
        let distance = self.target.distance(&candidate.id);
        let is_closer = |other: &Candidate| self.target.distance(&other.id) < distance;
        let at = self.candidates.partition_point(is_closer);
        self.candidates.insert(at, candidate);
    }

    /// Makes room for another node among those like it. Returns whether there is any.
    fn make_room(&mut self, (id, address): NodeInfo, informant: Option<SocketAddr>) -> bool {
        let (own_host, own_wide) = (host(address), wide_net(address));
        let is_named = |other: &Candidate| informant.is_some() && other.informant == informant;
        let is_same = |other: &Candidate| other.id == id || host(other.address) == own_host;
        self.count(|other| is_named(other) && is_same(other)) == 0
            && self.count(|other| is_named(other) && !other.has_answered())
                < CANDIDATES_PER_INFORMANT
            && self.limit(CANDIDATES_PER_ID, |other| !other.has_answered() && other.id == id)
            && self.limit(CANDIDATES_PER_HOST, |other| host(other.address) == own_host)
            && self.limit(CANDIDATES_PER_WIDE_NET, |other| wide_net(other.address) == own_wide)
    }

    /// Removes the worst node for which `is_like` holds if there are `most`. Returns whether there are
    /// fewer now.
    fn limit(&mut self, most: usize, is_like: impl Fn(&Candidate) -> bool) -> bool {
        if self.count(&is_like) < most {
            return true;
        }
        let worst = self.worst(is_like);
        worst.map(|at| self.candidates.remove(at)).is_some()
    }

    fn count(&self, is_like: impl Fn(&Candidate) -> bool) -> usize {
        self.candidates.iter().filter(|other| is_like(other)).count()
    }

    /// Returns the farthest doubtful node, or else the farthest that nothing waits for, of those for
    /// which `is_like` holds. The failed ones are evidence against the node that named them.
    fn worst(&self, is_like: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let is_doubtful = |other: &Candidate| {
            other.state == CandidateState::New && is_like(other) && self.is_doubtful(other)
        };
        let is_over = |other: &Candidate| {
            matches!(other.state, CandidateState::Failed | CandidateState::Overdue)
                && is_like(other)
        };
        let doubtful = self.candidates.iter().rposition(is_doubtful);
        doubtful.or_else(|| self.candidates.iter().rposition(is_over))
    }

    /// Returns what the walk needs now, while nodes that are `busy` can't be asked.
    pub(crate) fn progress(&self, busy: &[NodeInfo]) -> Progress {
        let (diverse, deferred) = self.scan(true, busy);
        if diverse.is_done && deferred { self.scan(false, busy).0 } else { diverse }
    }

    /// Whether it has asked as many nodes as it may.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.tried >= MAX_LOOKUP_QUERIES
    }

    /// Goes through the candidates up to the last one of the [`K`] closest, and of the closest whose
    /// ids fit their addresses. With `diverse`, nodes of different networks count, and neither nodes of networks that have answered already are asked,
    /// nor those that an untrustworthy node named. Returns whether there are such nodes, too.
    fn scan(&self, diverse: bool, busy: &[NodeInfo]) -> (Progress, bool) {
        let mut progress = Progress { next: None, is_settled: true, is_done: true };
        let mut nets: Vec<Group> = Vec::with_capacity(2 * K);
        let needed = if self.needs_token { COMPLIANT_STORES } else { COMPLIANT_READS };
        let (mut counted, mut compliant, mut asked, mut deferred) = (0, 0, 0, false);
        for candidate in &self.candidates {
            if counted >= K && !candidate.is_compliant {
                continue;
            }
            let group = wide_net(candidate.address);
            let of_net = nets.iter().filter(|other| **other == group).count();
            match &candidate.state {
                CandidateState::Answered { token, .. } if token.is_some() || !self.needs_token => {
                    let counts = !diverse || of_net == 0;
                    counted += usize::from(counts);
                    compliant += usize::from(counts && candidate.is_compliant);
                    nets.push(group);
                    if counted >= K && compliant >= needed {
                        return (progress, false);
                    }
                }
                CandidateState::New if self.is_exhausted() || self.has_answered_near(candidate) => {
                }
                CandidateState::New
                    if diverse && (of_net >= ASKED_PER_WIDE_NET || self.is_doubtful(candidate)) =>
                {
                    deferred = true;
                }
                CandidateState::New => {
                    let node = (candidate.id, candidate.address);
                    if asked < ALPHA
                        && progress.next.is_none()
                        && !busy.contains(&node)
                        && !self.is_asked_near(candidate)
                    {
                        progress.next = Some(node);
                    }
                    (progress.is_settled, progress.is_done) = (false, false);
                }
                CandidateState::Asked => {
                    asked += 1;
                    (progress.is_settled, progress.is_done) = (false, false);
                }
                CandidateState::Stalled => progress.is_done = false,
                CandidateState::Answered { .. }
                | CandidateState::Overdue
                | CandidateState::Failed => {}
            }
        }
        (progress, deferred && counted < K)
    }

    /// Whether a node of the same /24 (IPv6: /64) has answered.
    fn has_answered_near(&self, candidate: &Candidate) -> bool {
        self.is_near(candidate, Candidate::has_answered)
    }

    /// Whether a node of the same /24 (IPv6: /64) is being asked.
    fn is_asked_near(&self, candidate: &Candidate) -> bool {
        self.is_near(candidate, |other| other.state == CandidateState::Asked)
    }

    fn is_near(&self, candidate: &Candidate, is_like: impl Fn(&Candidate) -> bool) -> bool {
        let group = net(candidate.address);
        self.candidates.iter().any(|other| is_like(other) && net(other.address) == group)
    }

    /// Whether only a node named it of whose nodes enough have been asked and none has answered.
    fn is_doubtful(&self, candidate: &Candidate) -> bool {
        if candidate.informant.is_none() {
            return false;
        }
        let mut unproven = 0;
        for other in self.candidates.iter().filter(|other| other.informant == candidate.informant) {
            match other.state {
                CandidateState::Answered { .. } if !other.is_misnamed => return false,
                CandidateState::New => {}
                _ => unproven += 1,
            }
        }
        unproven >= UNPROVEN_NAMED
    }

    /// Records that the node is being asked.
    pub(crate) fn handle_asked(&mut self, node: NodeInfo) {
        self.set(node, CandidateState::Asked);
    }

    /// Records that it has been silent for the short timeout.
    pub(crate) fn handle_stalled(&mut self, node: NodeInfo) {
        self.set(node, CandidateState::Stalled);
    }

    /// Records that it has been silent for longer than an announce waits.
    pub(crate) fn handle_overdue(&mut self, node: NodeInfo) {
        self.set(node, CandidateState::Overdue);
    }

    /// Records that it will not answer.
    pub(crate) fn handle_failed(&mut self, node: NodeInfo) {
        self.set(node, CandidateState::Failed);
    }

    fn set(&mut self, node: NodeInfo, state: CandidateState) {
        let Some(candidate) = self.find(node) else { return };
        let was_new = std::mem::replace(&mut candidate.state, state) == CandidateState::New;
        self.tried += usize::from(was_new);
    }

    /// Records that the node answered, with the id `id`. If that is another one than expected, its
    /// place is where that id belongs.
    pub(crate) fn handle_answered(&mut self, node: NodeInfo, id: NodeId, token: Option<&[u8]>) {
        let Some(at) = self.candidates.iter().position(|other| other.is(node)) else { return };
        let mut candidate = self.candidates.remove(at);
        if self.has_answered_near(&candidate) {
            candidate.state = CandidateState::Failed;
            self.candidates.insert(at, candidate);
            return;
        }
        if id != candidate.id {
            // A correct entry of this node is superfluous now.
            self.candidates.retain(|other| !other.is((id, candidate.address)));
            (candidate.id, candidate.is_misnamed) = (id, true);
            candidate.is_compliant = id.is_compliant(candidate.address.ip());
        }
        let token = token.filter(|_| self.needs_token).map(Box::from);
        candidate.state = CandidateState::Answered { token, store: StoreState::No };
        self.insert(candidate);
    }

    /// Returns a node to store at, and its token: the closest that gave one, [`ASKED_PER_WIDE_NET`] of a /16
    /// (IPv6: /48) at most, until [`K`] networks are reached, and then the closest whose ids fit their
    /// addresses, until these are enough. Nodes with other ids make up for missing ones of those, and
    /// nodes of fewer networks for missing networks.
    pub(crate) fn next_store(&self) -> Option<(NodeInfo, &[u8])> {
        self.next_store_of(ASKED_PER_WIDE_NET, MAX_STORES, true)
            .or_else(|_| self.next_store_of(ASKED_PER_WIDE_NET, MAX_STORES, false))
            .unwrap_or_else(
                |found| {
                    if found < K { self.next_store_of(K, K, false).ok()? } else { None }
                },
            )
    }

    /// The same with `per_net` nodes of a network and `most` in all. With `chosen`, nodes whose ids do
    /// not fit their addresses are left out once there are [`K`] networks. Returns how many there are
    /// if they do not suffice.
    fn next_store_of(
        &self,
        per_net: usize,
        most: usize,
        chosen: bool,
    ) -> Result<Option<(NodeInfo, &[u8])>, usize> {
        let has_room = self.count(Candidate::is_store) < most;
        let mut stores: Vec<Group> = Vec::with_capacity(most);
        let (mut nets, mut compliant) = (0, 0);
        for candidate in &self.candidates {
            let CandidateState::Answered { token: Some(token), store } = &candidate.state else {
                continue;
            };
            let group = wide_net(candidate.address);
            let of_net = stores.iter().filter(|other| **other == group).count();
            if of_net >= per_net || chosen && nets >= K && !candidate.is_compliant {
                continue;
            }
            if *store == StoreState::No {
                let next = ((candidate.id, candidate.address), &token[..]);
                return Ok(has_room.then_some(next));
            }
            stores.push(group);
            nets += usize::from(of_net == 0);
            compliant += usize::from(candidate.is_compliant);
            if nets >= K && compliant >= COMPLIANT_STORES {
                return Ok(None);
            }
        }
        Err(stores.len())
    }

    /// Records that the node is being asked to store.
    pub(crate) fn handle_store_asked(&mut self, node: NodeInfo) {
        self.set_store(node, StoreState::Asked);
    }

    /// Records that it answered, or that nothing waits for its answer.
    pub(crate) fn handle_store_over(&mut self, node: NodeInfo) {
        self.set_store(node, StoreState::Over);
    }

    fn set_store(&mut self, node: NodeInfo, new: StoreState) {
        let candidate = self.find(node).map(|candidate| &mut candidate.state);
        if let Some(CandidateState::Answered { store, .. }) = candidate {
            *store = new;
        }
    }

    /// Whether a node is being asked to store.
    pub(crate) fn is_storing(&self) -> bool {
        let is_asked = |state: &CandidateState| {
            matches!(state, CandidateState::Answered { store: StoreState::Asked, .. })
        };
        self.candidates.iter().any(|candidate| is_asked(&candidate.state))
    }

    /// Returns the nodes that answered, the closest first, [`K`] at most.
    pub(crate) fn closest(&self) -> impl Iterator<Item = NodeInfo> {
        let answered = self.candidates.iter().filter(|candidate| candidate.has_answered());
        answered.map(|candidate| (candidate.id, candidate.address)).take(K)
    }

    /// Whether it has no node to start from.
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    fn find(&mut self, node: NodeInfo) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.is(node))
    }

    pub(crate) fn memory(&self) -> usize {
        let tokens = self.candidates.iter().map(|candidate| match &candidate.state {
            CandidateState::Answered { token: Some(token), .. } => token.len(),
            _ => 0,
        });
        self.candidates.capacity() * size_of::<Candidate>() + tokens.sum::<usize>()
    }
}

#[cfg(test)]
mod tests;

//! One bucket: the nodes in use, and those that may replace one that fails.

use std::net::SocketAddr;

use super::{Admission, K, Node};
use crate::NodeId;
use crate::address::{Group, host, net};

/// How many nodes wait for room.
pub(super) const REPLACEMENTS: usize = 8;
/// How many queries in a row a node may leave unanswered.
pub(super) const MAX_NODE_FAILURES: u8 = 2;
/// The same, if nothing could take its place.
pub(super) const MAX_LONELY_FAILURES: u8 = 5;

/// How many nodes of a slot a large bucket has while it fills.
const NODES_PER_SLOT: usize = 2;

/// What a bucket is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// How many bits all nodes share with us.
    pub(super) bits: u32,
    /// How many nodes it holds.
    pub(super) capacity: usize,
    /// Whether it also holds nodes that share more bits.
    pub(super) is_last: bool,
}

impl Shape {
    /// Returns the part of the range in which `id` is. With a node in each slot, a bucket has one
    /// that is close to any target in its range.
    pub(super) fn slot(self, id: &NodeId) -> usize {
        id.bits_after(self.bits + 1, self.capacity.ilog2())
    }

    pub(super) fn slots(self) -> usize {
        1 << self.capacity.ilog2()
    }
}

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    live: Vec<Node>,
    /// The newest is the last.
    spare: Vec<Node>,
}

impl Bucket {
    /// Records an answer of a node that is in use or waits.
    pub(super) fn refresh(&mut self, node: &Node) -> Option<Admission> {
        if let Some(known) = self.live.iter_mut().find(|known| known.id == node.id) {
            if known.address == node.address {
                *known = node.clone();
                return Some(Admission::Refreshed);
            }
            // The id belongs to the node that had it first, while that one answers.
            if known.failures == 0 {
                return Some(Admission::Refused);
            }
            self.live.retain(|known| known.id != node.id);
        }
        self.spare.retain(|spare| spare.id != node.id);
        None
    }

    /// Adds a node that is not in the bucket.
    pub(super) fn insert(&mut self, node: Node, shape: Shape) -> Admission {
        let group = net(node.address);
        if let Some(at) = self.live.iter().position(|other| net(other.address) == group) {
            if self.live[at].failures == 0 {
                return Admission::Refused;
            }
            self.live[at] = node;
            return Admission::Added;
        }
        if self.live.len() < shape.capacity && !self.is_crowded(&node.id, shape) {
            // Growing by doubling would leave half of the memory unused.
            self.live.reserve_exact(if self.live.len() == self.live.capacity() { 8 } else { 0 });
            self.live.push(node);
            return Admission::Added;
        }
        let Some(at) = self.worse_than(&node, shape) else {
            self.keep(node);
            return Admission::Kept;
        };
        let old = std::mem::replace(&mut self.live[at], node);
        if old.failures == 0 {
            self.keep(old);
        }
        Admission::Added
    }

    /// Returns the node whose place `node` takes: one that failed; else one of several whose ids
    /// are close together, if that of `node` is not among them, because spread ids save round trips;
    /// else one like it that does not fit its address, or takes more than twice as long to answer.
    fn worse_than(&self, node: &Node, shape: Shape) -> Option<usize> {
        let worst = |nodes: &mut dyn Iterator<Item = usize>| {
            nodes.max_by_key(|at| (!self.live[*at].is_compliant(), self.live[*at].rtt))
        };
        let failed = (0..self.live.len()).max_by_key(|at| self.live[*at].failures);
        if let Some(at) = failed.filter(|at| self.live[*at].failures > 0) {
            return Some(at);
        }
        let slot = |id: &NodeId| shape.slot(id);
        let mut counts = vec![0; shape.slots()];
        self.live.iter().for_each(|other| counts[slot(&other.id)] += 1);
        let own = slot(&node.id);
        let in_slot =
            |wanted| (0..self.live.len()).filter(move |at| slot(&self.live[*at].id) == wanted);
        let fullest = (0..counts.len()).max_by_key(|slot| counts[*slot]).unwrap_or(own);
        if counts[own] == 0 && counts[fullest] > 1 {
            return worst(&mut in_slot(fullest));
        }
        let at = worst(&mut in_slot(own))?;
        let other = &self.live[at];
        let is_better = match (node.is_compliant(), other.is_compliant()) {
            (true, false) => true,
            (false, true) => false,
            _ => u32::from(node.rtt) * 2 < u32::from(other.rtt),
        };
        is_better.then_some(at)
    }

    /// Whether a large bucket has enough nodes like that one. A lookup finds many nodes that are
    /// close together; places are kept for those of other lookups.
    fn is_crowded(&self, id: &NodeId, shape: Shape) -> bool {
        let slot = shape.slot(id);
        let like = self.live.iter().filter(|other| shape.slot(&other.id) == slot);
        shape.capacity > K && !shape.is_last && like.count() >= NODES_PER_SLOT
    }

    fn keep(&mut self, node: Node) {
        if self.spare.len() == REPLACEMENTS {
            self.spare.remove(0);
        }
        self.spare.reserve_exact(if self.spare.is_empty() { REPLACEMENTS } else { 0 });
        self.spare.push(node);
    }

    /// Counts a query that the node left unanswered. It is checked again at `due`, or replaced.
    pub(super) fn handle_failure(
        &mut self,
        due: u32,
        id: &NodeId,
        address: SocketAddr,
        capacity: usize,
    ) {
        let is_lonely = self.spare.is_empty() && self.live.len() < capacity;
        let limit = if is_lonely { MAX_LONELY_FAILURES } else { MAX_NODE_FAILURES };
        let is_it = |node: &Node| node.id == *id && node.address == address;
        let Some(at) = self.live.iter().position(is_it) else { return };
        let node = &mut self.live[at];
        node.failures = node.failures.saturating_add(1);
        node.due = due;
        if node.failures >= limit {
            self.live.remove(at);
            self.promote();
        }
    }

    /// Removes the nodes at `group`. If one was in use, marks the others as due for a check: the node
    /// that named it may have named more of its kind.
    pub(super) fn evict(&mut self, group: Group) {
        self.spare.retain(|node| host(node.address) != group);
        let count = self.live.len();
        self.live.retain(|node| host(node.address) != group);
        if self.live.len() < count {
            self.live.iter_mut().for_each(|node| node.due = 0);
            self.promote();
        }
    }

    fn promote(&mut self) {
        let groups: Vec<_> = self.live.iter().map(|node| net(node.address)).collect();
        let fits = |node: &Node| !groups.contains(&net(node.address));
        if let Some(at) = self.spare.iter().rposition(fits) {
            let node = self.spare.remove(at);
            self.live.push(node);
        }
    }

    /// Takes out the nodes for which `is_deeper` holds, as a bucket of their own.
    pub(super) fn split_off(&mut self, is_deeper: impl Fn(&Node) -> bool) -> Self {
        let mut deeper = Self::default();
        for (from, to) in [(&mut self.live, &mut deeper.live), (&mut self.spare, &mut deeper.spare)]
        {
            let (moved, stay) = std::mem::take(from).into_iter().partition(&is_deeper);
            (*to, *from) = (moved, stay);
            to.shrink_to_fit();
            from.shrink_to_fit();
        }
        deeper
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn live(&self) -> &[Node] {
        &self.live
    }

    pub(super) fn live_mut(&mut self) -> &mut [Node] {
        &mut self.live
    }

    pub(super) fn into_nodes(self) -> impl Iterator<Item = Node> {
        self.live.into_iter().chain(self.spare)
    }

    pub(super) fn memory(&self) -> usize {
        (self.live.capacity() + self.spare.capacity()) * size_of::<Node>()
    }
}

//! The routing table of one family (BEP 5, "Routing Table").
//!
//! A bucket holds the nodes that share exactly as many bits with our id as its index says; the last
//! one also holds all that share more. Only nodes that answered a query with the id and from the
//! address that we asked are in it.

mod bucket;

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, RngExt as _};

use crate::NodeId;
use crate::address::{host, wide_net};
use crate::node_id::Distance;
use bucket::{Bucket, Shape};

/// The number of nodes in a bucket, in a list of nodes, and at least at which a value is stored (BEP 5,
/// "K").
pub const K: usize = 8;
/// How many nodes the first buckets hold. Lookups start there, and more entries save round trips.
const FIRST_BUCKETS: [usize; 4] = [128, 64, 32, 16];
/// The most buckets.
const MAX_BUCKETS: usize = 50;
/// How many of a list of nodes are of a /16 (IPv6: /48), if there are enough others.
const LISTED_PER_WIDE_NET: usize = 1;
/// A node whose last answer is older is checked. Only answers count: a query can be forged.
pub(crate) const QUESTIONABLE: Duration = Duration::from_secs(15 * 60);
/// A node that left a query unanswered is checked after that time.
const FAILED_AGAIN: Duration = Duration::from_secs(15);

/// How often a target for a refresh is drawn.
const DRAWS: usize = 8;

/// A node that answered.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    /// When it has to be checked, in seconds.
    due: u32,
    /// How long its last answer took, in milliseconds.
    rtt: u16,
    /// How many queries in a row it has left unanswered.
    failures: u8,
}

impl Node {
    /// Returns whether it answered the last query.
    pub(crate) fn is_good(&self) -> bool {
        self.failures == 0
    }

    /// Returns whether its id fits its address (BEP 42).
    fn is_compliant(&self) -> bool {
        self.id.is_compliant(self.address.ip())
    }
}

/// What became of a node that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is new in the table.
    Added,
    /// It was in the table.
    Refreshed,
    /// There is no room; it may replace a node that fails.
    Kept,
    /// Another node at its IP address, or in its network, is in the table.
    Refused,
}

/// The routing table.
#[derive(Debug)]
pub(crate) struct Table {
    own: NodeId,
    /// Never empty.
    buckets: Vec<Bucket>,
}

impl Table {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, buckets: vec![Bucket::default()] }
    }

    /// Records that the node answered, and adds it if there is room or a worse node.
    pub(crate) fn handle_answer(
        &mut self,
        now: Duration,
        id: NodeId,
        address: SocketAddr,
        rtt: Duration,
    ) -> Admission {
        if id == self.own {
            return Admission::Refused;
        }
        let rtt = u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX);
        let node = Node { id, address, due: seconds(now + QUESTIONABLE), rtt, failures: 0 };
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Admission {
        let index = self.index(&node.id);
        if let Some(entry) = self.buckets[index].refresh(&node) {
            return entry;
        }
        let group = host(node.address);
        let is_taken = |other: &Node| host(other.address) == group;
        // Another node behind the same address, or the same one under a new id.
        let taken = self.iter().find(|other| is_taken(other));
        if taken.is_some_and(|other| other.address != node.address) {
            return Admission::Refused;
        }
        self.evict_at(node.address);
        self.split_for(&node.id);
        let shape = self.shape(self.index(&node.id));
        self.buckets[shape.bits as usize].insert(node, shape)
    }

    /// Splits the last bucket while `id` belongs there and finds no room.
    fn split_for(&mut self, id: &NodeId) {
        loop {
            let index = self.index(id);
            let is_last = index + 1 == self.buckets.len();
            let has_room = self.buckets[index].len() < capacity(index);
            if has_room || !is_last || self.buckets.len() == MAX_BUCKETS {
                return;
            }
            let own = self.own;
            let deeper = self.buckets[index]
                .split_off(|node| own.distance(&node.id).shared_bits() as usize > index);
            self.buckets.push(deeper);
        }
    }

    /// Records that the node left a query unanswered, and replaces it if that was one too many.
    pub(crate) fn handle_failure(&mut self, now: Duration, id: &NodeId, address: SocketAddr) {
        let (index, capacity) = (self.index(id), self.capacity(id));
        let due = seconds(now + FAILED_AGAIN);
        self.buckets[index].handle_failure(due, id, address, capacity);
    }

    /// Returns the id of the node at `address`.
    pub(crate) fn id_at(&self, address: SocketAddr) -> Option<NodeId> {
        self.iter().find(|node| node.address == address).map(|node| node.id)
    }

    /// Removes the nodes at the host of `address`, which have other ids now, and those that wait.
    /// Marks the others of their buckets as due for a check.
    pub(crate) fn evict_at(&mut self, address: SocketAddr) {
        let group = host(address);
        self.buckets.iter_mut().for_each(|bucket| bucket.evict(group));
    }

    /// Records that the node answered with an error: it is there.
    pub(crate) fn handle_error(&mut self, now: Duration, id: &NodeId, address: SocketAddr) {
        let index = self.index(id);
        let is_it = |node: &&mut Node| node.id == *id && node.address == address;
        if let Some(node) = self.buckets[index].live_mut().iter_mut().find(is_it) {
            node.due = seconds(now + QUESTIONABLE);
        }
    }

    /// Fills `found` with the nodes closest to `target`, the closest first, [`K`] at most; of a /16
    /// (IPv6: /48) only [`LISTED_PER_WIDE_NET`], if there are enough others. Leaves out nodes that are not
    /// `wanted`.
    pub(crate) fn closest<'t>(
        &'t self,
        target: &NodeId,
        wanted: impl Fn(&Node) -> bool + Copy,
        found: &mut Closest<'t>,
    ) {
        found.clear();
        for most in [LISTED_PER_WIDE_NET, usize::MAX] {
            let at = self.index(target);
            // Nodes of this bucket are closer than those of deeper ones, which are closer than those
            // of each earlier one.
            found.extend(&self.buckets[at..=at], target, wanted, most);
            found.extend(&self.buckets[at + 1..], target, wanted, most);
            for bucket in self.buckets[..at].iter().rev() {
                if found.is_full() {
                    break;
                }
                found.extend(std::slice::from_ref(bucket), target, wanted, most);
            }
        }
    }

    /// Returns whether the node with that id at that address is in the table.
    pub(crate) fn contains(&self, id: &NodeId, address: SocketAddr) -> bool {
        let live = self.buckets[self.index(id)].live();
        live.iter().any(|node| node.id == *id && node.address == address)
    }

    /// Returns whether there is room for a node with that id, if it is not in the table yet.
    pub(crate) fn has_room(&self, id: &NodeId) -> bool {
        let index = self.index(id);
        let can_split = index + 1 == self.buckets.len() && self.buckets.len() < MAX_BUCKETS;
        let bucket = &self.buckets[index];
        let is_known = bucket.live().iter().any(|node| node.id == *id);
        *id != self.own && !is_known && (can_split || bucket.len() < self.capacity(id))
    }

    /// Returns the node that has to be checked first, if its time has come. The next call returns
    /// another one.
    pub(crate) fn take_questionable(&mut self, now: Duration) -> Option<(NodeId, SocketAddr)> {
        let nodes = self.buckets.iter_mut().flat_map(Bucket::live_mut);
        let node = nodes.min_by_key(|node| node.due)?;
        if node.due > seconds(now) {
            return None;
        }
        node.due = seconds(now + FAILED_AGAIN);
        Some((node.id, node.address))
    }

    /// Returns an id near which nodes are missing: of a bucket that has room, from a random one on,
    /// and there, if that is soon found, of a slot without a node.
    pub(crate) fn thin_target(&self, rng: &mut impl Rng) -> NodeId {
        let count = self.buckets.len();
        let start = rng.random_range(0..count);
        let mut order = (0..count).map(|step| (start + step) % count);
        let thin = order.find(|index| self.buckets[*index].len() < capacity(*index));
        let shape = self.shape(thin.unwrap_or(start));
        let bucket = &self.buckets[shape.bits as usize];
        let mut draw = || {
            let deeper = if shape.is_last { rng.next_u32().leading_zeros() } else { 0 };
            self.own.random_sharing(shape.bits + deeper, rng)
        };
        let is_missing = |target: &NodeId| {
            let slot = shape.slot(target);
            !bucket.live().iter().any(|node| shape.slot(&node.id) == slot)
        };
        let first = draw();
        let draws = std::iter::once(first).chain(std::iter::repeat_with(draw)).take(DRAWS);
        draws.into_iter().find(is_missing).unwrap_or(first)
    }

    /// Takes another id for ourselves and moves every node to the bucket where it belongs now.
    pub(crate) fn set_own(&mut self, own: NodeId) {
        let buckets = std::mem::replace(&mut self.buckets, vec![Bucket::default()]);
        self.own = own;
        for node in buckets.into_iter().flat_map(Bucket::into_nodes) {
            if node.id != own {
                self.add(node);
            }
        }
    }

    pub(crate) fn own(&self) -> NodeId {
        self.own
    }

    /// Whether the first buckets have as many nodes as they hold.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= FIRST_BUCKETS.iter().sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(Bucket::len).sum()
    }

    #[cfg(test)]
    fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Returns the nodes, those closest to us first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().rev().flat_map(Bucket::live)
    }

    /// Returns how many bytes the table has allocated.
    pub(crate) fn memory(&self) -> usize {
        let buckets = self.buckets.iter().map(Bucket::memory).sum::<usize>();
        buckets + self.buckets.capacity() * size_of::<Bucket>()
    }

    fn index(&self, id: &NodeId) -> usize {
        let shared = self.own.distance(id).shared_bits() as usize;
        shared.min(self.buckets.len() - 1)
    }

    fn shape(&self, index: usize) -> Shape {
        let is_last = index + 1 == self.buckets.len();
        Shape { bits: index as u32, capacity: capacity(index), is_last }
    }

    fn capacity(&self, id: &NodeId) -> usize {
        capacity(self.index(id))
    }
}

/// The nodes closest to a target.
#[derive(Debug, Default)]
pub(crate) struct Closest<'t> {
    nodes: [Option<(Distance, &'t Node)>; K],
    count: usize,
}

impl<'t> Closest<'t> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'t Node> {
        self.nodes[..self.count].iter().flatten().map(|(_, node)| *node)
    }

    fn clear(&mut self) {
        self.count = 0;
    }

    fn is_full(&self) -> bool {
        self.count == K
    }

    /// Adds the nodes of `buckets` that are closest, behind those that are there, but no more than
    /// `most` of a network.
    fn extend(
        &mut self,
        buckets: &'t [Bucket],
        target: &NodeId,
        wanted: impl Fn(&Node) -> bool,
        most: usize,
    ) {
        let start = self.count;
        if start == K {
            return;
        }
        for node in buckets.iter().flat_map(Bucket::live) {
            if !wanted(node) {
                continue;
            }
            let distance = target.distance(&node.id);
            if self.count == K && self.nodes[K - 1].is_some_and(|(last, _)| last <= distance) {
                continue;
            }
            if most == usize::MAX && self.iter().any(|other| other.id == node.id) {
                continue;
            }
            if most < usize::MAX && !self.make_room_in_net(start, distance, node, most) {
                continue;
            }
            let added = &self.nodes[start..self.count];
            let is_farther = |entry: &Option<(Distance, &Node)>| {
                entry.is_some_and(|(other, _)| other > distance)
            };
            let behind = added.iter().rev().take_while(|entry| is_farther(entry)).count();
            let at = self.count - behind;
            self.count = (self.count + 1).min(K);
            self.nodes[at..self.count].rotate_right(1);
            self.nodes[at] = Some((distance, node));
        }
    }

    /// Returns whether there is room for another node of its network, after removing the farthest of
    /// it if that is farther.
    fn make_room_in_net(
        &mut self,
        start: usize,
        distance: Distance,
        node: &Node,
        most: usize,
    ) -> bool {
        let group = wide_net(node.address);
        let is_of_net = |entry: &Option<(Distance, &Node)>| {
            entry.is_some_and(|(_, other)| wide_net(other.address) == group)
        };
        let nodes = &self.nodes[..self.count];
        if nodes.iter().filter(|entry| is_of_net(entry)).count() < most {
            return true;
        }
        let Some(at) = nodes.iter().rposition(is_of_net) else { return true };
        // Those before `start` are closer.
        if at < start || self.nodes[at].is_some_and(|(other, _)| other <= distance) {
            return false;
        }
        self.nodes[at..self.count].rotate_left(1);
        self.count -= 1;
        true
    }
}

fn capacity(index: usize) -> usize {
    FIRST_BUCKETS.get(index).copied().unwrap_or(K)
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

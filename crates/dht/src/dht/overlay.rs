//! What a node knows of the DHT of one family (BEP 32: "There are two distinct DHTs").

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::address::{host, is_local};
use crate::node_id::NodeInfo;
use crate::saved_state::SAVED_NODES;
use crate::table::{Closest, K, Node, Table};
use crate::votes::Votes;
use crate::walk::Walk;
use crate::{Family, NodeId};

/// How long after its last query a node that asked us is checked. The bindings of most NATs have
/// expired by then, so that a node that nobody else can reach does not answer.
const CHECK_DELAY: Duration = Duration::from_secs(90);
/// The most nodes that wait for that check.
const MAX_PENDING_CHECKS: usize = 32;
/// The most addresses that wait to be asked which node is there.
const MAX_HINTS: usize = 64;
/// The most hints of the caller that are asked again while few nodes are known.
const MAX_RETRIED_HINTS: usize = 16;
/// The most nodes that others reported and that have not answered us.
const MAX_REPORTED: usize = 400;

/// How many queries in a row can't be sent, without an answer in between, until a family rests: a
/// host without a route has a socket all the same. And for how long, doubling each time.
const MAX_SEND_FAILURES: u32 = 8;
const FIRST_HOLD: Duration = Duration::from_secs(10);
const MAX_HOLD: Duration = Duration::from_secs(10 * 60);
/// The same for a family that has worked: the network may come back at any moment.
const MAX_OUTAGE_HOLD: Duration = Duration::from_secs(60);

/// Who gave a hint; the most valuable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Router,
    /// The user, a torrent or a link.
    Caller,
    /// A peer, which may say anything.
    Peer,
}

/// An address where a node may be, whose id nobody has told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) origin: Origin,
    pub(super) address: SocketAddr,
}

/// A node that asked us. If it answers a query too, it gets a place in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingCheck {
    pub(super) due: Duration,
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
}

/// The DHT of one family.
#[derive(Debug)]
pub(super) struct Overlay {
    family: Family,
    pub(super) table: Table,
    pub(super) votes: Votes,
    /// Nodes that an earlier launch saved and that have not answered this one.
    saved: VecDeque<NodeInfo>,
    /// Nodes that other nodes reported and that have not answered us.
    reported: VecDeque<NodeInfo>,
    /// In the order of their origins.
    pub(super) hints: VecDeque<Hint>,
    /// The last hints of the caller, to be asked again while few nodes are known.
    retried: VecDeque<SocketAddr>,
    pub(super) pending_checks: VecDeque<PendingCheck>,
    hold: Hold,
}

/// Whether the host can send in the family.
#[derive(Debug)]
struct Hold {
    /// Queries in a row that could not be sent.
    failures: u32,
    until: Duration,
    next: Duration,
}

impl Default for Hold {
    fn default() -> Self {
        Self { failures: 0, until: Duration::ZERO, next: FIRST_HOLD }
    }
}

impl Overlay {
    pub(super) fn new(family: Family, id: NodeId, saved: impl Iterator<Item = NodeInfo>) -> Self {
        Self {
            family,
            table: Table::new(id),
            votes: Votes::default(),
            saved: saved.take(SAVED_NODES).collect(),
            reported: VecDeque::new(),
            hints: VecDeque::new(),
            retried: VecDeque::new(),
            pending_checks: VecDeque::new(),
            hold: Hold::default(),
        }
    }

    /// Records that a query could not be sent.
    pub(super) fn record_send_failure(&mut self, now: Duration) {
        self.hold.failures += 1;
        if self.hold.failures >= MAX_SEND_FAILURES && now >= self.hold.until {
            self.hold.until = now + self.hold.next;
            let most = if self.table.len() == 0 { MAX_HOLD } else { MAX_OUTAGE_HOLD };
            self.hold.next = (2 * self.hold.next).min(most);
        }
    }

    /// Records that something was received.
    pub(super) fn record_received(&mut self) {
        self.hold = Hold::default();
    }

    /// Returns until when nothing is sent, if that is so.
    pub(super) fn held_until(&self, now: Duration) -> Option<Duration> {
        (now < self.hold.until).then_some(self.hold.until)
    }

    pub(super) fn id(&self) -> NodeId {
        self.table.own()
    }

    /// Whether the table has too few nodes to answer and to look up well.
    pub(super) fn is_thin(&self) -> bool {
        self.table.len() < 2 * K
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0 && self.unverified().next().is_none() && self.hints.is_empty()
    }

    /// Adds the closest nodes that `walk` does not know, and the closest whose ids fit their addresses.
    /// Returns whether there were any.
    pub(super) fn seed(&self, walk: &mut Walk) -> bool {
        let target = walk.target();
        let (mut found, mut added) = (Closest::default(), 0);
        for compliant_only in [false, true] {
            let is_wanted =
                |node: &Node| !compliant_only || node.id.is_compliant(node.address.ip());
            self.table.closest(&target, is_wanted, &mut found);
            for node in found.iter() {
                added += usize::from(walk.add((node.id, node.address), None));
            }
        }
        if added == 0 {
            // Nodes that never answered are asked only when those that did are not enough.
            let mut unverified: Vec<_> = self.unverified().collect();
            unverified.sort_by_key(|(id, _)| target.distance(id));
            for node in unverified {
                added += usize::from(walk.add(*node, None));
                if added == K {
                    break;
                }
            }
        }
        added > 0
    }

    /// Remembers a node that somebody named.
    pub(super) fn add_reported(&mut self, (id, address): NodeInfo) {
        let is_known = self.unverified().any(|(_, other)| *other == address);
        if is_known || self.table.contains(&id, address) {
            return;
        }
        if self.reported.len() == MAX_REPORTED {
            self.reported.pop_front();
        }
        self.reported.push_back((id, address));
    }

    /// Forgets a node that answered, and is in the table, or failed.
    pub(super) fn remove_unverified(&mut self, address: SocketAddr) {
        self.saved.retain(|(_, other)| *other != address);
        self.reported.retain(|(_, other)| *other != address);
    }

    /// Returns the nodes that have not answered us.
    fn unverified(&self) -> impl Iterator<Item = &NodeInfo> {
        self.saved.iter().chain(&self.reported)
    }

    /// Remembers an address to be asked. If there are too many, one of the least valuable origin is
    /// forgotten.
    pub(super) fn add_hint(&mut self, hint: Hint) {
        if self.hints.iter().any(|other| other.address == hint.address) {
            return;
        }
        if self.hints.len() >= MAX_HINTS {
            if self.hints.back().is_some_and(|last| last.origin <= hint.origin) {
                return;
            }
            self.hints.pop_back();
        }
        let at = self.hints.partition_point(|other| other.origin <= hint.origin);
        self.hints.insert(at, hint);
        if hint.origin == Origin::Caller && !self.retried.contains(&hint.address) {
            if self.retried.len() == MAX_RETRIED_HINTS {
                self.retried.pop_front();
            }
            self.retried.push_back(hint.address);
        }
    }

    /// Returns the hint to follow next. Those of peers are urgent only while we know few
    /// nodes.
    pub(super) fn next_hint(&self, urgent: bool) -> Option<Hint> {
        let hint = self.hints.front().copied()?;
        let is_urgent = hint.origin != Origin::Peer || self.is_thin();
        (is_urgent || !urgent).then_some(hint)
    }

    /// Has the last hints asked again, those that are not in the table and are not being asked.
    pub(super) fn retry_hints(&mut self, is_asked: impl Fn(SocketAddr) -> bool) {
        for address in self.retried.clone() {
            if self.table.id_at(address).is_none() && !is_asked(address) {
                self.add_hint(Hint { origin: Origin::Caller, address });
            }
        }
    }

    /// Remembers a node that asked us, if it has a place in the table. Its pause starts again with each
    /// query, unless we need every node.
    pub(super) fn add_pending_check(&mut self, now: Duration, id: NodeId, address: SocketAddr) {
        let group = host(address);
        let waiting = self.pending_checks.iter().position(|check| host(check.address) == group);
        match waiting {
            Some(_) if self.is_thin() => return,
            Some(at) => drop(self.pending_checks.remove(at)),
            None if self.pending_checks.len() >= MAX_PENDING_CHECKS
                || !self.table.has_room(&id) =>
            {
                return;
            }
            None => {}
        }
        // There is no NAT within a local network.
        let pause = if is_local(address.ip()) { Duration::ZERO } else { CHECK_DELAY };
        let at = self.pending_checks.partition_point(|check| check.due <= now + pause);
        self.pending_checks.insert(at, PendingCheck { due: now + pause, id, address });
    }

    /// Returns the nodes worth saving: those closest to us first, then the unverified ones, so that
    /// a short launch does not lose them.
    pub(super) fn nodes_to_save(&self) -> impl Iterator<Item = NodeInfo> {
        let live = self.table.iter().map(|node| (node.id, node.address));
        live.chain(self.unverified().copied())
    }

    /// Returns an address of the family to which everything may be named.
    pub(super) fn own_address(&self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.table.memory()
            + (self.saved.capacity() + self.reported.capacity()) * size_of::<NodeInfo>()
            + self.hints.capacity() * size_of::<Hint>()
            + self.retried.capacity() * size_of::<SocketAddr>()
            + self.pending_checks.capacity() * size_of::<PendingCheck>()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn at(number: u32) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from_bits(0x2d00_0001 + (number << 16)), 6881))
    }

    fn overlay() -> Overlay {
        Overlay::new(Family::V4, NodeId([0; 20]), std::iter::empty())
    }

    #[test]
    fn lists_are_limited() {
        let (mut overlay, mut rng) = (overlay(), ChaCha8Rng::seed_from_u64(1));
        for number in 0..2000 {
            let id = NodeId::random(&mut rng);
            overlay.add_reported((id, at(number)));
            overlay.add_hint(Hint { origin: Origin::Caller, address: at(number) });
            overlay.add_pending_check(Duration::ZERO, id, at(number));
        }
        assert_eq!(overlay.reported.len(), MAX_REPORTED);
        assert_eq!(overlay.hints.len(), MAX_HINTS);
        assert_eq!(overlay.retried.len(), MAX_RETRIED_HINTS);
        overlay.hints.clear();
        overlay.retry_hints(|_| false);
        assert_eq!(overlay.hints.len(), MAX_RETRIED_HINTS);
        assert_eq!(overlay.pending_checks.len(), MAX_PENDING_CHECKS);
        assert!(overlay.reported.contains(&(overlay.reported[MAX_REPORTED - 1].0, at(1999))));
    }

    #[test]
    fn peers_do_not_displace_better_hints() {
        let mut overlay = overlay();
        let mut add = |origin, numbers: std::ops::Range<u32>| {
            for number in numbers {
                overlay.add_hint(Hint { origin, address: at(number) });
            }
        };
        let most = MAX_HINTS as u32;
        add(Origin::Peer, 0..2 * most);
        add(Origin::Caller, 200..203);
        add(Origin::Router, 300..302);
        add(Origin::Peer, 400..402);
        let first: Vec<_> = overlay.hints.iter().take(6).map(|hint| hint.address).collect();
        assert_eq!(first, [at(300), at(301), at(200), at(201), at(202), at(0)]);
        assert_eq!(overlay.hints.len(), MAX_HINTS);
    }

    #[test]
    fn named_nodes_do_not_displace_saved_ones() {
        let saved: Vec<_> =
            (0..50).map(|number| (NodeId([number as u8; 20]), at(number))).collect();
        let mut overlay = Overlay::new(Family::V4, NodeId([0; 20]), saved.iter().copied());
        for number in 100..100 + 2 * MAX_REPORTED as u32 {
            overlay.add_reported((NodeId([9; 20]), at(number)));
        }
        assert_eq!(overlay.nodes_to_save().take(50).collect::<Vec<_>>(), saved);
        overlay.remove_unverified(at(3));
        assert_eq!(overlay.nodes_to_save().count(), 49 + MAX_REPORTED);
    }

    #[test]
    fn public_nodes_are_checked_later_than_local_ones() {
        let (mut overlay, mut rng) = (overlay(), ChaCha8Rng::seed_from_u64(1));
        let now = Duration::from_secs(5);
        overlay.add_pending_check(now, NodeId::random(&mut rng), at(1));
        overlay.add_pending_check(now, NodeId::random(&mut rng), at(1));
        overlay.add_pending_check(now, NodeId::random(&mut rng), "10.0.0.1:1".parse().unwrap());
        let due: Vec<_> = overlay.pending_checks.iter().map(|check| check.due).collect();
        assert_eq!(due, [now, now + CHECK_DELAY]);
    }

    #[test]
    fn verified_nodes_are_asked_first() {
        let mut overlay = overlay();
        for number in 0..40 {
            let mut id = NodeId([1; 20]);
            id.0[1] = number;
            if number < 20 {
                overlay.add_reported((id, at(number.into())));
            } else {
                let rtt = Duration::from_millis(90);
                overlay.table.handle_answer(Duration::ZERO, id, at(number.into()), rtt);
            }
        }
        let mut walk = Walk::new(NodeId([1; 20]), false);
        assert!(overlay.seed(&mut walk));
        let first = walk.progress(&[]).next.map(|(id, _)| id.0[1]);
        assert!(first.is_some_and(|number| number >= 20), "{first:?}");
        assert!(overlay.seed(&mut walk) && overlay.seed(&mut walk) && overlay.seed(&mut walk));
        assert!(!overlay.seed(&mut walk), "all are known");
    }
}

//! What a node knows of the DHT of one family (BEP 32: "There are two distinct DHTs").

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::address::{host, is_local};
use crate::lookup::{Lookup, Named};
use crate::state::SAVED_NODES;
use crate::table::{Closest, K, Table};
use crate::votes::Votes;
use crate::{Family, NodeId};

/// How long a node that asked us is not asked. The bindings of most NATs have expired by then, so
/// that a node that nobody else can reach does not answer.
const ASKER_PAUSE: Duration = Duration::from_secs(90);
/// The most askers that wait.
const MAX_WAITING_ASKERS: usize = 32;
/// The most addresses that wait to be asked for their id.
const MAX_CONTACTS: usize = 64;
/// The most contacts that are asked again while few nodes are known.
const MAX_NAMED: usize = 16;
/// The most nodes that are known by name only.
const MAX_KNOWN: usize = 400;

/// How many queries in a row can't be sent, without an answer in between, until a family rests: a
/// host without a route has a socket all the same. And for how long, doubling each time.
const MAX_SEND_FAILURES: u32 = 8;
const FIRST_HOLD: Duration = Duration::from_secs(10);
const MAX_HOLD: Duration = Duration::from_secs(10 * 60);

/// Where the address of a contact comes from; the most valuable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Router,
    /// The user, a torrent or a link.
    Named,
    /// A peer, which may say anything.
    Peer,
}

/// An address that may be a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) origin: Origin,
    pub(super) address: SocketAddr,
}

/// A node that asked us, and may be worth a place in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
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
    /// Nodes that have not answered us: those that an earlier launch saved, and those that routers and
    /// contacts named.
    saved: VecDeque<Named>,
    known: VecDeque<Named>,
    /// In the order of their origins.
    pub(super) contacts: VecDeque<Contact>,
    /// The last contacts, to be asked again while few nodes are known.
    named: VecDeque<SocketAddr>,
    pub(super) askers: VecDeque<Asker>,
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
    pub(super) fn new(family: Family, id: NodeId, saved: impl Iterator<Item = Named>) -> Self {
        Self {
            family,
            table: Table::new(id),
            votes: Votes::default(),
            saved: saved.take(SAVED_NODES).collect(),
            known: VecDeque::new(),
            contacts: VecDeque::new(),
            named: VecDeque::new(),
            askers: VecDeque::new(),
            hold: Hold::default(),
        }
    }

    /// Records that a query could not be sent.
    pub(super) fn record_send_failure(&mut self, now: Duration) {
        self.hold.failures += 1;
        if self.hold.failures >= MAX_SEND_FAILURES && now >= self.hold.until {
            self.hold.until = now + self.hold.next;
            self.hold.next = (2 * self.hold.next).min(MAX_HOLD);
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
        self.table.len() == 0 && self.unproven().next().is_none() && self.contacts.is_empty()
    }

    /// Adds the closest nodes that `walk` does not know. Returns whether there were any.
    pub(super) fn seed(&self, walk: &mut Lookup) -> bool {
        let target = walk.target();
        let mut found = Closest::default();
        self.table.closest(&target, |_| true, &mut found);
        let mut added = 0;
        for node in found.iter() {
            added += usize::from(walk.add((node.id, node.address), None));
        }
        if added == 0 {
            // Nodes that never answered are asked only when those that did are not enough.
            let mut known: Vec<_> = self.unproven().collect();
            known.sort_by_key(|(id, _)| target.distance(id));
            for named in known {
                added += usize::from(walk.add(*named, None));
                if added == K {
                    break;
                }
            }
        }
        added > 0
    }

    /// Remembers a node that somebody named.
    pub(super) fn add_known(&mut self, id: NodeId, address: SocketAddr) {
        let is_known = self.unproven().any(|(_, other)| *other == address);
        if is_known || self.table.contains(&id, address) {
            return;
        }
        if self.known.len() == MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((id, address));
    }

    /// Forgets a node that answered, and is in the table, or failed.
    pub(super) fn remove_known(&mut self, address: SocketAddr) {
        self.saved.retain(|(_, other)| *other != address);
        self.known.retain(|(_, other)| *other != address);
    }

    /// Returns the nodes that have not answered us.
    fn unproven(&self) -> impl Iterator<Item = &Named> {
        self.saved.iter().chain(&self.known)
    }

    /// Remembers an address to be asked. If there are too many, one of the least valuable origin is
    /// forgotten.
    pub(super) fn add_contact(&mut self, contact: Contact) {
        if self.contacts.iter().any(|other| other.address == contact.address) {
            return;
        }
        if self.contacts.len() >= MAX_CONTACTS {
            if self.contacts.back().is_some_and(|last| last.origin <= contact.origin) {
                return;
            }
            self.contacts.pop_back();
        }
        let at = self.contacts.partition_point(|other| other.origin <= contact.origin);
        self.contacts.insert(at, contact);
        if contact.origin == Origin::Named && !self.named.contains(&contact.address) {
            if self.named.len() == MAX_NAMED {
                self.named.pop_front();
            }
            self.named.push_back(contact.address);
        }
    }

    /// Returns the contact to ask next. Those that peers named are urgent only while we know few
    /// nodes.
    pub(super) fn next_contact(&self, urgent: bool) -> Option<Contact> {
        let contact = self.contacts.front().copied()?;
        let is_urgent = contact.origin != Origin::Peer || self.is_thin();
        (is_urgent || !urgent).then_some(contact)
    }

    /// Has the last contacts asked again, those that are not in the table and are not being asked.
    pub(super) fn retry_contacts(&mut self, is_asked: impl Fn(SocketAddr) -> bool) {
        for address in self.named.clone() {
            if self.table.id_at(address).is_none() && !is_asked(address) {
                self.add_contact(Contact { origin: Origin::Named, address });
            }
        }
    }

    /// Remembers a node that asked us, if it has a place in the table. Its pause starts again with each
    /// query, unless we need every node.
    pub(super) fn add_asker(&mut self, now: Duration, id: NodeId, address: SocketAddr) {
        let group = host(address);
        let waiting = self.askers.iter().position(|asker| host(asker.address) == group);
        match waiting {
            Some(_) if self.is_thin() => return,
            Some(at) => drop(self.askers.remove(at)),
            None if self.askers.len() >= MAX_WAITING_ASKERS || !self.table.has_room(&id) => return,
            None => {}
        }
        // There is no NAT within a local network.
        let pause = if is_local(address.ip()) { Duration::ZERO } else { ASKER_PAUSE };
        let at = self.askers.partition_point(|asker| asker.due <= now + pause);
        self.askers.insert(at, Asker { due: now + pause, id, address });
    }

    /// Returns the nodes worth saving: those closest to us first, then the unverified ones, so that
    /// a short launch does not lose them.
    pub(super) fn nodes_to_save(&self) -> impl Iterator<Item = Named> {
        let live = self.table.iter().map(|node| (node.id, node.address));
        live.chain(self.unproven().copied())
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
            + (self.saved.capacity() + self.known.capacity()) * size_of::<Named>()
            + self.contacts.capacity() * size_of::<Contact>()
            + self.named.capacity() * size_of::<SocketAddr>()
            + self.askers.capacity() * size_of::<Asker>()
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
            overlay.add_known(id, at(number));
            overlay.add_contact(Contact { origin: Origin::Named, address: at(number) });
            overlay.add_asker(Duration::ZERO, id, at(number));
        }
        assert_eq!(overlay.known.len(), MAX_KNOWN);
        assert_eq!(overlay.contacts.len(), MAX_CONTACTS);
        assert_eq!(overlay.named.len(), MAX_NAMED);
        overlay.contacts.clear();
        overlay.retry_contacts(|_| false);
        assert_eq!(overlay.contacts.len(), MAX_NAMED);
        assert_eq!(overlay.askers.len(), MAX_WAITING_ASKERS);
        assert!(overlay.known.contains(&(overlay.known[MAX_KNOWN - 1].0, at(1999))));
    }

    #[test]
    fn peers_do_not_displace_better_contacts() {
        let mut overlay = overlay();
        let mut add = |origin, numbers: std::ops::Range<u32>| {
            for number in numbers {
                overlay.add_contact(Contact { origin, address: at(number) });
            }
        };
        let most = MAX_CONTACTS as u32;
        add(Origin::Peer, 0..2 * most);
        add(Origin::Named, 200..203);
        add(Origin::Router, 300..302);
        add(Origin::Peer, 400..402);
        let first: Vec<_> =
            overlay.contacts.iter().take(6).map(|contact| contact.address).collect();
        assert_eq!(first, [at(300), at(301), at(200), at(201), at(202), at(0)]);
        assert_eq!(overlay.contacts.len(), MAX_CONTACTS);
    }

    #[test]
    fn named_nodes_do_not_displace_saved_ones() {
        let saved: Vec<_> =
            (0..50).map(|number| (NodeId([number as u8; 20]), at(number))).collect();
        let mut overlay = Overlay::new(Family::V4, NodeId([0; 20]), saved.iter().copied());
        for number in 100..100 + 2 * MAX_KNOWN as u32 {
            overlay.add_known(NodeId([9; 20]), at(number));
        }
        assert_eq!(overlay.nodes_to_save().take(50).collect::<Vec<_>>(), saved);
        overlay.remove_known(at(3));
        assert_eq!(overlay.nodes_to_save().count(), 49 + MAX_KNOWN);
    }

    #[test]
    fn public_askers_wait_and_local_ones_do_not() {
        let (mut overlay, mut rng) = (overlay(), ChaCha8Rng::seed_from_u64(1));
        let now = Duration::from_secs(5);
        overlay.add_asker(now, NodeId::random(&mut rng), at(1));
        overlay.add_asker(now, NodeId::random(&mut rng), at(1));
        overlay.add_asker(now, NodeId::random(&mut rng), "10.0.0.1:1".parse().unwrap());
        let due: Vec<_> = overlay.askers.iter().map(|asker| asker.due).collect();
        assert_eq!(due, [now, now + ASKER_PAUSE]);
    }

    #[test]
    fn verified_nodes_are_asked_first() {
        let mut overlay = overlay();
        for number in 0..40 {
            let mut id = NodeId([1; 20]);
            id.0[1] = number;
            if number < 20 {
                overlay.add_known(id, at(number.into()));
            } else {
                let rtt = Duration::from_millis(90);
                overlay.table.handle_answer(Duration::ZERO, id, at(number.into()), rtt);
            }
        }
        let mut walk = Lookup::new(NodeId([1; 20]), false);
        assert!(overlay.seed(&mut walk));
        let first = walk.progress(&[]).next.map(|(id, _)| id.0[1]);
        assert!(first.is_some_and(|number| number >= 20), "{first:?}");
        assert!(overlay.seed(&mut walk) && overlay.seed(&mut walk) && overlay.seed(&mut walk));
        assert!(!overlay.seed(&mut walk), "all are known");
    }
}

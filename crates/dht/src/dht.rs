//! The node: routing tables, lookups and stores of both families behind one set of calls.

mod answers;
#[cfg(feature = "items")]
mod items;
mod maintenance;
mod overlay;
mod pump;
mod replies;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::InfoHashV1;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::address::{FAMILIES, is_usable};
use crate::calls::Calls;
use crate::event::Counters;
use crate::lookup::{Lookup, LookupKind};
use crate::message::{Body, Message};
use crate::node_id::OwnIds;
use crate::outbox::Outbox;
use crate::peer_store::PeerStore;
use crate::saved_state::SAVED_NODES;
use crate::send_budget::SendBudget;
use crate::throttle::Throttle;
use crate::tokens::Tokens;
use crate::walk::Walk;
use crate::{
    Announce, Config, Event, Family, LookupKey, NodeId, SavedState, Stats, Status, Transmit,
};
use maintenance::Schedule;
use overlay::{Origin, Overlay};
use replies::Purpose;

/// The most lookups of the caller that run at a time.
pub const MAX_LOOKUPS: usize = 16;
/// The most lookups that wait until others are over. A further one is over at once.
pub const MAX_QUEUED_LOOKUPS: usize = 1_024;
/// The most lookups for items, and puts, that wait. Each holds an item.
const MAX_QUEUED_ITEMS: usize = 64;
/// The most bytes that a node allocates, 4 MiB.
pub const DHT_MEMORY: usize = 4 * 1024 * 1024;

/// A node of the Mainline DHT, in one or both families.
///
/// - What happened: [`handle_datagram`](Self::handle_datagram), [`handle_timeout`](Self::handle_timeout),
///   [`handle_node`](Self::handle_node), [`handle_peer_node`](Self::handle_peer_node),
///   [`handle_routers`](Self::handle_routers),
///   [`handle_send_failed`](Self::handle_send_failed).
/// - What we want: [`find_peers`](Self::find_peers), [`scrape`](Self::scrape),
///   [`find_nodes`](Self::find_nodes), [`ping`](Self::ping), with the feature `items` `get` and
///   `put`, [`stop`](Self::stop), [`conclude`](Self::conclude),
///   [`set_read_only`](Self::set_read_only), [`save`](Self::save).
/// - What the caller must do now: [`poll_transmit`](Self::poll_transmit),
///   [`poll_event`](Self::poll_event), [`poll_timeout`](Self::poll_timeout).
///
/// After any call, drain the polls. `now` is the time since any fixed start and never goes back.
#[derive(Debug)]
pub struct Dht {
    rng: ChaCha8Rng,
    /// Keeps digests of addresses from being predicted.
    secret: u64,
    overlays: [Option<Overlay>; 2],
    /// Our ids before the last change, by which lookups end that began with them.
    former_ids: [Option<NodeId>; 2],
    calls: Calls<Purpose>,
    budget: SendBudget,
    throttle: Throttle,
    tokens: Tokens,
    peers: PeerStore,
    #[cfg(feature = "items")]
    items: crate::items::ItemStore,
    /// Those that run, ours included.
    lookups: BTreeMap<LookupKey, Lookup>,
    queue: VecDeque<(LookupKey, Lookup)>,
    next_key: u64,
    schedule: Schedule,
    outbox: Outbox,
    events: VecDeque<Event>,
    /// Parts of a reply while it is composed.
    scratch: answers::Scratch,
    read_only: bool,
    accept_local: bool,
    version: Option<[u8; 4]>,
    counters: Counters,
}

impl Dht {
    /// Makes a node that knows nobody but the saved nodes.
    pub fn new(config: &Config) -> Self {
        let mut rng = ChaCha8Rng::from_seed(config.seed);
        let saved = config.state.clone().unwrap_or_default();
        let mut overlay = |family: Family, is_on: bool, id: Option<NodeId>| {
            let id = id.unwrap_or_else(|| NodeId::random(&mut rng));
            is_on.then(|| {
                let nodes = saved.nodes.iter().filter(|(_, address)| {
                    Family::of(*address) == family && is_usable(*address, config.accept_local)
                });
                Overlay::new(family, id, nodes.copied())
            })
        };
        let overlays = [
            overlay(Family::V4, config.v4, config.id_v4.or(saved.id_v4)),
            overlay(Family::V6, config.v6, config.id_v6.or(saved.id_v6)),
        ];
        let start = Duration::ZERO;
        Self {
            secret: rng.random(),
            overlays,
            former_ids: [None; 2],
            calls: Calls::new(),
            budget: SendBudget::new(start, config.throttle),
            throttle: Throttle::new(start, rng.random(), config.throttle),
            tokens: Tokens::new(start, &mut rng),
            peers: PeerStore::default(),
            #[cfg(feature = "items")]
            items: crate::items::ItemStore::new(),
            lookups: BTreeMap::new(),
            queue: VecDeque::new(),
            next_key: 0,
            schedule: Schedule::new(config.wants_routers),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            scratch: answers::Scratch::default(),
            read_only: config.read_only,
            accept_local: config.accept_local,
            version: config.version,
            counters: Counters::default(),
            rng,
        }
    }

    /// A datagram came from `from`. An IPv4-mapped IPv6 address must be converted to IPv4 first.
    pub fn handle_datagram(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        self.counters.received += 1;
        let is_known = is_usable(from, true) && self.overlay(Family::of(from)).is_some();
        let message = is_known.then(|| Message::decode(datagram).ok()).flatten();
        let Some(message) = message else {
            self.counters.malformed += 1;
            return;
        };
        if let Some(overlay) = self.overlay_mut(Family::of(from)) {
            overlay.record_received();
        }
        match &message.body {
            Body::Query(query) => self.answer(now, from, &message, query, datagram.len()),
            Body::Refused(code) => self.refuse(now, from, &message, *code, datagram.len()),
            Body::Reply(_) | Body::Error(_) => self.handle_answer(now, from, &message),
        }
    }

    /// Handles what answers a query of ours. Anything else is not worth looking for work.
    fn handle_answer(&mut self, now: Duration, from: SocketAddr, message: &Message<'_>) {
        let Some(call) = self.calls.take(message.transaction, from) else {
            self.counters.unmatched += 1;
            return;
        };
        self.budget.record_answer(from);
        self.schedule.handle_answer();
        match &message.body {
            Body::Reply(reply) => self.handle_reply(now, &call, message.ip, reply),
            Body::Error(code) => self.handle_error(now, &call, *code),
            Body::Query(_) | Body::Refused(_) => {}
        }
        self.pump(now);
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.handle_stages(now);
        self.maintain(now);
        self.pump(now);
    }

    /// A node may be at `address`: a torrent's `nodes`, a link or the user names it. It is asked for its
    /// id and its neighbours. Does nothing if the address can't be a node's, or 64 others wait that are
    /// as valuable.
    pub fn handle_node(&mut self, now: Duration, address: SocketAddr) {
        self.add_hint(address, Origin::Caller);
        self.pump(now);
    }

    /// A peer says that its node is at `address` (BEP 5, message `PORT`). The same as
    /// [`handle_node`](Self::handle_node), after all that the user, torrents and links name.
    pub fn handle_peer_node(&mut self, now: Duration, address: SocketAddr) {
        self.add_hint(address, Origin::Peer);
        self.pump(now);
    }

    /// Routers are at `addresses`: nodes that help others to join and are not to be used otherwise. They
    /// are asked before all others, and never become part of the routing table.
    pub fn handle_routers(&mut self, now: Duration, addresses: &[SocketAddr]) {
        addresses.iter().for_each(|address| self.add_hint(*address, Origin::Router));
        self.pump(now);
    }

    /// A datagram to `address` could not be sent. After eight of a family in a row it sends nothing
    /// there for 10 s, and for up to 1 min if that goes on, or 10 min if we know no node of the family.
    pub fn handle_send_failed(&mut self, now: Duration, address: SocketAddr) {
        self.budget.refund(now, address);
        if let Some(overlay) = self.overlay_mut(Family::of(address)) {
            overlay.record_send_failure(now);
        }
        self.fail_calls(now, address);
        self.pump(now);
    }

    /// Looks for peers of a torrent, and announces us if wanted (BEP 5, `get_peers` and
    /// `announce_peer`). The lookup ends when the closest
    /// nodes have answered or are slower than others; with an announce, it waits for them up to
    /// 1.5 s. Events: [`Event::Peers`], with [`MAX_LOOKUP_PEERS`](crate::MAX_LOOKUP_PEERS) peers in
    /// all, then [`Event::Done`]: at once if [`MAX_QUEUED_LOOKUPS`] lookups wait.
    pub fn find_peers(
        &mut self,
        now: Duration,
        info_hash: InfoHashV1,
        announce: Announce,
    ) -> LookupKey {
        let key =
            self.start(now, LookupKind::Peers { hash: info_hash, announce }, info_hash.into());
        self.report_own_peers(key, info_hash);
        self.pump(now);
        key
    }

    /// Counts the peers of a torrent (BEP 33). Events: [`Event::Scraped`], [`Event::Done`]; only
    /// `Done`, at once, if [`MAX_QUEUED_LOOKUPS`] lookups wait.
    pub fn scrape(&mut self, now: Duration, info_hash: InfoHashV1) -> LookupKey {
        let key = self.start(now, LookupKind::Scrape { hash: info_hash }, info_hash.into());
        self.pump(now);
        key
    }

    /// Looks for the nodes closest to `target` (BEP 5, `find_node`). Events: [`Event::Nodes`], [`Event::Done`]; only `Done`,
    /// at once, if [`MAX_QUEUED_LOOKUPS`] lookups wait.
    pub fn find_nodes(&mut self, now: Duration, target: NodeId) -> LookupKey {
        let key = self.start(now, LookupKind::Nodes, target);
        self.pump(now);
        key
    }

    /// Asks the node at `address` for its id (BEP 5, `ping`). Events: [`Event::Pong`], [`Event::Done`]; only `Done`, at
    /// once and with no query asked, if the address can't be a node's or the budgets forbid it.
    pub fn ping(&mut self, now: Duration, address: SocketAddr) -> LookupKey {
        let key = self.take_key();
        if !self.send_ping(now, address, key) {
            self.push_event(Event::Done { lookup: key, stats: Stats::default() });
        }
        key
    }

    /// Ends a lookup. No event with its key follows.
    pub fn stop(&mut self, key: LookupKey) {
        self.lookups.remove(&key);
        self.queue.retain(|(queued, _)| *queued != key);
        self.calls.cancel(|purpose| purpose.key() == Some(key));
        self.events.retain(|event| event_key(event) != Some(key));
        self.schedule.pump_soon();
    }

    /// Ends a lookup now. Its last events say what it has found so far. A ping is not ended.
    pub fn conclude(&mut self, now: Duration, key: LookupKey) {
        let queued = self.queue.iter().position(|(queued, _)| *queued == key);
        if let Some(queued) = queued.and_then(|at| self.queue.remove(at)) {
            let elapsed = now.saturating_sub(queued.1.started);
            self.push_event(Event::Done {
                lookup: key,
                stats: Stats { elapsed, ..Stats::default() },
            });
        } else if self.lookups.contains_key(&key) {
            self.calls.cancel(|purpose| purpose.key() == Some(key));
            let _started = self.finish(now, key);
            self.pump(now);
        }
    }

    /// Sets whether we answer no queries. Ours say so then (BEP 43, `ro`).
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Returns what the next launch should know: our ids, and up to [`SAVED_NODES`](crate::SAVED_NODES)
    /// nodes of each family.
    pub fn save(&self) -> SavedState {
        let nodes = self.overlays.iter().flatten();
        let nodes = nodes.flat_map(|overlay| overlay.nodes_to_save().take(SAVED_NODES)).collect();
        let [id_v4, id_v6] = self.node_ids();
        SavedState { id_v4, id_v6, nodes }
    }

    /// Returns the next datagram to send. If it can't be sent, call
    /// [`handle_send_failed`](Self::handle_send_failed).
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.outbox.pop()
    }

    /// Returns what happened next.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout). Never `None`; the time may be past.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let times = [self.calls.next_timeout(), Some(self.schedule.next())];
        times.into_iter().flatten().min()
    }

    /// Returns how the node is doing.
    pub fn status(&self) -> Status {
        let nodes = |family: Family| self.overlay(family).map_or(0, |overlay| overlay.table.len());
        Status {
            nodes_v4: nodes(Family::V4),
            nodes_v6: nodes(Family::V6),
            lookups: self.running_lookups(),
            queued: self.queue.len(),
            calls: self.calls.len(),
            torrents: self.peers.torrent_count(),
            peers: self.peers.peer_count(),
            short_timeout: self.calls.short_timeout(),
            memory: self.memory(),
            counters: self.counters,
        }
    }

    /// Returns how many nodes the routing tables have, of both families.
    pub fn node_count(&self) -> usize {
        self.overlays.iter().flatten().map(|overlay| overlay.table.len()).sum()
    }

    /// Returns our ids, for IPv4 and IPv6; `None` where there is no socket.
    pub fn node_ids(&self) -> [Option<NodeId>; 2] {
        FAMILIES.map(|family| self.overlay(family).map(Overlay::id))
    }

    /// Returns our address as other nodes see it (BEP 42), for IPv4 and IPv6; `None` until eight networks
    /// agree.
    pub fn external_address(&self) -> [Option<IpAddr>; 2] {
        FAMILIES.map(|family| self.overlay(family)?.votes.address())
    }

    fn own_ids(&self) -> OwnIds {
        OwnIds(self.node_ids())
    }

    /// Starts a lookup, or queues it.
    fn start(&mut self, now: Duration, kind: LookupKind, target: NodeId) -> LookupKey {
        let lookup = self.new_lookup(now, kind, target);
        self.enqueue(lookup)
    }

    /// Makes a lookup in all families.
    fn new_lookup(&self, now: Duration, kind: LookupKind, target: NodeId) -> Lookup {
        let walk = |family| self.overlay(family).map(|_| Walk::new(target, kind.stores()));
        Lookup::new(now, kind, FAMILIES.map(walk))
    }

    fn enqueue(&mut self, lookup: Lookup) -> LookupKey {
        if self.has_room_for_lookup() {
            let key = self.take_key();
            self.lookups.insert(key, lookup);
            return key;
        }
        let queued = |other: &&(_, Lookup)| other.1.kind.is_item();
        let is_full = self.queue.len() >= MAX_QUEUED_LOOKUPS
            || lookup.kind.is_item()
                && self.queue.iter().filter(queued).count() >= MAX_QUEUED_ITEMS;
        if is_full {
            return self.refuse_lookup();
        }
        let key = self.take_key();
        self.queue.push_back((key, lookup));
        key
    }

    fn has_room_for_lookup(&self) -> bool {
        self.running_lookups() < MAX_LOOKUPS
    }

    /// Returns how many lookups of the caller run.
    fn running_lookups(&self) -> usize {
        self.lookups.values().filter(|lookup| !lookup.kind.is_own()).count()
    }

    /// Returns the key of a lookup that is over at once.
    fn refuse_lookup(&mut self) -> LookupKey {
        let lookup = self.take_key();
        self.push_event(Event::Done { lookup, stats: Stats::default() });
        lookup
    }

    fn take_key(&mut self) -> LookupKey {
        self.next_key += 1;
        LookupKey(self.next_key)
    }

    /// Reports the peers that announced to us: nobody else asks us for them.
    fn report_own_peers(&mut self, key: LookupKey, hash: InfoHashV1) {
        let Some(lookup) = self.lookups.get_mut(&key) else { return };
        let mut out = Vec::new();
        for overlay in self.overlays.iter().flatten() {
            let asker = overlay.own_address();
            self.peers.values(hash, asker, false, self.rng.random(), usize::MAX, &mut out);
        }
        let addresses =
            lookup.take_new(self.secret, usize::MAX, crate::message::Values::new(&out).iter());
        if !addresses.is_empty() {
            self.push_event(Event::Peers { lookup: key, from: None, addresses });
        }
    }

    fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn overlay(&self, family: Family) -> Option<&Overlay> {
        self.overlays[family.index()].as_ref()
    }

    fn overlay_mut(&mut self, family: Family) -> Option<&mut Overlay> {
        self.overlays[family.index()].as_mut()
    }

    fn memory(&self) -> usize {
        let overlays = self.overlays.iter().flatten().map(Overlay::memory).sum::<usize>();
        let lookups = self.lookups.values().map(Lookup::memory).sum::<usize>();
        let queued = self.queue.iter().map(|(_, lookup)| lookup.memory()).sum::<usize>();
        let events = self.events.capacity() * size_of::<Event>();
        let stores = self.peers.memory() + self.budget.memory() + Throttle::memory();
        #[cfg(feature = "items")]
        let stores = stores + self.items.memory();
        size_of::<Self>()
            + overlays
            + lookups
            + queued
            + events
            + stores
            + self.calls.memory()
            + self.outbox.memory()
    }
}

/// Returns the lookup that an event belongs to.
fn event_key(event: &Event) -> Option<LookupKey> {
    match event {
        Event::Peers { lookup, .. }
        | Event::Nodes { lookup, .. }
        | Event::Scraped { lookup, .. }
        | Event::Pong { lookup, .. }
        | Event::Done { lookup, .. } => Some(*lookup),
        #[cfg(feature = "items")]
        Event::Item { lookup, .. } => Some(*lookup),
        Event::RoutersWanted | Event::Address { .. } => None,
    }
}

#[cfg(test)]
mod tests;

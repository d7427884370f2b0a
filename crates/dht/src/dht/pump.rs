//! Which queries are sent now, and when a lookup is over.

use std::net::SocketAddr;
use std::time::Duration;

use super::Dht;
use super::overlay::{Hint, Origin, Overlay};
use super::replies::Purpose;
use crate::address::{FAMILIES, is_usable};
use crate::calls::Call;
#[cfg(feature = "items")]
use crate::items::ItemLookup;
use crate::lookup::{Lookup, LookupKind};
use crate::message::{Body, Message, Method, Query, Want};
use crate::send_budget::Permit;
use crate::table::K;
use crate::{Announce, Event, Family, LookupKey, NodeId};

/// The longest query, in bytes: one that puts an item.
const MAX_QUERY: usize = 1_450;

/// Without the feature there is nothing to put.
#[cfg(not(feature = "items"))]
enum ItemLookup {}

#[cfg(not(feature = "items"))]
impl ItemLookup {
    fn put_method<'a>(&self, _: SocketAddr, _: &'a [u8]) -> Option<Method<'a>> {
        match *self {}
    }
}

/// What became of a query that was to be sent.
enum Sent {
    Yes,
    /// The budget allows it, or any other query, at that time.
    Later(Duration),
    /// The budget allows it, or another query to a new address, at that time.
    NewLater(Duration),
    /// After the address has answered, or has not.
    Busy,
    /// Never to this address.
    No,
}

/// What a lookup did.
enum Step {
    /// It may have more to do.
    Progress,
    /// It waits for answers.
    Waits,
    /// It waits for the budget, and so do all others.
    Blocked(Duration),
    /// It waits until new addresses may be asked.
    Limited(Duration),
    /// It is over.
    Over,
}

/// When what the budget does not allow now may be sent.
#[derive(Default)]
struct Wait {
    until: Option<Duration>,
    /// Whether nothing at all may be sent now.
    is_over: bool,
}

impl Wait {
    fn add(&mut self, until: Duration) {
        self.until = Some(self.until.map_or(until, |other| other.min(until)));
    }

    fn end(&mut self, until: Duration) {
        self.add(until);
        self.is_over = true;
    }
}

/// Whether a query asks a hint of `family` which node is there, and for its neighbours.
fn is_to_hint(call: &Call<Purpose>, family: Family) -> bool {
    matches!(call.purpose, Purpose::Hint { .. }) && Family::of(call.to) == family
}

impl Dht {
    /// Sends what may be sent: to hints that are urgent, for the lookups, to other hints.
    pub(super) fn pump(&mut self, now: Duration) {
        let mut wait = Wait::default();
        self.pump_hints(now, true, &mut wait);
        self.pump_lookups(now, &mut wait);
        self.pump_hints(now, false, &mut wait);
        self.schedule.set_blocked(wait.until);
    }

    /// Lets each lookup take a step in turn until none can.
    fn pump_lookups(&mut self, now: Duration, wait: &mut Wait) {
        let mut keys: Vec<LookupKey> = self.lookups.keys().copied().collect();
        while !keys.is_empty() && !wait.is_over {
            let mut active = Vec::with_capacity(keys.len());
            for key in keys {
                match self.step(now, key) {
                    Step::Progress => active.push(key),
                    Step::Waits => {}
                    Step::Limited(until) => wait.add(until),
                    Step::Blocked(until) => return wait.end(until),
                    Step::Over => active.extend(self.finish(now, key)),
                }
            }
            keys = active;
        }
    }

    fn pump_hints(&mut self, now: Duration, urgent: bool, wait: &mut Wait) {
        for family in FAMILIES {
            while !wait.is_over
                && !self.is_held(now, family)
                && let Some(overlay) = self.overlay(family)
            {
                let (own, want) = (overlay.id(), self.want(now, family));
                let Some(hint) = overlay.next_hint(urgent) else { break };
                let method = Method::FindNode { target: own, want };
                let purpose = Purpose::Hint { is_router: hint.origin == Origin::Router };
                match self.send(now, (None, hint.address), None, method, purpose) {
                    Sent::Later(until) => return wait.end(until),
                    Sent::NewLater(until) => {
                        wait.add(until);
                        break;
                    }
                    Sent::Yes | Sent::Busy | Sent::No => {}
                }
                if let Some(overlay) = self.overlay_mut(family) {
                    overlay.hints.pop_front();
                }
            }
        }
    }

    fn step(&mut self, now: Duration, key: LookupKey) -> Step {
        let Some(mut lookup) = self.lookups.remove(&key) else { return Step::Waits };
        let mut over = true;
        let mut result = Step::Waits;
        for family in FAMILIES {
            match self.step_walk(now, key, &mut lookup, family) {
                Step::Over => {}
                step => {
                    over = false;
                    let is_stronger =
                        matches!(step, Step::Progress | Step::Blocked(_) | Step::Limited(_));
                    if is_stronger && !matches!(result, Step::Progress) {
                        result = step;
                    }
                }
            }
        }
        self.lookups.insert(key, lookup);
        if over { Step::Over } else { result }
    }

    /// Takes a step in one family.
    fn step_walk(
        &mut self,
        now: Duration,
        key: LookupKey,
        lookup: &mut Lookup,
        family: Family,
    ) -> Step {
        let want = self.want(now, family);
        let Some(method) = lookup.method(family, want) else { return Step::Over };
        if lookup.is_satisfied() || self.is_held(now, family) {
            return Step::Over;
        }
        let others = lookup.walks[1 - family.index()].as_ref();
        let other_found = others.is_some_and(|walk| walk.closest().next().is_some());
        let (kind, wakes_at) = (lookup.kind, lookup.wakes_at());
        let own = self.former_id(lookup, family);
        let Some(walk) = &mut lookup.walks[family.index()] else { return Step::Over };
        let mut busy = Vec::new();
        let progress = loop {
            let progress = walk.progress(&busy);
            let Some((id, address)) = progress.next else { break progress };
            match self.send(now, (Some(id), address), own, method, Purpose::Walk(key)) {
                Sent::Yes => {
                    walk.handle_asked((id, address));
                    lookup.stats.asked += 1;
                    return Step::Progress;
                }
                Sent::Later(until) => return Step::Blocked(until),
                Sent::NewLater(until) => return Step::Limited(until),
                Sent::Busy => busy.push((id, address)),
                Sent::No => {
                    walk.handle_failed((id, address));
                    return Step::Progress;
                }
            }
        };
        if !progress.is_settled {
            return Step::Waits;
        }
        if walk.closest().count() < K && !walk.is_exhausted() {
            if let Some(overlay) = &self.overlays[family.index()]
                && overlay.seed(walk)
            {
                return Step::Progress;
            }
            // The first node to answer must not end a lookup that another hint would help.
            if now < wakes_at && self.calls.any_fresh(|call| is_to_hint(call, family)) {
                return Step::Waits;
            }
        }
        if walk.is_empty() && !other_found && now < wakes_at {
            self.schedule.hasten(now, Some(wakes_at));
            return Step::Waits;
        }
        if !kind.stores() {
            return Step::Over;
        }
        let is_over = progress.is_done && !walk.is_storing();
        let otherwise = if is_over { Step::Over } else { Step::Waits };
        self.store_next(now, key, lookup, family).unwrap_or(otherwise)
    }

    /// Returns the id by which a lookup asks, if that is not the one that we have now.
    fn former_id(&self, lookup: &Lookup, family: Family) -> Option<NodeId> {
        let at = family.index();
        self.former_ids[at].filter(|_| lookup.has_former_id[at])
    }

    /// Stores at the next node of a walk that is settled; `None` if there is none.
    fn store_next(
        &mut self,
        now: Duration,
        key: LookupKey,
        lookup: &mut Lookup,
        family: Family,
    ) -> Option<Step> {
        let (kind, own) = (lookup.kind, self.former_id(lookup, family));
        let walk = lookup.walks[family.index()].as_mut()?;
        let (node, token) = walk.next_store()?;
        let token = token.to_vec();
        #[cfg(feature = "items")]
        let item = lookup.item.as_deref();
        #[cfg(not(feature = "items"))]
        let item = None;
        Some(match self.send_store(now, key, (kind, item), node, (own, &token)) {
            Sent::Later(until) => Step::Blocked(until),
            Sent::NewLater(until) => Step::Limited(until),
            Sent::Busy => Step::Waits,
            Sent::Yes => {
                walk.handle_store_asked(node);
                Step::Progress
            }
            Sent::No => {
                walk.handle_store_over(node);
                Step::Progress
            }
        })
    }

    fn send_store(
        &mut self,
        now: Duration,
        key: LookupKey,
        (kind, item): (LookupKind, Option<&ItemLookup>),
        (id, address): (NodeId, SocketAddr),
        (own, token): (Option<NodeId>, &[u8]),
    ) -> Sent {
        let method = match kind {
            LookupKind::Peers { hash, announce: Announce::Port { port, seed } } => {
                Some(Method::AnnouncePeer { info_hash: hash, port: Some(port), seed, token })
            }
            _ => item.and_then(|item| item.put_method(address, token)),
        };
        match method {
            Some(method) => self.send(now, (Some(id), address), own, method, Purpose::Store(key)),
            None => Sent::No,
        }
    }

    /// Reports the end of a lookup. Returns the key of one that starts in its place.
    pub(super) fn finish(&mut self, now: Duration, key: LookupKey) -> Option<LookupKey> {
        let mut lookup = self.lookups.remove(&key)?;
        lookup.stats.elapsed = now.saturating_sub(lookup.started);
        #[cfg(feature = "items")]
        self.report_item(key, lookup.item.take());
        if lookup.kind.is_own() {
            for family in FAMILIES.into_iter().filter(|at| lookup.walks[at.index()].is_some()) {
                let Some(overlay) = &self.overlays[family.index()] else { continue };
                let (is_thin, is_full) = (overlay.is_thin(), overlay.table.is_full());
                self.schedule.handle_refreshed(now, family, is_thin, is_full);
            }
            return None;
        }
        if lookup.kind == LookupKind::Nodes {
            let walks = lookup.walks.iter().flatten();
            let nodes = walks.flat_map(crate::walk::Walk::closest).collect();
            self.push_event(Event::Nodes { lookup: key, nodes });
        }
        if let Some((seeds, peers)) = lookup.counts() {
            self.push_event(Event::Scraped { lookup: key, seeds, peers });
        }
        self.push_event(Event::Done { lookup: key, stats: lookup.stats });
        self.start_queued()
    }

    /// Starts a lookup that waits, if there is room.
    pub(super) fn start_queued(&mut self) -> Option<LookupKey> {
        if !self.has_room_for_lookup() {
            return None;
        }
        let (key, lookup) = self.queue.pop_front()?;
        let kind = lookup.kind;
        self.lookups.insert(key, lookup);
        if let LookupKind::Peers { hash, .. } = kind {
            self.report_own_peers(key, hash);
        }
        Some(key)
    }

    /// Has the node at `address` asked for its id and its neighbours.
    pub(super) fn add_hint(&mut self, address: SocketAddr, origin: Origin) {
        if !is_usable(address, self.accept_local) {
            return;
        }
        if let Some(overlay) = self.overlay_mut(Family::of(address)) {
            overlay.add_hint(Hint { origin, address });
        }
    }

    pub(super) fn send_ping(&mut self, now: Duration, address: SocketAddr, key: LookupKey) -> bool {
        let sent = self.send(now, (None, address), None, Method::Ping, Purpose::Ping(key));
        matches!(sent, Sent::Yes)
    }

    /// Checks whether a node is still there. Returns `false` if the budget for all queries does not
    /// allow it now.
    pub(super) fn send_check(&mut self, now: Duration, id: NodeId, address: SocketAddr) -> bool {
        let sent = self.send(now, (Some(id), address), None, Method::Ping, Purpose::Check);
        !matches!(sent, Sent::Later(_) | Sent::NewLater(_))
    }

    /// Which families a query asks for: also the other one, while we know few nodes of it (BEP 32,
    /// "Bootstrapping").
    fn want(&self, now: Duration, family: Family) -> Want {
        let other = self.overlays[1 - family.index()].as_ref();
        let wants = |other: &Overlay| other.is_thin() && other.held_until(now).is_none();
        let both = other.is_some_and(wants);
        Want { v4: both, v6: both }
    }

    /// Whether nothing is sent in the family, because nothing could be sent lately.
    pub(super) fn is_held(&self, now: Duration, family: Family) -> bool {
        self.overlay(family).is_some_and(|overlay| overlay.held_until(now).is_some())
    }

    /// Sends a query, if the budget allows it: to the node that is `expected` at `to`, and from us by
    /// the id `own`, or the one that we have now.
    fn send(
        &mut self,
        now: Duration,
        (expected, to): (Option<NodeId>, SocketAddr),
        own: Option<NodeId>,
        method: Method<'_>,
        purpose: Purpose,
    ) -> Sent {
        let Some(overlay) = &self.overlays[Family::of(to).index()] else { return Sent::No };
        if overlay.held_until(now).is_some() || !is_usable(to, self.accept_local) {
            return Sent::No;
        }
        let own = own.unwrap_or(overlay.id());
        let is_known = expected.is_some_and(|id| overlay.table.contains(&id, to));
        match self.budget.permit(now, to, is_known) {
            Permit::Now => {}
            Permit::Later(until) => return Sent::Later(until),
            Permit::NewLater(until) => return Sent::NewLater(until),
            Permit::Busy => return Sent::Busy,
            Permit::Never => return Sent::No,
        }
        if self.calls.is_full() {
            // The next answer or the next silence makes room.
            return Sent::Later(self.calls.next_timeout().unwrap_or(now));
        }
        let Some(transaction) = self.calls.start(now, to, expected, purpose, &mut self.rng) else {
            return Sent::No;
        };
        let bytes = transaction.to_be_bytes();
        let message = Message {
            read_only: self.read_only,
            version: self.version.as_ref().map(<[u8; 4]>::as_slice),
            ..Message::new(&bytes, Body::Query(Query { id: own, method }))
        };
        let Some(length) = self.outbox.push(to, MAX_QUERY, |out| message.encode(out)) else {
            self.calls.remove(transaction);
            return Sent::No;
        };
        self.budget.record_query(now, to, is_known);
        self.schedule.record_query(now);
        self.counters.sent += 1;
        self.counters.sent_bytes += length as u64;
        Sent::Yes
    }
}

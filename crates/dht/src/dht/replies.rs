//! Answers to our queries, and silence.

use std::net::SocketAddr;
use std::time::Duration;

use super::Dht;
use super::overlay::Origin;
use crate::address::{FAMILIES, is_local, is_peer, is_usable};
use crate::calls::{Call, Stage};
use crate::lookup::LookupKind;
use crate::message::{ErrorCode, Nodes, Reply, Values};
use crate::{Event, Family, LookupKey, NodeId, Stats};

/// What a query of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A step of a lookup.
    Walk(LookupKey),
    /// A lookup stores something.
    Store(LookupKey),
    /// The caller wants to know who is there.
    Ping(LookupKey),
    /// Somebody named an address.
    Hint {
        /// It is a router, which is not to be used otherwise.
        is_router: bool,
    },
    /// A node of the table, or one that asked us, is checked.
    Check,
}

impl Purpose {
    /// The key of what the caller asked for.
    pub(super) fn key(self) -> Option<LookupKey> {
        match self {
            Self::Walk(key) | Self::Store(key) | Self::Ping(key) => Some(key),
            Self::Hint { .. } | Self::Check => None,
        }
    }
}

impl Dht {
    /// Handles the reply to `call`. The node sees us at `ip`.
    pub(super) fn handle_reply(
        &mut self,
        now: Duration,
        call: &Call<Purpose>,
        ip: Option<SocketAddr>,
        reply: &Reply<'_>,
    ) {
        let from = call.to;
        let rtt = now.saturating_sub(call.sent);
        self.calls.record_answer(rtt);
        let family = Family::of(from);
        let Some(overlay) = self.overlay_mut(family) else { return };
        overlay.remove_unverified(from);
        let is_changed = overlay.table.id_at(from).is_some_and(|id| id != reply.id);
        if is_changed || reply.id == overlay.id() {
            // A node that changes its id may be anywhere it likes.
            overlay.table.evict_at(from);
            let excused = reply.id != overlay.id() && reply.id.is_compliant(from.ip());
            self.budget.record_mismatch(now, from, excused);
        }
        let is_router = call.purpose == Purpose::Hint { is_router: true };
        let is_ignored = self.budget.is_ignored(now, from);
        if call.expected.is_some_and(|expected| expected != reply.id) {
            self.counters.mismatched += 1;
            if !is_ignored {
                // It enters the table when it answers with this id again.
                self.add_hint(from, Origin::Peer);
            }
            self.use_mismatch(now, call, reply, is_ignored);
            return;
        }
        if !is_router && !is_ignored {
            self.add_to_table(now, reply.id, from, rtt);
        }
        if let Some(ip) = ip {
            self.handle_vote(now, from, ip);
        }
        self.use_reply(now, call, reply, rtt);
    }

    /// Uses the answer of a node that another node named with a wrong id. It is not to blame for that,
    /// and may be the very one that is looked for.
    fn use_mismatch(
        &mut self,
        now: Duration,
        call: &Call<Purpose>,
        reply: &Reply<'_>,
        is_ignored: bool,
    ) {
        match call.purpose {
            Purpose::Walk(key) if !is_ignored => self.advance_walk(now, key, call, reply),
            _ => self.handle_stage(now, Stage::Failed, call, false),
        }
    }

    fn add_to_table(&mut self, now: Duration, id: NodeId, from: SocketAddr, rtt: Duration) {
        let Some(overlay) = self.overlay_mut(Family::of(from)) else { return };
        overlay.table.handle_answer(now, id, from, rtt);
    }

    fn use_reply(&mut self, now: Duration, call: &Call<Purpose>, reply: &Reply<'_>, rtt: Duration) {
        let from = call.to;
        match call.purpose {
            Purpose::Walk(key) => self.advance_walk(now, key, call, reply),
            Purpose::Store(key) => self.finish_store(key, call, true),
            Purpose::Ping(lookup) => {
                self.push_event(Event::Pong { lookup, id: reply.id, rtt });
                let stats = Stats { asked: 1, answered: 1, elapsed: rtt, ..Stats::default() };
                self.push_event(Event::Done { lookup, stats });
            }
            Purpose::Hint { .. } => {
                for (family, nodes) in FAMILIES.into_iter().zip([reply.nodes, reply.nodes6]) {
                    if let Some(nodes) = nodes {
                        self.add_reported(now, from, family, nodes);
                    }
                }
                let family = Family::of(from);
                let is_thin = self.overlay(family).is_some_and(super::Overlay::is_thin);
                self.schedule.handle_new_nodes(now, family, is_thin);
            }
            Purpose::Check => {}
        }
    }

    fn advance_walk(
        &mut self,
        now: Duration,
        key: LookupKey,
        call: &Call<Purpose>,
        reply: &Reply<'_>,
    ) {
        let Some(mut lookup) = self.lookups.remove(&key) else { return };
        let from = call.to;
        lookup.stats.answered += 1;
        if let (Some(walk), Some(node)) = (&mut lookup.walks[Family::of(from).index()], call.node())
        {
            walk.handle_answered(node, reply.id, reply.token);
        }
        for (family, nodes) in FAMILIES.into_iter().zip([reply.nodes, reply.nodes6]) {
            let Some(nodes) = nodes else { continue };
            let Some(walk) = &mut lookup.walks[family.index()] else {
                self.add_reported(now, from, family, nodes);
                continue;
            };
            for node in nodes.iter().filter(|node| self.is_candidate(now, from, *node)) {
                walk.add(node, Some(from));
            }
        }
        #[cfg(feature = "items")]
        if let Some(item) = &mut lookup.item {
            item.handle_reply(from, reply);
        }
        let local = self.accept_local && is_local(from.ip());
        let own = self.overlay(Family::of(from)).and_then(|overlay| overlay.votes.address());
        let values = reply.values.into_iter().flat_map(Values::iter);
        let values = values.filter(|peer| is_peer(*peer, local));
        match (lookup.kind, reply.seeds, reply.peers) {
            (LookupKind::Scrape { .. }, Some(seeds), Some(peers)) => {
                lookup.merge_filters(seeds, peers);
            }
            (LookupKind::Scrape { .. }, ..) => {
                values.for_each(|peer| lookup.count_peer(peer));
            }
            (LookupKind::Peers { .. }, ..) => {
                let addresses = lookup.take_named(self.secret, own, values);
                if !addresses.is_empty() {
                    self.push_event(Event::Peers { lookup: key, from: Some(from), addresses });
                }
            }
            _ => {}
        }
        self.lookups.insert(key, lookup);
    }

    /// Whether a node that `informant` named may be asked.
    fn is_candidate(
        &self,
        now: Duration,
        informant: SocketAddr,
        (id, address): (NodeId, SocketAddr),
    ) -> bool {
        let local = self.accept_local && is_local(informant.ip());
        let own = self.overlay(Family::of(address)).map(super::Overlay::id);
        is_usable(address, local)
            && own.is_some_and(|own| own != id)
            && !self.budget.is_ignored(now, address)
    }

    /// Remembers nodes that are not asked at once.
    fn add_reported(
        &mut self,
        now: Duration,
        informant: SocketAddr,
        family: Family,
        nodes: Nodes<'_>,
    ) {
        for node in nodes.iter() {
            if self.is_candidate(now, informant, node)
                && let Some(overlay) = self.overlay_mut(family)
            {
                overlay.add_reported(node);
            }
        }
        self.schedule.handle_new_nodes(now, family, false);
    }

    fn finish_store(&mut self, key: LookupKey, call: &Call<Purpose>, is_stored: bool) {
        let Some(lookup) = self.lookups.get_mut(&key) else { return };
        lookup.stats.stored += u32::from(is_stored);
        if let (Some(walk), Some(node)) =
            (&mut lookup.walks[Family::of(call.to).index()], call.node())
        {
            walk.handle_store_over(node);
        }
    }

    /// A node refused a query: it is there, but of no use for it.
    pub(super) fn handle_error(&mut self, now: Duration, call: &Call<Purpose>, code: i64) {
        if let (Some(overlay), Some(id)) = (self.overlay_mut(Family::of(call.to)), call.expected) {
            overlay.table.handle_error(now, &id, call.to);
        }
        let conflicts = [ErrorCode::CasMismatch, ErrorCode::OldSequenceNumber];
        if let Purpose::Store(key) = call.purpose
            && conflicts.iter().any(|conflict| conflict.number() == code)
            && let Some(lookup) = self.lookups.get_mut(&key)
        {
            lookup.stats.conflicts += 1;
        }
        self.handle_stage(now, Stage::Failed, call, false);
    }

    fn handle_vote(&mut self, now: Duration, voter: SocketAddr, seen: SocketAddr) {
        let Some(overlay) = self.overlays[Family::of(voter).index()].as_mut() else { return };
        let Some(ip) = overlay.votes.handle(now, voter, seen.ip()) else { return };
        if !overlay.id().is_compliant(ip) {
            let id = NodeId::for_address(ip, &mut self.rng);
            let at = Family::of(voter).index();
            self.former_ids[at] = Some(overlay.id());
            let storing = self.lookups.values_mut().filter(|lookup| lookup.kind.stores());
            storing.for_each(|lookup| lookup.has_former_id[at] = true);
            overlay.table.set_own(id);
            // The neighbourhood is another one now.
            self.schedule.restart(now, Family::of(voter));
        }
        self.push_event(Event::Address { ip });
    }

    /// Handles the queries that have been silent for longer.
    pub(super) fn handle_stages(&mut self, now: Duration) {
        while let Some((stage, call)) = self.calls.poll_stage(now) {
            if stage == Stage::Failed {
                self.schedule.record_failure();
            }
            let counts = !self.schedule.is_offline(now);
            self.handle_stage(now, stage, &call, counts);
        }
    }

    /// Fails the queries to `address`, which says nothing about the node.
    pub(super) fn fail_calls(&mut self, now: Duration, address: SocketAddr) {
        self.handle_stages(now);
        self.calls.fail(now, address);
        while let Some((stage, call)) = self.calls.poll_stage(now) {
            self.handle_stage(now, stage, &call, false);
        }
    }

    /// Handles silence, or what is as good. If it `counts`, it is held against the node.
    fn handle_stage(&mut self, now: Duration, stage: Stage, call: &Call<Purpose>, counts: bool) {
        let family = Family::of(call.to);
        if stage == Stage::Failed
            && counts
            && let Some(overlay) = self.overlay_mut(family)
        {
            overlay.remove_unverified(call.to);
            if let Some(id) = call.expected {
                overlay.table.handle_failure(now, &id, call.to);
            }
        }
        match call.purpose {
            Purpose::Walk(key) => {
                let lookup = self.lookups.get_mut(&key);
                let walk = lookup.and_then(|lookup| lookup.walks[family.index()].as_mut());
                let (Some(walk), Some(node)) = (walk, call.node()) else { return };
                match stage {
                    Stage::Fresh => {}
                    Stage::Stalled => walk.handle_stalled(node),
                    Stage::Overdue => walk.handle_overdue(node),
                    Stage::Failed => walk.handle_failed(node),
                }
            }
            // The lookup does not wait for slow nodes; a late answer is counted if it still runs.
            Purpose::Store(key) => self.finish_store(key, call, false),
            Purpose::Ping(lookup) if stage == Stage::Failed => {
                let elapsed = now.saturating_sub(call.sent);
                let stats = Stats { asked: 1, elapsed, ..Stats::default() };
                self.push_event(Event::Done { lookup, stats });
            }
            Purpose::Ping(_) | Purpose::Hint { .. } | Purpose::Check => {}
        }
    }
}

//! What a node does without being asked: it joins, keeps its table alive and forgets.

use std::time::Duration;

use super::Dht;
use super::overlay::{Overlay, PendingCheck};
use crate::address::FAMILIES;
use crate::lookup::{Lookup, LookupKind};
use crate::walk::Walk;
use crate::{Event, Family};

/// The time between two checks of nodes, of either table. With one full table each node is checked
/// within half an hour, with two within an hour.
const CHECK_GAP: Duration = Duration::from_secs(4);
/// The time between two lookups that fill the table, once it has been filled.
const REFRESH_GAP: Duration = Duration::from_secs(15 * 60);
/// The same at the start, and how many of these there are.
const FIRST_REFRESH_GAP: Duration = Duration::from_secs(3);
const FIRST_REFRESH_COUNT: u32 = 40;
/// The same while the table is thin.
const THIN_REFRESH_GAP: Duration = Duration::from_secs(30);
/// The same while the first buckets have room.
const PARTIAL_REFRESH_GAP: Duration = Duration::from_secs(5 * 60);
/// How long silence lasts before the routers are asked, and the bounds of the time until they are
/// asked again.
const ROUTER_WAIT: Duration = Duration::from_secs(3);
const FIRST_ROUTER_BACK_OFF: Duration = Duration::from_secs(60);
const MAX_ROUTER_BACK_OFF: Duration = Duration::from_secs(60 * 60);
/// We are offline when nobody has answered for that time and so many queries have failed.
const OFFLINE_AFTER: Duration = Duration::from_secs(60);
const OFFLINE_FAILURES: u32 = 10;
/// How often outdated entries are forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// When what is due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// When [`Dht::maintain`] has something to do.
    next: Duration,
    /// When the budget allows what waits for it.
    blocked: Option<Duration>,
    check: Duration,
    /// The family whose turn it is.
    check_family: usize,
    /// By family.
    refresh: [Refresh; 2],
    expire: Duration,
    silence: Silence,
    /// `None` if the caller knows no routers.
    routers: Option<Routers>,
}

/// When the table of a family is filled.
#[derive(Debug, Clone, Copy, Default)]
struct Refresh {
    due: Duration,
    /// How many refreshes there were since the start, or since our id changed.
    count: u32,
}

/// How long nobody has answered.
#[derive(Debug, Default)]
struct Silence {
    /// When the first query went out that nobody has answered since.
    since: Option<Duration>,
    /// How many queries have failed meanwhile.
    failures: u32,
}

/// When routers are asked.
#[derive(Debug)]
struct Routers {
    /// Not before that time.
    next: Duration,
    back_off: Duration,
}

impl Schedule {
    pub(super) fn new(wants_routers: bool) -> Self {
        let routers = Routers { next: Duration::ZERO, back_off: FIRST_ROUTER_BACK_OFF };
        Self {
            next: Duration::ZERO,
            blocked: None,
            check: Duration::ZERO,
            check_family: 0,
            refresh: [Refresh::default(); 2],
            expire: EXPIRE_EVERY,
            silence: Silence::default(),
            routers: wants_routers.then_some(routers),
        }
    }

    pub(super) fn next(&self) -> Duration {
        self.blocked.map_or(self.next, |blocked| blocked.min(self.next))
    }

    /// Has the caller come back at once.
    pub(super) fn pump_soon(&mut self) {
        self.next = Duration::ZERO;
    }

    /// Has the caller come back at `time`, if that is earlier.
    pub(super) fn hasten(&mut self, now: Duration, time: Option<Duration>) {
        if let Some(time) = time {
            self.next = self.next.min(time.max(now));
        }
    }

    pub(super) fn set_blocked(&mut self, until: Option<Duration>) {
        self.blocked = until;
    }

    pub(super) fn record_query(&mut self, now: Duration) {
        self.silence.since.get_or_insert(now);
    }

    pub(super) fn record_failure(&mut self) {
        self.silence.failures = self.silence.failures.saturating_add(1);
    }

    /// Whether the network is gone, so that silence says nothing about a node.
    pub(super) fn is_offline(&self, now: Duration) -> bool {
        self.silence.failures >= OFFLINE_FAILURES
            && self.silence.since.is_some_and(|since| now >= since + OFFLINE_AFTER)
    }

    /// The network answers. When it stops, routers are asked early again.
    pub(super) fn handle_answer(&mut self) {
        self.silence = Silence::default();
        if let Some(routers) = &mut self.routers {
            routers.back_off = FIRST_ROUTER_BACK_OFF;
        }
    }

    /// Nodes of the family became known.
    pub(super) fn handle_new_nodes(&mut self, now: Duration, family: Family, is_thin: bool) {
        let refresh = &mut self.refresh[family.index()];
        if refresh.count == 0 || is_thin {
            refresh.due = now;
            self.next = now;
        }
    }

    pub(super) fn handle_refreshed(
        &mut self,
        now: Duration,
        family: Family,
        is_thin: bool,
        is_full: bool,
    ) {
        let refresh = &mut self.refresh[family.index()];
        refresh.count += 1;
        let gap = match refresh.count {
            ..=FIRST_REFRESH_COUNT => FIRST_REFRESH_GAP,
            _ if is_thin => THIN_REFRESH_GAP,
            _ if !is_full => PARTIAL_REFRESH_GAP,
            _ => REFRESH_GAP,
        };
        refresh.due = now + gap;
        self.hasten(now, Some(now + gap));
    }

    /// Our id is another one: the table of the family has to be filled again.
    pub(super) fn restart(&mut self, now: Duration, family: Family) {
        self.refresh[family.index()] = Refresh { due: now, count: 0 };
        self.next = now;
    }
}

impl Dht {
    /// Does what is due.
    pub(super) fn maintain(&mut self, now: Duration) {
        while self.start_queued().is_some() {}
        if now < self.schedule.next {
            return;
        }
        self.schedule.next = now + CHECK_GAP;
        if now >= self.schedule.expire {
            self.schedule.expire = now + EXPIRE_EVERY;
            self.peers.expire(now);
            #[cfg(feature = "items")]
            self.items.expire(now);
            self.budget.expire(now);
        }
        self.want_routers(now);
        FAMILIES.into_iter().for_each(|family| self.refresh(now, family));
        self.check_pending(now);
        self.check_nodes(now);
        let first_nodes = self.lookups.values().map(Lookup::wakes_at);
        let wake = first_nodes.filter(|time| *time > now).min();
        self.schedule.hasten(now, wake);
    }

    /// Asks for routers: at once if nobody else is known, else if nobody answers.
    fn want_routers(&mut self, now: Duration) {
        let nodes = self.node_count();
        let is_lonely = self.overlays.iter().flatten().all(Overlay::is_empty);
        let is_offline = self.schedule.is_offline(now);
        let silent_since = self.schedule.silence.since;
        let Some(routers) = &mut self.schedule.routers else { return };
        let due = match silent_since {
            None if is_lonely => Some(routers.next),
            Some(since) if nodes == 0 => Some(routers.next.max(since + ROUTER_WAIT)),
            Some(_) if is_offline => Some(routers.next),
            _ => None,
        };
        let Some(due) = due else {
            self.schedule.hasten(now, Some(now + ROUTER_WAIT));
            return;
        };
        if now < due {
            self.schedule.hasten(now, Some(due));
            return;
        }
        routers.next = now + routers.back_off;
        routers.back_off = (2 * routers.back_off).min(MAX_ROUTER_BACK_OFF);
        self.push_event(Event::RoutersWanted);
    }

    /// Starts a lookup that fills the table: first for our neighbours, then for a bucket with room.
    fn refresh(&mut self, now: Duration, family: Family) {
        let at = family.index();
        let Some(overlay) = &mut self.overlays[at] else { return };
        let due = self.schedule.refresh[at].due.max(overlay.held_until(now).unwrap_or_default());
        if now < due {
            self.schedule.hasten(now, Some(due));
            return;
        }
        if self.lookups.values().any(|lookup| lookup.kind.is_own() && lookup.walks[at].is_some()) {
            return;
        }
        if overlay.is_thin() {
            // A node that the user, a torrent or a link names may have started since. The nodes that
            // found us meanwhile may not know it.
            overlay.retry_hints(|address| self.calls.is_asked(address));
        }
        let count = self.schedule.refresh[at].count;
        let is_first = count == 0;
        // Lookups for our id alone would find the same neighbours again and again.
        let joins = is_first || overlay.is_thin() && count.is_multiple_of(2);
        let target = if joins { overlay.id() } else { overlay.table.thin_target(&mut self.rng) };
        let mut walk = Walk::new(target, false);
        if !overlay.seed(&mut walk) {
            // Nobody is known yet, or any more.
            let other = self.overlays[1 - at].as_ref();
            let is_alone = other.is_none_or(|other| other.table.len() == 0);
            let pause = if is_alone { FIRST_REFRESH_GAP } else { PARTIAL_REFRESH_GAP };
            self.schedule.refresh[at].due = now + pause;
            return;
        }
        let kind = if is_first { LookupKind::Join } else { LookupKind::Refresh };
        let mut walks = [None, None];
        walks[at] = Some(walk);
        let key = self.take_key();
        self.lookups.insert(key, Lookup::new(now, kind, walks));
    }

    fn check_pending(&mut self, now: Duration) {
        for family in FAMILIES {
            if self.is_held(now, family) {
                continue;
            }
            while let Some(check) = self.due_check(now, family) {
                if !self.send_check(now, check.id, check.address) {
                    break;
                }
                if let Some(overlay) = self.overlay_mut(family) {
                    overlay.pending_checks.pop_front();
                }
            }
        }
        let next = self.next_pending_check();
        self.schedule.hasten(now + Duration::from_millis(100), next);
    }

    fn due_check(&self, now: Duration, family: Family) -> Option<PendingCheck> {
        let check = self.overlay(family)?.pending_checks.front()?;
        (check.due <= now).then_some(*check)
    }

    /// When the next node that asked us is to be checked.
    pub(super) fn next_pending_check(&self) -> Option<Duration> {
        let overlays = self.overlays.iter().flatten();
        overlays.filter_map(|overlay| overlay.pending_checks.front()).map(|check| check.due).min()
    }

    fn check_nodes(&mut self, now: Duration) {
        if now < self.schedule.check {
            return;
        }
        self.schedule.check = now + CHECK_GAP;
        let first = self.schedule.check_family;
        for at in [first, 1 - first] {
            let family = FAMILIES[at];
            if self.is_held(now, family) {
                continue;
            }
            let due =
                self.overlay_mut(family).and_then(|overlay| overlay.table.take_questionable(now));
            if let Some((id, address)) = due {
                self.schedule.check_family = 1 - at;
                self.send_check(now, id, address);
                return;
            }
        }
    }
}

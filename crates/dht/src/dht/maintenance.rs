//! What a node does without being asked: it joins, keeps its table alive and forgets.

use std::time::Duration;

use super::Dht;
use crate::address::FAMILIES;
use crate::lookup::Lookup;
use crate::search::{Goal, Search};
use crate::{Event, Family};

/// The time between two checks of nodes, of either table. With one full table each node is checked
/// within half an hour, with two within an hour.
const CHECK_GAP: Duration = Duration::from_secs(4);
/// The time between two lookups that fill the table, once it has been filled.
const REFRESH_EVERY: Duration = Duration::from_secs(15 * 60);
/// The same at the start, and how many of these there are.
const FIRST_REFRESHES: Duration = Duration::from_secs(3);
const FIRST_REFRESH_COUNT: u32 = 40;
/// The same while the table is thin.
const THIN_REFRESHES: Duration = Duration::from_secs(30);
/// The same while the first buckets have room.
const PARTIAL_REFRESHES: Duration = Duration::from_secs(5 * 60);
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
    refresh: [Duration; 2],
    /// How many refreshes of a family there were since the start, or since our id changed.
    refreshes: [u32; 2],
    expire: Duration,
    /// When the first query went out that nobody has answered since, and how many have failed.
    unanswered_since: Option<Duration>,
    failures: u32,
    routers: Option<Routers>,
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
            refresh: [Duration::ZERO; 2],
            refreshes: [0; 2],
            expire: EXPIRE_EVERY,
            unanswered_since: None,
            failures: 0,
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
        self.unanswered_since.get_or_insert(now);
    }

    pub(super) fn record_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether the network is gone, so that silence says nothing about a node.
    pub(super) fn is_offline(&self, now: Duration) -> bool {
        self.failures >= OFFLINE_FAILURES
            && self.unanswered_since.is_some_and(|since| now >= since + OFFLINE_AFTER)
    }

    /// The network answers: routers are asked early again when it stops to.
    pub(super) fn handle_answer(&mut self) {
        (self.unanswered_since, self.failures) = (None, 0);
        if let Some(routers) = &mut self.routers {
            routers.back_off = FIRST_ROUTER_BACK_OFF;
        }
    }

    /// Nodes of the family became known.
    pub(super) fn handle_contact(&mut self, now: Duration, family: Family, is_thin: bool) {
        if self.refreshes[family.index()] == 0 || is_thin {
            self.refresh[family.index()] = now;
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
        let at = family.index();
        self.refreshes[at] += 1;
        self.refresh[at] = now
            + match self.refreshes[at] {
                ..=FIRST_REFRESH_COUNT => FIRST_REFRESHES,
                _ if is_thin => THIN_REFRESHES,
                _ if !is_full => PARTIAL_REFRESHES,
                _ => REFRESH_EVERY,
            };
        self.hasten(now, Some(self.refresh[at]));
    }

    /// Our id is another one: the table of the family has to be filled again.
    pub(super) fn restart(&mut self, now: Duration, family: Family) {
        self.refreshes[family.index()] = 0;
        self.refresh[family.index()] = now;
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
        self.check_askers(now);
        self.check_nodes(now);
        let first_nodes = self.searches.values().map(super::super::search::Search::wakes_at);
        let wake = first_nodes.filter(|time| *time > now).min();
        self.schedule.hasten(now, wake);
    }

    /// Asks for routers: at once if nobody else is known, else if nobody answers.
    fn want_routers(&mut self, now: Duration) {
        let nodes: usize = self.overlays.iter().flatten().map(|overlay| overlay.table.len()).sum();
        let is_lonely = self.overlays.iter().flatten().all(super::overlay::Overlay::is_empty);
        let is_offline = self.schedule.is_offline(now);
        let silent_since = self.schedule.unanswered_since;
        let Some(routers) = &mut self.schedule.routers else { return };
        let due = match silent_since {
            None if is_lonely => Some(routers.next),
            Some(since) if nodes == 0 => Some(routers.next.max(since + ROUTER_WAIT)),
            Some(_) if is_offline => Some(routers.next),
            _ => None,
        };
        let Some(due) = due else {
            let soon = Some(now + ROUTER_WAIT);
            self.schedule.hasten(now, soon);
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
        let due = self.schedule.refresh[at].max(overlay.held_until(now).unwrap_or_default());
        if now < due {
            self.schedule.hasten(now, Some(due));
            return;
        }
        if self.searches.values().any(|search| search.goal.is_own() && search.walks[at].is_some()) {
            return;
        }
        if overlay.is_thin() {
            // A node that the user, a torrent or a link names may have started since. The nodes that
            // found us meanwhile may not know it.
            overlay.retry_contacts(|address| self.calls.is_asked(address));
        }
        let is_first = self.schedule.refreshes[at] == 0;
        let joins = is_first || overlay.is_thin();
        let target = if joins { overlay.id() } else { overlay.table.thin_target(&mut self.rng) };
        let mut walk = Lookup::new(target, false);
        if !overlay.seed(&mut walk) {
            // Nobody is known yet, or any more.
            let other = self.overlays[1 - at].as_ref();
            let is_alone = other.is_none_or(|other| other.table.len() == 0);
            let pause = if is_alone { FIRST_REFRESHES } else { PARTIAL_REFRESHES };
            self.schedule.refresh[at] = now + pause;
            return;
        }
        let goal = if is_first { Goal::Join } else { Goal::Refresh };
        let mut walks = [None, None];
        walks[at] = Some(walk);
        let key = self.take_key();
        self.searches.insert(key, Search::new(now, goal, walks));
    }

    fn check_askers(&mut self, now: Duration) {
        for family in FAMILIES {
            if self.is_held(now, family) {
                continue;
            }
            while let Some(asker) = self.due_asker(now, family) {
                if !self.send_check(now, asker.id, asker.address) {
                    break;
                }
                if let Some(overlay) = self.overlay_mut(family) {
                    overlay.askers.pop_front();
                }
            }
        }
        let next = self.next_asker();
        self.schedule.hasten(now + Duration::from_millis(100), next);
    }

    fn due_asker(&self, now: Duration, family: Family) -> Option<super::overlay::Asker> {
        let asker = self.overlay(family)?.askers.front()?;
        (asker.due <= now).then_some(*asker)
    }

    /// When the next node that asked us is to be checked.
    pub(super) fn next_asker(&self) -> Option<Duration> {
        let overlays = self.overlays.iter().flatten();
        overlays.filter_map(|overlay| overlay.askers.front()).map(|asker| asker.due).min()
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

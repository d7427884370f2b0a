//! Which queries may be sent: a rate for all, few new addresses, and no persistence at addresses
//! that do not answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::address::{Group, host};
use crate::rate::Rate;

/// The most queries that are sent per second, after a burst of twice as many.
pub const QUERY_RATE: u32 = 50;
const QUERY_BURST: u32 = 100;
/// The most new addresses that are queried in any minute; in the first half minute half of them.
/// Routers at home have small tables.
pub const NEW_ADDRESS_RATE: usize = 600;
const FIRST_ADDRESSES: usize = 300;
const FIRST_PERIOD: Duration = Duration::from_secs(30);
/// How many queries an address may leave unanswered before it is not asked for [`REST`].
const MAX_UNANSWERED: u8 = 2;
/// The same for a node of the table, which receives at its address.
const MAX_UNANSWERED_IN_TABLE: u8 = 16;
/// How long the last query to an address is under way.
const BUSY: Duration = Duration::from_secs(1);
/// How long a silent address is not asked. Others may have named a victim's.
const REST: Duration = Duration::from_secs(60);
/// How long an address that was asked is not new.
const QUERIED_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The most addresses that are remembered.
const MAX_QUERIED: usize = 4096;
/// How long an address is ignored where a node answered with another id than expected, and where
/// that happened again.
const MISMATCH_REST: Duration = Duration::from_secs(15 * 60);
const LIAR_REST: Duration = Duration::from_secs(60 * 60);
/// The most such addresses.
const MAX_MISMATCHED: usize = 256;

/// Whether a query may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Yes.
    Now,
    /// Not before that time, nor any other query.
    Later(Duration),
    /// Not before that time, nor to any other new address.
    NewLater(Duration),
    /// Not while the address may still answer the queries under way.
    Busy,
    /// Not to this address.
    Never,
}

/// An address that was asked.
#[derive(Debug)]
struct Queried {
    last: Duration,
    unanswered: u8,
    /// Whether a new address was counted for its only query.
    is_new: bool,
}

/// An address where a node answered with another id than expected.
#[derive(Debug)]
struct Mismatch {
    ignored_until: Duration,
    /// Another one before that time is held against it.
    kept_until: Duration,
}

/// The budgets.
#[derive(Debug)]
pub(crate) struct SendBudget {
    queries: Rate,
    /// New addresses per second, for the last minute.
    new: [u16; 60],
    /// The second of the last of them.
    second: u64,
    start: Option<Duration>,
    queried: BTreeMap<Group, Queried>,
    mismatched: BTreeMap<Group, Mismatch>,
    is_on: bool,
}

impl SendBudget {
    pub(crate) fn new(now: Duration, is_on: bool) -> Self {
        Self {
            queries: Rate::new(now, QUERY_RATE, QUERY_BURST),
            new: [0; 60],
            second: now.as_secs(),
            start: None,
            queried: BTreeMap::new(),
            mismatched: BTreeMap::new(),
            is_on,
        }
    }

    /// Returns whether a query may go to `address`, where a node of the routing table is if `in_table`.
    pub(crate) fn permit(&mut self, now: Duration, address: SocketAddr, in_table: bool) -> Permit {
        if self.is_ignored(now, address) {
            return Permit::Never;
        }
        if !self.is_on {
            return Permit::Now;
        }
        if !self.queries.has(now) {
            return Permit::Later(self.queries.next());
        }
        let limit = if in_table { MAX_UNANSWERED_IN_TABLE } else { MAX_UNANSWERED };
        match self.queried.get(&host(address)) {
            Some(queried) if queried.unanswered >= limit => {
                match now.saturating_sub(queried.last) {
                    age if age >= REST => Permit::Now,
                    age if age < BUSY => Permit::Busy,
                    _ => Permit::Never,
                }
            }
            Some(_) => Permit::Now,
            None if in_table => Permit::Now,
            None => self.permit_new(now),
        }
    }

    fn permit_new(&mut self, now: Duration) -> Permit {
        self.advance(now);
        let used: usize = self.new.iter().map(|count| usize::from(*count)).sum();
        let is_start = self.start.is_none_or(|start| now < start + FIRST_PERIOD);
        let limit = if is_start { FIRST_ADDRESSES } else { NEW_ADDRESS_RATE };
        if used >= limit || self.queried.len() >= MAX_QUERIED {
            return Permit::NewLater(Duration::from_secs(self.second + 1));
        }
        Permit::Now
    }

    /// Counts a query that was sent.
    pub(crate) fn record_query(&mut self, now: Duration, address: SocketAddr, in_table: bool) {
        self.queries.spend(now, 1);
        self.start.get_or_insert(now);
        let group = host(address);
        if let Some(queried) = self.queried.get_mut(&group) {
            // After a rest there is one more try.
            let has_rested = now.saturating_sub(queried.last) >= REST;
            queried.unanswered = if has_rested { 1 } else { queried.unanswered.saturating_add(1) };
            (queried.last, queried.is_new) = (now, false);
            return;
        }
        if !in_table {
            self.advance(now);
            self.new[(self.second % 60) as usize] += 1;
        }
        if self.queried.len() < MAX_QUERIED {
            self.queried.insert(group, Queried { last: now, unanswered: 1, is_new: !in_table });
        }
    }

    /// Takes back the last query to `address`, which could not be sent.
    pub(crate) fn refund(&mut self, now: Duration, address: SocketAddr) {
        let group = host(address);
        let Some(queried) = self.queried.get_mut(&group).filter(|queried| queried.unanswered > 0)
        else {
            return;
        };
        queried.unanswered -= 1;
        self.queries.refund(1);
        if queried.is_new && queried.last + Duration::from_secs(60) > now {
            let count = &mut self.new[(queried.last.as_secs() % 60) as usize];
            *count = count.saturating_sub(1);
            self.queried.remove(&group);
        }
    }

    /// Records that an answer came from `address`.
    pub(crate) fn record_answer(&mut self, address: SocketAddr) {
        if let Some(queried) = self.queried.get_mut(&host(address)) {
            (queried.unanswered, queried.is_new) = (0, false);
        }
    }

    /// Records that a node at `address` answered with another id than the expected one. That is
    /// `excused` the first time if the new id fits the address: nodes take such an id when they learn
    /// their address (BEP 42).
    pub(crate) fn record_mismatch(&mut self, now: Duration, address: SocketAddr, excused: bool) {
        let group = host(address);
        let again = self.mismatched.get(&group).is_some_and(|mismatch| now < mismatch.kept_until);
        if self.mismatched.len() == MAX_MISMATCHED && !self.mismatched.contains_key(&group) {
            let soonest = self.mismatched.iter().min_by_key(|(_, mismatch)| mismatch.kept_until);
            if let Some(group) = soonest.map(|(group, _)| *group) {
                self.mismatched.remove(&group);
            }
        }
        let kept_until = now + if again { LIAR_REST } else { MISMATCH_REST };
        let ignored_until = if excused && !again { now } else { kept_until };
        self.mismatched.insert(group, Mismatch { ignored_until, kept_until });
    }

    /// Whether an address is ignored for a mismatch.
    pub(crate) fn is_ignored(&self, now: Duration, address: SocketAddr) -> bool {
        self.mismatched.get(&host(address)).is_some_and(|mismatch| now < mismatch.ignored_until)
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.queried.retain(|_, queried| now.saturating_sub(queried.last) < QUERIED_LIFETIME);
        self.mismatched.retain(|_, mismatch| now < mismatch.kept_until);
    }

    /// Clears the counters of the seconds that passed.
    fn advance(&mut self, now: Duration) {
        let second = now.as_secs();
        for passed in (self.second + 1..=second).take(60) {
            self.new[(passed % 60) as usize] = 0;
        }
        if second > self.second + 60 {
            self.new = [0; 60];
        }
        self.second = self.second.max(second);
    }

    pub(crate) fn memory(&self) -> usize {
        let queried = self.queried.len() * (size_of::<Group>() + size_of::<Queried>());
        let mismatched = self.mismatched.len() * (size_of::<Group>() + size_of::<Mismatch>());
        2 * (queried + mismatched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from_bits(0x2d00_0000 + ip), 6881))
    }

    /// Sends a query to each address of `next` in turn, as often as is permitted, for `period`, and
    /// returns when each went.
    fn send(period: Duration, in_table: bool) -> Vec<Duration> {
        let mut budget = SendBudget::new(Duration::ZERO, true);
        let (mut now, mut sent) = (Duration::ZERO, Vec::new());
        while now < period {
            let address = at(sent.len() as u32);
            match budget.permit(now, address, in_table) {
                Permit::Now => {
                    budget.record_query(now, address, in_table);
                    sent.push(now);
                }
                Permit::Later(next) | Permit::NewLater(next) => {
                    assert!(next > now, "{next:?} {now:?}");
                    now = next;
                    budget.expire(now);
                }
                Permit::Never | Permit::Busy => panic!("{address}"),
            }
        }
        sent
    }

    fn most_within(sent: &[Duration], period: Duration) -> usize {
        let ends = sent.iter().map(|start| sent.partition_point(|end| *end < *start + period));
        ends.enumerate().map(|(at, end)| end - at).max().unwrap_or(0)
    }

    #[test]
    fn queries_have_a_burst_and_a_rate() {
        let sent = send(Duration::from_secs(10), true);
        assert_eq!(most_within(&sent, Duration::from_millis(1)), QUERY_BURST as usize);
        let most = (QUERY_BURST + 10 * QUERY_RATE) as usize;
        assert!((most - 2..=most + 1).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn new_addresses_are_limited() {
        let sent = send(Duration::from_secs(300), false);
        let early = sent.iter().filter(|time| **time < FIRST_PERIOD).count();
        assert_eq!(early, FIRST_ADDRESSES);
        // Seconds are counted as a whole, so that the limit holds for the 59 between.
        let most = most_within(&sent, Duration::from_secs(59));
        assert!(most <= NEW_ADDRESS_RATE && most > NEW_ADDRESS_RATE - 60, "{most}");
    }

    #[test]
    fn silent_address_is_left_in_peace() {
        let mut budget = SendBudget::new(Duration::ZERO, true);
        let mut ask = |time: u64, port: u16, in_table: bool| {
            let mut address = at(1);
            address.set_port(port);
            let now = Duration::from_secs(time);
            let permit = budget.permit(now, address, in_table);
            if permit == Permit::Now {
                budget.record_query(now, address, in_table);
            }
            permit
        };
        let (now, busy, never) = (Permit::Now, Permit::Busy, Permit::Never);
        assert_eq!([ask(0, 1, false), ask(1, 2, false)], [now; 2], "other ports are the same host");
        assert_eq!([ask(1, 3, false), ask(2, 3, false), ask(60, 1, false)], [busy, never, never]);
        assert_eq!([ask(61, 1, false), ask(61, 1, false), ask(62, 1, false)], [now, now, never]);
        let more = (0..99).filter(|_| ask(62, 1, true) == now).count();
        assert_eq!(
            more,
            usize::from(MAX_UNANSWERED_IN_TABLE - MAX_UNANSWERED),
            "a node of the table"
        );
        let mut budget = SendBudget::new(Duration::ZERO, true);
        for time in 0..100 {
            let now = Duration::from_secs(time);
            assert_eq!(budget.permit(now, at(1), true), Permit::Now);
            budget.record_query(now, at(1), true);
            budget.record_answer(at(1));
        }
    }

    #[test]
    fn changed_ids_are_ignored_for_long() {
        let mut budget = SendBudget::new(Duration::ZERO, true);
        let ignored = |budget: &SendBudget, after: Duration| {
            budget.is_ignored(after - Duration::from_secs(1), at(1))
                && !budget.is_ignored(after, at(1))
        };
        budget.record_mismatch(Duration::ZERO, at(1), false);
        assert!(ignored(&budget, MISMATCH_REST));
        budget.record_mismatch(Duration::ZERO, at(1), true);
        assert!(ignored(&budget, LIAR_REST));
        assert_eq!(budget.permit(Duration::ZERO, at(1), true), Permit::Never);
        budget.record_mismatch(Duration::ZERO, at(2), true);
        assert!(!budget.is_ignored(Duration::ZERO, at(2)), "the first one is excused");
        for ip in 0..2 * MAX_MISMATCHED as u32 {
            budget.record_mismatch(Duration::from_secs(1), at(ip), false);
        }
        assert_eq!(budget.mismatched.len(), MAX_MISMATCHED);
    }

    #[test]
    fn unsent_query_costs_nothing() {
        let mut budget = SendBudget::new(Duration::ZERO, true);
        for ip in 0..5000 {
            let now = Duration::from_millis(ip);
            assert_eq!(budget.permit(now, at(ip as u32), false), Permit::Now, "{ip}");
            budget.record_query(now, at(ip as u32), false);
            budget.refund(now, at(ip as u32));
        }
        assert!(budget.queried.is_empty());
    }

    #[test]
    fn remembered_addresses_are_limited() {
        let mut budget = SendBudget::new(Duration::ZERO, true);
        for ip in 0..=MAX_QUERIED as u32 {
            budget.record_query(Duration::ZERO, at(ip), true);
        }
        assert_eq!(budget.queried.len(), MAX_QUERIED);
        let later = Duration::from_secs(120);
        assert!(matches!(budget.permit(later, at(1 << 20), false), Permit::NewLater(_)));
        budget.expire(QUERIED_LIFETIME);
        assert!(budget.queried.is_empty());
    }
}

//! Queries that wait for an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;

use crate::NodeId;
use crate::node_id::NodeInfo;

/// The most queries that wait for an answer.
pub const MAX_CALLS: usize = 512;
/// The bounds of the time after which a query no longer counts as one of the parallel ones of its
/// lookup. A late answer still counts.
const MIN_SHORT_TIMEOUT: Duration = Duration::from_millis(150);
const MAX_SHORT_TIMEOUT: Duration = Duration::from_millis(1000);
/// The same time before enough answers have come to know better.
const FIRST_SHORT_TIMEOUT: Duration = Duration::from_millis(600);
/// How long an announce waits for an answer before it gives the node up.
pub(crate) const ANNOUNCE_WAIT: Duration = Duration::from_millis(1500);
/// After that time a query has failed.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How many of the last answers the short timeout is computed from.
const RTTS: usize = 64;
/// How many there must be.
const MIN_RTTS: usize = 4;

/// A query that waits for an answer.
#[derive(Debug, Clone)]
pub(crate) struct Call<P> {
    /// Where it went.
    pub(crate) to: SocketAddr,
    /// The id that must answer, if it is known.
    pub(crate) expected: Option<NodeId>,
    pub(crate) sent: Duration,
    pub(crate) purpose: P,
    stage: Stage,
    /// When the next stage ends.
    next: Duration,
}

impl<P> Call<P> {
    /// Returns the node that was asked, if its id is known.
    pub(crate) fn node(&self) -> Option<NodeInfo> {
        self.expected.map(|id| (id, self.to))
    }
}

/// How long a call has gone unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Less than the short timeout.
    Fresh,
    /// Longer than the short timeout.
    Stalled,
    /// Longer than [`ANNOUNCE_WAIT`].
    Overdue,
    /// Longer than [`CALL_TIMEOUT`]: the call is over.
    Failed,
}

/// All queries that wait for an answer, by transaction.
#[derive(Debug)]
pub(crate) struct Calls<P> {
    calls: BTreeMap<u32, Call<P>>,
    timers: BTreeSet<(Duration, u32)>,
    /// The times that the last answers took, in milliseconds.
    rtts: VecDeque<u16>,
    short_timeout: Duration,
}

impl<P: Clone> Calls<P> {
    pub(crate) fn new() -> Self {
        Self {
            calls: BTreeMap::new(),
            timers: BTreeSet::new(),
            rtts: VecDeque::new(),
            short_timeout: FIRST_SHORT_TIMEOUT,
        }
    }

    /// Adds a query and returns its transaction; `None` if there are [`MAX_CALLS`].
    pub(crate) fn start(
        &mut self,
        now: Duration,
        to: SocketAddr,
        expected: Option<NodeId>,
        purpose: P,
        rng: &mut impl Rng,
    ) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let mut transaction = rng.next_u32();
        while self.calls.contains_key(&transaction) {
            transaction = rng.next_u32();
        }
        let next = now + self.short_timeout;
        let call = Call { to, expected, sent: now, purpose, stage: Stage::Fresh, next };
        self.timers.insert((next, transaction));
        self.calls.insert(transaction, call);
        Some(transaction)
    }

    /// Takes the call that `transaction` from `from` answers. Only the very address that was asked
    /// can answer.
    pub(crate) fn take(&mut self, transaction: &[u8], from: SocketAddr) -> Option<Call<P>> {
        let transaction = u32::from_be_bytes(transaction.try_into().ok()?);
        self.calls.get(&transaction).filter(|call| call.to == from)?;
        self.remove(transaction)
    }

    /// Whether a call for which `is_like` holds may be answered within the short timeout.
    pub(crate) fn any_fresh(&self, is_like: impl Fn(&Call<P>) -> bool) -> bool {
        self.calls.values().any(|call| call.stage == Stage::Fresh && is_like(call))
    }

    /// Forgets a call.
    pub(crate) fn remove(&mut self, transaction: u32) -> Option<Call<P>> {
        let call = self.calls.remove(&transaction)?;
        self.timers.remove(&(call.next, transaction));
        Some(call)
    }

    /// Records how long an answer took.
    pub(crate) fn record_answer(&mut self, rtt: Duration) {
        if self.rtts.len() == RTTS {
            self.rtts.pop_front();
        }
        self.rtts.push_back(u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX));
        if self.rtts.len() >= MIN_RTTS {
            let mut sorted: Vec<u16> = self.rtts.iter().copied().collect();
            sorted.sort_unstable();
            let p85 = u64::from(sorted[sorted.len() * 85 / 100]);
            self.short_timeout =
                Duration::from_millis(p85 * 13 / 10).clamp(MIN_SHORT_TIMEOUT, MAX_SHORT_TIMEOUT);
        }
    }

    /// Returns a call that has reached another stage.
    pub(crate) fn poll_stage(&mut self, now: Duration) -> Option<(Stage, Call<P>)> {
        let (time, transaction) = *self.timers.first()?;
        if time > now {
            return None;
        }
        self.timers.pop_first();
        let call = self.calls.get_mut(&transaction)?;
        (call.stage, call.next) = match call.stage {
            Stage::Fresh => (Stage::Stalled, call.sent + ANNOUNCE_WAIT),
            Stage::Stalled => (Stage::Overdue, call.sent + CALL_TIMEOUT),
            Stage::Overdue | Stage::Failed => (Stage::Failed, call.next),
        };
        if call.stage == Stage::Failed {
            return self.calls.remove(&transaction).map(|call| (Stage::Failed, call));
        }
        self.timers.insert((call.next, transaction));
        Some((call.stage, call.clone()))
    }

    /// Fails the calls to `address`.
    pub(crate) fn fail(&mut self, now: Duration, address: SocketAddr) {
        for (transaction, call) in self.calls.iter_mut().filter(|(_, call)| call.to == address) {
            self.timers.remove(&(call.next, *transaction));
            (call.stage, call.next) = (Stage::Overdue, now);
            self.timers.insert((now, *transaction));
        }
    }

    /// Forgets the calls for whose purpose `is_over` holds.
    pub(crate) fn cancel(&mut self, is_over: impl Fn(&P) -> bool) {
        let timers = &mut self.timers;
        self.calls.retain(|transaction, call| {
            let is_over = is_over(&call.purpose);
            if is_over {
                timers.remove(&(call.next, *transaction));
            }
            !is_over
        });
    }

    /// Whether `address` may still answer a query.
    pub(crate) fn is_asked(&self, address: SocketAddr) -> bool {
        self.calls.values().any(|call| call.to == address)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.calls.len() >= MAX_CALLS
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn short_timeout(&self) -> Duration {
        self.short_timeout
    }

    /// When the next call reaches another stage.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(time, _)| *time)
    }

    pub(crate) fn memory(&self) -> usize {
        // A tree's nodes are at least half full.
        2 * self.calls.len() * (size_of::<Call<P>>() + size_of::<(Duration, u32)>() + 8)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([45, 1, 2, 3], port))
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn start(calls: &mut Calls<u8>, now: Duration, port: u16) -> Option<[u8; 4]> {
        let mut rng = ChaCha8Rng::seed_from_u64(calls.len() as u64);
        calls.start(now, at(port), None, 7, &mut rng).map(u32::to_be_bytes)
    }

    #[test]
    fn only_asked_address_answers() {
        let mut calls = Calls::new();
        let transaction = start(&mut calls, ms(0), 1).unwrap();
        assert!(calls.take(&transaction, at(2)).is_none());
        assert!(calls.take(&transaction[1..], at(1)).is_none());
        assert!(calls.take(b"xxxx", at(1)).is_none());
        assert_eq!(calls.take(&transaction, at(1)).unwrap().purpose, 7);
        assert!(calls.take(&transaction, at(1)).is_none(), "a duplicate");
        assert_eq!(calls.next_timeout(), None);
    }

    #[test]
    fn stages_of_silence() {
        let mut calls = Calls::new();
        start(&mut calls, ms(0), 1);
        let mut seen = Vec::new();
        while let Some(next) = calls.next_timeout() {
            assert!(calls.poll_stage(next - ms(1)).is_none());
            let (stage, _) = calls.poll_stage(next).unwrap();
            seen.push((stage, next));
        }
        let expected = [
            (Stage::Stalled, FIRST_SHORT_TIMEOUT),
            (Stage::Overdue, ANNOUNCE_WAIT),
            (Stage::Failed, CALL_TIMEOUT),
        ];
        assert_eq!(seen, expected);
        assert_eq!(calls.len(), 0);
    }

    #[test]
    fn short_timeout_adapts_within_bounds() {
        for (rtt, expected) in [(1, 150), (200, 260), (5000, 1000)] {
            let mut calls = Calls::<u8>::new();
            (1..MIN_RTTS).for_each(|_| calls.record_answer(ms(rtt)));
            assert_eq!(calls.short_timeout(), FIRST_SHORT_TIMEOUT);
            (0..2 * RTTS).for_each(|_| calls.record_answer(ms(rtt)));
            assert_eq!(calls.short_timeout(), ms(expected));
            assert_eq!(calls.rtts.len(), RTTS);
        }
    }

    #[test]
    fn calls_are_limited() {
        let mut calls = Calls::new();
        for _ in 0..MAX_CALLS {
            assert!(start(&mut calls, ms(0), 1).is_some());
        }
        assert!(start(&mut calls, ms(0), 1).is_none());
        calls.fail(ms(5), at(1));
        let failed = std::iter::from_fn(|| calls.poll_stage(ms(5)));
        assert!(failed.take(MAX_CALLS).all(|(stage, _)| stage == Stage::Failed));
        assert_eq!((calls.len(), calls.next_timeout()), (0, None));
    }

    #[test]
    fn cancelled_calls_are_forgotten() {
        let mut calls = Calls::new();
        let transaction = start(&mut calls, ms(0), 1).unwrap();
        calls.cancel(|purpose| *purpose != 7);
        assert_eq!(calls.len(), 1);
        calls.cancel(|purpose| *purpose == 7);
        assert!(calls.take(&transaction, at(1)).is_none());
        assert_eq!(calls.next_timeout(), None);
    }
}

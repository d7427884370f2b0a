//! Limits on messages that are legal but useless.

use std::time::Duration;

/// How many bytes of repeated bitfields a peer may send at once.
pub const BITFIELD_BURST: u64 = 256 * 1024;
/// How many bytes of repeated bitfields a peer may send per second beyond the burst.
pub const BITFIELD_RATE: u64 = 64 * 1024;
/// The minimum cost of a repeated bitfield, have-all or have-none, in bytes.
pub(super) const MIN_BITFIELD_COST: u64 = 64;
/// How many bytes of useless messages a peer may send at once. A message is useless if it is
/// neither data nor a request that we serve, with these exceptions:
///
/// - haves, as many as there are pieces;
/// - changes of interest, twice as many as there are pieces;
/// - bitfields, have-all and have-none, which have a budget of their own ([`BITFIELD_BURST`]);
/// - requests for metadata, which count although we may serve them.
///
/// Metadata that we requested is data, and its reject an answer.
pub const MESSAGE_BURST: u64 = 2 * 1024 * 1024;
/// How many bytes of useless messages a peer may send per second beyond the burst.
pub const MESSAGE_RATE: u64 = 64 * 1024;
/// The minimum cost of a useless message, in bytes. Even a short one takes time.
pub const MIN_MESSAGE_COST: u64 = 64;

/// A token bucket. It is full at first; a rate refills it, up to the burst.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// What is missing from a full bucket, as of `at`.
    spent: u64,
    at: Duration,
}

impl Budget {
    /// Refills the bucket at `rate` per second up to `burst`, then spends `cost`. Returns whether
    /// the bucket held that much.
    pub(super) fn spend(&mut self, now: Duration, cost: u64, burst: u64, rate: u64) -> bool {
        let passed = now.saturating_sub(self.at).as_millis() as u64;
        self.at += Duration::from_millis(passed);
        self.spent = self.spent.saturating_sub(rate.saturating_mul(passed) / 1000);
        self.spent += cost;
        self.spent <= burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn budget_refills_up_to_burst() {
        let mut budget = Budget::default();
        assert!(budget.spend(SECOND * 1000, 100, 100, 10));
        assert!(budget.spend(SECOND * 1001, 10, 100, 10));
        assert!(!budget.spend(SECOND * 1001, 1, 100, 10));
        assert!(budget.spend(SECOND * 9000, 100, 100, 10));
        assert!(!budget.spend(SECOND * 9000, 1, 100, 10));
    }

    #[test]
    fn fractions_of_a_second_add_up() {
        let mut budget = Budget::default();
        let tenth = Duration::from_micros(100_300);
        assert!((0..100).all(|n| budget.spend(tenth * n, 1, 1, 10)));
    }
}

//! What a peer may send of what is allowed, but costs more than it brings.

use std::time::Duration;

/// How many bytes of bitfields a peer may send at once to tell again what it has.
pub const RETELLING_BURST: u64 = 256 * 1024;
/// How many bytes of bitfields a second it may send besides for that.
pub const RETELLING_RATE: u64 = 64 * 1024;
/// What telling everything again counts for at least, in bytes.
pub(super) const LEAST_RETELLING: u64 = 64;
/// How many bytes of messages that bring neither data nor a request that we serve a peer may send
/// at once.
///
/// What tells that a piece is there is no such message as long as no more come than there are
/// pieces, nor is a change of interest up to twice a piece, nor what tells of all pieces, which has a
/// budget of its own ([`RETELLING_BURST`]).
pub const TALK_BURST: u64 = 2 * 1024 * 1024;
/// How many bytes of them a second it may send besides.
pub const TALK_RATE: u64 = 64 * 1024;
/// What such a message counts for at least, in bytes: it takes time, however short it is.
pub const LEAST_TALK: u64 = 64;

/// So much at once, and so much a second besides. A quiet time saves up no more than what may be
/// sent at once.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// What was spent and has not been given back since.
    spent: u64,
    /// Until when it was given back.
    at: Duration,
}

impl Budget {
    /// Spends `cost` of `burst`, of which `rate` comes back each second; says whether there was that
    /// much.
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
    fn it_is_given_back_and_not_saved_up() {
        let mut budget = Budget::default();
        assert!(budget.spend(SECOND * 1000, 100, 100, 10));
        assert!(budget.spend(SECOND * 1001, 10, 100, 10));
        assert!(!budget.spend(SECOND * 1001, 1, 100, 10));
        assert!(budget.spend(SECOND * 9000, 100, 100, 10));
        assert!(!budget.spend(SECOND * 9000, 1, 100, 10));
    }

    #[test]
    fn parts_of_a_second_add_up() {
        let mut budget = Budget::default();
        let tenth = Duration::from_micros(100_300);
        assert!((0..100).all(|n| budget.spend(tenth * n, 1, 1, 10)));
    }
}

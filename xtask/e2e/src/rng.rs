//! The random number generator of the suites, which they can replay from a seed.

use std::time::{Duration, SystemTime};

/// A seeded random number generator.
#[derive(Debug)]
pub(crate) struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    /// Makes the generator of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// Returns a number less than `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.drawn += 1;
        let bytes = testkit::bytes(self.seed.wrapping_mul(1 << 20).wrapping_add(self.drawn), 8);
        let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        number % end.max(1)
    }

    /// Returns a time less than `end`, to the microsecond.
    pub(crate) fn time(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(end.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Returns a new seed, short enough to type.
pub(crate) fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as u64 % 1_000_000
}

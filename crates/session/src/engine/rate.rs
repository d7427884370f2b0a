//! A token bucket: at most `rate` bytes per second, in bursts of up to a quarter of a second.

use std::time::Duration;

use crate::limits::REFILL_INTERVAL;

/// How many bytes may pass now. Takes no memory without a limit.
#[derive(Debug, Clone)]
pub(crate) struct Bucket(Option<Box<Limited>>);

#[derive(Debug, Clone)]
struct Limited {
    /// Bytes per second.
    rate: u64,
    tokens: u64,
    filled_at: Duration,
}

/// Fewer bytes are not worth a system call: they are kept until there are more.
const LEAST: u64 = 4 * 1024;
/// Bursts: a quarter of a second's worth, and never less than one block.
const BURSTS_PER_SECOND: u64 = 4;
const LEAST_BURST: u64 = 16 * 1024;
/// How often throttled links are served.
const REFILLS_PER_SECOND: u64 = 1000 / REFILL_INTERVAL.as_millis() as u64;
const NANOS: u128 = 1_000_000_000;

impl Bucket {
    /// Returns a full bucket. `rate` is in bytes per second; `None` is no limit.
    pub(crate) fn new(now: Duration, rate: Option<u64>) -> Self {
        let full = |rate| Limited { rate, tokens: burst(rate), filled_at: now };
        Self(rate.map(full).map(Box::new))
    }

    pub(crate) fn set_rate(&mut self, now: Duration, rate: Option<u64>) {
        *self = Self::new(now, rate);
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// How many bytes may pass at `now`; `usize::MAX` without a limit. Never just a few, or
    /// throttled links would be read byte by byte.
    pub(crate) fn allowance(&mut self, now: Duration) -> usize {
        let Some(limited) = &mut self.0 else { return usize::MAX };
        limited.fill(now);
        let least = LEAST.min(limited.rate / REFILLS_PER_SECOND);
        if limited.tokens < least {
            0
        } else {
            usize::try_from(limited.tokens).unwrap_or(usize::MAX)
        }
    }

    /// Counts `bytes` that passed.
    pub(crate) fn take(&mut self, bytes: usize) {
        if let Some(limited) = &mut self.0 {
            limited.tokens = limited.tokens.saturating_sub(bytes as u64);
        }
    }
}

impl Limited {
    /// Adds the whole bytes that the time since the last fill allows. The rest of that time counts
    /// for the next fill.
    fn fill(&mut self, now: Duration) {
        let nanos = now.saturating_sub(self.filled_at).as_nanos();
        let fresh = u128::from(self.rate) * nanos / NANOS;
        let spent = (fresh * NANOS).checked_div(u128::from(self.rate)).unwrap_or(nanos);
        self.filled_at += Duration::from_nanos(u64::try_from(spent).unwrap_or(u64::MAX));
        let fresh = u64::try_from(fresh).unwrap_or(u64::MAX);
        self.tokens = self.tokens.saturating_add(fresh).min(burst(self.rate));
    }
}

fn burst(rate: u64) -> u64 {
    (rate / BURSTS_PER_SECOND).max(LEAST_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_rate_is_the_limit() {
        let mut bucket = Bucket::new(Duration::ZERO, Some(100_000));
        let mut passed = 0;
        for tick in 0..1000 {
            let now = Duration::from_millis(tick * 10);
            let bytes = bucket.allowance(now).min(30_000);
            bucket.take(bytes);
            passed += bytes;
        }
        assert!((990_000..=1_025_000).contains(&passed), "{passed} bytes in 10 s");
    }

    #[test]
    fn frequent_fills_lose_nothing() {
        let mut bucket = Bucket::new(Duration::ZERO, Some(100_000));
        bucket.take(1 << 20);
        let mut passed = 0;
        for tick in 0..100_000 {
            let bytes = bucket.allowance(Duration::from_micros(tick * 15));
            bucket.take(bytes);
            passed += bytes;
        }
        passed += bucket.0.map_or(0, |limited| limited.tokens as usize);
        assert!((149_990..=150_000).contains(&passed), "{passed} bytes in 1.5 s");
    }

    #[test]
    fn few_bytes_are_kept() {
        let mut bucket = Bucket::new(Duration::ZERO, Some(1_000_000));
        bucket.take(1 << 20);
        assert_eq!(bucket.allowance(Duration::from_millis(4)), 0);
        assert!(bucket.allowance(Duration::from_millis(5)) >= 4096);
        // A slow limit allows what one refill adds.
        let mut bucket = Bucket::new(Duration::ZERO, Some(10_000));
        bucket.take(1 << 20);
        assert_eq!(bucket.allowance(REFILL_INTERVAL), 500);
    }

    #[test]
    fn no_limit_passes_everything() {
        let mut bucket = Bucket::new(Duration::ZERO, None);
        bucket.take(1 << 40);
        assert_eq!(bucket.allowance(Duration::ZERO), usize::MAX);
    }
}

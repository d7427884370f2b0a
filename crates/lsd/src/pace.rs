//! How often something may happen.

use std::time::Duration;

/// Permits `burst` events at once, and one `every` that time.
#[derive(Debug)]
pub(crate) struct Pace {
    every: Duration,
    burst: u32,
    /// When every permit is back.
    full_at: Duration,
}

impl Pace {
    pub(crate) fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, full_at: Duration::ZERO }
    }

    /// Returns the time from which on an event is permitted.
    pub(crate) fn next(&self) -> Duration {
        self.full_at.saturating_sub(self.every * (self.burst - 1))
    }

    /// Takes a permit, if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let permitted = self.next() <= now;
        if permitted {
            self.full_at = self.full_at.max(now) + self.every;
        }
        permitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, 3);
        let start = second * 1000;
        assert_eq!([start; 4].map(|now| pace.take(now)), [true, true, true, false]);
        assert_eq!(pace.next(), start + second);
        assert!(!pace.take(start + second - Duration::from_nanos(1)));
        assert!(pace.take(start + second) && !pace.take(start + second));
        let late = start + second * 100;
        assert_eq!([late; 4].map(|now| pace.take(now)), [true, true, true, false]);
    }
}

//! A rate with a burst.

use std::time::Duration;

/// Something that may be spent at a rate, and saved up to a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Duration,
}

impl Rate {
    /// Returns a rate whose whole burst may be spent.
    pub(crate) fn new(now: Duration, per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, left: burst, at: now }
    }

    /// Spends `cost`, which may be more than is left: the next one waits for longer. Returns whether
    /// anything was left.
    pub(crate) fn spend(&mut self, now: Duration, cost: usize) -> bool {
        let has = self.has(now);
        if has {
            self.left -= cost as f64;
        }
        has
    }

    /// Gives back what was spent in vain.
    pub(crate) fn refund(&mut self, cost: usize) {
        self.left = (self.left + cost as f64).min(self.burst);
    }

    /// Returns whether at least 1 is left.
    pub(crate) fn has(&mut self, now: Duration) -> bool {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + gained).min(self.burst);
        self.at = now;
        // What rounding loses must not make a caller that waited wait again.
        self.left >= 1.0 - 1e-6
    }

    /// When at least 1 is left.
    pub(crate) fn next(&self) -> Duration {
        let missing = (1.0 - self.left).max(0.0);
        self.at + Duration::from_secs_f64(missing / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut rate = Rate::new(Duration::ZERO, 10, 3);
        assert_eq!((0..9).filter(|_| rate.spend(Duration::ZERO, 1)).count(), 3);
        let next = rate.next();
        assert_eq!(next, Duration::from_millis(100));
        assert!(!rate.has(next - Duration::from_millis(1)));
        assert!(rate.spend(next, 1) && !rate.spend(next, 1));
        let later = Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| rate.spend(later, 1)).count(), 3);
    }

    #[test]
    fn debt_is_paid_first() {
        let mut rate = Rate::new(Duration::ZERO, 100, 10);
        assert!(rate.spend(Duration::ZERO, 110));
        assert!(!rate.has(Duration::from_millis(1000)));
        assert!(rate.has(Duration::from_millis(1010)));
    }
}

//! How fast payload flows: a moving average over the last ten seconds.

use std::time::Duration;

/// How many seconds the average covers, one slot each.
const SLOTS: usize = 10;

/// Bytes counted by the second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rate {
    /// `None` until something flows. Most torrents are idle.
    recent: Option<Box<Recent>>,
    total: u64,
}

/// The bytes that the average covers.
#[derive(Debug, Clone, Default)]
struct Recent {
    slots: [u64; SLOTS],
    /// The second that the newest slot counts, since the launch.
    second: u64,
    /// When counting started after nothing flowed for as long as the average covers.
    since: Option<Duration>,
}

impl Rate {
    /// Counts `bytes` that flowed at `now`.
    pub(crate) fn add(&mut self, now: Duration, bytes: u64) {
        let recent = self.recent.get_or_insert_default();
        recent.advance(now);
        recent.since.get_or_insert(now);
        recent.slots[recent.second as usize % SLOTS] += bytes;
        self.total += bytes;
    }

    /// Returns all bytes counted so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Returns the average at `now`, in bytes per second.
    pub(crate) fn per_second(&self, now: Duration) -> u64 {
        self.recent.as_ref().map_or(0, |recent| recent.per_second(now))
    }
}

impl Recent {
    fn per_second(&self, now: Duration) -> u64 {
        let Some(since) = self.since else { return 0 };
        let oldest = now.as_secs().saturating_sub(SLOTS as u64 - 1);
        let from = self.second.saturating_sub(SLOTS as u64 - 1).max(oldest);
        let sum: u64 = (from..=self.second).map(|second| self.slots[second as usize % SLOTS]).sum();
        let start = since.max(Duration::from_secs(oldest));
        let millis = now.saturating_sub(start).as_millis().max(1000) as u64;
        sum.saturating_mul(1000) / millis
    }

    /// Clears the slots of the seconds that passed since the newest one.
    fn advance(&mut self, now: Duration) {
        let second = now.as_secs();
        let passed = second.saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        for cleared in 0..passed.min(SLOTS as u64) {
            self.slots[(second - cleared) as usize % SLOTS] = 0;
        }
        self.second = second;
        if passed >= SLOTS as u64 {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[(u64, u64)], now: u64, expected: u64) {
        let mut rate = Rate::default();
        for (millis, bytes) in bytes {
            rate.add(Duration::from_millis(*millis), *bytes);
        }
        assert_eq!(rate.per_second(Duration::from_millis(now)), expected);
    }

    #[test]
    fn averages() {
        check(&[], 5000, 0);
        check(&[(0, 1000)], 0, 1000);
        check(&[(0, 1000)], 500, 1000);
        check(&[(0, 1000), (1000, 1000)], 2000, 1000);
        check(&[(0, 1000), (1000, 3000)], 4000, 1000);
    }

    #[test]
    fn bytes_older_than_window_are_ignored() {
        check(&[(0, 1_000_000), (10_500, 9000)], 10_500, 9000);
        check(&[(0, 1000)], 60_000, 0);
        check(&[(500, 90_000), (9500, 9500)], 9500, 11_055);
    }
}

//! Rates that a node must keep to.

use std::time::Duration;

/// What may be spent at a rate and saved up to a burst, in whole units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Duration,
}

impl Allowance {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, left: burst, at: Duration::ZERO }
    }

    /// Spends `cost`. Returns whether that much was left.
    pub(super) fn spend(&mut self, now: Duration, cost: usize) -> bool {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + gained).min(self.burst) - cost as f64;
        self.at = now;
        self.left >= -1e-3
    }
}

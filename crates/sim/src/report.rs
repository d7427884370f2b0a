//! The result of a simulation.

use std::fmt;
use std::time::Duration;

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The seed of the scenario.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub broken: Option<String>,
    /// A digest of every event: the same for the same seed, in any process.
    pub digest: u64,
    /// How many events there were.
    pub events: u64,
    /// How long it took on the virtual clock.
    pub time: Duration,
    /// What may fail now and then, but not often.
    pub shares: Vec<Share>,
}

/// How often something succeeded that may fail now and then.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// What it is.
    pub what: &'static str,
    /// How often it succeeded.
    pub found: u32,
    /// How often it was tried.
    pub tried: u32,
    /// In how many percent it must succeed, over many seeds.
    pub least: f64,
    /// The same for each seed.
    pub each: f64,
}

impl Share {
    /// The fewest tries that a share is computed of.
    const ENOUGH: u32 = 8;

    /// Returns the share in percent.
    pub fn percent(&self) -> f64 {
        100.0 * f64::from(self.found) / f64::from(self.tried.max(1))
    }

    /// Whether it succeeded too seldom for one seed.
    pub(crate) fn is_too_few(&self) -> bool {
        self.tried >= Self::ENOUGH && self.percent() < self.each
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {}", self.what, self.found, self.tried)
    }
}

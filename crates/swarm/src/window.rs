//! How many requests one peer may have outstanding.
//!
//! It grows with the peer's rate. In slow start each block makes room for one more, so that the
//! window doubles every round trip. Once a second brings no more than the one before, the window
//! follows the measured rate: what the peer sends in [`TARGET`], and [`FLOOR`] more, so that it can
//! show whether it could be faster.

use std::time::Duration;

use bt_types::BLOCK_LENGTH;

/// Requests outstanding at a peer whose rate is not known yet, and beyond its rate afterwards.
const FLOOR: u32 = 4;
/// The most requests outstanding at one peer.
pub(crate) const MAX_WINDOW: u32 = 500;
/// The most requests outstanding at a peer that did not say how many it keeps.
const UNKNOWN_LIMIT: u32 = 250;
/// For how long the requests outstanding should last at the measured rate.
const TARGET: Duration = Duration::from_secs(1);

/// The number of requests one peer may have outstanding.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    depth: u32,
    limit: u32,
    slow_start: bool,
    /// Bytes since the last tick.
    bytes: u64,
    /// Bytes per second between the last two ticks.
    rate: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { depth: FLOOR, limit: UNKNOWN_LIMIT, slow_start: true, bytes: 0, rate: 0 }
    }
}

impl Window {
    /// How many requests may be outstanding now.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.min(self.limit)
    }

    /// The peer keeps `limit` requests at most.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit.clamp(1, MAX_WINDOW);
    }

    /// A block of `bytes` arrived.
    pub(crate) fn on_block(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
        if self.slow_start {
            self.depth = (self.depth + 1).min(self.limit);
        }
    }

    /// The peer does not answer what it was asked: half as many requests, and no more doubling.
    pub(crate) fn on_reject(&mut self) {
        self.slow_start = false;
        self.depth = (self.depth / 2).max(1);
    }

    /// The peer answers requests again: its rate is to be found anew.
    pub(crate) fn restart(&mut self) {
        *self = Self { limit: self.limit, ..Self::default() };
    }

    /// About a second passed since the last tick.
    pub(crate) fn on_tick(&mut self, passed: Duration) {
        let millis = passed.as_millis().max(1) as u64;
        let rate = self.bytes.saturating_mul(1000) / millis;
        self.bytes = 0;
        if rate > 0 && rate < self.rate + self.rate / 10 {
            self.slow_start = false;
        }
        let rate = std::mem::replace(&mut self.rate, rate).max(rate);
        if !self.slow_start {
            let blocks = rate.saturating_mul(TARGET.as_secs()) / u64::from(BLOCK_LENGTH);
            self.depth = FLOOR + blocks.min(u64::from(MAX_WINDOW)) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(window: &mut Window, blocks: u32) {
        (0..blocks).for_each(|_| window.on_block(BLOCK_LENGTH));
        window.on_tick(Duration::from_secs(1));
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let mut window = Window::default();
        for expected in [4, 8, 16, 32, 64, 128, 250, 250] {
            assert_eq!(window.depth(), expected);
            (0..expected).for_each(|_| window.on_block(BLOCK_LENGTH));
        }
    }

    #[test]
    fn a_peer_that_keeps_more_gets_more() {
        let mut window = Window::default();
        window.set_limit(u32::MAX);
        (0..1000).for_each(|_| window.on_block(BLOCK_LENGTH));
        assert_eq!(window.depth(), MAX_WINDOW);
        window.set_limit(7);
        assert_eq!(window.depth(), 7);
        window.set_limit(0);
        assert_eq!(window.depth(), 1);
    }

    #[test]
    fn after_slow_start_the_window_follows_the_rate() {
        let mut window = Window::default();
        second(&mut window, 100);
        second(&mut window, 100);
        assert_eq!(window.depth(), 104);
        second(&mut window, 20);
        second(&mut window, 20);
        assert_eq!(window.depth(), 24);
        second(&mut window, 0);
        second(&mut window, 0);
        assert_eq!(window.depth(), FLOOR);
    }
}

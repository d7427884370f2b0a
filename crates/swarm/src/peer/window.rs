//! How many requests one peer may have outstanding.
//!
//! In slow start each block makes room for one more, so that the window doubles every round trip.
//! Slow start ends when answers come late ([`SLACK`]), or when a second brings no more than the one
//! before. From then on the window follows the measured rate: it holds what the peer sends in the
//! time that the swarm's memory permits, and [`FLOOR`] more.

use std::time::Duration;

use bt_types::BLOCK_LENGTH;

/// Requests outstanding at a peer whose rate is not known yet.
const INITIAL: u32 = 4;
/// Requests outstanding at a peer beyond what its rate needs, so that a slow one is never idle.
const FLOOR: u32 = 2;
/// The most requests outstanding at one peer.
pub(crate) const MAX_WINDOW: u32 = 500;
/// The most requests outstanding at a peer that did not say how many it keeps.
const UNKNOWN_LIMIT: u32 = 250;
/// For how long the requests outstanding last at the measured rate, where memory is plentiful.
const TARGET: Duration = Duration::from_secs(1);
/// For how long a request waits at the peer, besides the latency: enough that the peer never waits
/// for us.
pub(crate) const SLACK: Duration = Duration::from_millis(100);
/// The longest time for which requests are outstanding, however distant the peer.
const LONGEST: Duration = Duration::from_secs(3);
/// The latency is the shortest of the last one to two periods, so that it follows a path that
/// becomes longer.
const LATENCY_PERIOD: Duration = Duration::from_secs(30);
/// A rate is measured over at least this time.
const MEASURED: Duration = Duration::from_millis(900);

/// The number of requests one peer may have outstanding.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pace: Pace,
    limit: u32,
    latency: Latency,
    /// Since when `bytes` are counted.
    since: Duration,
    bytes: u64,
    /// Bytes per second in the last measurement.
    rate: u64,
}

/// The shortest time from a request to its answer, of this period and the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Latency {
    since: Duration,
    recent: Option<Duration>,
    before: Option<Duration>,
}

impl Latency {
    fn note(&mut self, now: Duration, after: Duration) {
        if now.saturating_sub(self.since) >= LATENCY_PERIOD {
            *self = Self { since: now, recent: None, before: self.recent };
        }
        self.recent = Some(self.recent.map_or(after, |least| least.min(after)));
    }

    fn shortest(&self) -> Duration {
        [self.recent, self.before].into_iter().flatten().min().unwrap_or_default()
    }
}

/// What the window depends on.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// This many requests, one more with each block.
    SlowStart(u32),
    /// Bytes per second.
    Rate(u64),
}

impl Default for Window {
    fn default() -> Self {
        Self {
            pace: Pace::SlowStart(INITIAL),
            limit: UNKNOWN_LIMIT,
            latency: Latency::default(),
            since: Duration::ZERO,
            bytes: 0,
            rate: 0,
        }
    }
}

impl Window {
    /// Returns how many requests may be outstanding now, where memory permits what the peer sends
    /// in `time`.
    pub(crate) fn depth(&self, time: Duration) -> u32 {
        let depth = match self.pace {
            Pace::SlowStart(depth) => depth,
            Pace::Rate(rate) => {
                let least = (self.latency() + SLACK).min(LONGEST);
                let millis = time.min(TARGET).max(least).as_millis() as u64;
                let blocks = rate.saturating_mul(millis) / 1000 / u64::from(BLOCK_LENGTH);
                FLOOR + blocks.min(u64::from(MAX_WINDOW)) as u32
            }
        };
        depth.min(self.limit)
    }

    /// Returns the shortest recent time from a request to its answer; zero before the first.
    pub(crate) fn latency(&self) -> Duration {
        self.latency.shortest()
    }

    /// The peer keeps `limit` requests at most.
    pub(crate) fn set_limit(&mut self, limit: u32) {
        self.limit = limit.clamp(1, MAX_WINDOW);
    }

    /// A block of `bytes` arrived; `after` is the time since it was requested, if it was.
    pub(crate) fn on_block(&mut self, now: Duration, bytes: u32, after: Option<Duration>) {
        self.bytes += u64::from(bytes);
        let Some(after) = after else { return };
        self.latency.note(now, after);
        let latency = self.latency();
        let Pace::SlowStart(depth) = &mut self.pace else { return };
        *depth = (*depth + 1).min(self.limit);
        if after > 2 * latency + SLACK {
            // The requests that were outstanding have been answered in that time.
            let bytes = u64::from(*depth) * u64::from(BLOCK_LENGTH);
            self.rate = bytes * 1000 / (after.as_millis() as u64).max(1);
            self.pace = Pace::Rate(self.rate);
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// Halves the window of a peer that rejected a request, and ends slow start.
    pub(crate) fn on_reject(&mut self) {
        self.pace = match self.pace {
            Pace::SlowStart(depth) => Pace::Rate(u64::from(depth / 2) * u64::from(BLOCK_LENGTH)),
            Pace::Rate(rate) => Pace::Rate(rate / 2),
        };
    }

    /// Forgets the rate of a peer that answers requests again. It is measured again.
    pub(crate) fn restart(&mut self, now: Duration) {
        *self = Self { limit: self.limit, since: now, ..Self::default() };
    }

    /// Measures the rate, about once per second.
    pub(crate) fn on_tick(&mut self, now: Duration) {
        let time = now.saturating_sub(self.since);
        if time < MEASURED {
            return;
        }
        let rate = self.bytes.saturating_mul(1000) / (time.as_millis() as u64).max(1);
        let before = std::mem::replace(&mut self.rate, rate);
        (self.since, self.bytes) = (now, 0);
        let grows = rate == 0 || rate >= before + before / 10;
        if grows && matches!(self.pace, Pace::SlowStart(_)) {
            return;
        }
        self.pace = Pace::Rate(before.max(rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Each of `blocks` takes `after`; then a second is over.
    fn second(window: &mut Window, now: &mut Duration, blocks: u32, after: Duration) {
        *now += SECOND;
        (0..blocks).for_each(|_| window.on_block(*now, BLOCK_LENGTH, Some(after)));
        window.on_tick(*now);
    }

    fn answer(window: &mut Window, after: Duration) {
        window.on_block(SECOND, BLOCK_LENGTH, Some(after));
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let mut window = Window::default();
        for expected in [4, 8, 16, 32, 64, 128, 250, 250] {
            assert_eq!(window.depth(TARGET), expected);
            (0..expected).for_each(|_| answer(&mut window, Duration::from_millis(80)));
        }
    }

    #[test]
    fn late_answers_end_slow_start() {
        let mut window = Window::default();
        (0..28).for_each(|_| answer(&mut window, Duration::from_millis(80)));
        assert_eq!(window.depth(TARGET), 32);
        answer(&mut window, Duration::from_millis(261));
        // 33 blocks in 261 ms are 126 in the target time.
        assert_eq!(window.depth(TARGET), FLOOR + 126);
    }

    #[test]
    fn peer_limit_bounds_the_window() {
        let mut window = Window::default();
        window.set_limit(u32::MAX);
        (0..1000).for_each(|_| answer(&mut window, Duration::ZERO));
        assert_eq!(window.depth(TARGET), MAX_WINDOW);
        window.set_limit(7);
        assert_eq!(window.depth(TARGET), 7);
        window.set_limit(0);
        assert_eq!(window.depth(TARGET), 1);
    }

    #[test]
    fn window_follows_the_rate() {
        let (mut window, mut now) = (Window::default(), Duration::ZERO);
        second(&mut window, &mut now, 100, Duration::from_millis(1));
        for (blocks, expected) in [(100, 100), (20, 100), (20, 20), (0, 20), (0, 0)] {
            second(&mut window, &mut now, blocks, Duration::from_millis(1));
            assert_eq!(window.depth(TARGET), FLOOR + expected, "{blocks} blocks");
        }
    }

    #[test]
    fn scarce_memory_shortens_window_to_latency() {
        let (mut window, mut now) = (Window::default(), Duration::ZERO);
        (0..3).for_each(|_| second(&mut window, &mut now, 100, Duration::from_millis(200)));
        assert_eq!(window.depth(Duration::MAX), FLOOR + 100);
        assert_eq!(window.depth(Duration::from_millis(400)), FLOOR + 40);
        assert_eq!(window.depth(Duration::ZERO), FLOOR + 30);
    }

    #[test]
    fn distant_peer_has_a_longer_window() {
        let (mut window, mut now) = (Window::default(), Duration::ZERO);
        window.set_limit(MAX_WINDOW);
        (0..3).for_each(|_| second(&mut window, &mut now, 100, Duration::from_millis(1900)));
        assert_eq!(window.depth(Duration::ZERO), FLOOR + 200);
        // Up to a limit.
        (0..70).for_each(|_| second(&mut window, &mut now, 100, Duration::from_secs(9)));
        assert_eq!(window.depth(Duration::ZERO), FLOOR + 300);
    }

    #[test]
    fn latency_follows_a_longer_path() {
        let (mut window, mut now) = (Window::default(), Duration::ZERO);
        (0..3).for_each(|_| second(&mut window, &mut now, 100, Duration::from_millis(100)));
        (0..61).for_each(|_| second(&mut window, &mut now, 100, Duration::from_millis(400)));
        assert_eq!(window.depth(Duration::ZERO), FLOOR + 50);
    }

    #[test]
    fn rejects_halve_the_window() {
        let (mut window, mut now) = (Window::default(), Duration::ZERO);
        (0..3).for_each(|_| second(&mut window, &mut now, 100, Duration::ZERO));
        window.on_reject();
        assert_eq!(window.depth(TARGET), FLOOR + 50);
    }
}

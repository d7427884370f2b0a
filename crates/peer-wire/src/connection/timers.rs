//! The three timers of a connection.

use std::time::Duration;

/// How long the peer may take for its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may be silent.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// How long we are silent at most. BEP 3 says two minutes, after which some clients disconnect us.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// The deadline that passed. The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Expired {
    /// Occurs when the handshakes were not exchanged within [`HANDSHAKE_TIMEOUT`].
    #[error("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Handshake,
    /// Occurs when nothing came for [`IDLE_TIMEOUT`].
    #[error("nothing received for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Ends a connection without a handshake.
    Handshake,
    /// Ends a connection with a silent peer.
    Idle,
    /// Sends a keep-alive.
    KeepAlive,
}

const TIMERS: [Timer; 3] = [Timer::Handshake, Timer::Idle, Timer::KeepAlive];

/// The deadlines, and the latest known time.
///
/// Sending is reported without a time, so it counts as of the latest known time. A keep-alive may
/// be early, but never late.
#[derive(Debug)]
pub(super) struct Timers {
    deadlines: [Option<Duration>; TIMERS.len()],
    clock: Duration,
}

impl Timers {
    /// Starts the timer of the handshake.
    pub(super) fn new(now: Duration) -> Self {
        let mut timers = Self { deadlines: [None; TIMERS.len()], clock: now };
        timers.set(Timer::Handshake, HANDSHAKE_TIMEOUT);
        timers
    }

    /// Returns the latest known time.
    pub(super) fn clock(&self) -> Duration {
        self.clock
    }

    /// Starts the timers of an open connection.
    pub(super) fn opened(&mut self) {
        self.deadlines = [None; TIMERS.len()];
        self.set(Timer::Idle, IDLE_TIMEOUT);
        self.set(Timer::KeepAlive, KEEP_ALIVE_INTERVAL);
    }

    /// Records the time, and whether the peer sent any bytes.
    pub(super) fn received(&mut self, now: Duration, any_bytes: bool) {
        self.clock = now;
        if any_bytes {
            self.restart(Timer::Idle, IDLE_TIMEOUT);
        }
    }

    /// Records that we sent bytes.
    pub(super) fn sent(&mut self) {
        self.restart(Timer::KeepAlive, KEEP_ALIVE_INTERVAL);
    }

    /// Stops all timers.
    pub(super) fn stop(&mut self) {
        self.deadlines = [None; TIMERS.len()];
    }

    /// Returns the next deadline.
    pub(super) fn next(&self) -> Option<Duration> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Returns a timer whose deadline has passed by `now`. Those that end the connection come
    /// first.
    pub(super) fn expired(&mut self, now: Duration) -> Option<Timer> {
        self.clock = now;
        TIMERS
            .into_iter()
            .find(|timer| self.deadlines[*timer as usize].is_some_and(|deadline| deadline <= now))
    }

    fn set(&mut self, timer: Timer, after: Duration) {
        self.deadlines[timer as usize] = Some(self.clock.saturating_add(after));
    }

    /// Restarts `timer` if it is active.
    fn restart(&mut self, timer: Timer, after: Duration) {
        if self.deadlines[timer as usize].is_some() {
            self.set(timer, after);
        }
    }
}

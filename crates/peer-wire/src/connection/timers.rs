//! The three clocks of a connection.

use std::time::Duration;

/// How long a peer may take for its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may be silent.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// How long we are silent at most. BEP 3 says two minutes, after which some clients disconnect.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Which time is over. The connection is closed.
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
    /// When to give up waiting for the handshake.
    Handshake,
    /// When to give up a silent peer.
    Idle,
    /// When to break our own silence.
    KeepAlive,
}

const TIMERS: [Timer; 3] = [Timer::Handshake, Timer::Idle, Timer::KeepAlive];

/// The deadlines, and the latest time we were told.
///
/// Sending is reported without a time, so it counts as of the latest one known: a keep-alive may
/// come early, never late.
#[derive(Debug)]
pub(super) struct Timers {
    deadlines: [Option<Duration>; TIMERS.len()],
    clock: Duration,
}

impl Timers {
    /// The handshake's time begins now.
    pub(super) fn new(now: Duration) -> Self {
        let mut timers = Self { deadlines: [None; TIMERS.len()], clock: now };
        timers.set(Timer::Handshake, HANDSHAKE_TIMEOUT);
        timers
    }

    /// The time that was told last.
    pub(super) fn clock(&self) -> Duration {
        self.clock
    }

    /// The handshakes were exchanged.
    pub(super) fn opened(&mut self) {
        self.deadlines = [None; TIMERS.len()];
        self.set(Timer::Idle, IDLE_TIMEOUT);
        self.set(Timer::KeepAlive, KEEP_ALIVE_INTERVAL);
    }

    /// It is `now`, and the peer said something or not.
    pub(super) fn heard(&mut self, now: Duration, something: bool) {
        self.clock = now;
        if something {
            self.restart(Timer::Idle, IDLE_TIMEOUT);
        }
    }

    /// We said something.
    pub(super) fn said(&mut self) {
        self.restart(Timer::KeepAlive, KEEP_ALIVE_INTERVAL);
    }

    /// The connection is closed.
    pub(super) fn stop(&mut self) {
        self.deadlines = [None; TIMERS.len()];
    }

    /// When the next time is over.
    pub(super) fn next(&self) -> Option<Duration> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// A time that is over by `now`; the ends of a connection come before a keep-alive.
    pub(super) fn expired(&mut self, now: Duration) -> Option<Timer> {
        self.clock = now;
        TIMERS
            .into_iter()
            .find(|timer| self.deadlines[*timer as usize].is_some_and(|deadline| deadline <= now))
    }

    fn set(&mut self, timer: Timer, after: Duration) {
        self.deadlines[timer as usize] = Some(self.clock.saturating_add(after));
    }

    /// Sets `timer` anew if it runs.
    fn restart(&mut self, timer: Timer, after: Duration) {
        if self.deadlines[timer as usize].is_some() {
            self.set(timer, after);
        }
    }
}

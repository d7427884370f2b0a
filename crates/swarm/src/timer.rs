//! The swarm's own timers. Those of trackers and addresses are kept where they belong.

use std::time::Duration;

use bt_types::Blank;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// When to measure rates, resize windows and look for snubbed peers.
    Tick,
    /// When to decide whom to unchoke.
    Choke,
}

impl Timer {
    const ALL: [Self; 2] = [Self::Tick, Self::Choke];
}

/// When each timer is due.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers([Option<Duration>; Timer::ALL.len()]);

impl Blank for Timers {
    const BLANK: &'static Self = &Self([None; Timer::ALL.len()]);
}

impl Timers {
    /// Sets `timer` to `at`.
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets `timer` to `at` unless it is set.
    pub(crate) fn set_once(&mut self, timer: Timer, at: Duration) {
        self.0[timer as usize].get_or_insert(at);
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.iter().flatten().min().copied()
    }

    /// Clears and returns a timer that is due.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<Timer> {
        let due = |timer: &Timer| self.0[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.0[timer as usize] = None;
        Some(timer)
    }
}

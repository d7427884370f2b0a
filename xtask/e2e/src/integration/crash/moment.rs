//! When a process is killed.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::integration::scene::LIMIT;
use tasks::process::{Launch, wait_until_every};

/// How exactly a moment is met.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// This long after its launch.
    At(Duration),
    /// This long after the seeders have sent this many pieces or blocks.
    Sent(u64, Duration),
}

impl Moment {
    /// Kills a process at its moment; returns false if it ended before. `has_sent` says whether the
    /// seeders have sent so many.
    pub(super) fn kill(self, launch: &mut Launch, has_sent: impl Fn(u64) -> bool) -> Result<bool> {
        let wait = match self {
            Self::At(wait) => wait,
            Self::Sent(count, wait) => {
                wait_until_every(CHECK_INTERVAL, LIMIT, || launch.has_ended() || has_sent(count));
                wait
            }
        };
        wait_until_every(CHECK_INTERVAL, wait, || launch.has_ended());
        launch.signal(Signal::KILL)?;
        let status = launch.wait(LIMIT)?;
        let killed = status.code().is_none();
        ensure!(killed || status.success(), "it failed\n{}", launch.output_tail());
        Ok(killed)
    }
}

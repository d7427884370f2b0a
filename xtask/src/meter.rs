//! What a process has cost so far, as the kernel tells it in /proc.
//!
//! `wait4` would say it at the end, but has no safe wrapper, and `getrusage` knows the largest of
//! all children only. So a child that has ended is left unreaped until its `stat` was read, which
//! counts all its threads and the children it waited for; and the high-water mark of its memory,
//! which the kernel keeps, is read while it lives. What is lost: the peak of the last
//! [`MEMORY_LOOK`], and less than 20 ms of CPU time, for the kernel counts in hundredths.

use std::fs;
use std::time::{Duration, Instant};

use crate::process::{Running, peak_of};

/// How often the memory of a running process is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(20);

/// CPU time and memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The most memory that was resident, in bytes.
    pub peak: u64,
}

/// Follows one process.
#[derive(Debug)]
pub struct Meter {
    process: u32,
    before: Duration,
    peak: u64,
    looked: Instant,
}

impl Meter {
    /// Counts from now on.
    pub fn start(running: &Running) -> Self {
        let process = running.id();
        Self { process, before: cpu_of(process), peak: peak_of(process), looked: Instant::now() }
    }

    /// Looks at the memory, if it is time; to be called often.
    pub fn look(&mut self) {
        if self.looked.elapsed() >= MEMORY_LOOK {
            self.peak = self.peak.max(peak_of(self.process));
            self.looked = Instant::now();
        }
    }

    /// What it has cost since the start. The process lives, or is not waited for yet.
    pub fn cost(&mut self) -> Cost {
        self.peak = self.peak.max(peak_of(self.process));
        Cost { cpu: cpu_of(self.process).saturating_sub(self.before), peak: self.peak }
    }
}

/// User and system time, its own and that of children it waited for.
fn cpu_of(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may contain anything; the times are fields 14 to 17 of all.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(4);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

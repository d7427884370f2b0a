//! What a process has cost so far, from /proc.
//!
//! `wait4` would report it at the end, but has no safe wrapper, and `getrusage` reports only the
//! largest of all children. So we read `stat` of a child that has ended before we reap it: it
//! counts all its threads and the children that it waited for. The kernel keeps the peak of its
//! memory only while it lives, so we sample that. This misses the peak of the last
//! [`SAMPLE_INTERVAL`], and less than 20 ms of CPU time, which the kernel counts in hundredths of a
//! second.

use std::fs;
use std::time::{Duration, Instant};

use crate::process::{Launch, peak_of};

/// How often the memory of a running process is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// CPU time and memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The part of it that the kernel used.
    pub system: Duration,
    /// The most memory that was resident, in bytes.
    pub peak: u64,
}

/// Measures one process.
#[derive(Debug)]
pub struct Meter {
    process: u32,
    /// Its user and system time at the start.
    before: [Duration; 2],
    peak: u64,
    sampled: Instant,
}

impl Meter {
    /// Starts to measure.
    pub fn start(launch: &Launch) -> Self {
        let process = launch.id();
        Self { process, before: cpu_of(process), peak: peak_of(process), sampled: Instant::now() }
    }

    /// Samples the memory if it is time. To be called often.
    pub fn sample(&mut self) {
        if self.sampled.elapsed() >= SAMPLE_INTERVAL {
            self.peak = self.peak.max(peak_of(self.process));
            self.sampled = Instant::now();
        }
    }

    /// Returns the cost since the start. The process must not have been reaped.
    pub fn cost(&mut self) -> Cost {
        self.peak = self.peak.max(peak_of(self.process));
        let [user, system] = cpu_of(self.process);
        let system = system.saturating_sub(self.before[1]);
        let cpu = user.saturating_sub(self.before[0]) + system;
        Cost { cpu, system, peak: self.peak }
    }
}

/// Returns the user and system time of a process and of the children that it waited for.
fn cpu_of(process: u32) -> [Duration; 2] {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may contain anything; the times are fields 14 to 17.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = ticks.filter_map(|field| field.parse().ok()).collect();
    [0, 1].map(|first| {
        let ticks: u64 = ticks.iter().skip(first).step_by(2).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    })
}

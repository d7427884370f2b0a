//! A process that stays, and samples of what it holds.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{LIMIT, is_event};
use tasks::process::Launch;

/// What a process holds: the name, the unit, and by how much the maximum of the last quarter of the
/// time may exceed that of the second one. The first quarter is for warming up.
const HOLDINGS: [(&str, &str, u64); 3] =
    [("memory", "KiB", 2048), ("descriptors", "", 8), ("threads", "", 0)];

/// What a process held at one moment, in the order of [`HOLDINGS`].
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    held: [u64; HOLDINGS.len()],
}

/// A process and its samples.
pub(super) struct Watched {
    name: &'static str,
    launch: Launch,
    samples: Vec<Sample>,
}

impl Watched {
    pub(super) fn new(name: &'static str, launch: Launch) -> Self {
        Self { name, launch, samples: Vec::new() }
    }

    pub(super) fn output_tail(&self) -> String {
        self.launch.output_tail()
    }

    /// Takes a sample.
    pub(super) fn sample(&mut self, at: Duration) -> Result<()> {
        ensure!(!self.launch.has_ended(), "{} has ended\n{}", self.name, self.output_tail());
        let held =
            held_by(self.launch.id()).with_context(|| format!("no sample of {}", self.name))?;
        self.samples.push(Sample { at, held });
        Ok(())
    }

    /// Returns what has grown by more than it may.
    pub(super) fn growth(&self) -> Vec<String> {
        let grown = |(index, (what, unit, margin)): (usize, &(&str, &str, u64))| {
            let (before, after) = most_of(&self.samples, index);
            println!(
                "{}: {what} {before} {unit} at most in the second quarter, {after} in the last; \
                 up to {margin} more are allowed",
                self.name
            );
            let name = self.name;
            (after > before + margin)
                .then(|| format!("{name}: {what} grew from {before} to {after}"))
        };
        HOLDINGS.iter().enumerate().filter_map(grown).collect()
    }

    /// Ends it with Ctrl-C, like a user.
    pub(super) fn end(&mut self) -> Result<()> {
        self.launch.signal(Signal::INT)?;
        let code = self.launch.exit_code(LIMIT)?;
        ensure!(code == 130, "{}: exit code {code}\n{}", self.name, self.output_tail());
        let output = self.launch.stdout();
        let stopped = output.lines().any(|line| is_event(line, "stopped"));
        ensure!(stopped, "{} printed no event \"stopped\"", self.name);
        Ok(())
    }
}

/// Prints the headings of the table.
pub(super) fn print_headings(watched: &[Watched]) {
    let cells = watched.iter().map(|each| format!("{:>32}", each.name));
    println!("\n{:>6}{}", "", cells.collect::<String>());
    let heads = format!("{:>12}{:>12}{:>8}", "memory KiB", "descriptors", "threads");
    println!("{:>6}{}  visitors so far", "time", heads.repeat(watched.len()));
}

/// Prints a line of the table: the latest samples.
pub(super) fn print_line(now: Duration, watched: &[Watched], visitors: &str) {
    let cells = watched.iter().filter_map(|each| each.samples.last()).map(|sample| {
        let [memory, descriptors, threads] = sample.held;
        format!("{memory:>12}{descriptors:>12}{threads:>8}")
    });
    let seconds = now.as_secs();
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    println!("{minutes:>3}:{seconds:02}{}  {visitors}", cells.collect::<String>());
}

/// Returns the most that was held in the second quarter of the time, and in the last.
fn most_of(samples: &[Sample], index: usize) -> (u64, u64) {
    let end = samples.last().map_or(Duration::ZERO, |sample| sample.at);
    let most = |from: Duration, to: Duration| {
        let within = samples.iter().filter(|sample| (from..=to).contains(&sample.at));
        within.filter_map(|sample| sample.held.get(index)).copied().max().unwrap_or_default()
    };
    (most(end / 4, end / 2), most(end / 4 * 3, end))
}

fn held_by(process: u32) -> Result<[u64; HOLDINGS.len()]> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let number = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name));
        let word = rest.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse::<u64>().ok()).with_context(|| format!("no {name}"))
    };
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64;
    Ok([number("VmRSS:")?, descriptors, number("Threads:")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_compared() {
        // One value grows in the first quarter only; another one to the end.
        let sample = |second: u64| Sample {
            at: Duration::from_secs(second),
            held: [second.min(20), second, 1],
        };
        let samples: Vec<Sample> = (0..=100).map(sample).collect();
        assert_eq!(most_of(&samples, 0), (20, 20));
        assert_eq!(most_of(&samples, 1), (50, 100));
        assert_eq!(most_of(&samples, 2), (1, 1));
        assert_eq!(most_of(&[], 0), (0, 0));
    }

    #[test]
    fn own_process_can_be_sampled() {
        let [memory, descriptors, threads] = held_by(std::process::id()).unwrap();
        assert!(memory > 100 && descriptors > 2 && threads > 0);
    }
}

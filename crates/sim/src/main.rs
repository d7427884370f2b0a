//! `sim COUNT [FROM]`: plays COUNT scenarios from seed FROM on, and prints a line for each that broke
//! a rule; the last line says how many. `sim tell SEED`: plays one and tells it. `sim digests COUNT
//! [FROM]`: also prints the digest of each.

#![allow(clippy::disallowed_methods)] // The clock and the threads are here, outside of all runs.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: Option<&&str>| word.and_then(|word| word.parse().ok());
    match words.as_slice() {
        ["tell", seed] => number(Some(seed)).map_or(ExitCode::from(2), tell),
        ["digests", rest @ ..] => number(rest.first())
            .map_or(ExitCode::from(2), |count| play(count, number(rest.get(1)).unwrap_or(0), true)),
        rest => number(rest.first()).map_or(ExitCode::from(2), |count| {
            play(count, number(rest.get(1)).unwrap_or(0), false)
        }),
    }
}

fn tell(seed: u64) -> ExitCode {
    let (report, lines) = sim::tell(seed);
    lines.iter().for_each(|line| say(line));
    say(&line_of(&report));
    if report.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(count: u64, from: u64, digests: bool) -> ExitCode {
    let start = Instant::now();
    let next = AtomicU64::new(from);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return reports;
            }
            let report = sim::run(seed);
            if report.broken.is_some() {
                say(&line_of(&report));
            }
            reports.push(report);
        }
    };
    let mut reports: Vec<Report> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    reports.sort_by_key(|report| report.seed);
    if digests {
        reports.iter().for_each(|report| say(&format!("{} {:016x}", report.seed, report.digest)));
    }
    let broken = reports.iter().filter(|report| report.broken.is_some()).count();
    let lost = count - reports.len() as u64;
    let events: u64 = reports.iter().map(|report| report.events).sum();
    say(&format!(
        "{count} seeds from {from}: {broken} broken, {lost} ended in a panic, {events} events, {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    if broken == 0 && lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of output; nobody may want it any more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn line_of(report: &Report) -> String {
    let ending = report.broken.as_deref().map_or("ok".to_owned(), |rule| format!("BROKEN: {rule}"));
    let (events, seconds) = (report.events, report.time.as_secs_f64());
    format!("seed {}: {ending} ({events} events, {seconds:.1} s of its time)", report.seed)
}

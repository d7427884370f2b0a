//! `sim COUNT [FROM]`: plays COUNT scenarios, the first with seed FROM, and prints a line for each
//! that broke a rule; the last line says how many did. `sim digests COUNT [FROM]`: also prints the
//! digest of each. `sim first COUNT [FROM]`: stops at the first that breaks a rule. `sim trace
//! SEED`: plays one and prints every event. `sim shapes`: downloads from swarms of given rates, and
//! prints what share of the rate they use. With `dht` as the first word, networks of DHT nodes are
//! played instead of swarms; `sim dht long [WORD]` plays the long ones,
//! or those with WORD in their names.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Only here are clock and threads.

use std::any::Any;
use std::io::Write as _;
use std::ops::Range;
use std::panic::{UnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::{Race, Report, Share};

/// What is simulated.
#[derive(Clone, Copy)]
struct Kind {
    play: fn(u64) -> Report,
    trace: fn(u64) -> (Report, Vec<String>),
}

const SWARMS: Kind = Kind { play: sim::play, trace: sim::trace };
const DHT: Kind = Kind { play: sim::dht::play, trace: sim::dht::trace };

/// From how many tries on a share of many seeds is computed.
const ENOUGH: u32 = 100;

/// What to do besides playing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    Nothing,
    Digests,
    StopAtFirst,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, words) = match words.as_slice() {
        ["dht", words @ ..] => (DHT, words),
        words => (SWARMS, words),
    };
    let (extra, numbers) = match words {
        ["long"] => return long(""),
        ["long", word] => return long(word),
        ["trace", seed] => {
            return seed.parse().map_or(ExitCode::from(2), |seed| trace(kind, seed));
        }
        ["shapes"] => return shapes(),
        ["digests", numbers @ ..] => (Extra::Digests, numbers),
        ["first", numbers @ ..] => (Extra::StopAtFirst, numbers),
        numbers => (Extra::Nothing, numbers),
    };
    let numbers: Vec<u64> = numbers.iter().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [count] => play(kind, 0..count, extra),
        [count, from] => play(kind, from..from + count, extra),
        _ => ExitCode::from(2),
    }
}

/// Downloads from swarms with the shapes of `cargo xtask bench swarm`, with bt-cli's default memory
/// for payload.
fn shapes() -> ExitCode {
    let mut all_well = true;
    for (shape, least) in sim::shapes() {
        let race = sim::race(&shape);
        all_well &= race.as_ref().is_ok_and(|race| race.share >= least);
        let line = race.map_or_else(
            |rule| format!("BROKEN: {rule}"),
            |race| {
                format!("{:.1} % of the ideal rate, {least} % expected{}", race.share, bans(&race))
            },
        );
        say(&format!("{shape}: {line}"));
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays the long simulations of the DHT with `word` in their names, all at the same time.
fn long(word: &str) -> ExitCode {
    let play = |(name, play): (&str, sim::dht::Long)| {
        let report = caught(0, play);
        let ending = line_of(&report);
        say(&format!("{name}: {}", ending.split_once(": ").map_or("", |(_, ending)| ending)));
        report
    };
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let chosen = sim::dht::LONG.into_iter().filter(|(name, _)| name.contains(word));
        let threads: Vec<_> = chosen.map(|long| scope.spawn(move || play(long))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let broken = reports.iter().filter(|report| report.broken.is_some()).count();
    if say_shares(&reports) && broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Formats when each liar was banned.
fn bans(race: &Race) -> String {
    let times = race.bans.iter().map(|at| format!(", a liar banned at {:.1} s", at.as_secs_f64()));
    times.collect()
}

fn trace(kind: Kind, seed: u64) -> ExitCode {
    let (report, lines) = (kind.trace)(seed);
    lines.iter().for_each(|line| say(line));
    report.shares.iter().for_each(|share| say(&share.to_string()));
    say(&line_of(&report));
    if report.broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(kind: Kind, seeds: Range<u64>, extra: Extra) -> ExitCode {
    let start = Instant::now();
    let reports = play_all(kind, &seeds, extra == Extra::StopAtFirst);
    if extra == Extra::Digests {
        reports.iter().for_each(|report| say(&format!("{} {:016x}", report.seed, report.digest)));
    }
    let (played, from) = (reports.len(), seeds.start);
    let broken = reports.iter().filter(|report| report.broken.is_some()).count();
    let events: u64 = reports.iter().map(|report| report.events).sum();
    let seconds = start.elapsed().as_secs_f64();
    let are_enough = say_shares(&reports);
    say(&format!("{played} seeds from {from}: {broken} broken, {events} events, {seconds:.1} s"));
    if broken == 0 && are_enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints what succeeded in which share of all tries. Returns whether each did often enough.
fn say_shares(reports: &[Report]) -> bool {
    let mut sums: Vec<Share> = Vec::new();
    for share in reports.iter().flat_map(|report| &report.shares) {
        match sums.iter_mut().find(|sum| sum.what == share.what) {
            Some(sum) => {
                (sum.found, sum.tried) = (sum.found + share.found, sum.tried + share.tried);
            }
            None => sums.push(share.clone()),
        }
    }
    sums.sort_by_key(|sum| sum.what);
    let mut are_enough = true;
    for sum in &sums {
        let is_enough = sum.tried < ENOUGH || sum.percent() >= sum.least;
        are_enough &= is_enough;
        let (percent, least) = (sum.percent(), sum.least);
        let rule = if is_enough { "at least" } else { "BROKEN: it must be at least" };
        say(&format!("{sum}, {percent:.2} %, {rule} {least} %"));
    }
    are_enough
}

/// Plays `seeds` on all cores, in ascending order. With `stop_at_first`, scenarios that were
/// started before the first broken one are played to the end, so the lowest broken seed is among
/// them.
fn play_all(kind: Kind, seeds: &Range<u64>, stop_at_first: bool) -> Vec<Report> {
    let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut reports = Vec::new();
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let report = caught(seed, || (kind.play)(seed));
            if report.broken.is_some() {
                enough.fetch_or(stop_at_first, Ordering::Relaxed);
                say(&line_of(&report));
            }
            reports.push(report);
        }
        reports
    };
    let mut reports: Vec<Report> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    reports.sort_by_key(|report| report.seed);
    reports
}

/// Plays a simulation; a panic is a broken rule too.
fn caught(seed: u64, play: impl FnOnce() -> Report + UnwindSafe) -> Report {
    catch_unwind(play).unwrap_or_else(|panic| Report {
        seed,
        broken: Some(format!("it panics: {}", message(&*panic))),
        digest: 0,
        events: 0,
        time: Duration::ZERO,
        shares: Vec::new(),
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

/// Prints a line; a closed pipe is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn line_of(report: &Report) -> String {
    let ending = report.broken.as_deref().map_or("ok".to_owned(), |rule| format!("BROKEN: {rule}"));
    let (events, seconds) = (report.events, report.time.as_secs_f64());
    format!("seed {}: {ending} ({events} events, {seconds:.1} s of its time)", report.seed)
}

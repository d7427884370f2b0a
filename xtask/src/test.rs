//! `cargo xtask test`: everything that must pass before a commit, and a tally.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use tasks::report::Tally;
use tasks::workspace::{self, cargo};
use testkit::fixtures;

use crate::{sim, tidy};

/// Runs every step, even after a failure. With `full`, runs the long form of each suite instead of
/// the short one, and the mutants too.
pub(crate) fn run(full: bool) -> Result<()> {
    let mut steps = Steps::default();
    steps.check_with("fmt", "format", || status(cargo().args(["fmt", "--all", "--check"])));
    steps.check_with("clippy", "lints", lints);
    match fetch_parsers() {
        true => steps.check_with("clippy", "lints of parsers", parsers_lints),
        false => steps.skip("lints of parsers", "their dependencies cannot be fetched"),
    }
    steps.check("documentation", documentation);
    steps.check("tidy", tidy::run);
    steps.check("fixtures", || Ok(fixtures::run(&workspace::root().join("testdata"), true)?));
    steps.count("tests", || cargo_test(&["--all-targets"]));
    steps.count("documentation tests", || cargo_test(&["--doc"]));
    let mut programs = None;
    steps.check("build for the suites", || {
        programs = Some(workspace::build(&["sim", "bt-cli"], "sim")?);
        Ok(())
    });
    if let Some(programs) = programs {
        let sim = programs.join("sim");
        steps.check("simulation", || sim::play(&sim, &sim::Arguments::default()));
        let nodes = sim::Arguments::dht(if full { 1000 } else { SHORT_DHT }, full);
        steps.check("simulation of the DHT", || sim::play(&sim, &nodes));
        steps.check("shares of a swarm's rate", || sim::shapes(&sim));
        // The long form builds the release that users have. The bt-cli built above took less time
        // to build, and checks more at run time.
        let bt_cli = (!full).then(|| programs.join("bt-cli"));
        // Some of its cases have time limits that others' load could break.
        steps.count_at_once(&["hostile"], |suite| integration(suite, bt_cli.as_deref()));
        steps.count_at_once(&SUITES, |suite| integration(suite, bt_cli.as_deref()));
    }
    if full {
        steps.check("mutants", sim::mutants);
    }
    steps.finish()
}

/// How many networks of DHT nodes are played in the short form.
const SHORT_DHT: u64 = 20;

/// The suites of the package `e2e` that run at once. They wait most of their time.
const SUITES: [&str; 3] = ["loopback", "crash", "interop"];

/// The steps so far and their results.
#[derive(Default)]
struct Steps {
    lines: Vec<String>,
    tally: Tally,
}

impl Steps {
    /// Runs a step that passes or fails as a whole.
    fn check(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        self.count(name, || step().map(|()| Tally { passed: 1, ..Tally::default() }));
    }

    /// Runs a step that needs an optional part of the toolchain.
    fn check_with(&mut self, part: &str, name: &str, step: impl FnOnce() -> Result<()>) {
        let there = cargo().args([part, "--version"]).output();
        if there.is_ok_and(|output| output.status.success()) {
            return self.check(name, step);
        }
        self.skip(name, &format!("cargo {part} is not installed"));
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.tally.skipped += 1;
        self.lines.push(format!("{name:<20} skipped: {why}"));
    }

    /// Runs a step that consists of many cases.
    fn count(&mut self, name: &str, step: impl FnOnce() -> Result<Tally>) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step();
        self.record(name, result, start.elapsed());
    }

    /// Runs steps at the same time.
    fn count_at_once(&mut self, names: &[&str], step: impl Fn(&str) -> Result<Tally> + Sync) {
        println!("\n== {}", names.join(", "));
        let start = Instant::now();
        let timed = |name| (step(name), start.elapsed());
        thread::scope(|scope| {
            let steps: Vec<_> = names.iter().map(|name| scope.spawn(|| timed(*name))).collect();
            for (name, step) in names.iter().zip(steps) {
                let (result, time) = step.join().expect("no step panics");
                self.record(name, result, time);
            }
        });
    }

    fn record(&mut self, name: &str, result: Result<Tally>, time: Duration) {
        let (tally, problem) = match result {
            Ok(tally) => (tally, String::new()),
            Err(error) => {
                eprintln!("error: {error:#}");
                (Tally { failed: 1, ..Tally::default() }, format!(": {error:#}"))
            }
        };
        self.tally.add(tally);
        let seconds = time.as_secs_f64();
        self.lines.push(format!("{name:<20} {seconds:>6.1} s  {tally}{problem}"));
    }

    fn finish(self) -> Result<()> {
        println!("\n== summary");
        self.lines.iter().for_each(|line| println!("{line}"));
        println!("\n{}", self.tally);
        ensure!(self.tally.failed == 0, "not everything passed");
        Ok(())
    }
}

/// Runs clippy. Warnings are errors if `CI` is set.
fn lints() -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--quiet"]);
    if is_ci() {
        command.args(["--", "-D", "warnings"]);
    }
    status(&mut command)
}

/// The package is a workspace of its own, so that its dependencies are not in our lock file.
const PARSERS: [&str; 3] = ["--locked", "--manifest-path", "xtask/bench/parsers/Cargo.toml"];

/// Fetches the dependencies of `xtask/bench/parsers`. Returns whether that succeeded.
fn fetch_parsers() -> bool {
    let fetched = cargo().args(["fetch", "--quiet"]).args(PARSERS).stderr(Stdio::null()).status();
    fetched.is_ok_and(|status| status.success())
}

fn parsers_lints() -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--all-targets", "--quiet"]).args(PARSERS);
    command.env("CARGO_TARGET_DIR", workspace::target()?.join("parsers"));
    if is_ci() {
        command.args(["--", "-D", "warnings"]);
    }
    status(&mut command)
}

fn documentation() -> Result<()> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]);
    if is_ci() {
        command.env("RUSTDOCFLAGS", "-D warnings");
    }
    status(&mut command)
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

fn status(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// How many tests run at a time per core. The slowest tests wait for processes and timeouts.
const TESTS_PER_CORE: usize = 3;

/// The variable that tells test programs how many tests to run at a time.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Runs `cargo test`, and adds up the counts it prints.
fn cargo_test(arguments: &[&str]) -> Result<Tally> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut command = cargo();
    if std::env::var_os(TEST_THREADS).is_none() {
        command.env(TEST_THREADS, (TESTS_PER_CORE * cores).to_string());
    }
    command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments);
    counts(&mut command, "", counted)
}

/// Runs the long form of a suite of the package `e2e`, or the short form with a built `bt_cli`.
fn integration(suite: &str, bt_cli: Option<&Path>) -> Result<Tally> {
    let mut command = workspace::run_package("e2e");
    command.envs(bt_cli.map(|bt_cli| (workspace::BT_CLI, bt_cli)));
    command.args(["integration", suite]).args(bt_cli.map(|_| "--short"));
    counts(&mut command, &format!("{suite:<9} "), Tally::parse)
}

/// Runs `command`, shows each line of its output after `prefix`, and adds up the counts that `parse`
/// finds in them.
fn counts(command: &mut Command, prefix: &str, parse: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("no output to read")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{prefix}{line}");
        tally.add(parse(&line).unwrap_or_default());
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("{status}");
    }
    Ok(tally)
}

/// Parses the counts in a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ..`.
fn counted(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(word))?;
        part.trim_end().parse().ok()
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let line = "test result: FAILED. 6 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out";
        assert_eq!(counted(line), Some(Tally { passed: 6, failed: 1, skipped: 2 }));
        assert_eq!(counted("running 3 tests"), None);
    }
}

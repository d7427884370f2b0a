//! `cargo xtask test`: everything that must pass before a commit, and a tally.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use testkit::fixtures;
use xtask::report::Tally;
use xtask::workspace::{self, cargo};

use crate::{sim, tidy};

/// Runs every step, even after a failure; with `full` the long forms too, and the mutants.
pub(crate) fn run(full: bool) -> Result<()> {
    let mut steps = Steps::default();
    steps.check_with("fmt", "format", || status(cargo().args(["fmt", "--all", "--check"])));
    steps.check_with("clippy", "lints", lints);
    match parsers_are_fetched() {
        true => steps.check_with("clippy", "lints of parsers", parsers_lints),
        false => steps.skip("lints of parsers", "their dependencies cannot be fetched"),
    }
    steps.check("documentation", documentation);
    steps.check("tidy", tidy::run);
    steps.check("fixtures", || Ok(fixtures::run(&workspace::root().join("testdata"), true)?));
    steps.count("tests", || cargo_test(&["--all-targets"]));
    steps.count("documentation tests", || cargo_test(&["--doc"]));
    steps.check("simulation", || sim::run(&sim::Arguments::default()));
    steps.check("shares of a swarm's rate", sim::shapes);
    if full {
        steps.check("mutants", sim::mutants);
    }
    for suite in ["loopback", "hostile", "crash", "interop"] {
        steps.count(suite, || integration(suite, full));
    }
    steps.finish()
}

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
        let (tally, problem) = match step() {
            Ok(tally) => (tally, String::new()),
            Err(error) => {
                eprintln!("error: {error:#}");
                (Tally { failed: 1, ..Tally::default() }, format!(": {error:#}"))
            }
        };
        self.tally.add(tally);
        let seconds = start.elapsed().as_secs_f64();
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

/// Whether other people's parsers are on this machine or can be fetched.
fn parsers_are_fetched() -> bool {
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

/// Runs `cargo test`, and adds up the counts it prints.
fn cargo_test(arguments: &[&str]) -> Result<Tally> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(arguments);
    counts(&mut command, counted)
}

/// Runs a suite of the package `e2e`.
fn integration(suite: &str, full: bool) -> Result<Tally> {
    let mut command = workspace::run_package("e2e");
    command.args(["integration", suite]).args((!full).then_some("--short"));
    counts(&mut command, Tally::parse)
}

/// Runs `command`, shows its output, and adds up the counts that `parse` finds in its lines.
fn counts(command: &mut Command, parse: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("no output to read")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
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

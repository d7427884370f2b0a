//! Development tasks: `cargo xtask TASK`. All tasks run on a machine that has only Rust; a part
//! that needs more says so and is skipped.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

mod fuzz;
mod sim;
mod test;
mod tidy;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use tasks::workspace;
use testkit::fixtures;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of this workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures bt-cli beside other programs, where they are installed
    #[command(disable_help_flag = true)]
    Bench(Words),
    /// Starts trackers and a seeder on loopback, then downloads from them with bt-cli
    #[command(disable_help_flag = true)]
    Demo(Words),
    /// Runs everything that must pass: format, lints, tidy, fixtures, tests, all suites
    Test {
        /// Runs the long forms of all suites, and the mutants
        #[arg(long)]
        full: bool,
    },
    /// Writes the small files in testdata/
    Fixtures {
        /// Writes nothing; fails if a file differs
        #[arg(long)]
        check: bool,
    },
    /// Fuzzes every decoder and state machine
    Fuzz(fuzz::Arguments),
    /// Runs bt-cli against our own trackers and peers, and against other clients
    #[command(disable_help_flag = true)]
    Integration(Words),
    /// Simulates whole swarms on a virtual clock, network and disk, one per seed
    Sim(sim::Arguments),
    /// Runs a swarm in which peers come and go for a long time, and watches what grows
    #[command(disable_help_flag = true)]
    Soak(Words),
    /// Checks the rules of this repository that no other tool checks
    Tidy,
}

/// Arguments that another package's program reads.
#[derive(clap::Args)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

fn main() -> ExitCode {
    tasks::exit(run())
}

fn run() -> Result<()> {
    match Arguments::parse().task {
        Task::Bench(Words { words }) => start("bench", None, &words),
        Task::Demo(Words { words }) => start("e2e", Some("demo"), &words),
        Task::Integration(Words { words }) => start("e2e", Some("integration"), &words),
        Task::Soak(Words { words }) => start("e2e", Some("soak"), &words),
        Task::Test { full } => test::run(full),
        Task::Fixtures { check } => Ok(fixtures::run(&workspace::root().join("testdata"), check)?),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Tidy => tidy::run(),
    }
}

/// Builds and runs the program of a package.
fn start(package: &str, task: Option<&str>, words: &[OsString]) -> Result<()> {
    let mut command = workspace::run_package(package);
    let status = command.args(task).args(words).status()?;
    ensure!(status.success(), "{}: {status}", task.unwrap_or(package));
    Ok(())
}

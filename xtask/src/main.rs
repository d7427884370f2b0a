//! Development tasks: `cargo xtask TASK`. Everything here runs on a machine with nothing but Rust;
//! what needs more says so and is skipped.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

mod bench;
mod bt_cli;
mod clients;
mod demo;
mod draws;
mod fixtures;
mod fuzz;
mod integration;
mod process;
mod report;
mod sim;
mod soak;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of this workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures bt-cli beside other people's programs, where they are installed
    Bench(bench::Arguments),
    /// A part of the benchmarks that runs in a process of its own
    #[command(hide = true)]
    BenchChild(bench::child::Arguments),
    /// Starts trackers and a seeder on loopback, then downloads from them with bt-cli
    Demo {
        /// How much to download, in MiB
        #[arg(long, default_value_t = 100)]
        size: u64,
        /// How much the seeder sends a second, in MiB; 0 for as much as it can
        #[arg(long, default_value_t = 20)]
        rate: u64,
    },
    /// Everything that must pass: format, lints, tidy, fixtures, tests, all suites
    Test,
    /// Writes the small files below testdata/
    Fixtures {
        /// Writes nothing; fails if a file is not what would be written
        #[arg(long)]
        check: bool,
    },
    /// Looks for inputs that break a promise, in every decoder and state machine
    Fuzz(fuzz::Arguments),
    /// Runs bt-cli against our own trackers and peers, and against other people's clients
    Integration {
        /// Which suite; all if none is named
        suite: Option<integration::Suite>,
        #[command(flatten)]
        options: integration::Options,
    },
    /// Whole swarms on a virtual clock, network and disk, each from one number
    Sim(sim::Arguments),
    /// A swarm in which peers come and go, for a long time, watched for what grows
    Soak {
        /// How long it takes
        #[arg(default_value_t = 20.0)]
        minutes: f64,
        /// The number that says who comes when
        #[arg(long, value_name = "SEED")]
        seed: Option<u64>,
    },
    /// Checks the rules of the house that no other tool checks
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::BenchChild(arguments) => bench::child::run(&arguments),
        Task::Demo { size, rate } => demo::run(size, rate),
        Task::Test => test::run(),
        Task::Fixtures { check } => fixtures::run(check),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Integration { suite, options } => integration::run(suite, &options),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Soak { minutes, seed } => soak::run(minutes, seed),
        Task::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

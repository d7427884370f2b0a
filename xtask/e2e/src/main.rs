//! `cargo xtask integration`, `demo` and `soak`: each is a subcommand of this program.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::integration::{Options, Suite};
use e2e::{demo, integration, soak};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Runs bt-cli like its users")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts trackers and a seeder on loopback, then downloads from them with bt-cli
    Demo {
        /// How much to download, in MiB
        #[arg(long, default_value_t = 100)]
        size: u64,
        /// The seeder's rate, in MiB per second; 0 for no limit
        #[arg(long, default_value_t = 20)]
        rate: u64,
    },
    /// Runs bt-cli against our own trackers and peers, and against other clients
    Integration {
        /// The suite; without one, all
        suite: Option<Suite>,
        #[command(flatten)]
        options: Options,
    },
    /// Runs a swarm in which peers come and go for a long time, and watches what grows
    Soak {
        /// How many minutes it runs
        #[arg(default_value_t = 20.0)]
        minutes: f64,
        /// The seed that decides which visitors come and when
        #[arg(long, value_name = "SEED")]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    tasks::exit(run())
}

fn run() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo { size, rate } => demo::run(size, rate),
        Task::Integration { suite, options } => integration::run(suite, options),
        Task::Soak { minutes, seed } => soak::run(minutes, seed),
    }
}

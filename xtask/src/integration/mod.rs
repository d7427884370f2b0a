//! Suites that run bt-cli as its users do: as a process, against real sockets and files.

mod crash;
mod hostile;
mod interop;
mod loopback;
mod scene;

use anyhow::{Result, ensure};

use crate::report::Tally;

pub(crate) use crash::SHORT;

/// A suite by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Our own trackers, seeders and leechers
    Loopback,
    /// Killed at any moment, and disks that fail
    Crash,
    /// Torrents, trackers and peers that mean no good
    Hostile,
    /// Other people's clients, where they are installed
    Interop,
}

/// What of a suite is run, and how.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// Only the cases whose name contains this
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Another program in the place of bt-cli, to see whether a failure is ours (interop)
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) instead: Option<String>,
    /// How often bt-cli is killed (crash)
    #[arg(long, value_name = "N")]
    pub(crate) kills: Option<u32>,
    /// The number that all moments of killing follow from (crash)
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,
}

/// Runs one suite or all, and fails if a case failed.
pub(crate) fn run(suite: Option<Suite>, options: &Options) -> Result<()> {
    let mut tally = Tally::default();
    for each in [Suite::Loopback, Suite::Hostile, Suite::Crash, Suite::Interop] {
        if suite.is_none_or(|suite| suite == each) {
            tally.add(run_suite(each, options)?);
        }
    }
    println!("\n{tally}");
    ensure!(tally.failed == 0, "{} of the cases failed", tally.failed);
    Ok(())
}

/// Runs one suite.
pub(crate) fn run_suite(suite: Suite, options: &Options) -> Result<Tally> {
    println!("{suite:?}");
    let (only, instead) = (options.only.as_deref(), options.instead.as_deref());
    match suite {
        Suite::Loopback => loopback::run(only),
        Suite::Crash => crash::run(options),
        Suite::Hostile => hostile::run(only),
        Suite::Interop => interop::run(only, instead),
    }
}

//! Suites that run bt-cli as its users do: as a process, against real sockets and files.

mod interop;
mod loopback;

use anyhow::{Result, ensure};

use crate::report::Tally;

/// A suite by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Our own trackers, seeders and leechers
    Loopback,
    /// Other people's clients, where they are installed
    Interop,
}

/// Runs one suite or both, and fails if a case failed.
pub(crate) fn run(suite: Option<Suite>, only: Option<&str>, instead: Option<&str>) -> Result<()> {
    let mut tally = Tally::default();
    for each in [Suite::Loopback, Suite::Interop] {
        if suite.is_none_or(|suite| suite == each) {
            tally.add(run_suite(each, only, instead)?);
        }
    }
    println!("\n{tally}");
    ensure!(tally.failed == 0, "{} of the cases failed", tally.failed);
    Ok(())
}

/// Runs one suite.
pub(crate) fn run_suite(suite: Suite, only: Option<&str>, instead: Option<&str>) -> Result<Tally> {
    println!("{suite:?}");
    match suite {
        Suite::Loopback => loopback::run(only),
        Suite::Interop => interop::run(only, instead),
    }
}

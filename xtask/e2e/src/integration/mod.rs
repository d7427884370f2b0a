//! Suites that run bt-cli as its users do: as a process, against real sockets and files.

mod crash;
mod hostile;
mod interop;
mod loopback;
mod scene;

use anyhow::{Result, ensure};

use crate::clients::namespace;
use xtask::report::Tally;

/// A suite by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
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
pub struct Options {
    /// As much of everything that is drawn as a commit can wait for
    #[arg(long)]
    pub short: bool,
    /// Only the cases whose name contains this
    #[arg(long)]
    pub only: Option<String>,
    /// Another program in the place of bt-cli, to see whether a failure is ours (interop)
    #[arg(long, value_name = "PROGRAM")]
    pub instead: Option<String>,
    /// How often bt-cli is killed (crash)
    #[arg(long, value_name = "N")]
    pub kills: Option<u32>,
    /// How often two torrents want the same file (crash)
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// How many MiB go to rTorrent, and come from it, over one connection (interop)
    #[arg(long, value_name = "N")]
    pub mebibytes: Option<u32>,
    /// How many folders with odd names are shared (interop)
    #[arg(long, value_name = "N")]
    pub folders: Option<u32>,
    /// The number that everything drawn follows from (crash, interop)
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
}

impl Options {
    /// With the numbers that `short` stands for, but for those that are given.
    fn shortened(self) -> Self {
        if !self.short {
            return self;
        }
        Self {
            kills: self.kills.or(Some(50)),
            rounds: self.rounds.or(Some(100)),
            folders: self.folders.or(Some(25)),
            mebibytes: self.mebibytes.or(Some(256)),
            ..self
        }
    }

    /// The arguments of a process that runs `suite` with these options.
    fn words(&self, suite: &str) -> Vec<String> {
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let options = [
            ("--only", self.only.clone()),
            ("--instead", self.instead.clone()),
            ("--kills", number(self.kills)),
            ("--rounds", number(self.rounds)),
            ("--folders", number(self.folders)),
            ("--mebibytes", number(self.mebibytes)),
            ("--seed", self.seed.map(|seed| seed.to_string())),
        ];
        let words = options.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        std::iter::once(suite.to_owned()).chain(words.flatten()).collect()
    }
}

/// Runs one suite or all, and fails if a case failed.
///
/// # Errors
/// A case failed, or a suite could not be run.
pub fn run(suite: Option<Suite>, options: Options) -> Result<()> {
    let options = options.shortened();
    let mut tally = Tally::default();
    for each in [Suite::Loopback, Suite::Hostile, Suite::Crash, Suite::Interop] {
        if suite.is_none_or(|suite| suite == each) {
            if !namespace::are_we_inside() {
                println!("\n== {}", format!("{each:?}").to_lowercase());
            }
            tally.add(run_suite(each, &options)?);
        }
    }
    println!("\n{tally}");
    ensure!(tally.failed == 0, "{} of the cases failed", tally.failed);
    Ok(())
}

/// Runs one suite.
fn run_suite(suite: Suite, options: &Options) -> Result<Tally> {
    let only = options.only.as_deref();
    match suite {
        Suite::Loopback => loopback::run(only),
        Suite::Crash => crash::run(options),
        Suite::Hostile => hostile::run(only),
        Suite::Interop => interop::run(options),
    }
}

//! Suites that run bt-cli like its users: as a process, with real sockets and files.

mod crash;
mod hostile;
mod interop;
mod loopback;
mod scene;

use anyhow::{Result, ensure};

use crate::clients::namespace;
use tasks::report::{Report, Tally};

/// A suite by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Our own trackers, seeders and leechers
    Loopback,
    /// bt-cli killed at any moment, and disks that fail
    Crash,
    /// Hostile torrents, trackers, peers and nodes of the DHT
    Hostile,
    /// Other clients, where they are installed
    Interop,
}

/// Which part of a suite is run, and how.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Fewer random cases, as before a commit
    #[arg(long)]
    pub short: bool,
    /// Only the cases whose name contains this
    #[arg(long)]
    pub only: Option<String>,
    /// Another program instead of bt-cli, to see whether a failure is ours (interop)
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
    /// The seed of all random choices (crash, interop)
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
}

impl Options {
    /// Fills in the numbers of `--short`, where no others are given.
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

    /// Returns the arguments of a process that runs `suite` with these options.
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
        let short = self.short.then(|| "--short".to_owned());
        std::iter::once(suite.to_owned()).chain(short).chain(words.flatten()).collect()
    }
}

/// Runs one suite or all.
///
/// # Errors
/// A case failed, or a suite could not be run.
pub fn run(suite: Option<Suite>, options: Options) -> Result<()> {
    let options = options.shortened();
    let mut tally = Tally::default();
    for each in [Suite::Loopback, Suite::Hostile, Suite::Crash, Suite::Interop] {
        if suite.is_none_or(|suite| suite == each) {
            if !namespace::is_inside() {
                println!("\n== {}", format!("{each:?}").to_lowercase());
            }
            tally.add(run_suite(each, &options)?);
        }
    }
    if namespace::is_inside() {
        tally.add(check_packets());
    }
    println!("\n{tally}");
    ensure!(tally.failed == 0, "{} of the cases failed", tally.failed);
    Ok(())
}

/// Checks that no packet of the suite would have left this machine.
fn check_packets() -> Tally {
    let mut report = Report::new(&["area", "case"]);
    report.run(&["network", "no packet leaves this machine"], || {
        let packets = namespace::stray_packets()?;
        ensure!(packets == 0, "{packets} packets");
        Ok(())
    });
    report.finish()
}

/// Whether the case `name` is to be run: all are, or those with `only` in the name, or in the area
/// of that name.
fn is_wanted(only: Option<&str>, area: &str, name: &str) -> bool {
    only.is_none_or(|only| name.contains(only) || area == only)
}

/// Runs one suite.
fn run_suite(suite: Suite, options: &Options) -> Result<Tally> {
    match suite {
        Suite::Loopback => loopback::run(options),
        Suite::Crash => crash::run(options),
        Suite::Hostile => hostile::run(options),
        Suite::Interop => interop::run(options),
    }
}

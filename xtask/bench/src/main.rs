//! `cargo xtask bench`: bt-cli beside every other program that is installed, one after another, on
//! the same payload, several times, in an order that rotates. A benchmark, not a test.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark has a clock.

mod bare;
mod chart;
mod check;
mod child;
mod contestant;
mod dht;
mod discard;
mod download;
mod external;
mod floor;
mod line;
mod magnet;
mod payload;

mod measure;
mod report;
mod scale;
mod seed;
mod serve;
mod swarm;
mod table;
mod trial_folder;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, ensure};
use clap::{Args, Parser, Subcommand};
use e2e::bt_cli::BtCli;
use e2e::clients::namespace;
use tasks::workspace;

use table::Table;
use trial_folder::TrialFolder;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// Rates are in megabytes of 1,000,000 bytes per second, as usual.
const MB: f64 = 1e6;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// A part of the benchmarks that runs in a process of its own
    #[command(hide = true)]
    Child(child::Arguments),
}

#[derive(Debug, Args)]
struct Bench {
    /// The part to run; without one, all
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
    /// Write the tables into this file too, and a chart of the first beside it (hash has none)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What all parts share.
#[derive(Debug, Args)]
struct Options {
    /// How many times each contestant is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The size of the payload, in MiB
    #[arg(long, value_name = "MIB")]
    size: Option<u64>,
    /// Only these contestants, by name
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Only one download, with pieces of this length, in KiB
    #[arg(long, value_name = "KIB")]
    piece_length: Option<u64>,
    /// Only one download, from this number of seeders
    #[arg(long)]
    seeders: Option<usize>,
    /// Only one download, of this number of files
    #[arg(long)]
    files: Option<u64>,
    /// Only one swarm, of this number of peers
    #[arg(long)]
    peers: Option<usize>,
    /// Only one swarm, whose peers send at these rates, an equal number of peers at each, in KB/s
    #[arg(long, value_delimiter = ',', value_name = "RATES")]
    rates: Vec<u64>,
    /// Only one swarm, with this round trip, in milliseconds
    #[arg(long, value_name = "MS")]
    rtt: Option<u64>,
    /// Download to this folder, which is on a disk; the time includes a syncfs at the end, and a
    /// build of bt-cli that syncs only once takes part
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// The folder to work in [default: in memory (/dev/shm), if possible]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Options {
    /// Whether the contestant of this name is measured.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// What every part that compares programs needs.
#[derive(Debug, Clone, Copy)]
struct Setup<'a> {
    options: &'a Options,
    trial_folder: &'a TrialFolder,
    bt_cli: &'a BtCli,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Clients download from libtorrent
    Download,
    /// Clients seed to peers that discard, and to libtorrent
    Seed,
    /// Programs verify data
    Verify,
    /// Programs create a torrent
    Create,
    /// Parsers of bencode, in a package of their own
    Parse,
    /// SHA-1 on one core
    Hash,
    /// Clients download from many seeders of different rates, far away
    Swarm,
    /// Clients start with a magnet link
    Magnet,
    /// How the cost of a download grows; idle torrents
    Scale,
    /// Nodes of the DHT answer queries, and look up peers in a modelled network
    Dht,
}

impl Part {
    /// The parts that compare programs, in a network namespace.
    const INSIDE: [Self; 7] = [
        Self::Download,
        Self::Magnet,
        Self::Swarm,
        Self::Seed,
        Self::Verify,
        Self::Create,
        Self::Scale,
    ];
}

impl Bench {
    fn wants(&self, part: Part) -> bool {
        self.part.is_none_or(|wanted| wanted == part)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tasks::exit(match arguments.child {
        Some(Child::Child(child)) => child::run(&child),
        None => run(&arguments.bench),
    })
}

/// Builds what is measured, then measures.
fn run(arguments: &Bench) -> Result<()> {
    if namespace::is_inside() {
        namespace::add_addresses()?;
        return measure_inside(arguments);
    }
    let inside = Part::INSIDE.into_iter().any(|part| arguments.wants(part));
    if inside {
        run_inside(arguments)?;
    }
    let tables = measure_outside(arguments);
    match &arguments.json {
        // The process inside has written its tables.
        Some(file) if inside => report::add(file, &tables),
        Some(file) => report::write(file, &tables),
        None => Ok(()),
    }
}

/// Runs the parts that need no namespace.
fn measure_outside(arguments: &Bench) -> Vec<Table> {
    let mut tables = Vec::new();
    if arguments.wants(Part::Scale) && arguments.options.only.is_empty() {
        tables.extend(external::idle());
    }
    if arguments.wants(Part::Parse) {
        tables.extend(external::parse());
    }
    if arguments.wants(Part::Hash) {
        external::hash();
    }
    if arguments.wants(Part::Dht) {
        tables.extend(dht::run(&arguments.options));
    }
    tables
}

fn run_inside(arguments: &Bench) -> Result<()> {
    eprintln!("Building bt-cli and the benchmarks in release mode ...");
    let bt_cli = workspace::build_bt_cli()?;
    let ourselves = workspace::build(&["bench"], "release")?.join("bench");
    let flags = namespace::network_flags().map_err(|why| anyhow!(why))?;
    let words = std::env::args_os().skip(1);
    let mut command = namespace::command_inside(flags, &ourselves, words, &bt_cli);
    if arguments.options.disk.is_some() {
        let (key, program) = workspace::build_synced_at_end()?;
        command.env(key, program);
    }
    let status = command.status()?;
    ensure!(status.success(), "some measurements failed");
    Ok(())
}

fn measure_inside(arguments: &Bench) -> Result<()> {
    let options = &arguments.options;
    let trial_folder = &TrialFolder::new(options.folder.as_deref())?;
    let bt_cli = &BtCli::new(&workspace::build_bt_cli()?, &trial_folder.path().join("bt-cli"));
    let setup = Setup { options, trial_folder, bt_cli };
    let mut tables = Vec::new();
    for part in Part::INSIDE.into_iter().filter(|part| arguments.wants(*part)) {
        let run = match part {
            Part::Download => download::run,
            Part::Magnet => magnet::run,
            Part::Swarm => swarm::run,
            Part::Seed => seed::run,
            Part::Verify => check::verify,
            Part::Create => check::create,
            Part::Scale => scale::run,
            Part::Parse | Part::Hash | Part::Dht => continue,
        };
        tables.extend(run(setup)?);
    }
    if let Some(file) = &arguments.json {
        report::write(file, &tables)?;
    }
    Ok(())
}

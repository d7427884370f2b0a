//! Peers that no tracker names: they come from the DHT, from other peers, and from the local network.
//!
//! ```text
//! 45.N.K.1   node N of the DHT of kind K        45.101.C.1   seeder of case C
//! 45.102.C.1 leecher of case C                  45.103.C.1   asks in case C, or a third peer
//! ```

mod cloud;
mod dht;
mod items;
mod local;
mod pex;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::thread;

use anyhow::{Result, anyhow};

use super::Peer;
use super::transfer::Party;
use crate::bt_cli::json_lines;
use crate::clients::{Program, namespace};
use crate::integration::Options;
use cloud::{Cloud, Kind};
use tasks::process::Launch;
use tasks::report::{Case, Report};

/// How many cases run at a time. Most of the time they wait.
const THREADS: usize = 8;
/// The networks of the programs of a case.
const SEEDER: u8 = 101;
const LEECHER: u8 = 102;
const THIRD: u8 = 103;

/// Runs the cases.
pub(super) fn run(report: &mut Report, ours: &dyn Program, peers: &[Peer], options: &Options) {
    let fixtures = Fixtures::default();
    let suite = Suite { ours, fixtures: &fixtures, options };
    let mut plan = Plan::default();
    // The slow ones first.
    dht::add_cases(suite, peers, &mut plan);
    pex::add_cases(suite, peers, &mut plan);
    items::add_cases(suite, peers, &mut plan);
    local::add_cases(suite, peers, &mut plan);
    // The kernel ends a program when the thread that started it ends, so that the threads of the
    // cases must not start what others use.
    let end = Mutex::new(());
    thread::scope(|scope| {
        let running = end.lock();
        for kind in plan.clouds {
            let (fixtures, end) = (&fixtures, &end);
            scope.spawn(move || {
                fixtures.start(kind);
                drop(end.lock());
            });
        }
        report.run_parallel(THREADS, plan.cases);
        drop(running);
    });
    for (cells, why) in plan.skipped {
        report.skip(&cells.each_ref().map(String::as_str), why);
    }
}

/// What the cases share.
#[derive(Clone, Copy)]
struct Suite<'a> {
    ours: &'a dyn Program,
    fixtures: &'a Fixtures,
    options: &'a Options,
}

impl Suite<'_> {
    /// Whether cases of this kind with a program are to be run.
    fn wants(&self, kind: &str, program: &str) -> bool {
        let is_wanted = |only: &str| [kind, "discovery"].contains(&only) || program.contains(only);
        self.options.only.as_deref().is_none_or(is_wanted)
    }
}

/// The cases to run, and those that are not, with the reasons.
#[derive(Default)]
struct Plan<'a> {
    cases: Vec<Case<'a>>,
    /// What the cases use.
    clouds: BTreeSet<Kind>,
    skipped: Vec<([String; 3], &'static str)>,
}

impl<'a> Plan<'a> {
    /// Adds a case. It is called with its number, from which its addresses and its data follow.
    fn add(
        &mut self,
        peer: &Peer,
        direction: &str,
        case: impl FnOnce(u8) -> Result<()> + Send + 'a,
    ) {
        let number = 1 + self.cases.len() as u8;
        let cells = [peer.program.name(), &peer.version, direction];
        self.cases.push(Case::new(&cells, move || case(number).map(|()| String::new())));
    }

    /// Records that a case is not run.
    fn skip(&mut self, peer: &Peer, direction: &str, why: &'static str) {
        let cells = [peer.program.name(), &peer.version, direction].map(str::to_owned);
        self.skipped.push((cells, why));
    }
}

/// What several cases use.
#[derive(Default)]
struct Fixtures {
    clouds: [OnceLock<Result<Cloud, String>>; Kind::COUNT],
}

impl Fixtures {
    /// Starts the nodes of a DHT.
    fn start(&self, kind: Kind) {
        let start = || Cloud::start(kind).map_err(|error| format!("{error:#}"));
        self.clouds[kind as usize].get_or_init(start);
    }

    /// Waits until the nodes of a DHT have started, and returns them.
    fn cloud(&self, kind: Kind) -> Result<&Cloud> {
        let cloud = self.clouds[kind as usize].wait();
        cloud.as_ref().map_err(|error| anyhow!("no DHT: {error}"))
    }
}

/// Returns a program at an address of case `number`.
fn party(program: &dyn Program, network: u8, number: u8) -> Party<'_> {
    Party::new(program, namespace::public_address(network, number))
}

/// Whether bt-cli has a connection to `peer`, whose address came from `source`; to any port of it if
/// it called.
fn is_connected(launch: &Launch, peer: Party<'_>, source: &str) -> bool {
    let (ip, address) = (format!("{}:", peer.ip), peer.address().to_string());
    json_lines(&launch.stdout()).any(|line| {
        let at = line["address"].as_str().unwrap_or_default();
        let is_peer = if source == "incoming" { at.starts_with(&ip) } else { at == address };
        line["event"] == "peer"
            && line["state"] == "connected"
            && line["source"] == source
            && is_peer
    })
}

/// Returns a new folder in `base`.
fn folder(base: &Path, name: &str) -> Result<std::path::PathBuf> {
    let folder = base.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

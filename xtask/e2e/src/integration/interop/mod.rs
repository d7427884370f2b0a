//! bt-cli and other BitTorrent programs in a network namespace; every byte is compared.
//!
//! ```text
//! 10.77.0.1 our tracker, used by all        10.77.0.3 .. one address per program
//! 10.77.0.2 bt-cli                          10.77.0.20   opentracker
//! ```

mod discovery;
mod names;
mod odd_names;
mod opentracker;
mod torrents;
mod transfer;

use std::net::Ipv4Addr;

use anyhow::{Result, bail};

use super::Options;
use crate::clients::{
    Aria2, Libtorrent, Ours, Program, Qbittorrent, Rtorrent, Transmission, namespace,
};
use crate::rng::fresh_seed;
use opentracker::Opentracker;
use tasks::report::{Report, Tally};
use tasks::workspace;
use transfer::{Dialler, Hint, Party};

/// The environment variable with the programs that must be installed, separated by commas.
const REQUIRED: &str = "REQUIRE_PEERS";

/// The programs that connect to the peers that a link names (`x.pe`).
const KNOW_PEER_HINTS: &[&str] = &["libtorrent", "libtorrent-debian", "qbittorrent"];

/// How many MiB go each way over one connection by default.
const MEBIBYTES: u32 = 800;

/// Runs the suite: here if this is the namespace, otherwise in a process inside one.
pub(super) fn run(options: &Options) -> Result<Tally> {
    if namespace::is_inside() {
        namespace::add_addresses()?;
        namespace::cut_off_name_servers()?;
        return Suite::new(options)?.run();
    }
    match namespace::network_flags() {
        Ok(flags) => run_inside(flags, options),
        Err(why) => {
            let mut report = Report::new(&["suite"]);
            match required().is_empty() {
                true => report.skip(&["interop"], why),
                false => report.fail(&["interop"], why),
            }
            Ok(report.finish())
        }
    }
}

fn run_inside(flags: &str, options: &Options) -> Result<Tally> {
    let bt_cli = match options.instead {
        Some(_) => std::path::PathBuf::new(),
        None => workspace::build_bt_cli()?,
    };
    namespace::run_suite_inside(flags, &options.words("interop"), &bt_cli)
}

fn required() -> Vec<String> {
    let names = std::env::var(REQUIRED).unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Another program, and its address.
struct Peer {
    program: Box<dyn Program>,
    version: String,
    ip: Ipv4Addr,
}

struct Suite<'a> {
    report: Report,
    ours: Box<dyn Program>,
    options: &'a Options,
}

impl<'a> Suite<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let ours = match options.instead.as_deref() {
            None => Box::new(Ours::new()?),
            Some(name) => match programs().into_iter().find(|program| program.name() == name) {
                Some(program) => program,
                None => bail!("unknown program {name:?}"),
            },
        };
        let report = Report::new(&["program", "version", "direction"]);
        Ok(Self { report, ours, options })
    }

    fn run(mut self) -> Result<Tally> {
        let mut missing = required();
        let mut peers = Vec::new();
        for (index, program) in programs().into_iter().enumerate() {
            let ip = namespace::address_of(index);
            match program.version() {
                Some(version) => {
                    missing.retain(|name| name != program.name());
                    let peer = Peer { program, version, ip };
                    self.exchange(&peer);
                    self.exchange_by_link(&peer);
                    peers.push(peer);
                }
                None => self.report.skip(&[program.name(), "-", "-"], "not installed"),
            }
        }
        if self.options.instead.is_none() {
            discovery::run(&mut self.report, self.ours.as_ref(), &peers, self.options);
        }
        self.announce(&mut missing);
        if self.options.instead.is_none() {
            self.super_seed();
            self.exchange_over_one_connection();
            torrents::run(&mut self.report, &mut missing, self.options.only.as_deref())?;
            if self.wants("libtorrent names") {
                let seed = self.options.seed.unwrap_or_else(fresh_seed);
                names::run(&mut self.report, self.options.folders, seed);
            }
        }
        for name in missing {
            self.report.fail(&[&name, "-", "-"], format!("required by {REQUIRED}"));
        }
        Ok(self.report.finish())
    }

    fn wants(&self, name: &str) -> bool {
        self.options.only.as_deref().is_none_or(|only| name.contains(only))
    }

    /// The other program seeds and we download, then the other way round.
    fn exchange(&mut self, peer: &Peer) {
        let (name, version) = (peer.program.name(), peer.version.as_str());
        if !self.wants(name) {
            return;
        }
        let theirs = Party::new(peer.program.as_ref(), peer.ip);
        let ours = Party::new(self.ours.as_ref(), namespace::OURS);
        let us = self.ours.name();
        for (direction, seeder, leecher, dialler) in [
            (format!("it seeds, {us} downloads"), theirs, ours, Dialler::Leecher),
            (format!("{us} seeds, it downloads"), ours, theirs, Dialler::Leecher),
            (format!("it seeds and dials {us}"), theirs, ours, Dialler::Seeder),
            (format!("{us} seeds and dials it"), ours, theirs, Dialler::Seeder),
        ] {
            let cells = [name, version, direction.as_str()];
            self.report.run(&cells, || transfer::run(seeder, leecher, dialler));
        }
    }

    /// One side has a magnet link only, and gets the metadata from the other one.
    fn exchange_by_link(&mut self, peer: &Peer) {
        let (name, version) = (peer.program.name(), peer.version.as_str());
        if !self.wants(name) && !self.wants("magnet") {
            return;
        }
        let theirs = Party::new(peer.program.as_ref(), peer.ip);
        let ours = Party::new(self.ours.as_ref(), namespace::OURS);
        let us = self.ours.name();
        for (direction, seeder, leecher, hint) in [
            (format!("it seeds, {us} has a link to the tracker"), theirs, ours, Hint::Tracker),
            (format!("it seeds, {us} has a link to it"), theirs, ours, Hint::Peer),
            (format!("{us} seeds, it has a link to the tracker"), ours, theirs, Hint::Tracker),
            (format!("{us} seeds, it has a link to {us}"), ours, theirs, Hint::Peer),
        ] {
            // For the others, it would be one more download by a link.
            if hint == Hint::Peer && !KNOW_PEER_HINTS.contains(&name) {
                continue;
            }
            let cells = [name, version, direction.as_str()];
            self.report.run(&cells, || transfer::by_link(seeder, leecher, hint));
        }
    }

    /// The other program super-seeds, which works only if we announce our pieces (BEP 16).
    fn super_seed(&mut self) {
        let ours = Party::new(self.ours.as_ref(), namespace::OURS);
        for program in [Libtorrent::pypi(), Libtorrent::debian()].map(Libtorrent::super_seeding) {
            let Some(version) = program.version().filter(|_| self.wants(program.name())) else {
                continue;
            };
            let theirs = Party::new(&program, namespace::address_of(0));
            let cells = [program.name(), &version, "it super-seeds, bt-cli downloads"];
            self.report.run(&cells, || transfer::run(theirs, ours, Dialler::Leecher));
        }
    }

    /// Sends so much each way over one connection that a client with many outstanding requests
    /// exceeds the number that we queue.
    fn exchange_over_one_connection(&mut self) {
        let name = Rtorrent.name();
        let Some(version) = Rtorrent.version().filter(|_| self.wants(name)) else { return };
        let ours = Party::new(self.ours.as_ref(), namespace::OURS);
        let theirs = Party::new(&Rtorrent, namespace::address_of(0));
        let mebibytes = self.options.mebibytes.unwrap_or(MEBIBYTES);
        for (direction, seeder, leecher) in
            [("it seeds", theirs, ours), ("bt-cli seeds", ours, theirs)]
        {
            let direction = format!("{direction} {mebibytes} MiB, one connection");
            let cells = [name, &version, &direction];
            self.report.run(&cells, || transfer::over_one_connection(seeder, leecher, mebibytes));
        }
    }

    /// A seeder and a leecher find each other through opentracker.
    fn announce(&mut self, missing: &mut Vec<String>) {
        let name = "opentracker";
        if !self.wants(name) {
            missing.retain(|missing| missing != name);
            return;
        }
        if let Some(obstacle) = Opentracker::obstacle() {
            return self.report.skip(&[name, "-", "-"], obstacle);
        }
        missing.retain(|missing| missing != name);
        let version = Opentracker::version();
        let ours = Party::new(self.ours.as_ref(), namespace::OURS);
        for protocol in ["HTTP", "UDP"] {
            let cells =
                [name, &version, &format!("{} announces over {protocol}", ours.program.name())];
            self.report.run(&cells, || transfer::through_opentracker(ours, protocol));
        }
    }
}

/// Returns every program that takes part in swarms, in the order of the table.
fn programs() -> Vec<Box<dyn Program>> {
    vec![
        Box::new(Transmission),
        Box::new(Aria2),
        Box::new(Libtorrent::pypi()),
        Box::new(Libtorrent::debian()),
        Box::new(Qbittorrent),
        Box::new(Rtorrent),
    ]
}

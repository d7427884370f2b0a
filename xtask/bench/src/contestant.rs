//! The contestants in downloading.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use super::floor::Terms;
use super::payload::Payload;
use e2e::clients::{
    Aria2, Job, Libtorrent, Ours, Program, Qbittorrent, Rqbit, Rtorrent, Transmission, Webtorrent,
    namespace,
};
use tasks::process::{Launch, wait_until};

/// How long a program may take to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(20);

/// A program that downloads.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) ip: Ipv4Addr,
    pub(super) kind: Kind,
}

/// What a contestant is.
pub(super) enum Kind {
    /// A BitTorrent client.
    Client(Box<dyn Program>),
    /// What any client must do with the bytes, or a part of it, from a sender without a protocol.
    Floor(Terms),
    /// The protocol without hashing and writing.
    Transport,
}

/// What a contestant needs for one measurement.
pub(super) struct Trial<'a> {
    pub(super) job: Job<'a>,
    /// The description of the payload.
    pub(super) payload: &'a Path,
}

impl Contestant {
    /// Whether it needs a sender without a protocol instead of seeders.
    pub(super) fn wants_bare_sender(&self) -> bool {
        matches!(self.kind, Kind::Floor(_))
    }

    /// Whether all bytes are in the folder at the end, to be compared.
    pub(super) fn writes(&self) -> bool {
        match self.kind {
            Kind::Client(_) => true,
            Kind::Floor(terms) => terms == Terms::All,
            Kind::Transport => false,
        }
    }

    /// Whether it ends on its own.
    pub(super) fn ends(&self) -> bool {
        match &self.kind {
            Kind::Client(program) => program.ends(),
            _ => true,
        }
    }

    /// Returns the most bytes that its buffers held, if it reports that.
    pub(super) fn buffers_peak(&self, launch: &Launch) -> Option<u64> {
        match &self.kind {
            Kind::Client(program) => program.buffers_peak(launch),
            _ => None,
        }
    }

    /// Starts it; returns when it has the torrent.
    pub(super) fn start(&self, trial: &Trial<'_>) -> Result<Launch> {
        let peers = trial.job.peers.iter().map(SocketAddr::to_string);
        match &self.kind {
            Kind::Client(program) => program.download(&trial.job),
            Kind::Floor(terms) => {
                let mut command = child("floor", trial.payload)?;
                let word = terms.to_possible_value().context("terms without a word")?;
                command.arg(trial.job.folder).args(peers).arg(word.get_name());
                Launch::start(self.name, &command, trial.job.home)
            }
            Kind::Transport => {
                let mut command = child("discard", trial.payload)?;
                Launch::start(self.name, command.args(peers), trial.job.home)
            }
        }
    }
}

/// Starts a program and waits until it listens at `address`.
pub(super) fn start_listening(
    name: &str,
    command: &Command,
    home: &Path,
    address: SocketAddr,
) -> Result<Launch> {
    let launch = Launch::start(name, command, home)?;
    wait_until_it_listens(&launch, address)?;
    Ok(launch)
}

pub(super) fn wait_until_it_listens(launch: &Launch, address: SocketAddr) -> Result<()> {
    let listens = || TcpStream::connect(address).is_ok();
    ensure!(wait_until(LISTEN_LIMIT, listens), "it does not listen\n{}", launch.output_tail());
    Ok(())
}

/// Starts a sender without a protocol and waits until it listens at `address`.
pub(super) fn start_sender(payload: &Payload, home: &Path, address: SocketAddr) -> Result<Launch> {
    let mut command = child("send", &payload.description())?;
    command.arg(payload.folder()).arg(address.to_string());
    start_listening("sender", &command, home, address)
}

/// Returns the command of a part of the benchmarks ([`super::child`]) for a payload.
pub(super) fn child(role: &str, payload: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["child", role]).arg(payload);
    Ok(command)
}

/// Returns the installed contestants, and the names of the others.
pub(super) fn all() -> Result<(Vec<Contestant>, Vec<&'static str>)> {
    let clients: Vec<Box<dyn Program>> = vec![
        Box::new(Ours::new()?),
        Box::new(Libtorrent::pypi()),
        Box::new(Libtorrent::debian()),
        Box::new(Qbittorrent),
        Box::new(Webtorrent),
        Box::new(Rqbit),
        Box::new(Aria2),
        Box::new(Rtorrent),
        Box::new(Transmission),
    ];
    let synced_at_end = Ours::synced_at_end().map(|ours| Box::new(ours) as Box<dyn Program>);
    let clients = clients.into_iter().chain(synced_at_end);
    let (mut there, mut missing) = (our_own(), Vec::new());
    for client in clients {
        match client.version() {
            Some(version) => {
                let ip = namespace::address_of(there.len());
                let (name, kind) = (client.name(), Kind::Client(client));
                there.push(Contestant { name, version, ip, kind });
            }
            None => missing.push(client.name()),
        }
    }
    Ok((there, missing))
}

fn our_own() -> Vec<Contestant> {
    let kinds = [
        ("transport only", Kind::Transport),
        ("floor", Kind::Floor(Terms::All)),
        ("floor: receive", Kind::Floor(Terms::Receive)),
        ("floor: hash", Kind::Floor(Terms::Hash)),
        ("floor: write", Kind::Floor(Terms::Write)),
    ];
    let version = String::new();
    let ip = namespace::OURS;
    let of = |(name, kind)| Contestant { name, version: version.clone(), ip, kind };
    kinds.into_iter().map(of).collect()
}

//! Seeding: the rate of a seeder and its cost, with three kinds of peers. The time is that of the
//! peers; a seeder has verified its data before.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{HttpTracker, SeenAnnounce};

use super::contestant::{self, Contestant, Kind};
use super::floor::Terms;
use super::payload::Payload;
use super::table::{Column, Row, Table};
use super::{MIB, Setup, measure};
use e2e::clients::{Job, Libtorrent, PORT, Program, namespace};
use tasks::meter::{Cost, Meter};
use tasks::process::Launch;

/// How long a seeder may take to verify its data and announce.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the peers may take.
const PEERS_LIMIT: Duration = Duration::from_secs(120);
/// The number of connections, and how many seconds they last.
const MANY: usize = 200;
const SECONDS: u64 = 5;
/// The measured seeders. aria2 disconnects a peer with many outstanding requests.
const SEEDERS: &[&str] = &["bt-cli", "libtorrent", "libtorrent-debian", "rqbit", "transmission"];

/// The shares are those of the connections that received least and most; 1 is an even share.
const COLUMNS: &[Column] = &[
    measure::RATE,
    measure::CPU,
    measure::PEAK,
    Column { name: "peer CPU s/GiB", decimals: 2 },
    Column { name: "least share", decimals: 2 },
    Column { name: "largest share", decimals: 2 },
    Column { name: "MB/s to libtorrent's", decimals: 2 },
    Column { name: "CPU to libtorrent's", decimals: 2 },
];
/// For each of the last columns, the row and the column to which it is the ratio of medians.
const RATIOS: [(&str, usize); 2] = [("libtorrent", 0), ("libtorrent", 1)];

/// The peers of a seeder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peers {
    /// One connection that discards the whole payload, once.
    One,
    /// Many connections that discard it, repeatedly.
    Many,
    /// libtorrent, which downloads it.
    Libtorrent,
}

impl Peers {
    fn key(self) -> &'static str {
        match self {
            Self::One => "seed-discard-1",
            Self::Many => "seed-discard-200",
            Self::Libtorrent => "seed-libtorrent",
        }
    }

    fn title(self, size: u64) -> String {
        let to = match self {
            Self::One => "a peer that discards, 1 connection".to_owned(),
            Self::Many => format!("peers that discard, {MANY} connections, {SECONDS} s"),
            Self::Libtorrent => "a libtorrent downloader".to_owned(),
        };
        format!("seed: {} MiB, pieces of 1024 KiB, to {to}", size / MIB)
    }
}

/// Measures each kind of peers, in a table of its own.
pub(super) fn run(setup: Setup<'_>) -> Result<Vec<Table>> {
    let (payload, tracker) = Payload::one_file(setup)?;
    let (mut contestants, missing) = contestant::all()?;
    contestants.retain(|contestant| seeds(contestant) && setup.options.wants(contestant.name));
    let bench = Bench { setup, payload, tracker, contestants, missing };
    let tables = [Peers::One, Peers::Many, Peers::Libtorrent].map(|peers| {
        let table = bench.run(peers);
        print!("{}", table.text());
        table
    });
    Ok(tables.to_vec())
}

/// Whether a contestant seeds. The floor's receiver represents its sender, which costs least.
fn seeds(contestant: &Contestant) -> bool {
    match contestant.kind {
        Kind::Client(_) => SEEDERS.contains(&contestant.name),
        Kind::Floor(terms) => terms == Terms::Receive,
        Kind::Transport => false,
    }
}

struct Bench<'a> {
    setup: Setup<'a>,
    payload: Payload,
    tracker: HttpTracker,
    contestants: Vec<Contestant>,
    missing: Vec<&'static str>,
}

/// What the peers of one measurement received.
struct Received {
    time: Duration,
    /// Of each connection.
    bytes: Vec<u64>,
    cpu: Duration,
}

impl Bench<'_> {
    fn run(&self, peers: Peers) -> Table {
        let takes_part =
            |contestant: &&Contestant| peers == Peers::One || !contestant.wants_bare_sender();
        let contestants: Vec<&Contestant> = self.contestants.iter().filter(takes_part).collect();
        let mut rows: Vec<Row> = contestants
            .iter()
            .map(|contestant| {
                let bare = contestant.wants_bare_sender();
                let name = if bare { "bare sendfile" } else { contestant.name };
                Row::new(name, &contestant.version, COLUMNS)
            })
            .collect();
        measure::race(self.setup.options, &mut rows, |index| {
            self.measure(contestants[index], peers)
        });
        let missing = self.missing.iter().copied();
        let missing =
            missing.filter(|name| SEEDERS.contains(name) && self.setup.options.wants(name));
        let title = peers.title(self.payload.shape.size);
        Table::new(peers.key(), title, COLUMNS, rows, missing).compared(&RATIOS).sorted()
    }

    fn measure(&self, contestant: &Contestant, peers: Peers) -> Result<Vec<f64>> {
        let home = self.setup.trial_folder.empty("home")?;
        let address = SocketAddr::from((contestant.ip, PORT));
        let seeder = self.start(contestant, &home)?;
        let mut meter = Meter::start(&seeder);
        let got = match (&contestant.kind, peers) {
            (Kind::Floor(_), _) => self.receive(address),
            (_, Peers::One) => self.discard(address, &[]),
            (_, Peers::Many) => {
                let (connections, seconds) = (MANY.to_string(), SECONDS.to_string());
                self.discard(address, &["--connections", &connections, "--seconds", &seconds])
            }
            (_, Peers::Libtorrent) => self.download(address),
        };
        let got = got.with_context(|| seeder.output_tail())?;
        Ok(got.values(meter.cost()))
    }

    /// Starts a seeder and waits until it has announced to the tracker that nothing is left.
    fn start(&self, contestant: &Contestant, home: &std::path::Path) -> Result<Launch> {
        let Kind::Client(program) = &contestant.kind else {
            let address = (contestant.ip, PORT).into();
            return contestant::start_sender(&self.payload, home, address);
        };
        let (torrent, folder) = (self.payload.torrent(), self.payload.folder());
        let job = Job::new(&torrent, &folder, home, contestant.ip);
        let before = self.tracker.announces().len();
        let launch = program.seed(&job)?;
        // Some programs announce from another address of the machine.
        let seeds = |seen: &[SeenAnnounce]| seen.iter().skip(before).any(|seen| seen.left == 0);
        let announced = self.tracker.wait_for(START_LIMIT, seeds);
        ensure!(announced, "it does not announce that it seeds\n{}", launch.output_tail());
        Ok(launch)
    }

    fn discard(&self, address: SocketAddr, more: &[&str]) -> Result<Received> {
        let mut command = contestant::child("discard", &self.payload.description())?;
        command.args(more).arg(address.to_string());
        let home = self.setup.trial_folder.empty("peers")?;
        let mut launch = Launch::start("peers", &command, &home)?;
        let (_, cost) = self.follow(&mut launch)?;
        let said: Value = serde_json::from_str(&launch.stdout())?;
        let bytes = said["bytes"].as_array().context("no bytes")?;
        let seconds = said["seconds"].as_f64().context("no seconds")?;
        Ok(Received {
            time: Duration::from_secs_f64(seconds),
            bytes: bytes.iter().filter_map(Value::as_u64).collect(),
            cpu: cost.cpu,
        })
    }

    fn receive(&self, address: SocketAddr) -> Result<Received> {
        let mut command = contestant::child("floor", &self.payload.description())?;
        let home = self.setup.trial_folder.empty("peers")?;
        command.arg(&home).arg(address.to_string()).arg("receive");
        let mut launch = Launch::start("peers", &command, &home)?;
        let (time, cost) = self.follow(&mut launch)?;
        Ok(self.all(time, cost))
    }

    fn download(&self, address: SocketAddr) -> Result<Received> {
        let (home, folder) =
            (self.setup.trial_folder.empty("peers")?, self.setup.trial_folder.empty("downloads")?);
        self.setup.trial_folder.warm_up_memory(self.payload.shape.size)?;
        let torrent = self.payload.torrent();
        let ip = namespace::seeder_address(0);
        let job = Job { peers: &[address], ..Job::new(&torrent, &folder, &home, ip) };
        let mut launch = Libtorrent::newest()?.download(&job)?;
        let (time, cost) = measure::follow(&mut launch, || job.done().exists(), true)?;
        self.payload.compare(&folder)?;
        self.setup.trial_folder.empty("downloads")?;
        Ok(self.all(time, cost))
    }

    fn follow(&self, launch: &mut Launch) -> Result<(Duration, Cost)> {
        let (time, cost) = measure::follow(launch, || false, true)?;
        ensure!(time < PEERS_LIMIT, "the peers took {time:?}");
        Ok((time, cost))
    }

    /// The whole payload over one connection.
    fn all(&self, time: Duration, cost: Cost) -> Received {
        Received { time, bytes: vec![self.payload.shape.size], cpu: cost.cpu }
    }
}

impl Received {
    /// Returns the measured columns, for a seeder with this cost.
    fn values(&self, cost: Cost) -> Vec<f64> {
        let total: u64 = self.bytes.iter().sum();
        let even = total as f64 / self.bytes.len() as f64;
        let share = |bytes: Option<&u64>| bytes.map_or(0.0, |bytes| *bytes as f64 / even);
        let mut values = measure::values(total, self.time, cost);
        values.push(measure::per_gib(self.cpu, total));
        values.push(share(self.bytes.iter().min()));
        values.push(share(self.bytes.iter().max()));
        values
    }
}

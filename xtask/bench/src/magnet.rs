//! Magnet links: how soon the first byte of payload is sent, and how fast long metadata comes.
//!
//! The peers are other processes at addresses of their own, which a tracker names. The first time is
//! from when a program has the link. Programs with the link in their arguments have it from their
//! start, and the others when they have started. The second time is from a program's first announce.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::{Answer, HttpTracker, SeenAnnounce, Tracker};

use super::contestant::{self, Contestant, Kind, Trial};
use super::payload::{Description, Payload, Shape};
use super::table::{Column, Row, Table};
use super::{MB, MIB, Setup, measure};
use e2e::clients::{Job, Libtorrent, Ours, PORT, Program, namespace};
use tasks::process::Launch;

/// How many times each contestant is measured at least.
const ROUNDS: usize = 5;
/// The measured programs by default.
const CONTESTANTS: [&str; 5] =
    ["bt-cli", "libtorrent", "libtorrent-debian", "qbittorrent", "aria2"];
/// An event of bt-cli.
const RECEIVED: &str = "metadata_received";
/// How long the seeders may take to start.
const SEED_LIMIT: Duration = Duration::from_secs(120);
/// How long a program may take to announce.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(60);
/// The length of a piece's hash in the metadata.
const HASH_LENGTH: u64 = 20;

const FIRST: &[Column] = &[
    Column { name: "ms to the first byte", decimals: 0 },
    Column { name: "ms after the announce", decimals: 0 },
    Column { name: "CPU ms", decimals: 0 },
    Column { name: "peak MiB", decimals: 0 },
    Column { name: "first to libtorrent's", decimals: 2 },
    Column { name: "second to libtorrent's", decimals: 2 },
];
const LONG: &[Column] = &[
    Column { name: "MB/s", decimals: 1 },
    Column { name: "ms", decimals: 0 },
    Column { name: "CPU ms", decimals: 0 },
    Column { name: "peak MiB", decimals: 0 },
];

/// Measures both.
pub(super) fn run(setup: Setup<'_>) -> Result<Vec<Table>> {
    let tables = [first_byte(setup)?, long_metadata(setup)?];
    tables.iter().for_each(|table| print!("{}", table.text()));
    Ok(tables.into())
}

/// A torrent that is known by a link.
struct Linked {
    payload: Payload,
    /// How many bytes of its metadata are hashes. The rest is short.
    metadata: u64,
    link: PathBuf,
    seeders: Vec<SocketAddr>,
    tracker: HttpTracker,
}

impl Linked {
    /// Creates a torrent with so many MiB of metadata, and a tracker that names so many seeders.
    fn new(setup: Setup<'_>, mebibytes: u64, piece_length: u64, seeders: usize) -> Result<Self> {
        let metadata = mebibytes * MIB;
        let pieces = metadata / HASH_LENGTH;
        let shape = Shape { size: pieces * piece_length, files: 1, piece_length };
        let tracker = HttpTracker::bind((namespace::TRACKER, 0).into(), Tracker::new())?;
        let at = |index| SocketAddr::from((namespace::numbered_address(index), PORT));
        let seeders: Vec<SocketAddr> = (0..seeders).map(at).collect();
        tracker.answer(Answer::Peers(seeders.clone()));
        let root = setup.trial_folder.empty("payload")?;
        let payload = Payload::zeros("payload", shape, &tracker.url(), &root)?;
        let hash = Description::read(&payload.description())?.info_hash;
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let link = format!("magnet:?xt=urn:btih:{hash}&tr={}", tracker.url()).into();
        Ok(Self { payload, metadata, link, seeders, tracker })
    }

    /// Starts the seeders, and waits until they have announced that they have everything. Returns
    /// them with their folders.
    fn seed(
        &self,
        setup: Setup<'_>,
        start: impl Fn(&Job<'_>) -> Result<Launch>,
    ) -> Result<Vec<(Launch, PathBuf)>> {
        let (torrent, folder) = (self.payload.torrent(), self.payload.folder());
        let seed = |index: usize| {
            let home = setup.trial_folder.empty(&format!("seeder-{index}"))?;
            let ip = namespace::numbered_address(index);
            let job = Job::new(&torrent, &folder, &home, ip);
            Ok((start(&job)?, home))
        };
        let before = self.tracker.announces().len();
        let started: Vec<_> = (0..self.seeders.len()).map(seed).collect::<Result<_>>()?;
        let are_ready = self.tracker.wait_for(SEED_LIMIT, |seen| {
            let new = seen.get(before..).unwrap_or_default();
            let seeds = |ip| new.iter().any(|each| each.from.ip() == ip && each.left == 0);
            self.seeders.iter().all(|seeder| seeds(seeder.ip()))
        });
        ensure!(are_ready, "the seeders do not announce");
        Ok(started)
    }
}

/// From the link to the first byte of payload that a seeder sends.
fn first_byte(setup: Setup<'_>) -> Result<Table> {
    let linked = Linked::new(setup, 1, 16 * 1024, 5)?;
    let (mut contestants, mut missing) = contestant::all()?;
    let is_in = |name: &str| match setup.options.only.is_empty() {
        true => CONTESTANTS.contains(&name),
        false => setup.options.wants(name),
    };
    contestants
        .retain(|contestant| matches!(contestant.kind, Kind::Client(_)) && is_in(contestant.name));
    missing.retain(|name| is_in(name));
    let row = |contestant: &Contestant| Row::new(contestant.name, &contestant.version, FIRST);
    let mut rows: Vec<Row> = contestants.iter().map(row).collect();
    let rounds = setup.options.rounds.max(ROUNDS);
    measure::race_for(rounds, "ms", &mut rows, |index| {
        measure_first(setup, &linked, &contestants[index])
    });
    let title = "magnet: from the link to the first byte of payload, 1 MiB of metadata, 5 seeders";
    let table = Table::new("magnet-first", title.to_owned(), FIRST, rows, missing);
    Ok(table.compared(&[("libtorrent", 0), ("libtorrent", 1)]))
}

fn measure_first(setup: Setup<'_>, linked: &Linked, contestant: &Contestant) -> Result<Vec<f64>> {
    let libtorrent = Libtorrent::newest()?;
    let seeders = linked.seed(setup, |job| libtorrent.seed_reporting(job))?;
    let (folder, home) =
        (setup.trial_folder.empty("downloads")?, setup.trial_folder.empty("home")?);
    let (torrent, ip) = (&*linked.link, contestant.ip);
    let job = Job::new(torrent, &folder, &home, ip);
    let description = linked.payload.description();
    let before = linked.tracker.announces().len();
    let announces = |seen: &[SeenAnnounce]| {
        let new = seen.get(before..).unwrap_or_default();
        new.iter().any(|each| each.from.ip() == ip)
    };
    std::thread::scope(|scope| {
        let announced = scope.spawn(|| {
            let there = linked.tracker.wait_for(ANNOUNCE_LIMIT, announces);
            there.then(Instant::now)
        });
        let mut launch = contestant.start(&Trial { job, payload: &description })?;
        let uploaded = || seeders.iter().any(|(_, home)| home.join("uploaded").exists());
        let (time, cost) = measure::follow(&mut launch, uploaded, false)?;
        let end = Instant::now();
        let announced = announced.join().ok().flatten().context("it did not announce")?;
        let peak = cost.peak as f64 / MIB as f64;
        let after = end.saturating_duration_since(announced);
        Ok(vec![milliseconds(time), milliseconds(after), milliseconds(cost.cpu), peak])
    })
}

/// 16 MiB of metadata from 16 peers.
fn long_metadata(setup: Setup<'_>) -> Result<Table> {
    let linked = Linked::new(setup, 16, 16, 16)?;
    let ours = Ours::new()?;
    // Seeders verify a million tiny pieces, side by side.
    let _seeders = linked.seed(setup, |job| ours.seed(job))?;
    let version = ours.version().context("no version")?;
    let mut rows = vec![Row::new(ours.name(), &version, LONG)];
    let rounds = setup.options.rounds.max(ROUNDS);
    measure::race_for(rounds, "MB/s", &mut rows, |_| measure_long(setup, &linked, &ours));
    let title = "magnet: 16 MiB of metadata from 16 seeders, until it is checked and kept";
    Ok(Table::new("magnet-long", title.to_owned(), LONG, rows, [""; 0]))
}

fn measure_long(setup: Setup<'_>, linked: &Linked, ours: &Ours) -> Result<Vec<f64>> {
    let (folder, home) =
        (setup.trial_folder.empty("downloads")?, setup.trial_folder.empty("home")?);
    let ip = namespace::OURS;
    let job = Job::new(&linked.link, &folder, &home, ip);
    let mut launch = ours.download(&job)?;
    let output = home.join(format!("{}.out", ours.name()));
    let is_there = || fs::read_to_string(&output).is_ok_and(|said| has_event(&said, RECEIVED));
    let (time, cost) = measure::follow(&mut launch, is_there, false)?;
    let rate = linked.metadata as f64 / MB / time.as_secs_f64();
    let peak = cost.peak as f64 / MIB as f64;
    Ok(vec![rate, milliseconds(time), milliseconds(cost.cpu), peak])
}

fn has_event(said: &str, event: &str) -> bool {
    said.contains(&format!(r#""event":"{event}""#))
}

fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

//! Downloading: every client from the same seeders, one after another.
//!
//! The time is from when a program has the torrent (for programs with the torrent in their
//! arguments: from their start) until it reports that it is complete, by ending or by running a
//! command. CPU time is counted over the same time, and to the end of programs that end.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::syncfs;
use testkit::HttpTracker;

use super::contestant::{self, Contestant, Trial};
use super::payload::{Payload, Shape};
use super::table::{Column, Row, Table};
use super::trial_folder::TrialFolder;
use super::{MIB, Options, Setup, measure};
use e2e::clients::{Job, Libtorrent, PORT, namespace};
use tasks::meter::Meter;
use tasks::process::Launch;

const COLUMNS: &[Column] = &[
    measure::RATE,
    measure::CPU,
    measure::PEAK,
    Column { name: "seeder CPU s/GiB", decimals: 2 },
    Column { name: "buffers MiB", decimals: 1 },
    Column { name: "MB/s to libtorrent's", decimals: 2 },
    Column { name: "CPU to libtorrent's", decimals: 2 },
    Column { name: "CPU to the floor's", decimals: 2 },
];
/// For each of the last columns, the row and the column to which it is the ratio of medians.
const RATIOS: [(&str, usize); 3] = [("libtorrent", 0), ("libtorrent", 1), ("floor", 1)];

/// What is downloaded, and from how many seeders.
struct Scenario {
    key: &'static str,
    shape: Shape,
    seeders: usize,
}

impl Scenario {
    fn title(&self) -> String {
        let Shape { size, files, piece_length } = self.shape;
        let files = if files == 1 { String::new() } else { format!(" in {files} files") };
        let seeders = match self.seeders {
            1 => "1 seeder".to_owned(),
            more => format!("{more} seeders"),
        };
        format!(
            "download: {} MiB{files}, pieces of {} KiB, {seeders}",
            size / MIB,
            piece_length / 1024
        )
    }
}

/// Measures each scenario, in a table of its own.
pub(super) fn run(setup: Setup<'_>) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for scenario in scenarios(setup.options) {
        let table = Bench::new(setup, scenario)?.run();
        print!("{}", table.text());
        tables.push(table);
    }
    Ok(tables)
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    let size = options.size.unwrap_or(2048) * MIB;
    let one = |piece_length| Shape { size, files: 1, piece_length };
    let small = Shape { size: size / 4, files: 5000, piece_length: 256 * 1024 };
    let all = vec![
        Scenario { key: "download-1m-1", shape: one(MIB), seeders: 1 },
        Scenario { key: "download-1m-4", shape: one(MIB), seeders: 4 },
        Scenario { key: "download-256k-1", shape: one(256 * 1024), seeders: 1 },
        Scenario { key: "download-256k-4", shape: one(256 * 1024), seeders: 4 },
        Scenario { key: "download-files-1", shape: small, seeders: 1 },
    ];
    if options.piece_length.is_none() && options.seeders.is_none() && options.files.is_none() {
        return all;
    }
    let shape = Shape {
        size,
        files: options.files.unwrap_or(1),
        piece_length: options.piece_length.unwrap_or(1024) * 1024,
    };
    vec![Scenario { key: "download", shape, seeders: options.seeders.unwrap_or(1) }]
}

/// A scenario with its payload and contestants.
struct Bench<'a> {
    setup: Setup<'a>,
    /// The folder of downloads, if it is on a disk. Then the time includes a sync of its file
    /// system.
    disk: Option<TrialFolder>,
    scenario: Scenario,
    payload: Payload,
    contestants: Vec<Contestant>,
    missing: Vec<&'static str>,
    seeders: Vec<SocketAddr>,
    _tracker: HttpTracker,
}

impl<'a> Bench<'a> {
    fn new(setup: Setup<'a>, scenario: Scenario) -> Result<Self> {
        let address = |index| SocketAddr::from((namespace::seeder_address(index), PORT));
        let seeders: Vec<SocketAddr> = (0..scenario.seeders).map(address).collect();
        let (payload, tracker) = Payload::of_seeders(&seeders, scenario.shape, setup)?;
        let (mut contestants, missing) = contestant::all()?;
        contestants.retain(|contestant| setup.options.wants(contestant.name));
        ensure!(!contestants.is_empty(), "no contestant to measure");
        let disk =
            setup.options.disk.as_deref().map(|disk| TrialFolder::new(Some(disk))).transpose()?;
        Ok(Self {
            disk,
            setup,
            scenario,
            payload,
            contestants,
            missing,
            seeders,
            _tracker: tracker,
        })
    }

    fn run(&self) -> Table {
        let row = |contestant: &Contestant| Row::new(contestant.name, &contestant.version, COLUMNS);
        let mut rows: Vec<Row> = self.contestants.iter().map(row).collect();
        measure::race(self.setup.options, &mut rows, |index| {
            self.measure(&self.contestants[index])
        });
        let missing = self.missing.iter().copied().filter(|name| self.setup.options.wants(name));
        Table::new(self.scenario.key, self.title(), COLUMNS, rows, missing)
            .compared(&RATIOS)
            .sorted()
    }

    /// Syncs the disk, if there is one, and returns how long that took.
    fn sync(&self, folder: &Path) -> Result<Duration> {
        let start = Instant::now();
        if self.disk.is_some() {
            syncfs(File::open(folder)?)?;
            return Ok(start.elapsed());
        }
        Ok(Duration::ZERO)
    }

    fn title(&self) -> String {
        let disk = if self.disk.is_some() { ", to a disk, synced" } else { "" };
        self.scenario.title() + disk
    }

    /// Measures one contestant once: the values of the measured columns.
    fn measure(&self, contestant: &Contestant) -> Result<Vec<f64>> {
        let downloads = self.disk.as_ref().unwrap_or(self.setup.trial_folder);
        let (folder, home) =
            (downloads.empty("downloads")?, self.setup.trial_folder.empty("home")?);
        self.setup.trial_folder.warm_up_memory(self.payload.shape.size)?;
        self.sync(&folder)?;
        let bare = contestant.wants_bare_sender();
        let seeders = Seeders::start(&self.payload, &self.seeders, bare, self.setup.trial_folder)?;
        let peers = if bare { &self.seeders[..1] } else { &self.seeders[..] };
        let torrent = self.payload.torrent();
        let job = Job { peers, ..Job::new(&torrent, &folder, &home, contestant.ip) };
        let description = self.payload.description();
        let mut launch = contestant.start(&Trial { job, payload: &description })?;
        let (time, cost) = measure::follow(&mut launch, || job.done().exists(), contestant.ends())?;
        let time = time + self.sync(&folder)?;
        let (seeding, buffers) = (seeders.cpu(), contestant.buffers_peak(&launch));
        drop(launch);
        if contestant.writes() {
            self.payload.compare(&folder).context("wrong bytes")?;
        }
        let size = self.payload.shape.size;
        let mut values = measure::values(size, time, cost);
        values.push(measure::per_gib(seeding, size));
        // Last, because most programs do not report it.
        values.extend(buffers.map(|bytes| bytes as f64 / MIB as f64));
        Ok(values)
    }
}

/// The seeders of one measurement. They are started for each, so that none affects the next.
struct Seeders(Vec<(Launch, Meter)>);

impl Seeders {
    /// Starts a libtorrent for each address, or a sender without a protocol at the first.
    fn start(
        payload: &Payload,
        at: &[SocketAddr],
        bare: bool,
        trial_folder: &TrialFolder,
    ) -> Result<Self> {
        let started = if bare {
            vec![contestant::start_sender(payload, &trial_folder.empty("seeder")?, at[0])?]
        } else {
            Self::start_libtorrents(payload, at, trial_folder)?
        };
        let meter = |launch| {
            let meter = Meter::start(&launch);
            (launch, meter)
        };
        Ok(Self(started.into_iter().map(meter).collect()))
    }

    /// Starts all before it waits for any.
    fn start_libtorrents(
        payload: &Payload,
        at: &[SocketAddr],
        trial_folder: &TrialFolder,
    ) -> Result<Vec<Launch>> {
        let (torrent, folder) = (payload.torrent(), payload.folder());
        let start = |index| {
            let home = trial_folder.empty(&format!("seeder-{index}"))?;
            let (torrent, folder, home) = (&torrent, &folder, &home);
            let ip = namespace::seeder_address(index);
            Libtorrent::newest()?.seed_unchecked(&Job::new(torrent, folder, home, ip))
        };
        let started = (0..at.len()).map(start).collect::<Result<Vec<_>>>()?;
        for (launch, address) in started.iter().zip(at) {
            contestant::wait_until_it_listens(launch, *address)?;
        }
        Ok(started)
    }

    /// Returns the CPU time since they listen.
    fn cpu(mut self) -> Duration {
        self.0.iter_mut().map(|(_, meter)| meter.cost().cpu).sum()
    }
}

//! Downloading from a swarm: many seeders, each behind a line with a rate and a delay. The share is
//! the part of the seeders' total rate that the download used.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::HttpTracker;

use super::contestant::{self, Contestant, Kind, Trial};
use super::payload::{Payload, Shape};
use super::table::{Column, Row, Table};
use super::{MIB, Options, Setup, measure, serve};
use e2e::clients::{Job, namespace};
use tasks::process::Launch;

/// The measured programs by default: the others take minutes.
const CONTESTANTS: [&str; 5] = ["bt-cli", "libtorrent", "libtorrent-debian", "rqbit", "aria2"];
const COLUMNS: &[Column] = &[
    measure::RATE,
    measure::CPU,
    measure::PEAK,
    Column { name: "share %", decimals: 1 },
    Column { name: "buffers MiB", decimals: 1 },
];

/// A swarm.
struct Scenario {
    key: &'static str,
    shape: Shape,
    peers: usize,
    /// The rates of the peers in KB/s. The peers take them in turn.
    rates: Vec<u64>,
    /// The round-trip time, in milliseconds.
    rtt: u64,
}

impl Scenario {
    fn title(&self) -> String {
        let rates: Vec<String> = self.rates.iter().map(ToString::to_string).collect();
        format!(
            "swarm: {} MiB, pieces of {} KiB, {} seeders of {} KB/s, RTT {} ms",
            self.shape.size / MIB,
            self.shape.piece_length / 1024,
            self.peers,
            rates.join(", "),
            self.rtt,
        )
    }

    /// Returns how long the download takes if every peer always sends at its rate.
    fn ideal(&self) -> Duration {
        let each = (0..self.peers).map(|peer| self.rates[peer % self.rates.len()] * 1000);
        Duration::from_secs_f64(self.shape.size as f64 / each.sum::<u64>() as f64)
    }
}

/// Measures each swarm, in a table of its own.
pub(super) fn run(setup: Setup<'_>) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for scenario in scenarios(setup.options)? {
        let table = Bench::new(setup, scenario)?.run();
        print!("{}", table.text());
        tables.push(table);
    }
    Ok(tables)
}

fn scenarios(options: &Options) -> Result<Vec<Scenario>> {
    let shape = |mebibytes, piece_length| Shape {
        size: options.size.unwrap_or(mebibytes) * MIB,
        files: 1,
        piece_length: options.piece_length.map_or(piece_length, |kib| kib * 1024),
    };
    let scenario = |key, peers, rates: &[u64], rtt, shape| Scenario {
        key,
        shape,
        peers,
        rates: rates.to_vec(),
        rtt,
    };
    let all = vec![
        scenario("swarm-20", 20, &[2000], 80, shape(256, MIB)),
        scenario("swarm-40", 40, &[100, 300, 1000, 3000], 150, shape(192, MIB)),
        scenario("swarm-80", 80, &[50, 100, 300, 1000], 120, shape(512, 4 * MIB)),
    ];
    if options.peers.is_none() && options.rates.is_empty() && options.rtt.is_none() {
        return Ok(all);
    }
    let rates = if options.rates.is_empty() { vec![1000] } else { options.rates.clone() };
    let (peers, rtt) = (options.peers.unwrap_or(40), options.rtt.unwrap_or(100));
    ensure!(peers > 0 && rates.iter().all(|rate| *rate > 0), "a swarm needs peers that send");
    Ok(vec![Scenario { key: "swarm", shape: shape(256, MIB), peers, rates, rtt }])
}

struct Bench<'a> {
    setup: Setup<'a>,
    scenario: Scenario,
    payload: Payload,
    contestants: Vec<Contestant>,
    missing: Vec<&'static str>,
    seeders: Vec<SocketAddr>,
    _tracker: HttpTracker,
}

impl<'a> Bench<'a> {
    fn new(setup: Setup<'a>, scenario: Scenario) -> Result<Self> {
        let at = |index| SocketAddr::from((namespace::numbered_address(index), serve::PORT));
        let seeders: Vec<SocketAddr> = (0..scenario.peers).map(at).collect();
        let (payload, tracker) = Payload::of_seeders(&seeders, scenario.shape, setup)?;
        let (mut contestants, mut missing) = contestant::all()?;
        let is_in = |name: &str| match setup.options.only.is_empty() {
            true => CONTESTANTS.contains(&name),
            false => setup.options.wants(name),
        };
        contestants.retain(|contestant| {
            matches!(contestant.kind, Kind::Client(_)) && is_in(contestant.name)
        });
        missing.retain(|name| is_in(name));
        ensure!(!contestants.is_empty(), "no contestant to measure");
        Ok(Self { setup, scenario, payload, contestants, missing, seeders, _tracker: tracker })
    }

    fn run(&self) -> Table {
        let row = |contestant: &Contestant| Row::new(contestant.name, &contestant.version, COLUMNS);
        let mut rows: Vec<Row> = self.contestants.iter().map(row).collect();
        measure::race(self.setup.options, &mut rows, |index| {
            self.measure(&self.contestants[index])
        });
        let missing = self.missing.iter().copied();
        Table::new(self.scenario.key, self.scenario.title(), COLUMNS, rows, missing).sorted()
    }

    /// Measures one contestant once: the values of the columns.
    fn measure(&self, contestant: &Contestant) -> Result<Vec<f64>> {
        let (folder, home) =
            (self.setup.trial_folder.empty("downloads")?, self.setup.trial_folder.empty("home")?);
        self.setup.trial_folder.warm_up_memory(self.payload.shape.size)?;
        let mut server = self.serve()?;
        let torrent = self.payload.torrent();
        let (ip, peers) = (contestant.ip, &self.seeders[..]);
        let job = Job { peers, ..Job::new(&torrent, &folder, &home, ip) };
        let description = self.payload.description();
        let mut launch = contestant.start(&Trial { job, payload: &description })?;
        let (time, cost) = measure::follow(&mut launch, || job.done().exists(), contestant.ends())?;
        let buffers = contestant.buffers_peak(&launch);
        drop(launch);
        server.stop();
        self.payload.compare(&folder).context("wrong bytes")?;
        let mut values = measure::values(self.payload.shape.size, time, cost);
        values.push(100.0 * self.scenario.ideal().as_secs_f64() / time.as_secs_f64());
        values.extend(buffers.map(|bytes| bytes as f64 / MIB as f64));
        Ok(values)
    }

    fn serve(&self) -> Result<Launch> {
        let rates: Vec<String> = self.scenario.rates.iter().map(ToString::to_string).collect();
        let mut command = contestant::child("serve-over", self.payload.root())?;
        command.args(["--rates", &rates.join(","), "--rtt", &self.scenario.rtt.to_string()]);
        contestant::start_listening(
            "server",
            &command,
            &self.setup.trial_folder.empty("server")?,
            self.seeders[0],
        )
    }
}

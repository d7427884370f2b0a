//! How the cost of a download grows with peers, torrents, files and size. The peers are ours,
//! because they cost less than others ([`super::serve`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::{Answer, HttpTracker, Tracker};

use super::payload::{Payload, Shape};
use super::table::{Column, Figure, Row, Table};
use super::{GIB, MIB, Options, Setup, contestant, measure, serve};
use e2e::clients::{Job, Libtorrent, Ours, Program as _, namespace};
use tasks::meter::Meter;
use tasks::process::{Launch, wait_until, wait_until_every};

/// How long the first request may take.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often we check whether the first request came.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

const COLUMNS: &[Column] = &[
    measure::RATE,
    measure::CPU,
    measure::PEAK,
    Column { name: "first request ms", decimals: 0 },
    Column { name: "CPU to 1 peer's", decimals: 2 },
];
/// The column of ratios; each program is compared with itself.
const RATIO: usize = 4;

/// A step of growth.
struct Case {
    name: String,
    shape: Shape,
    /// The number of torrents that share the size.
    torrents: u64,
    peers: usize,
    /// Whether the payload is all zeros. Then only [`ENOUGH`] of it is transferred.
    zeros: bool,
    program: Program,
}

/// How much of a torrent of zeros is transferred, in bytes.
const ENOUGH: u64 = GIB / 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Libtorrent,
}

/// Measures all cases.
pub(super) fn run(setup: Setup<'_>) -> Result<Vec<Table>> {
    let bench = Bench { setup };
    let cases = cases(setup.options);
    let versions = [Ours::new()?.version(), Libtorrent::pypi().version()];
    let version = |case: &Case| versions[usize::from(case.program == Program::Libtorrent)].clone();
    let (cases, skipped): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| version(case).is_some());
    let row = |case: &Case| Row::new(&case.name, &version(case).unwrap_or_default(), COLUMNS);
    let mut rows: Vec<Row> = cases.iter().map(row).collect();
    measure::race(setup.options, &mut rows, |index| bench.measure(&cases[index]));
    let (mut ours, mut theirs): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.name.starts_with("bt-cli"));
    Figure::compare(&mut ours, "bt-cli: 1 peer", 1, RATIO);
    Figure::compare(&mut theirs, "libtorrent: 1 peer", 1, RATIO);
    ours.append(&mut theirs);
    let title = "scale: how the cost of a download grows, pieces of 1024 KiB".to_owned();
    let table =
        Table::new("scale", title, COLUMNS, ours, skipped.into_iter().map(|case| case.name));
    print!("{}", table.text());
    Ok(vec![table])
}

fn cases(options: &Options) -> Vec<Case> {
    let size = options.size.unwrap_or(1024) * MIB;
    let one = Shape { size, files: 1, piece_length: MIB };
    let many = Shape { files: 5000, ..one };
    let [small, large] = [GIB, 64 * GIB].map(|size| Shape { size, ..one });
    let mut cases = Vec::new();
    for (program, name) in [(Program::Ours, "bt-cli"), (Program::Libtorrent, "libtorrent")] {
        let case = |what: &str, shape, torrents, peers, zeros| {
            let name = format!("{name}: {what}");
            Case { name, shape, torrents, peers, zeros, program }
        };
        for peers in [1, 4, 20, 200] {
            let what = if peers == 1 { "1 peer".to_owned() } else { format!("{peers} peers") };
            cases.push(case(&what, one, 1, peers, false));
        }
        cases.push(case("5000 files", many, 1, 1, false));
        cases.push(case("1 GiB of zeros", small, 1, 1, true));
        cases.push(case("64 GiB of zeros", large, 1, 1, true));
        if program == Program::Ours {
            cases.push(case("100 torrents", one, 100, 4, false));
        }
    }
    cases.retain(|case| options.only.is_empty() || options.wants(&case.name));
    cases
}

struct Bench<'a> {
    setup: Setup<'a>,
}

impl Bench<'_> {
    fn measure(&self, case: &Case) -> Result<Vec<f64>> {
        let tracker = HttpTracker::bind((namespace::TRACKER, 0).into(), Tracker::new())?;
        let at = |index| SocketAddr::from((namespace::numbered_address(index), serve::PORT));
        let peers: Vec<SocketAddr> = (0..case.peers).map(at).collect();
        tracker.answer(Answer::Peers(peers.clone()));
        let payloads = self.payloads(case, &tracker.url())?;
        let (folder, home) =
            (self.setup.trial_folder.empty("downloads")?, self.setup.trial_folder.empty("home")?);
        let size = if case.zeros { ENOUGH } else { case.shape.size };
        self.setup.trial_folder.warm_up_memory(size)?;

        let requested = self.setup.trial_folder.path().join("requested");
        let mut server = self.serve(case, &payloads, &requested)?;
        let ip = namespace::OURS;
        let torrent = payloads[0].torrent();
        let job = Job { peers: &peers, ..Job::new(&torrent, &folder, &home, ip) };
        let mut launch = match case.program {
            Program::Ours => self.start_ours(&payloads, &job)?,
            Program::Libtorrent => Libtorrent::pypi().download(&job)?,
        };
        let (start, mut meter) = (Instant::now(), Meter::start(&launch));
        let ready = wait_until_every(CHECK_INTERVAL, START_LIMIT, || {
            requested.exists() || launch.has_ended()
        });
        ensure!(ready && requested.exists(), "nothing was requested\n{}", launch.output_tail());
        let first = start.elapsed();
        let (time, cost) = if case.zeros {
            wait_for_enough(&mut server, &launch, &mut meter)?;
            (start.elapsed(), meter.cost())
        } else {
            let (rest, cost) =
                measure::follow_with(&mut launch, meter, || job.done().exists(), true)?;
            (first + rest, cost)
        };
        server.stop();
        launch.stop();
        if !case.zeros {
            payloads.iter().try_for_each(|payload| payload.compare(&folder))?;
        }
        self.setup.trial_folder.empty("downloads")?;
        let mut values = measure::values(size, time, cost);
        values.push(first.as_secs_f64() * 1000.0);
        Ok(values)
    }

    fn payloads(&self, case: &Case, url: &str) -> Result<Vec<Payload>> {
        let root = self.setup.trial_folder.empty("payload")?;
        let each = Shape { size: case.shape.size / case.torrents, ..case.shape };
        let create = |index: u64| {
            let (name, root) = (format!("payload-{index}"), root.join(index.to_string()));
            if case.zeros {
                Payload::zeros(&name, each, url, &root)
            } else {
                Payload::create(&name, each, url, &root, self.setup.bt_cli)
            }
        };
        (0..case.torrents).map(create).collect()
    }

    fn serve(&self, case: &Case, payloads: &[Payload], requested: &PathBuf) -> Result<Launch> {
        let _none_yet = std::fs::remove_file(requested);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "serve"]).arg(requested);
        command.args(payloads.iter().map(Payload::root));
        if case.zeros {
            command.arg(format!("--limit={ENOUGH}"));
        }
        let home = self.setup.trial_folder.empty("server")?;
        let address = (namespace::numbered_address(0), serve::PORT).into();
        contestant::start_listening("server", &command, &home, address)
    }

    fn start_ours(&self, payloads: &[Payload], job: &Job<'_>) -> Result<Launch> {
        let mut command = Ours::new()?.command("download", job);
        // The first torrent is in the job.
        command.args(payloads.iter().skip(1).map(Payload::torrent));
        Launch::start("bt-cli", &command, job.home)
    }
}

/// Waits until the server has sent [`ENOUGH`], and then ends; nothing else counts.
fn wait_for_enough(server: &mut Launch, client: &Launch, meter: &mut Meter) -> Result<()> {
    wait_until(measure::TRIAL_LIMIT, || {
        meter.sample();
        server.has_ended() || client.has_ended()
    });
    ensure!(server.has_ended(), "not enough was requested\n{}", client.output_tail());
    let code = server.exit_code(Duration::ZERO)?;
    ensure!(code == 0, "the server failed\n{}", server.output_tail());
    Ok(())
}

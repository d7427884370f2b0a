//! Verifying data that is in memory, and creating a torrent of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use testkit::HttpTracker;

use super::payload::Payload;
use super::table::{Column, Row, Table};
use super::{MIB, Setup, contestant, measure};
use e2e::clients::{
    Aria2, Job, Libtorrent, Ours, Program as _, Rqbit, Transmission, namespace, version_in,
};
use tasks::process::{Launch, find_program, output_of};

/// The piece length of the torrents, as a power of two.
const PIECE_LENGTH_LOG: &str = "20";

const COLUMNS: &[Column] = &[
    measure::RATE,
    measure::CPU,
    measure::PEAK,
    Column { name: "MB/s to libtorrent's", decimals: 2 },
    Column { name: "MB/s to the floor's", decimals: 2 },
];
/// For each of the last columns, the row and the column to which it is the ratio of medians.
const RATIOS: [(&str, usize); 2] = [("libtorrent", 0), ("floor", 0)];

/// A program that hashes data.
struct Tool {
    name: String,
    version: Option<String>,
    start: Start,
    done: Done,
}

/// Starts a tool; returns when it has its arguments.
type Start = Box<dyn Fn(&Bench<'_>) -> Result<Launch>>;

/// How a program reports that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// It ends.
    Ends,
    /// It announces to the tracker that nothing is left, and does not end.
    Announces,
}

struct Bench<'a> {
    setup: Setup<'a>,
    payload: Payload,
    tracker: HttpTracker,
    home: PathBuf,
}

/// Measures the programs that verify.
pub(super) fn verify(setup: Setup<'_>) -> Result<Vec<Table>> {
    Ok(vec![Bench::new(setup)?.run("verify", verifiers()?)])
}

/// Measures the programs that create torrents.
pub(super) fn create(setup: Setup<'_>) -> Result<Vec<Table>> {
    Ok(vec![Bench::new(setup)?.run("create", makers()?)])
}

impl<'a> Bench<'a> {
    fn new(setup: Setup<'a>) -> Result<Self> {
        let (payload, tracker) = Payload::one_file(setup)?;
        let home = setup.trial_folder.path().join("home");
        Ok(Self { setup, payload, tracker, home })
    }

    fn run(&self, key: &str, tools: Vec<Tool>) -> Table {
        let wanted = tools.into_iter().filter(|tool| self.setup.options.wants(&tool.name));
        let (tools, missing): (Vec<_>, Vec<_>) = wanted.partition(|tool| tool.version.is_some());
        let version = |tool: &Tool| tool.version.clone().unwrap_or_default();
        let row = |tool: &Tool| Row::new(&tool.name, &version(tool), COLUMNS);
        let mut rows: Vec<Row> = tools.iter().map(row).collect();
        measure::race(self.setup.options, &mut rows, |index| self.measure(&tools[index]));
        let size = self.payload.shape.size / MIB;
        let title = format!("{key}: {size} MiB, pieces of 1024 KiB, in memory");
        let missing = missing.into_iter().map(|tool| tool.name);
        let table = Table::new(key, title, COLUMNS, rows, missing).compared(&RATIOS).sorted();
        print!("{}", table.text());
        table
    }

    fn measure(&self, tool: &Tool) -> Result<Vec<f64>> {
        self.setup.trial_folder.empty("home")?;
        let before = self.tracker.announces().len();
        let mut launch = (tool.start)(self)?;
        let done = || match tool.done {
            Done::Ends => self.home.join("done").exists(),
            Done::Announces => {
                self.tracker.announces().iter().skip(before).any(|announce| announce.left == 0)
            }
        };
        let (time, cost) = measure::follow(&mut launch, done, tool.done == Done::Ends)?;
        Ok(measure::values(self.payload.shape.size, time, cost))
    }

    /// Starts `command`, with its output in the home folder.
    fn start(&self, command: &Command) -> Result<Launch> {
        Launch::start("tool", command, &self.home)
    }

    fn data(&self) -> PathBuf {
        self.payload.data()
    }

    /// Returns the path of the torrent to create.
    fn made(&self) -> PathBuf {
        self.home.join("made.torrent")
    }

    /// Calls `start` with the torrent of the payload and its data.
    fn with_job(&self, start: impl Fn(&Job<'_>) -> Result<Launch>) -> Result<Launch> {
        let (torrent, folder) = (self.payload.torrent(), self.payload.folder());
        let ip = namespace::address_of(0);
        start(&Job::new(&torrent, &folder, &self.home, ip))
    }
}

fn tool(
    name: &str,
    version: Option<String>,
    start: impl Fn(&Bench<'_>) -> Result<Launch> + 'static,
) -> Tool {
    Tool { name: name.to_owned(), version, start: Box::new(start), done: Done::Ends }
}

/// As many plain hash streams as there are cores.
fn floor() -> Tool {
    tool("floor", Some(format!("{} threads", cores())), |bench| {
        let mut command = contestant::child("hash", &bench.payload.description())?;
        bench.start(command.arg(bench.payload.folder()).arg(cores().to_string()))
    })
}

fn verifiers() -> Result<Vec<Tool>> {
    let libtorrent = Libtorrent::pypi().version();
    let mut tools = vec![
        floor(),
        tool("bt-cli", Ours::new()?.version(), |bench| {
            let mut command = bench.setup.bt_cli.command(["verify"]);
            bench.start(command.arg(bench.payload.torrent()).arg(bench.payload.folder()))
        }),
        tool("libtorrent", libtorrent.clone(), |bench| {
            bench.with_job(|job| Libtorrent::pypi().check(job, cores()))
        }),
        tool("libtorrent-debian", Libtorrent::debian().version(), |bench| {
            bench.with_job(|job| Libtorrent::debian().check(job, cores()))
        }),
        tool("rqbit", Rqbit.version(), |bench| bench.with_job(|job| Rqbit.check(job))),
        tool("aria2", Aria2.version(), |bench| bench.with_job(|job| Aria2.check(job))),
        tool("imdl", imdl_version(), |bench| {
            let mut command = Command::new(imdl());
            command.args(["torrent", "verify", "--input"]).arg(bench.payload.torrent());
            bench.start(command.arg("--content").arg(bench.data()))
        }),
        Tool {
            done: Done::Announces,
            ..tool("transmission", Transmission.version(), |bench| {
                bench.with_job(|job| Transmission.seed(job))
            })
        },
    ];
    if cores() != 2 {
        tools.push(tool("libtorrent, 2 threads", libtorrent, |bench| {
            bench.with_job(|job| Libtorrent::pypi().check(job, 2))
        }));
    }
    Ok(tools)
}

fn makers() -> Result<Vec<Tool>> {
    Ok(vec![
        floor(),
        tool("bt-cli", Ours::new()?.version(), |bench| {
            let mut command = bench.setup.bt_cli.command(["create", "-l", "1M", "-t", URL, "-o"]);
            bench.start(command.arg(bench.made()).arg(bench.data()))
        }),
        tool("libtorrent", Libtorrent::pypi().version(), |bench| {
            Libtorrent::pypi().start_create(&bench.data(), URL, &bench.made(), &bench.home)
        }),
        tool("libtorrent-debian", Libtorrent::debian().version(), |bench| {
            Libtorrent::debian().start_create(&bench.data(), URL, &bench.made(), &bench.home)
        }),
        tool("mktorrent", mktorrent_version(), |bench| {
            let mut command = Command::new("mktorrent");
            command.args(["-l", PIECE_LENGTH_LOG, "-t", &cores().to_string(), "-a", URL, "-o"]);
            bench.start(command.arg(bench.made()).arg(bench.data()))
        }),
        tool("imdl", imdl_version(), |bench| {
            let mut command = Command::new(imdl());
            command.args(["torrent", "create", "--piece-length", "1MiB", "--announce", URL]);
            bench.start(command.arg("--output").arg(bench.made()).arg(bench.data()))
        }),
        tool("transmission", Transmission.version(), |bench| {
            let mut command = Command::new("transmission-create");
            command.args(["--piecesize", "1024", "--tracker", URL, "--outfile"]);
            bench.start(command.arg(bench.made()).arg(bench.data()))
        }),
    ])
}

/// A tracker that gets no request.
const URL: &str = "http://10.77.0.1:6969/announce";

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn imdl() -> PathBuf {
    find_program("imdl").unwrap_or_default()
}

fn imdl_version() -> Option<String> {
    version_in(&output_of(imdl().to_str()?, ["--version"])?)
}

/// Returns mktorrent's version, which it prints first.
fn mktorrent_version() -> Option<String> {
    version_in(&output_of("mktorrent", ["-h"])?)
}

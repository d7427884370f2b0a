//! The DHT: how many queries a node answers, in memory and over loopback beside libtorrent, and what
//! lookups take in a modelled network. Below the figures of each table are the bars for them.
//!
//! What a node in the table, a stored peer and a lookup take is not measured here: tests of `dht`
//! hold those bars.

mod asker;
mod neighbours;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::clients::{Libtorrent, Program as _};
use serde_json::Value;
use tasks::meter::Meter;
use tasks::process::{Launch, wait_until};
use tasks::workspace::{self, cargo};

use super::external::{json_of, number};
use super::table::{Column, Row, Table};
use super::trial_folder::TrialFolder;
use super::{KIB, Options, measure};
use asker::Asker;
use neighbours::Neighbours;

/// How often everything but the model is measured at least.
const ROUNDS: usize = 5;
/// How long one kind of query is measured in memory, in seconds.
const SECONDS_IN_MEMORY: &str = "0.5";
/// How long a node is asked over loopback, in each round.
const TIME_ON_LOOPBACK: Duration = Duration::from_secs(2);
/// How long a node may take to start and to know its neighbours.
const START_LIMIT: Duration = Duration::from_secs(20);

const IN_MEMORY: &[Column] = &[
    Column { name: "find_node/s", decimals: 0 },
    Column { name: "get_peers/s", decimals: 0 },
    Column { name: "get_peers/s, 50 peers", decimals: 0 },
    Column { name: "memory, KiB", decimals: 0 },
];
/// The names that the example gives to the rates.
const RATES: [&str; 3] = ["find_node", "get_peers without peers", "get_peers with 50 peers"];
/// The last is at most, the others are at least.
const IN_MEMORY_BARS: &[Option<f64>] =
    &[Some(300_000.0), Some(300_000.0), Some(300_000.0), Some(4096.0)];

/// CPU time is the node's. The asker needs as much of the kernel, and other programs take theirs, so
/// the rate by the clock is that of a whole machine.
const ON_LOOPBACK: &[Column] = &[
    Column { name: "queries/s", decimals: 0 },
    Column { name: "per CPU second", decimals: 0 },
    Column { name: "µs in the kernel", decimals: 2 },
    Column { name: "µs outside", decimals: 2 },
    Column { name: "bytes", decimals: 0 },
    Column { name: "× libtorrent", decimals: 2 },
    Column { name: "× per CPU second", decimals: 2 },
];
/// Both are at least.
const ON_LOOPBACK_BARS: &[Option<f64>] = &[Some(60_000.0), None, None, None, None, Some(2.0)];

const MODEL: &[Column] = &[
    Column { name: "RPCs", decimals: 0 },
    Column { name: "first peer, ms", decimals: 0 },
    Column { name: "done, ms", decimals: 0 },
    Column { name: "recall", decimals: 3 },
];
/// The kinds of lookup. Their last bar is at least, the others are at most.
const LOOKUPS: [(&str, [f64; 4]); 2] =
    [("read", [36.0, 350.0, 1100.0, 0.83]), ("announce", [36.0, 350.0, 2400.0, 0.85])];

/// Measures and prints everything.
pub(super) fn run(options: &Options) -> Vec<Table> {
    let rounds = options.rounds.max(ROUNDS);
    let shown = |table: Table| {
        print!("{}", table.text());
        table
    };
    vec![shown(in_memory(rounds)), shown(on_loopback(rounds, options)), shown(model())]
}

fn in_memory(rounds: usize) -> Table {
    let mut rows = vec![Row::new("dht", "", IN_MEMORY)];
    measure::race_for(rounds, "find_node/s", &mut rows, |_| values_in_memory());
    rows.push(bars("bar", IN_MEMORY, IN_MEMORY_BARS));
    let title = "dht in memory: queries answered per CPU second (at least), memory (at most)";
    Table::new("dht-memory", title.to_owned(), IN_MEMORY, rows, [""; 0])
}

fn values_in_memory() -> Result<Vec<f64>> {
    let example = ["--package", "dht", "--example", "throughput", "--"];
    let said = json_of(&[&example[..], &[SECONDS_IN_MEMORY, "--json"]].concat())?;
    let rates = RATES.iter().map(|name| number(&said, name));
    let memory = number(&said, "memory").map(|bytes| bytes / KIB as f64);
    rates.chain([memory]).collect()
}

/// Looks up peers in the modelled network, as often as the example does.
fn model() -> Table {
    let said = json_of(&["--package", "dht", "--example", "model", "--", "--json"]);
    let mut rows = Vec::new();
    for (kind, wanted) in LOOKUPS {
        let mut row = Row::new(kind, "", MODEL);
        let values = match &said {
            Ok(said) => lookup_values(&said[kind]),
            Err(error) => Err(anyhow!("{error:#}")),
        };
        match values {
            Ok(values) => row.add(&values),
            Err(error) => row.problem = Some(format!("{error:#}")),
        }
        rows.extend([row, bars(&format!("{kind}: bar"), MODEL, &wanted.map(Some))]);
    }
    let title = "dht model: lookups among a million nodes, half of them dead: medians (at most), \
                 mean recall (at least)";
    Table::new("dht-model", title.to_owned(), MODEL, rows, [""; 0])
}

fn lookup_values(said: &Value) -> Result<Vec<f64>> {
    ["rpcs", "first", "done", "recall"].iter().map(|key| number(said, key)).collect()
}

fn on_loopback(rounds: usize, options: &Options) -> Table {
    let libtorrent = Libtorrent::newest().ok();
    let version = libtorrent.as_ref().and_then(Libtorrent::version).unwrap_or_default();
    let is_there = libtorrent.is_some();
    let mut rows = vec![Row::new("dht", "", ON_LOOPBACK)];
    if is_there && options.wants("libtorrent") {
        rows.push(Row::new("libtorrent", &version, ON_LOOPBACK));
    }
    if let Err(error) = ask_on_loopback(rounds, options, libtorrent.as_ref(), &mut rows) {
        rows[0].problem = Some(format!("{error:#}"));
    }
    let title = "dht over loopback: find_node and get_peers in turn, without budgets (at least)";
    let missing = (!is_there).then_some("libtorrent");
    let table = Table::new("dht-loopback", title.to_owned(), ON_LOOPBACK, rows, missing);
    let mut table = table.compared(&[("libtorrent", 0), ("libtorrent", 1)]);
    table.rows.push(bars("bar", ON_LOOPBACK, ON_LOOPBACK_BARS));
    table
}

/// Starts the nodes of `rows` beside the same neighbours, and asks one after the other.
fn ask_on_loopback(
    rounds: usize,
    options: &Options,
    libtorrent: Option<&Libtorrent>,
    rows: &mut [Row],
) -> Result<()> {
    let folder = TrialFolder::new(options.folder.as_deref())?;
    let neighbours = Neighbours::start()?;
    let program = build_node()?;
    let mut nodes = Vec::new();
    for row in &*rows {
        let address = free_address()?;
        let launch = match libtorrent.filter(|_| row.name == "libtorrent") {
            Some(libtorrent) => {
                libtorrent.start_dht_node(address, neighbours.addresses(), folder.path())?
            }
            None => start_node(&program, address, neighbours.addresses(), folder.path())?,
        };
        let asker = Asker::new(address)?;
        let knows = wait_until(START_LIMIT, || asker.is_answered_with_nodes());
        ensure!(knows, "{} knows no nodes\n{}", row.name, launch.output_tail());
        nodes.push((launch, asker));
    }
    measure::race_for(rounds, "queries/s", rows, |index| {
        let (launch, asker) = &nodes[index];
        values_on_loopback(launch, asker)
    });
    Ok(())
}

fn values_on_loopback(launch: &Launch, asker: &Asker) -> Result<Vec<f64>> {
    let mut meter = Meter::start(launch);
    let answers = asker.ask(TIME_ON_LOOPBACK)?;
    let cost = meter.cost();
    let count = answers.count as f64;
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6 / count;
    ensure!(answers.count > 0, "it answers nothing\n{}", launch.output_tail());
    Ok(vec![
        count / answers.time.as_secs_f64(),
        count / cost.cpu.as_secs_f64(),
        microseconds(cost.system),
        microseconds(cost.cpu - cost.system),
        answers.bytes as f64 / count,
    ])
}

/// Starts our node.
fn start_node(
    program: &Path,
    address: SocketAddr,
    neighbours: &[SocketAddr],
    folder: &Path,
) -> Result<Launch> {
    let mut command = Command::new(program);
    command.arg(address.to_string()).args(neighbours.iter().map(ToString::to_string));
    Launch::start("dht", &command, folder)
}

fn build_node() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--package", "session", "--example", "answer"]);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(workspace::target()?.join("release/examples/answer"))
}

/// Returns an address of loopback whose port nobody uses at the moment.
fn free_address() -> Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Makes a row of what is wanted; `None` where nothing is.
fn bars(name: &str, columns: &[Column], values: &[Option<f64>]) -> Row {
    let mut row = Row::new(name, "", columns);
    for (figure, value) in row.figures.iter_mut().zip(values) {
        value.iter().for_each(|value| figure.add(*value));
    }
    row
}

//! The cost of idle torrents: opens many small ones in one session, waits until all are started and
//! announced, lets them idle, and prints time and memory.
//!
//! ```text
//! cargo run --release -p session --example idle -- [--torrents N] [--state complete|empty]
//!     [--tracker http|udp|none] [--piece-count N] [--idle SECONDS] [--folder DIR] [--json]
//! ```
//!
//! `complete` (the default): every torrent has its data, and a journal that was closed cleanly.
//! `empty`: it has neither. Data and journals are in a new folder below DIR, removed at the end.
//! Needs /proc. The tracker is a child process, so that its memory is not counted; it returns no
//! peers.
//!
//! `--json` prints one object: times in seconds, memory in bytes. `up_seconds` is from the first
//! `add` to the last `Started`, `announced_seconds` from there to the last torrent's first
//! announce, `idle_cpu_seconds` the CPU time of all threads in the `idle_seconds` after that,
//! `stop_seconds` the clean shutdown. `bytes_per_torrent` is the growth of the resident memory
//! beyond the metainfo, once all are started and announced, by the number of torrents. [`FIRST`]
//! more are started before that and counted nowhere: they touch the code, stacks and queues that any
//! session needs.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program has a clock.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metainfo::{Builder, Metainfo};
use session::{AddTorrent, EventKind, Session, SessionConfig, StopReason};
use testkit::{HttpTracker, UdpTracker};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long all torrents may take to be started, announced, or stopped.
const LIMIT: Duration = Duration::from_secs(600);
/// How many torrents are started before the measurement.
const FIRST: usize = 1000;
const PIECE_LENGTH: u32 = 16 * 1024;

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    match &options.serve {
        Some(kind) => serve_tracker(kind),
        None => measure(&options),
    }
}

/// The command line.
struct Options {
    torrents: u32,
    complete: bool,
    tracker: Option<String>,
    piece_count: u32,
    idle: Duration,
    folder: PathBuf,
    json: bool,
    /// Set in the child that is the tracker.
    serve: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            torrents: 10_000,
            complete: true,
            tracker: Some("http".to_owned()),
            piece_count: 1,
            idle: Duration::from_secs(10),
            folder: std::env::temp_dir(),
            json: false,
            serve: None,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("expected a value after {flag}"));
            match flag.as_str() {
                "--torrents" => options.torrents = value()?.parse()?,
                "--state" => options.complete = value()? == "complete",
                "--tracker" => options.tracker = Some(value()?).filter(|kind| kind != "none"),
                "--piece-count" => options.piece_count = value()?.parse()?,
                "--idle" => options.idle = Duration::from_secs(value()?.parse()?),
                "--folder" => options.folder = value()?.into(),
                "--json" => options.json = true,
                "--serve" => options.serve = Some(value()?),
                _ => return Err(format!("unknown argument {flag}").into()),
            }
        }
        Ok(options)
    }
}

/// Every number that is printed, with its name.
type Figures = Vec<(&'static str, f64)>;

fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("idle-").tempdir_in(&options.folder)?;
    let mut tracker = options.tracker.as_deref().map(TrackerProcess::start).transpose()?;
    let url = tracker.as_ref().map(|tracker| tracker.url.clone());
    let empty = resident()?;
    let torrents = make_torrents(options, url.as_deref(), folder.path())?;
    let metainfo_memory = resident()? - empty;
    if options.complete {
        prepare(&torrents, folder.path())?;
    }
    let mut figures: Figures = vec![
        ("torrents", f64::from(options.torrents)),
        ("metainfo_bytes_per_torrent", metainfo_memory / torrents.len() as f64),
    ];
    run(options, &torrents, folder.path(), tracker.as_mut(), &mut figures)?;
    print(options, &figures);
    Ok(())
}

/// The measured run.
fn run(
    options: &Options,
    torrents: &[Arc<Metainfo>],
    folder: &Path,
    mut tracker: Option<&mut TrackerProcess>,
    figures: &mut Figures,
) -> Result<()> {
    let announced_before = announces(&mut tracker)?;
    let session = start(folder)?;
    let (first, torrents) = torrents.split_at(FIRST);
    add_all(&session, first, folder, true)?;
    wait_started(&session, first.len())?;
    wait_announced(&session, &mut tracker, first.len() + announced_before)?;
    let (memory, cpu, began) = (resident()?, cpu_seconds()?, Instant::now());
    add_all(&session, torrents, folder, true)?;
    figures.push(("add_seconds", began.elapsed().as_secs_f64()));
    wait_started(&session, torrents.len())?;
    figures.push(("up_seconds", began.elapsed().as_secs_f64()));
    figures.push(("up_cpu_seconds", cpu_seconds()? - cpu));
    let up = Instant::now();
    wait_announced(&session, &mut tracker, first.len() + torrents.len() + announced_before)?;
    figures.push(("announced_seconds", up.elapsed().as_secs_f64()));
    figures.push(("announced_cpu_seconds", cpu_seconds()? - cpu));
    wait(&session, Duration::from_millis(500));
    let cpu = cpu_seconds()?;
    wait(&session, options.idle);
    figures.push(("idle_seconds", options.idle.as_secs_f64()));
    figures.push(("idle_cpu_seconds", cpu_seconds()? - cpu));
    let grown = resident()? - memory;
    figures.push(("bytes_per_torrent", grown / torrents.len() as f64));
    figures.push(("resident_bytes", resident()?));
    figures.push(("open_files", std::fs::read_dir("/proc/self/fd")?.count() as f64));
    figures.push(("threads", status("Threads")?));
    let asked = Instant::now();
    let snapshot = session.snapshot()?;
    figures.push(("snapshot_seconds", asked.elapsed().as_secs_f64()));
    drop(snapshot);
    let asked = Instant::now();
    stop(session)?;
    figures.push(("stop_seconds", asked.elapsed().as_secs_f64()));
    figures.push(("announces", (announces(&mut tracker)? - announced_before) as f64));
    Ok(())
}

fn make_torrents(
    options: &Options,
    tracker: Option<&str>,
    folder: &Path,
) -> Result<Vec<Arc<Metainfo>>> {
    let data = folder.join("data");
    std::fs::create_dir(&data)?;
    let make = |number: u32| {
        let name = format!("torrent-{number}");
        let mut payload = vec![0; (options.piece_count * PIECE_LENGTH - 1000) as usize];
        payload[..4].copy_from_slice(&number.to_le_bytes());
        let hashes: Vec<_> = payload.chunks(PIECE_LENGTH as usize).map(piece_hash::sha1).collect();
        let builder = Builder::new(&name).length(payload.len() as u64).piece_length(PIECE_LENGTH);
        let builder = match tracker {
            Some(url) => builder.tracker(url),
            None => builder,
        };
        if options.complete {
            std::fs::write(data.join(&name), &payload)?;
        }
        Ok(Arc::new(builder.build(&hashes)?))
    };
    (0..options.torrents + FIRST as u32).map(make).collect()
}

/// Runs a session that leaves journals behind, a part of the torrents at a time.
fn prepare(torrents: &[Arc<Metainfo>], folder: &Path) -> Result<()> {
    for part in torrents.chunks(500) {
        let session = start(folder)?;
        add_all(&session, part, folder, false)?;
        wait_started(&session, part.len())?;
        stop(session)?;
    }
    Ok(())
}

fn start(folder: &Path) -> Result<Session> {
    let state_dir = Some(folder.join("state"));
    let config =
        SessionConfig { ports: 0..=0, state_dir, seed: Some(1), ..SessionConfig::default() };
    Ok(Session::start(&config)?)
}

fn add_all(
    session: &Session,
    torrents: &[Arc<Metainfo>],
    folder: &Path,
    announce: bool,
) -> Result<()> {
    let data: Arc<Path> = folder.join("data").into();
    for metainfo in torrents {
        let add = AddTorrent::new(Arc::clone(metainfo), "");
        session.add(AddTorrent { folder: Arc::clone(&data), announce, ..add })?;
    }
    Ok(())
}

/// Takes events until `count` torrents are started.
fn wait_started(session: &Session, count: usize) -> Result<()> {
    let end = Instant::now() + LIMIT;
    let mut started = 0;
    while started < count {
        match session.events().recv_deadline(end)?.kind {
            EventKind::Started { .. } => started += 1,
            EventKind::Stopped { reason: StopReason::Failed(error) } => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Takes events until the tracker, if there is one, has seen `count` announces.
fn wait_announced(
    session: &Session,
    tracker: &mut Option<&mut TrackerProcess>,
    count: usize,
) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while tracker.is_some() && announces(tracker)? < count && Instant::now() < end {
        wait(session, Duration::from_millis(20));
    }
    Ok(())
}

/// Takes events for that long.
fn wait(session: &Session, time: Duration) {
    let end = Instant::now() + time;
    while session.events().recv_deadline(end).is_ok() {}
}

fn stop(session: Session) -> Result<()> {
    let events = session.events().clone();
    let reader = std::thread::spawn(move || {
        let errors = events.iter().filter_map(|event| match event.kind {
            EventKind::Stopped { reason: StopReason::Failed(error) } => Some(error),
            _ => None,
        });
        errors.last()
    });
    session.shut_down(LIMIT);
    match reader.join() {
        Ok(Some(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

fn print(options: &Options, figures: &Figures) {
    let state = if options.complete { "complete" } else { "empty" };
    let tracker = options.tracker.as_deref().unwrap_or("none");
    let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
    if options.json {
        print!("{{\"state\": \"{state}\", \"tracker\": \"{tracker}\"");
        figures.iter().for_each(|(name, value)| print!(", \"{name}\": {}", round(*value)));
        println!("}}");
    } else {
        println!("state: {state}, tracker: {tracker}");
        figures.iter().for_each(|(name, value)| println!("{name}: {}", round(*value)));
    }
}

/// A number of /proc/self/status.
fn status(key: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or(format!("no {key} in /proc/self/status"))?.parse()?)
}

/// The resident memory, in bytes.
fn resident() -> Result<f64> {
    Ok(status("VmRSS")? * 1024.0)
}

/// The CPU time of all threads so far.
fn cpu_seconds() -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // A thread that has ended has no file.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split_whitespace().next().unwrap_or("0").parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// A tracker in a process of its own.
struct TrackerProcess {
    child: Child,
    answers: BufReader<ChildStdout>,
    url: String,
}

impl TrackerProcess {
    fn start(kind: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = child.stdout.take().ok_or("no output")?;
        let mut tracker = Self { child, answers: BufReader::new(answers), url: String::new() };
        tracker.url = tracker.read_line()?;
        Ok(tracker)
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// The number of announces so far.
    fn announces(&mut self) -> Result<usize> {
        self.child.stdin.as_mut().ok_or("no input")?.write_all(b"\n")?;
        Ok(self.read_line()?.parse()?)
    }
}

impl Drop for TrackerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

fn announces(tracker: &mut Option<&mut TrackerProcess>) -> Result<usize> {
    tracker.as_mut().map_or(Ok(0), |tracker| tracker.announces())
}

/// The child prints its URL, then for each line that it reads the number of announces so far.
fn serve_tracker(kind: &str) -> Result<()> {
    let (url, tracker, _server): (_, _, Box<dyn std::any::Any>) = match kind {
        "http" => {
            let server = HttpTracker::start();
            (server.url(), testkit::Tracker::clone(&server), Box::new(server))
        }
        "udp" => {
            let server = UdpTracker::start();
            (server.url(), testkit::Tracker::clone(&server), Box::new(server))
        }
        other => return Err(format!("expected http, udp or none, got {other}").into()),
    };
    println!("{url}");
    for line in std::io::stdin().lock().lines() {
        line?;
        let seen = std::cell::Cell::new(0);
        tracker.wait_for(Duration::ZERO, |announces| {
            seen.set(announces.len());
            true
        });
        println!("{}", seen.get());
    }
    Ok(())
}

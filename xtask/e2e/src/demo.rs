//! `cargo xtask demo`: trackers, a node of a DHT, a seeder, and two downloads to watch: by .torrent
//! and by magnet link.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;
use testkit::{HttpTracker, Payload, Tracker, UdpTracker};

use crate::bt_cli::BtCli;
use tasks::process::{Launch, is_ignored, wait_until};
use tasks::workspace;

/// How long the node of the DHT may take to start, and the seeder to announce itself to it.
const NODE_LIMIT: Duration = Duration::from_secs(60);
/// How long the seeder may take to check its data and announce.
const SEED_LIMIT: Duration = Duration::from_secs(60);
/// Added to twice the time that the download takes at the seeder's rate.
const DOWNLOAD_ALLOWANCE: Duration = Duration::from_secs(60);
/// How long bt-cli may take to end after a signal that may have reached it too.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
const MIB: u64 = 1024 * 1024;

/// Downloads `size` MiB over loopback, from a seeder found through trackers that sends at most
/// `rate` MiB per second (0: as fast as it can); then the same by a magnet link alone, for which the
/// seeder is found in a DHT. After Ctrl-C, SIGTERM or SIGHUP it removes its files before it ends.
/// Under `nohup` it ignores SIGHUP.
pub fn run(size: u64, rate: u64) -> Result<()> {
    ensure!((1..=4096).contains(&size), "expected a size of 1 to 4096 MiB, got {size}");
    println!("Building bt-cli ...");
    let program = workspace::build_bt_cli()?;
    let interrupt = Interrupt::watch()?;
    let folder = TempDir::with_prefix("demo-")?;

    let tracker = Tracker::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let http = HttpTracker::bind(any, tracker.clone())?;
    let udp = UdpTracker::bind(any, tracker.clone())?;
    println!("Trackers listen at {} and {}.", http.url(), udp.url());
    let bt_cli = BtCli::new(&program, &folder.path().join("bt-cli"));
    let (mut node, node_address) = start_node(&bt_cli, &interrupt)?;
    println!("A node of a DHT listens at {node_address}.");

    let payload = payload(size, &http, &udp, folder.path())?;
    let total = payload.geometry().total();
    println!("Made a torrent of {} MiB in {} files.", total / MIB, payload.files().count());
    interrupt.check()?;

    let mut seeder = seed(&bt_cli, &payload, &tracker, &node_address, rate, &interrupt)?;
    wait_for_peer(&mut node, &interrupt)?;
    let link = format!("magnet:?xt=urn:btih:{}", payload.info_hash());
    let limit = download_limit(size, rate);
    let torrent = payload.torrent_path();
    let by_file = (vec![torrent.as_os_str()], "demo.torrent".to_owned(), "by-file");
    let join = ["--dht-node", &node_address];
    let by_link = [link.as_ref(), join[0].as_ref(), join[1].as_ref()].to_vec();
    let by_link = (by_link, format!("'{link}' {}", join.join(" ")), "by-link");
    for (arguments, shown, name) in [by_file, by_link] {
        let folder = folder.path().join(name);
        println!("\n$ bt-cli download {shown} -o {name}\n");
        let time = download(&bt_cli, &arguments, &folder, limit, &interrupt)?;
        payload.compare(&folder).context("the download differs from what was seeded")?;
        interrupt.check()?;
        println!();
        println!("All {total} bytes arrived. Compared one by one, they are the seeder's.");
        let rate = (total / MIB) as f64 / time.as_secs_f64();
        println!("It took {:.1} s, {rate:.0} MiB/s.", time.as_secs_f64());
    }
    seeder.stop();
    node.stop();
    let announces = tracker.announces();
    println!("The trackers saw {} announces:", announces.len());
    for announce in &announces {
        let is_seeder = announces.first().is_some_and(|first| first.port == announce.port);
        let who = if is_seeder { "seeder" } else { "leecher" };
        let event = format!("{:?}", announce.event).to_lowercase();
        println!("  {who:<8} {event:<10} {:>10} bytes left", announce.left);
    }
    drop(folder);
    println!("Everything has been stopped and cleaned up.");
    Ok(())
}

/// Set by a signal that asks the demo to end.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Records such signals from now on, instead of ending at once.
    fn watch() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if the demo is to end.
    fn check(&self) -> Result<()> {
        ensure!(!self.is_asked(), "interrupted; everything has been stopped and cleaned up");
        Ok(())
    }
}

/// Makes a torrent of one large file and some small ones.
fn payload(size: u64, http: &HttpTracker, udp: &UdpTracker, folder: &Path) -> Result<Payload> {
    let large = size * MIB - 100_001;
    let files = [("film.bin", large), ("text/readme.txt", 1), ("text/notes.txt", 100_000)];
    let builder = Payload::folder("demo", &files).piece_length(256 * 1024).seed(42);
    Ok(builder.tier([http.url()]).tier([udp.url()]).create_in(folder)?)
}

/// Starts a node of a DHT that knows no other. Returns its address.
fn start_node(bt_cli: &BtCli, interrupt: &Interrupt) -> Result<(Launch, String)> {
    let flags = ["--json", "--port", "0", "--bind", "127.0.0.1"];
    let mut node = bt_cli.start("node", &bt_cli.command(["dht", "node"].iter().chain(&flags)))?;
    let address = |node: &Launch| Some(last_event(node)?["listen"][0].as_str()?.to_owned());
    wait_until(NODE_LIMIT, || {
        interrupt.is_asked() || !node.is_running() || address(&node).is_some()
    });
    interrupt.check()?;
    let address = address(&node);
    let address =
        address.with_context(|| format!("the node did not start\n{}", node.output_tail()))?;
    Ok((node, address))
}

/// Waits until the node stores a peer.
fn wait_for_peer(node: &mut Launch, interrupt: &Interrupt) -> Result<()> {
    let has_peer = |node: &Launch| last_event(node).is_some_and(|event| event["peers"] != 0);
    wait_until(NODE_LIMIT, || interrupt.is_asked() || !node.is_running() || has_peer(node));
    interrupt.check()?;
    ensure!(has_peer(node), "nobody announced to the node\n{}", node.output_tail());
    Ok(())
}

/// Returns the last event that the node has printed whole.
fn last_event(node: &Launch) -> Option<serde_json::Value> {
    let text = node.stdout();
    let (whole, _) = text.rsplit_once('\n')?;
    serde_json::from_str(whole.lines().last()?).ok()
}

/// Starts the seeder, and returns once it has announced that it has everything.
fn seed(
    bt_cli: &BtCli,
    payload: &Payload,
    tracker: &Tracker,
    node: &str,
    rate: u64,
    interrupt: &Interrupt,
) -> Result<Launch> {
    let mut command = bt_cli.command(["seed"]);
    command.arg(payload.torrent_path()).arg(payload.folder_path());
    command.args(["--json", "--port", "0", "--bind", "127.0.0.1", "--dht-node", node]);
    if rate > 0 {
        println!("The seeder sends {rate} MiB/s, so that there is something to see");
        println!("(`--rate 0`: as fast as it can).");
        command.args(["--max-up", &format!("{rate}M")]);
    }
    let mut seeder = bt_cli.start("seeder", &command)?;
    let seeds = || tracker.announces().iter().any(|each| each.left == 0);
    wait_until(SEED_LIMIT, || interrupt.is_asked() || !seeder.is_running() || seeds());
    interrupt.check()?;
    if !seeds() || !seeder.is_running() {
        bail!("the seeder never announced itself\n{}", seeder.output_tail());
    }
    Ok(seeder)
}

/// Returns how long the download of `size` MiB at `rate` MiB per second may take. A rate of 0 (no
/// limit) counts as 1.
fn download_limit(size: u64, rate: u64) -> Duration {
    DOWNLOAD_ALLOWANCE + Duration::from_secs(2 * size / rate.max(1))
}

/// Runs bt-cli with its output on the terminal, and returns how long it took.
fn download(
    bt_cli: &BtCli,
    arguments: &[&OsStr],
    folder: &Path,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<Duration> {
    fs::create_dir_all(folder)?;
    let mut command: Command = bt_cli.command(["download"]);
    command.args(arguments).arg("-o").arg(folder);
    command.args(["--port", "0", "--bind", "127.0.0.1"]).stdin(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().context("cannot run bt-cli")?;
    let mut has_ended = || !matches!(child.try_wait(), Ok(None));
    let in_time = wait_until(limit, || interrupt.is_asked() || has_ended());
    // Ctrl-C reaches bt-cli too, and a second signal would end it at once.
    if !in_time || !wait_until(SHUTDOWN_LIMIT, has_ended) {
        kill_process(Pid::from_child(&child), Signal::TERM)?;
    }
    let status = child.wait()?;
    interrupt.check()?;
    ensure!(in_time, "the download took longer than {} s", limit.as_secs());
    ensure!(status.success(), "bt-cli failed: {status}");
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_grows_with_the_download() {
        for (size, rate, seconds) in [(100, 20, 70), (4096, 1, 8252), (4096, 0, 8252)] {
            assert_eq!(download_limit(size, rate), Duration::from_secs(seconds));
        }
    }
}

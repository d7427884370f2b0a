//! `cargo xtask demo`: trackers, a seeder, and a download one can watch.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use testkit::{HttpTracker, Payload, Tracker, UdpTracker};

use crate::bt_cli::BtCli;
use crate::process::Running;
use crate::workspace;

/// How long the seeder may take to check its data and announce.
const SEED_LIMIT: Duration = Duration::from_secs(60);
const MIB: u64 = 1024 * 1024;

/// Downloads `size` MiB over loopback, from a seeder found through trackers that sends at most
/// `rate` MiB a second (0: as fast as it goes).
pub(crate) fn run(size: u64, rate: u64) -> Result<()> {
    ensure!((1..=4096).contains(&size), "expected a size of 1 to 4096 MiB, got {size}");
    println!("Building bt-cli ...");
    let program = workspace::build_bt_cli()?;
    let place = TempDir::with_prefix("demo-")?;

    let tracker = Tracker::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let http = HttpTracker::bind(any, tracker.clone())?;
    let udp = UdpTracker::bind(any, tracker.clone())?;
    println!("Trackers listen at {} and {}.", http.url(), udp.url());

    let payload = payload(size, &http, &udp, place.path())?;
    let total = payload.geometry().total();
    println!("A torrent of {} MiB in {} files was made.", total / MIB, payload.files().count());

    let bt_cli = BtCli::new(&program, &place.path().join("bt-cli"));
    let mut seeder = seed(&bt_cli, &payload, &tracker, rate)?;
    let downloads = place.path().join("downloads");
    let time = download(&bt_cli, &payload, &downloads)?;
    payload.compare(&downloads).context("the download is not what was seeded")?;

    println!();
    println!("All {total} bytes arrived and are the same as the seeder's, compared one by one.");
    let rate = (total / MIB) as f64 / time.as_secs_f64();
    println!("It took {:.1} s, {rate:.0} MiB/s.", time.as_secs_f64());
    seeder.stop();
    let announces = tracker.announces();
    println!("The trackers saw {} announces:", announces.len());
    for announce in &announces {
        let is_seeder = announces.first().is_some_and(|first| first.port == announce.port);
        let who = if is_seeder { "seeder" } else { "leecher" };
        let event = format!("{:?}", announce.event).to_lowercase();
        println!("  {who:<8} {event:<10} {:>10} bytes left", announce.left);
    }
    println!("Everything was stopped and removed.");
    Ok(())
}

/// One large file and some small ones.
fn payload(size: u64, http: &HttpTracker, udp: &UdpTracker, place: &Path) -> Result<Payload> {
    let large = size * MIB - 100_001;
    let files = [("film.bin", large), ("text/readme.txt", 1), ("text/notes.txt", 100_000)];
    let builder = Payload::folder("demo", &files).piece_length(256 * 1024).seed(42);
    Ok(builder.tier([http.url()]).tier([udp.url()]).create_in(place)?)
}

fn seed(bt_cli: &BtCli, payload: &Payload, tracker: &Tracker, rate: u64) -> Result<Running> {
    let mut command = bt_cli.command(["seed"]);
    command.arg(payload.torrent_path()).arg(payload.folder_path());
    command.args(["--json", "--port", "0", "--bind", "127.0.0.1"]);
    if rate > 0 {
        println!("The seeder sends {rate} MiB/s, so that there is something to see.");
        println!("(`--rate 0`: as fast as it goes.)");
        command.args(["--max-up", &format!("{rate}M")]);
    }
    let mut seeder = bt_cli.start("seeder", &command)?;
    let seeds = tracker.wait_for(SEED_LIMIT, |seen| seen.iter().any(|each| each.left == 0));
    if !seeds || !seeder.is_running() {
        bail!("the seeder never announced itself\n{}", seeder.last_words());
    }
    Ok(seeder)
}

/// Runs bt-cli where the user sees it, and says how long it took.
fn download(bt_cli: &BtCli, payload: &Payload, folder: &Path) -> Result<Duration> {
    fs::create_dir_all(folder)?;
    let mut command: Command = bt_cli.command(["download"]);
    command.arg(payload.torrent_path()).arg("-o").arg(folder);
    command.args(["--port", "0", "--bind", "127.0.0.1"]).stdin(Stdio::null());
    println!("\n$ bt-cli download demo.torrent -o downloads\n");
    let start = Instant::now();
    let status = command.status().context("cannot run bt-cli")?;
    ensure!(status.success(), "bt-cli failed: {status}");
    Ok(start.elapsed())
}

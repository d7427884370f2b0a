//! `cargo xtask soak`: a small swarm on loopback in which peers come and go for a long time, and
//! two processes that stay: a seeder, and a download that is slow and then seeds. Their memory,
//! descriptors and threads are sampled; after a while none of them may grow any more.
//!
//! ```text
//!  trackers (HTTP, UDP)      seeder  <---.
//!                            download <--+-- visitors: downloads, seeders, and peers that break rules,
//!                                        '-- which end by themselves, by SIGTERM or by SIGKILL
//! ```

mod visitors;
mod watched;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{HttpTracker, Payload, Tracker, UdpTracker};

use crate::bt_cli::BtCli;
use crate::rng::{Rng, fresh_seed};
use tasks::process::wait_until;
use tasks::workspace;
use visitors::Visitors;
use watched::Watched;

/// How long anything that should happen soon may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often visitors come and go.
const TICK: Duration = Duration::from_millis(200);
/// How many samples are taken of each process.
const SAMPLES: u32 = 240;
/// How many lines of samples are printed.
const LINES: u32 = 20;
/// The size of the payload, in bytes.
const SIZE: u64 = 32 << 20;
/// The announce interval, in seconds: short, so that there are many announces.
const INTERVAL: u32 = 10;

/// Runs the swarm for so many minutes. `seed` decides which visitors come and when.
pub fn run(minutes: f64, seed: Option<u64>) -> Result<()> {
    ensure!(minutes >= 0.5, "expected half a minute at least, got {minutes}");
    let (time, seed) = (Duration::from_secs_f64(minutes * 60.0), seed.unwrap_or_else(fresh_seed));
    let program = workspace::build_bt_cli()?;
    let folder = TempDir::with_prefix("soak-")?;
    let swarm = Swarm::new(folder.path())?;
    println!("{minutes} minutes, seed {seed}, {} MiB in {} files", SIZE >> 20, swarm.files());
    let mut watched = [swarm.seeder(&program)?, swarm.download(&program, time)?];
    let seeder = address_of(&watched[0], &swarm.tracker)?;
    let mut visitors = Visitors::new(&program, &swarm.payload, seeder, Rng::new(seed));
    follow(time, &mut watched, &mut visitors)?;
    println!("\n{visitors}");
    let problems: Vec<String> = watched.iter().flat_map(Watched::growth).collect();
    for each in &mut watched {
        each.end()?;
    }
    swarm.payload.compare(folder.path().join("download").join("downloads"))?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    println!("Nothing grew.");
    Ok(())
}

/// Lets visitors come and go and takes samples, for `time`.
fn follow(time: Duration, watched: &mut [Watched], visitors: &mut Visitors<'_>) -> Result<()> {
    watched::print_headings(watched);
    let start = Instant::now();
    let (mut samples, mut lines) = (0, 0);
    while start.elapsed() < time {
        visitors.come_and_go()?;
        let now = start.elapsed();
        if now >= time / SAMPLES * samples {
            samples += 1;
            for each in &mut *watched {
                each.sample(now)?;
            }
            if now >= time / LINES * lines {
                lines += 1;
                watched::print_line(now, watched, &visitors.so_far());
            }
        }
        thread::sleep(TICK);
    }
    watched::print_line(time, watched, &visitors.so_far());
    visitors.leave();
    Ok(())
}

/// The trackers and the payload.
struct Swarm<'a> {
    folder: &'a Path,
    tracker: Tracker,
    payload: Payload,
    /// They answer until they are dropped.
    _trackers: (HttpTracker, UdpTracker),
}

impl<'a> Swarm<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        let tracker = Tracker::new();
        tracker.interval(INTERVAL);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let http = HttpTracker::bind(any, tracker.clone())?;
        let udp = UdpTracker::bind(any, tracker.clone())?;
        let large = SIZE - 10 * 100_000;
        let names: Vec<String> = (0..10).map(|number| format!("small/{number}.bin")).collect();
        let mut files = vec![("large.bin", large)];
        files.extend(names.iter().map(|name| (name.as_str(), 100_000)));
        let builder = Payload::folder("soak", &files).piece_length(128 * 1024).seed(7);
        let payload =
            builder.tier([http.url()]).tier([udp.url()]).create_in(folder.join("payload"))?;
        Ok(Self { folder, tracker, payload, _trackers: (http, udp) })
    }

    fn files(&self) -> usize {
        self.payload.files().count()
    }

    fn seeder(&self, program: &Path) -> Result<Watched> {
        let bt_cli = BtCli::new(program, &self.folder.join("seeder"));
        let mut command = bt_cli.command(["seed"]);
        command.arg(self.payload.torrent_path()).arg(self.payload.folder_path());
        on_loopback(&mut command);
        Ok(Watched::new("seed", bt_cli.start("seed", &command)?))
    }

    /// Starts a download that takes two fifths of the time.
    fn download(&self, program: &Path, time: Duration) -> Result<Watched> {
        let rate = SIZE as f64 / (time.as_secs_f64() * 0.4);
        let home = self.folder.join("download");
        let bt_cli = BtCli::new(program, &home);
        let mut command = bt_cli.command(["download", "--seed"]);
        command.arg(self.payload.torrent_path()).arg("-o").arg(home.join("downloads"));
        command.args(["--max-down", &format!("{}", rate as u64)]);
        on_loopback(&mut command);
        Ok(Watched::new("download --seed", bt_cli.start("download", &command)?))
    }
}

fn on_loopback(command: &mut Command) {
    command.args(["--json", "--port", "0", "--bind", "127.0.0.1"]);
}

/// Returns the address of a seeder, with the port that it announced.
fn address_of(seeder: &Watched, tracker: &Tracker) -> Result<SocketAddr> {
    let port = || tracker.announces().into_iter().find(|seen| seen.left == 0).map(|seen| seen.port);
    ensure!(wait_until(LIMIT, || port().is_some()), "no announce\n{}", seeder.output_tail());
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port().unwrap_or_default())))
}

/// Whether a line of bt-cli's output is this event.
fn is_event(line: &str, event: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|value| value["event"] == event)
}

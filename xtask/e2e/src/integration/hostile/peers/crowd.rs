//! Five hundred hostile peers at once, of all kinds, during an honest download.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::hostile::{Crowd, Hostile};
use testkit::{Payload, Script};

use super::{blocks, framing, handshakes, lines_of, pieces, requests, state_of};
use crate::bt_cli::COMMAND_LIMIT;
use crate::integration::scene::{LIMIT, Scene, count, free_address};
use tasks::process::{Launch, peak_of, wait_until};

/// The number of hostile peers.
const HOSTILE: usize = 500;
/// The size of the honest download, in bytes.
const SIZE: u64 = 32 << 20;
/// The most memory of bt-cli, in bytes: its default `--max-memory` of 40 MiB, and as much again for
/// code, stacks, tables of 500 sockets and the allocator.
const MAX_PEAK: u64 = 80 << 20;

/// What a download took.
struct Usage {
    time: Duration,
    peak: u64,
    /// Connections of hostile peers, and how many of them completed a handshake.
    connections: u64,
    handshakes: u64,
}

/// The download completes in bounded memory. The report compares its speed with that of one alone.
pub(super) fn five_hundred(scene: &Scene) -> Result<String> {
    let payload = Payload::file("file.bin", SIZE).piece_length(256 << 10);
    let payload = scene.payload(payload)?;
    let quiet = download(scene, "alone", &payload, 0)?;
    let beside = download(scene, "beside", &payload, HOSTILE)?;
    let share = 100.0 * quiet.time.as_secs_f64() / beside.time.as_secs_f64();
    let rate = |usage: &Usage| SIZE as f64 / usage.time.as_secs_f64() / 1e6;
    let mib = |bytes: u64| bytes >> 20;
    ensure!(beside.peak <= MAX_PEAK, "{} MiB of memory", mib(beside.peak));
    Ok(format!(
        "{share:.0} % of the speed alone ({:.0} of {:.0} MB/s), {} MiB of memory ({} alone), \
         {} connections, {} handshakes",
        rate(&beside),
        rate(&quiet),
        mib(beside.peak),
        mib(quiet.peak),
        beside.connections,
        beside.handshakes,
    ))
}

fn download(scene: &Scene, name: &str, payload: &Payload, hostile: usize) -> Result<Usage> {
    let honest = Script::seeder(payload).fast().held().listen();
    let own = free_address()?;
    let peer = honest.address().to_string();
    let mut launch = scene.download_at(name, payload, own.port(), &["--peer", &peer, "--seed"])?;
    ensure!(honest.wait_for(LIMIT, |seen| !seen.requests.is_empty()), "{}", launch.output_tail());
    let crowd = Crowd::start(payload, of_all_kinds(own).take(hostile))?;
    let all = crowd.wait_for(LIMIT, |met| {
        let handshakes: u64 = met.iter().map(|met| met.handshakes).sum();
        met.iter().all(|met| met.connections > 0) && handshakes >= hostile as u64
    });
    ensure!(all, "not all of them connected, or too few completed a handshake");
    let start = Instant::now();
    honest.release();
    let completed = wait_until(COMMAND_LIMIT, || {
        lines_of(&launch).iter().any(|line| line["event"] == "completed")
    });
    ensure!(completed, "{}\n{}", how_far(&launch, honest.address()), launch.output_tail());
    let time = start.elapsed();
    let peak = peak_of(launch.id());
    launch.stop();
    payload.compare(scene.downloads(name))?;
    let met = crowd.observed();
    let sum = |count: fn(&testkit::hostile::Observed) -> u64| met.iter().map(count).sum();
    Ok(Usage {
        time,
        peak,
        connections: sum(|met| met.connections),
        handshakes: sum(|met| met.handshakes),
    })
}

/// Describes how far an incomplete download came.
fn how_far(launch: &Launch, honest: SocketAddr) -> String {
    let lines = lines_of(launch);
    let of_honest: Vec<_> = ["connected", "disconnected", "banned", "failed"]
        .into_iter()
        .filter_map(|state| Some((state, state_of(&lines, honest, state)?)))
        .collect();
    let pieces = count(&lines, "piece");
    format!("it does not complete: {pieces} pieces are verified, the honest peer: {of_honest:?}")
}

/// All peers of the tables, repeated.
fn of_all_kinds(own: SocketAddr) -> impl Iterator<Item = Hostile> {
    let tables = [
        handshakes::DIALLED,
        handshakes::DIALLING,
        framing::ROWS,
        pieces::ROWS,
        blocks::ROWS,
        requests::ROWS,
    ];
    let rows = tables.into_iter().flatten();
    let kinds: Vec<fn() -> Hostile> = rows.map(|row| row.2).collect();
    let kinds = (0..HOSTILE).map(move |number| kinds[number % kinds.len()]);
    kinds.map(move |kind| kind().connects_to(own).reconnects())
}

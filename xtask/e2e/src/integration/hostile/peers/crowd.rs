//! Five hundred hostile peers at once, of all kinds, while an honest download goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::hostile::{Crowd, Hostile};
use testkit::{Payload, Script};

use super::{blocks, framing, handshakes, lines_of, pieces, requests, state_of};
use crate::bt_cli::COMMAND_LIMIT;
use crate::integration::scene::{LIMIT, Scene, count, free_address};
use xtask::process::{Launch, peak_of, wait_until};

/// How many there are.
const HOSTILE: usize = 500;
/// How much is downloaded beside them, in bytes.
const SIZE: u64 = 32 << 20;
/// What bt-cli may hold in memory, in bytes: its default `--max-memory` of 40 MiB, and as much again
/// for code, stacks, tables of 500 sockets and what the allocator keeps.
const MAX_PEAK: u64 = 80 << 20;

/// What a download took.
struct Run {
    time: Duration,
    peak: u64,
    /// Connections of hostile peers, and how many of them shook hands.
    connections: u64,
    handshakes: u64,
}

/// It completes, at a share of the speed it has alone that is printed, in bounded memory.
pub(super) fn five_hundred(scene: &Scene) -> Result<String> {
    let payload = Payload::file("file.bin", SIZE).piece_length(256 << 10);
    let payload = scene.payload(payload)?;
    let alone = download(scene, "alone", &payload, 0)?;
    let beside = download(scene, "beside", &payload, HOSTILE)?;
    let share = 100.0 * alone.time.as_secs_f64() / beside.time.as_secs_f64();
    let rate = |run: &Run| SIZE as f64 / run.time.as_secs_f64() / 1e6;
    let mib = |bytes: u64| bytes >> 20;
    ensure!(beside.peak <= MAX_PEAK, "{} MiB of memory", mib(beside.peak));
    Ok(format!(
        "{share:.0} % of the speed alone ({:.0} of {:.0} MB/s), {} MiB of memory ({} alone), \
         {} connections, {} handshakes",
        rate(&beside),
        rate(&alone),
        mib(beside.peak),
        mib(alone.peak),
        beside.connections,
        beside.handshakes,
    ))
}

fn download(scene: &Scene, name: &str, payload: &Payload, hostile: usize) -> Result<Run> {
    let honest = Script::seeder(payload).fast().held().listen();
    let own = free_address()?;
    let peer = honest.address().to_string();
    let mut launch = scene.download_at(name, payload, own.port(), &["--peer", &peer, "--seed"])?;
    ensure!(honest.wait_for(LIMIT, |seen| !seen.requests.is_empty()), "{}", launch.output_tail());
    let crowd = Crowd::start(of_all_kinds(payload, own).take(hostile))?;
    let all = crowd.wait_for(LIMIT, |met| {
        let handshakes: u64 = met.iter().map(|met| met.handshakes).sum();
        met.iter().all(|met| met.connections > 0) && handshakes >= hostile as u64
    });
    ensure!(all, "not all of them connected, or too few shook hands");
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
    Ok(Run {
        time,
        peak,
        connections: sum(|met| met.connections),
        handshakes: sum(|met| met.handshakes),
    })
}

/// How far a download came that should have come to its end.
fn how_far(launch: &Launch, honest: SocketAddr) -> String {
    let lines = lines_of(launch);
    let of_honest: Vec<_> = ["connected", "disconnected", "banned", "failed"]
        .into_iter()
        .filter_map(|state| Some((state, state_of(&lines, honest, state)?)))
        .collect();
    let pieces = count(&lines, "piece");
    format!("it does not complete: {pieces} pieces are there, the honest peer: {of_honest:?}")
}

/// All that the tables have, again and again.
fn of_all_kinds(payload: &Payload, own: SocketAddr) -> impl Iterator<Item = Hostile> {
    let tables = [
        handshakes::CALLED,
        handshakes::CALLING,
        framing::ROWS,
        pieces::ROWS,
        blocks::ROWS,
        requests::ROWS,
    ];
    let rows = tables.into_iter().flatten();
    let kinds: Vec<fn(&Payload) -> Hostile> = rows.map(|row| row.1).collect();
    let kinds = (0..HOSTILE).map(move |number| kinds[number % kinds.len()]);
    kinds.map(move |kind| kind(payload).connects_to(own).reconnects())
}

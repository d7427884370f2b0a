//! Measures how fast each contestant parses each torrent, in rounds that start with another
//! contestant each time, and prints one line of JSON: an array of
//!
//! ```json
//! {
//!   "contestant": "bencode",
//!   "version": "0.1.0",
//!   "payload": "many-files",
//!   "payload_bytes": 18799977,
//!   "mb_per_s": { "median": 2600.1, "min": 2500.3, "max": 2650.9 },
//!   "milliseconds": 7.2,
//!   "allocations": 1,
//!   "peak_bytes": 18799984
//! }
//! ```
//!
//! A MB is 1,000,000 bytes; `milliseconds` is the median of one reading; `allocations` and
//! `peak_bytes` are of one reading, without the input unless the contestant keeps it (`metainfo`
//! does). `payloads` describes the torrents, `contestants` the parsers: `bencode` and `metainfo`
//! are ours, `bare walk` builds nothing.
//!
//! ```text
//! cargo run --release --manifest-path xtask/bench/parsers/Cargo.toml --bin parse
//! ```
//!
//! It starts the program `allocations` through Cargo. Build both first if the time matters.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark has a clock.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use parsers::{Contestant, Payload, contestants, payloads};
use serde_json::{Value, json};

/// How often each contestant parses each torrent; a small one is parsed in batches.
const ROUNDS: usize = 15;
/// The least number of bytes in a batch.
const BATCH: usize = 4_000_000;

fn main() -> ExitCode {
    let Some(counts) = allocations() else {
        eprintln!("error: the allocations could not be counted");
        return ExitCode::FAILURE;
    };
    let contestants = contestants();
    let mut rows = Vec::new();
    for payload in payloads() {
        let times = rounds(&contestants, &payload);
        for (contestant, times) in contestants.iter().zip(times) {
            rows.push(row(contestant, &payload, times, &counts));
        }
    }
    println!("{}", Value::Array(rows));
    ExitCode::SUCCESS
}

/// Returns for each contestant the time of one reading in each round.
fn rounds(contestants: &[Contestant], payload: &Payload) -> Vec<Vec<Duration>> {
    let batch = BATCH.div_ceil(payload.bytes.len()) as u32;
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..ROUNDS {
        for turn in 0..contestants.len() {
            let who = (round + turn) % contestants.len();
            let read = contestants[who].read;
            let total: Duration = (0..batch).map(|_| read(&payload.bytes)).sum();
            times[who].push(total / batch);
        }
    }
    times
}

fn row(
    contestant: &Contestant,
    payload: &Payload,
    mut times: Vec<Duration>,
    counts: &[Value],
) -> Value {
    times.sort();
    let rate = |time: Duration| {
        let rate = payload.bytes.len() as f64 / 1e6 / time.as_secs_f64();
        (rate * 10.0).round() / 10.0
    };
    let median = times[times.len() / 2];
    let count = counts
        .iter()
        .find(|row| row["contestant"] == contestant.name && row["payload"] == payload.name);
    let counted = |key| count.map_or(Value::Null, |row| row[key].clone());
    json!({
        "contestant": contestant.name,
        "version": contestant.version,
        "payload": payload.name,
        "payload_bytes": payload.bytes.len(),
        "mb_per_s": {
            "median": rate(median),
            "min": rate(times[times.len() - 1]),
            "max": rate(times[0]),
        },
        "milliseconds": (median.as_secs_f64() * 1e7).round() / 1e4,
        "allocations": counted("allocations"),
        "peak_bytes": counted("peak_bytes"),
    })
}

/// Runs `allocations` and returns its counts.
fn allocations() -> Option<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--bin", "allocations", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

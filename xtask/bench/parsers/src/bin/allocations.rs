//! Counts what each contestant allocates for each torrent. Prints one JSON array of
//! `{contestant, payload, allocations, peak_bytes}`; used by `parse`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark has a clock.

use parsers::{contestants, payloads};
use serde_json::{Value, json};

fn main() {
    let mut rows = Vec::new();
    for payload in payloads() {
        for contestant in contestants() {
            let count = allocation_counter::measure(|| {
                (contestant.read)(&payload.bytes);
            });
            rows.push(json!({
                "contestant": contestant.name,
                "payload": payload.name,
                "allocations": count.count_total,
                "peak_bytes": count.bytes_max,
            }));
        }
    }
    println!("{}", Value::Array(rows));
}

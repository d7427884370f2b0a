//! Drains a seeder and says how fast it was and how evenly it served.
//!
//! ```text
//! cargo run --release -p testkit --example drain -- ADDRESS INFO-HASH LENGTH PIECE-LENGTH CONNECTIONS BYTES SECONDS
//! ```

use std::time::Duration;

use testkit::{Drain, Geometry, InfoHashV1};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "ADDRESS INFO-HASH LENGTH PIECE-LENGTH CONNECTIONS BYTES SECONDS";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, info_hash, length, piece_length, connections, bytes, seconds] = &arguments[..]
    else {
        return Err(usage.into());
    };
    let drain = Drain {
        address: address.parse()?,
        info_hash: info_hash.parse::<InfoHashV1>()?,
        geometry: Geometry::new(length.parse()?, piece_length.parse()?)?,
        connections: connections.parse()?,
        window: 256,
        bytes: bytes.parse()?,
        limit: Duration::from_secs_f64(seconds.parse()?),
    };
    let mut drained = drain.run()?;
    drained.bytes.sort_unstable();
    let total: u64 = drained.bytes.iter().sum();
    let seconds = drained.time.as_secs_f64();
    let share = |at: usize| drained.bytes.get(at).copied().unwrap_or(0) >> 10;
    let count = drained.bytes.len();
    println!(
        "{{\"seconds\": {seconds:.4}, \"bytes\": {total}, \"mb_s\": {:.1}, \"min_kib\": {}, \"median_kib\": {}, \"max_kib\": {}}}",
        total as f64 / seconds / 1e6,
        share(0),
        share(count / 2),
        share(count.saturating_sub(1)),
    );
    Ok(())
}

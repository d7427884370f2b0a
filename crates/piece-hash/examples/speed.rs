//! Measures every kernel of this processor on one core, with data in cache and in memory.
//!
//! `cargo run --release -p piece-hash --example speed`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark has a clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

use piece_hash::{Kernel, Lanes};

/// The number of lanes of the widest kernel.
const MESSAGES: usize = 16;
const ROUNDS: usize = 9;
/// How long one measurement takes.
const SAMPLE: Duration = Duration::from_millis(50);

fn main() {
    println!("MB/s on one core, median of {ROUNDS} rounds; best: {}", Kernel::best());
    // All strips of 16 KiB fit a second-level cache of 512 KiB; 64 MiB come from memory.
    for strip in [16 << 10, 64 << 10, 4 << 20] {
        table(strip, 192);
    }
    // Strips at a distance of a multiple of 4 KiB compete for few lines of the first-level cache.
    table(64 << 10, 0);
}

/// Measures all kernels alternately, on strips of the given length with a gap after each.
fn table(strip_length: usize, gap: usize) {
    let stride = strip_length + gap;
    let data: Vec<u8> = (0..MESSAGES * stride).map(|i| (i * i / 7) as u8).collect();
    let strips: Vec<&[u8]> = data.chunks(stride).map(|chunk| &chunk[..strip_length]).collect();
    let kernels: Vec<Kernel> = Kernel::available().collect();
    let mut speeds = vec![Vec::new(); kernels.len()];
    for _ in 0..ROUNDS {
        for (kernel, speeds) in kernels.iter().zip(&mut speeds) {
            speeds.push(measure(*kernel, &strips));
        }
    }
    println!("{MESSAGES} strips of {} KiB, {gap} bytes between them:", strip_length >> 10);
    for (kernel, speeds) in kernels.iter().zip(&mut speeds) {
        speeds.sort_by(f64::total_cmp);
        println!("  {:20} {:7.0}", kernel.to_string(), speeds[ROUNDS / 2]);
    }
}

/// Returns the MB/s of one measurement.
fn measure(kernel: Kernel, strips: &[&[u8]]) -> f64 {
    let bytes: usize = strips.iter().map(|strip| strip.len()).sum();
    let mut lanes = Lanes::with_kernel(kernel, strips.len());
    let start = Instant::now();
    let mut updates = 0;
    while start.elapsed() < SAMPLE {
        lanes.update(black_box(strips));
        updates += 1;
    }
    let elapsed = start.elapsed().as_secs_f64();
    black_box(lanes.finish());
    (updates * bytes) as f64 / elapsed / 1e6
}

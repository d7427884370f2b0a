//! Plays one scenario and prints its trace: `cargo run -p sim --example one_seed -- 7`.

fn main() {
    let seed = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(7);
    let (report, lines) = sim::trace(seed);
    lines.iter().for_each(|line| println!("{line}"));
    println!("{report:?}");
}

//! A few scenarios, played twice. `cargo xtask sim` plays many more.

use std::time::Duration;

#[track_caller]
fn check(seed: u64) -> sim::Report {
    let report = sim::play(seed);
    assert_eq!(report.broken, None, "seed {seed}");
    assert!(report.events > 0, "seed {seed}: nothing happens");
    report
}

#[test]
fn same_seed_gives_same_report() {
    let reports: Vec<_> = (0..4).map(check).collect();
    let again: Vec<_> = (0..4).rev().map(check).collect();
    assert!(reports.iter().eq(again.iter().rev()), "{reports:?}\n{again:?}");
}

#[test]
fn seeds_differ() {
    assert_ne!(check(1).digest, check(2).digest);
}

#[test]
fn trace_does_not_change_the_report() {
    let (report, lines) = sim::trace(3);
    assert_eq!(report, check(3));
    assert!(lines.len() as u64 > report.events, "the scenario is printed before the events");
}

fn shape(rates: Vec<u64>, size: u64, span_memory: usize, liars: Vec<usize>) -> sim::Shape {
    let round_trip = Duration::from_millis(100);
    sim::Shape { rates, round_trip, size, piece_length: 1 << 20, span_memory, liars }
}

#[test]
fn seeders_are_fully_used() {
    let several = [50_000, 100_000, 300_000, 1_000_000].repeat(5);
    for (rates, size, least) in [(several, 48 << 20, 75.0), (vec![1 << 20], 16 << 20, 88.0)] {
        let race = sim::race(&shape(rates, size, 7 << 20, Vec::new())).unwrap();
        assert!(race.share > least, "{} % of the ideal rate, not {least} %", race.share);
    }
}

#[test]
fn liars_are_banned() {
    // A ban of an honest seeder would break a rule.
    let rates = [50_000, 300_000].repeat(8);
    let race = sim::race(&shape(rates, 32 << 20, 6 << 20, vec![0, 1])).unwrap();
    assert_eq!(race.bans.len(), 2);
}

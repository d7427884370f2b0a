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

#[test]
fn fast_seeders_are_fully_used() {
    let rates = [50_000, 100_000, 300_000, 1_000_000].repeat(5);
    let shape = sim::Shape {
        rates,
        round_trip: Duration::from_millis(100),
        size: 48 << 20,
        piece_length: 1 << 20,
        span_memory: 7 << 20,
        liars: Vec::new(),
    };
    let race = sim::race(&shape).unwrap();
    assert!(race.share > 75.0, "{} % of the ideal rate", race.share);
}

#[test]
fn liars_are_banned() {
    let shape = sim::Shape {
        rates: [50_000, 300_000].repeat(8),
        round_trip: Duration::from_millis(100),
        size: 32 << 20,
        piece_length: 1 << 20,
        span_memory: 6 << 20,
        liars: vec![0, 1],
    };
    // A ban of an honest seeder would break a rule.
    let race = sim::race(&shape).unwrap();
    assert_eq!(race.bans.len(), 2);
}

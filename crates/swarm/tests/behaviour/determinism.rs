//! The same seed gives the same outputs; swarms that exchange a torrent complete.

use std::time::Duration;

use crate::bench::{geometry, seconds};
use crate::net::{LEECH, Net, Node, SEED};

fn run(seed: u64) -> Net {
    let nodes = [SEED, LEECH, LEECH, Node { up: 200_000, ..LEECH }];
    let mut net = Net::new(geometry(32, 8), Duration::from_millis(30), seed, &nodes);
    assert!(net.run(seconds(300)));
    net
}

#[test]
fn same_seed_gives_same_outputs() {
    let (first, second, other) = (run(1), run(1), run(2));
    for node in 0..4 {
        assert_eq!(first.log(node), second.log(node));
    }
    assert_ne!(first.log(1), other.log(1));
}

#[test]
fn leechers_trade_with_each_other() {
    let net = run(5);
    let traded: u64 = (1..4).map(|node| net.swarm(node).uploaded()).sum();
    assert!(traded > net.geometry.total() / 2, "{traded}");
    // One MiB/s from one seed to three leechers of 4 MiB each would take 12 s without trading.
    assert!((1..4).all(|node| net.completed_at(node).unwrap() < seconds(12)));
}

#[test]
fn single_link_is_fully_used() {
    let mut net = Net::new(geometry(64, 16), Duration::from_millis(100), 1, &[SEED, LEECH]);
    assert!(net.run(seconds(60)));
    // 16 MiB at 1 MiB/s.
    assert!(net.completed_at(1).unwrap() < seconds(18), "{:?}", net.completed_at(1));
    assert_eq!(net.swarm(1).wasted(), 0);
}

#[test]
fn swarm_completes_with_little_memory() {
    let nodes = [SEED, SEED, Node { memory: 512 << 10, ..LEECH }];
    let mut net = Net::new(geometry(64, 16), Duration::from_millis(20), 1, &nodes);
    assert!(net.run(seconds(120)));
}

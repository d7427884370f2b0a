//! Random events from a seed: nothing breaks, nothing leaks, everything is downloaded.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use session::engine::EngineConfig;
use session::{EventKind, PhaseKind, StopReason};
use testkit::Payload;

use super::net::{Net, address};
use super::node::config;

const LIMIT: Duration = Duration::from_secs(3600);

#[test]
fn random_commands_disks_and_peers() {
    for seed in 0..8 {
        chaos(seed);
    }
}

fn chaos(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let payloads =
        [(1, 1_500_000, 64 << 10), (2, 5_000_000, 3 << 20)].map(|(seed, total, piece)| {
            Payload::file("film", total).piece_length(piece).seed(seed).create().unwrap()
        });
    let state = tempfile::tempdir().unwrap();
    let state_dir = Some(state.path().to_owned());
    let leecher = EngineConfig { state_dir, span_memory: 9 << 18, ..config(seed) };
    let mut net = Net::new([leecher, config(1), config(2), config(3)]);
    payloads.into_iter().for_each(|payload| net.add(payload));
    let keys = net.downloads.clone();
    for _ in 0..60 {
        let key = keys[rng.random_range(0..keys.len())];
        let now = net.now();
        match rng.random_range(0..8) {
            0 => net.nodes[0].engine.stop(now, key),
            1 | 2 => net.nodes[0].engine.resume(now, key),
            3 => net.cut(rng.random_range(0..4)),
            4 => net.nodes[0].hold_jobs = true,
            5 => net.nodes[0].hold_jobs = false,
            6 => net.nodes[1].corrupt = !net.nodes[1].corrupt,
            _ => net.nodes[2].hold_bytes = !net.nodes[2].hold_bytes,
        }
        let until = now + Duration::from_millis(rng.random_range(0..300));
        net.run_until(LIMIT, |net| net.now() >= until);
    }
    net.nodes[0].hold_jobs = false;
    net.nodes[2].hold_bytes = false;
    let resting =
        |net: &Net, phase| net.nodes[0].engine.status().iter().any(|it| it.phase == phase);
    net.run_until(LIMIT, |net| !resting(net, PhaseKind::Stopping));
    for key in keys {
        let node = &mut net.nodes[0];
        node.engine.resume(node.now, key);
    }
    net.run_until(LIMIT, |net| {
        net.nodes[0].engine.status().iter().all(session::TorrentStatus::is_complete)
    });
    for (number, payload) in net.payloads.iter().enumerate() {
        assert_eq!(payload.compare(net.folder(number)), Ok(()), "seed {seed}");
    }
    let failed =
        |kind: &EventKind| matches!(kind, EventKind::Stopped { reason: StopReason::Failed(_) });
    assert!(!net.nodes[0].has(failed), "seed {seed}");
    let honest = |kind: &EventKind| {
        matches!(kind, EventKind::Peer { address: of, state: session::PeerState::Banned, .. }
            if *of != address(1))
    };
    assert!(!net.nodes[0].has(honest), "seed {seed}: an honest peer was banned");
}

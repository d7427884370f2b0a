//! Random events from a seed: nothing breaks, nothing leaks, everything is downloaded.

use std::time::Duration;

use peer_wire::{Message, Reserved};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use session::engine::EngineConfig;
use session::{EventKind, PhaseKind};
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, add_of, config};
use super::wire::{handshake_with, wire};

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
    payloads.iter().for_each(|payload| net.add(payload));
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
    for (number, payload) in payloads.iter().enumerate() {
        assert_eq!(payload.compare(net.folder(number)), Ok(()), "seed {seed}");
    }
    let failed = |kind: &EventKind| matches!(kind, EventKind::Stopped { error: Some(_) });
    assert!(!net.nodes[0].has(failed), "seed {seed}");
    let honest = |kind: &EventKind| {
        matches!(kind, EventKind::Peer { address: of, state: session::PeerState::Banned, .. }
            if *of != address(1))
    };
    assert!(!net.nodes[0].has(honest), "seed {seed}: an honest peer was banned");
}

#[test]
fn random_messages_break_nothing() {
    let payload = Payload::file("film", 300_000).piece_length(32 << 10).create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(config(1));
    let mut other = Node::new(config(2));
    node.add(add_of(&payload, folder.path()));
    other.seed(&payload);
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for node in [&mut node, &mut other] {
            let mut reserved = Reserved::NONE;
            reserved.0[5] = if rng.random() { 0x10 } else { 0 };
            reserved.0[7] = if rng.random() { 0x04 } else { 0 };
            let mut said = handshake_with(reserved, payload.info_hash(), seed as u8);
            said.extend(wire(Message::Bitfield(&[0xff, 0xc0])));
            said.extend(wire(Message::Interested));
            for _ in 0..30 {
                let range = [rng.random_range(0..11), rng.random_range(0..3) << 14, 16 << 10];
                let small = range.map(u32::to_be_bytes).concat();
                let length = rng.random_range(0..=small.len());
                let (id, payload) = (rng.random_range(0..22), &small[..length]);
                said.extend(wire(Message::Unknown { id, payload }));
            }
            let from = format!("10.3.{}.{}:5000", seed / 256, seed % 256);
            let Some(link) = node.incoming(&from, &said[..70]) else { continue };
            said[70..].chunks(rng.random_range(1..200)).for_each(|part| node.receive(link, part));
            node.engine.handle_closed(node.now, link, None);
            node.advance(Duration::from_secs(1));
        }
    }
    assert!(node.engine.status()[0].peers_connected == 0);
}

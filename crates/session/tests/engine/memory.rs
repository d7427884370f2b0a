//! Memory for payload: never more than the budget, and all of it is released.

use std::time::Duration;

use piece_store::Job;
use session::EventKind;
use session::engine::EngineConfig;
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, config};

const LIMIT: Duration = Duration::from_secs(600);
const PIECE: usize = 256 << 10;

/// Memory for two pieces.
fn small(seed: u64) -> EngineConfig {
    EngineConfig { span_memory: 2 * PIECE, ..config(seed) }
}

fn payload(seed: u64) -> Payload {
    let file = Payload::file("film", 12 * PIECE as u64 + 5).piece_length(PIECE as u32);
    file.seed(seed).create().unwrap()
}

fn held(node: &Node) -> usize {
    let spans = |job: &Job| match job {
        Job::Commit { spans, .. } => spans.iter().flatten().map(|span| span.len()).sum(),
        Job::Stage { span, .. } => span.len(),
        _ => 0,
    };
    node.jobs.iter().map(spans).sum()
}

fn has_bad_piece(node: &Node) -> bool {
    node.has(|kind| matches!(kind, EventKind::PieceFailed(_)))
}

#[test]
fn slow_disk_stops_requests() {
    let mut net = Net::swarm(small(9), 1, vec![payload(1)]);
    let key = net.downloads[0];
    net.run_until(LIMIT, |net| net.nodes[0].status(key).peers_connected == 1);
    net.nodes[0].hold_jobs = true;
    net.run_until(LIMIT, |net| held(&net.nodes[0]) == 2 * PIECE);
    let status = net.nodes[0].status(key);
    assert!((2 * PIECE as u64..3 * PIECE as u64).contains(&status.buffers_peak), "{status:?}");
    let until = net.now() + Duration::from_secs(30);
    net.run_until(LIMIT, |net| {
        assert!(held(&net.nodes[0]) <= 2 * PIECE);
        net.now() > until
    });
    net.nodes[0].hold_jobs = false;
    net.complete(LIMIT);
}

#[test]
fn torrents_share_memory() {
    let mut net = Net::swarm(small(9), 1, [1, 2, 3].map(payload).into());
    net.complete(LIMIT);
    assert!(net.now() < Duration::from_secs(1), "took {:?}", net.now());
}

#[test]
fn bad_pieces_release_memory() {
    let mut net = Net::swarm(small(9), 4, vec![payload(1)]);
    for liar in 1..4 {
        net.nodes[liar].corrupt = true;
    }
    net.complete(LIMIT);
    assert!(has_bad_piece(&net.nodes[0]));
}

#[test]
fn leaving_peers_release_memory() {
    let mut net = Net::swarm(small(9), 1, vec![payload(1)]);
    let downloaded = |net: &Net| net.nodes[0].engine.status()[0].downloaded;
    for _ in 0..6 {
        let before = downloaded(&net);
        net.run_until(LIMIT, |net| downloaded(net) > before + 100_000);
        net.cut(1);
    }
    net.complete(LIMIT);
}

/// Stops a download again and again, each time after `bytes` more. Returns how many bytes were
/// downloaded until it was complete.
fn downloaded_with_stops(payload: Payload, stops: u64, bytes: u64) -> u64 {
    let state = tempfile::tempdir().unwrap();
    let state_dir = Some(state.path().to_owned());
    let mut net = Net::swarm(EngineConfig { state_dir, ..small(9) }, 1, vec![payload]);
    let key = net.downloads[0];
    let mut downloaded = 0;
    for _ in 0..stops {
        net.run_until(LIMIT, |net| net.nodes[0].status(key).downloaded > bytes);
        downloaded += net.nodes[0].status(key).downloaded;
        net.nodes[0].stop(key);
        net.run_until(LIMIT, |net| net.nodes[0].stopped());
        assert!(!has_bad_piece(&net.nodes[0]));
        net.nodes[0].events.clear();
        net.nodes[0].resume(key);
    }
    net.complete(LIMIT);
    assert!(!has_bad_piece(&net.nodes[0]));
    downloaded + net.nodes[0].status(key).downloaded
}

#[test]
fn stop_releases_all_memory() {
    // Each stop is within a piece. Its blocks are kept for the next start.
    let downloaded = downloaded_with_stops(payload(1), 12, 50_000);
    // Parts of blocks are lost at each stop, blocks are not.
    assert!(downloaded < 12 * PIECE as u64 + 12 * (64 << 10), "{downloaded} bytes");
}

#[test]
fn removed_torrents_release_all_memory() {
    let mut net = Net::new([small(9), config(1)]);
    for seed in 0..5 {
        let payload = payload(seed);
        net.nodes[1].seed(&payload);
        let folder = tempfile::tempdir().unwrap();
        let key = net.nodes[0].leech(&payload, folder.path(), [address(1)]);
        if seed < 4 {
            net.run_until(LIMIT, |net| net.nodes[0].status(key).downloaded > 300_000);
            net.nodes[0].remove(key);
        } else {
            net.run_until(LIMIT, |net| net.nodes[0].completed());
        }
    }
}

#[test]
fn large_pieces_are_staged() {
    let payload = Payload::file("image", 12 << 20).piece_length(4 << 20).create().unwrap();
    // Stopped again and again within pieces: staged blocks are neither lost nor damaged.
    let downloaded = downloaded_with_stops(payload, 5, 700_000);
    assert!(downloaded < (12 << 20) + 5 * (1 << 20), "{downloaded} bytes for 12 MiB");
}

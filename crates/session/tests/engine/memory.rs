//! Memory for payload: never more than the budget, and all of it is released.

use std::time::Duration;

use piece_store::Job;
use session::engine::EngineConfig;
use session::{AddTorrent, EventKind};
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, add_of, config};

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

/// Node 0 has little memory; the others have everything.
fn net(payloads: &[Payload], seeders: usize) -> (Net, Vec<tempfile::TempDir>) {
    let mut net = Net::new([small(9)].into_iter().chain((1..=seeders as u64).map(config)));
    let mut folders = Vec::new();
    for payload in payloads {
        for seeder in &mut net.nodes[1..] {
            seeder.add(AddTorrent { seed_only: true, ..add_of(payload, payload.folder_path()) });
        }
        let folder = tempfile::tempdir().unwrap();
        let peers = (1..=seeders).map(address).collect();
        net.nodes[0].add(AddTorrent { peers, ..add_of(payload, folder.path()) });
        folders.push(folder);
    }
    (net, folders)
}

fn held(node: &Node) -> usize {
    let spans = |job: &Job| match job {
        Job::Commit { spans, .. } => spans.iter().flatten().map(|span| span.len()).sum(),
        Job::Stage { span, .. } => span.len(),
        _ => 0,
    };
    node.jobs.iter().map(spans).sum()
}

#[test]
fn slow_disk_stops_requests() {
    let payload = payload(1);
    let (mut net, folders) = net(std::slice::from_ref(&payload), 1);
    net.run_until(LIMIT, |net| net.nodes[0].status(net.nodes[0].events[0].0).peers_connected == 1);
    net.nodes[0].hold_jobs = true;
    net.run_until(LIMIT, |net| held(&net.nodes[0]) == 2 * PIECE);
    let status = net.nodes[0].status(net.nodes[0].events[0].0);
    assert!((2 * PIECE as u64..3 * PIECE as u64).contains(&status.buffers_peak), "{status:?}");
    let until = net.now() + Duration::from_secs(30);
    net.run_until(LIMIT, |net| {
        assert!(held(&net.nodes[0]) <= 2 * PIECE);
        net.now() > until
    });
    net.nodes[0].hold_jobs = false;
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    assert_eq!(payload.compare(folders[0].path()), Ok(()));
}

#[test]
fn torrents_share_memory() {
    let payloads = [payload(1), payload(2), payload(3)];
    let (mut net, folders) = net(&payloads, 1);
    net.run_until(LIMIT, |net| {
        net.nodes[0].count(|kind| *kind == EventKind::Completed) == payloads.len()
    });
    assert!(net.now() < Duration::from_secs(1), "took {:?}", net.now());
    for (payload, folder) in payloads.iter().zip(&folders) {
        assert_eq!(payload.compare(folder.path()), Ok(()));
    }
}

#[test]
fn bad_pieces_release_memory() {
    let payload = payload(1);
    let (mut net, folders) = net(std::slice::from_ref(&payload), 4);
    for liar in 1..4 {
        net.nodes[liar].corrupt = true;
    }
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    assert!(net.nodes[0].has(|kind| matches!(kind, EventKind::PieceFailed(_))));
    assert_eq!(payload.compare(folders[0].path()), Ok(()));
}

#[test]
fn leaving_peers_release_memory() {
    let payload = payload(1);
    let (mut net, folders) = net(std::slice::from_ref(&payload), 1);
    let downloaded = |net: &Net| net.nodes[0].engine.status()[0].downloaded;
    for _ in 0..6 {
        let before = downloaded(&net);
        net.run_until(LIMIT, |net| downloaded(net) > before + 100_000);
        net.cut(1);
    }
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    assert_eq!(payload.compare(folders[0].path()), Ok(()));
}

#[test]
fn stop_releases_all_memory() {
    let payload = payload(1);
    let (mut net, folders) = net(std::slice::from_ref(&payload), 1);
    let state = tempfile::tempdir().unwrap();
    net.nodes[0] = Node::new(EngineConfig { state_dir: Some(state.path().to_owned()), ..small(9) });
    let peers = vec![address(1)];
    let key = net.nodes[0].add(AddTorrent { peers, ..add_of(&payload, folders[0].path()) });
    let mut downloaded = 0;
    for _ in 0..12 {
        // Some blocks of a piece, but not all: they are kept for the next start.
        net.run_until(LIMIT, |net| net.nodes[0].status(key).downloaded > 50_000);
        downloaded += net.nodes[0].status(key).downloaded;
        let node = &mut net.nodes[0];
        node.engine.stop(node.now, key);
        node.act();
        net.run_until(LIMIT, |net| net.nodes[0].stopped());
        let node = &mut net.nodes[0];
        assert!(!node.has(|kind| matches!(kind, EventKind::PieceFailed(_))));
        node.events.clear();
        node.engine.resume(node.now, key);
        node.act();
    }
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    downloaded += net.nodes[0].status(key).downloaded;
    assert_eq!(payload.compare(folders[0].path()), Ok(()));
    assert!(!net.nodes[0].has(|kind| matches!(kind, EventKind::PieceFailed(_))));
    // Parts of blocks are lost at each stop, blocks are not.
    assert!(downloaded < 12 * PIECE as u64 + 12 * (64 << 10), "{downloaded} bytes");
}

#[test]
fn removed_torrents_release_all_memory() {
    let mut net = Net::new([small(9), config(1)]);
    for seed in 0..5 {
        let payload = payload(seed);
        net.nodes[1].add(AddTorrent { seed_only: true, ..add_of(&payload, payload.folder_path()) });
        let folder = tempfile::tempdir().unwrap();
        let peers = vec![address(1)];
        let key = net.nodes[0].add(AddTorrent { peers, ..add_of(&payload, folder.path()) });
        if seed < 4 {
            net.run_until(LIMIT, |net| net.nodes[0].status(key).downloaded > 300_000);
            let node = &mut net.nodes[0];
            node.engine.remove(node.now, key);
            node.act();
        } else {
            net.run_until(LIMIT, |net| net.nodes[0].completed());
        }
    }
}

#[test]
fn large_pieces_are_staged() {
    let payload = Payload::file("image", 12 << 20).piece_length(4 << 20).create().unwrap();
    let mut net = Net::new([small(9), config(1)]);
    net.nodes[1].add(AddTorrent { seed_only: true, ..add_of(&payload, payload.folder_path()) });
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state_dir = Some(state.path().to_owned());
    net.nodes[0] = Node::new(EngineConfig { state_dir, ..small(9) });
    let peers = vec![address(1)];
    let key = net.nodes[0].add(AddTorrent { peers, ..add_of(&payload, folder.path()) });
    // Stopped again and again within pieces: staged blocks are neither lost nor damaged.
    let mut downloaded = 0;
    for _ in 0..5 {
        net.run_until(LIMIT, |net| net.nodes[0].status(key).downloaded > 700_000);
        downloaded += net.nodes[0].status(key).downloaded;
        let node = &mut net.nodes[0];
        node.engine.stop(node.now, key);
        node.act();
        net.run_until(LIMIT, |net| net.nodes[0].stopped());
        let node = &mut net.nodes[0];
        node.events.clear();
        node.engine.resume(node.now, key);
        node.act();
    }
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    assert_eq!(payload.compare(folder.path()), Ok(()));
    assert!(!net.nodes[0].has(|kind| matches!(kind, EventKind::PieceFailed(_))));
    downloaded += net.nodes[0].status(key).downloaded;
    assert!(downloaded < (12 << 20) + 5 * (1 << 20), "{downloaded} bytes for 12 MiB");
}

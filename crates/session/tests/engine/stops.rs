//! Torrents are stopped, resumed and removed at any moment.

use std::time::Duration;

use piece_store::Job;
use session::{AddTorrent, EventKind, PhaseKind, StopReason, TorrentKey};
use testkit::{AnnounceEvent, Payload};

use super::net::{Net, address};
use super::node::{Node, add_of, config};

const LIMIT: Duration = Duration::from_secs(60);

fn payload() -> Payload {
    let file = Payload::file("film", 2_000_000).piece_length(32 << 10);
    file.tracker("http://tracker.example/announce").create().unwrap()
}

/// A leecher in the middle of a download, and its seeder.
fn midway() -> (Net, TorrentKey) {
    let mut net = Net::swarm(config(7), 1, vec![payload()]);
    let key = net.downloads[0];
    let fetch = net.nodes[0].fetches.pop_front().expect("it announces");
    net.nodes[0].answer(&fetch, Vec::new());
    net.run_until(LIMIT, |net| net.nodes[0].status(key).pieces_done > 10);
    (net, key)
}

#[test]
fn stop_has_an_order() {
    let (mut net, key) = midway();
    net.nodes[0].hold_jobs = true;
    net.run_until(LIMIT, |net| net.nodes[0].jobs.len() > 2);
    let node = &mut net.nodes[0];
    let before = node.jobs.len();
    node.stop(key);
    assert_eq!(node.status(key).phase, PhaseKind::Stopping);
    assert_eq!(node.status(key).peers_connected, 0);
    // First every job is answered, then the store is closed, then the trackers are notified.
    for _ in 0..before {
        assert!(!node.jobs.iter().any(|job| matches!(job, Job::Close { .. })));
        node.do_job();
    }
    assert!(matches!(node.jobs.front(), Some(Job::Close { .. })) && node.jobs.len() == 1);
    assert!(node.fetches.is_empty());
    node.do_job();
    let goodbye = node.fetches.pop_front().expect("it announces `stopped`");
    assert_eq!(goodbye.request.event, AnnounceEvent::Stopped);
    assert!(!node.stopped());
    node.answer(&goodbye, Vec::new());
    assert_eq!(node.events.last().unwrap().1, EventKind::Stopped { reason: StopReason::Asked });
    assert!(node.engine.is_idle());

    node.hold_jobs = false;
    node.engine.resume(node.now, key);
    net.complete(LIMIT);
}

#[test]
fn hanging_tracker_delays_stop_three_seconds() {
    let (mut net, key) = midway();
    let node = &mut net.nodes[0];
    node.stop(key);
    node.advance(Duration::from_millis(2900));
    assert!(!node.stopped());
    node.advance(Duration::from_millis(200));
    assert!(node.stopped() && node.engine.is_idle());
    // The late answer is ignored.
    let goodbye = node.fetches.pop_front().unwrap();
    node.answer(&goodbye, Vec::new());
    assert_eq!(node.status(key).phase, PhaseKind::Stopped);
}

/// A stop does not wait for a tracker that never answered an earlier announce.
#[test]
fn mute_tracker_does_not_delay_stop() {
    let payload = payload();
    for (asked_before, waits) in [(1000, 2000), (3000, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(config(1));
        let key = node.add(add_of(&payload, folder.path()));
        assert_eq!(node.fetches.len(), 1, "it announces");
        node.advance(Duration::from_millis(asked_before));
        node.stop(key);
        if waits > 0 {
            node.advance(Duration::from_millis(waits - 100));
            assert!(!node.stopped());
            node.advance(Duration::from_millis(200));
        }
        assert!(node.stopped() && node.engine.is_idle());
    }
}

#[test]
fn stop_works_at_any_job() {
    let payload = payload();
    // The torrent is on the disk, so that there is something to verify.
    for jobs in 0..6 {
        let mut node = Node::new(config(1));
        node.hold_jobs = true;
        let key = node.add(add_of(&payload, payload.folder_path()));
        for _ in 0..jobs {
            node.do_job();
        }
        node.engine.stop(node.now, key);
        node.engine.stop(node.now, key);
        node.hold_jobs = false;
        node.act();
        node.advance(Duration::from_secs(4));
        let ends =
            node.count(|kind| matches!(kind, EventKind::Stopped { reason: StopReason::Asked }));
        assert_eq!((ends, node.engine.is_idle()), (1, true), "stopped after {jobs} jobs");
        node.resume(key);
        assert!(node.completed());
    }
}

#[test]
fn removed_torrent_is_forgotten() {
    let (mut net, key) = midway();
    let add = add_of(&net.payloads[0], net.folder(0));
    let node = &mut net.nodes[0];
    node.hold_jobs = true;
    node.act();
    node.engine.remove(node.now, key);
    assert!(node.engine.add(node.now, add.clone()).is_err(), "it is there still");
    node.hold_jobs = false;
    node.act();
    node.advance(Duration::from_secs(4));
    assert!(node.stopped());
    assert_eq!(node.engine.status(), []);
    node.events.clear();
    node.add(AddTorrent { peers: vec![address(1)], ..add });
    net.complete(LIMIT);
}

#[test]
fn stopped_torrent_is_removed_at_once() {
    let payload = payload();
    let mut node = Node::new(config(1));
    let key = node.add(AddTorrent { announce: false, ..add_of(&payload, payload.folder_path()) });
    node.stop(key);
    assert!(node.stopped());
    node.engine.remove(node.now, key);
    assert_eq!(node.engine.status(), []);
    // Unknown torrents are ignored.
    node.engine.stop(node.now, key);
    node.engine.resume(node.now, key);
    node.engine.remove(node.now, key);
    node.engine.add_peers(node.now, key, &[address(1)]);
    node.act();
}

#[test]
fn connecting_links_end_with_torrent() {
    let payload = payload();
    let mut node = Node::new(config(1));
    let peers = vec![address(1), address(2)];
    let folder = tempfile::tempdir().unwrap();
    let key = node.add(AddTorrent { peers, announce: false, ..add_of(&payload, folder.path()) });
    let (connecting, _) = node.connecting[0];
    node.remove(key);
    assert!(node.connecting.is_empty() && node.closed.len() == 2);
    node.engine.handle_connected(node.now, connecting);
    node.engine.handle_connect_failed(node.now, connecting, "too late");
    node.act();
    // The slot is used again, with another key.
    let link = node.incoming("10.0.0.9:5000", b"").unwrap();
    assert!(node.closed.iter().any(|closed| closed.slot() == link.slot() && *closed != link));
    for old in node.closed.clone() {
        node.engine.handle_closed(node.now, old, None);
    }
    node.act();
    assert!(!node.closed.contains(&link));
}

#[test]
fn hundred_torrents_stop_together() {
    let mut node = Node::new(config(1));
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100u64 {
        let payload = Payload::file("film", 20_000).seed(number).create().unwrap();
        node.add(add_of(&payload, folder.path().join(number.to_string())));
    }
    assert_eq!(node.count(|kind| matches!(kind, EventKind::Started { .. })), 100);
    node.engine.stop_all(node.now);
    node.act();
    assert_eq!(
        node.count(|kind| matches!(kind, EventKind::Stopped { reason: StopReason::Asked })),
        100
    );
    assert!(node.engine.is_idle());
}

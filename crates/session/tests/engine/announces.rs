//! Announces: to which tracker, when, over which family, and the use of the answers.

use std::time::Duration;

use bt_types::{PeerHost, TrackerPeer};
use session::engine::{EngineConfig, Families};
use session::limits::{ANNOUNCE_DEADLINE, MAX_AWAITED_PEER_NAMES, MAX_PEER_NAMES};
use session::{AddTorrent, EventKind, TorrentKey};
use testkit::{AnnounceEvent, Payload};

use super::node::{Fetch, Node, add_of, config};

fn torrent(node: &mut Node, seed: u64, tiers: &[&[&str]]) -> TorrentKey {
    let mut file = Payload::file("film", 100_000).seed(seed);
    for tier in tiers {
        file = file.tier(tier.iter().copied());
    }
    let payload = file.create().unwrap();
    let folder = tempfile::tempdir().unwrap().keep();
    node.add(add_of(&payload, folder))
}

fn urls(node: &Node) -> Vec<&str> {
    node.fetches.iter().map(|fetch| fetch.url.as_str()).collect()
}

fn next(node: &mut Node) -> Fetch {
    node.fetches.pop_front().expect("it announces")
}

#[test]
fn tiers_are_asked_in_order() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["http://a.example/x"], &["http://b.example/x"]]);
    let fetch = next(&mut node);
    assert_eq!(
        (fetch.url.as_str(), fetch.request.event),
        ("http://a.example/x", AnnounceEvent::Started)
    );
    assert_eq!((fetch.request.left, fetch.request.port), (100_000, 6881));
    node.fail(&fetch, "connection refused", false);
    let fetch = next(&mut node);
    assert_eq!(fetch.url, "http://b.example/x");
    let peer = TrackerPeer { host: PeerHost::Ip([10, 0, 0, 5].into()), port: 7, peer_id: None };
    node.answer(&fetch, vec![peer]);
    assert_eq!(node.connecting.len(), 1);
    let reported = |kind: &EventKind| matches!(kind, EventKind::Tracker { result: Ok(_), .. });
    assert_eq!(node.count(reported), 1);
}

#[test]
fn silent_tracker_is_passed_at_deadline() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["http://a.example/x"], &["http://b.example/x"]]);
    let late = next(&mut node);
    node.advance(ANNOUNCE_DEADLINE - Duration::from_millis(1));
    assert!(node.fetches.is_empty());
    node.advance(Duration::from_millis(2));
    assert_eq!(urls(&node), ["http://b.example/x"]);
    // Its late answer still brings peers.
    let peer = TrackerPeer { host: PeerHost::Ip([10, 0, 0, 5].into()), port: 7, peer_id: None };
    node.answer(&late, vec![peer]);
    assert_eq!(node.connecting.len(), 1);
}

#[test]
fn host_gets_two_requests_and_fails_for_all() {
    let mut node = Node::new(config(1));
    for seed in 0..10 {
        torrent(&mut node, seed, &[&["http://a.example/x"], &["http://b.example/x"]]);
    }
    assert_eq!(urls(&node), ["http://a.example/x"; 2]);
    let (one, two) = (next(&mut node), next(&mut node));
    node.answer(&one, Vec::new());
    assert_eq!(urls(&node), ["http://a.example/x"]);
    // Refusing one torrent is not failing; being unreachable is.
    node.fail(&two, "unregistered torrent", true);
    let [a, b] = ["http://a.example/x", "http://b.example/x"];
    assert_eq!(urls(&node), [a, a, b]);
    let dead = next(&mut node);
    node.fetches.clear();
    node.fail(&dead, "connection refused", false);
    let failed = |kind: &EventKind| matches!(kind, EventKind::Tracker { url, result: Err(_) } if url == "http://a.example/x");
    assert!(node.count(failed) >= 7, "{:?}", node.events);
}

#[test]
fn peer_names_are_resolved_once() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["http://a.example/x"]]);
    torrent(&mut node, 2, &[&["http://a.example/x"]]);
    let named = TrackerPeer { host: PeerHost::Name("peer.example".into()), port: 7, peer_id: None };
    for _ in 0..2 {
        let fetch = next(&mut node);
        node.answer(&fetch, vec![named.clone()]);
    }
    assert_eq!(node.names, ["peer.example"]);
    assert!(node.connecting.is_empty());
    node.engine.handle_resolved(node.now, "peer.example", Ok(vec![[10, 0, 0, 5].into()]));
    node.act();
    assert_eq!(node.connecting.len(), 2, "one for each torrent");
}

#[test]
fn sixteen_names_per_reply_are_resolved() {
    for (named, looked_up) in [(MAX_PEER_NAMES, 16), (MAX_PEER_NAMES + 1, 16)] {
        let mut node = Node::new(config(1));
        torrent(&mut node, 1, &[&["http://a.example/x"]]);
        let peer = |number| TrackerPeer {
            host: PeerHost::Name(format!("peer{number}.example")),
            port: 7,
            peer_id: None,
        };
        let fetch = next(&mut node);
        node.answer(&fetch, (0..named).map(peer).collect());
        assert_eq!(node.names.len(), looked_up);
    }
}

#[test]
fn peer_name_look_ups_are_limited() {
    let mut node = Node::new(config(1));
    let trackers = 1 + MAX_AWAITED_PEER_NAMES / MAX_PEER_NAMES;
    for number in 0..trackers {
        torrent(&mut node, number as u64 + 1, &[&["http://a.example/x"]]);
        let peer = |peer| TrackerPeer {
            host: PeerHost::Name(format!("peer{peer}.of{number}.example")),
            port: 7,
            peer_id: None,
        };
        let fetch = next(&mut node);
        node.answer(&fetch, (0..MAX_PEER_NAMES).map(peer).collect());
    }
    assert_eq!(node.names.len(), MAX_AWAITED_PEER_NAMES);
    let first = node.names.pop_front().unwrap();
    node.engine.handle_resolved(node.now, &first, Err("no such name".to_owned()));
    torrent(&mut node, 99, &[&["http://a.example/x"]]);
    let late = |peer| TrackerPeer {
        host: PeerHost::Name(format!("late{peer}.example")),
        port: 7,
        peer_id: None,
    };
    let fetch = next(&mut node);
    node.answer(&fetch, (0..2).map(late).collect());
    assert_eq!(node.names.back().map(String::as_str), Some("late0.example"));
}

#[test]
fn udp_tracker_is_resolved_and_asked() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    torrent(&mut node, 2, &[&["udp://t.example:6969"]]);
    assert_eq!(node.names, ["t.example"]);
    node.engine.handle_resolved(node.now, "t.example", Ok(vec![[10, 0, 0, 9].into()]));
    node.act();
    let mut answered = 0;
    while let Some((to, bytes)) = node.datagrams.pop_front() {
        assert_eq!(to, "10.0.0.9:6969".parse().unwrap());
        // BEP 15: the action is the third word.
        answered += usize::from(bytes[11] == 1);
        let response = answer_of(&bytes);
        // A datagram from another address is not taken for the reply.
        node.engine.handle_datagram(node.now, "10.0.0.8:6969".parse().unwrap(), &response);
        node.engine.handle_datagram(node.now, to, &response);
        node.act();
    }
    assert_eq!((answered, node.connecting.len()), (2, 2));
}

/// Returns the tracker's answer to a datagram of ours (BEP 15): one peer, 10.0.0.5:7.
fn answer_of(bytes: &[u8]) -> Vec<u8> {
    let transaction = &bytes[12..16];
    match bytes[11] {
        0 => [&[0; 4], transaction, &[0, 0, 0, 0, 0, 0, 0, 7]].concat(),
        _ => {
            let counts = [900u32, 1, 2].map(u32::to_be_bytes).concat();
            [&[0, 0, 0, 1], transaction, &counts, &[10, 0, 0, 5, 0, 7]].concat()
        }
    }
}

/// Answers the next datagram, which goes to `ip`.
fn answer_at(node: &mut Node, ip: &str) {
    let (to, bytes) = node.datagrams.pop_front().expect("a datagram");
    assert_eq!(to.ip().to_string(), ip);
    node.engine.handle_datagram(node.now, to, &answer_of(&bytes));
    node.act();
}

/// Returns the destinations of the datagrams sent since the last call.
fn sent_to(node: &mut Node) -> Vec<String> {
    node.datagrams.drain(..).map(|(to, _)| to.ip().to_string()).collect()
}

fn resolved(node: &mut Node, ips: &[&str]) {
    let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    node.engine.handle_resolved(node.now, "t.example", Ok(ips));
    node.act();
}

fn replies(node: &Node) -> usize {
    node.count(|kind| matches!(kind, EventKind::Tracker { result: Ok(_), .. }))
}

const A_MOMENT: Duration = Duration::from_millis(1);
const SILENCE: Duration = Duration::from_secs(2);

#[test]
fn silent_udp_address_is_passed() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    resolved(&mut node, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(sent_to(&mut node), ["10.0.0.1"]);
    node.advance(SILENCE - A_MOMENT);
    assert_eq!(sent_to(&mut node), [""; 0]);
    node.advance(A_MOMENT);
    answer_at(&mut node, "10.0.0.2");
    // Its answer to the connect request restarts the wait.
    node.advance(SILENCE - A_MOMENT);
    assert_eq!(node.datagrams.len(), 1);
    answer_at(&mut node, "10.0.0.2");
    assert_eq!((replies(&node), node.connecting.len()), (1, 1));
    node.advance(2 * SILENCE);
    assert_eq!(sent_to(&mut node), [""; 0], "the third is not needed");
    // The next torrent does not wait for the silent one.
    torrent(&mut node, 2, &[&["udp://t.example:6969"]]);
    assert_eq!(sent_to(&mut node), ["10.0.0.2"]);
}

#[test]
fn udp_silence_after_connect_is_passed() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    resolved(&mut node, &["10.0.0.1", "10.0.0.2"]);
    node.advance(Duration::from_secs(1));
    answer_at(&mut node, "10.0.0.1");
    assert_eq!(sent_to(&mut node), ["10.0.0.1"], "the announce");
    node.advance(SILENCE - A_MOMENT);
    assert_eq!(sent_to(&mut node), [""; 0]);
    node.advance(A_MOMENT);
    assert_eq!(sent_to(&mut node), ["10.0.0.2"]);
}

#[test]
fn eight_udp_addresses_are_asked() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    let ips: Vec<String> = (1..=9).map(|number| format!("10.0.0.{number}")).collect();
    resolved(&mut node, &ips.iter().map(String::as_str).collect::<Vec<_>>());
    let mut asked = sent_to(&mut node);
    for _ in 0..7 {
        node.advance(SILENCE);
        asked.extend(sent_to(&mut node));
    }
    assert_eq!(asked, ips[..8]);
    node.advance(ANNOUNCE_DEADLINE - 7 * SILENCE);
    let failed = |kind: &EventKind| matches!(kind, EventKind::Tracker { result: Err(_), .. });
    assert_eq!(node.count(failed), 1);
    assert_eq!(sent_to(&mut node), [""; 0]);
}

#[test]
fn public_udp_name_excludes_private_addresses() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    resolved(&mut node, &["10.0.0.1", "45.0.0.1", "127.0.0.1", "45.0.0.2"]);
    node.advance(ANNOUNCE_DEADLINE);
    assert_eq!(sent_to(&mut node), ["45.0.0.1", "45.0.0.2"]);
}

#[test]
fn unusable_public_address_excludes_private_ones() {
    let families = Families { v4: true, v6: false };
    let mut node = Node::new(EngineConfig { families, ..config(1) });
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    resolved(&mut node, &["2606:4700::1", "192.168.0.1"]);
    assert_eq!(sent_to(&mut node), [""; 0]);
    let failed = |kind: &EventKind| matches!(kind, EventKind::Tracker { result: Err(_), .. });
    assert_eq!(node.count(failed), 1);
}

#[test]
fn families_have_separate_udp_addresses() {
    let families = Families { v4: true, v6: true };
    let mut node = Node::new(EngineConfig { families, ..config(1) });
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    resolved(&mut node, &["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]);
    answer_at(&mut node, "10.0.0.1");
    assert_eq!(node.datagrams.pop_front().unwrap().0.ip().to_string(), "fd00::1");
    answer_at(&mut node, "10.0.0.1");
    assert_eq!(replies(&node), 1);
    node.advance(SILENCE);
    answer_at(&mut node, "fd00::2");
    assert_eq!(sent_to(&mut node), ["fd00::2"]);
}

#[test]
fn unknown_udp_connection_id_is_renewed() {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, &[&["udp://t.example:6969"]]);
    resolved(&mut node, &["10.0.0.1"]);
    answer_at(&mut node, "10.0.0.1");
    let (to, bytes) = node.datagrams.pop_front().expect("the announce");
    let error = [&[0, 0, 0, 3], &bytes[12..16], b"Connection ID missmatch."].concat();
    node.engine.handle_datagram(node.now, to, &error);
    node.act();
    answer_at(&mut node, "10.0.0.1");
    answer_at(&mut node, "10.0.0.1");
    assert_eq!(replies(&node), 1);
}

#[test]
fn both_families_are_asked() {
    let families = Families { v4: true, v6: true };
    let mut node = Node::new(EngineConfig { families, ..config(1) });
    torrent(&mut node, 1, &[&["http://a.example/x"]]);
    let (v4, v6) = (next(&mut node), next(&mut node));
    node.fail(&v4, "network unreachable", false);
    let reported = |kind: &EventKind| matches!(kind, EventKind::Tracker { .. });
    assert_eq!(node.count(reported), 0, "the other family may work");
    let peer =
        TrackerPeer { host: PeerHost::Ip("2001:db8::5".parse().unwrap()), port: 7, peer_id: None };
    node.answer(&v6, vec![peer]);
    assert!(node.has(|kind| matches!(kind, EventKind::Tracker { result: Ok(_), .. })));
    assert_eq!(node.connecting.len(), 1);
}

#[test]
fn no_listener_announces_unusable_port() {
    let mut node = Node::new(EngineConfig { listen_port: 0, ..config(1) });
    torrent(&mut node, 1, &[&["http://a.example/x"]]);
    assert_eq!(next(&mut node).request.port, 1);
}

#[test]
fn partial_download_is_not_announced_completed() {
    let url = "http://a.example/x";
    let files = [("one", 32 << 10), ("two", 32 << 10)];
    let payload =
        Payload::folder("album", &files).piece_length(32 << 10).tracker(url).create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("album")).unwrap();
    let have = payload.folder_path().join("album").join("one");
    let mut node = Node::new(config(1));
    let selected = Some(vec![true, false]);
    let key = node.add(AddTorrent { selected, ..add_of(&payload, folder.path()) });
    let started = next(&mut node);
    assert_eq!((started.request.event, started.request.left), (AnnounceEvent::Started, 64 << 10));
    node.answer(&started, Vec::new());
    node.engine.stop(node.now, key);
    node.act();
    node.fetches.clear();
    node.advance(Duration::from_secs(4));
    // The wanted file appears: the user is notified of the completion, the tracker is not.
    std::fs::copy(have, folder.path().join("album").join("one")).unwrap();
    node.engine.resume(node.now, key);
    node.act();
    assert!(node.completed());
    let started = next(&mut node);
    assert_eq!((started.request.event, started.request.left), (AnnounceEvent::Started, 32 << 10));
    node.answer(&started, Vec::new());
    node.advance(Duration::from_secs(1799));
    assert!(node.fetches.is_empty());
    node.advance(Duration::from_secs(1));
    let regular = next(&mut node);
    assert_eq!((regular.request.event, regular.request.left), (AnnounceEvent::Paused, 32 << 10));
}

#[test]
fn partial_seed_is_announced_paused() {
    let url = "http://a.example/x";
    let files = [("one", 40 << 10), ("two", 30 << 10)];
    let payload =
        Payload::folder("album", &files).piece_length(16 << 10).tracker(url).create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("album")).unwrap();
    let have = payload.folder_path().join("album").join("two");
    std::fs::copy(have, folder.path().join("album").join("two")).unwrap();
    let mut node = Node::new(config(1));
    node.add(AddTorrent { seed_only: true, ..add_of(&payload, folder.path()) });
    // Pieces 3 and 4 are whole: 16 KiB and 6 KiB of 70.
    let started = next(&mut node);
    assert_eq!((started.request.event, started.request.left), (AnnounceEvent::Started, 48 << 10));
    node.answer(&started, Vec::new());
    node.advance(Duration::from_secs(1800));
    let regular = next(&mut node);
    assert_eq!((regular.request.event, regular.request.left), (AnnounceEvent::Paused, 48 << 10));
}

#[test]
fn full_seed_is_not_paused() {
    let payload = Payload::file("film", 100_000).tracker("http://a.example/x").create().unwrap();
    let mut node = Node::new(config(1));
    node.add(AddTorrent { seed_only: true, ..add_of(&payload, payload.folder_path()) });
    let started = next(&mut node);
    node.answer(&started, Vec::new());
    node.advance(Duration::from_secs(1800));
    let regular = next(&mut node);
    assert_eq!((regular.request.event, regular.request.left), (AnnounceEvent::None, 0));
}

#[test]
fn announces_to_one_tracker_are_ordered() {
    let url = "http://a.example/x";
    let payload = Payload::file("film", 100_000).tracker(url).create().unwrap();
    let mut node = Node::new(config(1));
    let key = node.add(add_of(&payload, payload.folder_path()));
    let started = next(&mut node);
    node.engine.stop(node.now, key);
    node.act();
    assert!(node.fetches.is_empty(), "the first announce is answered first");
    node.answer(&started, Vec::new());
    let stopped = next(&mut node);
    assert_eq!(stopped.request.event, AnnounceEvent::Stopped);
    node.answer(&stopped, Vec::new());
    assert!(node.stopped());
}

#[test]
fn hanging_host_delays_nobody_after_deadline() {
    let mut node = Node::new(config(1));
    for seed in 0..6 {
        torrent(&mut node, seed, &[&["http://a.example/x"], &["http://b.example/x"]]);
    }
    let (one, two) = (next(&mut node), next(&mut node));
    node.advance(ANNOUNCE_DEADLINE + Duration::from_millis(1));
    assert_eq!(urls(&node), ["http://b.example/x"; 2], "all torrents ask the other tracker");
    let failed = |kind: &EventKind| matches!(kind, EventKind::Tracker { result: Err(_), .. });
    assert_eq!(node.count(failed), 6);
    // The late results of the fetchers change nothing: the host is in back-off.
    node.fail(&one, "timed out", false);
    node.fail(&two, "timed out", false);
    assert_eq!(node.count(failed), 6);
}

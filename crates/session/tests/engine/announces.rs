//! Announces: to which tracker, when, over which family, and the use of the answers.

use std::time::Duration;

use bt_types::{PeerHost, TrackerPeer};
use session::engine::{EngineConfig, Families};
use session::limits::{ANNOUNCE_DEADLINE, MAX_AWAITED_PEER_NAMES, MAX_PEER_NAMES};
use session::{AddTorrent, EventKind, TorrentKey};
use testkit::{AnnounceEvent, Payload};

use super::node::{Fetch, Node, add_of, config};

const A: &str = "http://a.example/x";
const B: &str = "http://b.example/x";
const UDP: &str = "udp://t.example:6969";

fn torrent(node: &mut Node, seed: u64, tiers: &[&str]) -> TorrentKey {
    let file = Payload::file("film", 100_000).seed(seed);
    let payload = tiers.iter().fold(file, |file, url| file.tier([*url])).create().unwrap();
    let folder = tempfile::tempdir().unwrap().keep();
    node.add(add_of(&payload, folder))
}

/// A node with one torrent, which has these trackers.
fn announcing(tiers: &[&str]) -> Node {
    let mut node = Node::new(config(1));
    torrent(&mut node, 1, tiers);
    node
}

fn urls(node: &Node) -> Vec<&str> {
    node.fetches.iter().map(|fetch| fetch.url.as_str()).collect()
}

fn next(node: &mut Node) -> Fetch {
    node.fetches.pop_front().expect("it announces")
}

/// Answers the next announce. Returns its event and what is left.
fn answer_next(node: &mut Node, peers: Vec<TrackerPeer>) -> (AnnounceEvent, u64) {
    let fetch = next(node);
    node.answer(&fetch, peers);
    (fetch.request.event, fetch.request.left)
}

fn peer(ip: &str) -> TrackerPeer {
    TrackerPeer { host: PeerHost::Ip(ip.parse().unwrap()), port: 7, peer_id: None }
}

fn named(name: impl Into<String>) -> TrackerPeer {
    TrackerPeer { host: PeerHost::Name(name.into()), port: 7, peer_id: None }
}

fn replies(node: &Node) -> usize {
    node.count(|kind| matches!(kind, EventKind::Tracker { result: Ok(_), .. }))
}

fn failures(node: &Node) -> usize {
    node.count(|kind| matches!(kind, EventKind::Tracker { result: Err(_), .. }))
}

#[test]
fn tiers_are_asked_in_order() {
    let mut node = announcing(&[A, B]);
    let fetch = next(&mut node);
    assert_eq!((fetch.url.as_str(), fetch.request.event), (A, AnnounceEvent::Started));
    assert_eq!((fetch.request.left, fetch.request.port), (100_000, 6881));
    node.fail(&fetch, "connection refused", false);
    assert_eq!(urls(&node), [B]);
    answer_next(&mut node, vec![peer("10.0.0.5")]);
    assert_eq!((node.connecting.len(), replies(&node)), (1, 1));
}

#[test]
fn silent_tracker_is_passed_at_deadline() {
    let mut node = announcing(&[A, B]);
    let late = next(&mut node);
    node.advance(ANNOUNCE_DEADLINE - A_MOMENT);
    assert!(node.fetches.is_empty());
    node.advance(2 * A_MOMENT);
    assert_eq!(urls(&node), [B]);
    // Its late answer still brings peers.
    node.answer(&late, vec![peer("10.0.0.5")]);
    assert_eq!(node.connecting.len(), 1);
}

#[test]
fn host_gets_two_requests_and_fails_for_all() {
    let mut node = Node::new(config(1));
    for seed in 0..10 {
        torrent(&mut node, seed, &[A, B]);
    }
    assert_eq!(urls(&node), [A; 2]);
    let (one, two) = (next(&mut node), next(&mut node));
    node.answer(&one, Vec::new());
    assert_eq!(urls(&node), [A]);
    // Refusing one torrent is not failing; being unreachable is.
    node.fail(&two, "unregistered torrent", true);
    assert_eq!(urls(&node), [A, A, B]);
    let dead = next(&mut node);
    node.fetches.clear();
    node.fail(&dead, "connection refused", false);
    let failed =
        |kind: &EventKind| matches!(kind, EventKind::Tracker { url, result: Err(_) } if url == A);
    assert!(node.count(failed) >= 7, "{:?}", node.events);
}

#[test]
fn peer_names_are_resolved_once() {
    let mut node = announcing(&[A]);
    torrent(&mut node, 2, &[A]);
    for _ in 0..2 {
        answer_next(&mut node, vec![named("peer.example")]);
    }
    assert_eq!(node.names, ["peer.example"]);
    assert!(node.connecting.is_empty());
    node.resolved("peer.example", &["10.0.0.5"]);
    assert_eq!(node.connecting.len(), 2, "one for each torrent");
}

#[test]
fn sixteen_names_per_reply_are_resolved() {
    for (given, looked_up) in [(MAX_PEER_NAMES, 16), (MAX_PEER_NAMES + 1, 16)] {
        let mut node = announcing(&[A]);
        let peer = |number| named(format!("peer{number}.example"));
        answer_next(&mut node, (0..given).map(peer).collect());
        assert_eq!(node.names.len(), looked_up);
    }
}

#[test]
fn peer_name_look_ups_are_limited() {
    let mut node = Node::new(config(1));
    let trackers = 1 + MAX_AWAITED_PEER_NAMES / MAX_PEER_NAMES;
    for number in 0..trackers {
        torrent(&mut node, number as u64 + 1, &[A]);
        let peer = |peer| named(format!("peer{peer}.of{number}.example"));
        answer_next(&mut node, (0..MAX_PEER_NAMES).map(peer).collect());
    }
    assert_eq!(node.names.len(), MAX_AWAITED_PEER_NAMES);
    let first = node.names.pop_front().unwrap();
    node.engine.handle_resolved(node.now, &first, Err("no such name".to_owned()));
    torrent(&mut node, 99, &[A]);
    answer_next(&mut node, vec![named("late0.example"), named("late1.example")]);
    assert_eq!(node.names.back().map(String::as_str), Some("late0.example"));
}

#[test]
fn udp_tracker_is_resolved_and_asked() {
    let mut node = announcing(&[UDP]);
    torrent(&mut node, 2, &[UDP]);
    assert_eq!(node.names, ["t.example"]);
    node.resolved("t.example", &["10.0.0.9"]);
    let mut answered = 0;
    while let Some((to, bytes)) = node.datagrams.pop_front() {
        assert_eq!(to, "10.0.0.9:6969".parse().unwrap());
        // BEP 15: the action is the third word.
        answered += usize::from(bytes[11] == 1);
        let response = answer_of(&bytes);
        // A datagram from another address is not taken for the reply.
        node.datagram("10.0.0.8:6969".parse().unwrap(), &response);
        node.datagram(to, &response);
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
    node.datagram(to, &answer_of(&bytes));
}

/// Returns the destinations of the datagrams sent since the last call.
fn sent_to(node: &mut Node) -> Vec<String> {
    node.datagrams.drain(..).map(|(to, _)| to.ip().to_string()).collect()
}

/// A node with one torrent, whose UDP tracker has these addresses.
fn announcing_udp(families: Families, ips: &[&str]) -> Node {
    let mut node = Node::new(EngineConfig { families, ..config(1) });
    torrent(&mut node, 1, &[UDP]);
    node.resolved("t.example", ips);
    node
}

const V4: Families = Families { v4: true, v6: false };
const BOTH: Families = Families { v4: true, v6: true };
const A_MOMENT: Duration = Duration::from_millis(1);
const SILENCE: Duration = Duration::from_secs(2);

#[test]
fn silent_udp_address_is_passed() {
    let mut node = announcing_udp(V4, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
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
    torrent(&mut node, 2, &[UDP]);
    assert_eq!(sent_to(&mut node), ["10.0.0.2"]);
}

#[test]
fn udp_silence_after_connect_is_passed() {
    let mut node = announcing_udp(V4, &["10.0.0.1", "10.0.0.2"]);
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
    let ips: Vec<String> = (1..=9).map(|number| format!("10.0.0.{number}")).collect();
    let mut node = announcing_udp(V4, &ips.iter().map(String::as_str).collect::<Vec<_>>());
    let mut asked = sent_to(&mut node);
    for _ in 0..7 {
        node.advance(SILENCE);
        asked.extend(sent_to(&mut node));
    }
    assert_eq!(asked, ips[..8]);
    node.advance(ANNOUNCE_DEADLINE - 7 * SILENCE);
    assert_eq!(failures(&node), 1);
    assert_eq!(sent_to(&mut node), [""; 0]);
}

#[test]
fn public_udp_name_excludes_private_addresses() {
    let mut node = announcing_udp(V4, &["10.0.0.1", "45.0.0.1", "127.0.0.1", "45.0.0.2"]);
    node.advance(ANNOUNCE_DEADLINE);
    assert_eq!(sent_to(&mut node), ["45.0.0.1", "45.0.0.2"]);
}

#[test]
fn unusable_public_address_excludes_private_ones() {
    let mut node = announcing_udp(V4, &["2606:4700::1", "192.168.0.1"]);
    assert_eq!(sent_to(&mut node), [""; 0]);
    assert_eq!(failures(&node), 1);
}

#[test]
fn families_have_separate_udp_addresses() {
    let mut node = announcing_udp(BOTH, &["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]);
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
    let mut node = announcing_udp(V4, &["10.0.0.1"]);
    answer_at(&mut node, "10.0.0.1");
    let (to, bytes) = node.datagrams.pop_front().expect("the announce");
    let error = [&[0, 0, 0, 3], &bytes[12..16], b"Connection ID missmatch."].concat();
    node.datagram(to, &error);
    answer_at(&mut node, "10.0.0.1");
    answer_at(&mut node, "10.0.0.1");
    assert_eq!(replies(&node), 1);
}

#[test]
fn both_families_are_asked() {
    let mut node = Node::new(EngineConfig { families: BOTH, ..config(1) });
    torrent(&mut node, 1, &[A]);
    let (v4, v6) = (next(&mut node), next(&mut node));
    node.fail(&v4, "network unreachable", false);
    assert_eq!(replies(&node) + failures(&node), 0, "the other family may work");
    node.answer(&v6, vec![peer("2001:db8::5")]);
    assert_eq!((replies(&node), node.connecting.len()), (1, 1));
}

#[test]
fn no_listener_announces_unusable_port() {
    let mut node = Node::new(EngineConfig { listen_port: 0, ..config(1) });
    torrent(&mut node, 1, &[A]);
    assert_eq!(next(&mut node).request.port, 1);
}

/// A torrent of two files, and a download folder with the folder of the torrent.
fn album(one: u64, two: u64, piece_length: u32) -> (Payload, tempfile::TempDir) {
    let payload = Payload::folder("album", &[("one", one), ("two", two)]);
    let payload = payload.piece_length(piece_length).tracker(A).create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("album")).unwrap();
    (payload, folder)
}

/// A file of the album appears.
fn copy(payload: &Payload, folder: &tempfile::TempDir, file: &str) {
    let [from, to] = [payload.folder_path(), folder.path()].map(|it| it.join("album").join(file));
    std::fs::copy(from, to).unwrap();
}

#[test]
fn partial_download_is_not_announced_completed() {
    let (payload, folder) = album(32 << 10, 32 << 10, 32 << 10);
    let mut node = Node::new(config(1));
    let selected = Some(vec![true, false]);
    let key = node.add(AddTorrent { selected, ..add_of(&payload, folder.path()) });
    assert_eq!(answer_next(&mut node, Vec::new()), (AnnounceEvent::Started, 64 << 10));
    node.stop(key);
    node.fetches.clear();
    node.advance(Duration::from_secs(4));
    // The wanted file appears: the user is notified of the completion, the tracker is not.
    copy(&payload, &folder, "one");
    node.resume(key);
    assert!(node.completed());
    assert_eq!(answer_next(&mut node, Vec::new()), (AnnounceEvent::Started, 32 << 10));
    node.advance(Duration::from_secs(1799));
    assert!(node.fetches.is_empty());
    node.advance(Duration::from_secs(1));
    assert_eq!(answer_next(&mut node, Vec::new()), (AnnounceEvent::Paused, 32 << 10));
}

#[test]
fn partial_seed_is_announced_paused() {
    let (payload, folder) = album(40 << 10, 30 << 10, 16 << 10);
    copy(&payload, &folder, "two");
    let mut node = Node::new(config(1));
    node.add(AddTorrent { seed_only: true, ..add_of(&payload, folder.path()) });
    // Pieces 3 and 4 are whole: 16 KiB and 6 KiB of 70.
    assert_eq!(answer_next(&mut node, Vec::new()), (AnnounceEvent::Started, 48 << 10));
    node.advance(Duration::from_secs(1800));
    assert_eq!(answer_next(&mut node, Vec::new()), (AnnounceEvent::Paused, 48 << 10));
}

#[test]
fn full_seed_is_not_paused() {
    let payload = Payload::file("film", 100_000).tracker(A).create().unwrap();
    let mut node = Node::new(config(1));
    node.seed(&payload);
    answer_next(&mut node, Vec::new());
    node.advance(Duration::from_secs(1800));
    assert_eq!(answer_next(&mut node, Vec::new()), (AnnounceEvent::None, 0));
}

#[test]
fn announces_to_one_tracker_are_ordered() {
    let payload = Payload::file("film", 100_000).tracker(A).create().unwrap();
    let mut node = Node::new(config(1));
    let key = node.add(add_of(&payload, payload.folder_path()));
    let started = next(&mut node);
    node.stop(key);
    assert!(node.fetches.is_empty(), "the first announce is answered first");
    node.answer(&started, Vec::new());
    assert_eq!(answer_next(&mut node, Vec::new()).0, AnnounceEvent::Stopped);
    assert!(node.stopped());
}

#[test]
fn hanging_host_delays_nobody_after_deadline() {
    let mut node = Node::new(config(1));
    for seed in 0..6 {
        torrent(&mut node, seed, &[A, B]);
    }
    let (one, two) = (next(&mut node), next(&mut node));
    node.advance(ANNOUNCE_DEADLINE + A_MOMENT);
    assert_eq!(urls(&node), [B; 2], "all torrents ask the other tracker");
    assert_eq!(failures(&node), 6);
    // The late results of the fetchers change nothing: the host is in back-off.
    node.fail(&one, "timed out", false);
    node.fail(&two, "timed out", false);
    assert_eq!(failures(&node), 6);
}

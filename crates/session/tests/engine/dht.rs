//! Torrents find peers in the DHT.

use std::sync::Arc;
use std::time::Duration;

use bt_types::AnnounceEvent;
use metainfo::{Magnet, Metainfo};
use session::engine::EngineConfig;
use session::{AddTorrent, DhtConfig, EventKind, Goal, PhaseKind};
use testkit::Payload;

use super::net::{Net, address};
use super::node::{Node, add_of, config};

const LIMIT: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);

fn payload(name: &str) -> Payload {
    Payload::file(name, 300_000).piece_length(32 << 10).create().unwrap()
}

/// An engine whose node of the DHT joins through the node at `address(join)`.
fn with_dht(seed: u64, join: usize) -> EngineConfig {
    let nodes = vec![address(join).to_string()];
    let dht = Some(DhtConfig { nodes, routers: Vec::new(), ..DhtConfig::new() });
    EngineConfig { dht, datagram_port: 6881, ..config(seed) }
}

/// An engine whose node of the DHT knows no other.
fn unconnected(seed: u64) -> EngineConfig {
    let dht = Some(DhtConfig { routers: Vec::new(), ..DhtConfig::new() });
    EngineConfig { dht, datagram_port: 6881, ..config(seed) }
}

fn link(payload: &Payload) -> Arc<Magnet> {
    Arc::new(Magnet {
        trackers: Vec::new(),
        ..Metainfo::parse(payload.torrent()).unwrap().magnet()
    })
}

/// The queries of one kind among the datagrams that a node has sent.
fn queries(net: &Net, node: usize, method: &str) -> usize {
    let name = format!("1:q{}:{method}", method.len());
    let sent = net.carried.iter().filter(|(from, _)| *from == node);
    sent.filter(|(_, bytes)| bytes.windows(name.len()).any(|it| it == name.as_bytes())).count()
}

#[test]
fn link_is_found_in_dht() {
    let (film, other) = (payload("film"), payload("other"));
    let mut net = Net::new([with_dht(0, 2), with_dht(1, 2), with_dht(2, 1)]);
    net.nodes[1].seed(&film);
    net.nodes[2].seed(&other);
    net.pass(LIMIT);
    let add = AddTorrent::from_link(link(&film), net.folder(0));
    net.downloads.push(net.nodes[0].add(add));
    net.payloads.push(film);
    net.complete(LIMIT);
    assert!(queries(&net, 1, "announce_peer") > 0);
    assert_eq!(net.nodes[0].status(net.downloads[0]).nodes, Some(2));
}

#[test]
fn private_torrent_sends_no_datagram() {
    let private = Payload::file("film", 300_000).piece_length(32 << 10).private().create().unwrap();
    let mut net = Net::new([with_dht(0, 1), with_dht(1, 0)]);
    net.nodes[1].seed(&private);
    net.pass(20 * MINUTE);
    assert_eq!(net.carried.len(), 0);
}

#[test]
fn node_starts_with_first_public_torrent() {
    let mut net = Net::new([with_dht(0, 1), with_dht(1, 0)]);
    net.pass(MINUTE);
    assert_eq!(net.carried.len(), 0);
    let film = payload("film");
    let seed = net.nodes[0].seed(&film);
    assert_eq!(net.nodes[0].status(seed).nodes, Some(0));
    net.pass(MINUTE);
    assert!(!net.carried.is_empty());
}

/// Before the metadata is there nobody knows that the torrent is private.
#[test]
fn private_link_is_never_announced() {
    let private = Payload::file("film", 300_000).piece_length(32 << 10).private().create().unwrap();
    let mut net = Net::new([with_dht(0, 2), config(1), with_dht(2, 0)]);
    net.nodes[1].seed(&private);
    net.nodes[2].seed(&payload("other"));
    let link = Magnet { peers: vec![address(1).to_string()], ..(*link(&private)).clone() };
    let add = AddTorrent::from_link(Arc::new(link), net.folder(0));
    let key = net.nodes[0].add(add);
    net.run_until(LIMIT, |net| net.nodes[0].status(key).phase == PhaseKind::Transfer);
    let lookups = queries(&net, 0, "get_peers");
    net.pass(40 * MINUTE);
    assert_eq!(queries(&net, 0, "get_peers"), lookups, "no further lookup");
    assert_eq!(queries(&net, 0, "announce_peer"), 0);
}

#[test]
fn torrent_names_nodes() {
    let film = Payload::file("film", 300_000).node(address(1)).create().unwrap();
    let mut net = Net::new([unconnected(0), unconnected(1)]);
    net.nodes[1].seed(&payload("other"));
    let key = net.nodes[0].seed(&film);
    net.run_until(LIMIT, |net| net.nodes[0].status(key).nodes == Some(1));
}

#[test]
fn peers_name_their_nodes() {
    let film = payload("film");
    let mut net = Net::swarm(unconnected(0), 0, Vec::new());
    net.nodes.push(Node::new(unconnected(1)));
    net.nodes[1].seed(&film);
    let folder = net.folder(0);
    let key = net.nodes[0].leech(&film, folder, [address(1)]);
    net.run_until(LIMIT, |net| net.nodes[0].status(key).nodes == Some(1));
}

/// Returns in which seconds of the next `period` node 0 has sent a query for peers.
fn lookup_times(net: &mut Net, period: Duration) -> Vec<u64> {
    let is_busy = |_: &u64| {
        let before = queries(net, 0, "get_peers");
        net.pass(Duration::from_secs(1));
        queries(net, 0, "get_peers") > before
    };
    (0..period.as_secs()).filter(is_busy).collect()
}

/// Checks that the first lookup is at once, and that the pauses double from `first` up to a quarter
/// of an hour, with up to a quarter or 15 s between.
#[track_caller]
fn assert_pauses_double(times: &[u64], first: u64, count: usize) {
    assert_eq!(times.first(), Some(&0), "{times:?}");
    assert!(times.len() >= count, "{times:?}");
    for (number, pair) in times.windows(2).enumerate() {
        let pause = (first << number.min(20)).min(15 * 60);
        let most = pause + (pause / 4).min(15) + 1;
        assert!((pause..=most).contains(&(pair[1] - pair[0])), "{number}: {times:?}");
    }
}

#[test]
fn lookup_without_peers_is_repeated_less_often() {
    let mut net = Net::new([with_dht(0, 1), with_dht(1, 0)]);
    net.nodes[1].seed(&payload("other"));
    net.pass(LIMIT);
    let add = AddTorrent { announce: false, ..AddTorrent::from_link(link(&payload("film")), "/x") };
    net.nodes[0].add(add);
    let times = lookup_times(&mut net, 60 * MINUTE);
    assert_pauses_double(&times, 5, 10);
}

/// Leechers find it, so it needs to find nobody.
#[test]
fn announced_seeder_is_looked_up_rarely() {
    let mut net = Net::new([with_dht(0, 1), with_dht(1, 0)]);
    net.nodes[1].seed(&payload("other"));
    net.pass(LIMIT);
    net.nodes[0].seed(&payload("film"));
    let times = lookup_times(&mut net, 60 * MINUTE);
    assert_pauses_double(&times, 60, 6);
}

/// Everything may start at the same moment.
#[test]
fn seeder_may_start_after_link() {
    let (film, other) = (payload("film"), payload("other"));
    let mut net = Net::new([with_dht(0, 2), with_dht(1, 2), with_dht(2, 1)]);
    net.nodes[2].seed(&other);
    let add = AddTorrent::from_link(link(&film), net.folder(0));
    net.downloads.push(net.nodes[0].add(add));
    net.pass(Duration::from_secs(3));
    net.nodes[1].seed(&film);
    net.payloads.push(film);
    net.complete(Duration::from_secs(15));
}

/// A torrent whose only tracker is dead is given up only when the DHT has no peer either.
#[test]
fn dht_keeps_hope() {
    let film = Payload::file("film", 300_000).tier(["http://a.example/x"]).create().unwrap();
    let mut net = Net::new([with_dht(0, 1), with_dht(1, 0)]);
    net.nodes[1].seed(&payload("other"));
    net.pass(LIMIT);
    let goal = Some(Box::new(Goal { give_up: true, ..Goal::default() }));
    let folder = net.folder(0);
    net.nodes[0].add(AddTorrent { goal: goal.clone(), ..add_of(&film, folder) });
    let unknown = AddTorrent { goal, ..AddTorrent::from_link(link(&payload("new")), "/x") };
    let link = net.nodes[0].add(unknown);
    for _ in 0..10 {
        net.pass(MINUTE);
        while let Some(fetch) = net.nodes[0].fetches.pop_front() {
            if fetch.request.event != AnnounceEvent::Stopped {
                net.nodes[0].fail(&fetch, "connection refused", false);
            }
        }
    }
    let stopped = |kind: &EventKind| matches!(kind, EventKind::Stopped { .. });
    assert_eq!(net.nodes[0].count(stopped), 1, "the torrent, not the link");
    assert_eq!(net.nodes[0].status(link).phase, PhaseKind::Metadata);
}

#[test]
fn node_of_the_user_may_start_later() {
    let mut net = Net::new([with_dht(0, 1), unconnected(1)]);
    let early = net.nodes[0].seed(&payload("film"));
    net.pass(10 * MINUTE);
    assert_eq!(net.nodes[0].status(early).nodes, Some(0));
    net.nodes[1].seed(&payload("other"));
    net.run_until(20 * MINUTE, |net| net.nodes[0].status(early).nodes == Some(1));
}

//! Torrents find peers in the local network.

use std::sync::Arc;
use std::time::Duration;

use lsd::{Announce, Group, Network};
use metainfo::{Magnet, Metainfo};
use session::AddTorrent;
use session::engine::EngineConfig;
use testkit::Payload;

use super::node::{Node, config};

fn node() -> Node {
    Node::new(EngineConfig { lsd: true, ..config(1) })
}

fn payload() -> Payload {
    Payload::file("film", 300_000).piece_length(32 << 10).create().unwrap()
}

fn link(payload: &Payload, trackers: &[&str]) -> AddTorrent {
    let trackers = trackers.iter().map(|url| (*url).to_owned()).collect();
    let magnet = Metainfo::parse(payload.torrent()).unwrap().magnet();
    AddTorrent::from_link(Arc::new(Magnet { trackers, ..magnet }), "/x")
}

/// Announces of the torrent that the node has sent to IPv4.
fn announces(node: &Node, payload: &Payload) -> usize {
    let v4 = node.multicasts.iter().filter(|(group, _)| *group == Group::V4);
    let hashes = v4.flat_map(|(_, bytes)| Announce::decode(Group::V4, bytes).unwrap().info_hashes);
    hashes.filter(|hash| *hash == payload.info_hash()).count()
}

#[test]
fn public_torrents_are_announced() {
    let (mut node, payload) = (node(), payload());
    let key = node.seed(&payload);
    assert_eq!(announces(&node, &payload), 1);
    node.advance(Duration::from_secs(301));
    assert_eq!(announces(&node, &payload), 2);
    node.stop(key);
    node.advance(Duration::from_secs(900));
    assert_eq!(announces(&node, &payload), 2, "stopped");
}

#[test]
fn private_torrents_are_not_announced() {
    let mut node = node();
    let private = Payload::file("film", 300_000).private().create().unwrap();
    node.seed(&private);
    node.advance(Duration::from_secs(900));
    assert_eq!(announces(&node, &private), 0);
}

/// A link's trackers name peers. Without any, the local network is asked before anybody knows
/// whether the torrent is private.
#[test]
fn link_with_trackers_is_not_announced() {
    let payload = payload();
    for (trackers, expected) in [(&[][..], 1), (&["http://a.example/x"], 0)] {
        let mut node = node();
        node.add(link(&payload, trackers));
        assert_eq!(announces(&node, &payload), expected, "{trackers:?}");
    }
}

#[test]
fn announced_peer_is_connected_to() {
    let (mut node, payload) = (node(), payload());
    node.engine.set_local_networks(vec![Network::new("10.0.0.5".parse().unwrap(), 24)]);
    node.add(link(&payload, &[]));
    let announce = Announce { port: 7000, info_hashes: vec![payload.info_hash()], cookie: None };
    let bytes = announce.encode(Group::V4);
    for (from, expected) in [("10.0.1.9:6771", 0), ("10.0.0.9:6771", 1)] {
        node.engine.handle_local_datagram(node.now, from.parse().unwrap(), &bytes);
        node.act();
        assert_eq!(node.connecting.len(), expected, "from {from}");
    }
    assert_eq!(node.connecting[0].1, "10.0.0.9:7000".parse().unwrap());
}

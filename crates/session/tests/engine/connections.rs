//! Peers connect, shake hands and disconnect, in good and bad ways.

use std::net::SocketAddr;
use std::time::Duration;

use peer_wire::{Handshake, Message, Reserved, WireRequest};
use session::engine::{EngineConfig, LinkKey};
use session::{EventKind, PeerState, TorrentKey};
use testkit::{InfoHashV1, Payload};

use super::node::{Node, add_of, config};
use super::wire::{handshake, handshake_with, request, wire};

fn payload() -> Payload {
    Payload::file("film", 100_000).piece_length(32 << 10).create().unwrap()
}

/// A node that wants the payload and knows so many peers.
fn leecher(config: EngineConfig, peers: usize) -> (Node, TorrentKey, Payload) {
    let payload = payload();
    let folder = tempfile::tempdir().unwrap().keep();
    let mut node = Node::new(config);
    let peers = (0..peers).map(|n| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 7000)));
    let key = node.leech(&payload, folder, peers);
    (node, key, payload)
}

/// How many peers could not be connected to.
fn failed(node: &Node) -> usize {
    node.count(|kind| matches!(kind, EventKind::Peer { state: PeerState::Failed, .. }))
}

fn connected(node: &Node) -> usize {
    node.engine.status().iter().map(|status| status.peers_connected).sum()
}

#[test]
fn wrong_incoming_handshakes_are_refused() {
    let (mut node, _, payload) = leecher(config(1), 0);
    let other = InfoHashV1([9; 20]);
    for wrong in [handshake(other, b'p'), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 500]] {
        let link = node.incoming("10.0.0.9:5000", &wrong).unwrap();
        assert!(node.closed.contains(&link));
        assert!(!node.sent.contains_key(&link), "we do not identify ourselves");
    }
    assert_eq!(connected(&node), 0);
    let link = node.incoming("10.0.0.9:5001", &handshake(payload.info_hash(), b'p')).unwrap();
    assert!(!node.closed.contains(&link));
    // The same peer again, and a peer with our own id.
    let ours = Handshake::decode(node.sent[&link].first_chunk().unwrap()).unwrap();
    let own = Handshake { reserved: Reserved::NONE, ..ours }.encode().to_vec();
    for (again, from) in
        [(handshake(payload.info_hash(), b'p'), "10.0.0.9:5002"), (own, "10.0.0.9:5003")]
    {
        let link = node.incoming(from, &again).unwrap();
        assert!(node.closed.contains(&link));
    }
    assert_eq!(connected(&node), 1);
}

#[test]
fn wrong_outgoing_handshakes_are_refused() {
    let (mut node, key, payload) = leecher(config(1), 3);
    let wrong = node.outgoing(&handshake(InfoHashV1([9; 20]), b'p'));
    let garbage = node.outgoing(&[0xff; 100]);
    let good = node.outgoing(&handshake(payload.info_hash(), b'p'));
    assert!(node.closed.contains(&wrong) && node.closed.contains(&garbage));
    assert!(!node.closed.contains(&good));
    assert_eq!(failed(&node), 2);
    // A peer that broke the protocol is tried again soon, one with another torrent is not.
    node.advance(Duration::from_secs(12));
    assert_eq!(node.connecting.len(), 1);
    assert_eq!(node.status(key).peers_connected, 1);
}

#[test]
fn peer_breaking_a_rule_is_dropped() {
    for broken in [
        vec![0xff; 5],
        wire(Message::Bitfield(&[0xff, 0xff])),
        wire(Message::Have(99)),
        wire(Message::Request(WireRequest { index: 0, offset: 0, length: 1 << 20 })),
    ] {
        let (mut node, _, payload) = leecher(config(1), 0);
        let link = node.incoming("10.0.0.9:5000", &handshake(payload.info_hash(), b'p')).unwrap();
        node.receive(link, &broken);
        assert!(node.closed.contains(&link), "{broken:?}");
        assert_eq!(connected(&node), 0);
        // Late bytes of a link that has ended are ignored.
        node.receive(link, &wire(Message::Unchoke));
        node.engine.handle_closed(node.now, link, None);
        node.act();
    }
}

#[test]
fn half_open_links_are_limited() {
    let wide = EngineConfig { max_peers_per_torrent: 100, ..config(1) };
    let (mut node, _, payload) = leecher(wide, 100);
    assert_eq!(node.connecting.len(), 48, "room is left for incoming connections");
    for port in 5000..5016 {
        assert!(!node.engine.is_crowded());
        assert!(node.incoming(&format!("10.0.0.9:{port}"), b"").is_some());
    }
    assert!(node.engine.is_crowded());
    assert!(node.incoming("10.0.0.9:6000", b"").is_none(), "the sixty-fifth");
    let link = node.outgoing(&handshake(payload.info_hash(), b'p'));
    assert!(!node.closed.contains(&link));
    assert_eq!(node.connecting.len(), 48, "one is a peer now, and the next is dialled");
    node.advance(Duration::from_secs(12));
    assert!(!node.engine.is_crowded(), "all others have timed out");
}

#[test]
fn slow_handshakes_leave_room_to_dial() {
    let (mut node, key, payload) = leecher(config(1), 0);
    for port in 5000..5048 {
        assert!(node.incoming(&format!("10.0.0.9:{port}"), b"\x13BitTorrent").is_some());
    }
    assert!(node.incoming("10.0.0.9:6000", b"").is_none(), "the forty-ninth");
    let peers: Vec<SocketAddr> = (0..20).map(|n| SocketAddr::from(([10, 1, 0, n], 7000))).collect();
    node.add_peers(key, &peers);
    assert_eq!(node.connecting.len(), 16);
    let link = node.outgoing(&handshake(payload.info_hash(), b'p'));
    assert!(!node.closed.contains(&link));
    assert_eq!(node.status(key).peers_connected, 1);
}

#[test]
fn torrents_share_half_open_links() {
    let mut node = Node::new(config(1));
    let folder = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for number in 0..100u8 {
        let payload = Payload::file("film", 1000).seed(number.into()).create().unwrap();
        let peers = (0..5).map(|n| SocketAddr::from(([10, 2, number, n], 7000)));
        keys.push(node.leech(&payload, folder.path().join(number.to_string()), peers));
    }
    assert_eq!(node.connecting.len(), 48);
    let mut tried = std::collections::BTreeMap::<u8, usize>::new();
    while let Some((link, address)) = node.connecting.pop_front() {
        let std::net::IpAddr::V4(ip) = address.ip() else { panic!() };
        *tried.entry(ip.octets()[2]).or_default() += 1;
        node.refuse(link);
    }
    assert_eq!(tried.len(), 100);
    assert!(tried.values().all(|count| *count == 5), "{tried:?}");
    for key in keys {
        assert_eq!(node.status(key).peers_known, 5);
    }
}

#[test]
fn connections_are_limited() {
    let limited = EngineConfig { max_connections: 3, ..config(1) };
    let (mut node, _, _) = leecher(limited, 10);
    assert_eq!(node.connecting.len(), 3);
    assert!(node.incoming("10.0.0.9:5000", b"").is_none());
    let (link, _) = node.connecting.pop_front().unwrap();
    node.refuse(link);
    assert_eq!(node.connecting.len(), 3, "the next one is tried at once");
}

#[test]
fn silence_ends_a_connection() {
    // Outgoing: ten seconds to connect, ten to shake hands, three minutes without a message.
    let (mut node, _, _) = leecher(config(1), 1);
    let (link, _) = node.connecting[0];
    node.advance(Duration::from_secs(9));
    assert!(!node.closed.contains(&link));
    node.advance(Duration::from_secs(3));
    assert!(node.closed.contains(&link));

    let (mut node, _, _) = leecher(config(1), 1);
    let link = node.outgoing(b"\x13BitTorrent");
    node.advance(Duration::from_secs(12));
    assert!(node.closed.contains(&link));

    let (mut node, _, payload) = leecher(config(1), 0);
    let silent = node.incoming("10.0.0.9:5000", b"").unwrap();
    node.advance(Duration::from_secs(12));
    assert!(node.closed.contains(&silent));

    let live = node.incoming("10.0.0.9:5000", &handshake(payload.info_hash(), b'p')).unwrap();
    let quiet = node.sent[&live].len();
    node.advance(Duration::from_secs(59));
    assert_eq!(node.sent[&live].len(), quiet);
    node.advance(Duration::from_secs(2));
    assert_eq!(node.sent[&live][quiet..], [0; 4], "a keep-alive");
    node.advance(Duration::from_secs(89));
    assert!(!node.closed.contains(&live));
    node.advance(Duration::from_secs(60));
    assert!(node.closed.contains(&live));
}

#[test]
fn without_sockets_candidates_are_kept() {
    let (mut node, key, _) = leecher(config(1), 200);
    while let Some((link, _)) = node.connecting.pop_front() {
        node.engine.pause_dialing(node.now);
        node.refuse(link);
    }
    assert_eq!(failed(&node), 48, "only those that were connecting");
    assert_eq!(node.status(key).peers_known, 200);
    node.advance(Duration::from_secs(2));
    assert_eq!(node.connecting.len(), 48);
}

/// A peer that has sent all but a byte of an extension message of `length` bytes.
fn hoarder(node: &mut Node, payload: &Payload, number: u8, length: usize) -> LinkKey {
    let extended = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]);
    let hello = handshake_with(extended, payload.info_hash(), number);
    let link = node.incoming(&format!("10.0.1.{number}:5000"), &hello).unwrap();
    let hoard = wire(Message::Extended { id: 1, payload: &vec![1; length] });
    node.receive(link, &hoard[..hoard.len() - 1]);
    link
}

#[test]
fn peer_holding_most_memory_is_dropped() {
    const KIB: usize = 1 << 10;
    let (mut node, _, payload) = leecher(config(1), 0);
    // 4060 KiB of 4096, and small things.
    let many: Vec<_> = (0..33).map(|n| hoarder(&mut node, &payload, n, 120 * KIB)).collect();
    hoarder(&mut node, &payload, 33, 100 * KIB);
    node.advance(Duration::from_secs(2));
    assert!(node.closed.is_empty());
    let most = hoarder(&mut node, &payload, 34, 128 * KIB);
    assert_eq!(node.closed.iter().collect::<Vec<_>>(), [&most], "at once");
    let reason = "it held the most memory";
    assert!(
        node.has(|kind| matches!(kind, EventKind::Peer { reason: Some(it), .. } if it == reason))
    );
    // The limit holds at any moment, with any number of peers.
    (35..200).for_each(|n| _ = hoarder(&mut node, &payload, n, 128 * KIB));
    assert_eq!(node.closed.len(), 166);
    assert!(many.iter().all(|link| !node.closed.contains(link)));
}

#[test]
fn queued_requests_count_as_memory() {
    const QUEUE: usize = peer_wire::MAX_QUEUED_REQUESTS * size_of::<bt_types::BlockRequest>();
    let payload = payload();
    let mut node =
        Node::new(EngineConfig { upload_slots: 200, max_peers_per_torrent: 200, ..config(1) });
    node.seed(&payload);
    node.hold_jobs = true;
    let requests = request(0, 0).repeat(peer_wire::MAX_QUEUED_REQUESTS);
    let mut peers = 0;
    while node.closed.is_empty() {
        let number = peers as u8;
        peers += 1;
        let hello = handshake(payload.info_hash(), number);
        let link = node.incoming(&format!("10.0.1.{number}:5000"), &hello).unwrap();
        node.receive(link, &wire(Message::Interested));
        node.receive(link, &requests);
    }
    // Other small buffers count too.
    let queues = session::limits::MAX_PEER_BUFFERS / QUEUE;
    assert!((queues * 9 / 10..=queues + 1).contains(&peers), "{peers} of {queues}");
    assert_eq!(node.closed.len(), 1);
}

#[test]
fn named_peers_are_tried() {
    let payload = payload();
    let mut node = Node::new(config(1));
    let folder = tempfile::tempdir().unwrap();
    node.hold_jobs = true;
    let key = node.add(add_of(&payload, folder.path()));
    let (early, mapped) = ("10.0.0.1:1".parse().unwrap(), "[::ffff:10.0.0.1]:1".parse().unwrap());
    node.engine.add_peers(node.now, key, &[early]);
    node.hold_jobs = false;
    node.act();
    assert_eq!(node.connecting.len(), 1);
    node.add_peers(key, &[mapped]);
    assert_eq!(node.connecting.len(), 1, "it is the same peer");
    node.stop(key);
    node.resume(key);
    assert_eq!(node.connecting.len(), 1, "it is remembered after a stop");
}

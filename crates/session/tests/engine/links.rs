//! Torrents that are added as magnet links.

use std::sync::Arc;
use std::time::Duration;

use metainfo::{Magnet, Metainfo};
use peer_wire::{ExtensionHandshake, Message, MetadataMessage, Reserved};
use piece_store::Job;
use session::engine::{EngineConfig, LinkKey};
use session::limits::{MAX_LATE_HAVES, MAX_METADATA_QUEUE, METADATA_COPIES};
use session::{
    AddError, AddTorrent, Description, EventKind, GiveUp, Goal, PeerState, PhaseKind, StopReason,
};
use testkit::{AnnounceEvent, Payload};

use super::crowd::{Crowd, Manner, hello, info_of, message};
use super::net::{Net, address};
use super::node::{Node, config};
use super::wire::{handshake_with, messages, wire};

const LIMIT: Duration = Duration::from_secs(60);
const TRACKER: &str = "http://tracker.example/announce";

fn payload() -> Payload {
    Payload::file("film", 300_000).piece_length(32 << 10).create().unwrap()
}

/// Returns the link of a payload, with these peers.
fn link(payload: &Payload, peers: impl IntoIterator<Item = usize>) -> Arc<Magnet> {
    let metainfo = Metainfo::parse(payload.torrent()).unwrap();
    let peers = peers.into_iter().map(|node| address(node).to_string()).collect();
    Arc::new(Magnet { peers, name: None, ..metainfo.magnet() })
}

/// Node 0 has the link of a payload, whose seeders are its peers.
fn swarm(leecher: EngineConfig, seeders: usize, payload: Payload) -> Net {
    let mut net = Net::new([leecher].into_iter().chain((1..=seeders as u64).map(config)));
    net.nodes[1..].iter_mut().for_each(|seeder| _ = seeder.seed(&payload));
    let add = AddTorrent::from_link(link(&payload, 1..=seeders), net.folder(0));
    net.downloads.push(net.nodes[0].add(add));
    net.payloads.push(payload);
    net
}

/// Changes the link of a torrent that is about to be added.
fn with_link(add: AddTorrent, change: impl FnOnce(&mut Magnet)) -> AddTorrent {
    let Description::Link(link) = &add.description else { panic!("a link") };
    let mut link = Magnet::clone(link);
    change(&mut link);
    AddTorrent { description: Description::Link(Arc::new(link)), ..add }
}

fn goal(goal: Goal) -> Option<Box<Goal>> {
    Some(Box::new(goal))
}

fn has_metadata(node: &Node) -> bool {
    node.has(|kind| matches!(kind, EventKind::MetadataReceived(_)))
}

/// The extension handshakes in what a node sent to a peer.
fn hellos(sent: &[u8]) -> Vec<ExtensionHandshake> {
    let hello = |message| match message {
        Message::Extended { id: 0, payload } => ExtensionHandshake::decode(payload).ok(),
        _ => None,
    };
    messages(sent).into_iter().filter_map(hello).collect()
}

#[test]
fn link_downloads_from_its_peers() {
    let mut net = swarm(config(0), 3, payload());
    net.complete(LIMIT);
    let received = net.nodes[0].count(|kind| matches!(kind, EventKind::MetadataReceived(_)));
    assert_eq!(received, 1);
}

#[test]
fn connections_live_on_into_transfer() {
    let mut net = swarm(config(0), 3, payload());
    let key = net.downloads[0];
    net.run_until(LIMIT, |net| net.nodes[0].status(key).downloaded > 0);
    let connected =
        |kind: &EventKind| matches!(kind, EventKind::Peer { state: PeerState::Connected, .. });
    assert_eq!(net.nodes[0].count(connected), 3);
    assert!(net.nodes[0].closed.is_empty() && net.nodes[0].connecting.is_empty());
    net.complete(LIMIT);
    assert_eq!(net.nodes[0].count(connected), 3);
}

/// What a peer may say before we know how many pieces there are.
#[test]
fn early_messages_count_later() {
    let payload = payload();
    let haves: Vec<u8> = (0..10).flat_map(|piece| wire(Message::Have(piece))).collect();
    for (reserved, pieces) in [
        (Reserved::OURS, wire(Message::HaveAll)),
        (Reserved::OURS, wire(Message::Bitfield(&[0xff, 0xc0]))),
        (Reserved::OURS, [wire(Message::HaveNone), haves.clone()].concat()),
        (Reserved::NONE, wire(Message::Bitfield(&[0xff, 0xc0]))),
        (Reserved::NONE, haves),
    ] {
        let mut crowd = Crowd::with(Node::new(config(1)), payload.info(), |add| AddTorrent {
            await_selection: false,
            ..add
        });
        let early = handshake_with(reserved, payload.info_hash(), b'e');
        let early = crowd.node.incoming("10.0.0.9:5000", &early).unwrap();
        crowd.node.receive(early, &[pieces, wire(Message::Unchoke)].concat());
        crowd.join([Manner::Honest]);
        crowd.run_until(LIMIT, Crowd::has_metadata);
        let sent = messages(&crowd.node.sent[&early]);
        assert!(sent.contains(&Message::Interested), "{sent:?}");
        assert!(sent.iter().any(|sent| matches!(sent, Message::Request(_))), "{sent:?}");
        assert!(crowd.node.closed.is_empty());
    }
}

#[test]
fn early_bitfield_of_wrong_length_ends_link() {
    let payload = payload();
    for (bits, is_right) in [(vec![0xff], false), (vec![0xff, 0xc0], true), (vec![0; 3], false)] {
        let mut crowd = Crowd::with(Node::new(config(1)), payload.info(), |add| AddTorrent {
            await_selection: false,
            ..add
        });
        let early = handshake_with(Reserved::OURS, payload.info_hash(), b'e');
        let early = crowd.node.incoming("10.0.0.9:5000", &early).unwrap();
        crowd.node.receive(early, &wire(Message::Bitfield(&bits)));
        assert!(!crowd.node.closed.contains(&early));
        crowd.join([Manner::Honest]);
        crowd.run_until(LIMIT, Crowd::has_metadata);
        assert_eq!(crowd.node.closed.contains(&early), !is_right, "{bits:?}");
    }
}

/// A peer that has the link too learns which pieces are on our disk.
#[test]
fn pieces_on_disk_are_announced_late() {
    for (pieces, is_dropped) in [(MAX_LATE_HAVES, false), (MAX_LATE_HAVES + 1, true)] {
        let payload = Payload::file("film", u64::from(pieces) * 1024).piece_length(1024);
        let payload = payload.create().unwrap();
        let mut crowd = Crowd::with(Node::new(config(1)), payload.info(), |add| AddTorrent {
            await_selection: false,
            folder: payload.folder_path().into(),
            ..add
        });
        crowd.join([Manner::Honest]);
        let hello = handshake_with(Reserved::OURS, payload.info_hash(), b'e');
        let peer = crowd.node.incoming("10.0.0.9:5000", &hello).unwrap();
        crowd.node.receive(peer, &wire(Message::HaveNone));
        crowd.run_until(LIMIT, |crowd| crowd.node.completed());
        let sent = messages(&crowd.node.sent[&peer]);
        assert_eq!(sent[0], Message::HaveNone, "before the geometry is known");
        let haves = sent.iter().filter(|sent| matches!(sent, Message::Have(_))).count();
        assert_eq!(crowd.node.closed.contains(&peer), is_dropped);
        assert_eq!(haves, if is_dropped { 0 } else { pieces as usize });
    }
}

/// A seeder has no use for our pieces, and stays connected however many there are.
#[test]
fn late_pieces_do_not_cost_a_seeder() {
    let (count, on_disk) = (MAX_LATE_HAVES + 200, MAX_LATE_HAVES as usize + 100);
    let payload = Payload::file("film", u64::from(count) * 1024).piece_length(1024);
    let payload = payload.create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = &payload.data()[..on_disk * 1024];
    std::fs::write(folder.path().join("film"), data).unwrap();
    let mut crowd = Crowd::with(Node::new(config(1)), payload.info(), |add| AddTorrent {
        await_selection: false,
        folder: folder.path().into(),
        ..add
    });
    crowd.join([Manner::Honest]);
    let hello = handshake_with(Reserved::OURS, payload.info_hash(), b's');
    let seeder = crowd.node.incoming("10.0.0.9:5000", &hello).unwrap();
    crowd.node.receive(seeder, &wire(Message::HaveAll));
    crowd.run_until(LIMIT, |crowd| {
        messages(&crowd.node.sent[&seeder]).contains(&Message::Interested)
    });
    let sent = messages(&crowd.node.sent[&seeder]);
    assert!(!sent.iter().any(|sent| matches!(sent, Message::Have(_))));
    assert!(!crowd.node.closed.contains(&seeder));
}

#[test]
fn second_handshake_tells_metadata_size() {
    let mut crowd = Crowd::new(&info_of(50_000));
    crowd.join([Manner::Silent, Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
    for number in 0..2 {
        let told = hellos(&crowd.node.sent[&crowd.link_of(number)]);
        let sizes: Vec<_> = told.iter().map(|hello| hello.metadata_size).collect();
        assert_eq!(sizes, [None, Some(50_000)]);
    }
}

/// A node that has a private link with the peers `10.8.0.1` and `.2` and one by name. Its tracker
/// gave `.2` and `.3`. All are connected, and one peer connected to the node.
fn private_link(private: bool) -> (Crowd, [LinkKey; 4]) {
    let payload = Payload::file("film", 300_000);
    let payload = if private { payload.private() } else { payload }.create().unwrap();
    let peers = ["10.8.0.1:7000", "10.8.0.2:7000", "peer.example:7000"].map(str::to_owned);
    let mut crowd = Crowd::with(Node::new(config(1)), payload.info(), |add| {
        let add = with_link(add, |link| {
            (link.peers, link.trackers) = (peers.into(), vec![TRACKER.to_owned()]);
        });
        AddTorrent { await_selection: false, ..add }
    });
    let fetch = crowd.node.fetches.pop_front().expect("it announces");
    let given = ["10.8.0.2:7000", "10.8.0.3:7000"].map(|peer| peer.parse().unwrap());
    let given: Vec<std::net::SocketAddr> = given.into();
    crowd.node.answer(&fetch, given.iter().map(|peer| (*peer).into()).collect());
    assert_eq!(crowd.node.names.pop_front().as_deref(), Some("peer.example"));
    crowd.node.resolved("peer.example", &["10.8.0.4"]);
    let mut links = [None; 4];
    for _ in 0..4 {
        let address = crowd.join_dialled(Manner::Silent);
        let std::net::IpAddr::V4(ip) = address.ip() else { panic!() };
        let number = crowd.connected().len() - 1;
        links[usize::from(ip.octets()[3]) - 1] = Some(crowd.link_of(number));
    }
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
    (crowd, links.map(|link| link.expect("each is dialled")))
}

#[test]
fn private_link_keeps_peers_of_tracker() {
    let (mut crowd, [user, both, tracker, named]) = private_link(true);
    for link in [user, named] {
        assert!(crowd.node.closed.contains(&link), "it is of the link only");
    }
    for link in [both, tracker, crowd.link_of(4)] {
        assert!(!crowd.node.closed.contains(&link), "it is of the tracker, or connected to us");
    }
    let ignored = |kind: &EventKind| matches!(kind, EventKind::Warning(text) if text.contains("private") && text.contains("ignored"));
    assert_eq!(crowd.node.count(ignored), 1);
    crowd.run(Duration::from_secs(3600));
    assert!(crowd.node.connecting.iter().all(|(_, address)| {
        ["10.8.0.2", "10.8.0.3"].contains(&address.ip().to_string().as_str())
    }));
}

/// Attempts to connect that are under way end, too, but for those to peers of the tracker.
#[test]
fn private_link_ends_attempts_to_strangers() {
    for private in [true, false] {
        let payload = Payload::file("film", 300_000);
        let payload = if private { payload.private() } else { payload }.create().unwrap();
        let peers = ["10.8.0.1:7000", "10.8.0.2:7000", "10.8.0.3:7000"].map(str::to_owned);
        let mut crowd = Crowd::with(Node::new(config(1)), payload.info(), |add| {
            let add = with_link(add, |link| {
                (link.peers, link.trackers) = (peers.into(), vec![TRACKER.to_owned()]);
            });
            AddTorrent { await_selection: false, ..add }
        });
        let fetch = crowd.node.fetches.pop_front().expect("it announces");
        crowd.node.answer(&fetch, vec![at("10.8.0.3:7000").into()]);
        let attempts = crowd.node.connecting.clone();
        assert_eq!(attempts.len(), 3);
        crowd.join([Manner::Honest]);
        crowd.run_until(LIMIT, Crowd::has_metadata);
        for (link, address) in attempts {
            let is_stranger = private && address != at("10.8.0.3:7000");
            assert_eq!(crowd.node.closed.contains(&link), is_stranger, "{address}, {private}");
        }
    }
}

fn at(text: &str) -> std::net::SocketAddr {
    text.parse().unwrap()
}

#[test]
fn public_link_keeps_all_peers() {
    let (crowd, links) = private_link(false);
    assert!(links.iter().all(|link| !crowd.node.closed.contains(link)));
    assert!(!crowd.node.has(|kind| matches!(kind, EventKind::Warning(_))));
}

#[test]
fn metadata_waits_for_selection() {
    let files = [("a", 40_000), ("b", 40_000), ("c", 40_000)];
    let payload = Payload::folder("film", &files).piece_length(16 << 10).create().unwrap();
    let mut net = Net::new([config(0), config(1)]);
    net.nodes[1].seed(&payload);
    let add = AddTorrent::from_link(link(&payload, 1..2), net.folder(0));
    let folder = net.folder(0);
    let key = net.nodes[0].add(AddTorrent { await_selection: true, ..add });
    // Nothing happens before it is there.
    let now = net.now();
    net.nodes[0].engine.select(now, key, Some(vec![true; 3]));
    net.run_until(LIMIT, |net| has_metadata(&net.nodes[0]));
    let until = net.now() + Duration::from_secs(600);
    net.run_until(2 * Duration::from_secs(600), |net| net.now() >= until);
    assert_eq!(net.nodes[0].status(key).phase, PhaseKind::Metadata);
    assert!(!folder.exists(), "nothing is opened");
    net.nodes[0].stop(key);
    net.run_until(LIMIT, |net| net.nodes[0].stopped());
    net.nodes[0].resume(key);
    net.run_until(LIMIT, |net| net.nodes[0].status(key).phase == PhaseKind::Metadata);
    assert!(!folder.exists(), "it waits again");
    let now = net.now();
    net.nodes[0].engine.select(now, key, Some(vec![false, true, false]));
    net.nodes[0].act();
    net.run_until(LIMIT, |net| net.nodes[0].completed());
    assert_eq!(std::fs::read(folder.join("film/b")).unwrap(), payload.data()[40_000..80_000]);
    assert!(!folder.join("film/a").exists());
}

#[test]
fn link_of_v2_torrent_is_refused() {
    let hash = format!("1220{}", "ab".repeat(32));
    let link: Magnet = format!("magnet:?xt=urn:btmh:{hash}").parse().unwrap();
    let mut node = Node::new(config(0));
    let add = AddTorrent::from_link(Arc::new(link), "anywhere");
    assert_eq!(node.engine.add(Duration::ZERO, add), Err(AddError::OnlyV2));
}

#[test]
fn missing_metadata_ends_torrent_in_time() {
    let limit = Duration::from_secs(45);
    let mut crowd = Crowd::with(Node::new(config(1)), &info_of(1000), |add| AddTorrent {
        goal: goal(Goal { metadata_timeout: Some(limit), ..Goal::default() }),
        ..add
    });
    crowd.join([Manner::Silent, Manner::Rejects]);
    crowd.run(limit - Duration::from_millis(100));
    assert!(!crowd.node.stopped());
    crowd.run(Duration::from_millis(200));
    let gave_up = |kind: &EventKind| {
        matches!(kind, EventKind::Stopped { reason: StopReason::GaveUp { why, .. } }
            if *why == GiveUp::NoMetadata(limit))
    };
    assert!(crowd.node.has(gave_up));
    // It counts until the metadata is there, however long the choice of files takes.
    let mut crowd = Crowd::with(Node::new(config(1)), &info_of(1000), |add| AddTorrent {
        goal: goal(Goal { metadata_timeout: Some(limit), ..Goal::default() }),
        ..add
    });
    crowd.join([Manner::Honest]);
    crowd.run(2 * limit);
    assert!(crowd.has_metadata() && !crowd.node.stopped());
}

#[test]
fn stop_without_metadata_needs_no_store() {
    let payload = payload();
    let mut net = Net::new([config(0), config(1)]);
    net.nodes[1].seed(&payload);
    let add = AddTorrent::from_link(link(&payload, []), net.folder(0));
    let add = with_link(add, |link| link.trackers = vec![TRACKER.to_owned()]);
    let node = &mut net.nodes[0];
    let key = node.add(add);
    let fetch = node.fetches.pop_front().expect("it announces");
    assert_eq!(fetch.request.event, AnnounceEvent::Started);
    assert!(fetch.request.left > 0, "it is no seeder");
    node.answer(&fetch, Vec::new());
    node.hold_jobs = true;
    node.stop(key);
    assert!(node.jobs.is_empty());
    let goodbye = node.fetches.pop_front().expect("it announces `stopped`");
    assert_eq!(goodbye.request.event, AnnounceEvent::Stopped);
    node.answer(&goodbye, Vec::new());
    assert!(node.stopped() && node.engine.is_idle());
    assert!(node.closed.is_empty());

    node.hold_jobs = false;
    node.resume(key);
    node.add_peers(key, &[address(1)]);
    net.payloads.push(payload);
    net.complete(LIMIT);
}

/// The answer about the hash comes after the stop.
#[test]
fn stop_waits_for_check_of_metadata() {
    let mut crowd = Crowd::new(&info_of(1000));
    crowd.node.hold_jobs = true;
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, |crowd| !crowd.node.jobs.is_empty());
    let key = crowd.key;
    crowd.node.stop(key);
    assert!(matches!(crowd.node.jobs.front(), Some(Job::CheckInfo { .. })));
    assert!(!crowd.node.stopped());
    crowd.node.do_job();
    assert!(crowd.node.stopped() && crowd.node.jobs.is_empty());
    assert!(!crowd.has_metadata());
    crowd.node.hold_jobs = false;
    crowd.node.resume(key);
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
}

#[test]
fn resumed_link_asks_its_peers_again() {
    let mut net = swarm(config(0), 2, payload());
    let key = net.downloads[0];
    net.nodes[0].stop(key);
    assert!(net.nodes[0].stopped());
    net.nodes[0].resume(key);
    net.complete(LIMIT);
}

#[test]
fn link_of_known_torrent_is_refused() {
    let payload = payload();
    let mut node = Node::new(config(1));
    node.seed(&payload);
    let add = AddTorrent::from_link(link(&payload, []), ".");
    assert!(node.engine.add(node.now, add).is_err());
}

/// A seeder whose metadata has so many pieces, and a peer that may request them.
fn server(pieces: u32) -> (Node, LinkKey, Payload) {
    // Each piece of the torrent is 20 bytes of metadata.
    let length = u64::from(pieces) * 16384 / 20 - 10;
    let payload = Payload::file("film", length).piece_length(1).create().unwrap();
    let mut node = Node::new(config(1));
    node.seed(&payload);
    let link = handshake_with(Reserved::OURS, payload.info_hash(), b'p');
    let link = node.incoming("10.0.0.9:5000", &link).unwrap();
    node.receive(link, &hello(None));
    (node, link, payload)
}

/// The messages of the metadata extension in what a node sent since `sent`.
fn answers(node: &Node, link: LinkKey) -> Vec<MetadataMessage<'static>> {
    let metadata = |message| match message {
        Message::Extended { id: 3, payload } => {
            Some(MetadataMessage::decode(payload).unwrap().into_owned())
        }
        _ => None,
    };
    messages(&node.sent[&link]).into_iter().filter_map(metadata).collect()
}

fn is_data(message: &MetadataMessage<'_>) -> bool {
    matches!(message, MetadataMessage::Data { .. })
}

fn request(piece: u32) -> Vec<u8> {
    message(&MetadataMessage::Request { piece })
}

#[test]
fn metadata_is_served_twice_per_connection() {
    let (mut node, link, payload) = server(5);
    for _ in 0..METADATA_COPIES {
        (0..5).for_each(|piece| node.receive(link, &request(piece)));
    }
    let sent = answers(&node, link);
    assert!(sent.iter().all(is_data));
    let bytes = sent.iter().take(5).flat_map(|message| match message {
        MetadataMessage::Data { bytes, .. } => bytes.to_vec(),
        _ => Vec::new(),
    });
    assert_eq!(bytes.collect::<Vec<u8>>(), payload.info());
    (0..3).for_each(|piece| node.receive(link, &request(piece)));
    let sent = answers(&node, link);
    let rejects: Vec<_> = sent.iter().filter(|message| !is_data(message)).collect();
    let reject = |piece| MetadataMessage::Reject { piece };
    assert_eq!(rejects, [&reject(0), &reject(1), &reject(2)]);
    // Another connection gets its own copies.
    let other = handshake_with(Reserved::OURS, payload.info_hash(), b'q');
    let other = node.incoming("10.0.0.8:5000", &other).unwrap();
    node.receive(other, &[hello(None), request(1), request(5)].concat());
    let sent = answers(&node, other);
    assert!(is_data(&sent[0]));
    assert_eq!(sent[1..], [reject(5)], "there is no such piece");
}

#[test]
fn requests_for_metadata_wait_in_queue() {
    let (mut node, link, _) = server(MAX_METADATA_QUEUE as u32);
    node.hold_bytes = true;
    // The first is on its way, so that 64 wait.
    let requests = (0..MAX_METADATA_QUEUE as u32 + 2).map(|it| request(it % 64));
    node.receive(link, &requests.collect::<Vec<_>>().concat());
    node.hold_bytes = false;
    node.act();
    let sent = answers(&node, link);
    assert_eq!(sent.iter().filter(|message| is_data(message)).count(), MAX_METADATA_QUEUE + 1);
    let rejected = sent.iter().filter(|message| !is_data(message)).collect::<Vec<_>>();
    assert_eq!(rejected, [&MetadataMessage::Reject { piece: 1 }]);
}

#[test]
fn metadata_is_rejected_before_it_is_there() {
    let mut crowd = Crowd::new(&info_of(1000));
    crowd.join([Manner::Silent]);
    crowd.run(Duration::from_millis(100));
    let link = crowd.link_of(0);
    crowd.node.receive(link, &request(0));
    let sent = answers(&crowd.node, link);
    assert_eq!(sent.last(), Some(&MetadataMessage::Reject { piece: 0 }));
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
    crowd.node.receive(link, &request(0));
    assert!(answers(&crowd.node, link).last().is_some_and(is_data));
}

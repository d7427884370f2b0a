//! Peer exchange between engines.

use std::time::Duration;

use session::engine::EngineConfig;
use session::{EventKind, Source};
use testkit::Payload;

use super::net::{Net, address};
use super::node::config;

const LIMIT: Duration = Duration::from_secs(120);

fn payload() -> Payload {
    Payload::file("film", 300_000).piece_length(32 << 10).create().unwrap()
}

/// Node 0 downloads slowly from node 1, which also downloads to node 2. Returns whether node 0 gets
/// to know node 2.
fn meets(configs: [EngineConfig; 3], payload: &Payload) -> bool {
    let mut net = Net::new(configs);
    net.nodes[1].seed(payload);
    let folders = [net.folder(0), net.folder(1)];
    net.nodes[0].leech(payload, &folders[0], [address(1)]);
    net.nodes[2].leech(payload, &folders[1], [address(1)]);
    let end = net.now() + LIMIT;
    net.run_until(2 * LIMIT, |net| {
        net.now() > end || net.nodes[0].engine.status()[0].peers_known > 1
    });
    net.now() <= end
}

fn slow(seed: u64) -> EngineConfig {
    EngineConfig { max_down: Some(1000), ..config(seed) }
}

#[test]
fn peers_of_peers_are_found() {
    assert!(meets([slow(0), config(1), slow(2)], &payload()));
}

#[test]
fn events_name_source_of_address() {
    let payload = payload();
    let mut net = Net::new([slow(0), config(1), slow(2)]);
    net.nodes[1].seed(&payload);
    let folders = [net.folder(0), net.folder(1)];
    net.nodes[0].leech(&payload, &folders[0], [address(1)]);
    net.nodes[2].leech(&payload, &folders[1], [address(1)]);
    let sources = |net: &Net, node: usize| {
        let events = net.nodes[node].events.iter();
        let of_peers = events.filter_map(|(_, kind)| match kind {
            EventKind::Peer { source, .. } => Some(*source),
            _ => None,
        });
        of_peers.collect::<Vec<_>>()
    };
    // One of the two that node 1 told of each other connects, or fails to.
    net.run_until(LIMIT, |net| [0, 2].iter().any(|node| sources(net, *node).len() > 1));
    assert_eq!(sources(&net, 1), [Source::Incoming; 2]);
    let both = [0, 2].map(|node| sources(&net, node));
    assert!(both.iter().all(|sources| sources[0] == Source::User), "{both:?}");
    assert!(both.iter().any(|sources| sources[1..] == [Source::Pex]), "{both:?}");
}

#[test]
fn pex_can_be_switched_off() {
    let off = |config: EngineConfig| EngineConfig { pex: false, ..config };
    assert!(!meets([off(slow(0)), config(1), slow(2)], &payload()));
    assert!(!meets([slow(0), off(config(1)), slow(2)], &payload()));
}

#[test]
fn private_torrent_has_no_pex() {
    let private = Payload::file("film", 300_000).piece_length(32 << 10).private();
    let private = private.tier(["http://a.example/x"]).create().unwrap();
    let mut net = Net::new((0..3).map(slow));
    net.nodes[1].seed(&private);
    let folder = net.folder(0);
    net.nodes[0].leech(&private, &folder, []);
    let link = net.nodes[0].incoming(
        "10.0.0.9:4000",
        &super::wire::handshake_with(peer_wire::Reserved::OURS, private.info_hash(), b'x'),
    );
    let sent = net.nodes[0].sent[&link.unwrap()].clone();
    let text = String::from_utf8_lossy(&sent);
    assert!(text.contains("ut_pexi0e") && text.contains("ut_metadatai2e"), "{text}");
}

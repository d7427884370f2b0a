//! Torrents that are added as magnet links.

use std::sync::Arc;
use std::time::Duration;

use metainfo::{Magnet, Metainfo};
use session::{AddTorrent, EventKind};
use testkit::Payload;

use super::net::{Net, address};
use super::node::config;

const LIMIT: Duration = Duration::from_secs(60);

fn payload() -> Payload {
    Payload::file("film", 300_000).piece_length(32 << 10).create().unwrap()
}

/// Returns the link of a payload, with these peers.
fn link(payload: &Payload, peers: impl IntoIterator<Item = usize>) -> Arc<Magnet> {
    let metainfo = Metainfo::parse(payload.torrent()).unwrap();
    let peers = peers.into_iter().map(|node| address(node).to_string()).collect();
    Arc::new(Magnet { peers, name: None, ..metainfo.magnet() })
}

#[test]
fn link_downloads_from_its_peers() {
    let payload = payload();
    let mut net = Net::new((0..4).map(config));
    net.nodes[1..].iter_mut().for_each(|seeder| _ = seeder.seed(&payload));
    let add = AddTorrent::from_link(link(&payload, 1..4), net.folder(0));
    net.downloads.push(net.nodes[0].add(add));
    net.payloads.push(payload);
    net.complete(LIMIT);
    let received = net.nodes[0].count(|kind| matches!(kind, EventKind::MetadataReceived(_)));
    assert_eq!(received, 1);
}

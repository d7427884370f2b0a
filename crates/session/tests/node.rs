//! Nodes of the DHT on loopback.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and threads.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use session::DhtConfig;
use session::limits::NODE_SILENCE;
use session::node::{Announce, Counts, InfoHashV1, Item, Node, NodeError, NodeId, public_key};

const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
const LIMIT: Duration = Duration::from_secs(60);
const TORRENT: InfoHashV1 = InfoHashV1([7; 20]);

/// Nodes that answer until this is dropped.
struct Network {
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Network {
    /// Starts nodes that join through the first one.
    fn new(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut addresses, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut node = start(addresses.first().map(ToString::to_string), false);
            addresses.extend(node.addresses());
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    node.run(Duration::from_millis(20));
                }
            }));
        }
        let network = Self { addresses, stop, threads };
        // The first one knows the others once they have asked it, and it has asked them.
        while network.join(true).find_nodes(NodeId([0; 20]), LIMIT).found.len() < count {}
        network
    }

    /// Returns a node that asks this network, and answers if it is not `read_only`.
    fn join(&self, read_only: bool) -> Node {
        start(self.addresses.first().map(ToString::to_string), read_only)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn start(node: Option<String>, read_only: bool) -> Node {
    let nodes = node.into_iter().collect();
    let config = DhtConfig { nodes, routers: Vec::new(), read_only, ..DhtConfig::new() };
    Node::start(&config, &(0..=0), HERE).unwrap()
}

#[test]
fn announced_peers_are_found_and_counted() {
    let network = Network::new(6);
    let mut seed = network.join(false);
    let announce = Announce::Port { port: 51413, seed: true };
    let stats = seed.find_peers(TORRENT, announce, LIMIT).stats;
    assert!(stats.stored >= 1, "{stats:?}");
    let mut asker = network.join(true);
    let answer = asker.find_peers(TORRENT, Announce::No, LIMIT);
    assert_eq!(answer.found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 51413))]);
    assert!(answer.stats.answered >= 1 && answer.stats.elapsed < LIMIT);
    assert_eq!(asker.scrape(TORRENT, LIMIT).found, Counts { seeds: 1, peers: 0 });
    assert!(asker.find_peers(InfoHashV1([8; 20]), Announce::No, LIMIT).found.is_empty());
}

#[test]
fn items_are_stored_and_found() {
    let network = Network::new(6);
    let (mut writer, mut reader) = (network.join(true), network.join(true));
    let item = Item::immutable(b"5:hello".to_vec()).unwrap();
    assert!(writer.put(item.clone(), None, LIMIT).stored >= 1);
    assert_eq!(reader.get(item.target(), b"", LIMIT).found, Some(item));
    let signed = |seq| Item::sign(&[9; 32], b"salt".to_vec(), seq, b"i7e".to_vec()).unwrap();
    assert!(writer.put(signed(4), None, LIMIT).stored >= 1);
    let target = signed(4).target();
    assert_eq!(reader.get(target, b"salt", LIMIT).found, Some(signed(4)));
    let stats = writer.put(signed(5), Some(3), LIMIT);
    assert!(stats.stored == 0 && stats.conflicts >= 1, "{stats:?}");
    assert!(public_key(&[9; 32]).is_ok());
    assert_eq!(reader.get(NodeId([1; 20]), b"", LIMIT).found, None);
}

#[test]
fn closest_nodes_are_found() {
    let network = Network::new(6);
    let found = network.join(true).find_nodes(NodeId([1; 20]), LIMIT).found;
    assert!(!found.is_empty() && found.len() <= 6, "{found:?}");
    assert!(found.iter().all(|(_, address)| network.addresses.contains(address)), "{found:?}");
    assert!(found.is_sorted_by_key(|(id, _)| NodeId([1; 20]).distance(id)));
}

#[test]
fn first_of_several_addresses_answers() {
    let network = Network::new(2);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut asker = start(None, true);
    let addresses = [silent.local_addr().unwrap(), network.addresses[1]];
    let pong = asker.ping(&addresses, LIMIT).unwrap();
    assert_eq!(pong.address, network.addresses[1]);
    let again = asker.ping(&addresses[1..], LIMIT).unwrap();
    assert_eq!(again.id, pong.id);
    assert_eq!(asker.ping(&addresses[..1], Duration::from_millis(100)), None);
}

#[test]
fn silence_ends_calls() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let mut asker = start(Some(address.to_string()), true);
    let began = Instant::now();
    let answer = asker.find_peers(TORRENT, Announce::No, Duration::from_millis(100));
    assert!(answer.found.is_empty() && answer.stats.answered == 0);
    assert!(began.elapsed() < NODE_SILENCE);
    let answer = asker.find_peers(TORRENT, Announce::No, LIMIT);
    assert_eq!(answer.stats.answered, 0);
    assert!(began.elapsed() >= NODE_SILENCE && began.elapsed() < LIMIT / 2);
    let began = Instant::now();
    assert_eq!(asker.ping(&[address], LIMIT), None);
    assert!(began.elapsed() < LIMIT / 2);
}

#[test]
fn names_are_looked_up() {
    let network = Network::new(3);
    // The resolver refuses a label of more than 63 bytes, and asks nobody.
    let wrong = "x".repeat(64);
    let port = network.addresses[0].port();
    let nodes = vec![format!("{wrong}:6881"), format!("localhost:{port}")];
    let config = DhtConfig { nodes, routers: Vec::new(), read_only: true, ..DhtConfig::new() };
    let mut asker = Node::start(&config, &(0..=0), HERE).unwrap();
    let answer = asker.find_peers(TORRENT, Announce::No, LIMIT);
    assert!(answer.stats.answered >= 1, "{answer:?}");
    while asker.unresolved().is_empty() {
        asker.run(Duration::from_millis(20));
    }
    assert!(asker.unresolved().contains_key(&wrong), "{:?}", asker.unresolved());
}

#[test]
fn routers_help_to_join() {
    let network = Network::new(3);
    let routers = vec![network.addresses[0].to_string()];
    let config = DhtConfig { routers, read_only: true, ..DhtConfig::default() };
    let mut asker = Node::start(&config, &(0..=0), HERE).unwrap();
    let answer = asker.find_peers(TORRENT, Announce::No, LIMIT);
    assert!(answer.stats.answered >= 1, "{answer:?}");
}

#[test]
fn saved_nodes_are_asked() {
    let network = Network::new(3);
    let mut first = network.join(false);
    first.find_nodes(NodeId([1; 20]), LIMIT);
    let state = Some(first.save());
    let config = DhtConfig { routers: Vec::new(), state, ..DhtConfig::new() };
    let ids = first.ids();
    drop(first);
    let next = Node::start(&config, &(0..=0), HERE).unwrap();
    assert_eq!(next.ids(), ids);
    let mut asker = Node::start(&DhtConfig { read_only: true, ..config }, &(0..=0), HERE).unwrap();
    assert_ne!(asker.ids(), ids, "another node may have the ids");
    assert!(asker.find_peers(TORRENT, Announce::No, LIMIT).stats.answered >= 1);
}

#[test]
fn taken_port_is_an_error() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = DhtConfig { routers: Vec::new(), ..DhtConfig::new() };
    let error = Node::start(&config, &(port..=port), HERE).err().unwrap();
    assert!(matches!(error, NodeError::Open { first, .. } if first == port), "{error}");
}

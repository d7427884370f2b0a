//! Networks with nodes that work against the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::InfoHashV1;
use dht::message::{Body, Message, Method, Nodes, Reply};
use dht::{Announce, Family, NodeId};
use rand::RngExt as _;

use super::net::{Nat, Net};

const HASH: InfoHashV1 = InfoHashV1([0x5a; 20]);
const MINUTE: Duration = Duration::from_secs(60);

fn address(net: u8, number: u8) -> SocketAddr {
    SocketAddr::from(([200, net, number, 1], 6881))
}

/// Whether the announce of node 1 is found by lookups of other nodes, of how many.
fn found(net: &mut Net, rounds: usize) -> (usize, u32) {
    let mut expected = net.nodes[1].address;
    expected.set_port(7000);
    let announce = Announce::Port { port: 7000, seed: false };
    net.lookup(1, |dht, now| dht.find_peers(now, HASH, announce));
    let (mut found, mut asked) = (0, 0);
    for round in 0..rounds {
        let index = 2 + round % 40;
        let (peers, stats) = net.lookup(index, |dht, now| dht.find_peers(now, HASH, Announce::No));
        found += usize::from(peers.contains(&expected));
        asked += stats.asked;
        net.run(Duration::from_secs(2));
    }
    (found, asked)
}

#[test]
fn sybils_of_four_networks_do_not_capture_a_torrent() {
    for seed in 31..34 {
        let found = found_among_sybils(seed);
        assert!(found >= 99, "{found} of 100 with seed {seed}");
    }
}

/// Their ids do not fit their addresses (BEP 42).
#[test]
fn sybils_of_many_networks_do_not_capture_a_torrent() {
    let found = found_among(35, (0..=255).map(|number| address(number, number)).collect());
    assert!(found >= 95, "{found} of 100");
}

fn found_among_sybils(seed: u64) -> usize {
    found_among(seed, (0..64).map(|number| address(number % 4, number)).collect())
}

/// How many of 100 lookups find the announce of an honest node. At `sybils` are the nodes nearest to
/// the torrent, which name each other and know no peer.
fn found_among(seed: u64, sybils: Vec<SocketAddr>) -> usize {
    let mut net = Net::new(seed);
    net.join(80, Nat::None);
    net.run(6 * MINUTE);
    let named = |address: SocketAddr| {
        let mut id = HASH.0;
        id[18..].copy_from_slice(&net.rng.random::<[u8; 2]>());
        (NodeId(id), address)
    };
    let sybils: Vec<(NodeId, SocketAddr)> = sybils.into_iter().map(named).collect();
    for (at, (id, address)) in sybils.iter().enumerate() {
        let id = *id;
        let all: Vec<_> = sybils.iter().cycle().skip(at + 1).take(8).copied().collect();
        net.add_script(*address, move |_, query| answer(id, query, &all));
    }
    // They make themselves known to everyone.
    for index in 0..80 {
        for next in 0..4 {
            let address = sybils[(index + next) % sybils.len()].1;
            net.with(index, |dht, now| dht.handle_node(now, address));
        }
    }
    net.run(MINUTE);
    found(&mut net, 100).0
}

#[test]
fn polluters_cost_at_most_twice_the_queries() {
    let asked = |share: usize| {
        let mut net = Net::new(32);
        net.join(60, Nat::None);
        net.run(6 * MINUTE);
        let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(1);
        // Every list of theirs has dead nodes near the target.
        for number in 0..share as u8 {
            let id = NodeId(rng.random());
            let mut rng = rng.clone();
            net.add_script(address(10 + number, number), move |_, query| {
                let Method::GetPeers { info_hash, .. } = query.1 else {
                    return answer(id, query, &[]);
                };
                let dead: Vec<_> = (0..8)
                    .map(|_| {
                        let mut id = info_hash.0;
                        id[10..].copy_from_slice(&rng.random::<[u8; 10]>());
                        let ip = [190, rng.random(), rng.random(), 1];
                        (NodeId(id), SocketAddr::from((ip, 6881)))
                    })
                    .collect();
                answer(id, query, &dead)
            });
            for index in 0..60 {
                let address = address(10 + number, number);
                net.with(index, |dht, now| dht.handle_node(now, address));
            }
            net.run(Duration::from_secs(2));
        }
        net.run(MINUTE);
        let (found, asked) = found(&mut net, 60);
        assert!(found >= 59, "{found} of 60");
        asked
    };
    let (without, with) = (asked(0), asked(15));
    assert!(with <= 2 * without, "{with} queries, without polluters {without}");
}

#[test]
fn forged_queries_do_not_slow_lookups() {
    let mut net = Net::new(33);
    net.join(60, Nat::None);
    net.run(3 * MINUTE);
    let time = |net: &mut Net, rounds| {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let target = NodeId(net.rng.random());
            let (_, stats) = net.lookup(5, |dht, now| dht.find_nodes(now, target));
            times.push(stats.elapsed);
            net.run(Duration::from_secs(1));
        }
        times.sort();
        times[times.len() / 2]
    };
    let before = time(&mut net, 20);
    // Ten thousand queries a second from anywhere, for all of the time.
    net.flood = Some((5, 10_000));
    let after = time(&mut net, 5);
    assert!(after <= before * 3 / 2, "{after:?}, without the flood {before:?}");
    let status = net.nodes[5].dht.status();
    assert!(status.counters.throttled > 20_000, "{status:?}");
    assert!(status.memory <= dht::DHT_MEMORY);
    net.flood = None;
}

#[test]
fn forged_votes_do_not_move_a_node() {
    let mut net = Net::new(34);
    net.join(40, Nat::None);
    net.run(5 * MINUTE);
    let before: BTreeSet<_> = net.nodes.iter().map(|node| node.dht.node_ids()).collect();
    let victim: SocketAddr = "66.6.6.6:6881".parse().expect("an address");
    for number in 0..12 {
        let id = NodeId(net.rng.random());
        net.add_script(address(50 + number, number), move |_, (transaction, _)| {
            let body = Body::Reply(Reply::new(id));
            let ip = Some(victim);
            let mut out = Vec::new();
            Message { transaction, body, ip, read_only: false, version: None }.encode(&mut out);
            out
        });
        for index in 0..40 {
            let address = address(50 + number, number);
            net.with(index, |dht, now| dht.handle_node(now, address));
        }
    }
    net.run(20 * MINUTE);
    let after: BTreeSet<_> = net.nodes[..40].iter().map(|node| node.dht.node_ids()).collect();
    assert!(before.is_superset(&after));
}

fn answer(
    id: NodeId,
    (transaction, _): (&[u8], Method<'_>),
    nodes: &[(NodeId, SocketAddr)],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, address) in nodes {
        bytes.extend(id.0);
        bt_types::compact::encode(*address, &mut bytes);
    }
    let nodes = Nodes::new(Family::V4, &bytes);
    let reply = Reply { nodes, token: Some(b"token"), ..Reply::new(id) };
    let body = Body::Reply(reply);
    let mut out = Vec::new();
    Message { transaction, body, ip: None, read_only: false, version: None }.encode(&mut out);
    out
}

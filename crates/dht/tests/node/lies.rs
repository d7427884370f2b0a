//! Lookups among nodes that name others wrongly.

use std::net::SocketAddr;
use std::time::Duration;

use dht::message::Query;
use dht::{Announce, Event, MAX_LOOKUP_QUERIES, NodeId};

use super::bench::{Bench, HASH, Script, at, config, node};

const PEER: &str = "99.1.1.1:7000";

/// The `number`th of the nodes nearest to the torrent.
fn nearest(number: u8) -> (NodeId, SocketAddr) {
    let mut id = HASH.0;
    id[19] ^= number;
    (NodeId(id), SocketAddr::from(([80, number, 1, 1], 6881)))
}

/// A network of 20 nodes; the table has them. The first one that is asked answers first and names
/// `lies`; the others name the eight nearest nodes, which have a peer.
fn finds_peer_despite(lies: &[(NodeId, SocketAddr)]) -> bool {
    let mut bench = Bench::new(&config());
    bench.meet(20);
    let key = bench.dht.find_peers(bench.now, HASH, Announce::No);
    let sent = bench.drain();
    let liar = sent[0].0;
    let truth: Vec<_> = (0..8).map(nearest).collect();
    let answer = |to: SocketAddr, _: &Query<'_>| {
        let (id, nodes, peers) = if let Some(near) = (0..8).find(|at| nearest(*at).1 == to) {
            (nearest(near).0, &truth[..], vec![at(PEER)])
        } else {
            let number = (0..20).find(|number| node(*number).1 == to)?;
            (node(number).0, if to == liar { lies } else { &truth }, Vec::new())
        };
        Some(Script { id, nodes: nodes.to_vec(), peers })
    };
    for (to, datagram) in sent {
        if let Some(script) = answer(to, &datagram.query()) {
            let bytes = script.encode(datagram.message().transaction);
            bench.dht.handle_datagram(bench.now, to, &bytes);
        }
    }
    bench.play(Duration::from_secs(20), answer);
    bench.peers(key) == [at(PEER)]
}

#[test]
fn wrong_addresses_do_not_hide_nodes() {
    let lies: Vec<_> = (0..8).map(|at| (nearest(at).0, node(200 + u16::from(at)).1)).collect();
    assert!(finds_peer_despite(&lies));
}

#[test]
fn invented_ids_do_not_hide_nodes() {
    let lies: Vec<_> = (0..8).map(|at| (nearest(100 + at).0, nearest(at).1)).collect();
    assert!(finds_peer_despite(&lies));
}

#[test]
fn dead_neighbours_do_not_hide_nodes() {
    let lies: Vec<_> = (0..8)
        .map(|at| (nearest(100 + at).0, SocketAddr::from(([80, at, 1, 200], 6881))))
        .collect();
    assert!(finds_peer_despite(&lies));
}

/// A node that knows nobody answers before another one that is asked at the same time.
#[test]
fn fast_node_does_not_end_a_lookup() {
    let mut bench = Bench::new(&config());
    let (fast, slow) = (node(1), nearest(0));
    for (_, address) in [fast, slow] {
        bench.dht.handle_node(bench.now, address);
    }
    let key = bench.dht.find_peers(bench.now, HASH, Announce::No);
    let script = |(id, _): (NodeId, SocketAddr), peers| Script { id, nodes: Vec::new(), peers };
    let mut held = bench.drain();
    while let Some(at) = held.iter().position(|(to, _)| *to == fast.1) {
        let (to, datagram) = held.remove(at);
        let bytes = script(fast, Vec::new()).encode(datagram.message().transaction);
        bench.dht.handle_datagram(bench.now, to, &bytes);
        held.extend(bench.drain());
    }
    for (to, datagram) in held {
        let bytes = script(slow, vec![at(PEER)]).encode(datagram.message().transaction);
        bench.dht.handle_datagram(bench.now, to, &bytes);
    }
    bench.play(Duration::from_secs(20), |to, _| {
        (to == slow.1).then(|| script(slow, vec![at(PEER)]))
    });
    assert_eq!(bench.peers(key), [at(PEER)]);
}

/// Every node names nodes that are nearer to the torrent than all before.
#[test]
fn endless_walk_ends() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let count = std::cell::Cell::new(0_u32);
    let key = bench.dht.find_nodes(bench.now, HASH.into());
    bench.play(Duration::from_secs(300), |to, _| {
        let id_of = |address: SocketAddr| {
            let std::net::IpAddr::V4(ip) = address.ip() else { panic!("IPv4") };
            let number = ip.to_bits() >> 8;
            let mut id = HASH.0;
            let distance = (0x00ff_ffff - number).to_be_bytes();
            id[4..8].iter_mut().zip(distance).for_each(|(byte, bits)| *byte ^= bits);
            NodeId(id)
        };
        let id = if to == node(0).1 { node(0).0 } else { id_of(to) };
        let nodes = (0..8).map(|_| {
            count.set(count.get() + 1);
            let ip = std::net::Ipv4Addr::from_bits((80 << 24) + (count.get() << 16) + 1);
            let address = SocketAddr::from((ip, 6881));
            (id_of(address), address)
        });
        Some(Script { id, nodes: nodes.collect(), peers: Vec::new() })
    });
    let done = bench.events().into_iter().find_map(|event| match event {
        Event::Done { lookup, stats } if lookup == key => Some(stats),
        _ => None,
    });
    assert_eq!(done.expect("it is over").asked as usize, MAX_LOOKUP_QUERIES);
}

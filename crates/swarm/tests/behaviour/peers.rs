//! Which peers are connected to, and when again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use swarm::{
    Bitfield, ConnectFailure, ConnectedPeer, DisconnectReason, Output, PeerId, PeerKey, Refusal,
    Source,
};

use crate::bench::{Bench, Setup, address, peer_id, pieces_of, said, seconds, setup};

fn outgoing(number: u64) -> ConnectedPeer {
    ConnectedPeer { address: address(number), outgoing: true, fast: true, peer_id: peer_id(number) }
}

fn know(bench: &mut Bench, addresses: &[SocketAddr]) -> usize {
    bench.swarm.handle_candidates(bench.now, Source::Tracker, addresses)
}

/// The attempt to connect to a candidate fails.
fn unreachable(bench: &mut Bench, number: u64) {
    let failure = ConnectFailure::Unreachable;
    bench.swarm.handle_connect_failed(bench.now, address(number), failure);
}

/// Connects to the next candidate, which must be `number`.
fn connect(bench: &mut Bench, number: u64) -> PeerKey {
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(address(number)));
    let key = PeerKey(1000 + number);
    bench.swarm.handle_connected(bench.now, key, outgoing(number)).unwrap();
    key
}

#[test]
fn candidates_are_taken_once() {
    let mut bench = Bench::with(&setup(1, 1).config(|config| config.max_peers = 2));
    assert_eq!(know(&mut bench, &[address(1), address(2), address(1)]), 2);
    assert_eq!(know(&mut bench, &[address(2)]), 0);
    assert_eq!(bench.swarm.peers_known(), 2);
    let mut got: Vec<SocketAddr> =
        std::iter::from_fn(|| bench.swarm.next_candidate(bench.now)).collect();
    got.sort_unstable();
    assert_eq!(got, [address(1), address(2)]);
    assert_eq!(know(&mut bench, &[address(3)]), 1);
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "both are being connected to");
}

#[test]
fn unconnectable_addresses_are_refused() {
    let mut bench = Bench::new(1, 1);
    for text in
        ["1.2.3.4:0", "0.0.0.0:1", "[::]:1", "255.255.255.255:1", "224.0.0.1:1", "[ff02::1]:1"]
    {
        assert_eq!(know(&mut bench, &[text.parse().unwrap()]), 0, "{text}");
    }
    let fine = ["127.0.0.1:1", "[::1]:1", "10.0.0.1:1"].map(|text| text.parse().unwrap());
    assert_eq!(know(&mut bench, &fine), 3);
}

#[test]
fn known_addresses_and_lists_are_limited() {
    let mut bench = Bench::new(1, 1);
    let list: Vec<SocketAddr> = (1..=15_000).map(address).collect();
    assert_eq!(know(&mut bench, &list), 2000);
    list.chunks(2000).for_each(|part| _ = know(&mut bench, part));
    assert_eq!(bench.swarm.peers_known(), 10_000);
    assert_eq!(know(&mut bench, &[address(15_001)]), 0, "one more");
    assert_eq!(bench.swarm.peers_known(), 10_000);
}

#[test]
fn private_torrent_uses_tracker_peers_only() {
    let mut bench = Bench::with(&setup(1, 1).config(|config| config.private = true));
    for source in [Source::Pex, Source::Dht, Source::Local, Source::User, Source::Incoming] {
        assert_eq!(bench.swarm.handle_candidates(bench.now, source, &[address(1)]), 0);
    }
    let key = bench.join();
    bench.swarm.handle_listen_port(bench.now, key, 6881);
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    assert_eq!(know(&mut bench, &[address(9)]), 1);
}

#[test]
fn connections_are_limited() {
    let mut bench = Bench::with(&setup(1, 1).config(|config| config.max_peers = 2));
    know(&mut bench, &[address(1), address(2), address(3)]);
    assert!(bench.swarm.next_candidate(bench.now).is_some());
    let key = bench.join();
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
    assert!(bench.swarm.next_candidate(bench.now).is_some());

    (0..2).for_each(|_| _ = bench.join());
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(99), outgoing(99));
    assert_eq!(refused, Err(Refusal::TooMany { limit: 2 }));
}

#[test]
fn failures_back_off_then_rest() {
    let mut bench = Bench::new(1, 1);
    know(&mut bench, &[address(1)]);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let start = bench.now;
        while bench.swarm.next_candidate(bench.now).is_none() {
            bench.pass(Duration::from_millis(500));
        }
        waits.push((bench.now - start).as_millis());
        unreachable(&mut bench, 1);
    }
    assert_eq!(waits, [0, 1_500, 10_000, 20_000, 40_000, 80_000, 1_800_000]);
}

/// Fails to connect to the next candidate, which must be `number`.
fn fail(bench: &mut Bench, number: u64) {
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(address(number)));
    unreachable(bench, number);
}

#[test]
fn all_first_failures_are_retried_early() {
    let mut bench = Bench::new(1, 1);
    know(&mut bench, &[address(1)]);
    assert!(bench.swarm.next_candidate(bench.now).is_some());
    know(&mut bench, &[address(2)]);
    assert!(bench.swarm.next_candidate(bench.now).is_some());
    unreachable(&mut bench, 1);
    bench.pass(seconds(5));
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "the other may still answer");
    unreachable(&mut bench, 2);
    bench.pass(Duration::from_millis(1499));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    bench.pass(Duration::from_millis(1));
    let both: BTreeSet<SocketAddr> =
        std::iter::from_fn(|| bench.swarm.next_candidate(bench.now)).collect();
    assert_eq!(both, BTreeSet::from([address(1), address(2)]));
}

#[test]
fn a_connected_peer_makes_retries_wait() {
    let mut bench = Bench::new(4, 1);
    bench.join();
    know(&mut bench, &[address(1)]);
    fail(&mut bench, 1);
    bench.pass(Duration::from_millis(9_999));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    bench.pass(Duration::from_millis(1));
    fail(&mut bench, 1);
}

#[test]
fn useful_connection_allows_early_retry() {
    let mut bench = Bench::new(4, 1);
    know(&mut bench, &[address(1)]);
    fail(&mut bench, 1);
    bench.pass(Duration::from_millis(1500));
    let key = connect(&mut bench, 1);
    bench.swarm.handle_payload(bench.now, key, 1000);
    bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
    bench.pass(seconds(10));
    fail(&mut bench, 1);
    bench.pass(Duration::from_millis(1500));
    fail(&mut bench, 1);
}

#[test]
fn timeout_covers_the_next_retry() {
    let mut bench = Bench::new(1, 1);
    know(&mut bench, &[address(1)]);
    assert!(bench.swarm.next_candidate(bench.now).is_some());
    bench.swarm.handle_connect_failed(bench.now, address(1), ConnectFailure::Handshake);
    assert_eq!(bench.swarm.poll_timeout(), Some(Duration::from_millis(1500)));
}

#[test]
fn disconnected_peer_is_tried_again() {
    let mut bench = Bench::new(4, 1);
    know(&mut bench, &[address(1)]);
    let key = connect(&mut bench, 1);
    bench.swarm.handle_payload(bench.now, key, 1000);
    bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    bench.pass(seconds(10));
    connect(&mut bench, 1);
}

#[test]
fn useless_connection_counts_as_failure() {
    let mut bench = Bench::new(4, 1);
    know(&mut bench, &[address(1)]);
    for wait in [1_500, 10_000, 20_000, 40_000, 80_000, 1_800_000] {
        let key = connect(&mut bench, 1);
        bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
        bench.pass(Duration::from_millis(wait - 1));
        assert_eq!(bench.swarm.next_candidate(bench.now), None);
        bench.pass(Duration::from_millis(1));
    }
}

#[test]
fn connected_address_is_refused() {
    let mut bench = Bench::new(1, 1);
    let peer = outgoing(1);
    bench.swarm.handle_connected(bench.now, PeerKey(1), peer).unwrap();
    let twin = ConnectedPeer { peer_id: peer_id(2), ..peer };
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(2), twin);
    assert_eq!(refused, Err(Refusal::Duplicate));
}

#[test]
fn both_ends_keep_the_same_connection() {
    // Both connect at once; each end sees its own connection first.
    let ends = [(PeerId([1; 20]), PeerId([2; 20])), (PeerId([2; 20]), PeerId([1; 20]))];
    for (own, other) in ends {
        let mut bench = Bench::with(&setup(1, 1).config(|config| config.peer_id = own));
        let out = ConnectedPeer { peer_id: other, ..outgoing(1) };
        let back = "10.0.0.1:50123".parse().unwrap();
        let into = ConnectedPeer { address: back, outgoing: false, ..out };
        bench.swarm.handle_connected(bench.now, PeerKey(1), out).unwrap();
        let second = bench.swarm.handle_connected(bench.now, PeerKey(2), into);
        // The connection from the greater id stays.
        if own > other {
            assert_eq!(second, Err(Refusal::Duplicate));
        } else {
            assert_eq!(second, Ok(()));
            let reason = DisconnectReason::Duplicate;
            let gone = Output::Disconnect { peer: PeerKey(1), reason };
            assert!(bench.drain().contains(&gone));
        }
        assert_eq!(bench.swarm.peers_connected(), 1);
    }
}

#[test]
fn stolen_peer_id_replaces_no_connection() {
    let mut bench = Bench::with(&setup(1, 1).config(|config| config.peer_id = PeerId([1; 20])));
    let honest = ConnectedPeer { peer_id: PeerId([2; 20]), ..outgoing(1) };
    bench.swarm.handle_connected(bench.now, PeerKey(1), honest).unwrap();
    let elsewhere = "10.0.0.2:50123".parse().unwrap();
    let thief = ConnectedPeer { address: elsewhere, outgoing: false, ..honest };
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(2), thief);
    assert_eq!(refused, Err(Refusal::Duplicate));
    assert!(bench.swarm.peer(PeerKey(1)).is_some());
}

#[test]
fn own_connection_is_refused() {
    let mut bench = Bench::new(1, 1);
    know(&mut bench, &[address(1)]);
    assert!(bench.swarm.next_candidate(bench.now).is_some());
    let myself = ConnectedPeer { peer_id: PeerId([b'A'; 20]), ..outgoing(1) };
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(1), myself);
    assert_eq!(refused, Err(Refusal::Myself));
    bench.pass(seconds(3 * 3600));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    assert_eq!(know(&mut bench, &[address(1)]), 0);
}

#[test]
fn incoming_peer_is_remembered_by_port() {
    let mut bench = Bench::new(4, 1);
    let key = bench.join();
    assert_eq!(bench.swarm.peers_known(), 1);
    bench.swarm.handle_listen_port(bench.now, key, 7000);
    assert_eq!(bench.swarm.peers_known(), 1);
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "it is connected");
    bench.pass(seconds(61));
    bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
    bench.pass(seconds(10));
    assert_eq!(bench.swarm.next_candidate(bench.now), Some("10.0.0.1:7000".parse().unwrap()));
}

#[test]
fn seeders_disconnect_each_other() {
    let mut bench = Bench::with(&Setup { have: Bitfield::full(1), ..setup(1, 1) });
    know(&mut bench, &[address(1)]);
    let seed = connect(&mut bench, 1);
    bench.swarm.handle_have_all(bench.now, seed);
    let reason = DisconnectReason::NothingToExchange;
    assert!(bench.drain().contains(&Output::Disconnect { peer: seed, reason }));
    bench.pass(seconds(7200));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    // Until something is missing again.
    let piece = bench.piece(0);
    bench.swarm.handle_lost(bench.now, piece);
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(address(1)));
}

#[test]
fn new_seeder_disconnects_seeders() {
    let mut bench = Bench::new(3, 2);
    let (seed, leecher) = (bench.join_seed(), bench.join_with(&[0]));
    bench.download();
    assert!(bench.pieces().have().is_full());
    assert!(bench.swarm.peer(seed).is_none() && bench.swarm.peer(leecher).is_some());
}

#[test]
fn bitfield_parts_are_joined() {
    let mut bench = Bench::new(20, 1);
    let key = bench.join();
    bench.swarm.handle_bitfield(bench.now, key, 0, &[0x80], false);
    bench.swarm.handle_bitfield(bench.now, key, 1, &[0x01, 0x10], true);
    assert_eq!(bench.swarm.peer(key).unwrap().pieces, 3);
    bench.swarm.handle_unchoke(bench.now, key);
    assert_eq!(pieces_of(&bench.requests_to(key)), BTreeSet::from([0, 15, 19]));
}

#[test]
fn misfit_bitfield_ends_the_connection() {
    let parts: [&[(usize, &[u8])]; 4] =
        [&[(0, &[0; 4])], &[(0, &[0; 2])], &[(0, &[0, 0, 1])], &[(1, &[0; 2])]];
    for parts in parts {
        let mut bench = Bench::new(20, 1);
        let peer = bench.join();
        for (offset, bytes) in parts {
            bench.swarm.handle_bitfield(bench.now, peer, *offset, bytes, true);
        }
        let reason = DisconnectReason::BadBitfield;
        assert_eq!(bench.drain(), [Output::Disconnect { peer, reason }]);
    }
}

#[test]
fn stopped_swarm_disconnects_and_stages() {
    let mut bench = Bench::new(1, 4);
    know(&mut bench, &[address(50)]);
    let seed = bench.join_seed();
    let asked = bench.requests_to(seed);
    bench.send(seed, asked[1]);
    bench.swarm.stop(bench.now);
    let outputs = bench.drain();
    let reason = DisconnectReason::Stopped;
    assert!(outputs.contains(&Output::Disconnect { peer: seed, reason }));
    let piece = bench.piece(0);
    assert!(outputs.contains(&Output::StageSpan { piece, span: 0 }));
    let staged: Vec<u32> = bench.swarm.blocks_in(piece, 0).collect();
    assert_eq!(staged, [asked[1].block()]);
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(70), outgoing(70));
    assert_eq!(refused, Err(Refusal::Stopped));
    assert_eq!(bench.swarm.poll_timeout(), None);
}

#[test]
fn full_stalled_swarm_disconnects_oldest_peer() {
    let mut bench = Bench::with(&setup(3, 2).config(|config| config.max_peers = 2));
    let first = bench.join_seed();
    bench.pass(seconds(1));
    let second = bench.join_seed();
    // While one peer sends, none is disconnected.
    for request in bench.requests_to(first).into_iter().take(1) {
        bench.pass(seconds(50));
        bench.send(first, request);
    }
    let gone = |outputs: &[Output]| -> Vec<PeerKey> {
        said!(outputs, Output::Disconnect { peer, reason: DisconnectReason::Useless } => *peer)
            .collect()
    };
    assert_eq!(gone(&bench.pass(seconds(55))), []);
    assert_eq!(gone(&bench.pass(seconds(10))), [first], "it connected first");
    assert_eq!(gone(&bench.pass(seconds(120))), [], "the swarm is not full");
    bench.join_seed();
    assert_eq!(gone(&bench.pass(seconds(50))), [], "the new peer has a minute");
    assert_eq!(gone(&bench.pass(seconds(15))), [second]);
}

//! What becomes of the peers' requests.

use swarm::{Bitfield, DisconnectReason, Output, PeerKey};

use crate::bench::{Bench, config, seconds};

fn seeder() -> Bench {
    let mut config = config(8, 64);
    config.have = Bitfield::full(8);
    config.have.remove(config.geometry.piece(7).unwrap());
    config.upload_slots = 1;
    Bench::with(config)
}

/// A peer that is unchoked.
fn served(bench: &mut Bench, fast: bool) -> PeerKey {
    let key = bench.join_as(fast);
    bench.swarm.handle_interested(bench.now, key);
    assert!(bench.drain().contains(&Output::Unchoke { peer: key }));
    key
}

#[test]
fn requests_are_handed_out_in_order() {
    let mut bench = seeder();
    let peer = served(&mut bench, true);
    let blocks = [bench.block(0, 1), bench.block(3, 0), bench.block(0, 0)];
    for block in blocks {
        bench.swarm.handle_request(bench.now, peer, block);
    }
    assert_eq!(bench.swarm.uploads_waiting(peer), 3);
    let handed: Vec<_> = std::iter::from_fn(|| bench.swarm.next_upload(bench.now, peer)).collect();
    assert_eq!(handed, blocks);
    bench.swarm.handle_sent(bench.now, peer, 1000);
    assert_eq!(bench.swarm.uploaded(), 1000);
}

#[test]
fn a_choked_peer_is_rejected_if_it_understands() {
    let mut bench = seeder();
    served(&mut bench, true);
    let (fast, plain) = (bench.join_as(true), bench.join_as(false));
    let request = bench.block(0, 0);
    bench.swarm.handle_request(bench.now, fast, request);
    assert_eq!(bench.drain(), [Output::Reject { peer: fast, request }]);
    bench.swarm.handle_request(bench.now, plain, request);
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.swarm.next_upload(bench.now, plain), None);
}

#[test]
fn what_is_not_had_is_rejected() {
    let mut bench = seeder();
    let peer = served(&mut bench, true);
    let request = bench.block(7, 0);
    bench.swarm.handle_request(bench.now, peer, request);
    assert_eq!(bench.drain(), [Output::Reject { peer, request }]);
}

#[test]
fn a_cancelled_request_is_not_handed_out() {
    let mut bench = seeder();
    let peer = served(&mut bench, true);
    let (first, second) = (bench.block(0, 0), bench.block(0, 1));
    bench.swarm.handle_request(bench.now, peer, first);
    bench.swarm.handle_request(bench.now, peer, second);
    bench.swarm.handle_cancel(bench.now, peer, first);
    assert_eq!(bench.drain(), [Output::Reject { peer, request: first }]);
    assert_eq!(bench.swarm.next_upload(bench.now, peer), Some(second));
    // Too late: it is handed out already.
    bench.swarm.handle_cancel(bench.now, peer, second);
    assert_eq!(bench.drain(), []);
}

#[test]
fn a_choke_voids_what_waits() {
    let mut bench = seeder();
    let peer = served(&mut bench, true);
    let request = bench.block(0, 0);
    bench.swarm.handle_request(bench.now, peer, request);
    bench.swarm.set_upload_slots(bench.now, 0);
    let expected = [Output::Choke { peer }, Output::Reject { peer, request }];
    assert_eq!(bench.drain(), expected);
    assert_eq!(bench.swarm.next_upload(bench.now, peer), None);
}

#[test]
fn at_most_512_requests_wait() {
    let mut bench = seeder();
    let peer = served(&mut bench, true);
    let request = bench.block(0, 0);
    (0..512).for_each(|_| bench.swarm.handle_request(bench.now, peer, request));
    assert_eq!(bench.drain(), []);
    bench.swarm.handle_request(bench.now, peer, request);
    assert_eq!(bench.drain(), [Output::Reject { peer, request }]);

    let mut bench = seeder();
    let plain = served(&mut bench, false);
    (0..512).for_each(|_| bench.swarm.handle_request(bench.now, plain, request));
    assert_eq!(bench.drain(), []);
    bench.swarm.handle_request(bench.now, plain, request);
    let reason = DisconnectReason::TooManyRequests;
    assert_eq!(bench.drain(), [Output::Disconnect { peer: plain, reason }]);
}

#[test]
fn a_flood_of_refused_requests_ends_the_connection() {
    let mut bench = seeder();
    served(&mut bench, true);
    let peer = bench.join();
    let request = bench.block(0, 0);
    (0..10_000).for_each(|_| bench.swarm.handle_request(bench.now, peer, request));
    let outputs = bench.drain();
    assert!(outputs.len() <= 513);
    let reason = DisconnectReason::TooManyRequests;
    assert_eq!(outputs.last(), Some(&Output::Disconnect { peer, reason }));
    // Some a second are fine.
    let peer = bench.join();
    for _ in 0..5 {
        (0..400).for_each(|_| bench.swarm.handle_request(bench.now, peer, request));
        bench.pass(seconds(1));
    }
    assert!(bench.swarm.peer(peer).is_some());
}

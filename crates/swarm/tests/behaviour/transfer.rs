//! When the exchange of pieces starts, and what a swarm does before.

use swarm::{
    AnnounceEvent, AnnounceReply, BeginTransferError, Bitfield, DisconnectReason, Output,
    TrackerIndex,
};

use crate::bench::{Bench, Setup, address, seconds, setup};

#[test]
fn swarm_without_transfer_finds_peers() {
    let setup = setup(2, 1).config(|config| config.trackers = vec![vec!["a".to_owned()]]);
    let mut bench = Bench::without_transfer(&setup);
    let outputs = bench.drain();
    assert!(
        matches!(
            outputs[..],
            [Output::Announce { event: AnnounceEvent::Started, num_want: 200, .. }]
        ),
        "{outputs:?}"
    );
    let reply = AnnounceReply { peers: vec![address(5).into()], ..AnnounceReply::default() };
    bench.swarm.handle_announced(bench.now, TrackerIndex(0), Ok(&reply));
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(address(5)));
    assert!(bench.swarm.pieces().is_none() && !bench.swarm.is_complete());
}

#[test]
fn early_peers_exchange_nothing() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    let peer = bench.join_seed();
    bench.swarm.handle_interested(bench.now, peer);
    assert!(!bench.send(peer, bench.block(0, 0)));
    assert_eq!(bench.pass(seconds(100)), []);
    let view = bench.swarm.peer(peer).unwrap();
    assert_eq!((view.pieces, view.am_choking, view.outstanding), (0, true, 0));
    bench.swarm.handle_disconnected(bench.now, peer, DisconnectReason::Closed);
    assert_eq!(bench.swarm.peers_connected(), 0);
}

#[test]
fn early_peers_join_the_transfer() {
    let setup = setup(2, 1);
    let mut bench = Bench::without_transfer(&setup);
    let peer = bench.join();
    bench.pass(seconds(100));
    bench.begin_transfer(&setup).unwrap();
    bench.swarm.handle_have_all(bench.now, peer);
    bench.swarm.handle_unchoke(bench.now, peer);
    assert_eq!(bench.requests_to(peer).len(), 2);
    bench.pass(seconds(61));
    assert!(bench.swarm.peer(peer).unwrap().snubbed, "timers run");
}

#[test]
fn transfer_starts_once() {
    let setup = setup(2, 1);
    let mut bench = Bench::with(&setup);
    assert_eq!(bench.begin_transfer(&setup), Err(BeginTransferError::AlreadyStarted));
}

#[test]
fn bitfields_must_fit_the_geometry() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    let error = BeginTransferError::PieceCount { expected: 2, got: 3 };
    let (have, wanted) = (Bitfield::new(3), Bitfield::full(3));
    assert_eq!(bench.begin_transfer(&Setup { have, ..setup(2, 1) }), Err(error));
    assert_eq!(bench.begin_transfer(&Setup { wanted, ..setup(2, 1) }), Err(error));
    assert_eq!(bench.begin_transfer(&setup(2, 1)), Ok(()));
}

//! Which piece is fetched next.

use std::collections::BTreeSet;

use swarm::Output;

use crate::bench::{Bench, Setup, bits, pieces_of, requests, seconds, setup};

fn with_seed(setup: Setup, seed: u64) -> Bench {
    Bench::with(&setup.config(|config| config.seed = seed))
}

/// We have four pieces, so none is picked at random.
fn with_four(pieces: u32, blocks: u32) -> Setup {
    let setup = setup(pieces, blocks);
    Setup { have: bits(setup.geometry, 0..4), ..setup }
}

#[test]
fn rarest_first() {
    let mut bench = Bench::with(&with_four(12, 2));
    let all: Vec<u32> = (0..12).collect();
    // One peer has piece 4, two have 5, ... eight have 11.
    for copies in 1..8 {
        bench.join_with(&all[4 + copies..]);
    }
    let seed = bench.join_with(&all[4..]);
    bench.drain();
    bench.swarm.handle_unchoke(bench.now, seed);
    assert_eq!(bench.download(), [4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn ties_are_broken_at_random() {
    let firsts = (0..20).map(|seed| {
        let mut bench = with_seed(with_four(40, 1), seed);
        bench.join_seed();
        bench.download()[0]
    });
    assert!(firsts.collect::<BTreeSet<u32>>().len() > 8);
}

#[test]
fn first_pieces_are_random() {
    let firsts = (0..20).map(|seed| {
        let mut bench = with_seed(setup(40, 64), seed);
        // Only pieces 0 and 1 are rare.
        let common: Vec<u32> = (2..40).collect();
        (0..3).for_each(|_| _ = bench.join_with(&common));
        bench.join_seed();
        bench.requests()[0].1.piece().get()
    });
    let firsts: BTreeSet<u32> = firsts.collect();
    assert!(firsts.len() > 8 && !firsts.is_subset(&BTreeSet::from([0, 1])), "{firsts:?}");
}

#[test]
fn picking_scales_to_huge_torrents() {
    let mut bench = Bench::new(1 << 21, 1);
    let pieces: Vec<u32> = (0..1 << 21).step_by(3).collect();
    let peer = bench.join_unchoking(&pieces);
    bench.swarm.handle_reqq(bench.now, peer, 500);
    for _ in 0..20 {
        for request in bench.requests_to(peer) {
            bench.send(peer, request);
            bench.verify(request.piece().get());
        }
    }
    assert!(bench.pieces().have().count() > 2000);
}

#[test]
fn started_piece_precedes_a_new_one() {
    let mut bench = Bench::new(20, 8);
    let first = bench.join_seed();
    let piece = pieces_of(&bench.requests_to(first));
    assert_eq!(piece.len(), 1);
    // It leaves, and the other goes on with its piece.
    bench.swarm.handle_disconnected(bench.now, first, swarm::DisconnectReason::Closed);
    let second = bench.join_seed();
    assert_eq!(pieces_of(&bench.requests_to(second)), piece);
}

#[test]
fn fast_peer_takes_its_own_piece() {
    let mut bench = Bench::new(20, 64);
    let (slow, other) = (bench.join_seed(), bench.join_seed());
    let outputs = bench.drain();
    let piece_of = |key| {
        let theirs = requests(&outputs).into_iter().filter(|(peer, _)| *peer == key);
        pieces_of(&theirs.map(|(_, request)| request).collect::<Vec<_>>())
    };
    assert_eq!(piece_of(slow), piece_of(other), "no rate is known yet");

    let mut bench = Bench::new(20, 64);
    let fast = bench.join_seed();
    for _ in 0..4 {
        for request in bench.requests_to(fast) {
            bench.send(fast, request);
        }
        bench.swarm.handle_payload(bench.now, fast, 10 << 20);
        bench.pass(seconds(1));
    }
    let third = bench.join_seed();
    let theirs = pieces_of(&bench.requests_to(third));
    let open_to_fast = bench.swarm.peer(fast).unwrap().outstanding;
    assert!(open_to_fast > 0);
    assert!(!theirs.is_empty());
}

#[test]
fn only_wanted_pieces_are_requested() {
    let setup = setup(10, 1);
    let mut bench = Bench::with(&Setup { wanted: bits(setup.geometry, [3, 4]), ..setup });
    bench.join_seed();
    let mut opened = bench.download();
    opened.sort_unstable();
    assert_eq!(opened, [3, 4]);
    assert!(bench.swarm.is_complete() && !bench.pieces().have().is_full());
    assert_eq!(bench.pieces().left(), 0);
}

#[test]
fn unwanted_unfinished_piece_is_closed() {
    let mut bench = Bench::new(4, 8);
    let seed = bench.join_seed();
    let asked = bench.requests_to(seed);
    let open = asked[0].piece();
    let mut wanted = bench.pieces().wanted().clone();
    wanted.remove(open);
    bench.swarm.set_wanted(bench.now, wanted);
    let outputs = bench.drain();
    assert!(outputs.contains(&Output::ClosePiece { piece: open }));
    let cancelled = outputs.iter().filter(|output| matches!(output, Output::Cancel { .. }));
    assert_eq!(cancelled.count(), asked.len());
    assert!(requests(&outputs).iter().all(|(_, request)| request.piece() != open));

    bench.swarm.set_wanted(bench.now, swarm::Bitfield::full(4));
    assert_eq!(bench.pieces().left(), bench.geometry.total());
}

#[test]
fn allowed_fast_requests_ignore_choke() {
    let mut bench = Bench::new(10, 2);
    let peer = bench.join();
    bench.swarm.handle_have_all(bench.now, peer);
    assert!(bench.requests().is_empty());
    let piece = bench.piece(7);
    bench.swarm.handle_allowed_fast(bench.now, peer, piece);
    let asked = bench.requests_to(peer);
    assert_eq!(pieces_of(&asked), BTreeSet::from([7]));
    assert_eq!(asked.len(), 2);
}

#[test]
fn suggested_piece_is_preferred() {
    let mut bench = Bench::with(&with_four(200, 1));
    let peer = bench.join();
    bench.swarm.handle_have_all(bench.now, peer);
    bench.swarm.handle_suggest(bench.now, peer, bench.geometry.piece(77).unwrap());
    bench.swarm.handle_unchoke(bench.now, peer);
    assert_eq!(bench.requests_to(peer)[0].piece().get(), 77);
}

#[test]
fn blocks_on_disk_are_not_requested() {
    let mut setup = setup(3, 4);
    let piece = setup.piece(1);
    setup.unfinished = vec![(piece, vec![0, 2, 2, 99])];
    let mut bench = Bench::with(&setup);
    let seed = bench.join_seed();
    let asked = bench.requests_to(seed);
    let of_piece: Vec<u32> =
        asked.iter().filter(|asked| asked.piece() == piece).map(|asked| asked.block()).collect();
    assert_eq!(of_piece, [1, 3]);
    assert_eq!(asked[0].piece(), piece, "the unfinished piece comes first");
}

#[test]
fn piece_wholly_on_disk_is_committed() {
    let mut setup = setup(3, 2);
    let piece = setup.piece(1);
    setup.unfinished = vec![(piece, vec![0, 1])];
    let mut bench = Bench::with(&setup);
    assert_eq!(bench.drain(), [Output::Commit { piece, digests: false }]);
}

//! Requests to peers, and their outcome.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use swarm::{BlockFate, BlockRequest, DisconnectReason, Output, PeerKey, SpanBudget};

use crate::bench::{BLOCK, Bench, Owed, requests, said, seconds};

fn cancels(outputs: &[Output]) -> Vec<(PeerKey, BlockRequest)> {
    said!(outputs, Output::Cancel { peer, request } => (*peer, *request)).collect()
}

#[test]
fn choking_peer_is_not_asked() {
    let mut bench = Bench::new(10, 4);
    let peer = bench.join_with(&[0, 1, 2]);
    assert_eq!(bench.drain(), [Output::Interested { peer }]);
    bench.swarm.handle_unchoke(bench.now, peer);
    assert!(!bench.requests_to(peer).is_empty());
}

#[test]
fn pipeline_doubles_then_follows_rate() {
    let mut bench = Bench::new(200, 64);
    let seed = bench.join_seed();
    bench.swarm.handle_reqq(bench.now, seed, 2000);
    let mut owed = Owed::new();
    bench.note(&mut owed, Vec::new());
    for expected in [4, 8, 16, 32, 64, 128, 256, 500, 500] {
        assert_eq!(owed[&seed].len(), expected);
        for request in owed.remove(&seed).unwrap() {
            bench.send(seed, request);
            bench.note(&mut owed, Vec::new());
        }
    }
    // A steady 64 blocks per second, 16 at a time.
    for _ in 0..48 {
        for request in owed.get_mut(&seed).unwrap().drain(..16).collect::<Vec<_>>() {
            bench.send(seed, request);
        }
        let outputs = bench.pass(Duration::from_millis(250));
        bench.note(&mut owed, outputs);
    }
    // The blocks that it sends in a second, and a few more.
    let window = bench.swarm.peer(seed).unwrap().window;
    assert!((64..=80).contains(&window), "{window}");
    assert_eq!(bench.swarm.wasted(), 0);
}

#[test]
fn reqq_limits_requests() {
    let mut bench = Bench::new(20, 64);
    let seed = bench.join_seed();
    bench.swarm.handle_reqq(bench.now, seed, 2);
    assert_eq!(bench.requests_to(seed).len(), 2);
}

#[test]
fn choke_releases_requests_to_others() {
    let mut bench = Bench::new(1, 8);
    let plain = bench.join_as(false);
    bench.has(plain, &[0]);
    bench.swarm.handle_unchoke(bench.now, plain);
    let asked: BTreeSet<BlockRequest> = bench.requests_to(plain).into_iter().collect();
    let other = bench.join_seed();
    let mut owed: VecDeque<BlockRequest> = bench.requests_to(other).into();
    assert!(owed.iter().all(|request| !asked.contains(request)));
    bench.swarm.handle_choke(bench.now, plain);
    assert_eq!(bench.swarm.peer(plain).unwrap().outstanding, 0);
    let mut again = BTreeSet::new();
    while let Some(request) = owed.pop_front() {
        assert!(bench.send(other, request));
        let requests = bench.requests_to(other);
        again.extend(requests.iter().copied());
        owed.extend(requests);
    }
    assert_eq!(again, asked);
}

#[test]
fn fast_choke_waits_for_rejects() {
    let mut bench = Bench::new(1, 8);
    let peer = bench.join_seed();
    let asked = bench.requests_to(peer);
    bench.swarm.handle_choke(bench.now, peer);
    assert_eq!(bench.swarm.peer(peer).unwrap().outstanding, asked.len());
    for request in &asked {
        bench.swarm.handle_reject(bench.now, peer, *request);
    }
    assert_eq!(bench.swarm.peer(peer).unwrap().outstanding, 0);
    assert!(bench.requests().is_empty());
    bench.swarm.handle_unchoke(bench.now, peer);
    assert_eq!(bench.requests_to(peer).len(), 4);
}

#[test]
fn rejecting_peer_is_not_asked_temporarily() {
    let mut bench = Bench::new(10, 8);
    let peer = bench.join_seed();
    let mut rejected = 0;
    loop {
        let asked = bench.requests_to(peer);
        if asked.is_empty() {
            break;
        }
        for request in asked {
            rejected += 1;
            bench.swarm.handle_reject(bench.now, peer, request);
        }
        assert!(rejected < 100, "asked without end");
    }
    assert!(!requests(&bench.pass(seconds(12))).is_empty(), "not forever");
}

#[test]
fn silent_peer_is_snubbed_and_replaced() {
    let mut bench = Bench::new(1, 4);
    let silent = bench.join_seed();
    let asked = bench.requests_to(silent);
    assert_eq!(asked.len(), 4);
    let outputs = bench.pass(seconds(59));
    assert!(cancels(&outputs).is_empty());
    assert!(!bench.swarm.peer(silent).unwrap().snubbed);

    let outputs = bench.pass(seconds(3));
    assert!(bench.swarm.peer(silent).unwrap().snubbed);
    assert_eq!(cancels(&outputs).len(), 3, "it keeps one request");
    assert_eq!(bench.swarm.peer(silent).unwrap().outstanding, 1);

    let other = bench.join_seed();
    let taken: BTreeSet<BlockRequest> = bench.requests_to(other).into_iter().collect();
    assert_eq!(taken, asked.iter().copied().collect(), "all blocks, including the kept request");
    // The block of the other peer is kept, and the snubbed peer's request is cancelled.
    assert!(bench.send(other, asked[0]));
    assert_eq!(cancels(&bench.drain()), [(silent, asked[0])]);
}

#[test]
fn snubbed_peer_has_one_request() {
    let mut bench = Bench::new(4, 16);
    let peer = bench.join_seed();
    let asked = bench.requests_to(peer);
    bench.pass(seconds(61));
    assert_eq!(bench.swarm.peer(peer).unwrap().window, 1);
    assert!(bench.send(peer, asked[0]));
    assert!(!bench.swarm.peer(peer).unwrap().snubbed);
    assert!(bench.requests_to(peer).len() > 1);
}

#[test]
fn late_block_keeps_the_kept_request() {
    let mut bench = Bench::new(4, 16);
    let peer = bench.join_seed();
    let asked = bench.requests_to(peer);
    bench.pass(seconds(61));
    assert_eq!(bench.swarm.peer(peer).unwrap().outstanding, 1, "the first");
    // A cancelled one arrives all the same.
    bench.send(peer, asked[1]);
    assert!(!bench.swarm.peer(peer).unwrap().snubbed);
    let again = bench.requests_to(peer);
    assert!(again.len() > 1 && !again.contains(&asked[0]), "{again:?}");
    // It owes the first one again, so no other peer is asked for it.
    let other = bench.join_seed();
    assert!(!bench.requests_to(other).contains(&asked[0]));
}

#[test]
fn passed_over_request_is_repeated() {
    let mut bench = Bench::new(1, 128);
    let peer = bench.join_seed();
    let lost = bench.requests_to(peer)[0];
    let mut again = false;
    for _ in 0..130 {
        let outstanding = bench.geometry.blocks(bench.piece(0)).skip(1);
        let next = outstanding.filter(|block| *block != lost).collect::<Vec<_>>();
        let place = next.iter().map(|block| bench.send(peer, *block));
        _ = place.take(1).collect::<Vec<_>>();
        again |= requests(&bench.pass(seconds(1))).contains(&(peer, lost));
    }
    assert!(again);
}

#[test]
fn endgame_asks_twice_and_cancels() {
    let mut bench = Bench::new(1, 4);
    let first = bench.join_seed();
    let asked = bench.requests_to(first);
    assert_eq!(asked.len(), 4);
    let second = bench.join_seed();
    let twice = bench.requests_to(second);
    assert_eq!(twice.len(), 4, "every block is requested, so they are requested again");
    assert!(bench.send(second, asked[2]));
    assert_eq!(cancels(&bench.drain()), [(first, asked[2])]);
    // The cancelled block may still arrive.
    assert!(!bench.send(first, asked[2]));
    assert_eq!(bench.swarm.wasted(), u64::from(BLOCK));
}

/// Returns a faster and a slower peer, and the blocks that each owes. No free block is left.
fn unequal_in_the_endgame(bench: &mut Bench) -> [(PeerKey, VecDeque<BlockRequest>); 2] {
    let (peers, mut owed) = ([bench.join_seed(), bench.join_seed()], Owed::new());
    let mut missing = bench.geometry.block_count(bench.piece(0)) as usize;
    for step in 0.. {
        let outputs = bench.pass(Duration::from_millis(20));
        bench.note(&mut owed, outputs);
        if missing == owed.values().map(VecDeque::len).sum() {
            break;
        }
        for key in &peers[..if step % 50 == 0 { 2 } else { 1 }] {
            let request = owed.get_mut(key).unwrap().pop_front().unwrap();
            assert!(bench.send(*key, request));
            missing -= 1;
        }
    }
    peers.map(|key| (key, owed.remove(&key).unwrap()))
}

#[test]
fn endgame_doubles_the_block_expected_last() {
    let mut bench = Bench::new(1, 200);
    let [(fast, mut owed), (_, late)] = unequal_in_the_endgame(&mut bench);
    let mut doubled = Vec::new();
    while let Some(request) = owed.pop_front() {
        bench.send(fast, request);
        let outputs = bench.pass(Duration::from_millis(20));
        doubled.extend(requests(&outputs).into_iter().filter(|(key, _)| *key == fast));
    }
    let order: Vec<BlockRequest> = doubled.into_iter().map(|(_, request)| request).collect();
    assert_eq!(order.first(), late.back(), "{late:?}");
}

#[test]
fn endgame_asks_no_slower_peer() {
    let mut bench = Bench::new(1, 200);
    let [(fast, mut owed), (slow, late)] = unequal_in_the_endgame(&mut bench);
    owed.drain(3..).for_each(|request| _ = bench.send(fast, request));
    late.iter().for_each(|request| _ = bench.send(slow, *request));
    assert_eq!(requests(&bench.drain()), [], "{fast:?} is soon done");
    // The fast one stopped, so its blocks are expected later and later.
    let outputs = bench.pass(seconds(4));
    let asked = requests(&outputs).into_iter().filter(|(key, _)| *key == slow);
    let asked: Vec<BlockRequest> = asked.map(|(_, request)| request).collect();
    assert!(!asked.is_empty() && asked.iter().all(|request| owed.contains(request)), "{asked:?}");
}

#[test]
fn blocks_are_asked_once_before_endgame() {
    let mut bench = Bench::new(30, 16);
    (0..5).for_each(|_| _ = bench.join_seed());
    let asked = bench.requests();
    let different: BTreeSet<BlockRequest> = asked.iter().map(|(_, request)| *request).collect();
    assert_eq!(asked.len(), different.len());
}

/// A torrent of one block, which both peers are asked for.
fn one_block() -> (Bench, [PeerKey; 2], BlockRequest) {
    let mut bench = Bench::new(1, 1);
    let peers = [bench.join_seed(), bench.join_seed()];
    bench.drain();
    let block = bench.block(0, 0);
    (bench, peers, block)
}

/// Whether the part of that block from `offset` on is kept.
fn keeps(bench: &mut Bench, key: PeerKey, offset: u32) -> bool {
    bench.swarm.handle_part(bench.now, key, bench.block(0, 0), offset) == BlockFate::Keep
}

fn commits(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Commit { digests: false, .. }))
}

#[test]
fn a_block_has_one_writer() {
    let (mut bench, [first, second], block) = one_block();
    assert!(!keeps(&mut bench, first, 8192), "a writer starts at offset 0");
    assert!(keeps(&mut bench, first, 0));
    assert!(!keeps(&mut bench, second, 0));
    assert!(keeps(&mut bench, first, 8192));
    // The parts of the second peer were discarded, so the block is not done.
    bench.swarm.handle_block(bench.now, second, block);
    assert!(!commits(&bench.drain()));
    bench.swarm.handle_block(bench.now, first, block);
    assert!(commits(&bench.drain()));
}

#[test]
fn endgame_snubs_silent_peers_soon() {
    let mut bench = Bench::new(4, 4);
    // More peers than may be asked for one block.
    (0..6).for_each(|_| _ = bench.join_seed());
    bench.drain();
    let (honest, mut owed) = (bench.join_seed(), Owed::new());
    for _ in 0..8 {
        let outputs = bench.pass(seconds(1));
        bench.note(&mut owed, outputs);
        while let Some(request) = owed.get_mut(&honest).and_then(VecDeque::pop_front) {
            bench.send(honest, request);
            bench.note(&mut owed, Vec::new());
        }
    }
    assert!(bench.pieces().have().is_full());
}

#[test]
fn endgame_reserves_last_copy_for_trusted() {
    let mut bench = Bench::new(2, 4);
    let honest = bench.join_seed();
    let asked = bench.requests_to(honest);
    // They are asked for the other piece, by more than may be asked for one block.
    (0..6).for_each(|_| _ = bench.join_seed());
    bench.drain();
    asked.iter().for_each(|request| assert!(bench.send(honest, *request)));
    bench.drain();
    bench.verify(asked[0].piece().get());
    let last = bench.requests_to(honest);
    assert_eq!(last.len(), 4);
    assert!(last.iter().all(|request| request.piece() != asked[0].piece()));
}

#[test]
fn scarce_memory_snubs_silent_peers_soon() {
    let mut bench = Bench::new(20, 4);
    bench.budget = SpanBudget::new(5 * 4 * BLOCK as usize);
    // Each starts a piece, which takes all the memory.
    (0..5).for_each(|_| _ = bench.join_seed());
    assert_eq!(bench.requests().len(), 20);
    let honest = bench.join_seed();
    assert_eq!(bench.requests_to(honest), []);
    assert_eq!(requests(&bench.pass(seconds(4))), []);
    let outputs = bench.pass(seconds(3));
    assert!(requests(&outputs).iter().any(|(to, _)| *to == honest));
}

#[test]
fn gone_or_snubbed_writer_is_replaced() {
    let (mut bench, [first, second], block) = one_block();
    assert!(keeps(&mut bench, first, 0));
    bench.swarm.handle_disconnected(bench.now, first, DisconnectReason::Failed);
    assert!(bench.send(second, block));
    assert!(commits(&bench.drain()));

    let (mut bench, [first, second], _) = one_block();
    assert!(keeps(&mut bench, first, 0));
    assert!(!keeps(&mut bench, second, 0));
    bench.pass(seconds(62));
    assert!(keeps(&mut bench, second, 0));
    assert!(!keeps(&mut bench, first, 8192));
}

#[test]
fn snubbed_writer_stays_until_replaced() {
    let mut bench = Bench::new(1, 1);
    let slow = bench.join_seed();
    bench.drain();
    assert!(keeps(&mut bench, slow, 0));
    bench.pass(seconds(62));
    assert!(bench.swarm.peer(slow).unwrap().snubbed);
    assert!(keeps(&mut bench, slow, 8192));
    bench.swarm.handle_block(bench.now, slow, bench.block(0, 0));
    assert!(commits(&bench.drain()));
}

#[test]
fn second_complete_copy_is_kept() {
    let (mut bench, [slow, fast], block) = one_block();
    assert!(keeps(&mut bench, slow, 0));
    assert!(!bench.send(fast, block), "the slow one is the writer");
    assert_eq!(bench.requests_to(fast), [block], "it may still be faster");
    assert!(bench.send(fast, block));
    assert!(!keeps(&mut bench, slow, 8192));
    let outputs = bench.drain();
    assert!(commits(&outputs));
    assert!(outputs.contains(&Output::Cancel { peer: slow, request: block }));
}

#[test]
fn unrequested_blocks_are_discarded() {
    let mut bench = Bench::new(3, 2);
    let peer = bench.join_seed();
    assert!(!bench.send(peer, bench.block(0, 0)), "the piece is not started");
    bench.drain();
    let odd = bench.geometry.request(0, 1, 100).unwrap();
    assert!(!bench.send(peer, odd));
    assert_eq!(bench.swarm.blocks_in(bench.piece(0), 0).count(), 0);
    assert!(!bench.send(PeerKey(999), bench.block(0, 0)));
}

#[test]
fn incomplete_peers_are_sent_have() {
    let mut bench = Bench::new(4, 1);
    let seed = bench.join_seed();
    let full = bench.join_with(&[0, 1, 2, 3]);
    let (nearly, without) = (bench.join_with(&[0, 1, 2]), bench.join_with(&[]));
    let asked = bench.requests_to(seed);
    assert_eq!(asked.len(), 4);
    // One of them has the piece. A super seeder, which shows few pieces, waits for a have.
    let first = asked.into_iter().find(|request| request.piece().get() < 3).unwrap();
    bench.send(seed, first);
    let piece = first.piece();
    let outputs = bench.drain();
    assert!(commits(&outputs));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Have { .. })));
    bench.verify(piece.get());
    let outputs = bench.drain();
    let told = said!(outputs, Output::Have { peer, piece } => (*peer, *piece));
    assert_eq!(told.collect::<Vec<_>>(), [(nearly, piece), (without, piece)], "not {full:?}");
}

#[test]
fn interest_follows_missing_pieces() {
    let mut bench = Bench::new(2, 1);
    let poor = bench.join_with(&[0]);
    let seed = bench.join_seed();
    assert!(bench.drain().contains(&Output::Interested { peer: poor }));
    for request in bench.geometry.blocks(bench.piece(0)).collect::<Vec<_>>() {
        bench.send(seed, request);
    }
    bench.verify(0);
    assert!(bench.drain().contains(&Output::NotInterested { peer: poor }));
    bench.swarm.handle_have(bench.now, poor, bench.geometry.piece(1).unwrap());
    assert!(bench.drain().contains(&Output::Interested { peer: poor }));
}

//! Which peers are banned for bad data.

use std::collections::VecDeque;
use std::time::Duration;

use swarm::{Committed, DisconnectReason, Output, PeerKey, Refusal};

use crate::bench::{BLOCK, Bench, address, peer_id, requests, said, seconds};

fn banned(outputs: &[Output]) -> Vec<String> {
    said!(outputs, Output::Banned { address, .. } => address.to_string()).collect()
}

/// Fetches piece 0 of two blocks from two peers, one block each.
fn fetched_from_two() -> (Bench, PeerKey, PeerKey) {
    let mut bench = Bench::new(1, 2);
    let (first, second) = (bench.join_seed(), bench.join_seed());
    bench.drain();
    bench.send(first, bench.block(0, 0));
    bench.send(second, bench.block(0, 1));
    let piece = bench.piece(0);
    assert!(bench.drain().contains(&Output::Commit { piece, digests: false }));
    (bench, first, second)
}

/// The same, and the second sent a bad block. A third peer has to send the piece again.
fn lied_to() -> (Bench, [PeerKey; 3]) {
    let (mut bench, first, second) = fetched_from_two();
    let third = bench.join_seed();
    bench.drain();
    mismatch(&mut bench, &[1]);
    (bench, [first, second, third])
}

/// The piece came again and verifies. Returns which addresses are banned then.
fn banned_once_verified(bench: &mut Bench) -> Vec<String> {
    let (piece, digests) = (bench.piece(0), Some(bench.digests(0, &[])));
    assert!(bench.drain().contains(&Output::Commit { piece, digests: true }));
    bench.swarm.handle_committed(bench.now, piece, Committed::Verified { digests });
    banned(&bench.drain())
}

fn mismatch(bench: &mut Bench, bad: &[u32]) {
    mismatch_of(bench, 0, bad);
}

fn mismatch_of(bench: &mut Bench, piece: u32, bad: &[u32]) {
    let digests = bench.digests(piece, bad);
    let piece = bench.piece(piece);
    bench.swarm.handle_committed(bench.now, piece, Committed::Mismatch { digests });
}

#[test]
fn sole_sender_is_banned_at_once() {
    let mut bench = Bench::new(1, 2);
    let liar = bench.join_seed();
    for request in bench.requests_to(liar) {
        bench.send(liar, request);
    }
    bench.drain();
    mismatch(&mut bench, &[0]);
    let outputs = bench.drain();
    assert_eq!(banned(&outputs), [address(liar.0).to_string()]);
    let reason = DisconnectReason::BadData;
    assert!(outputs.contains(&Output::Disconnect { peer: liar, reason }));
    assert_eq!(bench.swarm.peers_banned(), 1);
    assert_eq!(bench.swarm.wasted(), u64::from(2 * BLOCK));
    assert_eq!((bench.pieces().have().count(), bench.swarm.peers_connected()), (0, 0));

    let back = swarm::ConnectedPeer {
        address: "10.0.0.1:50000".parse().unwrap(),
        outgoing: false,
        fast: true,
        peer_id: peer_id(77),
    };
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(50), back);
    assert_eq!(refused, Err(Refusal::Banned), "on every port");
    let known = bench.swarm.handle_candidates(
        bench.now,
        swarm::Source::User,
        &["10.0.0.1:6881".parse().unwrap()],
    );
    assert_eq!(known, 0);
}

#[test]
fn silent_unsuspected_peers_lose_the_retry() {
    let (mut bench, honest, _) = fetched_from_two();
    (0..3).for_each(|_| _ = bench.join_seed());
    bench.drain();
    mismatch(&mut bench, &[1]);
    // The three are asked one after the other.
    let outputs = bench.pass(seconds(3 * 6 + 2));
    assert!(requests(&outputs).iter().any(|(key, _)| *key == honest));
}

#[test]
fn retry_comes_from_one_unsuspected_peer() {
    let (mut bench, [honest, liar, third]) = lied_to();
    let outputs = bench.drain();
    assert!(banned(&outputs).is_empty(), "no suspect is banned");
    let asked = requests(&outputs);
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|(key, _)| *key == third));
    for (_, request) in asked {
        assert!(!bench.send(honest, request));
        assert!(bench.send(third, request));
    }
    assert_eq!(banned_once_verified(&mut bench), [address(liar.0).to_string()]);
    assert!(bench.swarm.is_complete());
}

#[test]
fn trickler_loses_its_exclusive_piece() {
    let mut bench = Bench::new(1, 256);
    let honest = [bench.join_seed(), bench.join_seed()];
    let mut asked: VecDeque<_> = bench.requests().into();
    while let Some((key, request)) = asked.pop_front() {
        bench.send(key, request);
        asked.extend(bench.requests());
    }
    let trickler = bench.join_seed();
    mismatch(&mut bench, &[1]);
    let mut asked: VecDeque<_> = bench.requests().into();
    while asked.len() < 64 {
        let (key, request) = asked.pop_front().unwrap();
        assert_eq!(key, trickler);
        bench.send(trickler, request);
        asked.extend(bench.requests());
    }
    // From now on it is never silent for five seconds, and sends in order.
    let mut asked_of_others = false;
    for _ in 0..30 {
        let (_, request) = asked.pop_front().unwrap();
        bench.send(trickler, request);
        let outputs = bench.pass(Duration::from_millis(4900));
        let (others, more): (Vec<_>, Vec<_>) =
            requests(&outputs).into_iter().partition(|(key, _)| honest.contains(key));
        asked.extend(more);
        if !others.is_empty() {
            asked_of_others = true;
            break;
        }
    }
    assert!(asked_of_others);
}

#[test]
fn lone_suspect_is_asked_and_caught() {
    let (mut bench, first, second) = fetched_from_two();
    mismatch(&mut bench, &[0]);
    let asked = bench.requests();
    assert_eq!(asked.len(), 2);
    let from = asked[0].0;
    assert!(asked.iter().all(|(key, _)| *key == from), "from one of them only");
    for (_, request) in asked {
        bench.send(from, request);
    }
    let banned = if from == first {
        // It lies again, alone this time.
        let piece = bench.piece(0);
        assert!(bench.drain().contains(&Output::Commit { piece, digests: true }));
        mismatch(&mut bench, &[0]);
        banned(&bench.drain())
    } else {
        banned_once_verified(&mut bench)
    };
    assert_eq!(banned, [address(first.0).to_string()]);
    assert!(bench.swarm.peer(second).is_some() || bench.swarm.is_complete());
}

#[test]
fn retry_prefers_trusted_suspect() {
    let mut bench = Bench::new(2, 2);
    let honest = bench.join_seed();
    let asked = bench.requests_to(honest);
    let (good, bad) = (asked[0].piece().get(), asked[2].piece().get());
    assert_ne!(good, bad);
    asked[..2].iter().for_each(|request| assert!(bench.send(honest, *request)));
    bench.drain();
    bench.verify(good);
    bench.send(honest, asked[2]);
    let liar = bench.join_seed();
    bench.drain();
    assert!(bench.send(liar, asked[3]));
    // They are no suspects, and send nothing.
    (0..3).for_each(|_| _ = bench.join_seed());
    bench.drain();
    mismatch_of(&mut bench, bad, &[1]);
    assert_eq!(bench.requests(), [(honest, asked[2]), (honest, asked[3])]);
}

#[test]
fn retry_skips_peer_with_few_blocks() {
    const BLOCKS: u32 = 8;
    let mut bench = Bench::new(5, BLOCKS);
    let (slow, fast) = (bench.join_seed(), bench.join_seed());
    let mut complete = Vec::new();
    let mut outputs: VecDeque<Output> = bench.drain().into();
    while let Some(output) = outputs.pop_front() {
        match output {
            Output::Request { request, .. } => {
                let sender = if request.offset() == 0 { slow } else { fast };
                bench.send(sender, request);
            }
            Output::Commit { piece, .. } => {
                complete.push(piece.get());
                if complete.len() < 5 {
                    bench.verify(piece.get());
                }
            }
            _ => {}
        }
        outputs.extend(bench.drain());
    }
    mismatch_of(&mut bench, complete[4], &[0]);
    let asked = bench.requests();
    assert_eq!(asked.len(), BLOCKS as usize);
    assert!(asked.iter().all(|(key, _)| *key == fast), "{asked:?}");
}

#[test]
fn exclusive_piece_does_not_delay_endgame() {
    let mut bench = Bench::new(4, 8);
    let (first, second) = (bench.join_seed(), bench.join_seed());
    let asked = bench.requests();
    let bad = asked[0].1.piece();
    assert!(asked.iter().all(|(_, request)| request.piece() == bad), "both work on one piece");
    asked.into_iter().for_each(|(key, request)| assert!(bench.send(key, request)));
    let mut outputs: VecDeque<Output> = bench.drain().into();
    mismatch_of(&mut bench, bad.get(), &[1]);
    // It has no other piece, is asked for the first blocks and sends nothing. No other peer may be
    // asked for the rest.
    bench.join_unchoking(&[bad.get()]);
    let mut verified = 0;
    while let Some(output) = outputs.pop_front() {
        match output {
            Output::Request { peer, request } if peer == first => _ = bench.send(first, request),
            Output::Commit { piece, .. } if piece != bad => {
                bench.verify(piece.get());
                verified += 1;
            }
            _ => {}
        }
        outputs.extend(bench.drain());
    }
    assert_eq!(verified, 3, "the first sends what {second:?} owes");
}

#[test]
fn disconnected_liar_is_banned() {
    let (mut bench, [_, liar, third]) = lied_to();
    bench.swarm.handle_disconnected(bench.now, liar, DisconnectReason::Closed);
    for (key, request) in bench.requests() {
        assert_eq!(key, third);
        bench.send(key, request);
    }
    assert_eq!(banned_once_verified(&mut bench), [address(liar.0).to_string()]);
}

#[test]
fn choked_retry_goes_to_another() {
    let (mut bench, [.., third]) = lied_to();
    assert!(bench.requests().iter().all(|(key, _)| *key == third));
    bench.swarm.handle_choke(bench.now, third);
    let fourth = bench.join_seed();
    let asked = bench.requests_to(fourth);
    assert_eq!(asked.len(), 2);
}

#[test]
fn newcomer_takes_piece_of_snubbed_peer() {
    let (mut bench, [first, second, silent]) = lied_to();
    bench.requests_to(silent);
    for key in [first, second] {
        bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
    }
    // It is the only peer, and sends nothing.
    bench.pass(seconds(70));
    assert!(bench.swarm.peer(silent).unwrap().snubbed);
    let late = bench.join_seed();
    let asked = requests(&bench.pass(seconds(3)));
    let asked: Vec<_> = asked.into_iter().filter(|(key, _)| *key == late).collect();
    assert_eq!(asked.len(), 2, "no other peer sends the piece");
}

#[test]
fn silent_newcomers_do_not_block_suspects() {
    let (mut bench, [first, second, mut newest]) = lied_to();
    let is_asked = |outputs: &[Output]| {
        requests(outputs).iter().any(|(key, _)| *key == first || *key == second)
    };
    let asked = (0..20).any(|_| {
        let silent = std::mem::replace(&mut newest, bench.join_seed());
        let before = is_asked(&bench.pass(seconds(4)));
        bench.swarm.handle_disconnected(bench.now, silent, DisconnectReason::Closed);
        before || is_asked(&bench.drain())
    });
    assert!(asked, "the suspects have it");
}

#[test]
fn rejected_retry_goes_to_another() {
    let (mut bench, [.., refuser]) = lied_to();
    let asked = bench.requests_to(refuser);
    assert_eq!(asked.len(), 2, "it is the only unsuspected peer");
    for request in asked {
        bench.swarm.handle_reject(bench.now, refuser, request);
    }
    // Another peer must be asked, not this one forever.
    let again = requests(&bench.pass(seconds(2)));
    assert!(again.iter().any(|(key, _)| *key != refuser), "asked {again:?}");
    let fetching = again.last().unwrap().0;
    assert_ne!(fetching, refuser);
    for (_, request) in again.into_iter().filter(|(key, _)| *key == fetching) {
        assert!(bench.send(fetching, request));
    }
    let piece = bench.piece(0);
    assert!(bench.drain().contains(&Output::Commit { piece, digests: true }));
}

#[test]
fn passed_over_retry_goes_to_another() {
    let mut bench = Bench::new(400, 2);
    let proven = bench.join_as(false);
    bench.swarm.handle_bitfield(bench.now, proven, 0, &[0xff; 50], true);
    bench.swarm.handle_unchoke(bench.now, proven);
    let asked = bench.requests_to(proven);
    let (good, bad) = (asked[0].piece().get(), asked[2].piece());
    asked[..3].iter().for_each(|request| assert!(bench.send(proven, *request)));
    bench.drain();
    bench.verify(good);
    bench.swarm.handle_choke(bench.now, proven);
    let liar = bench.join_unchoking(&[bad.get()]);
    assert_eq!(bench.requests(), [(liar, asked[3])]);
    bench.send(liar, asked[3]);
    bench.drain();
    mismatch_of(&mut bench, bad.get(), &[1]);
    bench.swarm.handle_disconnected(bench.now, liar, DisconnectReason::Closed);
    // The piece is the rarest of all.
    let others: Vec<u32> = (0..400).filter(|piece| *piece != bad.get()).collect();
    bench.join_with(&others);
    bench.swarm.handle_unchoke(bench.now, proven);

    // It sends a block per second, and passes over the piece that is reserved for it.
    let (mut owed, mut fetching) = (VecDeque::new(), Vec::new());
    let mut second = |bench: &mut Bench| {
        for output in bench.pass(seconds(1)) {
            match output {
                Output::Request { peer, request } if request.piece() == bad => fetching.push(peer),
                Output::Request { request, .. } => owed.push_back(request),
                Output::Commit { piece, .. } => bench.verify(piece.get()),
                _ => {}
            }
        }
        owed.pop_front().into_iter().for_each(|request| assert!(bench.send(proven, request)));
    };
    (0..20).for_each(|_| second(&mut bench));
    let third = bench.join_unchoking(&[bad.get()]);
    (0..120).for_each(|_| second(&mut bench));
    assert_eq!(fetching, [proven, proven, third, third]);
}

#[test]
fn loopback_ban_spares_other_ports() {
    let mut bench = Bench::new(4, 1);
    let join = |bench: &mut Bench, key: u64, port: u16| {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let peer_id = peer_id(key);
        let peer = swarm::ConnectedPeer { address, outgoing: true, fast: true, peer_id };
        bench.swarm.handle_connected(bench.now, PeerKey(key), peer)
    };
    join(&mut bench, 1, 1000).unwrap();
    join(&mut bench, 2, 2000).unwrap();
    bench.swarm.handle_have_all(bench.now, PeerKey(1));
    bench.swarm.handle_unchoke(bench.now, PeerKey(1));
    let asked = bench.requests_to(PeerKey(1));
    bench.send(PeerKey(1), asked[0]);
    bench.drain();
    let digests = bench.digests(asked[0].piece().get(), &[0]);
    bench.swarm.handle_committed(bench.now, asked[0].piece(), Committed::Mismatch { digests });
    assert_eq!(banned(&bench.drain()), ["127.0.0.1:1000"]);
    assert!(bench.swarm.peer(PeerKey(2)).is_some());
    assert_eq!(join(&mut bench, 1, 3000), Err(Refusal::Banned), "known by its id");
}

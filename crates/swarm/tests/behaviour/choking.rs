//! Which peers we unchoke.

use std::collections::BTreeSet;

use swarm::{Bitfield, Output, PeerKey};

use crate::bench::{Bench, Setup, bits, geometry, seconds, setup};

fn unchoked(bench: &Bench) -> BTreeSet<u64> {
    let open = bench.swarm.peers().filter(|peer| !peer.am_choking);
    open.map(|peer| peer.key.0).collect()
}

fn leecher(slots: usize, peers: usize) -> Bench {
    with_interested(bits(geometry(8, 4), [0]), slots, peers)
}

fn seeder(slots: usize, peers: usize) -> Bench {
    with_interested(Bitfield::full(8), slots, peers)
}

fn with_interested(have: Bitfield, slots: usize, peers: usize) -> Bench {
    let setup = setup(8, 4).config(|config| config.upload_slots = slots);
    let mut bench = Bench::with(&Setup { have, ..setup });
    for _ in 0..peers {
        let key = bench.join_with(&[1]);
        bench.swarm.handle_interested(bench.now, key);
    }
    bench.drain();
    bench
}

/// Each peer sends its number of bytes per second, for `time` seconds.
fn send_for(bench: &mut Bench, time: u64, rates: &[(u64, u32)]) {
    for _ in 0..time {
        for (key, bytes) in rates {
            bench.swarm.handle_payload(bench.now, PeerKey(*key), *bytes);
        }
        bench.pass(seconds(1));
    }
}

#[test]
fn free_slot_is_given_at_once() {
    let mut bench = leecher(2, 1);
    assert_eq!(unchoked(&bench), BTreeSet::from([1]));
    let second = bench.join_with(&[1]);
    bench.swarm.handle_interested(bench.now, second);
    assert_eq!(bench.drain().last(), Some(&Output::Unchoke { peer: second }));
    let third = bench.join_with(&[1]);
    bench.swarm.handle_interested(bench.now, third);
    assert_eq!(unchoked(&bench), BTreeSet::from([1, 2]));
    // A peer that leaves frees its slot.
    bench.swarm.handle_disconnected(bench.now, PeerKey(1), swarm::DisconnectReason::Closed);
    assert_eq!(unchoked(&bench), BTreeSet::from([2, 3]));
}

#[test]
fn unchoke_needs_interest_and_slots() {
    let mut bench = leecher(2, 0);
    bench.join_with(&[1]);
    bench.pass(seconds(60));
    assert!(unchoked(&bench).is_empty());
    let mut none = leecher(0, 3);
    none.pass(seconds(60));
    assert!(unchoked(&none).is_empty());
}

#[test]
fn top_senders_are_unchoked() {
    let mut bench = leecher(4, 12);
    let rates: Vec<(u64, u32)> = (1..=12).map(|key| (key, key as u32 * 10_000)).collect();
    send_for(&mut bench, 25, &rates);
    let chosen = unchoked(&bench);
    assert_eq!(chosen.len(), 4);
    assert!(chosen.is_superset(&BTreeSet::from([10, 11, 12])), "{chosen:?}");
}

#[test]
fn optimistic_unchoke_rotates() {
    let mut bench = leecher(3, 10);
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        send_for(&mut bench, 30, &[(9, 50_000), (10, 60_000)]);
        let chosen = unchoked(&bench);
        assert!(chosen.is_superset(&BTreeSet::from([9, 10])));
        seen.extend(chosen);
    }
    assert!(seen.len() >= 6, "{seen:?}");
}

#[test]
fn seeder_serves_peers_in_turn() {
    let mut bench = seeder(2, 6);
    let mut turns = vec![0; 7];
    for _ in 0..18 {
        let chosen = unchoked(&bench);
        assert_eq!(chosen.len(), 2);
        chosen.iter().for_each(|key| turns[*key as usize] += 1);
        bench.pass(seconds(30));
    }
    assert!(turns[1..].iter().all(|turns| *turns >= 4), "{turns:?}");
}

#[test]
fn peers_are_choked_every_ten_seconds() {
    let mut bench = leecher(2, 6);
    let before = unchoked(&bench);
    // Payload from early in the round would no longer count at its end.
    bench.pass(seconds(5));
    bench.swarm.handle_payload(bench.now, PeerKey(6), 1 << 20);
    bench.pass(seconds(4));
    assert_eq!(unchoked(&bench), before);
    bench.pass(seconds(2));
    assert!(unchoked(&bench).contains(&6));
}

#[test]
fn fewer_slots_choke_at_once() {
    let mut bench = leecher(4, 6);
    bench.swarm.set_upload_slots(bench.now, 1);
    assert_eq!(unchoked(&bench).len(), 1);
}

/// We send `rate` bytes per second, for `time` seconds.
fn upload_for(bench: &mut Bench, time: u64, rate: u32) {
    for _ in 0..time {
        bench.swarm.handle_sent(bench.now, PeerKey(1), rate);
        bench.pass(seconds(1));
    }
}

#[test]
fn seeding_slots_follow_the_rate() {
    let mut bench = seeder(4, 60);
    assert_eq!(unchoked(&bench).len(), 4);
    // 4 KiB/s for each of 4: too little for a fifth.
    upload_for(&mut bench, 20, 16 << 10);
    assert_eq!(unchoked(&bench).len(), 4);
    // At the end the average of 10 seconds covers nothing else.
    upload_for(&mut bench, 11, 1 << 20);
    assert_eq!(unchoked(&bench).len(), 32, "32 KiB/s for each of 32");
    upload_for(&mut bench, 11, 100 << 20);
    assert_eq!(unchoked(&bench).len(), 60, "all peers");
    upload_for(&mut bench, 60, 16 << 10);
    assert_eq!(unchoked(&bench).len(), 4, "and back");
}

#[test]
fn leecher_and_zero_slots_stay_fixed() {
    let mut none = seeder(0, 10);
    upload_for(&mut none, 20, 100 << 20);
    assert_eq!(unchoked(&none).len(), 0);
    let mut leecher = leecher(4, 20);
    upload_for(&mut leecher, 20, 100 << 20);
    assert_eq!(unchoked(&leecher).len(), 4, "leechers earn their slots");
}

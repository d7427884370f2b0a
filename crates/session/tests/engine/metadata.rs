//! The metadata of a link is fetched from peers of which most are liars.

use std::collections::BTreeSet;
use std::time::Duration;

use bt_types::PeerId;
use peer_wire::METADATA_PIECE_LENGTH;
use session::engine::EngineConfig;
use session::limits::{
    MAX_ASKED_FOR_PIECE, MAX_ASSEMBLIES, MAX_METADATA_LENGTH, MAX_METADATA_PEERS,
    MAX_METADATA_WINDOW, METADATA_ANSWER_TIME, METADATA_MEMORY, METADATA_REST, METADATA_STALL,
    METADATA_TICK, METADATA_USELESS_TIME,
};
use session::{EventKind, StopReason};

use super::crowd::{Crowd, Manner, data, info_of};
use super::node::{Node, config};

const LIMIT: Duration = Duration::from_secs(10);
const MIB: u32 = 1 << 20;
const PIECE: usize = METADATA_PIECE_LENGTH as usize;
/// Twelve pieces and a short one.
const LENGTH: usize = 12 * PIECE + 1000;

fn set(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    numbers.into_iter().collect()
}

/// Nine liars and an honest peer, which connects as the one of this number.
fn nine_liars(liars: [Manner; 9], honest: usize) -> Crowd {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join(liars[..honest].iter().copied());
    crowd.join([Manner::Honest]);
    crowd.join(liars[honest..].iter().copied());
    crowd.run_until(LIMIT, Crowd::has_metadata);
    crowd
}

#[test]
fn nine_liars_about_size() {
    let sizes = [1, 16 << 10, 100_000, LENGTH as u32 - 1, LENGTH as u32 + 1, MIB, 8 * MIB];
    let sizes = [&sizes[..], &[31 * MIB, 32 * MIB]].concat();
    let liars: [Manner; 9] = std::array::from_fn(|number| Manner::Claims(sizes[number]));
    for honest in [0, 4, 9] {
        let crowd = nine_liars(liars, honest);
        assert_eq!(crowd.banned(), crowd.liars(), "the honest one is {honest}");
    }
}

#[test]
fn nine_liars_about_bytes() {
    let liars = std::array::from_fn(|number| match number {
        0 => Manner::CorruptsFrom(0),
        1 => Manner::Swaps,
        _ => Manner::Corrupts(number as u32),
    });
    for honest in [0, 4, 9] {
        let crowd = nine_liars(liars, honest);
        assert_eq!(crowd.banned(), crowd.liars(), "the honest one is {honest}");
    }
}

#[test]
fn nine_peers_bad_in_nine_ways() {
    let bad = [
        Manner::Claims(MIB),
        Manner::Corrupts(3),
        Manner::Rejects,
        Manner::Silent,
        Manner::Dribbles(Duration::from_millis(1)),
        Manner::Unasked,
        Manner::Oversized,
        Manner::Drips(2 * MIB, Duration::from_millis(500)),
        Manner::Resizes(Duration::from_millis(100)),
    ];
    for honest in [0, 4, 9] {
        let crowd = nine_liars(bad, honest);
        assert!(crowd.banned().is_subset(&crowd.liars()), "the honest one is {honest}");
    }
}

#[test]
fn one_honest_peer_among_forty_is_enough() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join((0..40).map(|number| match number {
        20 => Manner::Honest,
        _ => Manner::CorruptsFrom(number % 12),
    }));
    crowd.run_until(3 * LIMIT, Crowd::has_metadata);
    assert!(!crowd.banned().contains(&20));
    assert_eq!(crowd.banned(), crowd.liars());
}

/// Assemblies in which a piece arrives now and then do not keep a further one out.
#[test]
fn slow_liars_take_turns() {
    let pace = METADATA_STALL - Duration::from_millis(100);
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join((0..8).map(|number| Manner::Drips(16 * MIB + number, pace)));
    crowd.run(Duration::from_secs(1));
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
}

/// A claim is cheap: those who make new ones again and again do not overtake.
#[test]
fn new_sizes_wait_in_line() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join((0..20).map(|number| Manner::Resizes(Duration::from_millis(100 + number / 2))));
    crowd.run(Duration::from_secs(1));
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
}

#[test]
fn slow_peer_gets_longer_turns() {
    // 300 pieces of a peer that sends 50 per second, while the turns of others last two seconds.
    let mut crowd = Crowd::new(&info_of(300 * PIECE));
    crowd.join((0..8).map(|number| Manner::Drips(16 * MIB + number, Duration::from_secs(1))));
    crowd.join([Manner::Paced(Duration::from_millis(20))]);
    crowd.run_until(6 * LIMIT, Crowd::has_metadata);
}

/// What a slow peer sends late is still of use, and it is asked for nothing twice meanwhile.
#[test]
fn slow_honest_peer_suffices() {
    for (pace, pieces) in [(300, 128), (2000, 10), (4000, 10)] {
        let mut crowd = Crowd::new(&info_of(pieces * PIECE));
        crowd.join([Manner::Paced(Duration::from_millis(pace))]);
        let needed = Duration::from_millis(pace * (pieces as u64 + 2));
        crowd.run_until(needed + Duration::from_secs(10), Crowd::has_metadata);
        assert_eq!(crowd.requests(0).len(), pieces, "one piece per {pace} ms");
    }
}

#[test]
fn lengths_from_one_byte_to_32_mib() {
    for length in [100, PIECE, PIECE + 1, MAX_METADATA_LENGTH as usize] {
        let mut crowd = Crowd::new(&info_of(length));
        crowd.join([Manner::Honest]);
        crowd.run_until(LIMIT, Crowd::has_metadata);
        assert_eq!(crowd.requests(0).len(), length.div_ceil(PIECE), "{length} bytes");
    }
    // No torrent has so little metadata.
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join([Manner::Claims(1)]);
    crowd.run(LIMIT);
    assert_eq!(crowd.banned(), set([0]));
}

#[test]
fn absurd_lengths_are_not_fetched() {
    let mut crowd = Crowd::new(&info_of(MAX_METADATA_LENGTH as usize + 1));
    crowd.join([Manner::Honest, Manner::Claims(0), Manner::Claims(u32::MAX)]);
    crowd.run(LIMIT);
    assert!((0..3).all(|number| crowd.requests(number).is_empty()));
    assert_eq!(crowd.connected(), set(0..3), "they may be good for the payload");
}

#[test]
fn later_handshake_changes_length() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join([Manner::Silent]);
    crowd.run(Duration::from_secs(1));
    let asked = crowd.requests(0).len();
    // A peer that had none has it now; one takes its claim back.
    crowd.join([Manner::Claims(0)]);
    crowd.be(1, Manner::Honest);
    let now = crowd.node.now;
    crowd.claim(1, now + Duration::from_secs(1), LENGTH as u32);
    crowd.claim(0, now, 0);
    crowd.run_until(LIMIT, Crowd::has_metadata);
    assert_eq!(crowd.requests(0).len(), asked, "nothing more is asked of it");
    assert_eq!(crowd.banned(), set([]));
}

#[test]
fn honest_peer_may_correct_its_length() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join([Manner::Honest]);
    let now = crowd.node.now;
    crowd.claim(0, now, MIB);
    crowd.claim(0, now + Duration::from_millis(30), LENGTH as u32);
    crowd.run_until(LIMIT, Crowd::has_metadata);
    assert_eq!(crowd.banned(), set([]));
}

#[test]
fn fifth_length_waits_for_stall() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join((1..=MAX_ASSEMBLIES as u32).map(|it| Manner::Claims(it * MIB)));
    (0..MAX_ASSEMBLIES).for_each(|number| crowd.be(number, Manner::Silent));
    crowd.run(Duration::from_millis(100));
    crowd.join([Manner::Honest]);
    crowd.run(METADATA_STALL - Duration::from_millis(100));
    assert!((0..MAX_ASSEMBLIES).all(|number| crowd.requests(number).len() == 2));
    assert!(crowd.requests(MAX_ASSEMBLIES).is_empty());
    crowd.run_until(Duration::from_secs(1), Crowd::has_metadata);
}

#[test]
fn sixteen_peers_are_asked() {
    let mut crowd = Crowd::new(&info_of(64 * PIECE));
    crowd.join([Manner::Silent; MAX_METADATA_PEERS]);
    crowd.join([Manner::Honest]);
    crowd.run(METADATA_ANSWER_TIME - Duration::from_millis(100));
    assert!((0..MAX_METADATA_PEERS).all(|number| crowd.requests(number).len() == 2));
    assert!(crowd.requests(MAX_METADATA_PEERS).is_empty(), "the seventeenth");
    crowd.run_until(Duration::from_secs(3), Crowd::has_metadata);
}

#[test]
fn piece_is_asked_of_four_peers() {
    let mut crowd = Crowd::new(&info_of(1000));
    crowd.join([Manner::Silent; 6]);
    let asked = |crowd: &Crowd| (0..6).filter(|it| !crowd.requests(*it).is_empty()).count();
    crowd.run(Duration::from_millis(100));
    assert_eq!(asked(&crowd), 1);
    for count in 2..=MAX_ASKED_FOR_PIECE.into() {
        crowd.run(METADATA_TICK);
        assert_eq!(asked(&crowd), count);
    }
    crowd.run(METADATA_TICK);
    assert_eq!(asked(&crowd), MAX_ASKED_FOR_PIECE.into());
    crowd.run(METADATA_ANSWER_TIME);
    assert_eq!(asked(&crowd), 6, "the first were asked long ago");
}

#[test]
fn silent_peers_cost_half_a_second() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join([Manner::Silent, Manner::Honest]);
    crowd.run_until(Duration::from_millis(1200), Crowd::has_metadata);
    let asked = crowd.requests(0).len() + crowd.requests(1).len();
    assert_eq!(asked, 13 + 2, "only what was not answered is requested again");
}

#[test]
fn window_grows_to_eight() {
    let mut crowd = Crowd::new(&info_of(200 * PIECE));
    crowd.join([Manner::Honest]);
    crowd.run(Duration::from_millis(1));
    assert_eq!(crowd.requests(0).len(), 0, "the claim is on its way");
    crowd.run(Duration::from_millis(25));
    assert_eq!(crowd.requests(0).len(), 2);
    crowd.run_until(LIMIT, |crowd| crowd.requests(0).len() > 100);
    crowd.be(0, Manner::Silent);
    crowd.run(Duration::from_millis(100));
    let asked = crowd.requests(0).len();
    crowd.run(METADATA_ANSWER_TIME - Duration::from_millis(200));
    assert_eq!(crowd.requests(0).len(), asked);
    assert_eq!(asked - crowd.pieces_sent(0), MAX_METADATA_WINDOW);
}

/// It would send nothing more.
#[test]
fn rtorrent_is_asked_for_one_piece() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join_with_id(Manner::Honest, PeerId(*b"-lt0D80-abcdefghijkl"));
    let outstanding = |crowd: &Crowd| crowd.requests(0).len() - crowd.pieces_sent(0);
    crowd.be(0, Manner::Silent);
    crowd.run(Duration::from_millis(100));
    assert_eq!(outstanding(&crowd), 1);
    crowd.be(0, Manner::Honest);
    crowd.run_until(LIMIT, |crowd| crowd.pieces_sent(0) > 3);
    crowd.be(0, Manner::Silent);
    crowd.run(METADATA_ANSWER_TIME - Duration::from_millis(100));
    assert_eq!(outstanding(&crowd), 2, "that one, and the first");
}

#[test]
fn rejecting_peer_rests_a_minute() {
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join([Manner::Rejects]);
    crowd.run(METADATA_REST);
    assert_eq!(crowd.requests(0).len(), 2);
    crowd.run(Duration::from_secs(2));
    assert!(crowd.requests(0).len() > 2);
}

#[test]
fn three_useless_pieces_are_enough() {
    for manner in [Manner::Short, Manner::Unasked] {
        let mut crowd = Crowd::new(&info_of(LENGTH));
        crowd.join([manner]);
        crowd.run(LIMIT);
        let asked = crowd.requests(0).len();
        assert!(asked <= 4, "{manner:?}: {asked}");
        assert_eq!((crowd.connected(), crowd.banned()), (set([0]), set([])), "{manner:?}");
    }
    // Two are forgiven.
    let mut crowd = Crowd::new(&info_of(LENGTH));
    crowd.join([Manner::Honest]);
    let unasked = data(100, LENGTH as u32, &[1; PIECE]);
    (0..2).for_each(|_| crowd.send(0, crowd.node.now, &unasked));
    crowd.run_until(LIMIT, Crowd::has_metadata);
}

/// Four lies of 32 MiB would be 128 MiB.
#[test]
fn memory_of_all_links_is_limited() {
    let withholds = |it: u32| Manner::Withholds(MAX_METADATA_LENGTH - it);
    let mut crowd = Crowd::new(&info_of(LENGTH));
    let first = crowd.key;
    crowd.join([withholds(0), withholds(1)]);
    crowd.run(Duration::from_millis(100));
    crowd.add_link(&info_of(LENGTH + 1));
    crowd.join([withholds(2), withholds(3)]);
    let received = |crowd: &Crowd| (0..4).map(|it| crowd.pieces_sent(it)).sum::<usize>() * PIECE;
    crowd.run_until(LIMIT, |crowd| received(crowd) > METADATA_MEMORY - 2 * MIB as usize);
    let in_flight = 4 * MAX_METADATA_WINDOW * PIECE;
    crowd.run(METADATA_STALL - Duration::from_millis(1000));
    assert!(received(&crowd) <= METADATA_MEMORY + in_flight, "{}", received(&crowd));
    // An honest peer gets its metadata all the same, within the memory of stalled ones.
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
    // What a stopped torrent had is free again.
    crowd.node.stop(first);
    assert!(crowd.node.stopped());
    crowd.add_link(&info_of(MAX_METADATA_LENGTH as usize));
    crowd.join([Manner::Honest]);
    crowd.run_until(LIMIT, Crowd::has_metadata);
}

/// When a full torrent gets no metadata, other peers get a chance.
#[test]
fn oldest_useless_peer_leaves() {
    let small = EngineConfig { max_peers_per_torrent: 2, ..config(1) };
    let mut crowd = Crowd::with(Node::new(small), &info_of(LENGTH), |add| add);
    crowd.join([Manner::Silent, Manner::Silent]);
    crowd.run(METADATA_USELESS_TIME - Duration::from_secs(1));
    assert_eq!(crowd.connected(), set([0, 1]));
    crowd.run(Duration::from_secs(2));
    assert_eq!(crowd.connected(), set([1]));
}

#[test]
fn unusable_metadata_stops_torrent() {
    // Its hash is right. A torrent of v2 only has no pieces.
    let v2 = b"d9:file treedee12:meta versioni2e4:name1:a12:piece lengthi16384ee";
    let deep = format!("d5:filesld6:lengthi1e4:pathl{}eee", "1:a".repeat(101));
    let tail = "4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
    let deep = deep + tail;
    for info in [&v2[..], deep.as_bytes(), b"d1:ai1ee", b"nonsense"] {
        let mut crowd = Crowd::new(info);
        crowd.join([Manner::Honest]);
        crowd.run_until(LIMIT, |crowd| crowd.node.stopped());
        let failed = |kind: &EventKind| {
            matches!(kind, EventKind::Stopped { reason: StopReason::Failed(error) }
                if error.class == session::ErrorClass::BadTorrent)
        };
        assert!(crowd.node.has(failed), "{info:?}");
        assert_eq!(crowd.banned(), set([]), "the peer is honest");
    }
}

//! What peers say before the geometry is known, and torrents that turn out to be private.

use proptest::prelude::*;
use swarm::{
    Bitfield, ConnectFailure, ConnectedPeer, DisconnectReason, Output, PeerKey, PeerView, Refusal,
    Source,
};

use crate::bench::{Bench, Setup, address, bits, peer_id, said, seconds, setup};

const PIECES: u32 = 20;

/// What a peer says, in a form that both swarms understand.
#[derive(Debug, Clone)]
enum Said {
    HaveAll,
    HaveNone,
    Bitfield(u32),
    Have(u32),
    UncheckedHave(u32),
    AllowedFast(u32),
    Choke(bool),
    Interest(bool),
    RequestLimit(u32),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        Just(Said::HaveAll),
        Just(Said::HaveNone),
        any::<u32>().prop_map(Said::Bitfield),
        (0..PIECES).prop_map(Said::Have),
        (0..PIECES).prop_map(Said::UncheckedHave),
        (0..PIECES).prop_map(Said::AllowedFast),
        any::<bool>().prop_map(Said::Choke),
        any::<bool>().prop_map(Said::Interest),
        (1..300u32).prop_map(Said::RequestLimit),
    ]
}

fn say(bench: &mut Bench, peer: PeerKey, said: &Said) {
    let (now, geometry) = (bench.now, bench.geometry);
    let swarm = &mut bench.swarm;
    match *said {
        Said::HaveAll => swarm.handle_have_all(now, peer),
        Said::HaveNone => swarm.handle_have_none(now, peer),
        Said::Bitfield(pieces) => {
            let bits = bits(geometry, (0..PIECES).filter(|piece| pieces >> piece & 1 == 1));
            let (bytes, middle) = (bits.as_bytes(), 1);
            swarm.handle_bitfield(now, peer, 0, &bytes[..middle], false);
            swarm.handle_bitfield(now, peer, middle, &bytes[middle..], true);
        }
        Said::Have(piece) => swarm.handle_have(now, peer, geometry.piece(piece).unwrap()),
        Said::UncheckedHave(piece) => swarm.handle_unchecked_have(now, peer, piece),
        Said::AllowedFast(piece) => swarm.handle_unchecked_allowed_fast(now, peer, piece),
        Said::Choke(true) => swarm.handle_choke(now, peer),
        Said::Choke(false) => swarm.handle_unchoke(now, peer),
        Said::Interest(true) => swarm.handle_interested(now, peer),
        Said::Interest(false) => swarm.handle_not_interested(now, peer),
        Said::RequestLimit(limit) => swarm.handle_reqq(now, peer, limit),
    }
}

/// What two swarms must agree on. Whom they unchoke, and what they ask of whom, is random.
fn state(view: &PeerView) -> (PeerKey, u32, bool, bool, bool) {
    (view.key, view.pieces, view.am_interested, view.peer_choking, view.peer_interested)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn early_messages_count_as_later_ones(
        messages in prop::collection::vec((0..4usize, said()), 0..60),
    ) {
        let setup = setup(PIECES, 1);
        let (mut early, mut later) = (Bench::without_transfer(&setup), Bench::with(&setup));
        for bench in [&mut early, &mut later] {
            let peers: Vec<PeerKey> = (0..4).map(|number| bench.join_as(number != 0)).collect();
            messages.iter().for_each(|(peer, said)| say(bench, peers[*peer], said));
        }
        early.begin_transfer(&setup).unwrap();
        for bench in [&mut early, &mut later] {
            bench.drain();
        }
        let states = |bench: &Bench| bench.swarm.peers().map(|view| state(&view)).collect::<Vec<_>>();
        prop_assert_eq!(states(&early), states(&later));
    }
}

#[test]
fn early_seeder_is_asked_at_once() {
    let setup = setup(2, 1);
    let mut bench = Bench::without_transfer(&setup);
    let peer = bench.join_seed();
    bench.begin_transfer(&setup).unwrap();
    assert_eq!(bench.requests_to(peer).len(), 2);
}

#[test]
fn further_early_allowed_fast_pieces_are_ignored() {
    let setup = setup(40, 1);
    let mut bench = Bench::without_transfer(&setup);
    let peer = bench.join_with(&[31, 32]);
    for index in 0..33 {
        bench.swarm.handle_unchecked_allowed_fast(bench.now, peer, index);
    }
    bench.begin_transfer(&setup).unwrap();
    assert_eq!(bench.requests_to(peer), [bench.block(31, 0)], "it chokes us");
}

#[test]
fn early_bitfields_must_fit_in_the_end() {
    let cases: [(&[u8], bool); 5] = [
        (&[0xff, 0xc0], true),
        // A spare bit counts for nothing, as in a message that comes later.
        (&[0xff, 0xff], true),
        (&[0xff], false),
        (&[0xff, 0xc0, 0], false),
        (&[], false),
    ];
    for (bytes, fits) in cases {
        let setup = setup(10, 1);
        let mut bench = Bench::without_transfer(&setup);
        let peer = bench.join();
        bench.swarm.handle_bitfield(bench.now, peer, 0, bytes, true);
        bench.begin_transfer(&setup).unwrap();
        let outputs = bench.drain();
        let bad = Output::Disconnect { peer, reason: DisconnectReason::BadBitfield };
        assert_eq!(!outputs.contains(&bad), fits, "{bytes:?}: {outputs:?}");
    }
}

#[test]
fn early_haves_must_name_pieces() {
    for (index, stays) in [(9, true), (10, false), (15, false), (16, false), ((1 << 21) - 1, false)]
    {
        let setup = setup(10, 1);
        let mut bench = Bench::without_transfer(&setup);
        let peer = bench.join();
        bench.swarm.handle_unchecked_have(bench.now, peer, index);
        assert_eq!(bench.swarm.peers_connected(), 1);
        bench.begin_transfer(&setup).unwrap();
        assert_eq!(bench.swarm.peers_connected() == 1, stays, "piece {index}");
    }
    let mut bench = Bench::without_transfer(&setup(10, 1));
    let peer = bench.join();
    bench.swarm.handle_unchecked_have(bench.now, peer, 1 << 21);
    assert_eq!(bench.swarm.peers_connected(), 0, "no torrent has as many pieces");
}

#[test]
fn early_bitfields_share_one_mib() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    let large: Vec<PeerKey> = (0..4).map(|_| bench.join()).collect();
    for peer in &large {
        bench.swarm.handle_bitfield(bench.now, *peer, 0, &[0xff; 256 << 10], true);
    }
    assert_eq!(bench.swarm.peers_connected(), 4, "exactly 1 MiB");
    let small = bench.join();
    bench.swarm.handle_unchecked_have(bench.now, small, 0);
    assert_eq!(bench.swarm.peers_connected(), 4, "the peer that takes most is disconnected");
    assert!(bench.swarm.peer(small).is_some());
    let outputs = bench.drain();
    let gone = said!(outputs, Output::Disconnect { reason: DisconnectReason::Limit, .. } => ());
    assert_eq!(gone.count(), 1);
}

/// Connects to `number`, which `source` gave.
fn dial(bench: &mut Bench, number: u64, source: Source) -> PeerKey {
    bench.swarm.handle_candidates(bench.now, source, &[address(number)]);
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(address(number)));
    let key = PeerKey(100 + number);
    let (address, peer_id) = (address(number), peer_id(number));
    let peer = ConnectedPeer { address, outgoing: true, fast: true, peer_id };
    bench.swarm.handle_connected(bench.now, key, peer).unwrap();
    key
}

#[test]
fn private_torrent_keeps_peers_of_trackers() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    let of_tracker = dial(&mut bench, 1, Source::Tracker);
    let of_dht = dial(&mut bench, 2, Source::Dht);
    // A tracker names it, too.
    let of_both = dial(&mut bench, 3, Source::Pex);
    bench.swarm.handle_candidates(bench.now, Source::Tracker, &[address(3)]);
    let incoming = {
        let (address, peer_id) = (address(4), peer_id(4));
        let peer = ConnectedPeer { address, outgoing: false, fast: true, peer_id };
        bench.swarm.handle_connected(bench.now, PeerKey(104), peer).unwrap();
        PeerKey(104)
    };
    bench.swarm.handle_candidates(bench.now, Source::Dht, &[address(5), address(6)]);
    assert!(bench.swarm.next_candidate(bench.now).is_some());

    bench.swarm.set_private(bench.now, &[]);
    let outputs = bench.drain();
    let gone: Vec<PeerKey> = said!(
        outputs,
        Output::Disconnect { peer, reason: DisconnectReason::Private } => *peer
    )
    .collect();
    assert_eq!(gone, [of_dht]);
    let stay: Vec<PeerKey> = bench.swarm.peers().map(|view| view.key).collect();
    assert_eq!(stay, [of_tracker, of_both, incoming]);
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "the other one is forgotten");
    bench.swarm.handle_candidates(bench.now, Source::Pex, &[address(7)]);
    assert_eq!(bench.swarm.next_candidate(bench.now), None, "no more are learned");
}

#[test]
fn attempt_to_stranger_ends_when_private() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    bench.swarm.handle_candidates(bench.now, Source::Dht, &[address(1), address(2)]);
    let (first, second) = (
        bench.swarm.next_candidate(bench.now).unwrap(),
        bench.swarm.next_candidate(bench.now).unwrap(),
    );
    bench.swarm.set_private(bench.now, &[]);
    let peer = ConnectedPeer { address: first, outgoing: true, fast: true, peer_id: peer_id(1) };
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(1), peer);
    assert_eq!(refused, Err(Refusal::Private));
    bench.swarm.handle_connect_failed(bench.now, second, ConnectFailure::Unreachable);
    bench.pass(seconds(3600));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
}

#[test]
fn banned_peer_is_disconnected_and_refused() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    let liar = bench.join();
    let view = bench.swarm.peer(liar).unwrap();
    bench.swarm.ban(bench.now, view.address, view.peer_id);
    let outputs = bench.drain();
    assert_eq!(
        outputs,
        [
            Output::Banned { address: view.address, source: Source::Incoming },
            Output::Disconnect { peer: liar, reason: DisconnectReason::BadData },
        ]
    );
    let (address, peer_id) = (view.address, view.peer_id);
    let peer = ConnectedPeer { address, outgoing: false, fast: true, peer_id };
    let refused = bench.swarm.handle_connected(bench.now, PeerKey(9), peer);
    assert_eq!(refused, Err(Refusal::Banned));
}

#[test]
fn full_swarm_makes_room_for_one() {
    let setup = setup(2, 1).config(|config| config.max_peers = 2);
    let mut bench = Bench::without_transfer(&setup);
    let oldest = bench.join();
    bench.swarm.make_room(bench.now);
    assert_eq!(bench.drain(), [], "there is room");
    bench.now += seconds(1);
    bench.join();
    bench.swarm.make_room(bench.now);
    let reason = DisconnectReason::Useless;
    assert_eq!(bench.drain(), [Output::Disconnect { peer: oldest, reason }]);
}

#[test]
fn complete_torrent_has_no_use_for_early_seeder() {
    let setup = Setup { have: Bitfield::full(2), ..setup(2, 1) };
    let mut bench = Bench::without_transfer(&setup);
    let peer = bench.join_seed();
    bench.begin_transfer(&setup).unwrap();
    let reason = DisconnectReason::NothingToExchange;
    assert!(bench.drain().contains(&Output::Disconnect { peer, reason }));
}

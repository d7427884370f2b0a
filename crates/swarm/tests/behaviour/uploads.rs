//! Which requests of peers are served.

use swarm::{Output, PeerKey};

use crate::bench::{Bench, Setup, bits, setup};

fn seeder() -> Bench {
    let setup = setup(8, 64).config(|config| config.upload_slots = 1);
    Bench::with(&Setup { have: bits(setup.geometry, 0..7), ..setup })
}

/// A peer that is unchoked.
fn served(bench: &mut Bench) -> PeerKey {
    let key = bench.join();
    bench.swarm.handle_interested(bench.now, key);
    assert!(bench.drain().contains(&Output::Unchoke { peer: key }));
    key
}

#[test]
fn unchoked_peer_is_served() {
    let mut bench = seeder();
    let (peer, choked) = (served(&mut bench), bench.join());
    let (have, missing) = (bench.piece(0), bench.piece(7));
    assert!(bench.swarm.serves(peer, have));
    assert!(!bench.swarm.serves(peer, missing));
    assert!(!bench.swarm.serves(choked, have));
    bench.swarm.handle_lost(bench.now, have);
    assert!(!bench.swarm.serves(peer, have));
}

#[test]
fn choked_peer_is_not_served() {
    let mut bench = seeder();
    let peer = served(&mut bench);
    bench.swarm.set_upload_slots(bench.now, 0);
    assert_eq!(bench.drain(), [Output::Choke { peer }]);
    assert!(!bench.swarm.serves(peer, bench.piece(0)));
}

#[test]
fn sent_payload_is_counted() {
    let mut bench = seeder();
    let peer = served(&mut bench);
    bench.swarm.handle_sent(bench.now, peer, 1000);
    assert_eq!(bench.swarm.uploaded(), 1000);
}

//! The fuzz targets: on their corpus, and on random input.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[track_caller]
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        target(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no corpus for {name}");
}

#[test]
fn corpus() {
    replay("connection", peer_wire::fuzz::connection);
    replay("messages", peer_wire::fuzz::messages);
    replay("extension_handshake", peer_wire::fuzz::extension_handshake);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        peer_wire::fuzz::connection(&bytes);
        peer_wire::fuzz::messages(&bytes);
        peer_wire::fuzz::extension_handshake(&bytes);
    }
}

//! The fuzz targets, on their corpora and on random input.

use proptest::prelude::*;
use testkit::replay;

use crate::fuzz;

#[test]
fn corpora() {
    replay("peer_handshake", fuzz::handshake);
    replay("peer_messages", fuzz::messages);
    replay("peer_extension", fuzz::extension_handshake);
    replay("peer_metadata", fuzz::metadata);
    replay("peer_pex", fuzz::pex);
    replay("peer_connection", fuzz::connection);
    replay("peer_splits", fuzz::splits);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz::handshake(&bytes);
        fuzz::messages(&bytes);
        fuzz::extension_handshake(&bytes);
        fuzz::metadata(&bytes);
        fuzz::pex(&bytes);
        fuzz::connection(&bytes);
        fuzz::splits(&bytes);
    }
}

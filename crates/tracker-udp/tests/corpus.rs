//! The fuzz targets, on their corpora and on random input.

mod fuzz;

use proptest::prelude::*;
use testkit::replay;

#[test]
fn corpora() {
    replay("udp_packet", fuzz::packet);
    replay("udp_exchange", fuzz::exchange);
    replay("udp_url", fuzz::url);
}

/// What a connect request begins with (BEP 15, "Connect").
const PROTOCOL_ID: u64 = 0x417_2710_1980;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        action in 0u32..5,
        head in prop::option::of(Just(PROTOCOL_ID)),
    ) {
        fuzz::packet(&bytes);
        // The same bytes with a known action, as a response and as a request.
        let response = [&action.to_be_bytes()[..], &bytes].concat();
        fuzz::packet(&response);
        let connection_id = head.unwrap_or(1).to_be_bytes();
        fuzz::packet(&[&connection_id[..], &action.to_be_bytes(), &bytes].concat());
        // Answers with the right transaction id.
        let answers: Vec<u8> = response.chunks(99).flat_map(|part| [&[0], part].concat()).collect();
        fuzz::exchange(&answers);
    }

    #[test]
    fn random_text(text in "(udp://)?[a-z0-9.:/?#@%\\[\\]\u{e9} -]{0,40}") {
        fuzz::url(text.as_bytes());
    }
}

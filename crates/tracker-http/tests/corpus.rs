//! The fuzz targets, on their corpora and on random input.

mod fuzz;

use proptest::prelude::*;
use testkit::replay;

#[test]
fn corpora() {
    replay("http_announce", fuzz::announce);
    replay("http_scrape", fuzz::scrape);
    replay("http_url", fuzz::url);
}

/// Reads `bytes` as either reply.
fn check_reply(bytes: &[u8]) {
    fuzz::announce(bytes);
    fuzz::scrape(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes: Vec<u8>) {
        check_reply(&bytes);
        for key in ["5:peers", "6:peers6", "14:failure reason", "5:files", "15:warning message"] {
            let length = bytes.len();
            let start = format!("d8:intervali1e5:peers0:{key}{length}:");
            check_reply(&[start.as_bytes(), &bytes, b"e"].concat());
            check_reply(&[format!("d{key}").as_bytes(), &bytes, b"e"].concat());
        }
    }

    #[test]
    fn random_text(text in "(https?://)?[a-z0-9.:/?#@%&=\\[\\]\u{e9}\u{202e} -]{0,60}(announce)?.{0,9}") {
        fuzz::url(text.as_bytes());
    }
}

//! The fuzz targets, on their corpora and on random input.

mod fuzz;

use proptest::prelude::*;
use testkit::replay;

#[test]
fn corpora() {
    replay("krpc", fuzz::krpc);
    replay("dht", fuzz::dht);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        key in "[a-z]{1,6}",
        kind in prop::sample::select(vec!["q", "r", "e"]),
    ) {
        fuzz::krpc(&bytes);
        let string = [format!("{}:", bytes.len()).as_bytes(), &bytes].concat();
        let id = "1:ad2:id20:abcdefghij01234567896:target20:abcdefghij0123456789";
        for body in [id.to_owned(), id.replace("1:a", "1:r")] {
            let head = format!("d{body}{}:{key}", key.len());
            let tail = format!("e1:q9:find_node1:t2:aa1:y1:{kind}e");
            fuzz::krpc(&[head.as_bytes(), &string, tail.as_bytes()].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn random_calls(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz::dht(&bytes);
    }
}

//! What the fuzzer found worth keeping breaks no promise, nor do random choices.

#![allow(missing_docs)]

mod common;

use proptest::prelude::*;
use testkit::replay;

#[test]
fn store() {
    replay("store", common::fuzz::fuzz);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn store_keeps_its_promises(choices in prop::collection::vec(any::<u8>(), 0..200)) {
        common::fuzz::fuzz(&choices);
    }
}

//! What the [model](super::model) checks holds for random choices, and for those that the fuzzer
//! kept.

use proptest::prelude::*;

use super::model::fuzz;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold(choices in prop::collection::vec(any::<u8>(), 0..1000)) {
        fuzz(&choices);
    }
}

#[test]
fn the_corpus_breaks_no_promise() {
    testkit::replay("swarm", fuzz);
}

//! What the fuzzer found worth keeping breaks no promise.

use testkit::replay;

#[test]
fn bencode() {
    replay("bencode", bencode::fuzz::value);
}

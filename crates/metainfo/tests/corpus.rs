//! What the fuzzer found worth keeping breaks no promise.

use testkit::replay;

#[test]
fn torrent() {
    replay("torrent", metainfo::fuzz::torrent);
}

#[test]
fn paths() {
    replay("paths", metainfo::fuzz::paths);
}

#[test]
fn magnet() {
    replay("magnet", metainfo::fuzz::magnet);
}

//! The fuzz targets of the workspace. `FUZZ_TARGET` names the one to run; the arguments are
//! libFuzzer's. Each target's function documents what it asserts.

#![no_main]

#[path = "../../../crates/bencode/tests/fuzz/mod.rs"]
mod bencode_fuzz;
#[path = "../../../crates/dht/tests/fuzz/mod.rs"]
mod dht_fuzz;
#[path = "../../../crates/tracker-http/tests/fuzz/mod.rs"]
mod http;
#[path = "../../../crates/lsd/tests/fuzz/mod.rs"]
mod local;
#[path = "../../../crates/metainfo/tests/fuzz/mod.rs"]
mod metainfo_fuzz;
#[path = "../../../crates/peer-wire/tests/fuzz/mod.rs"]
mod peer;
mod session;
mod store;
mod swarm;
#[path = "../../../crates/bt-types/tests/fuzz.rs"]
mod types;
#[path = "../../../crates/tracker-udp/tests/fuzz/mod.rs"]
mod udp;

use std::sync::LazyLock;

/// Takes any bytes and panics if a promise is broken.
type Target = fn(&[u8]);

/// Every target. Each has its corpus below `testdata/fuzz`.
const TARGETS: &[(&str, Target)] = &[
    ("bencode", bencode_fuzz::value),
    ("dht", dht_fuzz::dht),
    ("http_announce", http::announce),
    ("http_scrape", http::scrape),
    ("http_url", http::url),
    ("journal", piece_store::fuzz::journal),
    ("krpc", dht_fuzz::krpc),
    ("lsd", local::lsd),
    ("magnet", metainfo_fuzz::magnet),
    ("paths", metainfo_fuzz::paths),
    ("peer_connection", peer::connection),
    ("peer_extension", peer::extension_handshake),
    ("peer_handshake", peer::handshake),
    ("peer_messages", peer::messages),
    ("peer_metadata", peer::metadata),
    ("peer_pex", peer::pex),
    ("peer_splits", peer::splits),
    ("session", session::fuzz),
    ("store", store::fuzz),
    ("swarm", swarm::fuzz),
    ("torrent", metainfo_fuzz::torrent),
    ("types", types::fuzz),
    ("udp_exchange", udp::exchange),
    ("udp_packet", udp::packet),
    ("udp_url", udp::url),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET names no target: {wanted:?}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));

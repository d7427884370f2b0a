//! The contestants, and how each parses a torrent.

use std::hint::black_box;
use std::time::{Duration, Instant};

use librqbit_bencode::BencodeValueBorrowed;
use serde::Deserialize;

use crate::walk::walk;

/// One way to parse a torrent.
pub struct Contestant {
    /// Its name in the tables.
    pub name: &'static str,
    /// The version of its crate.
    pub version: &'static str,
    /// Parses the bytes once and returns how long that took, without dropping the result.
    pub read: fn(&[u8]) -> Duration,
}

/// Returns all contestants, ours first.
pub fn contestants() -> Vec<Contestant> {
    let theirs = |name, package, read| Contestant { name, version: version_of(package), read };
    let ours = |name, read| Contestant { name, version: env!("CARGO_PKG_VERSION"), read };
    vec![
        ours("bencode", |bytes| timed(|| bencode::parse(bytes).expect("a torrent"))),
        ours("metainfo", |bytes| {
            let owned = bytes.to_vec();
            timed(|| metainfo::Metainfo::parse(owned).expect("a torrent"))
        }),
        ours("bare walk", |bytes| timed(|| walk(bytes).expect("a torrent"))),
        theirs("bt_bencode borrowed", "bt_bencode", |bytes| {
            timed(|| bt_bencode::from_slice::<Torrent<'_>>(bytes).expect("a torrent"))
        }),
        theirs("librqbit-bencode tree", "librqbit-bencode", |bytes| {
            timed(|| {
                librqbit_bencode::from_bytes::<BencodeValueBorrowed<'_>>(bytes).expect("a torrent")
            })
        }),
        theirs("nom_bencode tree", "nom_bencode", |bytes| {
            timed(|| nom_bencode::parse(bytes).expect("a torrent"))
        }),
        theirs("bt_bencode tree", "bt_bencode", |bytes| {
            timed(|| bt_bencode::from_slice::<bt_bencode::Value>(bytes).expect("a torrent"))
        }),
        theirs("serde_bencode tree", "serde_bencode", |bytes| {
            timed(|| {
                serde_bencode::from_bytes::<serde_bencode::value::Value>(bytes).expect("a torrent")
            })
        }),
    ]
}

fn timed<T>(read: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = black_box(read());
    let time = start.elapsed();
    drop(result);
    time
}

/// Returns the version in the lock file, so that the table is right.
fn version_of(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let (_, after) =
        lock.split_once(&format!("name = \"{package}\"\nversion = \"")).expect("locked");
    after.split('"').next().unwrap_or_default()
}

/// A torrent as users of serde declare it: no tree, only the fields that they need.
#[derive(Deserialize)]
#[allow(dead_code, reason = "the fields are only parsed")]
struct Torrent<'a> {
    #[serde(borrow, with = "serde_bytes")]
    announce: &'a [u8],
    #[serde(rename = "creation date")]
    creation_date: i64,
    info: Info<'a>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "the fields are only parsed")]
struct Info<'a> {
    #[serde(borrow)]
    files: Vec<File<'a>>,
    #[serde(with = "serde_bytes")]
    name: &'a [u8],
    #[serde(rename = "piece length")]
    piece_length: u64,
    #[serde(with = "serde_bytes")]
    pieces: &'a [u8],
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "the fields are only parsed")]
struct File<'a> {
    length: u64,
    #[serde(borrow)]
    path: Vec<&'a serde_bytes::Bytes>,
}

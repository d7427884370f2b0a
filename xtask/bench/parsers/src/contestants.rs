//! Who takes part, and how each is asked to read a torrent.

use std::hint::black_box;
use std::time::{Duration, Instant};

use librqbit_bencode::BencodeValueBorrowed;
use serde::Deserialize;

use crate::walk::walk;

/// One way to read a torrent.
pub struct Contestant {
    /// What it is called in the tables.
    pub name: &'static str,
    /// The version of its crate.
    pub version: &'static str,
    /// Reads the bytes once and says how long that took. Letting go of the result is not timed.
    pub read: fn(&[u8]) -> Duration,
}

/// Everybody, ours first.
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

/// What is locked, so that the table can't claim another version.
fn version_of(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let (_, after) =
        lock.split_once(&format!("name = \"{package}\"\nversion = \"")).expect("locked");
    after.split('"').next().unwrap_or_default()
}

/// A torrent as people who use serde write it down: no tree, only what they want of it.
#[derive(Deserialize)]
#[allow(dead_code, reason = "what is read is not looked at")]
struct Torrent<'a> {
    #[serde(borrow, with = "serde_bytes")]
    announce: &'a [u8],
    #[serde(rename = "creation date")]
    creation_date: i64,
    info: Info<'a>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "what is read is not looked at")]
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
#[allow(dead_code, reason = "what is read is not looked at")]
struct File<'a> {
    length: u64,
    #[serde(borrow)]
    path: Vec<&'a serde_bytes::Bytes>,
}

//! Scripted peers with each other: what an honest one notices of the others.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::{Behaviour, MetadataBehaviour, Payload, Script, ScriptedPeer, sha1};

const LIMIT: Duration = Duration::from_secs(20);

fn payload() -> Payload {
    let files = [("a", 70_000), ("b/empty", 0), ("b/c", 40_001)];
    Payload::folder("tree", &files).seed(7).create().unwrap()
}

/// Starts a seeder with `behaviour`, and a leecher that downloads from it.
fn leech_from(payload: &Payload, behaviour: Behaviour) -> (ScriptedPeer, ScriptedPeer) {
    let seeder = Script::seeder(payload).behaviour(behaviour).listen();
    let leecher = Script::leecher(payload).connect(seeder.address()).unwrap();
    (seeder, leecher)
}

#[test]
fn honest_peers_exchange_everything() {
    for fast in [false, true] {
        let payload = payload();
        let with = |script: Script| if fast { script.fast() } else { script };
        let seeder = with(Script::seeder(&payload)).listen();
        let leecher = with(Script::leecher(&payload)).connect(seeder.address()).unwrap();
        assert!(leecher.wait_for(LIMIT, |seen| seen.complete), "{:?}", leecher.seen());
        assert_eq!(leecher.data(), &payload.data()[..]);
        assert_eq!(leecher.seen().bytes_received, payload.geometry().total());
    }
}

#[test]
fn listening_leecher_downloads_from_incoming_peers() {
    let payload = payload();
    let leecher = Script::leecher(&payload).listen();
    let halves = [[0, 1], [2, 3]]
        .map(|pieces| Script::seeder(&payload).pieces(pieces).connect(leecher.address()).unwrap());
    assert!(leecher.wait_for(LIMIT, |seen| seen.complete));
    assert!(halves.iter().all(|half| half.seen().blocks_sent > 0));
}

#[test]
fn bitfield_may_replace_have() {
    let payload = payload();
    let seeder = Script::seeder(&payload).listen();
    let script = Script::leecher(&payload).announces_by_bitfield();
    let leecher = script.connect(seeder.address()).unwrap();
    assert!(leecher.wait_for(LIMIT, |seen| seen.complete));
    assert_eq!(seeder.seen().haves, []);
}

#[test]
fn corrupt_blocks_are_noticed() {
    let payload = payload();
    let (_seeder, leecher) = leech_from(&payload, Behaviour::Corrupt { every: 3 });
    assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
    assert_eq!(leecher.seen().bad_pieces, [1]);
}

#[test]
fn faults_end_the_connection() {
    use Behaviour::{DisconnectAfter, Garbage, WrongInfoHash};
    let payload = payload();
    for behaviour in [Garbage, WrongInfoHash, DisconnectAfter { blocks: 2 }] {
        let (_seeder, leecher) = leech_from(&payload, behaviour);
        assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1), "{behaviour:?}");
        assert!(!leecher.seen().complete);
    }
}

#[test]
fn held_peer_sends_after_release() {
    let payload = payload();
    let seeder = Script::seeder(&payload).held().listen();
    let leecher = Script::leecher(&payload).connect(seeder.address()).unwrap();
    assert!(seeder.wait_for(LIMIT, |seen| !seen.requests.is_empty()));
    assert_eq!((seeder.seen().blocks_sent, leecher.seen().bytes_received), (0, 0));
    seeder.release();
    assert!(leecher.wait_for(LIMIT, |seen| seen.complete));
}

#[test]
fn silent_choking_stalling_peers_stay_connected() {
    use Behaviour::{Chokes, Silent, Stalls};
    let payload = payload();
    let (silent, _leecher) = leech_from(&payload, Silent);
    assert!(silent.wait_for(LIMIT, |seen| seen.connections == 1));
    assert_eq!(silent.seen().peer_ids, []);
    let (chokes, leecher) = leech_from(&payload, Chokes);
    assert!(chokes.wait_for(LIMIT, |seen| seen.peer_ids.len() == 1));
    assert_eq!(leecher.seen().unchokes, 0);
    let (stalls, leecher) = leech_from(&payload, Stalls);
    assert!(stalls.wait_for(LIMIT, |seen| !seen.requests.is_empty()));
    assert_eq!(leecher.seen().bytes_received, 0);
}

#[test]
fn extension_handshake_is_sent() {
    let payload = payload();
    let seeder = Script::seeder(&payload).client("testkit 1").listen();
    let mut stream = TcpStream::connect(seeder.address()).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\0".to_vec();
    hello.extend(payload.info_hash().as_bytes());
    hello.extend([b'x'; 20]);
    stream.write_all(&hello).unwrap();
    let expected = b"\x14\0d1:mde1:v9:testkit 1e";
    let mut reply = vec![0; 68 + 4 + expected.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply[72..], expected);
}

/// A payload with four pieces of metadata, the last one short.
fn large_metadata() -> Payload {
    let payload = Payload::file("large", 2700 * 256).piece_length(256).create().unwrap();
    assert_eq!(payload.info().len().div_ceil(16384), 4);
    payload
}

/// Starts a seeder that serves the metadata with `behaviour`, and a peer that fetches it.
fn fetch(payload: &Payload, behaviour: MetadataBehaviour) -> (ScriptedPeer, ScriptedPeer) {
    let seeder = Script::seeder(payload).metadata(payload, behaviour).listen();
    let script = Script::leecher(payload).fetches_metadata();
    let leecher = script.connect(seeder.address()).unwrap();
    (seeder, leecher)
}

#[test]
fn metadata_is_served() {
    let payload = large_metadata();
    assert_eq!(sha1(payload.info()).0, payload.info_hash().0);
    let (seeder, leecher) = fetch(&payload, MetadataBehaviour::Honest);
    let length = payload.info().len() as u64;
    assert!(leecher.wait_for(LIMIT, |seen| seen.metadata_received == length));
    assert_eq!(leecher.metadata(), payload.info());
    assert!(seeder.wait_for(LIMIT, |seen| seen.metadata_sent == 4));
    assert_eq!(seeder.seen().metadata_requests, [0, 1, 2, 3]);
    assert!(leecher.wait_for(LIMIT, |seen| seen.complete), "the transfer goes on");
}

#[test]
fn bad_metadata_is_served() {
    use MetadataBehaviour::{Claims, Corrupt, Garbled, Oversized, Swapped, Unasked, Verbose};
    let payload = large_metadata();
    let info = payload.info();
    let flipped = |at: usize| {
        let mut bytes = info.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let oversized = info.chunks(16384).enumerate().flat_map(|(piece, bytes)| {
        let extra = (piece < 3).then(|| info[(piece + 1) * 16384]);
        bytes.iter().copied().chain(extra).collect::<Vec<_>>()
    });
    let garbled: Vec<Vec<u8>> = info
        .chunks(16384)
        .map(|piece| [&piece[..7], &[piece[7] ^ 1], &piece[8..]].concat())
        .collect();
    for (behaviour, expected) in [
        (Corrupt { piece: 2 }, flipped(2 * 16384)),
        (Garbled { at: 7 }, garbled.concat()),
        (Claims { length: 100 }, info[..100].to_vec()),
        (Claims { length: info.len() as i64 + 2 }, [info, &[0, 0]].concat()),
        (Oversized, oversized.collect()),
        (Unasked, info.to_vec()),
        (Swapped, [&info[16384..32768], &info[..16384], &info[32768..]].concat()),
        (Verbose, info.to_vec()),
    ] {
        let (_seeder, leecher) = fetch(&payload, behaviour);
        let length = expected.len() as u64;
        assert!(leecher.wait_for(LIMIT, |seen| seen.metadata_received == length), "{behaviour:?}");
        assert!(leecher.metadata() == expected, "{behaviour:?}");
    }
}

#[test]
fn no_metadata_is_served() {
    use MetadataBehaviour::{Claims, Dribbles, Rejects, Silent};
    let payload = large_metadata();
    let (_seeder, leecher) = fetch(&payload, Rejects);
    assert!(leecher.wait_for(LIMIT, |seen| seen.metadata_rejects == 4));
    let (seeder, leecher) = fetch(&payload, Silent);
    assert!(seeder.wait_for(LIMIT, |seen| seen.metadata_requests.len() == 4));
    assert_eq!(leecher.seen().metadata_rejects, 0);
    for length in [0, -1, i64::MIN] {
        let (seeder, leecher) = fetch(&payload, Claims { length });
        assert!(leecher.wait_for(LIMIT, |seen| seen.complete), "{length}");
        assert_eq!(seeder.seen().metadata_requests, []);
    }
    // Dropping a peer ends its longest pause.
    let (seeder, leecher) = fetch(&payload, Dribbles { pace: Duration::from_secs(3600) });
    assert!(seeder.wait_for(LIMIT, |seen| !seen.metadata_requests.is_empty()));
    assert_eq!(leecher.metadata(), []);
}

#[test]
fn dribbled_metadata_comes_in_the_end() {
    let payload = payload();
    let pace = Duration::from_micros(10);
    let (_seeder, leecher) = fetch(&payload, MetadataBehaviour::Dribbles { pace });
    let length = payload.info().len() as u64;
    assert!(leecher.wait_for(LIMIT, |seen| seen.metadata_received == length));
    assert_eq!(leecher.metadata(), payload.info());
}

#[test]
fn payloads_are_reproducible() {
    let (one, two) = (payload(), payload());
    assert_eq!(one.torrent(), two.torrent());
    assert_eq!(one.compare(two.folder_path()), Ok(()));
    let other = two.folder_path().join("tree/b/c");
    std::fs::write(&other, "short").unwrap();
    let difference = one.compare(two.folder_path()).unwrap_err();
    assert_eq!(difference.to_string(), "tree/b/c: expected 40001 bytes, got 5");
    std::fs::remove_file(other).unwrap();
    assert!(one.compare(two.folder_path()).is_err());
}

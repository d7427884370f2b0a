//! Hostile peers, as an honest peer sees them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::hostile::{self, Crowd, End, Hostile};
use testkit::raw;
use testkit::{Payload, Script, ScriptedPeer};

/// Far longer than any of these tests takes.
const LIMIT: Duration = Duration::from_secs(20);

fn payload() -> Payload {
    Payload::file("hostile.bin", 200_000).piece_length(32 * 1024).create().unwrap()
}

/// Starts the hostile peer, and a leecher that downloads from it.
fn leech(payload: &Payload, hostile: Hostile) -> (Crowd, ScriptedPeer) {
    let crowd = Crowd::start(payload, [hostile]).unwrap();
    let leecher = Script::leecher(payload).connect(crowd.address(0)).unwrap();
    (crowd, leecher)
}

#[test]
fn default_script_is_honest() {
    let payload = payload();
    let (crowd, leecher) = leech(&payload, Hostile::seeder().answers(hostile::right));
    assert!(leecher.wait_for(LIMIT, |seen| seen.complete));
    assert_eq!(leecher.data(), &payload.data()[..]);
    assert!(crowd.wait_for(LIMIT, |observed| observed[0].done && observed[0].requests == 13));
}

#[test]
fn faults_are_noticed() {
    let payload = payload();
    let (_crowd, leecher) = leech(&payload, Hostile::seeder().answers(hostile::corrupt));
    assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
    assert_eq!(leecher.seen().bad_pieces, [0]);
    let another = Hostile::seeder().info_hash(testkit::InfoHashV1([9; 20]));
    let (_crowd, leecher) = leech(&payload, another);
    assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
    assert_eq!(leecher.seen().peer_ids, []);
}

#[test]
fn connection_ends_after_answers() {
    let payload = payload();
    for end in [End::Closes, End::Resets] {
        let hostile = Hostile::seeder().answers(hostile::right).ends_after(3, end);
        let (crowd, leecher) = leech(&payload, hostile);
        assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
        assert!(crowd.wait_for(LIMIT, |observed| observed[0].ended == 1));
        assert!(!leecher.seen().complete);
    }
}

#[test]
fn flood_continues_while_read() {
    let payload = payload();
    let flood = Hostile::new().floods(raw::message(99, &[7; 100]));
    let (crowd, leecher) = leech(&payload, flood);
    assert!(crowd.wait_for(LIMIT, |observed| observed[0].done && observed[0].sent > 2 << 20));
    leecher.disconnect();
    assert!(crowd.wait_for(LIMIT, |observed| observed[0].ended == 1));
}

#[test]
fn outgoing_peer_reconnects() {
    let payload = payload();
    let seeder = Script::seeder(&payload).listen();
    let visitor = Hostile::new().ends_after(0, End::Closes);
    let crowd =
        Crowd::start(&payload, [visitor.connects_to(seeder.address()).reconnects()]).unwrap();
    assert!(crowd.wait_for(LIMIT, |observed| observed[0].handshakes == 3
        && observed[0].addresses.len() >= 3));
    assert!(seeder.wait_for(LIMIT, |seen| seen.peer_ids.len() >= 3));
}

#[test]
fn mirrored_id_and_garbage_are_sent() {
    let payload = payload();
    let scripts =
        [Hostile::new().mirrors_peer_id(), Hostile::new().sends_instead_of_handshake("garbage")];
    let crowd = Crowd::start(&payload, scripts).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend(payload.info_hash().as_bytes());
    hello.extend([b'm'; 20]);
    let mut mirror = TcpStream::connect(crowd.address(0)).unwrap();
    mirror.write_all(&hello).unwrap();
    let mut reply = vec![0; 68];
    mirror.read_exact(&mut reply).unwrap();
    assert_eq!(reply, hello);
    let mut other = TcpStream::connect(crowd.address(1)).unwrap();
    let mut reply = [0; 7];
    other.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"garbage");
    drop(crowd);
    // The connection ends, in either way.
    let end = other.read(&mut reply);
    assert!(
        end.as_ref().is_ok_and(|length| *length == 0)
            || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    );
}

//! Hostile peers as an honest one sees them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::hostile::{self, Crowd, End, Hostile, say};
use testkit::{Payload, Script, ScriptedPeer};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn payload() -> Payload {
    Payload::file("hostile.bin", 200_000).piece_length(32 * 1024).create().unwrap()
}

/// A leecher that fetches everything from the hostile peer.
fn leech(payload: &Payload, hostile: Hostile) -> (Crowd, ScriptedPeer) {
    let crowd = Crowd::start([hostile]).unwrap();
    let leecher = Script::leecher(payload).connect(crowd.address(0)).unwrap();
    (crowd, leecher)
}

#[test]
fn what_is_not_said_to_be_wrong_is_right() {
    let payload = payload();
    let (crowd, leecher) = leech(&payload, Hostile::seeder(&payload).answers(hostile::right));
    assert!(leecher.wait_for(LIMIT, |seen| seen.complete));
    assert_eq!(leecher.data(), &payload.data()[..]);
    assert!(crowd.wait_for(LIMIT, |met| met[0].done && met[0].requests == 13));
}

#[test]
fn what_is_wrong_is_noticed() {
    let payload = payload();
    let (_crowd, leecher) = leech(&payload, Hostile::seeder(&payload).answers(hostile::corrupt));
    assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
    assert_eq!(leecher.seen().bad_pieces, [0]);
    let another = Hostile::seeder(&payload).info_hash(testkit::InfoHashV1([9; 20]));
    let (_crowd, leecher) = leech(&payload, another);
    assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
    assert_eq!(leecher.seen().peer_ids, []);
}

#[test]
fn it_ends_when_it_says_so() {
    let payload = payload();
    for end in [End::Closes, End::Resets] {
        let hostile = Hostile::seeder(&payload).answers(hostile::right).ends_after(3, end);
        let (crowd, leecher) = leech(&payload, hostile);
        assert!(leecher.wait_for(LIMIT, |seen| seen.ended == 1));
        assert!(crowd.wait_for(LIMIT, |met| met[0].ended == 1));
        assert!(!leecher.seen().complete);
    }
}

#[test]
fn a_flood_goes_on_while_somebody_reads() {
    let payload = payload();
    let flood = Hostile::new(&payload).floods(say::message(99, &[7; 100]));
    let (crowd, leecher) = leech(&payload, flood);
    assert!(crowd.wait_for(LIMIT, |met| met[0].done && met[0].sent > 2 << 20));
    leecher.disconnect();
    assert!(crowd.wait_for(LIMIT, |met| met[0].ended == 1));
}

#[test]
fn it_visits_and_comes_back() {
    let payload = payload();
    let seeder = Script::seeder(&payload).listen();
    let visitor = Hostile::new(&payload).ends_after(0, End::Closes);
    let crowd = Crowd::start([visitor.visits(seeder.address()).comes_back()]).unwrap();
    assert!(crowd.wait_for(LIMIT, |met| met[0].handshakes == 3 && met[0].addresses.len() >= 3));
    assert!(seeder.wait_for(LIMIT, |seen| seen.peer_ids.len() >= 3));
}

#[test]
fn one_may_mirror_and_another_say_nothing_but_garbage() {
    let payload = payload();
    let scripts = [Hostile::new(&payload).mirrors(), Hostile::new(&payload).greets("garbage")];
    let crowd = Crowd::start(scripts).unwrap();
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
    // The end in either form, and no hang.
    let end = other.read(&mut reply);
    assert!(
        end.as_ref().is_ok_and(|length| *length == 0)
            || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    );
}

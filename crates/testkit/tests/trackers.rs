//! The trackers, with requests that the tests encode.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use testkit::{AnnounceEvent, Answer, BodyCoding, HttpTracker, Tracker, UdpTracker};

const LIMIT: Duration = Duration::from_secs(20);

fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    reply.iter().map(|byte| char::from(*byte)).collect()
}

fn announce(id: char, port: u16, left: u64, more: &str) -> String {
    let (hash, id) = ("%01abcdefghijklmnopqrs", id.to_string().repeat(20));
    let numbers = format!("port={port}&uploaded=0&downloaded=0&left={left}");
    format!("/announce?info_hash={hash}&peer_id={id}&{numbers}{more}")
}

#[test]
fn http_remembers_peers() {
    let tracker = HttpTracker::start();
    let first = get(tracker.address(), &announce('a', 1000, 0, "&event=started"));
    assert!(first.ends_with("d8:completei1e10:incompletei0e8:intervali1800e5:peers0:e"), "{first}");
    let second = get(tracker.address(), &announce('b', 1001, 5, "&compact=0"));
    let peer = format!("d2:ip9:127.0.0.17:peer id20:{}4:porti1000eee", "a".repeat(20));
    assert!(second.ends_with(&format!("5:peersl{peer}e")), "{second}");
    let third = get(tracker.address(), &announce('b', 1001, 5, "&event=stopped"));
    assert!(third.contains("5:peers6:\u{7f}\0\0\u{1}\u{3}\u{e8}"), "{third}");
    let seen = tracker.announces();
    let events: Vec<_> = seen.iter().map(|announce| announce.event).collect();
    assert_eq!(events, [AnnounceEvent::Started, AnnounceEvent::None, AnnounceEvent::Stopped]);
    assert_eq!(seen[1].info_hash.0[..3], [1, b'a', b'b']);
    let scrape = get(tracker.address(), "/scrape?info_hash=%01abcdefghijklmnopqrs");
    assert!(scrape.ends_with("d8:completei1e10:downloadedi0e10:incompletei0eeee"), "{scrape}");
}

#[test]
fn http_follows_its_script() {
    let tracker = HttpTracker::start();
    let ask = || get(tracker.address(), &announce('a', 1000, 0, ""));
    tracker.answer(Answer::Failure { reason: "go away".into(), retry_in: Some(5) });
    assert!(ask().ends_with("\r\n\r\nd14:failure reason7:go away8:retry ini5ee"));
    tracker.answer(Answer::Html);
    assert!(ask().contains("<html>"));
    tracker.answer(Answer::Status(503));
    assert!(ask().starts_with("HTTP/1.1 503 "));
    tracker.answer(Answer::Redirect("http://127.0.0.1:1/x".into()));
    assert!(ask().contains("\r\nLocation: http://127.0.0.1:1/x?info_hash="));
    tracker.answer(Answer::Peers(vec!["[::1]:258".parse().unwrap()]));
    assert!(ask().ends_with("5:peers0:6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\u{1}\u{1}\u{2}e"));
    tracker.answer(Answer::Warning("soon".into()));
    assert!(ask().ends_with("15:warning message4:soone"));
    tracker.answer(Answer::Slow(Duration::from_millis(1)));
    tracker.body_coding(BodyCoding::Chunked);
    assert!(ask().contains("\r\n\r\n7\r\nd8:comp\r\n7\r\n"));
    assert_eq!(tracker.announces().len(), 7);
}

#[test]
fn silent_http_tracker_can_be_dropped() {
    let tracker = HttpTracker::start();
    tracker.answer(Answer::Silence);
    let address = tracker.address();
    let asking = std::thread::spawn(move || get(address, &announce('a', 1, 0, "")));
    assert!(tracker.wait_for(LIMIT, |seen| seen.len() == 1));
    drop(tracker);
    assert_eq!(asking.join().unwrap(), "");
}

struct UdpClient(UdpSocket);

impl UdpClient {
    fn of(tracker: &UdpTracker) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect(tracker.address()).unwrap();
        Self(socket)
    }

    fn ask(&self, parts: &[&[u8]]) -> Vec<u8> {
        self.0.send(&parts.concat()).unwrap();
        let mut buffer = [0; 2048];
        let length = self.0.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn connection(&self) -> Vec<u8> {
        let reply = self.ask(&[b"\0\0\x04\x17\x27\x10\x19\x80", &[0; 4], b"abcd"]);
        assert_eq!(reply[..8], *b"\0\0\0\0abcd");
        reply[8..].to_vec()
    }

    fn announce(&self, connection: &[u8]) -> Vec<u8> {
        let (numbers, port) = ([0; 24 + 4 + 4 + 4], [0xff, 0xff, 0xff, 0xff, 0x03, 0xe8]);
        let head = [connection, b"\0\0\0\x01efgh", &[b'h'; 20], &[b'i'; 20]].concat();
        self.ask(&[&head, &numbers, &port, b"\x02\x02/a\x01\x02\x01b"])
    }
}

#[test]
fn udp_follows_bep_15() {
    let tracker = UdpTracker::start();
    let client = UdpClient::of(&tracker);
    assert!(client.announce(b"unknown!").starts_with(b"\0\0\0\x03efghunknown"));
    let connection = client.connection();
    let reply = client.announce(&connection);
    assert_eq!(reply, b"\0\0\0\x01efgh\0\0\x07\x08\0\0\0\0\0\0\0\x01");
    let seen = tracker.announces();
    assert_eq!((seen.len(), seen[0].port, seen[0].url_data.as_str()), (1, 1000, "/ab"));
    let scrape = client.ask(&[&connection, b"\0\0\0\x02ijkl", &[b'h'; 20], &[b'x'; 20]]);
    assert_eq!(scrape[..12], *b"\0\0\0\x02ijkl\0\0\0\x01");
    assert_eq!((scrape.len(), &scrape[20..]), (32, &[0; 12][..]));
}

#[test]
fn udp_follows_its_script() {
    let tracker = UdpTracker::start();
    let client = UdpClient::of(&tracker);
    let connection = client.connection();
    tracker.answer(Answer::Failure { reason: "no".into(), retry_in: None });
    assert_eq!(client.announce(&connection), b"\0\0\0\x03efghno");
    tracker.answer(Answer::WrongTransaction);
    assert_eq!(client.announce(&connection)[4..8], b"efgh".map(|byte| !byte));
    tracker.answer(Answer::Truncated);
    assert_eq!(client.announce(&connection).len(), 10);
    tracker.answer(Answer::Peers(vec!["1.2.3.4:5".parse().unwrap(), "[::1]:6".parse().unwrap()]));
    assert_eq!(client.announce(&connection)[20..], [1, 2, 3, 4, 0, 5]);
}

#[test]
fn two_trackers_can_share_state() {
    let tracker = Tracker::new();
    let http = HttpTracker::bind("127.0.0.1:0".parse().unwrap(), tracker.clone()).unwrap();
    let udp = UdpTracker::bind(http.address(), tracker.clone()).unwrap();
    get(http.address(), &announce('a', 1000, 0, ""));
    drop(http);
    let client = UdpClient::of(&udp);
    client.announce(&client.connection());
    assert_eq!(tracker.announces().len(), 2);
}

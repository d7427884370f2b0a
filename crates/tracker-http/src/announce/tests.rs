use bencode::{Owned, encode};
use proptest::prelude::*;

use super::*;
use crate::fuzz;
use bt_types::InfoHashV1;

fn request() -> AnnounceRequest {
    AnnounceRequest::new(InfoHashV1([0xaa; 20]), PeerId(*b"-XX0001-abcdefghijkl"))
}

const HASH: &str = "%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA%AA";

#[track_caller]
fn check_url(base: &str, change: impl Fn(&mut AnnounceRequest), expected: &str) {
    let mut request = request();
    change(&mut request);
    assert_eq!(announce_url(base, &request).unwrap(), expected.replace("HASH", HASH));
}

#[test]
fn urls() {
    let all = "info_hash=HASH&peer_id=-XX0001-abcdefghijkl&port=6881&uploaded=0&downloaded=0\
               &left=9223372036854775807&compact=1&key=00000000";
    check_url("http://t.example/announce", |_| {}, &format!("http://t.example/announce?{all}"));
    check_url("http://t.example", |_| {}, &format!("http://t.example/?{all}"));
    check_url("http://t.example/a?", |_| {}, &format!("http://t.example/a?{all}"));
    check_url(
        "https://t.example:8443/announce.php?passkey=a%20b&x=1#here",
        |_| {},
        &format!("https://t.example:8443/announce.php?passkey=a%20b&x=1&{all}"),
    );
    let fill = |request: &mut AnnounceRequest| {
        (request.port, request.uploaded, request.downloaded, request.left) = (1, 2, 3, 4);
        request.key = 0xcafe;
        request.num_want = Some(50);
        request.ip = Some("2001:db8::1".parse().unwrap());
        request.tracker_id = Some(b"a&b".to_vec());
        request.event = AnnounceEvent::Completed;
    };
    check_url(
        "http://t.example/a",
        fill,
        "http://t.example/a?info_hash=HASH&peer_id=-XX0001-abcdefghijkl&port=1&uploaded=2\
         &downloaded=3&left=4&compact=1&key=0000CAFE&numwant=50&ip=2001%3Adb8%3A%3A1\
         &trackerid=a%26b&event=completed",
    );
}

#[test]
fn urls_of_other_schemes_are_refused() {
    let refused = announce_url("udp://t.example:80", &request());
    assert_eq!(refused, Err(UrlError::Scheme { got: "udp".to_owned() }));
}

/// `body` is read as `reply`; no proper prefix of it is a reply; bytes after it change nothing.
#[track_caller]
fn check(body: &[u8], reply: &AnnounceReply) {
    assert_eq!(parse_announce(body).as_ref(), Ok(reply));
    for length in 0..body.len() {
        let error = parse_announce(&body[..length]).unwrap_err();
        assert!(matches!(error, ReplyError::NotBencode { .. }), "{length}: {error}");
    }
    assert_eq!(parse_announce(&[body, b"\n"].concat()).as_ref(), Ok(reply));
}

fn at(address: &str) -> TrackerPeer {
    address.parse::<std::net::SocketAddr>().unwrap().into()
}

#[test]
fn replies() {
    let empty = AnnounceReply { interval: 1800, ..AnnounceReply::default() };
    check(b"d8:intervali1800e5:peers0:e", &empty);
    check(b"d8:intervali1800e5:peerslee", &empty);
    check(b"d8:intervali1800e6:peers60:e", &empty);
    check(
        b"d8:completei5e10:incompletei3e8:intervali1800e12:min intervali900e\
          5:peers12:\x0a\0\0\x01\x1a\xe1\x0a\0\0\x02\xc8\xd5\
          6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1\
          10:tracker id3:abc15:warning message9:slow downe",
        &AnnounceReply {
            interval: 1800,
            min_interval: Some(900),
            tracker_id: Some(b"abc".to_vec()),
            seeders: Some(5),
            leechers: Some(3),
            warning: Some("slow down".to_owned()),
            peers: vec![at("10.0.0.1:6881"), at("10.0.0.2:51413"), at("[2001:db8::1]:6881")],
        },
    );
}

#[test]
fn peers_as_dictionaries() {
    let id = PeerId(*b"-XX0001-abcdefghijkl");
    let host = |host, port, peer_id| TrackerPeer { host, port, peer_id };
    check(
        b"d8:intervali1e5:peersl\
          d2:ip8:10.0.0.17:peer id20:-XX0001-abcdefghijkl4:porti6881ee\
          d2:ip11:2001:db8::14:porti1ee\
          d2:ip16:::ffff:10.0.0.994:porti2ee\
          d2:ip12:peer.example4:porti3eeee",
        &AnnounceReply {
            interval: 1,
            peers: vec![
                host(PeerHost::Ip([10, 0, 0, 1].into()), 6881, Some(id)),
                host(PeerHost::Ip("2001:db8::1".parse().unwrap()), 1, None),
                host(PeerHost::Ip([10, 0, 0, 99].into()), 2, None),
                host(PeerHost::Name("peer.example".to_owned()), 3, None),
            ],
            ..AnnounceReply::default()
        },
    );
}

#[test]
fn dictionaries_that_are_no_peers_are_passed_over() {
    let peer = |ip: &str, port: i64| Owned::dict([("ip", ip.into()), ("port", port.into())]);
    let peers = Owned::list([
        5.into(),
        "text".into(),
        Owned::dict([("ip", "10.0.0.1".into())]),
        Owned::dict([("port", 1.into())]),
        peer("10.0.0.1", 65_536),
        peer("10.0.0.1", -1),
        peer("", 1),
        peer("two words", 1),
        peer(&"a".repeat(256), 1),
        Owned::dict([("ip", "10.0.0.2".into()), ("peer id", "short".into()), ("port", 7.into())]),
    ]);
    let root = Owned::dict([("interval", 1.into()), ("peers", peers)]);
    let reply = parse_announce(&encode(&root)).unwrap();
    assert_eq!(reply.peers, [at("10.0.0.2:7")]);
}

#[test]
fn numbers_out_of_range_are_brought_in() {
    let reply = parse_announce(b"d8:completei-1e8:intervali99999999999e5:peers0:e").unwrap();
    assert_eq!((reply.interval, reply.seeders), (u32::MAX, Some(0)));
    let reply = parse_announce(b"d8:intervali-5e5:peers0:e").unwrap();
    assert_eq!(reply.interval, 0);
    let reply = parse_announce(b"d8:completei18446744073709551615e8:intervali0e5:peers0:e");
    assert_eq!(reply.unwrap().seeders, Some(u32::MAX));
    // Of the wrong kind, but of no importance.
    let reply = parse_announce(b"d8:complete1:x8:intervali0e5:peers0:15:warning messagei1ee");
    assert_eq!((reply.as_ref().unwrap().seeders, reply.unwrap().warning), (None, None));
}

#[track_caller]
fn check_error(body: &[u8], error: &ReplyError, message: &str) {
    assert_eq!(parse_announce(body).as_ref(), Err(error));
    assert_eq!(error.to_string(), message);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    check_error(
        b"d5:peers0:e",
        &ReplyError::MissingKey { key: "interval" },
        "expected the key \"interval\" in the reply, got none",
    );
    check_error(
        b"d8:intervali1ee",
        &ReplyError::MissingKey { key: "peers" },
        "expected the key \"peers\" in the reply, got none",
    );
    check_error(
        b"d8:interval1:x5:peers0:e",
        &ReplyError::WrongKind { key: "interval", expected: "an integer" },
        "expected an integer under the key \"interval\" of the reply, got another kind of value",
    );
    check_error(
        b"d8:intervali1e5:peers7:1234567e",
        &ReplyError::Ragged { key: "peers", entry: 6, got: 7 },
        "expected a multiple of 6 bytes under the key \"peers\" of the reply, got 7",
    );
    check_error(
        b"d8:intervali1e6:peers66:123456e",
        &ReplyError::Ragged { key: "peers6", entry: 18, got: 6 },
        "expected a multiple of 18 bytes under the key \"peers6\" of the reply, got 6",
    );
    check_error(
        b"le",
        &ReplyError::NotADictionary { start: "le".to_owned() },
        "expected a dictionary as the reply, got another bencoded value: \"le\"",
    );
    let wrong = |body: &[u8], key: &'static str| {
        let error = parse_announce(body).unwrap_err();
        assert!(matches!(error, ReplyError::WrongKind { key: named, .. } if named == key));
    };
    wrong(b"d8:intervali1e5:peersi1ee", "peers");
    wrong(b"d8:intervali1e5:peersdee", "peers");
    wrong(b"d8:intervali1e5:peers0:6:peers6lee", "peers6");
}

#[track_caller]
fn check_failure(body: &[u8], reason: &str, retry_in: Option<u32>) {
    let failure = ReplyError::Failure { reason: reason.to_owned(), retry_in };
    assert_eq!(parse_announce(body), Err(failure));
}

#[test]
fn refusals() {
    check_failure(b"d14:failure reason7:go awaye", "go away", None);
    check_failure(b"d14:failure reason7:go away8:intervali90ee", "go away", Some(90));
    check_failure(b"d14:failure reason2:no12:min intervali60ee", "no", Some(60));
    // BEP 31: minutes, or never.
    check_failure(b"d14:failure reason2:no8:retry ini2ee", "no", Some(120));
    check_failure(b"d14:failure reason2:no8:retry in1:5e", "no", Some(300));
    check_failure(b"d14:failure reason2:no8:retry in5:nevere", "no", Some(u32::MAX));
    check_failure(b"d14:failure reason2:no8:retry in5:latere", "no", None);
    check_failure(b"d14:failure reason5:a\x1b\nb\x07e", "a b", None);
    check_failure(b"d14:failure reasoni1ee", "no reason given", None);
    // A refusal wins, whatever else is there.
    check_failure(b"d14:failure reason2:no8:intervali1e5:peers0:e", "no", Some(1));
}

#[test]
fn a_web_page_is_shown_by_its_beginning() {
    let error = parse_announce(b"<html>\n<body>\x1b[31mhello").unwrap_err();
    let ReplyError::NotBencode { start, .. } = &error else { panic!("got {error:?}") };
    assert_eq!(start, "<html> <body> [31mhello");
}

#[test]
fn a_tracker_s_words_are_limited() {
    for (length, shown) in [(1024, 1024), (1025, 1024)] {
        let words = "x".repeat(length);
        let failure = format!("d14:failure reason{length}:{words}e");
        check_failure(failure.as_bytes(), &words[..shown], None);
        let warning = format!("d8:intervali9e5:peers0:15:warning message{length}:{words}e");
        let reply = parse_announce(warning.as_bytes()).unwrap();
        assert_eq!(reply.warning.as_deref(), Some(&words[..shown]));
    }
}

#[test]
fn peers_are_limited() {
    let dictionary = Owned::dict([("ip", "10.0.0.1".into()), ("port", 1.into())]);
    for (peers, peers6) in [
        (Owned::from(vec![1; 6 * (MAX_PEERS + 1)]), None),
        (Owned::from(vec![1; 6 * 1500]), Some(Owned::from(vec![1; 18 * 1500]))),
        (Owned::list(vec![dictionary; MAX_PEERS + 1]), Some(Owned::from(vec![1; 18]))),
    ] {
        let root = [("interval", Some(1.into())), ("peers", Some(peers)), ("peers6", peers6)];
        let root = root.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let reply = parse_announce(&encode(&Owned::dict(root))).unwrap();
        assert_eq!(reply.peers.len(), MAX_PEERS);
    }
}

/// Whichever was asked for.
fn check_reply(bytes: &[u8]) {
    fuzz::announce(bytes);
    fuzz::scrape(bytes);
}

proptest! {
    #[test]
    fn the_query_gives_back_the_bytes(hash: [u8; 20], id: [u8; 20], tracker_id: Vec<u8>) {
        let mut request = AnnounceRequest::new(InfoHashV1(hash), PeerId(id));
        request.tracker_id = Some(tracker_id.clone());
        let url = announce_url("http://t.example/announce?key=1", &request).unwrap();
        let query = url.split_once('?').unwrap().1;
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(key, _)| *key == name).unwrap();
            percent_encoding::percent_decode_str(value).collect::<Vec<u8>>()
        };
        prop_assert_eq!(value("info_hash"), hash);
        prop_assert_eq!(value("peer_id"), id);
        prop_assert_eq!(value("trackerid"), tracker_id);
    }

    #[test]
    fn compact_peers_round_trip(
        v4: Vec<([u8; 4], u16)>,
        v6: Vec<([u8; 16], u16)>,
        interval: u32,
    ) {
        let v4 = v4.into_iter().map(std::net::SocketAddr::from);
        let peers: Vec<_> = v4.chain(v6.into_iter().map(Into::into)).collect();
        let packed = |wanted: fn(&std::net::SocketAddr) -> bool| {
            let mut bytes = Vec::new();
            let chosen = peers.iter().copied().filter(wanted);
            chosen.for_each(|peer| compact::encode(peer, &mut bytes));
            Owned::from(bytes)
        };
        let root = Owned::dict([
            ("interval", interval.into()),
            ("peers", packed(std::net::SocketAddr::is_ipv4)),
            ("peers6", packed(std::net::SocketAddr::is_ipv6)),
        ]);
        let reply = parse_announce(&encode(&root)).unwrap();
        prop_assert_eq!(reply.interval, interval);
        let got: Vec<_> = reply.peers.iter().map(|peer| peer.address().unwrap()).collect();
        prop_assert_eq!(got, peers);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        check_reply(&bytes);
        for key in ["5:peers", "6:peers6", "14:failure reason", "5:files", "15:warning message"] {
            let length = bytes.len();
            let start = format!("d8:intervali1e5:peers0:{key}{length}:");
            check_reply(&[start.as_bytes(), &bytes, b"e"].concat());
            check_reply(&[format!("d{key}").as_bytes(), &bytes, b"e"].concat());
        }
    }

    #[test]
    fn any_text_is_survived(text in "(https?://)?[a-z0-9.:/?#@%&=\\[\\]\u{e9}\u{202e} -]{0,60}(announce)?.{0,9}") {
        fuzz::url(text.as_bytes());
    }

    #[test]
    fn compact_peers_are_whole_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let root = Owned::dict([("interval", 1.into()), ("peers", Owned::from(bytes.clone()))]);
        match parse_announce(&encode(&root)) {
            Ok(reply) => prop_assert_eq!(reply.peers.len() * 6, bytes.len()),
            Err(error) => {
                prop_assert_ne!(bytes.len() % 6, 0);
                let ragged = ReplyError::Ragged { key: "peers", entry: 6, got: bytes.len() };
                prop_assert_eq!(error, ragged);
            }
        }
    }
}

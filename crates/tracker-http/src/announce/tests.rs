use bencode::{Owned, encode};
use proptest::prelude::*;

use super::*;
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
    for (event, name) in [
        (AnnounceEvent::Started, "started"),
        (AnnounceEvent::Stopped, "stopped"),
        (AnnounceEvent::Paused, "paused"),
    ] {
        let url = format!("http://t.example/?{all}&event={name}");
        check_url("http://t.example", |request| request.event = event, &url);
    }
    check_url(
        "http://t.example/a",
        fill,
        "http://t.example/a?info_hash=HASH&peer_id=-XX0001-abcdefghijkl&port=1&uploaded=2\
         &downloaded=3&left=4&compact=1&key=0000CAFE&numwant=50&ip=2001%3Adb8%3A%3A1\
         &trackerid=a%26b&event=completed",
    );
}

#[test]
fn other_schemes_are_refused() {
    let refused = announce_url("udp://t.example:80", &request());
    assert_eq!(refused, Err(UrlError::Scheme { got: "udp".to_owned() }));
}

/// Checks that `body` parses as `reply`, also with bytes after it, and that no proper prefix
/// parses.
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
fn invalid_peer_dictionaries_are_skipped() {
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
fn odd_counts_are_clamped() {
    let reply = parse_announce(b"d8:completei-1e8:intervali9e5:peers0:e").unwrap();
    assert_eq!(reply.seeders, Some(0));
    let reply = parse_announce(b"d8:completei18446744073709551615e8:intervali9e5:peers0:e");
    assert_eq!(reply.unwrap().seeders, Some(u32::MAX));
    // Optional values of the wrong kind are ignored.
    let reply = parse_announce(b"d8:complete1:x8:intervali9e5:peers0:15:warning messagei1ee");
    assert_eq!((reply.as_ref().unwrap().seeders, reply.unwrap().warning), (None, None));
}

#[test]
fn odd_intervals_are_half_an_hour() {
    for (interval, seconds) in [
        ("", 1800),
        ("8:interval4:1800", 1800),
        ("8:interval2:60", 1800),
        ("8:intervalle", 1800),
        ("8:intervali0e", 1800),
        ("8:intervali-60e", 1800),
        ("8:intervali1e", 1),
        ("8:intervali2147483647e", 2_147_483_647),
        ("8:intervali2147483648e", 1800),
        ("8:intervali4294967295e", 1800),
        ("8:intervali18446744073709551615e", 1800),
    ] {
        let body = [b"d", interval.as_bytes(), b"5:peers6:\x0a\0\0\x01\x1a\xe1e"].concat();
        let reply = parse_announce(&body).unwrap();
        assert_eq!((reply.interval, reply.peers.len()), (seconds, 1), "{interval}");
    }
}

#[test]
fn min_interval_must_be_positive() {
    for (value, least) in [("i0e", None), ("i-1e", None), ("1:9", None), ("i9e", Some(9))] {
        let body = format!("d8:intervali1800e12:min interval{value}e");
        assert_eq!(parse_announce(body.as_bytes()).unwrap().min_interval, least, "{value}");
    }
    let body = b"d12:min intervali99999999999ee";
    assert_eq!(parse_announce(body).unwrap().min_interval, Some(u32::MAX));
}

#[test]
fn invalid_peers_leave_others() {
    let (v4, v6) = ("10.0.0.1:6881", "[2001:db8::1]:6881");
    let good4 = &b"5:peers6:\x0a\0\0\x01\x1a\xe1"[..];
    let good6 = &b"6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1"[..];
    let in_list = &b"6:peers6ld2:ip11:2001:db8::14:porti6881eei5ee"[..];
    let ragged4 = &b"5:peers8:\x0a\0\0\x01\x1a\xe1\x0a\0"[..];
    let ragged6 = &b"6:peers619:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1\0"[..];
    for (keys, expected) in [
        ([&b""[..], b""], vec![]),
        ([good4, b""], vec![v4]),
        ([b"", good6], vec![v6]),
        ([b"5:peersi1e", good6], vec![v6]),
        ([b"5:peersde", good6], vec![v6]),
        ([b"5:peers3:abc", good6], vec![v6]),
        ([good4, b"6:peers6i1e"], vec![v4]),
        ([good4, b"6:peers6de"], vec![v4]),
        ([good4, b"6:peers66:123456"], vec![v4]),
        ([good4, in_list], vec![v4, v6]),
        ([ragged4, ragged6], vec![v4, v6]),
    ] {
        let body = [b"d8:intervali1800e", keys[0], keys[1], b"e"].concat();
        let reply = parse_announce(&body).expect("a reply");
        let got: Vec<_> = reply.peers.iter().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{}", body.escape_ascii());
    }
}

#[test]
fn first_of_duplicate_keys_counts() {
    let body = b"d8:intervali900e8:intervali60e5:peers6:\x0a\0\0\x01\x1a\xe15:peers0:e";
    let reply = parse_announce(body).unwrap();
    assert_eq!((reply.interval, reply.peers), (900, vec![at("10.0.0.1:6881")]));
}

#[test]
fn reply_must_be_a_dictionary() {
    let error = ReplyError::NotADictionary { start: "le".to_owned() };
    assert_eq!(parse_announce(b"le").as_ref(), Err(&error));
    let message = "expected a dictionary as the reply, got another bencoded value: \"le\"";
    assert_eq!(error.to_string(), message);
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
    check_failure(b"d14:failure reason2:no8:retry in7: NEVER e", "no", Some(u32::MAX));
    check_failure(b"d14:failure reason2:no8:retry in5:latere", "no", None);
    check_failure(b"d14:failure reason2:no8:retry in11:99999999999e", "no", Some(u32::MAX));
    check_failure(b"d14:failure reason2:no8:retry ini99999999999ee", "no", Some(u32::MAX));
    check_failure(b"d14:failure reason5:a\x1b\nb\x07e", "a b", None);
    check_failure(b"d14:failure reasoni1ee", "no reason given", None);
    // The longest wait counts; values below 1 do not.
    let all = |interval, least, minutes| {
        format!(
            "d14:failure reason2:no8:interval{interval}12:min interval{least}8:retry in{minutes}e"
        )
    };
    for (interval, least, minutes, longest) in [
        ("i5e", "i3600e", "i1e", Some(3600)),
        ("i7200e", "i60e", "i2e", Some(7200)),
        ("i7200e", "i60e", "5:never", Some(u32::MAX)),
        ("i5e", "i6e", "i1e", Some(60)),
        ("i0e", "i-1e", "i0e", None),
        ("i-7e", "1:9", "1:0", None),
        ("1:x", "le", "2:-5", None),
        ("i9e", "i0e", "i-9e", Some(9)),
    ] {
        check_failure(all(interval, least, minutes).as_bytes(), "no", longest);
    }
    // A refusal takes precedence over peers.
    check_failure(b"d14:failure reason2:no8:intervali1e5:peers0:e", "no", Some(1));
}

#[test]
fn web_page_error_shows_its_start() {
    let error = parse_announce(b"<html>\n<body>\x1b[31mhello").unwrap_err();
    let ReplyError::NotBencode { start, .. } = &error else { panic!("got {error:?}") };
    assert_eq!(start, "<html> <body> [31mhello");
}

#[test]
fn tracker_text_is_limited() {
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

proptest! {
    #[test]
    fn query_round_trips(hash: [u8; 20], id: [u8; 20], tracker_id: Vec<u8>) {
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
        interval in 1..=i32::MAX as u32,
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
    fn whole_compact_peers_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let root = Owned::dict([("interval", 1.into()), ("peers", Owned::from(bytes.clone()))]);
        let reply = parse_announce(&encode(&root)).unwrap();
        prop_assert_eq!(reply.peers.len(), bytes.len() / 6);
    }
}

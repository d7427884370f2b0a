use proptest::prelude::*;

use super::*;

/// Parses hex digits, with spaces between the fields.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Checks that `encoded` is `text`, which decodes to `packet`, also with one more byte. With fewer
/// than the bytes of the head or of the body, the error says which of them is short.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    packet: &T,
    encoded: &[u8],
    text: &str,
    [head, body]: [(&'static str, usize); 2],
    decode: impl Fn(&[u8]) -> Result<T, PacketError>,
) {
    let bytes = hex(text);
    assert_eq!(encoded, bytes);
    assert_eq!(decode(&bytes).as_ref(), Ok(packet));
    for length in 0..body.1 {
        let (what, expected) = if length < head.1 { head } else { body };
        let short = PacketError::Short { what, expected, got: length };
        assert_eq!(decode(&bytes[..length]), Err(short));
    }
    for length in body.1..bytes.len() {
        assert!(decode(&bytes[..length]).is_ok());
    }
    assert_eq!(decode(&[&bytes[..], &[0]].concat()).as_ref(), Ok(packet));
}

#[track_caller]
fn check_request(request: &Request, text: &str, what: &'static str, least: usize) {
    check(request, &request.encode(), text, [("request", 16), (what, least)], Request::decode);
}

#[track_caller]
fn check_response(
    response: &Response,
    family: Family,
    text: &str,
    what: &'static str,
    least: usize,
) {
    let decode = |bytes: &[u8]| Response::decode(bytes, family);
    check(response, &response.encode(), text, [("response", 8), (what, least)], decode);
}

fn announce() -> AnnounceRequest {
    AnnounceRequest {
        downloaded: 1,
        left: 2,
        uploaded: 3,
        event: AnnounceEvent::Started,
        ip: Some([10, 0, 0, 1].into()),
        key: 0xcafe,
        num_want: Some(50),
        ..AnnounceRequest::new(InfoHashV1([0xaa; 20]), PeerId([0xbb; 20]))
    }
}

const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const PEER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

#[test]
fn requests() {
    let connect = Request::Connect { transaction_id: 0x0102_0304 };
    check_request(&connect, "0000041727101980 00000000 01020304", "request", 16);

    let head = "000000000000000c 00000001 00000007";
    let body = "0000000000000001 0000000000000002 0000000000000003 00000002 0a000001 0000cafe";
    let plain = format!("{head} {HASH} {PEER} {body} 00000032 1ae1");
    let (connection_id, transaction_id) = (12, 7);
    let with_url_data = |url_data: &[u8]| Request::Announce {
        connection_id,
        transaction_id,
        announce: announce(),
        url_data: url_data.to_vec(),
    };
    check_request(&with_url_data(b""), &plain, "announce request", 98);
    // BEP 41's own example.
    let options = format!("{plain} 02 0c 2f6469723f613d6226633d64");
    check_request(&with_url_data(b"/dir?a=b&c=d"), &options, "announce request", 98);
    let long = format!("{plain} 02 ff {} 02 01 61", "61".repeat(255));
    check_request(&with_url_data(&[b'a'; 256]), &long, "announce request", 98);

    let info_hashes = vec![InfoHashV1([0xaa; 20]), InfoHashV1([0xbb; 20])];
    let scrape = Request::Scrape { connection_id, transaction_id, info_hashes };
    let head = "000000000000000c 00000002 00000007";
    check_request(&scrape, &format!("{head} {HASH} {PEER}"), "request", 16);
}

#[test]
fn responses() {
    let connect = Response::Connect { transaction_id: 7, connection_id: 12 };
    let text = "00000000 00000007 000000000000000c";
    check_response(&connect, Family::V4, text, "connect response", 16);

    let announce = |peers: &[&str]| Response::Announce {
        transaction_id: 7,
        interval: 1800,
        leechers: 3,
        seeders: 5,
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
    };
    let head = "00000001 00000007 00000708 00000003 00000005";
    check_response(&announce(&[]), Family::V6, head, "announce response", 20);
    let v4 = format!("{head} 0a000001 1ae1 0a000002 c8d5");
    let peers = announce(&["10.0.0.1:6881", "10.0.0.2:51413"]);
    check_response(&peers, Family::V4, &v4, "announce response", 20);
    let v6 = format!("{head} 20010db8000000000000000000000001 1ae1");
    check_response(&announce(&["[2001:db8::1]:6881"]), Family::V6, &v6, "announce response", 20);

    let counts = vec![ScrapeCounts { seeders: 1, completed: 2, leechers: 3 }];
    let scrape = Response::Scrape { transaction_id: 7, counts };
    let text = "00000002 00000007 00000001 00000002 00000003";
    check_response(&scrape, Family::V4, text, "scrape response", 8);
}

#[test]
fn error_message_is_made_safe() {
    let decoded = |bytes: &[u8]| match Response::decode(bytes, Family::V4) {
        Ok(Response::Error { transaction_id: 7, message }) => message,
        other => panic!("expected an error packet, got {other:?}"),
    };
    let head = hex("00000003 00000007");
    let with = |text: &[u8]| decoded(&[&head, text].concat());
    assert_eq!(with(b""), "");
    assert_eq!(with(b"unregistered torrent\0"), "unregistered torrent");
    assert_eq!(with(b"\x1b[2Jgone\n"), "[2Jgone");
    assert!(with(&[b'x'; 5000]).len() == MAX_MESSAGE_LENGTH);
    assert!(with(&[0xff; 5000]).len() <= MAX_MESSAGE_LENGTH);
    let message = "go away".to_owned();
    let error = Response::Error { transaction_id: 7, message };
    assert_eq!(error.encode(), [&head[..], b"go away"].concat());
}

#[test]
fn unencodable_values_are_clamped() {
    let request = AnnounceRequest {
        left: u64::MAX,
        num_want: None,
        ip: Some("2001:db8::1".parse().unwrap()),
        tracker_id: Some(b"of no use here".to_vec()),
        ..announce()
    };
    let bytes = encode_announce(1, 2, &request, b"");
    let Ok(Request::Announce { announce, .. }) = Request::decode(&bytes) else { panic!() };
    assert_eq!(announce.left, i64::MAX as u64);
    assert_eq!((announce.num_want, announce.ip, announce.tracker_id), (None, None, None));
    assert_eq!(&bytes[92..96], [0xff; 4]);
}

#[test]
fn unknown_packets_are_refused() {
    let head = "0000041727101980 00000009 00000001";
    assert_eq!(Request::decode(&hex(head)), Err(PacketError::Action { got: 9 }));
    let head = "0000000000000001 00000000 00000001";
    assert_eq!(Request::decode(&hex(head)), Err(PacketError::ProtocolId { got: 1 }));
    let mut bytes = encode_announce(1, 2, &announce(), b"");
    bytes[83] = 4;
    assert_eq!(Request::decode(&bytes), Err(PacketError::Event { got: 4 }));
    let response = Response::decode(&hex("00000004 00000001"), Family::V4);
    assert_eq!(response, Err(PacketError::Action { got: 4 }));
}

#[test]
fn truncated_and_unknown_options_are_skipped() {
    for (options, url_data) in [
        ("02 00", ""),
        ("01 01 02 01 61 00 02 01 62", "a"),
        ("02 01 61 02 01 62", "ab"),
        ("09 02 ffff 02 01 61", "a"),
        ("02 01 61 02 05 6161", "a"),
        ("02", ""),
    ] {
        assert_eq!(decode_url_data(&hex(options)), url_data.as_bytes(), "{options}");
    }
}

#[test]
fn peers_are_limited() {
    let head = hex("00000001 00000007 00000708 00000003 00000005");
    for (family, entry) in [(Family::V4, 6), (Family::V6, 18)] {
        let bytes = [&head[..], &vec![1; entry * (MAX_PEERS + 1) + 1]].concat();
        let Ok(Response::Announce { peers, .. }) = Response::decode(&bytes, family) else {
            panic!("expected an announce response");
        };
        assert_eq!(peers.len(), MAX_PEERS);
    }
    let bytes = [&hex("00000002 00000007")[..], &vec![1; 12 * (MAX_SCRAPE + 1)]].concat();
    let Ok(Response::Scrape { counts, .. }) = Response::decode(&bytes, Family::V4) else {
        panic!()
    };
    assert_eq!(counts.len(), MAX_SCRAPE);
}

fn any_request() -> impl Strategy<Value = Request> {
    let announce = (
        any::<([u8; 20], [u8; 20], [u64; 3])>(),
        any::<(u32, u16, Option<[u8; 4]>, Option<u32>, u8)>(),
    );
    let announce =
        announce.prop_map(|((hash, peer, numbers), (key, port, ip, num_want, event))| {
            AnnounceRequest {
                downloaded: numbers[0],
                left: numbers[1] >> 1,
                uploaded: numbers[2],
                key,
                port,
                ip: ip.map(Ipv4Addr::from).filter(|ip| !ip.is_unspecified()).map(IpAddr::V4),
                num_want: num_want.map(|count| count >> 1),
                event: event_from_number(u32::from(event % 4)).unwrap(),
                ..AnnounceRequest::new(InfoHashV1(hash), PeerId(peer))
            }
        });
    let url_data = prop::collection::vec(any::<u8>(), 0..600);
    let announce = (any::<(u64, u32)>(), announce, url_data).prop_map(
        |((connection_id, transaction_id), announce, url_data)| Request::Announce {
            connection_id,
            transaction_id,
            announce,
            url_data,
        },
    );
    let hashes = prop::collection::vec(any::<[u8; 20]>().prop_map(InfoHashV1), 0..=MAX_SCRAPE);
    let scrape =
        (any::<(u64, u32)>(), hashes).prop_map(|((connection_id, transaction_id), info_hashes)| {
            Request::Scrape { connection_id, transaction_id, info_hashes }
        });
    let connect = any::<u32>().prop_map(|transaction_id| Request::Connect { transaction_id });
    prop_oneof![connect, announce, scrape]
}

proptest! {
    #[test]
    fn requests_round_trip(request in any_request()) {
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
}

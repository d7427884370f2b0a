use super::*;

const V1: &str = "0123456789abcdef0123456789abcdef01234567";
const V2: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parse(text: &str) -> Result<Magnet, MagnetError> {
    text.parse()
}

#[test]
fn v1_hash_is_hex_or_base32() {
    let hex = parse(&format!("magnet:?xt=urn:btih:{V1}")).unwrap();
    assert_eq!(hex, Magnet::new(InfoHashes::V1(V1.parse().unwrap())));
    let base32 = parse("magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH").unwrap();
    assert_eq!(base32, hex);
    let lower = parse("MAGNET:?XT=URN:BTIH:aerukz4jvpg66ajdivtytk6n54asgrlh").unwrap();
    assert_eq!(lower, hex);
    assert_eq!(hex.to_string(), format!("magnet:?xt=urn:btih:{V1}"));
}

#[test]
fn bare_hash_is_a_link() {
    let link = Magnet::new(InfoHashes::V1(V1.parse().unwrap()));
    let base32 = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH";
    for text in [V1, &V1.to_uppercase(), base32, &base32.to_lowercase()] {
        assert_eq!(Magnet::from_bare_hash(text).as_ref(), Some(&link));
        assert_eq!(Magnet::from_bare_hash(&text[1..]), None);
        assert_eq!(Magnet::from_bare_hash(&format!("{text}0")), None);
    }
    let odd = [V2, "", "holiday.torrent", &V1.replace('f', "g"), &base32.replace('A', "1")];
    for text in
        odd.into_iter().chain([&*link.to_string(), "0123456789abcdef\u{fc}0123456789abcdef0123"])
    {
        assert_eq!(Magnet::from_bare_hash(text), None, "{text}");
    }
}

#[test]
fn v2_and_hybrid_hashes_are_parsed() {
    let (v1, v2) = (V1.parse().unwrap(), V2.parse().unwrap());
    let only_v2 = parse(&format!("magnet:?xt=urn:btmh:1220{V2}")).unwrap();
    assert_eq!(only_v2.info_hashes, InfoHashes::V2(v2));
    let text = format!("magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}");
    let hybrid = parse(&text).unwrap();
    assert_eq!(hybrid.info_hashes, InfoHashes::Hybrid(v1, v2));
    assert_eq!(hybrid.to_string(), text);
}

#[test]
fn every_parameter_is_parsed() {
    let text = format!(
        "magnet:?xt=urn:btih:{V1}&dn=a%20name+with%2B&xl=1234&tr=http%3A%2F%2Fa%2F%3Fk%3D1&tr.1=udp://b:80\
         &tr=udp%3A%2F%2Fb%3A80&ws=http://w/&x.pe=10.0.0.1:6881&x.pe=[::1]:6882&x.pe=host.example:1\
         &x.pe=nonsense&x.pe=::1:5&x.pe=h:0&dht=router.example:6881&dht=10.0.0.2%3A1&dht=[::2]:3\
         &dht=10.0.0.2:1&dht=nowhere&dht=h:65536&so=0,2,4-6&unknown=1&xt=urn:sha1:ABC&flag"
    );
    let magnet = parse(&text).unwrap();
    assert_eq!(magnet.name.as_deref(), Some("a name with+"));
    assert_eq!(magnet.trackers, ["http://a/?k=1", "udp://b:80"]);
    assert_eq!(magnet.web_seeds, ["http://w/"]);
    assert_eq!(magnet.peers, ["10.0.0.1:6881", "[::1]:6882", "host.example:1"]);
    assert_eq!(magnet.dht_nodes, ["router.example:6881", "10.0.0.2:1", "[::2]:3"]);
    assert_eq!(magnet.tracker_tiers(), [["http://a/?k=1"], ["udp://b:80"]]);
    assert_eq!(magnet.length, Some(1234));
    let selected: Vec<u32> = (0..9).filter(|index| magnet.selects(*index)).collect();
    assert_eq!(selected, [0, 2, 4, 5, 6]);
    assert_eq!(parse(&magnet.to_string()), Ok(magnet));
}

#[test]
fn other_texts_are_refused() {
    let hash = |got: &str| MagnetError::InfoHash { got: got.to_owned() };
    let selection = |got: &str| MagnetError::Selection { got: got.to_owned() };
    for (text, expected) in [
        ("", MagnetError::NotMagnet),
        ("http://example.com/a.torrent", MagnetError::NotMagnet),
        ("magnet:", MagnetError::NotMagnet),
        ("magnét:?xt=", MagnetError::NotMagnet),
        ("magnet:?", MagnetError::NoInfoHash),
        ("magnet:?dn=name", MagnetError::NoInfoHash),
        ("magnet:?xt=urn:sha1:ABC", MagnetError::NoInfoHash),
        ("magnet:?xt=urn:btih:", hash("")),
        ("magnet:?xt=urn:btih:0123", hash("0123")),
        (
            "magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRL1",
            hash("AERUKZ4JVPG66AJDIVTYTK6N54ASGRL1"),
        ),
        ("magnet:?xt=urn:btmh:1220", MagnetError::InfoHashV2 { got: "1220".into() }),
    ] {
        assert_eq!(parse(text), Err(expected), "{text}");
    }
    for so in ["x", "1-", "3-2", "4294967296", "1,-"] {
        assert_eq!(parse(&format!("magnet:?xt=urn:btih:{V1}&so={so}")), Err(selection(so)));
    }
    let other = V1.replace('0', "f");
    let two = parse(&format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{other}"));
    assert_eq!(two, Err(MagnetError::SeveralTorrents));
    assert!(parse(&format!("magnet:?xt=urn:btih:{V1}&xt=urn:btih:{V1}")).is_ok());
    let mut long = format!("magnet:?xt=urn:btih:{V1}&x=");
    long += &"x".repeat(MAX_MAGNET_LENGTH - long.len());
    assert!(parse(&long).is_ok());
    long.push('x');
    assert_eq!(parse(&long), Err(MagnetError::TooLong { got: MAX_MAGNET_LENGTH + 1 }));
}

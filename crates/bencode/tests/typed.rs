//! Types that implement serde's traits: what is read, written and refused.

#![cfg(feature = "serde")]

use std::collections::BTreeMap;

use bencode::{DecodeErrorKind, Options, Owned, Raw, encode, from_slice, parse, to_vec};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Torrent<'a> {
    announce: Option<&'a str>,
    #[serde(rename = "announce-list", default, skip_serializing_if = "Vec::is_empty")]
    announce_list: Vec<Vec<String>>,
    #[serde(borrow)]
    info: Info<'a>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info<'a> {
    #[serde(rename = "piece length")]
    piece_length: u32,
    #[serde(borrow, with = "bytes")]
    pieces: &'a [u8],
    name: &'a str,
    length: u64,
    private: Option<bool>,
}

mod bytes {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], writer: S) -> Result<S::Ok, S::Error> {
        writer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(from)
    }
}

const TORRENT: &[u8] = b"d8:announce6:http:/4:infod6:lengthi5e4:name1:a12:piece lengthi16384e\
    6:pieces4:\xff\xfe\xfd\xfc7:privatei1eee";

#[test]
fn structs_borrow_and_are_written_in_order() {
    let torrent: Torrent<'_> = from_slice(TORRENT).unwrap();
    let info = Info {
        piece_length: 16384,
        pieces: b"\xff\xfe\xfd\xfc",
        name: "a",
        length: 5,
        private: Some(true),
    };
    assert_eq!(torrent, Torrent { announce: Some("http:/"), announce_list: Vec::new(), info });
    assert!(TORRENT.as_ptr_range().contains(&torrent.info.pieces.as_ptr()));
    assert_eq!(to_vec(&torrent).unwrap(), TORRENT);
}

#[test]
fn info_keeps_its_bytes() {
    #[derive(Serialize, Deserialize)]
    struct Outer {
        info: Raw,
        x: u8,
    }
    let input = b"d4:infod1:bi1e1:ai2ee1:xi3ee";
    let outer: Outer = from_slice(input).unwrap();
    assert_eq!(outer.info.as_bytes(), b"d1:bi1e1:ai2ee");
    assert_eq!(to_vec(&outer).unwrap(), input);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    Idle,
    Port(u16),
    Pair(u16, String),
    Peer { ip: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "y", rename_all = "lowercase")]
enum Query {
    Ping { id: u8 },
    Find { target: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Peers {
    Compact(#[serde(with = "text")] Vec<u8>),
    List(Vec<BTreeMap<String, Owned>>),
}

mod text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], writer: S) -> Result<S::Ok, S::Error> {
        writer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match bencode::Owned::deserialize(from)? {
            bencode::Owned::Bytes(bytes) => Ok(bytes),
            _ => Err(serde::de::Error::custom("expected a byte string")),
        }
    }
}

#[track_caller]
fn round_trip<T>(value: &T, bytes: &[u8])
where
    T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug,
{
    let written = to_vec(value).unwrap();
    assert_eq!(written.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!(&from_slice::<T>(bytes).unwrap(), value);
    assert_eq!(&parse(bytes).unwrap().root().read::<T>().unwrap(), value);
}

#[test]
fn values_of_each_type_are_read_as_they_were_written() {
    round_trip(&-5_i8, b"i-5e");
    round_trip(&u64::MAX, b"i18446744073709551615e");
    round_trip(&i64::MIN, b"i-9223372036854775808e");
    round_trip(&true, b"i1e");
    round_trip(&'ö', b"2:\xc3\xb6");
    round_trip(&String::from("spam"), b"4:spam");
    round_trip(&[1_u8, 2, 255], b"3:\x01\x02\xff");
    round_trip(&vec![b'a', b'b'], b"2:ab");
    round_trip(&Vec::<u8>::new(), b"le");
    round_trip(&vec![1_u16, 2], b"li1ei2ee");
    round_trip(&(7_u8, String::from("a")), b"li7e1:ae");
    round_trip(&(7_u8, 8_u8, 9_u16), b"li7ei8ei9ee");
    round_trip(&vec![[1_u8, 2], [3, 4]], b"l2:\x01\x022:\x03\x04e");
    round_trip(&BTreeMap::from([([9_u8, 8], 1_u32)]), b"d2:\x09\x08i1ee");
    round_trip(&BTreeMap::from([("b".to_owned(), 1), ("aa".to_owned(), 2)]), b"d2:aai2e1:bi1ee");
    round_trip(&Message::Idle, b"4:Idle");
    round_trip(&Message::Port(80), b"d4:Porti80ee");
    round_trip(&Message::Pair(1, "x".into()), b"d4:Pairli1e1:xee");
    round_trip(&Message::Peer { ip: "::".into() }, b"d4:Peerd2:ip2:::ee");
    round_trip(&Query::Ping { id: 3 }, b"d2:idi3e1:y4:pinge");
    round_trip(&Query::Find { target: "t".into() }, b"d6:target1:t1:y4:finde");
    round_trip(&Peers::Compact(b"\xff\xff".to_vec()), b"2:\xff\xff");
    round_trip(&Peers::List(vec![BTreeMap::from([("ip".into(), 4.into())])]), b"ld2:ipi4eee");
    round_trip(&Some(3_u8), b"i3e");
    round_trip(&std::net::Ipv4Addr::LOCALHOST, b"9:127.0.0.1");
}

#[test]
fn entries_of_structs_and_flattened_maps_are_sorted() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Extended {
        y: u8,
        b: Option<u8>,
        #[serde(flatten)]
        others: BTreeMap<String, Owned>,
        a: Message,
    }
    let others = BTreeMap::from([("z".into(), 1.into()), ("aa".into(), "x".into())]);
    round_trip(
        &Extended { y: 1, b: None, others, a: Message::Port(2) },
        b"d1:ad4:Porti2ee2:aa1:x1:yi1e1:zi1ee",
    );
}

#[track_caller]
fn refuse<'a, T: Deserialize<'a>>(input: &'a str, expected: &str) {
    let error = from_slice::<T>(input.as_bytes()).err().expect("an error");
    assert_eq!(error.to_string(), expected, "{input}");
}

#[test]
fn errors_say_where_and_what() {
    type Map<T> = BTreeMap<String, T>;
    let cut = "at byte 4 (a): expected a byte string of length 5, got the end of the input after 3";
    refuse::<Map<u8>>("d1:a5:abc", cut);
    refuse::<Map<u8>>(
        "d1:ai1e1:ai2ee",
        "at byte 7 (a): expected each key once, got this one again",
    );
    refuse::<u8>(
        "i1ei2e",
        "at byte 3: expected the end of the input, got further data of length 3",
    );
    refuse::<Map<Vec<u8>>>("d1:ali1ei256eee", "at byte 8 (a[1]): expected u8, got integer `256`");
    refuse::<Map<String>>("d1:ai1ee", "at byte 4 (a): expected a string, got an integer");
    refuse::<Map<Vec<String>>>("d1:a2:xye", "at byte 4 (a): expected a list, got a byte string");
    refuse::<Map<bool>>("d1:ai2ee", "at byte 4 (a): expected 0 or 1, got an integer");
    refuse::<[u8; 3]>("2:ab", "at byte 0: expected an array of length 3, got 2 of them");
    refuse::<(u8, u8)>(
        "li1ei2ei3ee",
        "at byte 7 ([2]): expected the list or dictionary to end, got more",
    );
    refuse::<Message>("de", "at byte 0: expected a variant, got an empty dictionary");
    refuse::<Vec<Query>>("ld1:y4:pingee", "at byte 1 ([0].id): expected this key, got none");
    refuse::<Torrent<'_>>(
        "d4:infod4:name1:aee",
        "at byte 7 (info.piece length): expected this key, got none",
    );
    refuse::<Map<Message>>(
        "d1:a3:Foee",
        "at byte 4 (a): unknown variant `Foe`, expected one of `Idle`, `Port`, `Pair`, `Peer`",
    );
    let input = b"l1:\xffe";
    let error = from_slice::<Vec<String>>(input).unwrap_err();
    assert_eq!((error.kind, error.offset), (DecodeErrorKind::NotUtf8, 1));

    let document = parse(b"d1:ad1:bi1eee").unwrap();
    let error = document.root().get("a").unwrap().read::<Map<String>>().unwrap_err();
    assert_eq!(error.to_string(), "at byte 8 (a.b): expected a string, got an integer");
}

#[test]
fn options_hold_for_types() {
    let lenient = Options { max_duplicates: 2, allow_trailing: true, ..Options::new() };
    let read: BTreeMap<String, u8> = lenient.read(b"d1:ai1e1:ci2e1:bi3e1:ci4e1:ai5eerest").unwrap();
    assert_eq!(read, [("a", 1), ("b", 3), ("c", 2)].map(|(key, value)| (key.into(), value)).into());
    let strict = Options { strict: true, ..Options::new() };
    assert!(strict.read::<IgnoredAny>(b"d1:bi1e1:ai1ee").is_err());
    let shallow = Options { max_depth: 1, max_tokens: 3, ..Options::new() };
    assert!(shallow.read::<Vec<IgnoredAny>>(b"lle").is_err());
    assert!(shallow.read::<IgnoredAny>(b"li1ee").is_ok());
    assert!(shallow.read::<IgnoredAny>(b"li1ei1ee").is_err());
}

#[test]
fn what_bencode_lacks_is_not_written() {
    #[track_caller]
    fn refuse<T: Serialize>(value: &T, expected: &str) {
        assert_eq!(to_vec(value).unwrap_err().to_string(), expected);
    }
    let absent = "expected a value, got None or (), which bencode has only as a missing key";
    refuse(&None::<u8>, absent);
    refuse(&vec![Some(1_u16), None], absent);
    refuse(&BTreeMap::from([(1_u8, 1)]), "expected a byte string as key");
    refuse(&0.5_f32, "expected an integer, got 0.5");
    refuse(&u128::MAX, &format!("expected an integer that fits 64 bits, got {}", u128::MAX));
    #[derive(Serialize)]
    struct Twice {
        a: u8,
        #[serde(rename = "a")]
        b: u8,
    }
    refuse(&Twice { a: 1, b: 2 }, "expected each key once, got a again");
}

fn owned() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..5);
    let scalar = prop_oneof![any::<i64>().prop_map(Owned::from), bytes().prop_map(Owned::from)];
    scalar.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Owned::List),
            proptest::collection::btree_map(bytes(), inner, 0..4).prop_map(Owned::Dict),
        ]
    })
}

/// A few bytes of the kind that bencode consists of, so that many are nearly bencode.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(
        ["i1e", "1:a", "1:b", "0:", "d", "l", "e", "e", "i-0e", "2:ab", "d1:ai1ee", "x"].to_vec(),
    );
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn typed_and_untyped_bytes_are_the_same(value in owned()) {
        let bytes = encode(&value);
        prop_assert_eq!(to_vec(&value).unwrap(), bytes.clone());
        prop_assert_eq!(from_slice::<Owned>(&bytes).unwrap(), value);
    }

    /// Reading into a type accepts what the parser accepts, and has the same errors.
    #[test]
    fn reader_and_parser_agree(input in nearly(), strict: bool, max_duplicates in 0..3_usize) {
        let options = Options { strict, max_duplicates, max_depth: 3, max_tokens: 9, ..Options::new() };
        let parsed = options.parse(&input).map(|document| document.root().to_owned());
        prop_assert_eq!(options.read::<IgnoredAny>(&input).map(drop), parsed.clone().map(drop));
        prop_assert_eq!(options.read::<Owned>(&input), parsed.clone());
        let raw = parsed.map(|_| input.clone());
        prop_assert_eq!(options.read::<Raw>(&input).map(|raw| raw.as_bytes().to_vec()), raw);
    }
}

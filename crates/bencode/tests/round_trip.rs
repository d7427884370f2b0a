//! Encoded values are decoded again, canonical input encodes to itself, and no input breaks a
//! promise of the crate.

mod fuzz;

use bencode::{DecodeErrorKind, Owned, Raw, encode, parse};
use proptest::prelude::*;

fn integer() -> impl Strategy<Value = Owned> {
    prop_oneof![any::<i64>().prop_map(Owned::from), any::<u64>().prop_map(Owned::from)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => proptest::collection::vec(any::<u8>(), 90..1200),
    ]
}

fn value() -> impl Strategy<Value = Owned> {
    let scalar = prop_oneof![integer(), bytes().prop_map(Owned::from)];
    scalar.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Owned::List),
            proptest::collection::btree_map(bytes(), inner, 0..6).prop_map(Owned::Dict),
        ]
    })
}

/// Bytes that are nearly bencode: a value with a few bytes changed, removed or inserted.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit =
        (any::<prop::sample::Index>(), 0..3_u8, prop::sample::select(b"0123459ield:-x".to_vec()));
    (value(), proptest::collection::vec(edit, 1..4)).prop_map(|(value, edits)| {
        let mut bytes = encode(&value);
        for (at, what, byte) in edits {
            let at = at.index(bytes.len() + 1).min(bytes.len().saturating_sub(1));
            match what {
                0 => bytes.insert(at, byte),
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes[at] = byte,
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn decode_reads_what_encode_writes(value in value()) {
        let bytes = encode(&value);
        let document = parse(&bytes).unwrap();
        prop_assert_eq!(document.root().to_owned(), value);
        prop_assert_eq!(document.unsorted(), None);
        fuzz::value(&bytes);
    }

    #[test]
    fn prefix_of_value_is_refused(value in value()) {
        let bytes = encode(&value);
        for end in 0..bytes.len() {
            prop_assert!(parse(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn damaged_bytes_break_no_promise(bytes in damaged()) {
        fuzz::value(&bytes);
    }

    #[test]
    fn any_bytes_break_no_promise(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        fuzz::value(&bytes);
    }

    #[test]
    fn bencode_characters_break_no_promise(text in "[0-3ilde:-]{0,40}") {
        fuzz::value(text.as_bytes());
    }
}

#[test]
fn fuzz_corpus_breaks_no_promise() {
    testkit::replay("bencode", fuzz::value);
}

/// Inputs that once were, or easily could be, parsed wrongly.
#[test]
fn tricky_inputs_break_no_promise() {
    for input in [
        &b""[..],
        b"d1:b0:1:a0:1:b0:e",
        b"d1:bd1:b0:1:a0:e1:a0:e",
        b"ld1:b0:1:a0:ee",
        b"i-9223372036854775808e",
        b"i18446744073709551615e",
        b"18446744073709551615:",
        b"99999999999999999999:",
        b"100:",
        b"d0:0:0:0:e",
        b"d1:a",
        b"d1:ae",
        b"d1:ali1e",
        b"lelele",
        b"4294967296:x",
        b"1:\xff",
        b"i--1e",
        b"i-e",
        b"<html>",
        b"d1:a0:1:ai2ee and more",
    ] {
        fuzz::value(input);
    }
    fuzz::value(&b"l".repeat(1000));
    fuzz::value(&[b"d1:a".repeat(99), b"le".to_vec(), b"e".repeat(99)].concat());
}

#[test]
fn conversions_build_usual_values() {
    let reply = Owned::dict([
        ("interval", 1800.into()),
        ("complete", 3_usize.into()),
        ("peers", b"\x7f\0\0\x01\x1a\xe1".into()),
        ("warning message", String::from("slow").into()),
        ("nested", Owned::list([1_u8.into(), (-1).into(), "x".into()])),
    ]);
    let expected = b"d8:completei3e8:intervali1800e6:nestedli1ei-1e1:xe5:peers6:\x7f\0\0\x01\x1a\xe115:warning message4:slowe";
    assert_eq!(encode(&reply), expected);
}

#[test]
fn raw_values_are_checked_and_kept() {
    let unsorted = b"d1:b0:1:a0:e".to_vec();
    let raw = Raw::new(unsorted.clone()).unwrap();
    assert_eq!(raw.as_bytes(), unsorted);
    assert_eq!(encode(&Owned::list([Owned::Raw(raw)])), b"ld1:b0:1:a0:ee");
    let error = Raw::new(b"i1ei2e".to_vec()).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::TrailingBytes { count: 3 });
    let document = parse(b"l1:ade1:be").unwrap();
    let element = document.root().as_list().unwrap().get(1).unwrap();
    assert_eq!(Raw::from(element).as_bytes(), b"de");
}

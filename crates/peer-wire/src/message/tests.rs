use super::*;
use crate::frame::{MAX_BITFIELD_LENGTH, MAX_EXTENDED_LENGTH, MAX_UNKNOWN_LENGTH};
use bt_types::MAX_REQUEST_LENGTH;
use proptest::prelude::*;

const RANGE: WireRequest = WireRequest { index: 1, offset: 0x4000, length: 0x0102_0304 };

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Checks that `message` encodes to `hex` and back, that every proper prefix is incomplete, and
/// that bytes after the message stay.
#[track_caller]
fn check(message: Message<'_>, hex: &str) {
    let wire = bytes(hex);
    let mut encoded = b"before".to_vec();
    message.encode(&mut encoded);
    assert_eq!(encoded, [b"before", &wire[..]].concat());
    for end in 0..wire.len() {
        let mut input = &wire[..end];
        assert_eq!(Message::decode(&mut input), Ok(None), "prefix of {end} bytes");
        assert_eq!(input.len(), end);
    }
    let mut input = &[&wire[..], b"x"].concat()[..];
    assert_eq!(Message::decode(&mut input), Ok(Some(message)));
    assert_eq!(input, b"x");
}

#[test]
fn every_message() {
    check(Message::KeepAlive, "00000000");
    check(Message::Choke, "00000001 00");
    check(Message::Unchoke, "00000001 01");
    check(Message::Interested, "00000001 02");
    check(Message::NotInterested, "00000001 03");
    check(Message::Have(0x0a0b), "00000005 04 00000a0b");
    check(Message::Bitfield(&[0xff, 0x80]), "00000003 05 ff80");
    check(Message::Bitfield(&[]), "00000001 05");
    check(Message::Request(RANGE), "0000000d 06 00000001 00004000 01020304");
    check(
        Message::Block { index: 1, offset: 2, bytes: b"data" },
        "0000000d 07 00000001 00000002 64617461",
    );
    check(Message::Block { index: 1, offset: 2, bytes: b"" }, "00000009 07 00000001 00000002");
    check(Message::Cancel(RANGE), "0000000d 08 00000001 00004000 01020304");
    check(Message::Port(6881), "00000003 09 1ae1");
    check(Message::Suggest(7), "00000005 0d 00000007");
    check(Message::HaveAll, "00000001 0e");
    check(Message::HaveNone, "00000001 0f");
    check(Message::Reject(RANGE), "0000000d 10 00000001 00004000 01020304");
    check(Message::AllowedFast(u32::MAX), "00000005 11 ffffffff");
    check(Message::Extended { id: 0, payload: b"de" }, "00000004 14 00 6465");
    check(Message::Extended { id: 3, payload: b"" }, "00000002 14 03");
    check(Message::Unknown { id: 21, payload: b"?" }, "00000002 15 3f");
    check(Message::Unknown { id: 0xff, payload: b"" }, "00000001 ff");
}

#[track_caller]
fn refused(hex: &str, expected: FrameError) {
    let wire = bytes(hex);
    let decoded = |end| Message::decode(&mut &wire[..end]);
    assert_eq!(decoded(wire.len()), Err(expected));
    assert_eq!(decoded(wire.len() - 1), Ok(None), "refused before the id is known");
}

/// Each row ends with the id, because only then is the length known to be wrong.
#[test]
fn every_wrong_length() {
    let fixed = |id, expected, got| FrameError::Length { id, expected, got };
    for id in [0, 1, 2, 3, 14, 15] {
        refused(&format!("00000002 {id:02x}"), fixed(id, 1, 2));
    }
    for id in [4, 13, 17] {
        refused(&format!("00000004 {id:02x}"), fixed(id, 5, 4));
        refused(&format!("00000006 {id:02x}"), fixed(id, 5, 6));
    }
    for id in [6, 8, 16] {
        refused(&format!("0000000c {id:02x}"), fixed(id, 13, 12));
        refused(&format!("ffffffff {id:02x}"), fixed(id, 13, u32::MAX));
    }
    refused("00000002 09", fixed(9, 3, 2));
    refused("00000008 07", FrameError::TooShort { id: 7, least: 9, got: 8 });
}

#[test]
fn every_limit_and_one_past_it() {
    for (id, fields, most) in [
        (id::BITFIELD, 1, MAX_BITFIELD_LENGTH),
        (id::BLOCK, 9, MAX_REQUEST_LENGTH),
        (id::EXTENDED, 2, MAX_EXTENDED_LENGTH),
        (21, 1, MAX_UNKNOWN_LENGTH - 1),
    ] {
        let limit = fields + most;
        let head = |length: u32| [&length.to_be_bytes()[..], &[id]].concat();
        assert_eq!(Message::decode(&mut &head(limit)[..]), Ok(None));
        let got = limit + 1;
        let error = FrameError::TooLong { id, limit, got };
        assert_eq!(Message::decode(&mut &head(got)[..]), Err(error));
    }
}

proptest! {
    #[test]
    fn encoded_messages_decode_to_same_message(
        index: u32, offset: u32, length: u32, id in 21_u8.., port: u16,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (payload, range) = (&payload[..], WireRequest { index, offset, length });
        for message in [
            Message::Have(index), Message::Suggest(index), Message::AllowedFast(index),
            Message::Request(range), Message::Cancel(range), Message::Reject(range),
            Message::Port(port), Message::Bitfield(payload),
            Message::Block { index, offset, bytes: payload },
            Message::Extended { id, payload }, Message::Unknown { id, payload },
        ] {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let mut input = &bytes[..];
            prop_assert_eq!(Message::decode(&mut input), Ok(Some(message)));
            prop_assert!(input.is_empty());
        }
    }
}

//! The metadata extension and peer exchange, through connections.

use std::borrow::Cow;

use peer_wire::{
    Connection, ExtensionHandshake, Extensions, MAX_METADATA_REQUESTS, MESSAGE_BURST,
    METADATA_PIECE_LENGTH, MIN_MESSAGE_COST, Message, MetadataMessage, PEX_LENGTH, Pex, PexFlags,
    PexPeer, Received, Reserved, Rule, UT_METADATA_ID, UT_PEX_ID,
};

use crate::util::{Event, breaks, open_without_geometry, receive, receive_one, sent, wire};

const BOTH: Extensions = Extensions { metadata: true, pex: true };
/// What is left of the message budget after the peer's extension handshake, in bytes.
const BURST: u64 = MESSAGE_BURST - MIN_MESSAGE_COST;
const PIECE: [u8; METADATA_PIECE_LENGTH as usize] = [b'e'; METADATA_PIECE_LENGTH as usize];

/// An extension handshake with these ids of `ut_metadata` and `ut_pex`.
fn hello(metadata: u8, pex: u8) -> ExtensionHandshake {
    let messages = [("ut_metadata".to_owned(), metadata), ("ut_pex".to_owned(), pex)].into();
    ExtensionHandshake { messages, ..ExtensionHandshake::default() }
}

fn ours(extensions: Extensions) -> ExtensionHandshake {
    ExtensionHandshake { messages: extensions.messages(), ..ExtensionHandshake::default() }
}

/// Makes a connection whose ends have offered everything, the peer with the ids 7 and 8.
fn offered() -> Connection {
    let mut connection = open_without_geometry(Reserved::OURS);
    connection.extension_handshake(&ours(BOTH));
    let payload = hello(7, 8).encode();
    let _ = receive_one(&mut connection, Message::Extended { id: 0, payload: &payload });
    sent(&mut connection);
    connection
}

fn data(piece: u32, bytes: &[u8]) -> MetadataMessage<'_> {
    MetadataMessage::Data { piece, total_size: Some(99), bytes: Cow::Borrowed(bytes) }
}

/// Returns the bytes of a message of the metadata extension under `id`.
fn metadata(id: u8, message: &MetadataMessage<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    message.encode(&mut payload);
    wire(Message::Extended { id, payload: &payload })
}

fn some_pex() -> Pex {
    let peer = |host| ([192, 0, 2, host], 6881).into();
    let flags = PexFlags::SEED.with(PexFlags::REACHABLE);
    Pex { added: vec![PexPeer { address: peer(1), flags }], dropped: vec![peer(2)] }
}

#[test]
fn our_ids() {
    assert_eq!((UT_PEX_ID, UT_METADATA_ID), (1, 2));
    let ids = |metadata, pex| {
        let handshake = ours(Extensions { metadata, pex });
        assert_eq!(handshake.messages.len(), 2);
        (handshake.id_of("ut_metadata"), handshake.id_of("ut_pex"))
    };
    assert_eq!(ids(true, true), (Some(2), Some(1)));
    assert_eq!(ids(true, false), (Some(2), None));
    assert_eq!(ids(false, false), (None, None));
}

#[test]
fn messages_use_ids_of_peer() {
    let mut connection = offered();
    assert_eq!(connection.peer_extensions(), BOTH);
    assert!(connection.metadata_request(5));
    assert!(connection.metadata_data(6, 99, b"bytes"));
    assert!(connection.metadata_reject(7));
    assert!(connection.pex(&some_pex()));
    let pex = wire(Message::Extended { id: 8, payload: &some_pex().encode() });
    let expected = [
        metadata(7, &MetadataMessage::Request { piece: 5 }),
        metadata(7, &data(6, b"bytes")),
        metadata(7, &MetadataMessage::Reject { piece: 7 }),
        pex,
    ];
    let expected = expected.concat();
    assert_eq!(connection.pending_messages(), expected.len());
    assert_eq!(sent(&mut connection), expected);
    assert_eq!(connection.pending_messages(), 0);
}

#[test]
fn nothing_is_sent_unless_named() {
    let plain = open_without_geometry(Reserved::NONE);
    let silent = open_without_geometry(Reserved::OURS);
    let mut refused = offered();
    for (payload, extensions) in [
        (hello(0, 9).encode(), Extensions { metadata: false, pex: true }),
        (b"d1:md6:ut_pexi0eee".to_vec(), Extensions::default()),
    ] {
        let _ = receive_one(&mut refused, Message::Extended { id: 0, payload: &payload });
        assert_eq!(refused.peer_extensions(), extensions);
    }
    let mut closed = offered();
    let _ = receive(&mut closed, &[0, 0, 0, 9, 0]);
    assert!(closed.is_closed());
    for mut connection in [plain, silent, refused, closed] {
        assert!(!connection.metadata_request(0) && !connection.metadata_reject(0));
        assert!(!connection.metadata_data(0, 1, b"x") && !connection.pex(&some_pex()));
        assert_eq!(sent(&mut connection), []);
    }
}

#[test]
fn later_handshake_may_hold_changes_only() {
    let mut connection = offered();
    let payload = b"d1:md11:ut_metadatai9eee1:pi1ee";
    let _ = receive_one(&mut connection, Message::Extended { id: 0, payload });
    let _ = receive_one(&mut connection, Message::Extended { id: 0, payload: b"de" });
    assert!(connection.metadata_reject(0) && connection.pex(&some_pex()));
    let pex = wire(Message::Extended { id: 8, payload: &some_pex().encode() });
    let reject = metadata(9, &MetadataMessage::Reject { piece: 0 });
    assert_eq!(sent(&mut connection), [reject, pex].concat());
}

#[test]
fn messages_are_recognised_by_our_ids() {
    let mut connection = offered();
    assert!(connection.metadata_request(0));
    for message in [
        MetadataMessage::Request { piece: u32::MAX },
        data(0, &PIECE),
        data(1, b"unrequested"),
        MetadataMessage::Reject { piece: 3 },
    ] {
        let events = receive(&mut connection, &metadata(UT_METADATA_ID, &message));
        assert_eq!(events, [Event::Received(Received::Metadata(message.into_owned()))]);
    }
    let payload = &some_pex().encode();
    let received = receive_one(&mut connection, Message::Extended { id: UT_PEX_ID, payload });
    assert_eq!(received, Received::Pex(some_pex()));
    let other = Message::Extended { id: 3, payload };
    let expected = Received::Extended { id: 3, payload: payload.clone() };
    assert_eq!(receive_one(&mut connection, other), expected);
}

#[test]
fn unoffered_messages_stay_unread() {
    let mut connection = open_without_geometry(Reserved::OURS);
    let payload = b"d8:msg_typei0e5:piecei0ee";
    for id in [UT_PEX_ID, UT_METADATA_ID] {
        let received = receive_one(&mut connection, Message::Extended { id, payload });
        assert_eq!(received, Received::Extended { id, payload: payload.to_vec() });
    }
    // A later handshake takes an offer back, and one without names changes nothing.
    let mut connection = offered();
    connection.extension_handshake(&ExtensionHandshake::default());
    connection.extension_handshake(&ours(Extensions { metadata: true, pex: false }));
    let pex = Message::Extended { id: UT_PEX_ID, payload };
    assert!(matches!(receive_one(&mut connection, pex), Received::Extended { .. }));
    let request = Message::Extended { id: UT_METADATA_ID, payload };
    assert!(matches!(receive_one(&mut connection, request), Received::Metadata(_)));
}

#[test]
fn whole_data_is_borrowed() {
    let mut connection = offered();
    connection.metadata_request(0);
    connection.metadata_request(1);
    let bytes = [0, 1].map(|piece| metadata(UT_METADATA_ID, &data(piece, &PIECE))).concat();
    let held = connection.buffered();
    let mut input = &bytes[..];
    for number in 0..2 {
        let Some(Received::Metadata(MetadataMessage::Data { piece, bytes, .. })) =
            connection.receive(crate::util::NOW, &mut input)
        else {
            panic!("expected data")
        };
        assert_eq!(piece, number);
        assert!(matches!(bytes, Cow::Borrowed(bytes) if bytes == PIECE));
        assert_eq!(connection.buffered(), held);
    }
}

#[test]
fn malformed_messages_are_ignored() {
    for (id, payload) in [
        (UT_METADATA_ID, &b""[..]),
        (UT_METADATA_ID, b"garbage"),
        (UT_METADATA_ID, &PIECE),
        (UT_METADATA_ID, b"d8:msg_typei1e5:piecei0ee"),
        (UT_METADATA_ID, &[&b"d8:msg_typei1e5:piecei0eex"[..], &PIECE].concat()),
        (UT_METADATA_ID, b"d8:msg_typei9e5:piecei0ee"),
        (UT_PEX_ID, b"garbage"),
        (UT_PEX_ID, b"le"),
        (UT_PEX_ID, &[b'0'; PEX_LENGTH as usize + 1]),
    ] {
        let mut connection = offered();
        connection.metadata_request(0);
        assert_eq!(receive(&mut connection, &wire(Message::Extended { id, payload })), []);
        assert_eq!(receive_one(&mut connection, Message::Choke), Received::Choke);
    }
}

#[test]
fn requested_metadata_is_no_flood() {
    let mut connection = offered();
    // 32 MiB, the longest metadata.
    for piece in 0..2048 {
        assert!(connection.metadata_request(piece));
        sent(&mut connection);
        let events = receive(&mut connection, &metadata(UT_METADATA_ID, &data(piece, &PIECE)));
        assert_eq!(events.len(), 1);
        assert!(connection.is_open(), "piece {piece}");
    }
    // Nothing of it was charged: the whole budget is left.
    let burst = wire(Message::KeepAlive).repeat((BURST / MIN_MESSAGE_COST) as usize);
    let _ = receive(&mut connection, &burst);
    breaks(&mut connection, &wire(Message::KeepAlive), Rule::Flood);
}

#[test]
fn rejects_of_requests_are_no_flood() {
    let mut connection = offered();
    let reject = metadata(UT_METADATA_ID, &MetadataMessage::Reject { piece: 3 });
    for _ in 0..2 * BURST / MIN_MESSAGE_COST {
        assert!(connection.metadata_request(3));
        connection.transmitted(usize::MAX);
        let _ = receive(&mut connection, &reject);
    }
    assert!(connection.is_open());
}

#[test]
fn unrequested_metadata_is_flood() {
    let request = metadata(UT_METADATA_ID, &MetadataMessage::Request { piece: 0 });
    let reject = metadata(UT_METADATA_ID, &MetadataMessage::Reject { piece: 0 });
    let unasked = metadata(UT_METADATA_ID, &data(1, &PIECE));
    let useless = wire(Message::Extended { id: UT_METADATA_ID, payload: &PIECE });
    let pex = wire(Message::Extended { id: UT_PEX_ID, payload: &some_pex().encode() });
    for message in [request, reject, unasked, useless, pex] {
        let mut connection = offered();
        let cost = (message.len() as u64 - 6).max(MIN_MESSAGE_COST);
        let allowed = (BURST / cost) as usize;
        connection.metadata_request(2);
        let _ = receive(&mut connection, &message.repeat(allowed));
        assert!(connection.is_open());
        breaks(&mut connection, &message, Rule::Flood);
    }
}

#[test]
fn remembered_metadata_requests_are_limited() {
    let mut connection = offered();
    let held = connection.buffered();
    let count = MAX_METADATA_REQUESTS as u32 + 1;
    assert!((0..count).all(|piece| connection.metadata_request(piece)));
    sent(&mut connection);
    assert!(connection.buffered() <= held + 8 * MAX_METADATA_REQUESTS + 2048);
    // The budget is spent, so a forgotten request is a flood.
    let burst = wire(Message::KeepAlive).repeat((BURST / MIN_MESSAGE_COST) as usize);
    let _ = receive(&mut connection, &burst);
    for piece in 1..count {
        let _ = receive(&mut connection, &metadata(UT_METADATA_ID, &data(piece, b"x")));
    }
    assert!(connection.is_open());
    breaks(&mut connection, &metadata(UT_METADATA_ID, &data(0, b"x")), Rule::Flood);
}

//! Each rule of the protocol, broken once.

use std::time::Duration;

use peer_wire::{
    Connection, InfoHashV1, MAX_QUEUED_REQUESTS, MAX_STRAY_REJECTS, MAX_UNKNOWN_LENGTH, MAX_UNREAD,
    MAX_UNREQUESTED, MESSAGE_BURST, MESSAGE_RATE, MIN_MESSAGE_COST, Message, PeerId, Received,
    Reserved, Rule, WireRequest,
};

use crate::util::{
    Event, NOW, block, block_message, breaks, handshake, open, open_without_geometry, receive,
    receive_one, sent, wire,
};

const PLAIN: Reserved = Reserved::NONE;
const FAST: Reserved = Reserved::OURS;

/// How many short useless messages may come at once.
const BURST: usize = (MESSAGE_BURST / MIN_MESSAGE_COST) as usize;

/// A range outside all pieces.
const NOWHERE: WireRequest = WireRequest { index: 3, offset: 0x4000, length: 0x4000 };

#[test]
fn not_bittorrent() {
    for bytes in [&b"\x12"[..], b"GET / HTTP/1.1", b"\x13BitTorrent protocoL"] {
        breaks(&mut Connection::incoming(NOW), bytes, Rule::NotBitTorrent);
        let mut outgoing = Connection::outgoing(NOW, handshake(1, FAST), None);
        breaks(&mut outgoing, bytes, Rule::NotBitTorrent);
    }
}

#[test]
fn wrong_info_hash() {
    let ours = handshake(1, FAST);
    let mut theirs = handshake(2, FAST);
    theirs.info_hash = InfoHashV1([8; 20]);
    let rule = Rule::WrongInfoHash { expected: ours.info_hash, got: theirs.info_hash };
    breaks(&mut Connection::outgoing(NOW, ours, None), &theirs.encode(), rule);
}

#[test]
fn wrong_peer_id() {
    let (expected, theirs) = (PeerId([3; 20]), handshake(2, FAST));
    let mut connection = Connection::outgoing(NOW, handshake(1, FAST), Some(expected));
    let rule = Rule::WrongPeerId { expected, got: theirs.peer_id };
    breaks(&mut connection, &theirs.encode(), rule);
}

#[test]
fn fast_messages_need_fast_extension() {
    for (id, message) in [
        (13, Message::Suggest(0)),
        (14, Message::HaveAll),
        (15, Message::HaveNone),
        (16, Message::Reject(block(0, 0).into())),
        (17, Message::AllowedFast(0)),
    ] {
        breaks(&mut open(PLAIN), &wire(message), Rule::FastIsOff { id });
        assert!(!matches!(
            receive(&mut open(FAST), &wire(message)).as_slice(),
            [.., crate::util::Event::Received(Received::Misbehaved(_))]
        ));
    }
}

#[test]
fn bitfields_of_wrong_length() {
    for bytes in [&[][..], &[0, 0]] {
        let rule = Rule::BitfieldLength { expected: 1, got: bytes.len() as u32 };
        breaks(&mut open(FAST), &wire(Message::Bitfield(bytes)), rule);
    }
}

#[test]
fn spare_bits_are_cleared() {
    for spare in 0..4 {
        let bitfield = wire(Message::Bitfield(&[0xa0 | 1 << spare]));
        assert_eq!(receive(&mut open(PLAIN), &bitfield), [Event::Bitfield(vec![0xa0])]);
    }
}

#[test]
fn spare_bits_spend_message_budget() {
    let (odd, even) = (wire(Message::Bitfield(&[0xf1])), wire(Message::Bitfield(&[0xf0])));
    let keep_alives = wire(Message::KeepAlive).repeat(BURST);
    for (bitfield, stays) in [(odd, false), (even, true)] {
        let mut connection = open(PLAIN);
        let _ = receive(&mut connection, &keep_alives);
        let _ = receive(&mut connection, &bitfield);
        assert_eq!(connection.is_open(), stays);
    }
}

#[test]
fn repeated_bitfields_are_limited() {
    let bitfield = Message::Bitfield(&[0xf0]);
    for (id, message) in [(5, bitfield), (14, Message::HaveAll), (15, Message::HaveNone)] {
        let mut connection = open(FAST);
        let _ = receive_one(&mut connection, Message::Have(0));
        // Each costs 64 bytes of the budget of 256 KiB.
        let allowed = wire(message).repeat(4096);
        let events = receive(&mut connection, &allowed);
        assert_eq!(events.len(), 4096);
        assert!(connection.is_open());
        breaks(&mut connection, &wire(message), Rule::RepeatedBitfield { id });
    }
    // Other messages often come first.
    let mut connection = open(FAST);
    let _ = receive_one(&mut connection, Message::Extended { id: 0, payload: b"de" });
    let _ = receive_one(&mut connection, Message::Unchoke);
    assert_eq!(receive_one(&mut connection, Message::HaveAll), Received::HaveAll);
}

#[test]
fn useless_messages_are_limited() {
    let cancel = Message::Cancel(block(0, 0).into());
    let many = [
        Message::KeepAlive,
        Message::Choke,
        Message::NotInterested,
        Message::Port(1),
        Message::Suggest(0),
        Message::AllowedFast(0),
        Message::Unknown { id: 99, payload: &[7; MIN_MESSAGE_COST as usize] },
        Message::Extended { id: 1, payload: &[7; MIN_MESSAGE_COST as usize] },
        Message::Extended { id: 0, payload: b"de" },
        Message::Extended { id: 0, payload: b"garbage" },
        cancel,
    ];
    for message in many {
        let mut connection = open(FAST);
        let allowed = wire(message).repeat(BURST);
        let _ = receive(&mut connection, &allowed);
        assert!(connection.is_open(), "{message:?}");
        breaks(&mut connection, &wire(message), Rule::Flood);
    }
    // Void requests to a choking client without the fast extension are useless too.
    let mut connection = open(PLAIN);
    let request = wire(Message::Request(block(0, 0).into()));
    let _ = receive(&mut connection, &request.repeat(BURST + 1));
    breaks(&mut connection, &request, Rule::Flood);
}

#[test]
fn long_useless_messages_cost_their_length() {
    let mut connection = open(FAST);
    let payload = vec![7; MAX_UNKNOWN_LENGTH as usize - 1];
    let longest = wire(Message::Unknown { id: 99, payload: &payload });
    let _ =
        receive(&mut connection, &longest.repeat((MESSAGE_BURST / payload.len() as u64) as usize));
    assert!(connection.is_open());
    breaks(&mut connection, &longest[..5], Rule::Flood);
}

#[test]
fn one_have_per_piece_is_free() {
    let mut connection = open(FAST);
    let allowed = BURST + 4;
    let have = wire(Message::Have(0));
    assert_eq!(receive(&mut connection, &have.repeat(allowed)).len(), allowed);
    breaks(&mut connection, &have, Rule::Flood);
}

#[test]
fn two_interest_changes_per_piece_are_free() {
    let mut connection = open(FAST);
    let change = [wire(Message::Interested), wire(Message::NotInterested)].concat();
    // The torrent has 4 pieces.
    let allowed = BURST + 2 * 4;
    let events = receive(&mut connection, &change.repeat(allowed / 2));
    assert_eq!(events.len(), allowed);
    breaks(&mut connection, &change, Rule::Flood);
}

#[test]
fn message_budget_refills() {
    let mut connection = open(FAST);
    let burst = wire(Message::KeepAlive).repeat(BURST);
    let _ = receive(&mut connection, &burst);
    let second = wire(Message::KeepAlive).repeat((MESSAGE_RATE / MIN_MESSAGE_COST) as usize);
    let mut input = &second[..];
    while let Some(received) = connection.receive(NOW + Duration::from_secs(1), &mut input) {
        assert_eq!(received, Received::KeepAlive);
    }
    breaks(&mut connection, &wire(Message::KeepAlive), Rule::Flood);
}

#[test]
fn nonexistent_pieces() {
    for (id, message) in
        [(4, Message::Have(4)), (13, Message::Suggest(4)), (17, Message::AllowedFast(4))]
    {
        breaks(&mut open(FAST), &wire(message), Rule::NoSuchPiece { id, index: 4, count: 4 });
    }
}

#[test]
fn nonexistent_ranges() {
    for message in [Message::Request(NOWHERE), Message::Cancel(NOWHERE)] {
        breaks(&mut open(FAST), &wire(message), Rule::NoSuchRange(NOWHERE));
    }
    let empty = WireRequest { length: 0, ..NOWHERE };
    breaks(&mut open(FAST), &wire(Message::Request(empty)), Rule::NoSuchRange(empty));
}

#[test]
fn request_before_geometry() {
    let request = Message::Request(block(0, 0).into());
    breaks(&mut open_without_geometry(FAST), &wire(request), Rule::EarlyRequest);
}

/// Makes a connection that serves the peer, and whose request queue is full.
fn with_full_queue(reserved: Reserved) -> Connection {
    let mut connection = open(reserved);
    connection.unchoke();
    let request = Message::Request(block(0, 0).into());
    for _ in 0..MAX_QUEUED_REQUESTS {
        assert_eq!(receive_one(&mut connection, request), Received::Request(block(0, 0)));
    }
    let _ = sent(&mut connection);
    connection
}

#[test]
fn requests_beyond_queue_are_rejected() {
    let request = block(3, 1).into();
    for (reserved, answer) in [(FAST, wire(Message::Reject(request))), (PLAIN, vec![])] {
        let mut connection = with_full_queue(reserved);
        assert_eq!(receive(&mut connection, &wire(Message::Request(request))), []);
        assert_eq!(sent(&mut connection), answer);
        assert_eq!(connection.unanswered(), MAX_QUEUED_REQUESTS);
        // One answer makes room for one request.
        assert!(connection.send_block(block(0, 0)));
        let received = receive_one(&mut connection, Message::Request(request));
        assert_eq!(received, Received::Request(block(3, 1)));
    }
}

#[test]
fn requests_beyond_queue_spend_budget() {
    let request = wire(Message::Request(block(0, 1).into()));
    for reserved in [FAST, PLAIN] {
        let mut connection = with_full_queue(reserved);
        for _ in 0..=BURST {
            assert_eq!(receive(&mut connection, &request), []);
            connection.transmitted(usize::MAX);
        }
        breaks(&mut connection, &request, Rule::Flood);
    }
}

#[test]
fn rejected_requests_spend_budget() {
    let mut connection = open(FAST);
    connection.unchoke();
    let request = wire(Message::Request(block(0, 1).into()));
    for _ in 0..=BURST {
        let _ = receive(&mut connection, &request);
        assert!(connection.reject(block(0, 1)));
        connection.transmitted(usize::MAX);
    }
    breaks(&mut connection, &request, Rule::Flood);
}

#[test]
fn requests_without_reading_answers() {
    let mut connection = open(FAST);
    let waiting = MAX_UNREAD / 9 * 9 + 9;
    (0..waiting / 9).for_each(|_| connection.have(block(0, 0).piece()));
    assert!(connection.buffered() < 3 * MAX_UNREAD);
    let request = wire(Message::Request(block(0, 0).into()));
    breaks(&mut connection, &request, Rule::NotReading { waiting });
}

#[test]
fn unrequested_blocks_break_rule() {
    let mut connection = open(FAST);
    connection.request(block(0, 0));
    let other = block(0, 1);
    breaks(&mut connection, &block_message(other), Rule::UnrequestedBlock(other.into()));

    // The range must be that of a request.
    let mut connection = open(FAST);
    connection.request(block(0, 0));
    let half = WireRequest { index: 0, offset: 0, length: 0x2000 };
    let bytes = wire(Message::Block { index: 0, offset: 0, bytes: &[0; 0x2000] });
    breaks(&mut connection, &bytes, Rule::UnrequestedBlock(half));

    // Without the fast extension some are skipped.
    let mut connection = open(PLAIN);
    for _ in 0..MAX_UNREQUESTED / 0x4000 {
        assert_eq!(receive(&mut connection, &block_message(other)), []);
    }
    breaks(&mut connection, &block_message(other), Rule::UnrequestedBlock(other.into()));
}

#[test]
fn repeated_block_breaks_rule() {
    let mut connection = open(FAST);
    connection.request(block(0, 0));
    let bytes = block_message(block(0, 0));
    assert_eq!(receive(&mut connection, &bytes).len(), 1);
    breaks(&mut connection, &bytes, Rule::UnrequestedBlock(block(0, 0).into()));
}

#[test]
fn stray_rejects_are_limited() {
    let mut connection = open(FAST);
    let reject = wire(Message::Reject(block(0, 0).into()));
    for _ in 0..MAX_STRAY_REJECTS {
        assert_eq!(receive(&mut connection, &reject), []);
    }
    breaks(&mut connection, &reject, Rule::UnrequestedReject(block(0, 0).into()));
}

#[test]
fn invalid_extension_handshakes_are_ignored() {
    for payload in [&b"garbage"[..], b"", b"i5e", b"d1:md"] {
        let mut connection = open(FAST);
        let bytes = wire(Message::Extended { id: 0, payload });
        assert_eq!(receive(&mut connection, &bytes), []);
        assert_eq!(receive_one(&mut connection, Message::Choke), Received::Choke);
    }
    let nameless = Received::Unknown { id: 20, length: 0 };
    let events = receive(&mut open(FAST), &[0, 0, 0, 1, 20]);
    assert_eq!(events, [Event::Received(nameless)]);
}

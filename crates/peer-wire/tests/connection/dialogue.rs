//! Dialogues between two connections.

use std::collections::BTreeMap;

use peer_wire::{Bitfield, Connection, ExtensionHandshake, Message, Received, Reserved, Transmit};

use crate::util::{
    Event, NOW, block, block_message, data, geometry, handshake, open, open_without_geometry,
    receive, receive_one, sent, wire,
};

/// Makes both ends of an open connection.
fn pair(reserved: Reserved) -> (Connection, Connection) {
    let mut alice =
        Connection::outgoing(NOW, handshake(1, reserved), Some(handshake(2, reserved).peer_id));
    let mut bob = Connection::incoming(NOW);
    alice.set_geometry(geometry()).unwrap();
    let events = receive(&mut bob, &sent(&mut alice));
    assert_eq!(events, [Event::Received(Received::Handshake(handshake(1, reserved)))]);
    assert!(!bob.is_open() && bob.poll_transmit().is_none());
    bob.set_geometry(geometry()).unwrap();
    bob.accept(handshake(2, reserved));
    let events = receive(&mut alice, &sent(&mut bob));
    assert_eq!(events, [Event::Received(Received::Handshake(handshake(2, reserved)))]);
    assert!(alice.is_open() && bob.is_open());
    (alice, bob)
}

/// Sends everything that `from` has queued to `to`. Returns what `to` reports.
fn deliver(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    receive(to, &sent(from))
}

fn is(received: Received<'static>) -> Event {
    Event::Received(received)
}

fn download(reserved: Reserved) {
    let (mut alice, mut bob) = pair(reserved);
    assert_eq!(alice.fast(), reserved.supports_fast());
    bob.bitfield(&Bitfield::full(4));
    let all = if alice.fast() { is(Received::HaveAll) } else { Event::Bitfield(vec![0xf0]) };
    assert_eq!(deliver(&mut bob, &mut alice), [all]);
    alice.interested();
    assert_eq!(deliver(&mut alice, &mut bob), [is(Received::Interested)]);
    assert!(alice.am_interested() && bob.peer_interested());
    bob.unchoke();
    assert_eq!(deliver(&mut bob, &mut alice), [is(Received::Unchoke)]);
    assert!(!bob.am_choking() && !alice.peer_choking());

    let wanted: Vec<_> = geometry().pieces().flat_map(|piece| geometry().blocks(piece)).collect();
    assert!(wanted.iter().all(|request| alice.request(*request)));
    assert_eq!(alice.outstanding(), wanted.len());
    let requests: Vec<Event> = wanted.iter().map(|it| is(Received::Request(*it))).collect();
    assert_eq!(deliver(&mut alice, &mut bob), requests);
    assert_eq!(bob.unanswered(), wanted.len());

    assert!(wanted.iter().all(|request| bob.send_block(*request)));
    assert_eq!(bob.pending_payload(), geometry().total());
    let blocks: Vec<Event> = wanted.iter().map(|it| Event::Block(*it, data(*it))).collect();
    assert_eq!(deliver(&mut bob, &mut alice), blocks);
    assert_eq!((alice.outstanding(), bob.unanswered(), bob.pending_payload()), (0, 0, 0));
}

#[test]
fn whole_torrent_is_transferred() {
    download(Reserved::OURS);
    download(Reserved::NONE);
}

#[test]
fn extension_needs_support_of_both_sides() {
    let mut connection = Connection::outgoing(NOW, handshake(1, Reserved::OURS), None);
    let _ = receive(&mut connection, &handshake(2, Reserved::NONE).encode());
    assert!(connection.is_open() && !connection.fast() && !connection.extension_protocol());
    let mut connection = Connection::incoming(NOW);
    let _ = receive(&mut connection, &handshake(2, Reserved::OURS).encode());
    connection.accept(handshake(1, Reserved([0, 0, 0, 0, 0, 0, 0, 4])));
    assert!(connection.fast() && !connection.extension_protocol());
}

#[test]
fn nothing_is_read_before_accept() {
    let mut bob = Connection::incoming(NOW);
    let bytes = [&handshake(1, Reserved::OURS).encode()[..], &wire(Message::HaveNone)].concat();
    let mut input = &bytes[..];
    assert!(matches!(bob.receive(NOW, &mut input), Some(Received::Handshake(_))));
    assert_eq!(bob.receive(NOW, &mut input), None);
    assert_eq!(input.len(), 5);
    bob.accept(handshake(2, Reserved::OURS));
    assert_eq!(bob.receive(NOW, &mut input), Some(Received::HaveNone));
    assert_eq!(bob.receive(NOW, &mut input), None);
}

#[test]
fn messages_are_not_sent_before_handshake() {
    let mut bob = Connection::incoming(NOW);
    bob.choke();
    bob.unchoke();
    bob.interested();
    bob.bitfield(&Bitfield::full(4));
    bob.have(block(0, 0).piece());
    bob.keep_alive();
    bob.port(1);
    bob.accept(handshake(2, Reserved::OURS));
    assert!(!bob.request(block(0, 0)) && !bob.cancel(block(0, 0)) && !bob.send_block(block(0, 0)));
    assert_eq!(bob.poll_transmit(), None);
    assert!(bob.am_choking() && !bob.am_interested() && bob.handshake().is_none());
}

#[test]
fn unchanged_state_is_not_sent() {
    let mut connection = open(Reserved::OURS);
    connection.choke();
    connection.not_interested();
    assert_eq!(sent(&mut connection), []);
    connection.unchoke();
    connection.unchoke();
    connection.interested();
    connection.interested();
    let expected = [wire(Message::Unchoke), wire(Message::Interested)].concat();
    assert_eq!(sent(&mut connection), expected);
    connection.choke();
    connection.not_interested();
    let expected = [wire(Message::Choke), wire(Message::NotInterested)].concat();
    assert_eq!(sent(&mut connection), expected);
}

#[test]
fn bitfield_uses_shortest_message() {
    let some = Bitfield::from_bytes(&[0xa0], 4).unwrap();
    for (have, fast, plain) in [
        (Bitfield::new(4), wire(Message::HaveNone), vec![]),
        (Bitfield::full(4), wire(Message::HaveAll), wire(Message::Bitfield(&[0xf0]))),
        (Bitfield::new(0), wire(Message::HaveNone), vec![]),
        (some, wire(Message::Bitfield(&[0xa0])), wire(Message::Bitfield(&[0xa0]))),
    ] {
        for (reserved, expected) in [(Reserved::OURS, fast), (Reserved::NONE, plain)] {
            let mut connection = open(reserved);
            connection.bitfield(&have);
            connection.bitfield(&have);
            assert_eq!(sent(&mut connection), expected);
        }
    }
    let mut connection = open(Reserved::OURS);
    connection.have(block(0, 0).piece());
    connection.bitfield(&Bitfield::full(4));
    assert_eq!(sent(&mut connection), wire(Message::Have(0)));
}

#[test]
fn small_messages_form_one_slice() {
    let mut bob = open(Reserved::OURS);
    let (first, second) = (block(0, 0), block(0, 1));
    for request in [first, second] {
        let _ = receive(&mut bob, &wire(Message::Request(request.into())));
    }
    bob.unchoke();
    bob.have(first.piece());
    assert!(bob.send_block(first) && bob.send_block(second) && !bob.send_block(first));
    bob.interested();

    let small = [wire(Message::Unchoke), wire(Message::Have(0))].concat();
    let head = |request| block_message(request)[..13].to_vec();
    let (before, between) = ([small, head(first)].concat(), head(second));
    let after = wire(Message::Interested);
    let payload = |request, offset| Transmit::Payload { request, offset, length: 0x4000 - offset };
    assert_eq!(
        bob.transmits().collect::<Vec<_>>(),
        [
            Transmit::Bytes(&before),
            payload(first, 0),
            Transmit::Bytes(&between),
            payload(second, 0),
            Transmit::Bytes(&after),
        ]
    );

    bob.transmitted(3);
    assert_eq!(bob.poll_transmit(), Some(Transmit::Bytes(&before[3..])));
    bob.transmitted(before.len() - 3 + 100);
    assert_eq!(bob.poll_transmit(), Some(payload(first, 100)));
    assert_eq!(bob.pending_payload(), 0x8000 - 100);
    bob.have(block(1, 0).piece());
    bob.transmitted(0x4000 - 100 + 13 + 0x4000);
    let rest = [after, wire(Message::Have(1))].concat();
    assert_eq!(bob.poll_transmit(), Some(Transmit::Bytes(&rest)));
    bob.transmitted(usize::MAX);
    assert_eq!((bob.poll_transmit(), bob.pending_payload()), (None, 0));
}

#[test]
fn cancelled_block_may_still_come() {
    for reserved in [Reserved::OURS, Reserved::NONE] {
        let mut alice = open(reserved);
        let _ = receive_one(&mut alice, Message::Unchoke);
        let request = block(1, 0);
        assert!(alice.request(request) && alice.cancel(request) && !alice.cancel(request));
        assert_eq!((alice.outstanding(), alice.requests().count()), (0, 0));
        let messages = [Message::Request(request.into()), Message::Cancel(request.into())];
        assert_eq!(sent(&mut alice), messages.map(wire).concat());
        let events = receive(&mut alice, &block_message(request));
        assert_eq!(events, [Event::Block(request, data(request))]);
    }
}

#[test]
fn cancel_is_answered_with_reject() {
    for (reserved, answer) in [(Reserved::OURS, 17), (Reserved::NONE, 0)] {
        let (mut alice, mut bob) = pair(reserved);
        bob.unchoke();
        let _ = deliver(&mut bob, &mut alice);
        alice.request(block(0, 0));
        alice.cancel(block(0, 0));
        let expected = [Received::Request(block(0, 0)), Received::Cancel(block(0, 0))].map(is);
        assert_eq!(deliver(&mut alice, &mut bob), expected);
        assert_eq!(bob.unanswered(), 0);
        assert!(!bob.send_block(block(0, 0)) && !bob.reject(block(0, 0)));
        let bytes = sent(&mut bob);
        assert_eq!(bytes.len(), answer);
        assert_eq!(
            receive(&mut alice, &bytes),
            [],
            "the reject of a cancelled request is not reported"
        );
    }
}

#[test]
fn cancel_after_block_is_ignored() {
    let mut bob = open(Reserved::OURS);
    let request = block(0, 0);
    let _ = receive_one(&mut bob, Message::Request(request.into()));
    assert!(bob.send_block(request));
    assert_eq!(receive(&mut bob, &wire(Message::Cancel(request.into()))), []);
}

#[test]
fn reject_answers_cancelled_request_first() {
    let mut alice = open(Reserved::OURS);
    let request = block(0, 0);
    alice.request(request);
    alice.cancel(request);
    alice.request(request);
    assert_eq!(receive(&mut alice, &wire(Message::Reject(request.into()))), []);
    assert_eq!(alice.outstanding(), 1);
    let received = receive_one(&mut alice, Message::Reject(request.into()));
    assert_eq!((received, alice.outstanding()), (Received::Reject(request), 0));
}

#[test]
fn choke_without_fast_voids_requests() {
    let (mut alice, mut bob) = pair(Reserved::NONE);
    assert!(!alice.request(block(0, 0)), "the peer chokes us");
    bob.unchoke();
    let _ = deliver(&mut bob, &mut alice);
    assert!(alice.request(block(0, 0)));
    let crossing = sent(&mut alice);
    let _ = receive(&mut bob, &crossing);
    assert_eq!(bob.unanswered(), 1);
    bob.choke();
    assert!(!bob.send_block(block(0, 0)));
    assert_eq!(receive(&mut bob, &crossing), [], "it crossed our choke");
    assert_eq!(deliver(&mut bob, &mut alice), [is(Received::Choke)]);
    assert_eq!(alice.outstanding(), 0);
    // The block may be in flight already.
    let events = receive(&mut alice, &block_message(block(0, 0)));
    assert_eq!(events, [Event::Block(block(0, 0), data(block(0, 0)))]);
}

#[test]
fn choke_with_fast_sends_rejects() {
    let (mut alice, mut bob) = pair(Reserved::OURS);
    assert!(alice.request(block(0, 0)), "perhaps the piece is allowed fast");
    let _ = deliver(&mut alice, &mut bob);
    bob.unchoke();
    bob.choke();
    assert_eq!(bob.unanswered(), 0);
    let expected = [Received::Unchoke, Received::Choke, Received::Reject(block(0, 0))].map(is);
    assert_eq!(deliver(&mut bob, &mut alice), expected);
    assert_eq!(alice.outstanding(), 0);
}

#[test]
fn requests_are_returned_in_order() {
    let (mut alice, mut bob) = pair(Reserved::OURS);
    bob.unchoke();
    let wanted = [block(0, 1), block(3, 0), block(0, 0), block(0, 1)];
    wanted.iter().for_each(|request| assert!(alice.request(*request)));
    alice.cancel(block(0, 0));
    let _ = deliver(&mut alice, &mut bob);
    assert_eq!(bob.next_request(), Some(block(0, 1)));
    assert!(bob.send_block(block(0, 1)));
    assert_eq!(bob.next_request(), Some(block(3, 0)));
    assert_eq!((bob.next_request(), bob.next_request()), (Some(block(0, 1)), None));
    // Answers may be sent in another order.
    assert!(bob.send_block(block(0, 1)) && bob.send_block(block(3, 0)));
    assert_eq!(bob.unanswered(), 0);
}

#[test]
fn choke_keeps_requests_being_answered() {
    let (mut alice, mut bob) = pair(Reserved::OURS);
    bob.unchoke();
    let wanted = [block(0, 0), block(0, 1), block(1, 0)];
    wanted.iter().for_each(|request| assert!(alice.request(*request)));
    let _ = deliver(&mut alice, &mut bob);
    assert_eq!(bob.next_request(), Some(wanted[0]));
    bob.choke();
    assert_eq!((bob.next_request(), bob.unanswered()), (None, 1));
    let rejected = wanted[1..].iter().map(|request| Received::Reject(*request));
    let expected: Vec<_> =
        [Received::Unchoke, Received::Choke].into_iter().chain(rejected).collect();
    assert_eq!(deliver(&mut bob, &mut alice), expected.into_iter().map(is).collect::<Vec<_>>());
    assert!(bob.send_block(wanted[0]));
}

#[test]
fn blocks_may_come_in_any_order() {
    let mut alice = open(Reserved::OURS);
    let wanted = [block(0, 0), block(0, 1), block(1, 0), block(3, 1)];
    assert!(wanted.iter().all(|request| alice.request(*request)));
    for request in [wanted[2], wanted[0], wanted[3], wanted[1]] {
        let events = receive(&mut alice, &block_message(request));
        assert_eq!(events, [Event::Block(request, data(request))]);
    }
    assert_eq!(alice.outstanding(), 0);
}

#[test]
fn fast_messages() {
    let (mut alice, mut bob) = pair(Reserved::OURS);
    let piece = block(3, 0).piece();
    alice.allowed_fast(piece);
    alice.suggest(piece);
    alice.have(piece);
    let expected = [Received::AllowedFast(piece), Received::Suggest(piece), Received::Have(piece)];
    assert_eq!(deliver(&mut alice, &mut bob), expected.map(is));
    let mut plain = open(Reserved::NONE);
    plain.allowed_fast(piece);
    plain.suggest(piece);
    assert_eq!(sent(&mut plain), []);
}

#[test]
fn extension_messages() {
    let (mut alice, mut bob) = pair(Reserved::OURS);
    let messages = BTreeMap::from([("ut_metadata".to_owned(), 2)]);
    let ours = ExtensionHandshake { messages, request_queue: Some(512), ..Default::default() };
    alice.extension_handshake(&ours);
    alice.extended(9, b"payload");
    alice.extended(9, b"");
    alice.port(6881);
    let extended = |payload: &[u8]| Received::Extended { id: 9, payload: payload.to_vec() };
    let handshake = Received::ExtensionHandshake(Box::new(ours.clone()));
    let expected = [handshake, extended(b"payload"), extended(b""), Received::Port(6881)];
    assert_eq!(deliver(&mut alice, &mut bob), expected.map(is));

    let mut plain = open(Reserved::NONE);
    plain.extension_handshake(&ours);
    plain.extended(9, b"payload");
    assert_eq!(sent(&mut plain), []);
    let received = receive_one(&mut plain, Message::Extended { id: 9, payload: b"abc" });
    assert_eq!(received, Received::Unknown { id: 20, length: 4 });
}

#[test]
fn pieces_are_unchecked_without_geometry() {
    let mut connection = open_without_geometry(Reserved::OURS);
    let far = 3;
    for message in [Message::Suggest(far), Message::AllowedFast(far)] {
        assert_eq!(receive_one(&mut connection, message), Received::Unchecked(message));
    }
    let events = receive(&mut connection, &wire(Message::Bitfield(&[0xff])));
    assert_eq!(events, [Event::Bitfield(vec![0xff])]);
    let have = Message::Have(far);
    assert_eq!(receive_one(&mut connection, have), Received::Unchecked(have));
    connection.set_geometry(geometry()).unwrap();
    let received = receive_one(&mut connection, Message::Have(3));
    assert_eq!(received, Received::Have(block(3, 0).piece()));
}

#[test]
fn unknown_messages_are_skipped() {
    let mut connection = open(Reserved::OURS);
    let unknown = wire(Message::Unknown { id: 21, payload: &[1; 1000] });
    let events = receive(&mut connection, &[unknown, wire(Message::Choke)].concat());
    let expected = [Received::Unknown { id: 21, length: 1000 }, Received::Choke].map(is);
    assert_eq!(events, expected);
}

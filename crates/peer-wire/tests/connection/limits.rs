//! The named limits: exactly the limit is accepted, and memory grows only with the bytes that came.

use peer_wire::{
    BlockRequest, Connection, FrameError, Geometry, HANDSHAKE_LENGTH, MAX_BITFIELD_LENGTH,
    MAX_EXTENDED_LENGTH, MAX_QUEUED_REQUESTS, MAX_REQUEST_LENGTH, MAX_REQUESTS, MAX_UNKNOWN_LENGTH,
    Message, Received, Reserved, Rule, WireRequest,
};

use crate::util::{
    Event, NOW, block, block_message, breaks, geometry, open, open_without_geometry, receive, wire,
};

/// Passes the longest message of a kind to a connection, which keeps no memory for it, and checks
/// that one byte more breaks the rule. Returns what was reported.
#[track_caller]
fn longest(mut connection: Connection, message: Message<'_>, longer: Message<'_>) -> Vec<Event> {
    let (message, longer, held) = (wire(message), wire(longer), connection.buffered());
    let events = receive(&mut connection, &message);
    assert_eq!(connection.buffered(), held, "nothing is kept");
    let limit = message.len() as u32 - 4;
    let rule = Rule::Frame(FrameError::TooLong { id: message[4], limit, got: limit + 1 });
    breaks(&mut connection, &longer, rule);
    events
}

#[test]
fn longest_extension_message() {
    let bytes = [7; MAX_EXTENDED_LENGTH as usize + 1];
    let (payload, longer) = (&bytes[1..], &bytes[..]);
    let [message, longer] = [payload, longer].map(|payload| Message::Extended { id: 1, payload });
    let events = longest(open(Reserved::OURS), message, longer);
    let payload = payload.to_vec();
    assert_eq!(events, [Event::Received(Received::Extended { id: 1, payload })]);
}

#[test]
fn extension_message_memory_grows_with_bytes() {
    let mut connection = open(Reserved::OURS);
    let empty = connection.buffered();
    let bytes = wire(Message::Extended { id: 1, payload: &vec![7; MAX_EXTENDED_LENGTH as usize] });
    assert_eq!(receive(&mut connection, &bytes[..6]), []);
    assert_eq!(connection.buffered(), empty);
    for (number, part) in bytes[6..].chunks(1000).enumerate() {
        let so_far = number * 1000;
        assert!(connection.buffered() <= empty + 2 * so_far);
        assert!(connection.buffered() <= empty + MAX_EXTENDED_LENGTH as usize);
        let _ = receive(&mut connection, part);
    }
    assert_eq!(connection.buffered(), empty);
}

#[test]
fn longest_unknown_message() {
    let bytes = vec![7; MAX_UNKNOWN_LENGTH as usize];
    let message = |payload| Message::Unknown { id: 99, payload };
    let events = longest(open(Reserved::OURS), message(&bytes[1..]), message(&bytes));
    let length = MAX_UNKNOWN_LENGTH - 1;
    assert_eq!(events, [Event::Received(Received::Unknown { id: 99, length })]);
}

#[test]
fn longest_bitfield() {
    let bits = vec![0xff; MAX_BITFIELD_LENGTH as usize + 1];
    let connection = open_without_geometry(Reserved::OURS);
    let events = longest(connection, Message::Bitfield(&bits[1..]), Message::Bitfield(&bits));
    assert_eq!(events, [Event::Bitfield(bits[1..].to_vec())]);
}

#[test]
fn longest_block() {
    let geometry = Geometry::new(1 << 20, 1 << 20).unwrap();
    let mut connection = open_without_geometry(Reserved::OURS);
    connection.set_geometry(geometry).unwrap();
    let request = geometry.request(0, 1, MAX_REQUEST_LENGTH).unwrap();
    assert!(connection.request(request));
    let data = vec![5; MAX_REQUEST_LENGTH as usize + 1];
    let message = |bytes| Message::Block { index: 0, offset: 1, bytes };
    let events = longest(connection, message(&data[1..]), message(&data));
    assert_eq!(events, [Event::Block(request, data[1..].to_vec())]);
}

#[test]
fn longest_request() {
    let geometry = Geometry::new(1 << 20, 1 << 20).unwrap();
    let mut connection = open_without_geometry(Reserved::OURS);
    connection.set_geometry(geometry).unwrap();
    let longest = WireRequest { index: 0, offset: 1, length: MAX_REQUEST_LENGTH };
    let request = geometry.request(0, 1, MAX_REQUEST_LENGTH).unwrap();
    let events = receive(&mut connection, &wire(Message::Request(longest)));
    assert_eq!(events, [Event::Received(Received::Request(request))]);
    let longer = WireRequest { length: MAX_REQUEST_LENGTH + 1, ..longest };
    breaks(&mut connection, &wire(Message::Request(longer)), Rule::NoSuchRange(longer));
}

#[test]
fn fixed_lengths_are_checked() {
    for (id, expected) in [(0, 1u32), (4, 5), (6, 13), (8, 13), (9, 3), (13, 5), (14, 1), (16, 13)]
    {
        for got in [expected - 1, expected + 1].into_iter().filter(|got| *got > 0) {
            let mut head = got.to_be_bytes().to_vec();
            head.push(id);
            let rule = Rule::Frame(FrameError::Length { id, expected, got });
            breaks(&mut open(Reserved::OURS), &head, rule);
        }
    }
    let rule = Rule::Frame(FrameError::TooShort { id: 7, least: 9, got: 8 });
    breaks(&mut open(Reserved::OURS), &[0, 0, 0, 8, 7], rule);
}

#[test]
fn own_requests_are_limited() {
    let mut connection = open(Reserved::OURS);
    for _ in 0..MAX_REQUESTS {
        assert!(connection.request(block(0, 0)));
    }
    assert!(!connection.request(block(0, 0)));
    assert_eq!(connection.outstanding(), MAX_REQUESTS);
    assert!(connection.cancel(block(0, 0)) && connection.request(block(0, 0)));
    let _ = receive(&mut connection, &block_message(block(0, 0)));
    assert!(connection.request(block(0, 0)));
}

#[test]
fn void_requests_are_remembered() {
    let mut connection = open(Reserved::OURS);
    for _ in 0..3 * MAX_REQUESTS {
        assert!(connection.request(block(0, 1)) && connection.cancel(block(0, 1)));
    }
    for _ in 0..MAX_REQUESTS {
        assert_eq!(receive(&mut connection, &block_message(block(0, 1))).len(), 1);
    }
    let rule = Rule::UnrequestedBlock(block(0, 1).into());
    breaks(&mut connection, &block_message(block(0, 1)), rule);
}

#[test]
fn queue_counts_as_memory() {
    let mut connection = open(Reserved::OURS);
    let empty = connection.buffered();
    let request = wire(Message::Request(block(0, 0).into()));
    let _ = receive(&mut connection, &request.repeat(MAX_QUEUED_REQUESTS));
    let queue = MAX_QUEUED_REQUESTS * size_of::<BlockRequest>();
    assert_eq!(connection.buffered() - empty, queue);
}

#[test]
fn idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 512, "{} bytes", size_of::<Connection>());
    let mut connection = open(Reserved::OURS);
    connection.set_geometry(geometry()).unwrap();
    assert!(connection.buffered() <= HANDSHAKE_LENGTH);
    let quiet = connection.poll_timeout().unwrap();
    assert_eq!(connection.handle_timeout(quiet), None);
    connection.transmitted(4);
    let _ = connection.receive(quiet, &mut &wire(Message::KeepAlive)[..]);
    let quiet = connection.poll_timeout().unwrap();
    let _ = connection.handle_timeout(quiet);
    assert!(connection.buffered() <= 8, "{} bytes", connection.buffered());
    assert!(quiet > NOW);
}

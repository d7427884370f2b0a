//! The named limits: exactly the limit is accepted, and memory grows only with the bytes that came.

use peer_wire::{
    BlockRequest, Connection, FrameError, Geometry, HANDSHAKE_LENGTH, MAX_BITFIELD_LENGTH,
    MAX_EXTENDED_LENGTH, MAX_QUEUED_REQUESTS, MAX_REQUEST_LENGTH, MAX_REQUESTS, MAX_UNKNOWN_LENGTH,
    Message, Received, Reserved, Rule, WireRequest,
};

use crate::util::{
    Event, NOW, block, block_message, breaks, geometry, open, open_without_geometry, receive, wire,
};

#[test]
fn longest_extension_message() {
    let payload = vec![7; MAX_EXTENDED_LENGTH as usize];
    let mut connection = open(Reserved::OURS);
    let events = receive(&mut connection, &wire(Message::Extended { id: 1, payload: &payload }));
    assert_eq!(events, [Event::Received(Received::Extended { id: 1, payload: payload.clone() })]);
    assert_eq!(connection.buffered(), 68, "only the buffer of our handshake is kept");

    let longer = [&payload[..], &[7]].concat();
    let (limit, got) = (MAX_EXTENDED_LENGTH + 2, MAX_EXTENDED_LENGTH + 3);
    let rule = Rule::Frame(FrameError::TooLong { id: 20, limit, got });
    breaks(&mut connection, &wire(Message::Extended { id: 1, payload: &longer }), rule);
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
    let mut connection = open(Reserved::OURS);
    let payload = vec![7; MAX_UNKNOWN_LENGTH as usize - 1];
    let bytes = wire(Message::Unknown { id: 99, payload: &payload });
    let length = payload.len() as u32;
    assert_eq!(
        receive(&mut connection, &bytes),
        [Event::Received(Received::Unknown { id: 99, length })]
    );
    assert_eq!(connection.buffered(), 68);

    let (limit, got) = (MAX_UNKNOWN_LENGTH, MAX_UNKNOWN_LENGTH + 1);
    let rule = Rule::Frame(FrameError::TooLong { id: 99, limit, got });
    let longer = [&payload[..], &[7]].concat();
    breaks(&mut connection, &wire(Message::Unknown { id: 99, payload: &longer }), rule);
}

#[test]
fn longest_bitfield() {
    let mut connection = open_without_geometry(Reserved::OURS);
    let bits = vec![0xff; MAX_BITFIELD_LENGTH as usize];
    let events = receive(&mut connection, &wire(Message::Bitfield(&bits)));
    assert_eq!(events, [Event::Bitfield(bits)]);
    assert_eq!(connection.buffered(), 68, "bitfields are not buffered");

    let (limit, got) = (MAX_BITFIELD_LENGTH + 1, MAX_BITFIELD_LENGTH + 2);
    let rule = Rule::Frame(FrameError::TooLong { id: 5, limit, got });
    let longer = vec![0xff; MAX_BITFIELD_LENGTH as usize + 1];
    breaks(&mut connection, &wire(Message::Bitfield(&longer)), rule);
}

#[test]
fn longest_block() {
    let geometry = Geometry::new(1 << 20, 1 << 20).unwrap();
    let mut connection = open_without_geometry(Reserved::OURS);
    connection.set_geometry(geometry);
    let request = geometry.request(0, 1, MAX_REQUEST_LENGTH).unwrap();
    assert!(connection.request(request));
    let data = vec![5; MAX_REQUEST_LENGTH as usize];
    let held = connection.buffered();
    let events =
        receive(&mut connection, &wire(Message::Block { index: 0, offset: 1, bytes: &data }));
    assert_eq!(events, [Event::Block(request, data)]);
    assert_eq!(connection.buffered(), held, "blocks are not buffered");

    let (limit, got) = (MAX_REQUEST_LENGTH + 9, MAX_REQUEST_LENGTH + 10);
    let rule = Rule::Frame(FrameError::TooLong { id: 7, limit, got });
    let longer = vec![5; MAX_REQUEST_LENGTH as usize + 1];
    let message = Message::Block { index: 0, offset: 1, bytes: &longer };
    breaks(&mut connection, &wire(message), rule);
}

#[test]
fn longest_request() {
    let geometry = Geometry::new(1 << 20, 1 << 20).unwrap();
    let mut connection = open_without_geometry(Reserved::OURS);
    connection.set_geometry(geometry);
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
    connection.set_geometry(geometry());
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

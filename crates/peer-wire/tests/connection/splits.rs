//! A stream gives the same messages however it is split.

use peer_wire::{Connection, Geometry, Message, Reserved, WireRequest};
use proptest::prelude::*;

use crate::util::{Collector, Event, NOW, block, block_message, geometry, handshake, wire};

/// Passes `bytes` to a connection in parts of the given lengths, which repeat. Returns what the
/// connection reports.
fn reported(bytes: &[u8], reserved: Reserved, lengths: &[usize]) -> Collector {
    let mut connection = Connection::outgoing(NOW, handshake(1, reserved), None);
    connection.set_geometry(Geometry::new(80 * 0x8000, 0x8000).unwrap());
    let mut collector = Collector::default();
    let (start, mut rest) = bytes.split_at(68.min(bytes.len()));
    collector.receive(&mut connection, start);
    for request in wanted() {
        connection.request(request);
    }
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let (part, later) = rest.split_at((*lengths.next().unwrap()).clamp(1, rest.len()));
        collector.receive(&mut connection, part);
        rest = later;
    }
    collector
}

fn wanted() -> Vec<peer_wire::BlockRequest> {
    geometry().pieces().flat_map(|piece| geometry().blocks(piece)).take(6).collect()
}

/// Generates messages, most of them legal. An illegal one closes the connection.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let small = prop::sample::select(vec![
        Message::KeepAlive,
        Message::Choke,
        Message::Unchoke,
        Message::Interested,
        Message::NotInterested,
        Message::Have(3),
        Message::HaveAll,
        Message::Port(9),
        Message::Suggest(79),
        Message::AllowedFast(80),
        Message::Request(WireRequest::from(block(2, 0))),
        Message::Cancel(WireRequest::from(block(2, 0))),
        Message::Reject(WireRequest::from(block(0, 0))),
        Message::Bitfield(&[0xa5; 10]),
        Message::Extended { id: 0, payload: b"d1:pi6881ee" },
        Message::Extended { id: 0, payload: b"oops" },
        Message::Extended { id: 3, payload: &[9; 500] },
        Message::Unknown { id: 50, payload: &[8; 700] },
    ]);
    prop_oneof![
        8 => small.prop_map(wire),
        6 => prop::sample::select(wanted()).prop_map(block_message),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

fn stream() -> impl Strategy<Value = (Vec<u8>, Reserved)> {
    let reserved = prop::sample::select(vec![Reserved::OURS, Reserved::NONE]);
    (prop::collection::vec(message(), 0..20), reserved).prop_map(|(messages, reserved)| {
        let theirs = handshake(2, reserved).encode();
        ([&theirs[..], &messages.concat()].concat(), reserved)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_split_gives_same_messages(
        (bytes, reserved) in stream(),
        lengths in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..40_000], 1..8),
    ) {
        let whole = reported(&bytes, reserved, &[usize::MAX]);
        let split = reported(&bytes, reserved, &lengths);
        prop_assert_eq!(whole.events, split.events);
        prop_assert_eq!(whole.partial, split.partial);
    }
}

#[test]
fn single_bytes_give_same_messages() {
    let wanted = wanted();
    let blocks = wanted.iter().flat_map(|request| block_message(*request));
    let front = [Message::Bitfield(&[0xff; 10]), Message::Unchoke, Message::Have(7)];
    let theirs = handshake(2, Reserved::OURS).encode();
    let bytes: Vec<u8> = theirs.into_iter().chain(front.map(wire).concat()).chain(blocks).collect();
    let whole = reported(&bytes, Reserved::OURS, &[usize::MAX]);
    assert_eq!(whole.events.len(), 1 + 3 + wanted.len());
    assert_eq!(reported(&bytes, Reserved::OURS, &[1]).events, whole.events);
}

#[test]
fn spare_bits_are_dropped_when_split() {
    let connection = || {
        let mut connection = crate::util::open_without_geometry(Reserved::OURS);
        connection.set_geometry(Geometry::new(20, 1).unwrap());
        connection
    };
    let bytes = wire(Message::Bitfield(&[0xff, 0xff, 0xff]));
    for lengths in [vec![8], vec![7, 1], vec![6, 2], vec![1; 8]] {
        let (mut collector, mut connection) = (Collector::default(), connection());
        let mut rest = &bytes[..];
        for length in lengths {
            let (part, later) = rest.split_at(length);
            collector.receive(&mut connection, part);
            rest = later;
        }
        assert_eq!(collector.events, [Event::Bitfield(vec![0xff, 0xff, 0xf0])]);
    }
}

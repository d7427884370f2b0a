//! A stream gives the same messages however it is split.

use peer_wire::{Geometry, Message, Reserved, UT_METADATA_ID, UT_PEX_ID, WireRequest};
use proptest::prelude::*;

use crate::fuzz;
use crate::util::{Collector, Event, open_without_geometry, wire};

/// A block of the torrent of `fuzz::splits`, which has five pieces of 8 bytes.
const BLOCK: WireRequest = WireRequest { index: 2, offset: 0, length: 8 };

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
        Message::Suggest(4),
        Message::AllowedFast(5),
        Message::Request(BLOCK),
        Message::Cancel(BLOCK),
        Message::Reject(BLOCK),
        Message::Bitfield(&[0xa5]),
        Message::Extended { id: 0, payload: b"d1:pi6881ee" },
        Message::Extended { id: 0, payload: b"oops" },
        Message::Extended { id: 3, payload: &[9; 500] },
        Message::Extended { id: UT_PEX_ID, payload: b"d5:added6:abcdef7:added.f1:x6:added60:e" },
        Message::Extended { id: UT_METADATA_ID, payload: b"d8:msg_typei0e5:piecei0ee" },
        Message::Extended { id: UT_METADATA_ID, payload: b"d8:msg_typei1e5:piecei0eebytes" },
        Message::Extended { id: UT_METADATA_ID, payload: b"d8:msg_typei1e5:pi" },
        Message::Unknown { id: 50, payload: &[8; 700] },
    ]);
    let block = |index| Message::Block { index, offset: 0, bytes: b"8 bytes." };
    prop_oneof![
        8 => small.prop_map(wire),
        6 => (0..4_u32).prop_map(move |index| wire(block(index))),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_split_gives_same_messages(
        choices: [u8; 5],
        messages in prop::collection::vec(message(), 0..20),
    ) {
        fuzz::splits(&[&choices[..], &messages.concat()].concat());
    }
}

#[test]
fn spare_bits_are_dropped_when_split() {
    let bytes = wire(Message::Bitfield(&[0xff, 0xff, 0xff]));
    for lengths in [vec![8], vec![7, 1], vec![6, 2], vec![1; 8]] {
        let mut connection = open_without_geometry(Reserved::OURS);
        connection.set_geometry(Geometry::new(20, 1).unwrap()).unwrap();
        let mut collector = Collector::default();
        let mut rest = &bytes[..];
        for length in lengths {
            let (part, later) = rest.split_at(length);
            collector.receive(&mut connection, part);
            rest = later;
        }
        assert_eq!(collector.events, [Event::Bitfield(vec![0xff, 0xff, 0xf0])]);
    }
}

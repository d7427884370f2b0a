//! What peers say of pieces before their number is known, and how it is checked afterwards.

use peer_wire::{
    BITFIELD_BURST, Connection, MAX_BITFIELD_LENGTH, Message, Received, Reserved, Rule,
};

use crate::util::{
    Event, block, breaks, geometry, open, open_without_geometry, receive, receive_one, wire,
};

/// One past the largest index of a piece.
const MAX_PIECES: u32 = MAX_BITFIELD_LENGTH * 8;

fn messages(messages: &[Message<'_>]) -> Vec<u8> {
    messages.iter().flat_map(|message| wire(*message)).collect()
}

/// Sets the geometry of `connection`. Returns the rule that the peer has broken.
fn learn(connection: &mut Connection) -> Option<Rule> {
    let rule = connection.set_geometry(geometry()).err();
    assert_eq!(connection.is_closed(), rule.is_some());
    rule
}

#[test]
fn late_check_equals_early_check() {
    let wrong = Message::Bitfield(&[0, 0]);
    let cases: [&[Message<'_>]; 10] = [
        &[Message::Have(3), Message::Suggest(3), Message::AllowedFast(0)],
        &[Message::HaveNone, Message::Have(4)],
        &[Message::Suggest(4), Message::Have(3)],
        &[Message::AllowedFast(MAX_PIECES - 1)],
        &[Message::Bitfield(&[0xf0]), Message::Have(1), Message::Bitfield(&[0x80])],
        &[Message::Bitfield(&[])],
        &[wrong],
        &[Message::Bitfield(&[0xf0]), wrong],
        &[wrong, Message::Bitfield(&[0xf0])],
        &[Message::HaveAll, Message::Unchoke],
    ];
    for case in cases {
        let mut early = open(Reserved::OURS);
        let broken =
            receive(&mut early, &messages(case)).into_iter().find_map(|event| match event {
                Event::Received(Received::Misbehaved(rule)) => Some(rule),
                _ => None,
            });
        let mut late = open_without_geometry(Reserved::OURS);
        let _ = receive(&mut late, &messages(case));
        assert!(late.is_open(), "{case:?}");
        assert_eq!(learn(&mut late), broken, "{case:?}");
    }
}

#[test]
fn geometry_may_come_inside_bitfield() {
    for (bytes, broken) in [(&[0xff, 0xff][..], true), (&[0xff][..], false)] {
        let mut connection = open_without_geometry(Reserved::OURS);
        let bitfield = wire(Message::Bitfield(bytes));
        let (first, rest) = bitfield.split_at(bitfield.len() - 1);
        let _ = receive(&mut connection, first);
        assert_eq!(learn(&mut connection).is_some(), broken);
        if !broken {
            assert_eq!(receive(&mut connection, rest), [Event::Bitfield(vec![0xf0])]);
        }
    }
}

#[test]
fn impossible_piece_breaks_rule_at_once() {
    for (id, message) in [
        (4, Message::Have(MAX_PIECES)),
        (13, Message::Suggest(MAX_PIECES)),
        (17, Message::AllowedFast(MAX_PIECES)),
    ] {
        let rule = Rule::NoSuchPiece { id, index: MAX_PIECES, count: MAX_PIECES };
        breaks(&mut open_without_geometry(Reserved::OURS), &wire(message), rule);
    }
    let last = Message::Have(MAX_PIECES - 1);
    let received = receive_one(&mut open_without_geometry(Reserved::OURS), last);
    assert_eq!(received, Received::Unchecked(last));
}

#[test]
fn repeated_bitfields_cost_their_length() {
    let mut connection = open_without_geometry(Reserved::OURS);
    let bits = vec![0; MAX_BITFIELD_LENGTH as usize];
    let longest = wire(Message::Bitfield(&bits));
    let allowed = 1 + BITFIELD_BURST as usize / bits.len();
    assert_eq!(receive(&mut connection, &longest.repeat(allowed)).len(), allowed);
    breaks(&mut connection, &longest[..5], Rule::RepeatedBitfield { id: 5 });
}

#[test]
fn early_haves_do_not_count_as_memory() {
    let mut connection = open_without_geometry(Reserved::OURS);
    let held = connection.buffered();
    for index in 0..1000 {
        let have = Message::Have(index * 7);
        assert_eq!(receive_one(&mut connection, have), Received::Unchecked(have));
    }
    assert_eq!(connection.buffered(), held);
}

#[test]
fn cancel_before_geometry() {
    let cancel = Message::Cancel(block(0, 0).into());
    breaks(&mut open_without_geometry(Reserved::OURS), &wire(cancel), Rule::EarlyRequest);
}

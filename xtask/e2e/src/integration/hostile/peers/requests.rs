//! Requests for too much, or for data that does not exist.

use testkit::Payload;
use testkit::hostile::{Hostile, raw};

use super::Reaction::{Dropped, Tolerated};
use super::{PIECES, Row};

/// The length of a block.
const BLOCK: u32 = 16 * 1024;

/// These connect to a bt-cli that seeds.
pub(super) const ROWS: &[Row] = &[
    Row(
        "a piece that does not exist",
        |payload| when_unchoked(payload, request(PIECES, 0, BLOCK)),
        Dropped("invalid range: piece 63"),
    ),
    Row(
        "piece 2³² - 1",
        |payload| when_unchoked(payload, request(u32::MAX, u32::MAX, u32::MAX)),
        Dropped("invalid range: piece 4294967295"),
    ),
    Row(
        "beyond the end of a piece",
        |payload| when_unchoked(payload, request(0, 4 * BLOCK - 1, 2)),
        Dropped("invalid range"),
    ),
    Row(
        "beyond the end of the last piece",
        |payload| when_unchoked(payload, request(PIECES - 1, BLOCK, BLOCK)),
        Dropped("invalid range"),
    ),
    Row(
        "an offset that overflows",
        |payload| when_unchoked(payload, request(0, u32::MAX - 1, BLOCK)),
        Dropped("invalid range"),
    ),
    Row(
        "a length that overflows",
        |payload| when_unchoked(payload, request(0, 1, u32::MAX)),
        Dropped("invalid range"),
    ),
    Row(
        "a byte more than 128 KiB",
        |payload| when_unchoked(payload, request(0, 0, 8 * BLOCK + 1)),
        Dropped("invalid range"),
    ),
    Row("nothing", |payload| when_unchoked(payload, request(0, 0, 0)), Dropped("invalid range")),
    Row(
        "a message that is too short",
        |payload| when_unchoked(payload, raw::numbers(raw::REQUEST, &[0, 0])),
        Dropped("expected 13 bytes in message 6"),
    ),
    Row("while choked", |payload| Hostile::new(payload).sends(request(0, 0, BLOCK)), Tolerated),
    Row(
        "while choked, without end",
        |payload| Hostile::new(payload).floods(request(0, 0, BLOCK)),
        Dropped("too many useless messages"),
    ),
    Row(
        "while choked, without end, Fast",
        |payload| Hostile::new(payload).fast().floods(request(0, 0, BLOCK)),
        Dropped("too many useless messages"),
    ),
    Row(
        "600 at once",
        |payload| when_unchoked(payload, request(0, 0, BLOCK).repeat(600)),
        Tolerated,
    ),
    Row(
        "the same block without end",
        |payload| flood(payload).floods(request(0, 0, BLOCK)),
        Dropped("too many useless messages"),
    ),
    Row(
        "without end, and reads nothing",
        |payload| {
            Hostile::new(payload).stops_reading().sends(INTERESTED).floods(request(0, 0, BLOCK))
        },
        Dropped("too many useless messages"),
    ),
    Row(
        "a cancel without a request",
        |payload| when_unchoked(payload, raw::numbers(raw::CANCEL, &[0, 0, BLOCK])),
        Tolerated,
    ),
    Row(
        "a cancel of a piece that does not exist",
        |payload| when_unchoked(payload, raw::numbers(raw::CANCEL, &[PIECES, 0, BLOCK])),
        Dropped("invalid range"),
    ),
    Row(
        "cancels without end",
        |payload| flood(payload).floods(raw::numbers(raw::CANCEL, &[0, 0, BLOCK])),
        Dropped("too many useless messages"),
    ),
    Row(
        "requests and cancels without end, Fast",
        |payload| {
            let cancel = raw::numbers(raw::CANCEL, &[0, 0, BLOCK]);
            flood(payload).fast().floods([request(0, 0, BLOCK), cancel].concat())
        },
        Dropped("too many useless messages"),
    ),
    Row(
        "interested and not, without end",
        |payload| Hostile::new(payload).floods([0, 0, 0, 1, 2, 0, 0, 0, 1, 3]),
        Dropped("too many useless messages"),
    ),
    Row(
        "a block for the seeder",
        |payload| Hostile::new(payload).fast().sends(raw::block(0, 0, &[0; BLOCK as usize])),
        Dropped("unrequested block"),
    ),
];

const INTERESTED: [u8; 5] = [0, 0, 0, 1, raw::INTERESTED];

fn request(index: u32, offset: u32, length: u32) -> Vec<u8> {
    raw::numbers(raw::REQUEST, &[index, offset, length])
}

fn when_unchoked(payload: &Payload, bytes: Vec<u8>) -> Hostile {
    Hostile::new(payload).sends(INTERESTED).sends_when_unchoked(bytes)
}

/// A peer that floods as soon as it is unchoked.
fn flood(payload: &Payload) -> Hostile {
    when_unchoked(payload, INTERESTED.to_vec())
}

//! Blocks that were not requested, that are wrong, or that never come.

use testkit::Payload;
use testkit::hostile::{self, Answer, Asked, End, Hostile, raw};

use super::Reaction::{Banned, Dropped, Tolerated};
use super::{PIECES, Row, SLOW};

/// The length of a block.
const BLOCK: u32 = 16 * 1024;

/// bt-cli connects to these.
pub(super) const ROWS: &[Row] = &[
    Row(
        "an unrequested block, Fast",
        |payload| Hostile::seeder(payload).fast().sends(raw::block(0, 1, &[0; 1000])),
        Dropped("unrequested block: piece 0, offset 1"),
    ),
    Row(
        "an unrequested block",
        |payload| Hostile::seeder(payload).sends(raw::block(0, 1, &[0; 1000])),
        Tolerated,
    ),
    Row(
        "unrequested blocks without end",
        |payload| Hostile::seeder(payload).chokes().floods(raw::block(0, 1, &[0; 1000])),
        Dropped("unrequested block: piece 0, offset 1"),
    ),
    Row(
        "a block one byte too short",
        |payload| fast(payload, |asked| raw::block(asked.index, asked.offset, &asked.bytes[1..])),
        Dropped("unrequested block"),
    ),
    Row("a block one byte too long", |payload| fast(payload, longer), Dropped("unrequested block")),
    Row(
        "a block at another offset",
        |payload| fast(payload, |asked| raw::block(asked.index, asked.offset ^ 1, asked.bytes)),
        Dropped("unrequested block"),
    ),
    Row(
        "a block of another piece",
        |payload| {
            fast(payload, |asked| raw::block(asked.index + PIECES, asked.offset, asked.bytes))
        },
        Dropped("unrequested block"),
    ),
    Row(
        "a block beyond 4 GiB",
        |payload| fast(payload, |asked| raw::block(u32::MAX, u32::MAX, asked.bytes)),
        Dropped("unrequested block"),
    ),
    Row(
        "wrong lengths without Fast",
        |payload| Hostile::seeder(payload).answers(longer),
        Tolerated,
    ),
    Row(
        "a block of 128 KiB and a byte",
        |payload| fast(payload, |_| raw::head(8 * BLOCK + 10, raw::PIECE)),
        Dropped("expected at most"),
    ),
    Row(
        "a block without an offset",
        |payload| fast(payload, |_| raw::numbers(raw::PIECE, &[0])),
        Dropped("expected at least 9 bytes in message 7"),
    ),
    Row(
        "a block twice",
        |payload| fast(payload, |asked| hostile::right(asked).repeat(2)),
        Dropped("unrequested block"),
    ),
    Row(
        "a wrong bit in every block",
        |payload| Hostile::seeder(payload).answers(hostile::corrupt),
        Banned,
    ),
    Row(
        "a wrong bit in some blocks",
        |payload| {
            Hostile::seeder(payload).answers(|asked| match asked.number % 7 {
                5 => hostile::corrupt(asked),
                _ => hostile::right(asked),
            })
        },
        Banned,
    ),
    Row("never answers", Hostile::seeder, Tolerated),
    Row("half a block, then nothing", |payload| Hostile::seeder(payload).answers(half), Tolerated),
    Row(
        "a block, byte by byte",
        |payload| Hostile::seeder(payload).answers(hostile::right).answers_slowly(SLOW),
        Tolerated,
    ),
    Row(
        "half a block, then closes",
        |payload| Hostile::seeder(payload).answers(half).ends_after(1, End::Closes),
        Dropped("closed by the peer"),
    ),
    Row(
        "half a block, then resets",
        |payload| Hostile::seeder(payload).answers(half).ends_after(1, End::Resets),
        Dropped("reset"),
    ),
    Row(
        // The system turns this into a reset, because requests are unread.
        "closes after five blocks",
        |payload| Hostile::seeder(payload).answers(hostile::right).ends_after(5, End::Closes),
        Dropped("peer"),
    ),
    Row(
        "rejects every request",
        |payload| fast(payload, |asked| reject(asked.index, asked.offset)),
        Tolerated,
    ),
    Row(
        "rejects unrequested blocks",
        |payload| Hostile::seeder(payload).fast().sends(reject(0, 1).repeat(65)),
        Dropped("reject of an unrequested block"),
    ),
    Row(
        "a reject although Fast is off",
        |payload| Hostile::seeder(payload).sends(reject(0, 0)),
        Dropped("message 16 needs the fast extension"),
    ),
    Row(
        "chokes at every request",
        |payload| {
            Hostile::seeder(payload).answers(|asked| match asked.number {
                0..100 => vec![0, 0, 0, 1, raw::CHOKE, 0, 0, 0, 1, raw::UNCHOKE],
                _ => Vec::new(),
            })
        },
        Tolerated,
    ),
];

fn fast(payload: &Payload, answer: Answer) -> Hostile {
    Hostile::seeder(payload).fast().answers(answer)
}

fn longer(asked: &Asked<'_>) -> Vec<u8> {
    raw::block(asked.index, asked.offset, &[asked.bytes, &[0]].concat())
}

/// The first half of the first block, and nothing of others.
fn half(asked: &Asked<'_>) -> Vec<u8> {
    let length = if asked.number == 0 { 9 + 4 + BLOCK as usize / 2 } else { 0 };
    hostile::right(asked)[..length].to_vec()
}

fn reject(index: u32, offset: u32) -> Vec<u8> {
    raw::numbers(raw::REJECT, &[index, offset, BLOCK])
}

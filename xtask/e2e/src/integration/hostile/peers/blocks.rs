//! Blocks that were not requested, that are wrong, or that never come.

use testkit::hostile::{self, Answer, Asked, End, Hostile};
use testkit::raw;

use super::Reaction::{Banned, Dropped, Tolerated};
use super::{PIECES, Row, SLOW};

/// The length of a block.
const BLOCK: u32 = 16 * 1024;

/// bt-cli connects to these.
pub(super) const ROWS: &[Row] = &[
    Row("an unrequested block, Fast", Dropped("unrequested block: piece 0, offset 1"), || {
        Hostile::seeder().fast().sends(raw::block(0, 1, &[0; 1000]))
    }),
    Row("an unrequested block", Tolerated, || {
        Hostile::seeder().sends(raw::block(0, 1, &[0; 1000]))
    }),
    Row("unrequested blocks without end", Dropped("unrequested block: piece 0, offset 1"), || {
        Hostile::seeder().chokes().floods(raw::block(0, 1, &[0; 1000]))
    }),
    Row("a block one byte too short", Dropped("unrequested block"), || {
        fast(|asked| raw::block(asked.index, asked.offset, &asked.bytes[1..]))
    }),
    Row("a block one byte too long", Dropped("unrequested block"), || fast(longer)),
    Row("a block at another offset", Dropped("unrequested block"), || {
        fast(|asked| raw::block(asked.index, asked.offset ^ 1, asked.bytes))
    }),
    Row("a block of another piece", Dropped("unrequested block"), || {
        fast(|asked| raw::block(asked.index + PIECES, asked.offset, asked.bytes))
    }),
    Row("a block beyond 4 GiB", Dropped("unrequested block"), || {
        fast(|asked| raw::block(u32::MAX, u32::MAX, asked.bytes))
    }),
    Row("wrong lengths without Fast", Tolerated, || Hostile::seeder().answers(longer)),
    Row("a block of 128 KiB and a byte", Dropped("expected at most"), || {
        fast(|_| raw::head(8 * BLOCK + 10, raw::PIECE))
    }),
    Row("a block without an offset", Dropped("expected at least 9 bytes in message 7"), || {
        fast(|_| raw::numbers(raw::PIECE, &[0]))
    }),
    Row("a block twice", Dropped("unrequested block"), || {
        fast(|asked| hostile::right(asked).repeat(2))
    }),
    Row("a wrong bit in every block", Banned, || Hostile::seeder().answers(hostile::corrupt)),
    Row("a wrong bit in some blocks", Banned, || {
        Hostile::seeder().answers(|asked| match asked.number % 7 {
            5 => hostile::corrupt(asked),
            _ => hostile::right(asked),
        })
    }),
    Row("never answers", Tolerated, Hostile::seeder),
    Row("half a block, then nothing", Tolerated, || Hostile::seeder().answers(half)),
    Row("a block, byte by byte", Tolerated, || {
        Hostile::seeder().answers(hostile::right).answers_slowly(SLOW)
    }),
    Row("half a block, then closes", Dropped("closed by the peer"), || {
        Hostile::seeder().answers(half).ends_after(1, End::Closes)
    }),
    Row("half a block, then resets", Dropped("reset"), || {
        Hostile::seeder().answers(half).ends_after(1, End::Resets)
    }),
    Row(
        // The system turns this into a reset, because requests are unread.
        "closes after five blocks",
        Dropped("peer"),
        || Hostile::seeder().answers(hostile::right).ends_after(5, End::Closes),
    ),
    Row("rejects every request", Tolerated, || fast(|asked| reject(asked.index, asked.offset))),
    Row("rejects unrequested blocks", Dropped("reject of an unrequested block"), || {
        Hostile::seeder().fast().sends(reject(0, 1).repeat(65))
    }),
    Row("a reject although Fast is off", Dropped("message 16 needs the fast extension"), || {
        Hostile::seeder().sends(reject(0, 0))
    }),
    Row("chokes at every request", Tolerated, || {
        Hostile::seeder().answers(|asked| match asked.number {
            0..100 => vec![0, 0, 0, 1, raw::CHOKE, 0, 0, 0, 1, raw::UNCHOKE],
            _ => Vec::new(),
        })
    }),
];

fn fast(answer: Answer) -> Hostile {
    Hostile::seeder().fast().answers(answer)
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

//! Requests for too much, or for data that does not exist.

use testkit::hostile::Hostile;
use testkit::raw;

use super::Reaction::{Dropped, Tolerated};
use super::{PIECES, Row, TALK};

/// The length of a block.
const BLOCK: u32 = 16 * 1024;

/// These connect to a bt-cli that seeds.
pub(super) const ROWS: &[Row] = &[
    Row("a piece that does not exist", Dropped("invalid range: piece 63"), || {
        when_unchoked(request(PIECES, 0, BLOCK))
    }),
    Row("piece 2³² - 1", Dropped("invalid range: piece 4294967295"), || {
        when_unchoked(request(u32::MAX, u32::MAX, u32::MAX))
    }),
    Row("beyond the end of a piece", Dropped("invalid range"), || {
        when_unchoked(request(0, 4 * BLOCK - 1, 2))
    }),
    Row("beyond the end of the last piece", Dropped("invalid range"), || {
        when_unchoked(request(PIECES - 1, BLOCK, BLOCK))
    }),
    Row("an offset that overflows", Dropped("invalid range"), || {
        when_unchoked(request(0, u32::MAX - 1, BLOCK))
    }),
    Row("a length that overflows", Dropped("invalid range"), || {
        when_unchoked(request(0, 1, u32::MAX))
    }),
    Row("a byte more than 128 KiB", Dropped("invalid range"), || {
        when_unchoked(request(0, 0, 8 * BLOCK + 1))
    }),
    Row("nothing", Dropped("invalid range"), || when_unchoked(request(0, 0, 0))),
    Row("a message that is too short", Dropped("expected 13 bytes in message 6"), || {
        when_unchoked(raw::numbers(raw::REQUEST, &[0, 0]))
    }),
    Row("while choked", Tolerated, || Hostile::new().sends(request(0, 0, BLOCK))),
    Row("while choked, without end", TALK, || Hostile::new().floods(request(0, 0, BLOCK))),
    Row("while choked, without end, Fast", TALK, || {
        Hostile::new().fast().floods(request(0, 0, BLOCK))
    }),
    Row("600 at once", Tolerated, || when_unchoked(request(0, 0, BLOCK).repeat(600))),
    Row("the same block without end", TALK, || flood().floods(request(0, 0, BLOCK))),
    Row("without end, and reads nothing", TALK, || {
        Hostile::new().stops_reading().sends(INTERESTED).floods(request(0, 0, BLOCK))
    }),
    Row("a cancel without a request", Tolerated, || {
        when_unchoked(raw::numbers(raw::CANCEL, &[0, 0, BLOCK]))
    }),
    Row("a cancel of a piece that does not exist", Dropped("invalid range"), || {
        when_unchoked(raw::numbers(raw::CANCEL, &[PIECES, 0, BLOCK]))
    }),
    Row("cancels without end", TALK, || flood().floods(raw::numbers(raw::CANCEL, &[0, 0, BLOCK]))),
    Row("requests and cancels without end, Fast", TALK, || {
        let cancel = raw::numbers(raw::CANCEL, &[0, 0, BLOCK]);
        flood().fast().floods([request(0, 0, BLOCK), cancel].concat())
    }),
    Row("interested and not, without end", TALK, || {
        Hostile::new().floods([0, 0, 0, 1, 2, 0, 0, 0, 1, 3])
    }),
    Row("a block for the seeder", Dropped("unrequested block"), || {
        Hostile::new().fast().sends(raw::block(0, 0, &[0; BLOCK as usize]))
    }),
];

const INTERESTED: [u8; 5] = [0, 0, 0, 1, raw::INTERESTED];

fn request(index: u32, offset: u32, length: u32) -> Vec<u8> {
    raw::numbers(raw::REQUEST, &[index, offset, length])
}

fn when_unchoked(bytes: Vec<u8>) -> Hostile {
    Hostile::new().sends(INTERESTED).sends_when_unchoked(bytes)
}

/// A peer that floods as soon as it is unchoked.
fn flood() -> Hostile {
    when_unchoked(INTERESTED.to_vec())
}

//! Wrong messages about which pieces a peer has.

use testkit::Payload;
use testkit::hostile::{Hostile, raw};

use super::Reaction::{Dropped, Tolerated};
use super::{PIECES, Row};

/// bt-cli connects to these.
pub(super) const ROWS: &[Row] = &[
    Row(
        "a bitfield too short",
        |payload| bitfield(payload, 7),
        Dropped("expected a bitfield of 8"),
    ),
    Row("a bitfield too long", |payload| bitfield(payload, 9), Dropped("expected a bitfield of 8")),
    Row("an empty bitfield", |payload| bitfield(payload, 0), Dropped("expected a bitfield of 8")),
    Row(
        "a bitfield with a spare bit",
        |payload| Hostile::new(payload).sends(raw::message(raw::BITFIELD, &[0xff; 8])),
        Tolerated,
    ),
    Row(
        "a bitfield twice, and late",
        |payload| {
            let late = [raw::numbers(raw::HAVE, &[1]), raw::message(raw::UNCHOKE, &[])].concat();
            Hostile::seeder(payload).sends(late).sends(raw::message(raw::BITFIELD, &[0; 8]))
        },
        Tolerated,
    ),
    Row(
        "bitfields without end",
        |payload| Hostile::seeder(payload).floods(raw::message(raw::BITFIELD, &[0; 8])),
        Dropped("repeats the list of all pieces"),
    ),
    Row(
        "have-all, then have-none",
        |payload| Hostile::new(payload).fast().sends(ALL_AND_NONE),
        Tolerated,
    ),
    Row(
        "have-all and have-none without end",
        |payload| Hostile::new(payload).fast().floods(ALL_AND_NONE),
        Dropped("repeats the list of all pieces"),
    ),
    Row(
        "have-all although Fast is off",
        |payload| Hostile::new(payload).sends(raw::message(raw::HAVE_ALL, &[])),
        Dropped("message 14 needs the fast extension"),
    ),
    Row(
        "allowed-fast although Fast is off",
        |payload| Hostile::seeder(payload).sends(raw::numbers(raw::ALLOWED_FAST, &[0])),
        Dropped("message 17 needs the fast extension"),
    ),
    Row(
        "HAVE of a piece that does not exist",
        |payload| Hostile::seeder(payload).sends(raw::numbers(raw::HAVE, &[PIECES])),
        Dropped("message 4 names piece 63, but the torrent has 63 pieces"),
    ),
    Row(
        "HAVE of piece 2³² - 1",
        |payload| Hostile::seeder(payload).sends(raw::numbers(raw::HAVE, &[u32::MAX])),
        Dropped("message 4 names piece 4294967295"),
    ),
    Row(
        "a suggestion of a piece that does not exist",
        |payload| Hostile::seeder(payload).fast().sends(raw::numbers(raw::SUGGEST, &[PIECES])),
        Dropped("message 13 names piece 63, but the torrent has 63 pieces"),
    ),
    Row("never unchokes", |payload| Hostile::seeder(payload).chokes(), Tolerated),
];

const ALL_AND_NONE: [u8; 10] = [0, 0, 0, 1, raw::HAVE_ALL, 0, 0, 0, 1, raw::HAVE_NONE];

fn bitfield(payload: &Payload, length: usize) -> Hostile {
    Hostile::new(payload).sends(raw::message(raw::BITFIELD, &vec![0; length]))
}

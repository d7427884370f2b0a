//! Wrong messages about which pieces a peer has.

use testkit::hostile::Hostile;
use testkit::raw;

use super::Reaction::{Dropped, Tolerated};
use super::{PIECES, Row};

/// bt-cli connects to these.
pub(super) const ROWS: &[Row] = &[
    Row("a bitfield too short", Dropped("expected a bitfield of 8"), || bitfield(7)),
    Row("a bitfield too long", Dropped("expected a bitfield of 8"), || bitfield(9)),
    Row("an empty bitfield", Dropped("expected a bitfield of 8"), || bitfield(0)),
    Row("a bitfield with a spare bit", Tolerated, || {
        Hostile::new().sends(raw::message(raw::BITFIELD, &[0xff; 8]))
    }),
    Row("a bitfield twice, and late", Tolerated, || {
        let late = [raw::numbers(raw::HAVE, &[1]), raw::message(raw::UNCHOKE, &[])].concat();
        Hostile::seeder().sends(late).sends(raw::message(raw::BITFIELD, &[0; 8]))
    }),
    Row("bitfields without end", Dropped("repeats the list of all pieces"), || {
        Hostile::seeder().floods(raw::message(raw::BITFIELD, &[0; 8]))
    }),
    Row("have-all, then have-none", Tolerated, || Hostile::new().fast().sends(ALL_AND_NONE)),
    Row("have-all and have-none without end", Dropped("repeats the list of all pieces"), || {
        Hostile::new().fast().floods(ALL_AND_NONE)
    }),
    Row("have-all although Fast is off", Dropped("message 14 needs the fast extension"), || {
        Hostile::new().sends(raw::message(raw::HAVE_ALL, &[]))
    }),
    Row(
        "allowed-fast although Fast is off",
        Dropped("message 17 needs the fast extension"),
        || Hostile::seeder().sends(raw::numbers(raw::ALLOWED_FAST, &[0])),
    ),
    Row(
        "HAVE of a piece that does not exist",
        Dropped("message 4 names piece 63, but the torrent has 63 pieces"),
        || Hostile::seeder().sends(raw::numbers(raw::HAVE, &[PIECES])),
    ),
    Row("HAVE of piece 2³² - 1", Dropped("message 4 names piece 4294967295"), || {
        Hostile::seeder().sends(raw::numbers(raw::HAVE, &[u32::MAX]))
    }),
    Row(
        "a suggestion of a piece that does not exist",
        Dropped("message 13 names piece 63, but the torrent has 63 pieces"),
        || Hostile::seeder().fast().sends(raw::numbers(raw::SUGGEST, &[PIECES])),
    ),
    Row("never unchokes", Tolerated, || Hostile::seeder().chokes()),
];

const ALL_AND_NONE: [u8; 10] = [0, 0, 0, 1, raw::HAVE_ALL, 0, 0, 0, 1, raw::HAVE_NONE];

fn bitfield(length: usize) -> Hostile {
    Hostile::new().sends(raw::message(raw::BITFIELD, &vec![0; length]))
}

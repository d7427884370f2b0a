//! Messages of impossible lengths, and legal ones without end.

use testkit::bytes;
use testkit::hostile::Hostile;
use testkit::raw;

use super::Reaction::{Dropped, Tolerated};
use super::{Row, TALK};

/// The longest extension message and the longest unknown message (`crates/README.md`, constants).
const EXTENDED: usize = 128 * 1024;
const UNKNOWN: usize = 1024 * 1024;

/// bt-cli connects to these.
pub(super) const ROWS: &[Row] = &[
    Row("a block of 4 GiB", Dropped("expected at most 131081 bytes in message 7"), || {
        Hostile::seeder().sends(raw::head(u32::MAX, raw::PIECE))
    }),
    Row("a bitfield of 4 GiB", Dropped("expected at most"), || {
        Hostile::new().sends(raw::head(u32::MAX, raw::BITFIELD))
    }),
    Row("a HAVE of 4 GiB", Dropped("expected 5 bytes in message 4"), || {
        Hostile::seeder().sends(raw::head(u32::MAX, raw::HAVE))
    }),
    Row("an unknown message of 4 GiB", Dropped("expected at most"), || {
        Hostile::seeder().sends(raw::head(u32::MAX, 99))
    }),
    Row("an unknown message of 1 MiB", Tolerated, || {
        Hostile::seeder().sends(raw::message(99, &vec![7; UNKNOWN - 1]))
    }),
    Row("an unknown message one byte longer", Dropped("expected at most"), || {
        Hostile::seeder().sends(raw::message(99, &vec![7; UNKNOWN]))
    }),
    Row("garbage messages", Dropped("expected at most"), || {
        Hostile::seeder().sends(bytes(2, 4096))
    }),
    Row("an extension message of 128 KiB", Tolerated, || {
        Hostile::seeder().extensions().sends(raw::extended(1, &vec![7; EXTENDED]))
    }),
    Row("an extension message one byte longer", Dropped("expected at most"), || {
        Hostile::seeder().extensions().sends(raw::extended(1, &vec![7; EXTENDED + 1]))
    }),
    Row("an extension message although extensions are off", Tolerated, || {
        Hostile::seeder().sends(raw::extended(0, b"garbage"))
    }),
    Row("an extension handshake that is not bencode", Tolerated, || {
        Hostile::seeder().extensions().sends(raw::extended(0, b"d1:m"))
    }),
    Row("extension handshakes that are not bencode, without end", TALK, || {
        Hostile::seeder().extensions().floods(raw::extended(0, b"d1:m"))
    }),
    Row("an extension handshake of absurd values", Tolerated, || {
        Hostile::seeder().extensions().sends(raw::extended(0, ABSURD))
    }),
    Row("keep-alives without end", TALK, || Hostile::seeder().floods([0; 4])),
    Row("HAVEs without end", TALK, || Hostile::seeder().floods(raw::numbers(raw::HAVE, &[0]))),
    Row("unknown messages without end", TALK, || {
        Hostile::seeder().floods(raw::message(99, &[7; 1000]))
    }),
    Row("extension messages without end", TALK, || {
        Hostile::seeder().extensions().floods(raw::extended(1, &[7; 1000]))
    }),
    Row("extension handshakes without end", TALK, || {
        Hostile::seeder().extensions().floods(raw::extended(0, b"de"))
    }),
    Row("a port", Tolerated, || Hostile::seeder().sends(raw::message(raw::PORT, &[0, 0]))),
    Row("ports without end", TALK, || Hostile::seeder().floods(raw::message(raw::PORT, &[1, 1]))),
    Row("chokes and unchokes", Tolerated, || Hostile::seeder().sends(FLAPPING.repeat(100))),
    Row("chokes and unchokes without end", TALK, || Hostile::seeder().floods(FLAPPING)),
    Row("interested and not, without end", TALK, || {
        Hostile::seeder().floods([0, 0, 0, 1, 2, 0, 0, 0, 1, 3])
    }),
    Row("messages without end, none read", TALK, || {
        Hostile::seeder().stops_reading().floods(FLAPPING)
    }),
];

const FLAPPING: [u8; 10] = [0, 0, 0, 1, raw::CHOKE, 0, 0, 0, 1, raw::UNCHOKE];
const ABSURD: &[u8] =
    b"d1:md6:\x1b[31mXi999e9:ut_pex\0\0\0i-1ee1:pi99999e4:reqqi9223372036854775807e1:v3:\x1b]0e";

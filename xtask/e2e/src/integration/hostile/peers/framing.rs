//! Messages of impossible lengths, and legal ones without end.

use testkit::bytes;
use testkit::hostile::{Hostile, raw};

use super::Reaction::{Dropped, Tolerated};
use super::Row;

/// The longest extension message and the longest unknown message (`crates/README.md`, constants).
const EXTENDED: usize = 128 * 1024;
const UNKNOWN: usize = 1024 * 1024;

/// bt-cli connects to these.
pub(super) const ROWS: &[Row] = &[
    Row(
        "a block of 4 GiB",
        |payload| Hostile::seeder(payload).sends(raw::head(u32::MAX, raw::PIECE)),
        Dropped("expected at most 131081 bytes in message 7"),
    ),
    Row(
        "a bitfield of 4 GiB",
        |payload| Hostile::new(payload).sends(raw::head(u32::MAX, raw::BITFIELD)),
        Dropped("expected at most"),
    ),
    Row(
        "a HAVE of 4 GiB",
        |payload| Hostile::seeder(payload).sends(raw::head(u32::MAX, raw::HAVE)),
        Dropped("expected 5 bytes in message 4"),
    ),
    Row(
        "an unknown message of 4 GiB",
        |payload| Hostile::seeder(payload).sends(raw::head(u32::MAX, 99)),
        Dropped("expected at most"),
    ),
    Row(
        "an unknown message of 1 MiB",
        |payload| Hostile::seeder(payload).sends(raw::message(99, &vec![7; UNKNOWN - 1])),
        Tolerated,
    ),
    Row(
        "an unknown message one byte longer",
        |payload| Hostile::seeder(payload).sends(raw::message(99, &vec![7; UNKNOWN])),
        Dropped("expected at most"),
    ),
    Row(
        "garbage messages",
        |payload| Hostile::seeder(payload).sends(bytes(2, 4096)),
        Dropped("expected at most"),
    ),
    Row(
        "an extension message of 128 KiB",
        |payload| Hostile::seeder(payload).extensions().sends(raw::extended(1, &vec![7; EXTENDED])),
        Tolerated,
    ),
    Row(
        "an extension message one byte longer",
        |payload| {
            Hostile::seeder(payload).extensions().sends(raw::extended(1, &vec![7; EXTENDED + 1]))
        },
        Dropped("expected at most"),
    ),
    Row(
        "an extension message although extensions are off",
        |payload| Hostile::seeder(payload).sends(raw::extended(0, b"garbage")),
        Tolerated,
    ),
    Row(
        "an extension handshake that is not bencode",
        |payload| Hostile::seeder(payload).extensions().sends(raw::extended(0, b"d1:m")),
        Tolerated,
    ),
    Row(
        "extension handshakes that are not bencode, without end",
        |payload| Hostile::seeder(payload).extensions().floods(raw::extended(0, b"d1:m")),
        TALK,
    ),
    Row(
        "an extension handshake of absurd values",
        |payload| Hostile::seeder(payload).extensions().sends(raw::extended(0, ABSURD)),
        Tolerated,
    ),
    Row("keep-alives without end", |payload| Hostile::seeder(payload).floods([0; 4]), TALK),
    Row(
        "HAVEs without end",
        |payload| Hostile::seeder(payload).floods(raw::numbers(raw::HAVE, &[0])),
        TALK,
    ),
    Row(
        "unknown messages without end",
        |payload| Hostile::seeder(payload).floods(raw::message(99, &[7; 1000])),
        TALK,
    ),
    Row(
        "extension messages without end",
        |payload| Hostile::seeder(payload).extensions().floods(raw::extended(1, &[7; 1000])),
        TALK,
    ),
    Row(
        "extension handshakes without end",
        |payload| Hostile::seeder(payload).extensions().floods(raw::extended(0, b"de")),
        TALK,
    ),
    Row(
        "a port",
        |payload| Hostile::seeder(payload).sends(raw::message(raw::PORT, &[0, 0])),
        Tolerated,
    ),
    Row(
        "ports without end",
        |payload| Hostile::seeder(payload).floods(raw::message(raw::PORT, &[1, 1])),
        TALK,
    ),
    Row(
        "chokes and unchokes",
        |payload| Hostile::seeder(payload).sends(FLAPPING.repeat(100)),
        Tolerated,
    ),
    Row(
        "chokes and unchokes without end",
        |payload| Hostile::seeder(payload).floods(FLAPPING),
        TALK,
    ),
    Row(
        "interested and not, without end",
        |payload| Hostile::seeder(payload).floods([0, 0, 0, 1, 2, 0, 0, 0, 1, 3]),
        TALK,
    ),
    Row(
        "messages without end, none read",
        |payload| Hostile::seeder(payload).stops_reading().floods(FLAPPING),
        TALK,
    ),
];

const TALK: super::Reaction = Dropped("too many useless messages");
const FLAPPING: [u8; 10] = [0, 0, 0, 1, raw::CHOKE, 0, 0, 0, 1, raw::UNCHOKE];
const ABSURD: &[u8] =
    b"d1:md6:\x1b[31mXi999e9:ut_pex\0\0\0i-1ee1:pi99999e4:reqqi9223372036854775807e1:v3:\x1b]0e";

//! Handshakes that are late, wrong, or for another torrent.

use std::time::Duration;

use testkit::hostile::{End, Hostile};
use testkit::{InfoHashV1, bytes};

use super::Reaction::{Dropped, Failed, Refused};
use super::Row;

const OTHER: InfoHashV1 = InfoHashV1([9; 20]);
const HALF: &[u8] = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0half of it";

/// bt-cli connects to these.
pub(super) const DIALLED: &[Row] = &[
    Row(
        "nothing",
        |payload| Hostile::new(payload).sends_instead_of_handshake(""),
        Failed("no handshake within 10 s"),
    ),
    Row(
        "half",
        |payload| Hostile::new(payload).sends_instead_of_handshake(HALF),
        Failed("no handshake within 10 s"),
    ),
    Row("a byte per second", drips, Failed("no handshake within 10 s")),
    Row(
        "another protocol",
        |payload| Hostile::new(payload).sends_instead_of_handshake("\x13BitTorrent protocoL"),
        Failed("expected a BitTorrent handshake"),
    ),
    Row(
        "garbage",
        |payload| Hostile::new(payload).sends_instead_of_handshake(bytes(1, 4096)),
        Failed("expected a BitTorrent handshake"),
    ),
    Row(
        "another torrent",
        |payload| Hostile::seeder(payload).info_hash(OTHER),
        Failed("expected info-hash"),
    ),
    Row("our own peer id", |payload| Hostile::seeder(payload).mirrors_peer_id(), Refused),
    Row(
        "closes after it",
        |payload| Hostile::seeder(payload).ends_after(0, End::Closes),
        Dropped("closed by the peer"),
    ),
    Row(
        "resets after it",
        |payload| Hostile::seeder(payload).ends_after(0, End::Resets),
        Dropped("reset"),
    ),
];

/// These connect to bt-cli.
pub(super) const DIALLING: &[Row] = &[
    Row("nothing", |payload| Hostile::new(payload).sends_instead_of_handshake(""), Refused),
    Row("half", |payload| Hostile::new(payload).sends_instead_of_handshake(HALF), Refused),
    Row("a byte per second", drips, Refused),
    Row(
        "another protocol",
        |payload| Hostile::new(payload).sends_instead_of_handshake("GET / HTTP/1.1\r\n\r\n"),
        Refused,
    ),
    Row("another torrent", |payload| Hostile::seeder(payload).info_hash(OTHER), Refused),
];

fn drips(payload: &testkit::Payload) -> Hostile {
    Hostile::seeder(payload).sends_slowly(Duration::from_secs(1))
}

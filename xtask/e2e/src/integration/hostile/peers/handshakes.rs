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
    Row("nothing", Failed("no handshake within 10 s"), || {
        Hostile::new().sends_instead_of_handshake("")
    }),
    Row("half", Failed("no handshake within 10 s"), || {
        Hostile::new().sends_instead_of_handshake(HALF)
    }),
    Row("a byte per second", Failed("no handshake within 10 s"), drips),
    Row("another protocol", Failed("expected a BitTorrent handshake"), || {
        Hostile::new().sends_instead_of_handshake("\x13BitTorrent protocoL")
    }),
    Row("garbage", Failed("expected a BitTorrent handshake"), || {
        Hostile::new().sends_instead_of_handshake(bytes(1, 4096))
    }),
    Row("another torrent", Failed("expected info-hash"), || Hostile::seeder().info_hash(OTHER)),
    Row("our own peer id", Refused, || Hostile::seeder().mirrors_peer_id()),
    Row("closes after it", Dropped("closed by the peer"), || {
        Hostile::seeder().ends_after(0, End::Closes)
    }),
    Row("resets after it", Dropped("reset"), || Hostile::seeder().ends_after(0, End::Resets)),
];

/// These connect to bt-cli.
pub(super) const DIALLING: &[Row] = &[
    Row("nothing", Refused, || Hostile::new().sends_instead_of_handshake("")),
    Row("half", Refused, || Hostile::new().sends_instead_of_handshake(HALF)),
    Row("a byte per second", Refused, drips),
    Row("another protocol", Refused, || {
        Hostile::new().sends_instead_of_handshake("GET / HTTP/1.1\r\n\r\n")
    }),
    Row("another torrent", Refused, || Hostile::seeder().info_hash(OTHER)),
];

fn drips() -> Hostile {
    Hostile::seeder().sends_slowly(Duration::from_secs(1))
}

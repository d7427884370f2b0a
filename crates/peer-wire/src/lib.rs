//! The peer protocol of BitTorrent as a state machine without sockets, clock or threads.
//!
//! In scope: the handshake, every message of BEP 3, 5 and 6, the extension protocol's transport and
//! handshake, framing, and what is legal when. Out of scope: what to ask for and whom to answer,
//! and the content of extension messages.
//!
//! - [`Connection`] holds the state of one connection: bytes in, [`Received`] out; verbs in,
//!   [`Transmit`] out. Block data passes through as borrowed parts, and is sent from where it lies.
//! - [`Rule`] names what a peer did wrong.
//! - [`Handshake`], [`Message`] and [`ExtensionHandshake`] are the codecs by themselves.
//! - [`client_name`] reads peer ids, [`allowed_fast_set`] draws the set of BEP 6.
//!
//! ```
//! use std::time::Duration;
//! use bt_types::{Geometry, InfoHashV1, PeerId};
//! use peer_wire::{Connection, Handshake, Received, Transmit};
//!
//! let now = Duration::ZERO;
//! let torrent = InfoHashV1([7; 20]);
//! let geometry = Geometry::new(1 << 20, 1 << 18)?;
//! let mut alice = Connection::outgoing(now, Handshake::new(torrent, PeerId([1; 20])), None);
//! let mut bob = Connection::incoming(now);
//! alice.set_geometry(geometry);
//!
//! // What alice wants to send goes to bob, in any number of pieces.
//! let Some(Transmit::Bytes(bytes)) = alice.poll_transmit() else { panic!("a handshake waits") };
//! let (length, mut input) = (bytes.len(), bytes);
//! let Some(Received::Handshake(theirs)) = bob.receive(now, &mut input) else { panic!() };
//! assert_eq!(theirs.info_hash, torrent);
//! alice.transmitted(length);
//!
//! bob.accept(Handshake::new(torrent, PeerId([2; 20])));
//! assert!(bob.is_open() && bob.fast());
//! # Ok::<(), bt_types::GeometryError>(())
//! ```
//!
//! The contract: after any call, drain the polls. Bytes are pulled: call [`Connection::receive`]
//! until `None`. Whatever a peer sends, nothing panics, and a connection holds at most an
//! unfinished extension message ([`MAX_EXTENDED_LENGTH`]), a fixed amount of bookkeeping, and what
//! the caller queued.
//!
//! Sources: BEP 3 ("peer protocol", "peer messages"), BEP 4 (reserved bits), BEP 5 (`port`), BEP 6
//! (fast extension), BEP 9 (`metadata_size`), BEP 10 (extension protocol), BEP 20 (peer ids), BEP
//! 21 (`upload_only`).

mod connection;
mod rule;

mod extension;
mod frame;
mod handshake;
mod message;

mod allowed_fast;
mod client_name;

pub use allowed_fast::allowed_fast_set;
pub use bencode::{DecodeError, Kind};
pub use bt_types::{
    Bitfield, BlockRequest, Geometry, InfoHashV1, MAX_REQUEST_LENGTH, PeerId, PieceIndex,
};
pub use client_name::client_name;
pub use connection::{
    Connection, Expired, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL, LEAST_TALK,
    MAX_QUEUED_REQUESTS, MAX_REQUESTS, MAX_STRAY_REJECTS, MAX_UNREAD, MAX_UNREQUESTED,
    RETELLING_BURST, RETELLING_RATE, Received, TALK_BURST, TALK_RATE, Transmit,
};
pub use extension::{ExtensionHandshake, ExtensionHandshakeError, MAX_EXTENSION_NAMES};
pub use frame::{FrameError, MAX_BITFIELD_LENGTH, MAX_EXTENDED_LENGTH, MAX_UNKNOWN_LENGTH};
pub use handshake::{HANDSHAKE_LENGTH, Handshake, HandshakeError, Reserved};
pub use message::{Message, WireRequest};
pub use rule::Rule;

//! The peer protocol of BitTorrent as a state machine without sockets, clock or threads.
//!
//! In scope: the handshake, every message of BEP 3, 5 and 6, the extension protocol's framing and
//! handshake, the messages of the metadata extension and of peer exchange, and which message is
//! legal when. Out of scope: which blocks and which metadata to request, which peers to serve, and
//! the content of other extension messages.
//!
//! - [`Connection`] is the state of one connection. Bytes go in, [`Received`] comes out; calls go
//!   in, [`Transmit`] comes out. It copies no block data: received data is borrowed from the input,
//!   and the caller sends data from its own buffers or files.
//! - [`Rule`] names the rule that a peer broke.
//! - [`Handshake`], [`Message`], [`ExtensionHandshake`], [`MetadataMessage`] and [`Pex`] are the
//!   codecs without any state.
//! - [`client_name()`] decodes peer ids; [`allowed_fast_set`] computes the set of BEP 6.
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
//! alice.set_geometry(geometry)?;
//!
//! // Alice's bytes go to Bob, in one read or several.
//! let Some(Transmit::Bytes(bytes)) = alice.poll_transmit() else { panic!("no handshake") };
//! let (length, mut input) = (bytes.len(), bytes);
//! let Some(Received::Handshake(theirs)) = bob.receive(now, &mut input) else { panic!() };
//! assert_eq!(theirs.info_hash, torrent);
//! alice.transmitted(length);
//!
//! bob.accept(Handshake::new(torrent, PeerId([2; 20])));
//! assert!(bob.is_open() && bob.fast());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract: after any call, drain the polls. Call [`Connection::receive`] until it returns
//! `None`. No bytes of a peer cause a panic. A connection holds at most one incomplete extension
//! message ([`MAX_EXTENDED_LENGTH`]), a fixed amount of bookkeeping, and the messages that the
//! caller queued.
//!
//! Sources: BEP 3 ("peer protocol", "peer messages"), BEP 4 (reserved bits), BEP 5 (`port`), BEP 6
//! (fast extension), BEP 9 (metadata), BEP 10 (extension protocol), BEP 11 (peer exchange), BEP 20
//! (peer ids), BEP 21 (`upload_only`).

mod connection;
mod rule;

mod extension;
mod frame;
mod handshake;
mod message;
mod metadata;
mod pex;

mod allowed_fast;
mod client_name;

pub use allowed_fast::allowed_fast_set;
pub use bencode::{DecodeError, Kind};
pub use bt_types::{
    Bitfield, BlockRequest, Geometry, InfoHashV1, MAX_REQUEST_LENGTH, PeerId, PieceIndex,
};
pub use client_name::client_name;
pub use connection::{
    BITFIELD_BURST, BITFIELD_RATE, Connection, Expired, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT,
    KEEP_ALIVE_INTERVAL, MAX_METADATA_REQUESTS, MAX_QUEUED_REQUESTS, MAX_REQUESTS,
    MAX_STRAY_REJECTS, MAX_UNREAD, MAX_UNREQUESTED, MESSAGE_BURST, MESSAGE_RATE, MIN_MESSAGE_COST,
    Received, Transmit,
};
pub use extension::{
    ExtensionHandshake, ExtensionHandshakeError, Extensions, MAX_EXTENSION_NAMES, UT_METADATA,
    UT_METADATA_ID, UT_PEX, UT_PEX_ID,
};
pub use frame::{FrameError, MAX_BITFIELD_LENGTH, MAX_EXTENDED_LENGTH, MAX_UNKNOWN_LENGTH};
pub use handshake::{HANDSHAKE_LENGTH, Handshake, HandshakeError, Reserved};
pub use message::{Message, WireRequest};
pub use metadata::{METADATA_PIECE_LENGTH, MetadataError, MetadataMessage};
pub use pex::{PEX_LENGTH, PEX_READ, Pex, PexError, PexFlags, PexPeer};
pub use rule::Rule;

//! The plain data that the BitTorrent crates of this workspace share.
//!
//! In scope:
//!
//! - identifiers: [`InfoHashV1`], [`InfoHashes`], [`PeerId`]
//! - the arithmetic of pieces and blocks: [`Geometry`], which alone makes [`PieceIndex`] and
//!   [`BlockRequest`]
//! - sets of pieces: [`Bitfield`]
//! - compact peer addresses ([`compact`]), and which addresses are public ([`is_public`])
//! - the vocabulary of announces: [`AnnounceRequest`], [`AnnounceReply`]
//!
//! Out of scope: any I/O, any policy, any wire format beyond the compact addresses, which three
//! protocols share.
//!
//! ```
//! use bt_types::{Bitfield, Geometry};
//!
//! // 100 000 bytes in pieces of 32 KiB: four pieces, the last one shorter.
//! let geometry = Geometry::new(100_000, 32 * 1024)?;
//! assert_eq!(geometry.piece_count(), 4);
//!
//! let last = geometry.piece(3).expect("there are four pieces");
//! assert_eq!(geometry.length_of(last), 1696);
//! assert!(geometry.piece(4).is_none());
//!
//! let mut have = Bitfield::new(geometry.piece_count());
//! have.insert(last);
//! assert_eq!(have.count(), 1);
//! assert_eq!(*have.as_bytes(), [0b0001_0000]);
//! # Ok::<(), bt_types::GeometryError>(())
//! ```
//!
//! Sources: BEP 3 (pieces, blocks, bitfield), BEP 7 and 23 (compact addresses), BEP 15 and 48
//! (announce and scrape), BEP 52 (the 20-byte form of a v2 info-hash).

mod announce;
mod bitfield;
pub mod compact;
mod geometry;
mod ids;
mod public;

pub use announce::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, DEFAULT_INTERVAL, DEFAULT_PORT, PeerHost,
    ScrapeEntry, TrackerPeer, interval_or_default,
};
pub use bitfield::{Bitfield, BitfieldError};
pub use geometry::{
    BLOCK_LENGTH, BlockRequest, Geometry, GeometryError, MAX_PIECE_COUNT, MAX_PIECE_LENGTH,
    MAX_REQUEST_LENGTH, PieceIndex,
};
pub use ids::{InfoHashV1, InfoHashV2, InfoHashes, ParseIdError, PeerId, Sha1Digest};
pub use public::is_public;

//! SHA-1 of pieces and blocks: one after another, or many strips side by side.
//!
//! In scope: [`sha1()`] for bytes at hand, [`Hasher`] for bytes that come in parts, [`Lanes`] for many
//! independent messages that grow together. Out of scope: threads, I/O, knowing what a piece is.
//!
//! One SHA-1 stream is a chain of steps that wait for each other. A processor has room for more, so
//! [`Lanes`] hashes several messages at once, with whichever [`Kernel`] is the best at hand:
//! 16 messages in AVX-512's vectors, 8 in AVX2's, or two streams of SHA instructions in turn.
//! [`lane_count`] tells how many messages to bring.
//!
//! ```
//! use piece_hash::{Hasher, Lanes, sha1};
//!
//! // In parts or at once: the same digest.
//! let mut hasher = Hasher::new();
//! hasher.update(b"a piece ");
//! hasher.update(b"in two parts");
//! assert_eq!(hasher.finish(), sha1(b"a piece in two parts"));
//!
//! // Two messages side by side, each a strip at a time.
//! let mut lanes = Lanes::new(2);
//! lanes.update(&[b"first ", b"second"]);
//! lanes.update(&[b"message", b""]);
//! assert_eq!(lanes.finish(), [sha1(b"first message"), sha1(b"second")]);
//! ```
//!
//! The contract of [`Lanes`]: a call to `update` gives each lane the next strip of its own message.
//! Strips may differ in length and may be empty, so messages of different lengths share one set of
//! lanes. Speed is best when strips are long (16 KiB and more), of equal length and a multiple of
//! 64 bytes, and when there are as many as [`lane_count`] or a multiple of it.
//!
//! Sources: FIPS 180-4 (SHA-1), BEP 3 ("pieces").

mod hasher;
mod kernel;
mod lanes;

pub use bt_types::Sha1Digest;
pub use hasher::{Hasher, sha1};
pub use kernel::{Kernel, lane_count};
pub use lanes::Lanes;

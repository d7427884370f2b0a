//! SHA-1 of one message, or of many messages in parallel lanes.
//!
//! In scope: [`sha1()`] for a complete message, [`Hasher`] for one that arrives in chunks,
//! [`Lanes`] for many independent messages. Out of scope: threads, I/O, the meaning of the
//! messages.
//!
//! Each step of SHA-1 depends on the previous one, so a single stream leaves most of a processor
//! idle. [`Lanes`] hashes several messages at once with the best available [`Kernel`]: 16 messages
//! in AVX-512's vectors, 8 in AVX2's, or two interleaved streams of SHA instructions.
//! [`lane_count`] returns the best number of messages.
//!
//! ```
//! use piece_hash::{Hasher, Lanes, sha1};
//!
//! // In chunks or at once: the same digest.
//! let mut hasher = Hasher::new();
//! hasher.update(b"a piece ");
//! hasher.update(b"in two chunks");
//! assert_eq!(hasher.finish(), sha1(b"a piece in two chunks"));
//!
//! // Two messages in parallel, one strip of each at a time.
//! let mut lanes = Lanes::new(2);
//! lanes.update(&[b"first ", b"second"]);
//! lanes.update(&[b"message", b""]);
//! assert_eq!(lanes.finish(), [sha1(b"first message"), sha1(b"second")]);
//! ```
//!
//! The contract of [`Lanes`]: a call to `update` gives each lane the next strip of its own message.
//! Strips may differ in length and may be empty, so messages of different lengths can share a set
//! of lanes. Hashing is fastest if strips are long (16 KiB or more), of equal length and a multiple
//! of 64 bytes, and their number is a multiple of [`lane_count`].
//!
//! Sources: FIPS 180-4 (SHA-1), BEP 3 ("pieces").

mod hasher;
mod kernel;
mod lanes;

pub use bt_types::Sha1Digest;
pub use hasher::{Hasher, sha1};
pub use kernel::{Kernel, lane_count};
pub use lanes::Lanes;

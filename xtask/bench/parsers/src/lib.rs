//! The torrents and the contestants of the comparison of bencode parsers.
//!
//! Two programs use them: `parse` measures time, `allocations` counts allocations. A counting
//! allocator makes every allocation slower, which would be unfair to parsers that allocate much.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark has a clock.

mod contestants;
mod payloads;
mod walk;

pub use contestants::{Contestant, contestants};
pub use payloads::{Payload, payloads};

//! What the parsers of bencode are compared on, and who takes part.
//!
//! Two programs use it: `parse` times, `allocations` counts. They are two because a counting
//! allocator makes every allocation slower, which would be unfair to those who allocate much.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark has a clock.

mod contestants;
mod payloads;
mod walk;

pub use contestants::{Contestant, contestants};
pub use payloads::{Payload, payloads};

//! Trackers, peers and data for the tests of this workspace, on real loopback sockets and with real
//! files. Tests can observe every step and request every fault.
//!
//! In scope:
//!
//! - [`HttpTracker`] and [`UdpTracker`] are working trackers, until an [`Answer`] changes that.
//! - [`WebServer`] sends any response.
//! - [`ScriptedPeer`] is an honest seeder or leecher, or one with the fault that its [`Behaviour`]
//!   names. It serves metadata, well or with a [`MetadataBehaviour`].
//! - [`hostile::Crowd`] is a set of peers that may send any bytes; [`raw`] encodes messages for them.
//! - [`Payload`] is files with data from a seed, and their torrent.
//! - [`replay`] runs a fuzz target on its corpus; [`Choices`] turns a fuzzer's bytes into decisions.
//!
//! Out of scope: anything that users of the client need.
//!
//! ```
//! use std::time::Duration;
//! use testkit::{HttpTracker, Payload, Script};
//!
//! let tracker = HttpTracker::start();
//! let payload = Payload::file("example.bin", 100_000).tracker(tracker.url()).create()?;
//!
//! // A seeder, and a leecher that downloads everything from it and verifies it.
//! let seeder = Script::seeder(&payload).listen();
//! let leecher = Script::leecher(&payload).connect(seeder.address())?;
//! assert!(leecher.wait_for(Duration::from_secs(10), |seen| seen.complete));
//! assert_eq!(leecher.data(), &payload.data()[..]);
//! assert_eq!(seeder.seen().blocks_sent, 7);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The contract: a server listens when the call that starts it returns; dropping it stops it and
//! joins its threads. Tests do not sleep but use `wait_for`. This crate encodes messages and
//! torrents itself, not with the crates under test. Each test gets new files and ports.
//!
//! Protocols: BEP 3 (peers, HTTP trackers), 6, 7, 9, 10, 12, 15, 23, 27, 41, 48.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

mod ben;
mod choices;
mod corpus;
pub mod fixtures;
pub mod hostile;
mod payload;
mod peer;
pub mod raw;
mod server;
mod tracker;
mod web;

pub use bt_types::{AnnounceEvent, Geometry, InfoHashV1, PeerId, Sha1Digest};
pub use choices::Choices;
pub use corpus::replay;
pub use payload::{Difference, Payload, PayloadBuilder, bytes, sha1};
pub use peer::{Behaviour, MetadataBehaviour, Script, ScriptedPeer, Seen};
pub use tracker::{Answer, BodyCoding, HttpTracker, SeenAnnounce, Tracker, UdpTracker, gzip};
pub use web::WebServer;

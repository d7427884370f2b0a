//! Trackers, peers and data for the tests of this workspace: real sockets on loopback, real files,
//! every step observable, every misdeed on request.
//!
//! In scope: [`HttpTracker`] and [`UdpTracker`], which work as trackers do until an [`Answer`]
//! tells them otherwise; [`WebServer`], which knows nothing and says what it is told;
//! [`ScriptedPeer`], an honest seeder or leecher or one that breaks the rule its [`Behaviour`] names;
//! a [`hostile::Crowd`] of peers that say anything at all; [`Payload`], files and a torrent that
//! follow from a number; [`replay`] of what a fuzzer found, and [`Choices`] taken from it. Out of scope: anything a user of the
//! client runs.
//!
//! ```
//! use std::time::Duration;
//! use testkit::{HttpTracker, Payload, Script};
//!
//! let tracker = HttpTracker::start();
//! let payload = Payload::file("example.bin", 100_000).tracker(tracker.url()).create()?;
//!
//! // A seeder, and a leecher that fetches everything from it and checks it.
//! let seeder = Script::seeder(&payload).listen();
//! let leecher = Script::leecher(&payload).connect(seeder.address())?;
//! assert!(leecher.wait_for(Duration::from_secs(10), |seen| seen.complete));
//! assert_eq!(leecher.data(), &payload.data()[..]);
//! assert_eq!(seeder.seen().blocks_sent, 7);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The contract: what is started listens when the call returns, and is stopped and joined when
//! dropped. Nothing sleeps: wait with `wait_for`. Bytes on the wire and in torrents are written by
//! hand, not by the crates under test. Files, addresses and ports are fresh in each test.
//!
//! Protocols: BEP 3 (peers, HTTP trackers), 6, 7, 10, 12, 15, 23, 27, 41, 48.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

mod choices;
mod corpus;
pub mod fixtures;
pub mod hostile;
mod payload;
mod peer;
mod server;
mod tracker;
mod web;

pub use bt_types::{AnnounceEvent, Geometry, InfoHashV1, PeerId, Sha1Digest};
pub use choices::Choices;
pub use corpus::replay;
pub use payload::{Difference, Payload, PayloadBuilder, bytes, sha1};
pub use peer::{Behaviour, Script, ScriptedPeer, Seen};
pub use tracker::{Answer, BodyCoding, HttpTracker, SeenAnnounce, Tracker, UdpTracker, gzip};
pub use web::WebServer;

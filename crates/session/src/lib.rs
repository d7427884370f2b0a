//! A whole BitTorrent client as a library: give it torrents, take events.
//!
//! In scope: many torrents at once, incoming and outgoing connections over IPv4 and IPv6, HTTP(S)
//! and UDP trackers, limits on rates, connections and memory, resuming, seeding. Out of scope:
//! parsing anything on the wire (`peer-wire`, `tracker-udp`, `tracker-http`), deciding for one
//! torrent (`swarm`), files (`piece-store`), printing.
//!
//! The public nouns: [`Session`] is the handle, [`SessionConfig`] and [`AddTorrent`] say what is
//! wanted, [`Event`] and [`TorrentStatus`] report progress. [`probe::handshake`] identifies one
//! peer. [`engine::Engine`] is everything a session decides, without sockets and clock, for
//! programs that bring their own event loop or simulate one.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use session::{AddTorrent, EventKind, Session, SessionConfig, StopReason};
//!
//! # let hash = piece_hash::sha1(b"hello");
//! # let bytes = metainfo::Builder::new("hello.txt").length(5).build(&[hash])?.raw().to_vec();
//! # let dir = tempfile::tempdir()?;
//! # let folder = dir.path();
//! # std::fs::write(folder.join("hello.txt"), "hello")?;
//! let metainfo = Arc::new(metainfo::Metainfo::parse(bytes)?);
//! let config = SessionConfig { ports: 0..=0, ..SessionConfig::default() };
//! let session = Session::start(&config)?;
//! let torrent = session.add(AddTorrent::new(metainfo, folder))?;
//! for event in session.events() {
//!     match event.kind {
//!         EventKind::Completed => break,
//!         EventKind::Stopped { reason: StopReason::Failed(error) } => return Err(error.into()),
//!         _ => {}
//!     }
//! }
//! assert!(session.snapshot()?[0].is_complete());
//! session.shut_down(Duration::from_secs(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract: only verified pieces are announced and served; [`EventKind::Completed`] is
//! reported after the data was synced; a stop syncs before it announces `stopped`.
//!
//! Sources: BEP 3, 6, 7, 10, 12, 15, 20, 23, 27.

pub mod limits;

mod command;
mod config;
mod descriptors;
mod event;
mod net;
mod node_names;
mod session;

pub mod engine;
pub mod node;
pub mod probe;
mod reactor;

pub use config::{AddTorrent, Description, DhtConfig, Goal, SessionConfig};
pub use engine::AddError;
pub use event::{
    ErrorClass, Event, EventKind, GiveUp, MetadataStatus, PeerState, PhaseKind, StopReason,
    TorrentError, TorrentStatus, TrackerReport, TrackerStatus,
};
pub use session::{Busy, Session, StartError};

pub use bt_types::{InfoHashV1, PeerId, PieceIndex, TrackerPeer};
pub use piece_store::{StoreLayout, TorrentKey};
pub use swarm::Source;

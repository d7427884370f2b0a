//! One torrent's decisions: which block to request from which peer, which peers to unchoke, to
//! connect to, to ban, which tracker to ask.
//!
//! In scope: rarest first, pipelining, endgame, snubbing and blame; the choker; interest and HAVE;
//! the known and the connected peers; tracker tiers; memory for payload as a budget. Out of scope:
//! sockets, wire formats, disk, payload bytes, DNS, the clock and the system's randomness. A
//! swarm is deterministic: the same calls with the same seed give the same outputs.
//!
//! - [`Swarm`] is the state machine, made from a [`SwarmConfig`]. [`Swarm::begin_transfer`] tells
//!   it the torrent's geometry.
//! - [`Output`] is what it wants done, taken with [`Swarm::poll_output`].
//! - [`SpanBudget`] is the memory that all swarms of a session share; [`SpanLayout`] says how
//!   pieces are divided into spans.
//! - [`BlockFate`] says what to do with a part of a block that arrived.
//! - [`Pieces`], [`PeerView`] and [`TrackerView`] say how things are.
//!
//! A seeder connects, and the swarm asks it for the only block there is:
//!
//! ```
//! use std::time::Duration;
//! use swarm::{
//!     Bitfield, BlockFate, Committed, ConnectedPeer, Geometry, Output, PeerId, PeerKey,
//!     SpanBudget, Swarm, SwarmConfig,
//! };
//!
//! let now = Duration::ZERO;
//! let mut budget = SpanBudget::new(1 << 20);
//! let geometry = Geometry::new(1000, 16 * 1024)?;
//! let config = SwarmConfig::new(PeerId(*b"-XX0001-abcdefghijkl"));
//! let mut swarm = Swarm::new(now, &config);
//! swarm.begin_transfer(now, geometry, Bitfield::new(1), Bitfield::full(1), &[])?;
//!
//! let seeder = PeerKey(1);
//! swarm.handle_connected(
//!     now,
//!     seeder,
//!     ConnectedPeer {
//!         address: "192.0.2.7:6881".parse()?,
//!         outgoing: true,
//!         fast: true,
//!         peer_id: PeerId(*b"-YY0001-abcdefghijkl"),
//!     },
//! )?;
//! swarm.handle_have_all(now, seeder);
//! assert_eq!(swarm.poll_output(now, &mut budget), Some(Output::Interested { peer: seeder }));
//!
//! swarm.handle_unchoke(now, seeder);
//! let piece = geometry.piece(0).expect("there is one piece");
//! let request = geometry.block(piece, 0).expect("there is one block");
//! let open = Output::OpenSpans { piece, spans: 0..1 };
//! assert_eq!(swarm.poll_output(now, &mut budget), Some(open));
//! let ask = Output::Request { peer: seeder, request };
//! assert_eq!(swarm.poll_output(now, &mut budget), Some(ask));
//!
//! // The block arrives in one part, is kept, hashed and written.
//! assert_eq!(swarm.handle_part(now, seeder, request, 0), BlockFate::Keep);
//! swarm.handle_block(now, seeder, request);
//! let commit = Output::Commit { piece, digests: false };
//! assert_eq!(swarm.poll_output(now, &mut budget), Some(commit));
//! swarm.handle_committed(now, piece, Committed::Verified { digests: None });
//! assert!(swarm.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract: *after any call, drain the polls*. Their order does not matter. `now` is the time
//! since the launch and never goes back.
//!
//! Memory: a block is requested only when [`Output::OpenSpans`] has reserved its span. The caller
//! releases a span's bytes when it has the buffer back, after [`Output::StageSpan`],
//! [`Output::ClosePiece`] or [`Output::Commit`], and then polls the swarms again that are
//! [starved](Swarm::is_starved).
//!
//! Sources: BEP 3 (choking, requests, announces), BEP 6 (reject, allowed fast, suggest), BEP 10
//! (`reqq`, `p`), BEP 11 (peer exchange), BEP 12 (tiers), BEP 27 (private torrents).

mod spans;
mod vocabulary;

mod getters;
mod membership;
mod messages;
mod pex;
mod swarm;

mod contacts;
mod transfer;

mod peer;
mod rate;
mod rng;

pub use bt_types::{
    AnnounceEvent, AnnounceReply, Bitfield, BlockRequest, Geometry, PeerId, PieceIndex, Sha1Digest,
};
pub use contacts::MAX_TRACKERS;
pub use spans::{SPAN_LENGTH, SpanBudget, SpanLayout, WHOLE_PIECE_LENGTH};
pub use swarm::Swarm;
pub use transfer::Pieces;
pub use vocabulary::{
    AnnounceFailure, BeginTransferError, BlockFate, Committed, ConnectFailure, ConnectedPeer,
    DeadEnd, DisconnectReason, Output, PeerKey, PeerView, PexEntry, Refusal, Source, SwarmConfig,
    TrackerIndex, TrackerView,
};

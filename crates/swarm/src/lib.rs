//! One torrent's decisions: which block to ask of whom, whom to unchoke, whom to connect to, whom
//! to ban, which tracker to ask.
//!
//! In scope: rarest first, pipelining, endgame, snubbing and blame; the choker; interest and HAVE;
//! the known and the connected peers; tracker tiers; memory for payload as a budget. Out of scope:
//! sockets, wire formats, disk, payload bytes, DNS, the clock and the system's randomness. A
//! swarm is deterministic: the same calls with the same seed give the same outputs.
//!
//! - [`Swarm`] is the state machine, made from a [`SwarmConfig`].
//! - [`Output`] is what it wants done, taken with [`Swarm::poll_output`].
//! - [`SpanBudget`] is the memory that all swarms of a session share; [`SpanLayout`] says how
//!   pieces are divided into spans.
//! - [`Place`] answers for each part of a block that arrives whether anybody needs it.
//! - [`PeerView`] and [`TrackerView`] are for people to look at.
//!
//! A seeder connects, and the swarm asks it for the only block there is:
//!
//! ```
//! use std::time::Duration;
//! use swarm::{
//!     Bitfield, Committed, ConnectedPeer, Geometry, Output, PeerId, PeerKey, Place, SpanBudget,
//!     Swarm, SwarmConfig,
//! };
//!
//! let now = Duration::ZERO;
//! let mut budget = SpanBudget::new(1 << 20);
//! let geometry = Geometry::new(1000, 16 * 1024)?;
//! let config = SwarmConfig::new(geometry, Bitfield::new(1), PeerId(*b"-XX0001-abcdefghijkl"));
//! let mut swarm = Swarm::new(now, config);
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
//! assert_eq!(swarm.place(now, seeder, request, 0), Place::Keep);
//! swarm.handle_block(now, seeder, request);
//! let commit = Output::Commit { piece, digests: false };
//! assert_eq!(swarm.poll_output(now, &mut budget), Some(commit));
//! swarm.handle_committed(now, piece, Committed::Verified { digests: None });
//! assert!(swarm.is_complete());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract: *after any call, drain the polls*. Their order does not matter. `now` is the time
//! since the start of the run and never goes back.
//!
//! Memory: a block is requested only when [`Output::OpenSpans`] has reserved its span. The caller
//! releases a span's bytes when it has the buffer back, after [`Output::StageSpan`],
//! [`Output::ClosePiece`] or [`Output::Commit`], and polls the swarms that are
//! [starved](Swarm::is_starved) again.
//!
//! Sources: BEP 3 (choking, requests, announces), BEP 6 (reject, allowed fast, suggest), BEP 10
//! (`reqq`, `p`), BEP 12 (tiers), BEP 27 (private torrents).

mod vocabulary;

mod swarm;

mod pieces;

mod open;
mod rarity;

mod memory;
mod peer;
mod rate;
mod window;

mod blame;
mod choker;
mod dice;
mod roster;
mod timer;
mod trackers;

pub use bt_types::{
    AnnounceEvent, AnnounceReply, Bitfield, BlockRequest, Geometry, PeerId, PieceIndex, Sha1Digest,
};
pub use swarm::Swarm;
pub use trackers::MAX_TRACKERS;
pub use vocabulary::{
    AnnounceFailure, Committed, ConnectFailure, ConnectedPeer, DisconnectReason, Output, PeerKey,
    PeerView, Place, Refusal, SPAN_LENGTH, Source, SpanBudget, SpanLayout, SwarmConfig,
    TrackerIndex, TrackerView, WHOLE_PIECE_LENGTH,
};

//! One torrent's decisions: which block from whom, whom to unchoke, whom to connect to, which
//! tracker to ask.
mod vocabulary;

mod swarm;

mod blame;
mod choker;
mod open;
mod peer;
mod pieces;
mod rarity;
mod rate;
mod roster;
mod timer;
mod trackers;
mod window;

pub use bt_types::{
    AnnounceEvent, AnnounceReply, Bitfield, BlockRequest, Geometry, PeerId, PieceIndex, Sha1Digest,
};
pub use swarm::Swarm;
pub use vocabulary::{
    AnnounceFailure, Committed, ConnectFailure, ConnectedPeer, DisconnectReason, Output, PeerKey,
    PeerView, Place, Refusal, SPAN_LENGTH, Source, SpanBudget, SpanLayout, SwarmConfig,
    TrackerIndex, TrackerView, WHOLE_PIECE_LENGTH,
};

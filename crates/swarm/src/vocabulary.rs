//! The plain data that goes in and out of a [`Swarm`](crate::Swarm).

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bt_types::{AnnounceEvent, BlockRequest, PeerId, PieceIndex, Sha1Digest};

/// A connected peer, by the number that the caller gave it. The caller uses no number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// A tracker, by its index in the torrent's list, counted over all tiers. The index stays the same
/// when a tier is shuffled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerIndex(pub usize);

/// What a swarm must know from the first second.
#[derive(Debug, Clone)]
pub struct SwarmConfig {
    /// Our own peer id, which identifies connections to ourselves.
    pub peer_id: PeerId,
    /// Whether peers may come only from the trackers (BEP 27).
    pub private: bool,
    /// The trackers' URLs by tier (BEP 12), as in the torrent; the first 100 are asked. Empty for
    /// none.
    pub trackers: Vec<Vec<String>>,
    /// How many peers may be connected or connecting.
    pub max_peers: usize,
    /// How many interested peers are unchoked at a time; while seeding, more as soon as what flows
    /// suffices for more. 0 uploads nothing.
    pub upload_slots: usize,
    /// The seed of all the swarm's random choices.
    pub seed: u64,
}

impl SwarmConfig {
    /// Returns the configuration of a public torrent without trackers, with at most 100 peers, 8
    /// upload slots and seed 0.
    pub fn new(peer_id: PeerId) -> Self {
        Self {
            peer_id,
            private: false,
            trackers: Vec::new(),
            max_peers: 100,
            upload_slots: 8,
            seed: 0,
        }
    }
}

/// Why a transfer does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginTransferError {
    /// Occurs when a bitfield is for another number of pieces than the torrent has.
    #[error("expected a bitfield of {expected} pieces, got {got}")]
    PieceCount {
        /// How many pieces the torrent has.
        expected: u32,
        /// How many pieces the bitfield covers.
        got: u32,
    },
    /// Occurs when the transfer has started already.
    #[error("the transfer has started already")]
    AlreadyStarted,
}

/// A peer whose handshake is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectedPeer {
    /// The other end of the connection. For an outgoing one the address
    /// [`Swarm::next_candidate`](crate::Swarm::next_candidate) gave.
    pub address: SocketAddr,
    /// Whether we connected to it.
    pub outgoing: bool,
    /// Whether both ends speak the Fast extension (BEP 6).
    pub fast: bool,
    /// What it calls itself.
    pub peer_id: PeerId,
}

/// Where an address comes from. A private torrent uses only those of its trackers (BEP 27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// From a tracker of the torrent.
    Tracker,
    /// From the user.
    User,
    /// From a peer that connected to us and said where it listens.
    Incoming,
    /// From another peer (BEP 11).
    Pex,
    /// From the distributed hash table (BEP 5).
    Dht,
    /// From the local network (BEP 14).
    Local,
}

impl Source {
    /// Whether anybody may have made an address up that came this way: peers and nodes name what
    /// they like, and a tracker is one that the torrent names.
    pub(crate) fn is_untrusted(self) -> bool {
        match self {
            Self::Pex | Self::Dht => true,
            Self::Tracker | Self::User | Self::Incoming | Self::Local => false,
        }
    }
}

/// Why an attempt to connect to a candidate failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// The socket could not be connected: refused, unreachable, timed out.
    Unreachable,
    /// The socket was connected, but closed, silent or wrong before the handshake was complete.
    Handshake,
    /// The peer has another torrent or another peer id than it should.
    WrongPeer,
}

/// Why no peer can be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadEnd {
    /// Every known peer is banned for bad data, and no further tracker is asked.
    AllBanned,
    /// Every tracker failed, and every known address was tried.
    Unreachable,
}

/// Why a peer with a complete handshake is refused. The caller closes the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Occurs when the peer is connected already, by address or by peer id.
    #[error("the peer is connected already")]
    Duplicate,
    /// Occurs when the peer id is our own.
    #[error("the peer is this client itself")]
    Myself,
    /// Occurs when the peer sent bad data before.
    #[error("the peer is banned for bad data")]
    Banned,
    /// Occurs when the torrent turned out to be private while the connection was made, and no
    /// tracker named the peer.
    #[error("the torrent is private, and none of its trackers named the peer")]
    Private,
    /// Occurs when there are as many peers as the configuration allows.
    #[error("the limit of peers is reached: {limit}")]
    TooMany {
        /// The configured limit.
        limit: usize,
    },
    /// Occurs when the swarm is stopped.
    #[error("the torrent is stopped")]
    Stopped,
}

/// Why a connection ended or has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DisconnectReason {
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// The socket failed.
    #[error("the connection failed")]
    Failed,
    /// Nothing was received for too long.
    #[error("the peer was silent")]
    Idle,
    /// The peer broke a rule of the protocol.
    #[error("the peer broke a rule of the protocol")]
    Misbehaved,
    /// The peer's bitfield does not fit the torrent.
    #[error("the peer's bitfield does not fit the torrent")]
    BadBitfield,
    /// The peer sent bad data and is banned.
    #[error("the peer sent bad data")]
    BadData,
    /// The same peer is connected a second time.
    #[error("the peer has another connection to us")]
    Duplicate,
    /// Neither end wants anything.
    #[error("both ends have everything they want")]
    NothingToExchange,
    /// The swarm is full, and no peer has sent a block for a minute. Another peer may be better.
    #[error("no data arrives, and another peer needs its slot")]
    Useless,
    /// The torrent turned out to be private, and no tracker named the peer.
    #[error("the torrent is private, and none of its trackers named the peer")]
    Private,
    /// The torrent is stopped.
    #[error("the torrent is stopped")]
    Stopped,
    /// The caller's own limits.
    #[error("a limit of the session was reached")]
    Limit,
}

/// What to do with a part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum BlockFate {
    /// Copy it into the span that covers it.
    Keep,
    /// It is not needed.
    Discard,
}

/// The outcome of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The hash matched, and the piece is written: we have it.
    Verified {
        /// The digest of each block, if the commit asked for digests.
        digests: Option<Vec<Sha1Digest>>,
    },
    /// The hash did not match.
    Mismatch {
        /// The digest of each block.
        digests: Vec<Sha1Digest>,
    },
    /// The disk failed. The piece is missing as before. The caller decides whether to stop the
    /// torrent.
    Failed,
}

/// Why an announce failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceFailure {
    /// What went wrong, for people. Untrusted text where it is the tracker's failure reason.
    pub message: String,
    /// After how many seconds the tracker may be asked again, if it said so. Our own back-off holds
    /// if it is longer.
    pub retry_in: Option<u32>,
}

/// A peer in a message of peer exchange (BEP 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PexEntry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it has every piece.
    pub seed: bool,
    /// Whether we connected to it, so that it is reachable.
    pub reachable: bool,
}

/// What the caller must do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask `peer` for a block.
    Request {
        /// The peer to ask.
        peer: PeerKey,
        /// The block.
        request: BlockRequest,
    },
    /// Tell `peer` that a requested block is no longer needed.
    Cancel {
        /// The peer to tell.
        peer: PeerKey,
        /// The request that is cancelled.
        request: BlockRequest,
    },
    /// Tell `peer` that we want its pieces.
    Interested {
        /// The peer to tell.
        peer: PeerKey,
    },
    /// Tell `peer` that we want none of its pieces.
    NotInterested {
        /// The peer to tell.
        peer: PeerKey,
    },
    /// Tell `peer` that we do not answer its requests from now on, and reject those that wait
    /// (BEP 6).
    Choke {
        /// The peer to tell.
        peer: PeerKey,
    },
    /// Tell `peer` that we answer its requests from now on.
    Unchoke {
        /// The peer to tell.
        peer: PeerKey,
    },
    /// Tell `peer` that we have a new piece.
    Have {
        /// The peer to tell.
        peer: PeerKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// Send `peer` which peers we are connected to, as changes since the last time (BEP 11).
    Pex {
        /// The receiver.
        peer: PeerKey,
        /// The peers that came, at most 50.
        added: Vec<PexEntry>,
        /// Where the peers listened that went, at most 50.
        dropped: Vec<SocketAddr>,
    },
    /// Close the connection. The swarm has forgotten the peer already.
    Disconnect {
        /// The peer.
        peer: PeerKey,
        /// The reason.
        reason: DisconnectReason,
    },
    /// Have buffers ready for these spans of `piece`: blocks in them will be requested. Their
    /// memory has just been reserved from the budget. Pieces up to
    /// [`WHOLE_PIECE_LENGTH`](crate::WHOLE_PIECE_LENGTH) get all their spans in one output; longer
    /// ones, and spans that were staged, one at a time.
    OpenSpans {
        /// The piece.
        piece: PieceIndex,
        /// Which of its spans.
        spans: Range<u32>,
    },
    /// Write the blocks that this span has (see [`Swarm::blocks_in`](crate::Swarm::blocks_in)) to
    /// disk before the piece is verified, and release the span's memory once that is done.
    StageSpan {
        /// The piece.
        piece: PieceIndex,
        /// The span.
        span: u32,
    },
    /// Discard what was received of `piece`, including staged spans, and release the memory of the
    /// others.
    ClosePiece {
        /// The piece.
        piece: PieceIndex,
    },
    /// Every block of `piece` is in: hash it, compare, write it, and report with
    /// [`Swarm::handle_committed`](crate::Swarm::handle_committed). Release the memory of its
    /// spans when the buffers are free again.
    Commit {
        /// The piece.
        piece: PieceIndex,
        /// Whether to report the blocks' digests even if the piece verifies.
        digests: bool,
    },
    /// Announce to a tracker, and report with
    /// [`Swarm::handle_announced`](crate::Swarm::handle_announced), within 15 s.
    Announce {
        /// The tracker.
        tracker: TrackerIndex,
        /// Its URL.
        url: String,
        /// The event.
        event: AnnounceEvent,
        /// How many peers to ask for.
        num_want: u32,
        /// The tracker id of the last reply.
        tracker_id: Option<Vec<u8>>,
    },
    /// Bad data came from this address. Its connections are closed by outputs of their own.
    Banned {
        /// The address.
        address: SocketAddr,
        /// Where it came from.
        source: Source,
    },
    /// We have every wanted piece.
    Completed,
}

/// A connected peer, for people to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    /// The caller's number for it.
    pub key: PeerKey,
    /// The other end of the connection.
    pub address: SocketAddr,
    /// What it calls itself.
    pub peer_id: PeerId,
    /// Whether we connected to it.
    pub outgoing: bool,
    /// How many pieces it has.
    pub pieces: u32,
    /// Payload it sends us, in bytes per second.
    pub down_rate: u64,
    /// Payload we send it, in bytes per second.
    pub up_rate: u64,
    /// Whether we are choking the peer (BEP 3).
    pub am_choking: bool,
    /// Whether we want its pieces.
    pub am_interested: bool,
    /// Whether the peer is choking us.
    pub peer_choking: bool,
    /// Whether it wants our pieces.
    pub peer_interested: bool,
    /// Whether it owes us blocks and has sent none for too long.
    pub snubbed: bool,
    /// How many of our requests it has not answered yet.
    pub outstanding: usize,
    /// How many requests may be outstanding at its rate.
    pub window: usize,
}

/// A tracker, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerView {
    /// Its URL.
    pub url: String,
    /// Failures in a row; 0 after a reply.
    pub failures: u32,
    /// Why the last announce failed, if it did. Untrusted text.
    pub error: Option<String>,
    /// Whether it has replied since the launch.
    pub replied: bool,
    /// When it may be asked again, since the launch.
    pub next_announce: Duration,
}

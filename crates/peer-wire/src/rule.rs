//! The rules of the protocol that a peer can break.

use bt_types::{InfoHashV1, PeerId};

use crate::frame::FrameError;
use crate::message::WireRequest;

/// The rule that a peer broke. A connection ends with it; whether the peer may come back is the
/// caller's decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// Occurs when the first bytes are not those of a handshake (BEP 3). Encrypted connections
    /// look like this too.
    #[error("expected a BitTorrent handshake, got other bytes")]
    NotBitTorrent,
    /// Occurs when the peer answers for another torrent (BEP 3).
    #[error("expected info-hash {expected}, got {got}")]
    WrongInfoHash {
        /// The torrent we asked for.
        expected: InfoHashV1,
        /// The torrent the peer answered for.
        got: InfoHashV1,
    },
    /// Occurs when the peer is not the one whose id the tracker sent (BEP 3).
    #[error("expected peer id {expected}, got {got}")]
    WrongPeerId {
        /// The id we expected.
        expected: PeerId,
        /// The id the peer gave.
        got: PeerId,
    },
    /// Occurs when a message's length is one that its kind cannot have.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Occurs when a message needs the fast extension and not both sides speak it (BEP 6).
    #[error("message {id} needs the fast extension, which was not negotiated")]
    FastIsOff {
        /// The kind of the message.
        id: u8,
    },
    /// Occurs when a bitfield is not as long as the torrent's pieces need (BEP 3).
    #[error("expected a bitfield of {expected} bytes, got {got}")]
    BitfieldLength {
        /// How many bytes the pieces need.
        expected: u32,
        /// How many there were.
        got: u32,
    },
    /// Occurs when bitfields, have-all or have-none repeat too often what the peer has: more
    /// than [`RETELLING_BURST`](crate::RETELLING_BURST) bytes of bitfields at once or
    /// [`RETELLING_RATE`](crate::RETELLING_RATE) a second (BEP 3, BEP 6: they come once).
    #[error("message {id} repeats the list of all pieces too often")]
    TooMuchRetelling {
        /// The kind of the message.
        id: u8,
    },
    /// Occurs when messages that bring neither data nor a request that we serve come again and
    /// again, such as keep-alives, chokes and unchokes, unknown or unreadable ones, requests beyond
    /// [`MAX_QUEUED_REQUESTS`](crate::MAX_QUEUED_REQUESTS): more than
    /// [`TALK_BURST`](crate::TALK_BURST) bytes at once or [`TALK_RATE`](crate::TALK_RATE) a second,
    /// each counted as [`LEAST_TALK`](crate::LEAST_TALK) at least.
    #[error("too many useless messages")]
    TooMuchTalk,
    /// Occurs when a message names a piece that does not exist.
    #[error("message {id} names piece {index}, but the torrent has {count} pieces")]
    NoSuchPiece {
        /// The kind of the message.
        id: u8,
        /// The piece it names.
        index: u32,
        /// How many pieces there are.
        count: u32,
    },
    /// Occurs when a request or cancel names a range that lies in no piece, is empty, or is longer
    /// than [`bt_types::MAX_REQUEST_LENGTH`].
    #[error("invalid range: piece {}, offset {}, length {}", .0.index, .0.offset, .0.length)]
    NoSuchRange(WireRequest),
    /// Occurs when the peer requests while we do not even know how many pieces there are, so that
    /// we cannot have announced one.
    #[error("a request came before we announced any piece")]
    EarlyRequest,
    /// Occurs when a request comes while more than [`MAX_UNREAD`](crate::MAX_UNREAD) bytes of
    /// earlier answers and messages, payload not counted, were not read.
    #[error("a request came while {waiting} bytes of earlier messages were unread")]
    NotReading {
        /// How many bytes wait.
        waiting: usize,
    },
    /// Occurs when a block comes that was never requested: at once with the fast extension (BEP
    /// 6), else after [`MAX_UNREQUESTED`](crate::MAX_UNREQUESTED) bytes of such blocks.
    #[error("unrequested block: piece {}, offset {}, length {}", .0.index, .0.offset, .0.length)]
    UnrequestedBlock(WireRequest),
    /// Occurs when more than [`MAX_STRAY_REJECTS`](crate::MAX_STRAY_REJECTS) rejects came for what
    /// was never requested or is already answered (BEP 6).
    #[error("reject of an unrequested block: piece {}, offset {}", .0.index, .0.offset)]
    UnrequestedReject(WireRequest),
}

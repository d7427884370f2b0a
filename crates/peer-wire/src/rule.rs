//! The rules of the protocol that a peer can break.

use bt_types::{InfoHashV1, PeerId};

use crate::frame::FrameError;
use crate::message::WireRequest;

/// The rule that a peer broke. It closes the connection; whether the peer may connect again is the
/// caller's decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// Occurs when the first bytes are not those of a handshake (BEP 3). An encrypted connection
    /// looks like this too.
    #[error("expected a BitTorrent handshake, got other bytes")]
    NotBitTorrent,
    /// Occurs when the peer's handshake has another info-hash (BEP 3).
    #[error("expected info-hash {expected}, got {got}")]
    WrongInfoHash {
        /// Our info-hash.
        expected: InfoHashV1,
        /// The peer's info-hash.
        got: InfoHashV1,
    },
    /// Occurs when the peer's id is not the one that the tracker gave (BEP 3).
    #[error("expected peer id {expected}, got {got}")]
    WrongPeerId {
        /// The id from the tracker.
        expected: PeerId,
        /// The id in the handshake.
        got: PeerId,
    },
    /// Occurs when a message has a length that its id does not allow.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Occurs when a message needs the fast extension, which was not negotiated (BEP 6).
    #[error("message {id} needs the fast extension, which was not negotiated")]
    FastIsOff {
        /// The id of the message.
        id: u8,
    },
    /// Occurs when a bitfield has the wrong length for the number of pieces (BEP 3).
    #[error("expected a bitfield of {expected} bytes, got {got}")]
    BitfieldLength {
        /// The right length, in bytes.
        expected: u32,
        /// The length of the bitfield, in bytes.
        got: u32,
    },
    /// Occurs when the peer repeats bitfield, have-all or have-none too often: more than
    /// [`BITFIELD_BURST`](crate::BITFIELD_BURST) bytes at once, or
    /// [`BITFIELD_RATE`](crate::BITFIELD_RATE) bytes per second. BEP 3 and BEP 6 allow one.
    #[error("message {id} repeats the list of all pieces too often")]
    RepeatedBitfield {
        /// The id of the message.
        id: u8,
    },
    /// Occurs when the peer sends too many useless messages, such as keep-alives, chokes, unknown
    /// or invalid messages, and requests beyond
    /// [`MAX_QUEUED_REQUESTS`](crate::MAX_QUEUED_REQUESTS): more than
    /// [`MESSAGE_BURST`](crate::MESSAGE_BURST) bytes at once, or
    /// [`MESSAGE_RATE`](crate::MESSAGE_RATE) bytes per second. Each counts as at least
    /// [`MIN_MESSAGE_COST`](crate::MIN_MESSAGE_COST) bytes.
    #[error("too many useless messages")]
    Flood,
    /// Occurs when a message names a piece that does not exist.
    #[error("message {id} names piece {index}, but the torrent has {count} pieces")]
    NoSuchPiece {
        /// The id of the message.
        id: u8,
        /// The piece that it names.
        index: u32,
        /// How many pieces there are; [`MAX_PIECE_COUNT`](bt_types::MAX_PIECE_COUNT) while that is
        /// unknown.
        count: u32,
    },
    /// Occurs when the range of a request or cancel is not in one piece, is empty, or is longer
    /// than [`bt_types::MAX_REQUEST_LENGTH`].
    #[error("invalid range: piece {}, offset {}, length {}", .0.index, .0.offset, .0.length)]
    NoSuchRange(WireRequest),
    /// Occurs when a request comes before we know the number of pieces, so before we announced one.
    #[error("a request came before we announced any piece")]
    EarlyRequest,
    /// Occurs when a request comes while more than [`MAX_UNREAD`](crate::MAX_UNREAD) bytes of our
    /// messages, without block payload, are queued because the peer does not read them.
    #[error("a request came while {waiting} bytes of earlier messages were unread")]
    NotReading {
        /// How many bytes are queued.
        waiting: usize,
    },
    /// Occurs when the peer sends unrequested blocks: at the first one with the fast extension (BEP
    /// 6), else after [`MAX_UNREQUESTED`](crate::MAX_UNREQUESTED) bytes of them.
    #[error("unrequested block: piece {}, offset {}, length {}", .0.index, .0.offset, .0.length)]
    UnrequestedBlock(WireRequest),
    /// Occurs when the peer sends more than [`MAX_STRAY_REJECTS`](crate::MAX_STRAY_REJECTS) rejects
    /// of blocks that were not requested or already answered (BEP 6).
    #[error("reject of an unrequested block: piece {}, offset {}", .0.index, .0.offset)]
    UnrequestedReject(WireRequest),
}

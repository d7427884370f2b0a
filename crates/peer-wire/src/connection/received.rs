//! What a connection reports of the peer's bytes.

use bt_types::{BlockRequest, PieceIndex};

use crate::extension::ExtensionHandshake;
use crate::handshake::Handshake;
use crate::message::Message;
use crate::metadata::MetadataMessage;
use crate::pex::Pex;
use crate::rule::Rule;

/// A message from the peer, or a part of one. Payload is borrowed from the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// The peer's handshake. An incoming connection then waits for
    /// [`accept`](crate::Connection::accept).
    Handshake(Handshake),
    /// A keep-alive.
    KeepAlive,
    /// The peer is choking us. Without the fast extension our requests are now void.
    Choke,
    /// The peer is no longer choking us.
    Unchoke,
    /// The peer is interested in us.
    Interested,
    /// The peer is not interested in us.
    NotInterested,
    /// The peer has this piece.
    Have(PieceIndex),
    /// A part of the peer's bitfield. The parts come in order and without gaps.
    Bitfield {
        /// The offset of this part in the bitfield, in bytes.
        offset: usize,
        /// The bytes. If the geometry is known, the length was checked and the spare bits are zero.
        /// Else there are [`MAX_BITFIELD_LENGTH`](crate::MAX_BITFIELD_LENGTH) at most,
        /// [`set_geometry`](crate::Connection::set_geometry) checks the length, and spare bits may be
        /// set.
        bytes: &'a [u8],
        /// Whether this part completes the bitfield.
        last: bool,
    },
    /// The peer has every piece.
    HaveAll,
    /// The peer has no piece.
    HaveNone,
    /// The peer requests this block. [`reject`](crate::Connection::reject) it, or leave it in the
    /// queue until [`next_request`](crate::Connection::next_request) returns it.
    Request(BlockRequest),
    /// The peer cancels its unanswered request for this block. The caller need not answer: with the
    /// fast extension the connection has queued the reject.
    Cancel(BlockRequest),
    /// The peer rejects this request of ours, which we did not cancel.
    Reject(BlockRequest),
    /// The peer suggests that we request this piece.
    Suggest(PieceIndex),
    /// The peer serves this piece even while it is choking us.
    AllowedFast(PieceIndex),
    /// A have, suggest or allowed-fast message whose piece was not checked, because the geometry is
    /// unknown. It is less than [`MAX_PIECE_COUNT`](bt_types::MAX_PIECE_COUNT).
    /// [`set_geometry`](crate::Connection::set_geometry) checks it.
    Unchecked(Message<'static>),
    /// A part of a block that we requested, perhaps cancelled since. The parts come in order and
    /// without gaps; no other message comes between them.
    Block {
        /// The request that the block answers.
        request: BlockRequest,
        /// The offset of this part in the block, in bytes.
        offset: u32,
        /// The bytes; never empty.
        bytes: &'a [u8],
        /// Whether this part completes the block.
        last: bool,
    },
    /// The peer's extension handshake, the first or a later one.
    ExtensionHandshake(Box<ExtensionHandshake>),
    /// A message of the metadata extension, which our extension handshake offers (BEP 9). Data may
    /// be unrequested; it is then charged as a useless message.
    Metadata(MetadataMessage<'a>),
    /// Other peers that the peer is, or is no longer, connected to. Our extension handshake offers
    /// peer exchange (BEP 11).
    Pex(Pex),
    /// A message of another extension.
    Extended {
        /// The id from *our* extension handshake; never 0.
        id: u8,
        /// Its content, at most [`MAX_EXTENDED_LENGTH`](crate::MAX_EXTENDED_LENGTH) bytes.
        payload: Vec<u8>,
    },
    /// The peer's DHT node listens on this UDP port.
    Port(u16),
    /// A message with an unknown id, which is skipped.
    Unknown {
        /// Its id.
        id: u8,
        /// The length of its content, in bytes.
        length: u32,
    },
    /// The peer broke this rule, and the connection is closed.
    Misbehaved(Rule),
}

//! What a peer's bytes mean.

use bt_types::{BlockRequest, PieceIndex};

use crate::extension::ExtensionHandshake;
use crate::handshake::Handshake;
use crate::message::Message;
use crate::rule::Rule;

/// What came from the peer. Payload borrows the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received<'a> {
    /// The peer's handshake. An incoming connection now waits for
    /// [`accept`](crate::Connection::accept).
    Handshake(Handshake),
    /// A sign of life.
    KeepAlive,
    /// The peer answers no requests from now on. Without the fast extension all of ours are void.
    Choke,
    /// The peer answers requests from now on.
    Unchoke,
    /// The peer would request something if we unchoked it.
    Interested,
    /// The peer would request nothing.
    NotInterested,
    /// The peer has this piece.
    Have(PieceIndex),
    /// A part of the peer's bitfield. Parts come in order and without gaps.
    Bitfield {
        /// Where in the bitfield this part begins, in bytes.
        offset: usize,
        /// The part. Its length was checked if the geometry is known, and then spare bits are zero.
        bytes: &'a [u8],
        /// Whether the bitfield is complete with it.
        last: bool,
    },
    /// The peer has every piece.
    HaveAll,
    /// The peer has no piece.
    HaveNone,
    /// The peer wants this block. Refuse it with [`reject`](crate::Connection::reject) or leave it
    /// in the queue, from which [`next_request`](crate::Connection::next_request) gives it out.
    Request(BlockRequest),
    /// The peer no longer wants this block, which it asked for and was not answered. Nothing is to be
    /// done: where the fast extension is on, the connection has queued the reject.
    Cancel(BlockRequest),
    /// The peer will not answer this request of ours, which we did not cancel.
    Reject(BlockRequest),
    /// The peer would like to be asked for this piece.
    Suggest(PieceIndex),
    /// The peer gives this piece even while it chokes us.
    AllowedFast(PieceIndex),
    /// A have, suggest or allowed-fast message whose piece cannot be checked, since the geometry
    /// is not known yet.
    Unchecked(Message<'static>),
    /// A part of a block we requested, perhaps cancelled since. Parts come in order and without
    /// gaps; no other message comes between them.
    Block {
        /// The request that the block answers.
        request: BlockRequest,
        /// Where in the block this part begins, in bytes.
        offset: u32,
        /// The part; never empty.
        bytes: &'a [u8],
        /// Whether the block is complete with it.
        last: bool,
    },
    /// The peer's extension handshake, the first or a later one.
    ExtensionHandshake(Box<ExtensionHandshake>),
    /// A message of the extension protocol.
    Extended {
        /// Which one, in the numbers of *our* extension handshake; never 0.
        id: u8,
        /// Its content, at most [`MAX_EXTENDED_LENGTH`](crate::MAX_EXTENDED_LENGTH) bytes.
        payload: Vec<u8>,
    },
    /// The peer's DHT node listens on this UDP port.
    Port(u16),
    /// A message of a kind we do not know; it is skipped.
    Unknown {
        /// Its id.
        id: u8,
        /// The length of its content, in bytes.
        length: u32,
    },
    /// The peer broke this rule. Nothing follows.
    Misbehaved(Rule),
}

//! The codec of KRPC, the messages of the DHT: BEP 5, with the fields of BEP 32 (`want`, `nodes6`),
//! 33 (`scrape`, `noseed`, `seed`, filters), 42 (`ip`), 43 (`ro`) and 44 (items).
//!
//! [`Message::decode`] borrows everything from the datagram, and [`Message::encode`] appends to a
//! buffer that the caller reuses.

mod fields;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use bt_types::InfoHashV1;

use crate::NodeId;
use crate::bloom::BLOOM_LENGTH;
pub use fields::{Nodes, Values};
pub(crate) use fields::{node_length, push_node, push_value};

/// The shortest datagram that is read, in bytes.
pub const MIN_DATAGRAM: usize = 15;
/// The longest datagram that is read, in bytes.
pub const MAX_DATAGRAM_IN: usize = 1_500;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 10;
/// The most bencode tokens that are read: each value, key and end of a container is one.
pub const MAX_BENCODE_TOKENS: usize = 512;
/// The longest transaction id that is read and echoed, in bytes.
pub const MAX_TRANSACTION_LENGTH: usize = 32;
/// The longest token that is read and sent back, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 64;
/// The most nodes that are read from one list.
pub const MAX_NODES_IN: usize = 16;
/// The most peers that are read from one reply.
pub const MAX_VALUES_IN: usize = 100;

/// A message (BEP 5, "KRPC Protocol").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `t`: chosen by the node that asks, at most [`MAX_TRANSACTION_LENGTH`] bytes.
    pub transaction: &'a [u8],
    /// `y` and what belongs to it.
    pub body: Body<'a>,
    /// `ip`: the address of the receiver as the sender sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// `ro`: the sender answers no queries (BEP 43).
    pub read_only: bool,
    /// `v`: the sender's program and its version.
    pub version: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Returns a message without the optional fields: no `ip`, `ro` or `v`.
    pub fn new(transaction: &'a [u8], body: Body<'a>) -> Self {
        Self { transaction, body, ip: None, read_only: false, version: None }
    }
}

/// The three kinds of message, and queries that can only be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// A query.
    Query(Query<'a>),
    /// A query that must be answered with this error. It can't be encoded as a query again, and
    /// is encoded as the error.
    Refused(ErrorCode),
    /// The answer to a query. Boxing it would allocate for each reply.
    Reply(Reply<'a>),
    /// The refusal of a query: its code.
    Error(i64),
}

/// A query: who asks, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The id of the node that asks.
    pub id: NodeId,
    /// What it asks for.
    pub method: Method<'a>,
}

/// What a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'a> {
    /// `ping`.
    Ping,
    /// `find_node`, or a method that we do not know and that has a target.
    FindNode {
        /// The id whose closest nodes are wanted.
        target: NodeId,
        /// The families wanted.
        want: Want,
    },
    /// `get_peers`.
    GetPeers {
        /// The torrent.
        info_hash: InfoHashV1,
        /// The families of nodes wanted.
        want: Want,
        /// Seeds are not wanted (BEP 33).
        noseed: bool,
        /// The filters are wanted (BEP 33).
        scrape: bool,
    },
    /// `announce_peer`.
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHashV1,
        /// The peer's port; `None` stands for the port that the datagram came from
        /// (`implied_port`).
        port: Option<u16>,
        /// Whether the peer is a seed (BEP 33).
        seed: bool,
        /// The token of a reply to `get_peers`.
        token: &'a [u8],
    },
    /// `get` (BEP 44).
    Get {
        /// The target of the item.
        target: NodeId,
        /// The families of nodes wanted.
        want: Want,
        /// An item that is not newer is not wanted.
        seq: Option<i64>,
    },
    /// `put` (BEP 44).
    Put {
        /// The token of a reply to `get`.
        token: &'a [u8],
        /// The value, bencoded.
        value: &'a [u8],
        /// What a mutable item has besides.
        mutable: Option<MutablePut<'a>>,
    },
}

/// The arguments of a `put` of a mutable item (BEP 44).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MutablePut<'a> {
    /// The public key.
    pub key: &'a [u8; 32],
    /// Distinguishes the items of a key; may be empty.
    pub salt: &'a [u8],
    /// The sequence number.
    pub seq: i64,
    /// The sequence number that the stored item must have.
    pub cas: Option<i64>,
    /// The signature.
    pub signature: &'a [u8; 64],
}

/// Which families of nodes a query asks for (BEP 32, `want`). With neither, the family of the
/// datagram counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// `n4`.
    pub v4: bool,
    /// `n6`.
    pub v6: bool,
}

/// A reply. Which fields there are depends on the query and on the node that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The id of the node that answers.
    pub id: NodeId,
    /// IPv4 nodes.
    pub nodes: Option<Nodes<'a>>,
    /// IPv6 nodes (BEP 32).
    pub nodes6: Option<Nodes<'a>>,
    /// Peers.
    pub values: Option<Values<'a>>,
    /// What must be sent along to store something at this node.
    pub token: Option<&'a [u8]>,
    /// The filter with the seeds (BEP 33).
    pub seeds: Option<&'a [u8; BLOOM_LENGTH]>,
    /// The filter with the other peers (BEP 33).
    pub peers: Option<&'a [u8; BLOOM_LENGTH]>,
    /// The value of an item, bencoded (BEP 44).
    pub value: Option<&'a [u8]>,
    /// The public key of a mutable item.
    pub key: Option<&'a [u8; 32]>,
    /// The sequence number of a mutable item.
    pub seq: Option<i64>,
    /// The signature of a mutable item.
    pub signature: Option<&'a [u8; 64]>,
}

impl Reply<'_> {
    /// Returns a reply with nothing but the id.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            nodes: None,
            nodes6: None,
            values: None,
            token: None,
            seeds: None,
            peers: None,
            value: None,
            key: None,
            seq: None,
            signature: None,
        }
    }
}

/// An error of BEP 5 or 44 that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 202: we can't store that now.
    Server,
    /// 203: bad arguments or a bad token.
    Protocol,
    /// 204: we do not know the method.
    MethodUnknown,
    /// 205: the value is too long.
    ValueTooLong,
    /// 206: the signature is wrong.
    BadSignature,
    /// 207: the salt is too long.
    SaltTooLong,
    /// 301: another sequence number is stored.
    CasMismatch,
    /// 302: a higher sequence number is stored.
    OldSequenceNumber,
}

impl ErrorCode {
    /// Returns the number on the wire.
    pub fn number(self) -> i64 {
        match self {
            Self::Server => 202,
            Self::Protocol => 203,
            Self::MethodUnknown => 204,
            Self::ValueTooLong => 205,
            Self::BadSignature => 206,
            Self::SaltTooLong => 207,
            Self::CasMismatch => 301,
            Self::OldSequenceNumber => 302,
        }
    }
}

/// A datagram that gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is shorter than [`MIN_DATAGRAM`] or longer than [`MAX_DATAGRAM_IN`].
    #[error("{0} bytes are too few or too many for a message")]
    Length(usize),
    /// It is not one bencoded value, or exceeds [`MAX_DEPTH`] or [`MAX_BENCODE_TOKENS`].
    #[error("not a bencoded value within the limits")]
    Bencode,
    /// `t` is missing or longer than [`MAX_TRANSACTION_LENGTH`].
    #[error("no transaction id, or one that is too long")]
    Transaction,
    /// `y` is missing or unknown, or what must come with it is missing.
    #[error("neither a query nor a reply nor an error")]
    Kind,
}

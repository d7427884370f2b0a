//! The stages of a link.
//!
//! ```text
//!  outgoing: Connecting --established--> Handshaking --handshake--> Open
//!  incoming:                             Handshaking --handshake--> Open
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use peer_wire::Connection;
use piece_store::TorrentKey;
use swarm::Source;

use super::uploads::Upload;

/// One TCP connection.
#[derive(Debug)]
pub(crate) enum Link<F> {
    /// The socket is being connected.
    Connecting(Connecting),
    /// The handshake is not complete.
    Handshaking(Box<Handshaking>),
    /// A peer of a swarm.
    Open(Box<Open<F>>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Connecting {
    pub(crate) address: SocketAddr,
    pub(crate) torrent: TorrentKey,
    /// Where the address came from.
    pub(crate) source: Source,
    pub(crate) deadline: Duration,
}

#[derive(Debug)]
pub(crate) struct Handshaking {
    pub(crate) address: SocketAddr,
    /// The torrent of an outgoing connection. The peer names that of an incoming one.
    pub(crate) expected: Option<TorrentKey>,
    pub(crate) source: Source,
    pub(crate) connection: Connection,
}

#[derive(Debug)]
pub(crate) struct Open<F> {
    pub(crate) address: SocketAddr,
    pub(crate) torrent: TorrentKey,
    pub(crate) source: Source,
    pub(crate) connection: Connection,
    /// The blocks in the connection's send queue, in its order.
    pub(super) uploads: VecDeque<Upload<F>>,
    /// Bytes that the store is to read for the peer.
    pub(super) reading: u64,
    /// The pieces of metadata that the peer requested, oldest first.
    pub(crate) metadata_queue: VecDeque<u32>,
    /// How many pieces of metadata the peer was promised.
    pub(crate) metadata_served: u32,
}

impl<F> Open<F> {
    pub(super) fn new(torrent: TorrentKey, link: Handshaking) -> Self {
        let Handshaking { address, source, connection, .. } = link;
        Self {
            address,
            torrent,
            source,
            connection,
            uploads: VecDeque::new(),
            reading: 0,
            metadata_queue: VecDeque::new(),
            metadata_served: 0,
        }
    }
}

impl<F> Link<F> {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Connecting(link) => link.address,
            Self::Handshaking(link) => link.address,
            Self::Open(link) => link.address,
        }
    }

    /// Where its address came from.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Connecting(link) => link.source,
            Self::Handshaking(link) => link.source,
            Self::Open(link) => link.source,
        }
    }

    pub(crate) fn torrent(&self) -> Option<TorrentKey> {
        match self {
            Self::Connecting(link) => Some(link.torrent),
            Self::Handshaking(link) => link.expected,
            Self::Open(link) => Some(link.torrent),
        }
    }

    pub(crate) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Connecting(_) => None,
            Self::Handshaking(link) => Some(&link.connection),
            Self::Open(link) => Some(&link.connection),
        }
    }

    pub(crate) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Connecting(_) => None,
            Self::Handshaking(link) => Some(&mut link.connection),
            Self::Open(link) => Some(&mut link.connection),
        }
    }

    /// Without a complete handshake: whether the connection is outgoing.
    pub(crate) fn half_open(&self) -> Option<bool> {
        match self {
            Self::Connecting(_) => Some(true),
            Self::Handshaking(link) => Some(link.expected.is_some()),
            Self::Open(_) => None,
        }
    }

    /// The bytes in its buffers.
    pub(super) fn buffered(&self) -> usize {
        match self {
            Self::Connecting(_) => 0,
            Self::Handshaking(link) => link.connection.buffered(),
            Self::Open(link) => {
                link.connection.buffered() + link.uploads.capacity() * size_of::<Upload<F>>()
            }
        }
    }
}

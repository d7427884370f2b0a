//! Peers that break the protocol on purpose. They can send any bytes, and one thread serves many of
//! them.
//!
//! A [`Hostile`] is a script: the handshake, the bytes to send after it, the bytes to repeat, the
//! answers to requests, and the end. In everything else the peer is honest, so that it has one
//! fault at a time.

mod connection;
mod crowd;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bt_types::{InfoHashV1, PeerId};

use crate::peer::fresh_peer_id;
use crate::raw;

pub use crowd::Crowd;

/// A request of the other side.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The piece.
    pub index: u32,
    /// The offset of the block in the piece, in bytes.
    pub offset: u32,
    /// The correct data.
    pub bytes: &'a [u8],
    /// The number of earlier requests on this connection.
    pub number: u64,
}

/// Returns the correct answer.
pub fn right(asked: &Asked<'_>) -> Vec<u8> {
    raw::block(asked.index, asked.offset, asked.bytes)
}

/// Returns the correct answer with one bit flipped.
pub fn corrupt(asked: &Asked<'_>) -> Vec<u8> {
    let mut bytes = asked.bytes.to_vec();
    bytes[0] ^= 1;
    raw::block(asked.index, asked.offset, &bytes)
}

/// Makes the answer to a request.
pub type Answer = fn(&Asked<'_>) -> Vec<u8>;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection is closed.
    Closes,
    /// The connection is reset.
    Resets,
}

/// How a peer starts a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// It sends a valid handshake.
    Proper,
    /// It sends a handshake with the peer id of the other side.
    Mirrored,
    /// It sends these bytes and nothing else.
    Other(Vec<u8>),
}

/// The script of a hostile peer.
#[derive(Clone)]
pub struct Hostile {
    /// `None` is that of the torrent.
    info_hash: Option<InfoHashV1>,
    announces_all: bool,
    peer_id: PeerId,
    reserved: [u8; 8],
    start: Start,
    after_handshake: Vec<u8>,
    when_unchoked: Vec<u8>,
    flood: Vec<u8>,
    unchokes: bool,
    answer: Option<Answer>,
    end: Option<(u64, End)>,
    pace: Duration,
    pace_of_answers: Duration,
    stops_reading: bool,
    /// Where it connects to; `None` if it listens.
    target: Option<SocketAddr>,
    from: Ipv4Addr,
    reconnects: bool,
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hostile").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

impl Hostile {
    /// Makes a peer that sends a handshake and unchokes an interested peer, but sends nothing else.
    #[allow(clippy::new_without_default)] // Each has a peer id of its own.
    pub fn new() -> Self {
        Self {
            info_hash: None,
            announces_all: false,
            peer_id: fresh_peer_id(),
            reserved: [0; 8],
            start: Start::Proper,
            after_handshake: Vec::new(),
            when_unchoked: Vec::new(),
            flood: Vec::new(),
            unchokes: true,
            answer: None,
            end: None,
            pace: Duration::ZERO,
            pace_of_answers: Duration::ZERO,
            stops_reading: false,
            target: None,
            from: Ipv4Addr::UNSPECIFIED,
            reconnects: false,
        }
    }

    /// Makes a peer that announces every piece but answers no requests.
    pub fn seeder() -> Self {
        Self { announces_all: true, ..Self::new() }
    }

    /// Sets the bit of the fast extension in the handshake (BEP 6).
    pub fn fast(mut self) -> Self {
        self.reserved[7] |= 0x04;
        self
    }

    /// Sets the bit of the extension protocol in the handshake (BEP 10).
    pub fn extensions(mut self) -> Self {
        self.reserved[5] |= 0x10;
        self
    }

    /// Sets the peer id. By default each script has its own.
    pub fn peer_id(mut self, peer_id: PeerId) -> Self {
        self.peer_id = peer_id;
        self
    }

    /// Uses the peer id of the other side. Only for peers that listen.
    pub fn mirrors_peer_id(mut self) -> Self {
        self.start = Start::Mirrored;
        self
    }

    /// Sets the info-hash of the handshake.
    pub fn info_hash(mut self, info_hash: InfoHashV1) -> Self {
        self.info_hash = Some(info_hash);
        self
    }

    /// Sends these bytes in place of a handshake, and keeps the connection open.
    pub fn sends_instead_of_handshake(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.start = Start::Other(bytes.into());
        self
    }

    /// Sends these bytes after the handshake, the bitfield of a seeder and those of earlier calls.
    pub fn sends(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.after_handshake.extend_from_slice(bytes.as_ref());
        self
    }

    /// Sends these bytes once, when it is unchoked.
    pub fn sends_when_unchoked(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.when_unchoked = bytes.into();
        self
    }

    /// Sends these bytes repeatedly, after all others, as fast as the other side reads.
    pub fn floods(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.flood = bytes.into();
        self
    }

    /// Never unchokes.
    pub fn chokes(mut self) -> Self {
        self.unchokes = false;
        self
    }

    /// Sets the answer to requests. By default it does not answer.
    pub fn answers(mut self, answer: Answer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Ends the connection after that many answers.
    pub fn ends_after(mut self, answers: u64, end: End) -> Self {
        self.end = Some((answers, end));
        self
    }

    /// Sends one byte at a time, with this pause between them.
    pub fn sends_slowly(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Sends one byte at a time from its first answer on, with this pause between them.
    pub fn answers_slowly(mut self, pace: Duration) -> Self {
        self.pace_of_answers = pace;
        self
    }

    /// Reads nothing after the handshake.
    pub fn stops_reading(mut self) -> Self {
        self.stops_reading = true;
        self
    }

    /// Connects to this address instead of listening.
    pub fn connects_to(mut self, address: SocketAddr) -> Self {
        self.target = Some(address);
        self
    }

    /// Connects from this local address.
    pub fn from(mut self, ip: Ipv4Addr) -> Self {
        self.from = ip;
        self
    }

    /// Connects again shortly after its connection has ended.
    pub fn reconnects(mut self) -> Self {
        self.reconnects = true;
        self
    }
}

/// What a hostile peer has observed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Incoming and outgoing connections.
    pub connections: u64,
    /// Connections that have ended.
    pub ended: u64,
    /// The local address of each connection, in order, if known.
    pub addresses: Vec<SocketAddr>,
    /// Handshakes of the other side.
    pub handshakes: u64,
    /// How many times the other side unchoked us.
    pub unchokes: u64,
    /// Requests of the other side.
    pub requests: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Whether the script was followed: everything was sent, but only a MiB of a flood, 20 bytes if
    /// slowly, and one answer.
    pub done: bool,
}

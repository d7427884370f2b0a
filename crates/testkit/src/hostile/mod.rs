//! Peers that do wrong on purpose: what they say is written byte by byte, and one thread plays a
//! whole crowd of them.
//!
//! A [`Hostile`] is a script: a handshake or something else, what is said then, what is said again
//! and again, how requests are answered, how it ends. What it does not name is done as an honest
//! peer would, so that one thing is wrong at a time.

mod crowd;
pub mod say;
mod talk;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bt_types::{Bitfield, Geometry, InfoHashV1, PeerId};

use crate::Payload;
use crate::peer::fresh_peer_id;

pub use crowd::Crowd;

/// What the other side asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The piece.
    pub index: u32,
    /// Where the block begins in it, in bytes.
    pub offset: u32,
    /// The right bytes.
    pub bytes: &'a [u8],
    /// How many requests came on this connection before this one.
    pub number: u64,
}

/// The right answer.
pub fn right(asked: &Asked<'_>) -> Vec<u8> {
    say::block(asked.index, asked.offset, asked.bytes)
}

/// The right answer but for one bit.
pub fn corrupt(asked: &Asked<'_>) -> Vec<u8> {
    let mut bytes = asked.bytes.to_vec();
    bytes[0] ^= 1;
    say::block(asked.index, asked.offset, &bytes)
}

/// What is said to a request.
pub type Answer = fn(&Asked<'_>) -> Vec<u8>;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In good order.
    Closes,
    /// By a reset.
    Resets,
}

/// How a connection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hello {
    /// With a handshake.
    Proper,
    /// With the peer id of the other side.
    Mirrored,
    /// With these bytes, and nothing follows.
    Other(Vec<u8>),
}

/// What a hostile peer does.
#[derive(Clone)]
pub struct Hostile {
    info_hash: InfoHashV1,
    geometry: Geometry,
    data: Arc<[u8]>,
    peer_id: PeerId,
    reserved: [u8; 8],
    hello: Hello,
    opening: Vec<u8>,
    when_unchoked: Vec<u8>,
    flood: Vec<u8>,
    unchokes: bool,
    answer: Option<Answer>,
    end: Option<(u64, End)>,
    pace: Duration,
    pace_of_answers: Duration,
    deaf: bool,
    place: Option<SocketAddr>,
    from: Ipv4Addr,
    comes_back: bool,
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hostile").field("peer_id", &self.peer_id).finish_non_exhaustive()
    }
}

impl Hostile {
    /// One that shakes hands and says nothing more. It unchokes who is interested.
    pub fn new(payload: &Payload) -> Self {
        Self {
            info_hash: payload.info_hash(),
            geometry: payload.geometry(),
            data: payload.data(),
            peer_id: fresh_peer_id(),
            reserved: [0; 8],
            hello: Hello::Proper,
            opening: Vec::new(),
            when_unchoked: Vec::new(),
            flood: Vec::new(),
            unchokes: true,
            answer: None,
            end: None,
            pace: Duration::ZERO,
            pace_of_answers: Duration::ZERO,
            deaf: false,
            place: None,
            from: Ipv4Addr::UNSPECIFIED,
            comes_back: false,
        }
    }

    /// One that says it has every piece, and answers no request.
    pub fn seeder(payload: &Payload) -> Self {
        let all = Bitfield::full(payload.geometry().piece_count());
        Self::new(payload).says(say::message(say::BITFIELD, &all.as_bytes()))
    }

    /// Says in the handshake that it speaks the Fast extension (BEP 6).
    pub fn fast(mut self) -> Self {
        self.reserved[7] |= 0x04;
        self
    }

    /// Says in the handshake that it speaks the extension protocol (BEP 10).
    pub fn extensions(mut self) -> Self {
        self.reserved[5] |= 0x10;
        self
    }

    /// Goes by this peer id. Unless set, no two scripts have the same.
    pub fn peer_id(mut self, peer_id: PeerId) -> Self {
        self.peer_id = peer_id;
        self
    }

    /// Goes by the peer id of whoever it talks to. For peers that listen.
    pub fn mirrors(mut self) -> Self {
        self.hello = Hello::Mirrored;
        self
    }

    /// Asks for another torrent, or answers for it.
    pub fn info_hash(mut self, info_hash: InfoHashV1) -> Self {
        self.info_hash = info_hash;
        self
    }

    /// Says this in the place of a handshake, and holds the connection.
    pub fn greets(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.hello = Hello::Other(bytes.into());
        self
    }

    /// Says this after the handshake, behind what was to be said before.
    pub fn says(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.opening.extend_from_slice(bytes.as_ref());
        self
    }

    /// Says this, once, when it is unchoked.
    pub fn says_when_unchoked(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.when_unchoked = bytes.into();
        self
    }

    /// Says this again and again, after all else, as fast as the other side takes it.
    pub fn floods(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.flood = bytes.into();
        self
    }

    /// Never unchokes.
    pub fn chokes(mut self) -> Self {
        self.unchokes = false;
        self
    }

    /// Answers requests like this. Unless set it does not answer.
    pub fn answers(mut self, answer: Answer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Ends the connection once it has answered that many requests.
    pub fn ends_after(mut self, answers: u64, end: End) -> Self {
        self.end = Some((answers, end));
        self
    }

    /// Sends one byte at a time, that long after the one before.
    pub fn slowly(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// The same, but only from its first answer on.
    pub fn answers_slowly(mut self, pace: Duration) -> Self {
        self.pace_of_answers = pace;
        self
    }

    /// Reads nothing after the handshake.
    pub fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Connects to this address in place of listening.
    pub fn visits(mut self, address: SocketAddr) -> Self {
        self.place = Some(address);
        self
    }

    /// Connects from this address of the machine.
    pub fn from(mut self, ip: Ipv4Addr) -> Self {
        self.from = ip;
        self
    }

    /// Connects again a little later whenever its connection has ended.
    pub fn comes_back(mut self) -> Self {
        self.comes_back = true;
        self
    }
}

/// What a hostile peer met with so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Met {
    /// Connections taken or begun.
    pub connections: u64,
    /// Connections that have ended.
    pub ended: u64,
    /// Our end of each connection, in order, where it is known.
    pub addresses: Vec<SocketAddr>,
    /// Handshakes of the other side.
    pub handshakes: u64,
    /// How often the other side unchoked us.
    pub unchokes: u64,
    /// Requests of the other side.
    pub requests: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Whether what the script says was said: of a flood a MiB, of what is said slowly 20 bytes, of
    /// answers one.
    pub done: bool,
}

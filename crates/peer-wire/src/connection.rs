//! The state of one connection, from its first byte to its last.
//!
//! ```text
//! outgoing()                incoming()
//!     |                         |
//! Connecting                Listening
//!     | their handshake         | their handshake
//!     |                     Deciding ---- accept(ours) ----.
//!     '----------> Open <----------------------------------'
//!                   |  a broken rule, a timeout
//!                 Closed
//! ```
//!
//! Invariants: nothing of a payload is kept but an unfinished extension message; a block is
//! reported only if we requested it; our requests are at most [`MAX_REQUESTS`], the peer's
//! unanswered ones at most [`MAX_QUEUED_REQUESTS`]; after [`Received::Misbehaved`] or an
//! [`Expired`] nothing more is received or sent.

mod budget;
mod inbound;
mod outbox;
mod queue;
mod receive;
mod received;
mod requests;
mod send;
mod timers;

use std::time::Duration;

use bt_types::{BlockRequest, Geometry, PeerId};

use crate::handshake::Handshake;

use budget::Budget;
use inbound::Inbound;
use outbox::Outbox;
use queue::RequestQueue;
use requests::Requests;
use timers::{Timer, Timers};

pub use budget::{LEAST_TALK, RETELLING_BURST, RETELLING_RATE, TALK_BURST, TALK_RATE};
pub use outbox::Transmit;
pub use queue::MAX_QUEUED_REQUESTS;
pub use received::Received;
pub use requests::MAX_REQUESTS;
pub use timers::{Expired, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL};

/// How many bytes of blocks nobody asked for a peer without the fast extension may send.
///
/// Blocks that crossed our cancel or the peer's own choke do not count: they were asked for.
pub const MAX_UNREQUESTED: u32 = 1024 * 1024;
/// How many rejects of nothing we asked for a peer may send; some clients answer twice.
pub const MAX_STRAY_REJECTS: u32 = 64;
/// How many bytes besides payload may wait to be sent when a request comes: a peer that asks but
/// does not read what we answer is not served.
pub const MAX_UNREAD: usize = 1024 * 1024;

/// The protocol state of one connection to a peer.
///
/// 1. What happened: [`receive`](Self::receive), [`transmitted`](Self::transmitted),
///    [`handle_timeout`](Self::handle_timeout).
/// 2. What we want: [`accept`](Self::accept), [`set_geometry`](Self::set_geometry),
///    [`choke`](Self::choke) and the other messages. Before the handshakes are exchanged, and once
///    the connection is closed, they do nothing.
/// 3. What to do now: [`poll_transmit`](Self::poll_transmit), [`poll_timeout`](Self::poll_timeout).
/// 4. Getters.
///
/// After any call, drain the polls. `now` is the time since the start of the run.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    geometry: Option<Geometry>,
    am_choking: bool,
    am_interested: bool,
    peer_choking: bool,
    peer_interested: bool,
    /// Whether we told what we have, which is done once.
    told_pieces: bool,
    /// Whether the peer told of any piece, so that a bitfield now tells everything again.
    heard_pieces: bool,
    /// The bytes of bitfields that it takes to tell everything again.
    retelling: Budget,
    inbound: Inbound,
    /// Our requests.
    ours: Requests,
    /// The peer's requests that are not answered.
    theirs: RequestQueue,
    /// The bytes of messages that bring neither data nor a request we answer with a block.
    talk: Budget,
    /// How many single pieces the peer told of.
    haves: u32,
    /// How often the peer's interest changed.
    interests: u32,
    unrequested: u32,
    stray_rejects: u32,
    outbox: Outbox,
    timers: Timers,
}

/// How far the handshakes are.
#[derive(Debug)]
enum Phase {
    /// We sent ours.
    Connecting { ours: Handshake, expect_peer_id: Option<PeerId> },
    /// We wait for theirs before we send ours.
    Listening,
    /// They sent theirs, and the caller has to accept.
    Deciding { theirs: Handshake },
    /// Both were exchanged. The flags say which extensions both sides speak.
    Open { theirs: Handshake, fast: bool, extended: bool },
    /// A rule was broken or the time is over.
    Closed,
}

impl Phase {
    fn open(ours: &Handshake, theirs: Handshake) -> Self {
        let (mine, its) = (ours.reserved, theirs.reserved);
        Self::Open {
            theirs,
            fast: mine.supports_fast() && its.supports_fast(),
            extended: mine.supports_extension_protocol() && its.supports_extension_protocol(),
        }
    }
}

/// What happened.
impl Connection {
    /// A connection that we made, with our handshake queued. The peer must answer for the same
    /// torrent, and be `expect_peer_id` if the tracker told its id.
    pub fn outgoing(now: Duration, ours: Handshake, expect_peer_id: Option<PeerId>) -> Self {
        let mut connection = Self::new(now, Phase::Connecting { ours, expect_peer_id });
        connection.outbox.push_bytes(&ours.encode());
        connection
    }

    /// A connection that a peer made. It speaks first; see [`Self::accept`].
    pub fn incoming(now: Duration) -> Self {
        Self::new(now, Phase::Listening)
    }

    /// Takes the next thing out of `input`; call it until `None`.
    ///
    /// All of `input` is consumed then, with one exception: between [`Received::Handshake`] of an
    /// incoming connection and [`Self::accept`] nothing is. Whoever accepts later must keep the
    /// rest.
    #[must_use]
    pub fn receive<'a>(&mut self, now: Duration, input: &mut &'a [u8]) -> Option<Received<'a>> {
        self.timers.heard(now, !input.is_empty());
        match self.next_received(input) {
            Ok(received) => received,
            Err(rule) => {
                *input = &[];
                self.close();
                Some(Received::Misbehaved(rule))
            }
        }
    }

    /// The next `length` bytes of what [`Self::poll_transmit`] shows were sent.
    pub fn transmitted(&mut self, length: usize) {
        if self.outbox.transmitted(length) {
            self.timers.said();
        }
    }

    /// Looks at the clock: queues a keep-alive, or says that the peer's time is over.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Expired> {
        let expired = match self.timers.expired(now)? {
            Timer::Handshake => Expired::Handshake,
            Timer::Idle => Expired::Idle,
            Timer::KeepAlive => {
                self.shrink();
                self.keep_alive();
                self.timers.said();
                return None;
            }
        };
        self.close();
        Some(expired)
    }
}

/// What we want.
impl Connection {
    /// Answers the handshake of an incoming connection with `ours`, which names the same torrent.
    /// Does nothing unless [`Received::Handshake`] was the last thing received.
    pub fn accept(&mut self, ours: Handshake) {
        if let Phase::Deciding { theirs } = self.phase {
            self.outbox.push_bytes(&ours.encode());
            self.phase = Phase::open(&ours, theirs);
            self.timers.opened();
        }
    }

    /// Says how many pieces there are and how long. Call it as soon as it is known: right after
    /// construction, or when the metadata has come.
    pub fn set_geometry(&mut self, geometry: Geometry) {
        self.geometry = Some(geometry);
    }
}

/// What to do now, and getters.
impl Connection {
    /// What to send next, if anything; report it with [`Self::transmitted`], also in part.
    #[must_use]
    pub fn poll_transmit(&self) -> Option<Transmit<'_>> {
        self.outbox.iter().next()
    }

    /// Everything that waits to be sent, in order, for callers that gather.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        self.outbox.iter()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Whether both handshakes were exchanged and no rule was broken since.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether a rule was broken or the time is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The peer's handshake, while the connection waits to be accepted or is open.
    pub fn handshake(&self) -> Option<&Handshake> {
        match &self.phase {
            Phase::Deciding { theirs } | Phase::Open { theirs, .. } => Some(theirs),
            Phase::Connecting { .. } | Phase::Listening | Phase::Closed => None,
        }
    }

    /// Whether both sides speak the fast extension (BEP 6).
    pub fn fast(&self) -> bool {
        matches!(self.phase, Phase::Open { fast: true, .. })
    }

    /// Whether both sides speak the extension protocol (BEP 10).
    pub fn extension_protocol(&self) -> bool {
        matches!(self.phase, Phase::Open { extended: true, .. })
    }

    /// Whether we answer no requests. So it is at first.
    pub fn am_choking(&self) -> bool {
        self.am_choking
    }

    /// Whether we told the peer that it has what we want.
    pub fn am_interested(&self) -> bool {
        self.am_interested
    }

    /// Whether the peer answers no requests. So it is at first.
    pub fn peer_choking(&self) -> bool {
        self.peer_choking
    }

    /// Whether the peer told us that we have what it wants.
    pub fn peer_interested(&self) -> bool {
        self.peer_interested
    }

    /// How many of our requests are neither answered nor cancelled nor void.
    pub fn outstanding(&self) -> usize {
        self.ours.live()
    }

    /// Our requests that are neither answered nor cancelled nor void, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = BlockRequest> {
        self.ours.iter_live()
    }

    /// How many requests of the peer are unanswered.
    pub fn unanswered(&self) -> usize {
        self.theirs.len()
    }

    /// How many bytes of block payload wait to be sent.
    pub fn pending_payload(&self) -> u64 {
        self.outbox.pending_payload()
    }

    /// How many bytes of memory the connection holds besides itself.
    pub fn buffered(&self) -> usize {
        self.inbound.buffered()
            + self.outbox.buffered()
            + self.ours.buffered()
            + self.theirs.buffered()
    }
}

impl Connection {
    fn new(now: Duration, phase: Phase) -> Self {
        Self {
            phase,
            geometry: None,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            told_pieces: false,
            heard_pieces: false,
            retelling: Budget::default(),
            talk: Budget::default(),
            haves: 0,
            interests: 0,
            inbound: Inbound::default(),
            ours: Requests::default(),
            theirs: RequestQueue::default(),
            unrequested: 0,
            stray_rejects: 0,
            outbox: Outbox::default(),
            timers: Timers::new(now),
        }
    }

    /// Gives back the memory that a quiet connection does not need.
    fn shrink(&mut self) {
        self.outbox.shrink();
        self.ours.shrink();
        self.theirs.shrink();
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.inbound = Inbound::default();
        self.outbox = Outbox::default();
        self.ours = Requests::default();
        self.theirs = RequestQueue::default();
        self.timers.stop();
    }
}

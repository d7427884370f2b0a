//! The state of one connection.
//!
//! ```text
//! outgoing()                incoming()
//!     |                         |
//! Connecting                Listening
//!     | their handshake         | their handshake
//!     |                  AwaitingAccept -- accept(ours) -.
//!     '----------> Open <--------------------------------'
//!                   |  a broken rule, a timeout
//!                 Closed
//! ```
//!
//! Invariants:
//!
//! - The only payload kept is that of an incomplete extension message.
//! - A block is reported only if we requested it.
//! - There are at most [`MAX_REQUESTS`] outstanding requests of ours and [`MAX_QUEUED_REQUESTS`]
//!   unanswered ones of the peer.
//! - Nothing is received or sent after [`Received::Misbehaved`] or an [`Expired`].

mod budget;
mod extensions;
mod inbound;
mod outbox;
mod pieces;
mod queue;
mod receive;
mod received;
mod requests;
mod send;
mod timers;

use std::time::Duration;

use bt_types::{BlockRequest, Geometry, PeerId};

use crate::extension::Extensions;
use crate::handshake::Handshake;
use crate::rule::Rule;

use budget::Budget;
use extensions::Negotiated;
use inbound::Inbound;
use outbox::Outbox;
use pieces::Pieces;
use queue::RequestQueue;
use requests::Requests;
use timers::{Timer, Timers};

pub use budget::{BITFIELD_BURST, BITFIELD_RATE, MESSAGE_BURST, MESSAGE_RATE, MIN_MESSAGE_COST};
pub use extensions::MAX_METADATA_REQUESTS;
pub use outbox::Transmit;
pub use queue::MAX_QUEUED_REQUESTS;
pub use received::Received;
pub use requests::MAX_REQUESTS;
pub use timers::{Expired, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL};

/// How many bytes of unrequested blocks a peer without the fast extension may send.
///
/// Blocks that crossed our cancel or the peer's own choke do not count.
pub const MAX_UNREQUESTED: u32 = 1024 * 1024;
/// How many rejects of unrequested blocks a peer may send. Some clients reject a request twice.
pub const MAX_STRAY_REJECTS: u32 = 64;
/// How many bytes, without block payload, may be queued for sending when a request comes. A peer
/// that requests but does not read our answers is disconnected.
pub const MAX_UNREAD: usize = 1024 * 1024;

/// The protocol state of one connection to a peer.
///
/// 1. What happened: [`receive`](Self::receive), [`transmitted`](Self::transmitted),
///    [`handle_timeout`](Self::handle_timeout).
/// 2. What we want: [`accept`](Self::accept), [`set_geometry`](Self::set_geometry),
///    [`choke`](Self::choke) and the other messages. Messages do nothing before the handshakes are
///    exchanged and after the connection is closed.
/// 3. What the caller must do now: [`poll_transmit`](Self::poll_transmit),
///    [`poll_timeout`](Self::poll_timeout).
/// 4. Getters.
///
/// After any call, drain the polls. `now` is the time since any fixed start.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    pieces: Pieces,
    am_choking: bool,
    am_interested: bool,
    peer_choking: bool,
    peer_interested: bool,
    /// Whether we sent a bitfield or a have. We send at most one bitfield, and it comes first.
    announced_pieces: bool,
    /// Whether the peer sent a bitfield or a have, so that another bitfield repeats it.
    peer_announced_pieces: bool,
    /// Limits repeated bitfields.
    bitfield_budget: Budget,
    /// Limits messages that are neither data nor a request that we serve.
    message_budget: Budget,
    extensions: Negotiated,
    inbound: Inbound,
    our_requests: Requests,
    /// The peer's unanswered requests.
    peer_requests: RequestQueue,
    /// How many haves the peer sent.
    have_count: u32,
    /// How many times the peer's interest changed.
    interest_changes: u32,
    /// How many bytes of unrequested blocks the peer sent.
    unrequested: u32,
    stray_rejects: u32,
    outbox: Outbox,
    timers: Timers,
}

/// The progress of the handshakes.
#[derive(Debug)]
enum Phase {
    /// Our handshake is queued; we wait for the peer's.
    Connecting { ours: Handshake, expect_peer_id: Option<PeerId> },
    /// We wait for the peer's handshake before we send ours.
    Listening,
    /// The peer's handshake came; the caller has not accepted yet.
    AwaitingAccept { theirs: Handshake },
    /// Both handshakes were exchanged. The flags are the extensions that both sides support.
    Open { theirs: Handshake, fast: bool, extended: bool },
    /// The peer broke a rule, or a deadline passed.
    Closed,
}

impl Phase {
    fn open(ours: &Handshake, theirs: Handshake) -> Self {
        let (ours, other) = (ours.reserved, theirs.reserved);
        Self::Open {
            theirs,
            fast: ours.supports_fast() && other.supports_fast(),
            extended: ours.supports_extension_protocol() && other.supports_extension_protocol(),
        }
    }
}

/// What happened.
impl Connection {
    /// Makes an outgoing connection and queues our handshake. The peer must answer with the same
    /// info-hash, and with `expect_peer_id` if the tracker gave one.
    pub fn outgoing(now: Duration, ours: Handshake, expect_peer_id: Option<PeerId>) -> Self {
        let mut connection = Self::new(now, Phase::Connecting { ours, expect_peer_id });
        connection.outbox.push_bytes(&ours.encode());
        connection
    }

    /// Makes an incoming connection. The peer sends its handshake first; see [`Self::accept`].
    pub fn incoming(now: Duration) -> Self {
        Self::new(now, Phase::Listening)
    }

    /// Records that the next `length` bytes from [`Self::poll_transmit`] were sent.
    pub fn transmitted(&mut self, length: usize) {
        if self.outbox.transmitted(length) {
            self.timers.sent();
        }
    }

    /// Handles the deadlines that have passed by `now`: queues a keep-alive, or closes the
    /// connection and returns why.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Expired> {
        let expired = match self.timers.expired(now)? {
            Timer::Handshake => Expired::Handshake,
            Timer::Idle => Expired::Idle,
            Timer::KeepAlive => {
                self.shrink();
                self.keep_alive();
                self.timers.sent();
                return None;
            }
        };
        self.close();
        Some(expired)
    }
}

/// What we want.
impl Connection {
    /// Answers the handshake of an incoming connection with `ours`, which has the same info-hash.
    /// Does nothing unless [`Received::Handshake`] came last.
    pub fn accept(&mut self, ours: Handshake) {
        if let Phase::AwaitingAccept { theirs } = self.phase {
            self.outbox.push_bytes(&ours.encode());
            self.phase = Phase::open(&ours, theirs);
            self.timers.opened();
        }
    }

    /// Sets the number and length of the pieces. Call it as soon as they are known: right after
    /// construction, or when the metadata is complete.
    ///
    /// # Errors
    /// The peer has already broken a rule: a piece that it named does not exist, or a bitfield had
    /// another length. The connection is closed, as if the rule had been checked at once.
    pub fn set_geometry(&mut self, geometry: Geometry) -> Result<(), Rule> {
        let checked = self.pieces.learn(geometry);
        if checked.is_err() {
            self.close();
        }
        checked
    }
}

/// What the caller must do now, and getters.
impl Connection {
    /// Returns what to send next. Report each part that was sent with [`Self::transmitted`].
    #[must_use]
    pub fn poll_transmit(&self) -> Option<Transmit<'_>> {
        self.outbox.iter().next()
    }

    /// Returns everything that is queued for sending, in order, for vectored writes.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        self.outbox.iter()
    }

    /// Returns when to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Whether both handshakes were exchanged and the connection is not closed.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether the peer broke a rule or a deadline passed.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Returns the peer's handshake while the connection waits for [`Self::accept`] or is open.
    pub fn handshake(&self) -> Option<&Handshake> {
        match &self.phase {
            Phase::AwaitingAccept { theirs } | Phase::Open { theirs, .. } => Some(theirs),
            Phase::Connecting { .. } | Phase::Listening | Phase::Closed => None,
        }
    }

    /// Whether both sides support the fast extension (BEP 6).
    pub fn fast(&self) -> bool {
        matches!(self.phase, Phase::Open { fast: true, .. })
    }

    /// Whether both sides support the extension protocol (BEP 10).
    pub fn extension_protocol(&self) -> bool {
        matches!(self.phase, Phase::Open { extended: true, .. })
    }

    /// Returns the extensions that the peer accepts, of those that this crate knows: none before its
    /// extension handshake.
    pub fn peer_extensions(&self) -> Extensions {
        Extensions {
            metadata: self.extensions.metadata_id().is_some(),
            pex: self.extensions.pex_id().is_some(),
        }
    }

    /// Whether we are choking the peer (BEP 3). True at first.
    pub fn am_choking(&self) -> bool {
        self.am_choking
    }

    /// Whether we are interested in the peer (BEP 3). False at first.
    pub fn am_interested(&self) -> bool {
        self.am_interested
    }

    /// Whether the peer is choking us (BEP 3). True at first.
    pub fn peer_choking(&self) -> bool {
        self.peer_choking
    }

    /// Whether the peer is interested in us (BEP 3). False at first.
    pub fn peer_interested(&self) -> bool {
        self.peer_interested
    }

    /// Returns how many of our requests are outstanding: neither answered, cancelled nor void.
    pub fn outstanding(&self) -> usize {
        self.our_requests.live()
    }

    /// Returns our outstanding requests, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = BlockRequest> {
        self.our_requests.iter_live()
    }

    /// Returns how many requests of the peer are unanswered.
    pub fn unanswered(&self) -> usize {
        self.peer_requests.len()
    }

    /// Returns how many bytes of block payload are queued for sending.
    pub fn pending_payload(&self) -> u64 {
        self.outbox.pending_payload()
    }

    /// Returns how many bytes are queued for sending, without block payload.
    pub fn pending_messages(&self) -> usize {
        self.outbox.waiting_bytes()
    }

    /// Returns how many bytes of heap memory the connection holds.
    pub fn buffered(&self) -> usize {
        self.inbound.buffered()
            + self.extensions.buffered()
            + self.outbox.buffered()
            + self.our_requests.buffered()
            + self.peer_requests.buffered()
    }
}

impl Connection {
    fn new(now: Duration, phase: Phase) -> Self {
        Self {
            phase,
            pieces: Pieces::UNKNOWN,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            announced_pieces: false,
            peer_announced_pieces: false,
            bitfield_budget: Budget::default(),
            message_budget: Budget::default(),
            extensions: Negotiated::default(),
            inbound: Inbound::default(),
            our_requests: Requests::default(),
            peer_requests: RequestQueue::default(),
            have_count: 0,
            interest_changes: 0,
            unrequested: 0,
            stray_rejects: 0,
            outbox: Outbox::default(),
            timers: Timers::new(now),
        }
    }

    /// Frees the memory that an idle connection does not need.
    fn shrink(&mut self) {
        self.extensions.shrink();
        self.outbox.shrink();
        self.our_requests.shrink();
        self.peer_requests.shrink();
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.extensions = Negotiated::default();
        self.inbound = Inbound::default();
        self.outbox = Outbox::default();
        self.our_requests = Requests::default();
        self.peer_requests = RequestQueue::default();
        self.timers.stop();
    }
}

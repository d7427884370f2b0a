//! The state that all exchanges with one tracker share: the connection id, and the back-off of the
//! connect requests.
//!
//! ```text
//!            an exchange has something to send
//!   Idle ------------------------------------------> Connecting --.  retransmitted after
//!    ^                                                |  ^   ^    |  15 s * 2^n
//!    |  the tracker refuses, or its answer is invalid |  |   `----'
//!    `------------------------------------------------'  |
//!                         answered  |                    |  an exchange has something to send
//!                                   v                    |  and the id is a minute old
//!                               Connected ---------------'
//! ```
//!
//! If the tracker rejects the connection id, `Connected` becomes `Idle`.

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::exchange::ExchangeError;
use crate::packet::{self, Family, Response};

/// How long a connection id is valid (BEP 15, "UDP connections / spoofing").
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// The wait for an answer after the first transmission of a request (BEP 15, "Time outs").
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// How many times that wait doubles at most: 15 s * 2^8 = 3840 s (BEP 15, "Time outs").
pub const MAX_BACK_OFF: u32 = 8;

/// The state of one tracker address. Keep one per address, and pass it to each [`crate::Exchange`]
/// with that address.
#[derive(Debug)]
pub struct UdpTracker {
    address: SocketAddr,
    state: State,
    /// When the tracker last answered a connect request.
    heard_at: Option<Duration>,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting(ConnectRequest),
    Connected { connection_id: u64, until: Duration },
}

/// A connect request in flight.
#[derive(Debug, Clone, Copy)]
struct ConnectRequest {
    transaction_id: u32,
    sent_at: Duration,
    timeouts: u32,
}

impl UdpTracker {
    /// Makes the state of the tracker at `address`. `seed` seeds the generator of transaction ids,
    /// so it should be hard to guess.
    pub fn new(address: SocketAddr, seed: u64) -> Self {
        let address = canonical(address);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { address, state: State::Idle, heard_at: None, rng }
    }

    /// Returns the tracker's address. An IPv4-mapped IPv6 address is returned as IPv4.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the family of the addresses in the tracker's announce replies.
    pub fn family(&self) -> Family {
        match self.address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }

    /// Whether there is a valid connection id at `now`.
    pub fn is_connected(&self, now: Duration) -> bool {
        self.connection_id(now).is_some()
    }

    /// Returns the transaction id of the connect request in flight, if there is one.
    pub fn connecting(&self) -> Option<u32> {
        match self.state {
            State::Connecting(connect) => Some(connect.transaction_id),
            _ => None,
        }
    }

    /// Returns when the tracker last answered a connect request. The answer to an announce or
    /// scrape ends its exchange, so no unfinished exchange has had an answer since.
    pub fn heard_at(&self) -> Option<Duration> {
        self.heard_at
    }

    /// Discards `connection_id`, which the tracker rejected. The next exchange that has something
    /// to send asks for another one.
    pub(crate) fn reject(&mut self, connection_id: u64) {
        if matches!(self.state, State::Connected { connection_id: id, .. } if id == connection_id) {
            self.state = State::Idle;
        }
    }

    pub(crate) fn draw_transaction_id(&mut self) -> u32 {
        self.rng.next_u32()
    }

    pub(crate) fn connection_id(&self, now: Duration) -> Option<u64> {
        match self.state {
            State::Connected { connection_id, until } if now < until => Some(connection_id),
            _ => None,
        }
    }

    pub(crate) fn is_from(&self, sender: SocketAddr) -> bool {
        let sender = canonical(sender);
        (sender.ip(), sender.port()) == (self.address.ip(), self.address.port())
    }

    /// Returns the connect request if it is time to send one, for an exchange that started at
    /// `started_at` and timed out `timeouts` times.
    pub(crate) fn poll_connect(
        &mut self,
        now: Duration,
        started_at: Duration,
        timeouts: u32,
    ) -> Option<Vec<u8>> {
        let connect = match self.state {
            State::Connecting(connect) if now < connect.due(started_at) => return None,
            State::Connecting(connect) => connect.sent_again(now),
            _ => ConnectRequest {
                transaction_id: self.draw_transaction_id(),
                sent_at: now,
                timeouts,
            },
        };
        self.state = State::Connecting(connect);
        Some(packet::encode_connect(connect.transaction_id))
    }

    /// Returns when an exchange that started at `started_at` and has no connection id can send.
    pub(crate) fn next_connect(&self, started_at: Duration) -> Duration {
        match self.state {
            State::Connecting(connect) => connect.due(started_at),
            // The next datagram, a connect request or the action itself, can be sent at once.
            _ => started_at,
        }
    }

    /// Handles the answer to the connect request in flight.
    pub(crate) fn handle_connect(
        &mut self,
        now: Duration,
        bytes: &[u8],
    ) -> Result<(), ExchangeError> {
        self.state = State::Idle;
        self.heard_at = Some(now);
        match Response::decode(bytes, self.family())? {
            Response::Connect { connection_id, .. } => {
                let until = now.saturating_add(CONNECTION_LIFETIME);
                self.state = State::Connected { connection_id, until };
                Ok(())
            }
            Response::Error { message, .. } => Err(ExchangeError::Refused { message }),
            other => Err(ExchangeError::Action { expected: "connect", got: other.action() }),
        }
    }
}

impl ConnectRequest {
    /// Returns when to send the request again: after its back-off. A new exchange does not wait for
    /// a request that was sent [`FIRST_TIMEOUT`] or more before it started.
    fn due(&self, started_at: Duration) -> Duration {
        if self.sent_at.saturating_add(FIRST_TIMEOUT) <= started_at {
            return started_at;
        }
        self.sent_at.saturating_add(back_off(self.timeouts))
    }

    fn sent_again(self, now: Duration) -> Self {
        let timed_out = now >= self.sent_at.saturating_add(back_off(self.timeouts));
        let timeouts = (self.timeouts + u32::from(timed_out)).min(MAX_BACK_OFF);
        Self { sent_at: now, timeouts, ..self }
    }
}

/// Returns the wait for an answer after `timeouts` timeouts.
pub(crate) fn back_off(timeouts: u32) -> Duration {
    FIRST_TIMEOUT * (1 << timeouts.min(MAX_BACK_OFF))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(v6.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

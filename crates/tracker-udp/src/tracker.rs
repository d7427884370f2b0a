//! What all exchanges with one tracker share: the connection id and the back-off of asking for it.
//!
//! ```text
//!            an exchange has something to send
//!   Idle ------------------------------------------> Connecting --.  retransmitted after
//!    ^                                                |  ^   ^    |  15 s * 2^n
//!    |  the tracker refuses, or answers nonsense      |  |   `----'
//!    `------------------------------------------------'  |
//!                         answered  |                    |  an exchange has something to send
//!                                   v                    |  and the id is a minute old
//!                               Connected ---------------'
//! ```
//!
//! A tracker that does not accept the connection id takes us from `Connected` to `Idle`.

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::exchange::ExchangeError;
use crate::packet::{self, Family, Response};

/// How long a connection id may be used (BEP 15, "UDP connections / spoofing").
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// How long the first transmission of a request waits for its answer (BEP 15, "Time outs").
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// How often that wait doubles at most: 15 s * 2^8 = 3840 s (BEP 15, "Time outs").
pub const MAX_BACK_OFF: u32 = 8;

/// One tracker address. Hold one for each address, and hand it to every [`crate::Exchange`] with it.
#[derive(Debug)]
pub struct UdpTracker {
    address: SocketAddr,
    link: Link,
    /// When it last answered a connect request.
    heard_at: Option<Duration>,
    generator: ChaCha8Rng,
}

#[derive(Debug)]
enum Link {
    Idle,
    Connecting(Connect),
    Connected { connection_id: u64, until: Duration },
}

/// A connect request on its way.
#[derive(Debug, Clone, Copy)]
struct Connect {
    transaction_id: u32,
    sent_at: Duration,
    timeouts: u32,
}

impl UdpTracker {
    /// The tracker at `address`. Transaction ids are drawn from a generator seeded with `seed`,
    /// which nobody outside should be able to guess.
    pub fn new(address: SocketAddr, seed: u64) -> Self {
        let address = canonical(address);
        let generator = ChaCha8Rng::seed_from_u64(seed);
        Self { address, link: Link::Idle, heard_at: None, generator }
    }

    /// Where the tracker is. An IPv4 address in IPv6 clothes is undressed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which addresses its announce replies hold.
    pub fn family(&self) -> Family {
        match self.address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }

    /// Whether a connection id is at hand at `now`.
    pub fn is_connected(&self, now: Duration) -> bool {
        self.connection_id(now).is_some()
    }

    /// The transaction id of the connect request in flight, if there is one.
    pub fn connecting(&self) -> Option<u32> {
        match self.link {
            Link::Connecting(connect) => Some(connect.transaction_id),
            _ => None,
        }
    }

    /// When the tracker last answered a connect request. An answer to an exchange ends that
    /// exchange, so that one under way has heard nothing since then, or since its start.
    pub fn heard_at(&self) -> Option<Duration> {
        self.heard_at
    }

    /// The tracker does not accept `connection_id`: the next exchange that has something to send
    /// asks for another one.
    pub(crate) fn reject(&mut self, connection_id: u64) {
        if matches!(self.link, Link::Connected { connection_id: id, .. } if id == connection_id) {
            self.link = Link::Idle;
        }
    }

    pub(crate) fn draw_transaction_id(&mut self) -> u32 {
        self.generator.next_u32()
    }

    pub(crate) fn connection_id(&self, now: Duration) -> Option<u64> {
        match self.link {
            Link::Connected { connection_id, until } if now < until => Some(connection_id),
            _ => None,
        }
    }

    pub(crate) fn is_source(&self, source: SocketAddr) -> bool {
        let source = canonical(source);
        (source.ip(), source.port()) == (self.address.ip(), self.address.port())
    }

    /// The connect request, if it is time to send one for an exchange that began at `began` and has
    /// seen `timeouts` of its own.
    pub(crate) fn poll_connect(
        &mut self,
        now: Duration,
        began: Duration,
        timeouts: u32,
    ) -> Option<Vec<u8>> {
        let connect = match self.link {
            Link::Connecting(connect) if now < connect.due(began) => return None,
            Link::Connecting(connect) => connect.sent_again(now),
            _ => Connect { transaction_id: self.draw_transaction_id(), sent_at: now, timeouts },
        };
        self.link = Link::Connecting(connect);
        Some(packet::encode_connect(connect.transaction_id))
    }

    /// When an exchange that began at `began` and lacks a connection id has something to send.
    pub(crate) fn next_connect(&self, began: Duration) -> Duration {
        match self.link {
            Link::Connecting(connect) => connect.due(began),
            // Whatever comes next, a connect request or the action itself, can go at once.
            _ => began,
        }
    }

    /// Takes the answer to the connect request in flight.
    pub(crate) fn handle_connect(
        &mut self,
        now: Duration,
        bytes: &[u8],
    ) -> Result<(), ExchangeError> {
        self.link = Link::Idle;
        self.heard_at = Some(now);
        match Response::decode(bytes, self.family())? {
            Response::Connect { connection_id, .. } => {
                let until = now.saturating_add(CONNECTION_LIFETIME);
                self.link = Link::Connected { connection_id, until };
                Ok(())
            }
            Response::Error { message, .. } => Err(ExchangeError::Refused { message }),
            other => Err(ExchangeError::Action { expected: "connect", got: other.action() }),
        }
    }
}

impl Connect {
    /// When it is sent again: after its back-off; but an exchange that finds a request so old that
    /// nobody may be waiting for it any more does not begin by waiting.
    fn due(&self, began: Duration) -> Duration {
        if self.sent_at.saturating_add(FIRST_TIMEOUT) <= began {
            return began;
        }
        self.sent_at.saturating_add(back_off(self.timeouts))
    }

    fn sent_again(self, now: Duration) -> Self {
        let timed_out = now >= self.sent_at.saturating_add(back_off(self.timeouts));
        let timeouts = (self.timeouts + u32::from(timed_out)).min(MAX_BACK_OFF);
        Self { sent_at: now, timeouts, ..self }
    }
}

/// How long to wait for an answer after `timeouts` timeouts.
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

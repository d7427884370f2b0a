//! An announce that was sent, and its legs.
//!
//! ```text
//!  Resolving (UDP) --> Asking: legs, one for each address family
//!                      Fetching (HTTP) or Exchanging (UDP) --answer, failure--> Done
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::AnnounceRequest;
use tracker_udp::{ADDRESS_SILENCE, Exchange, ExchangeError, Reply, UdpTracker};

use super::target::Target;
use super::{Announce, FetchFailure, Fetched};
use crate::engine::keys::AnnounceKey;

/// The UDP trackers that were asked, by address. All torrents share their connection ids.
pub(super) type UdpTrackers = BTreeMap<SocketAddr, UdpTracker>;

/// An announce that was sent.
#[derive(Debug)]
pub(super) struct ActiveAnnounce {
    pub(super) announce: Announce,
    pub(super) target: Target,
    pub(super) request: AnnounceRequest,
    pub(super) deadline: Duration,
    pub(super) interest: Interest,
    pub(super) stage: Stage,
}

/// Whether the torrent waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// It does.
    Awaited,
    /// The deadline is over. A failure still counts against the host.
    Late,
    /// One family answered, or the torrent stopped. No failure counts.
    Settled,
}

/// How far an active announce is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The name of a UDP tracker is being looked up.
    Resolving,
    /// Each leg asks over one address family.
    Asking {
        legs: Vec<Leg>,
        /// The first failure of a leg.
        failure: Option<FetchFailure>,
    },
}

/// One address family of an announce.
#[derive(Debug)]
pub(super) enum Leg {
    /// A fetcher works on it.
    Fetching,
    /// A UDP tracker is asked.
    Exchanging(Exchanges),
    Done,
}

/// The addresses of a UDP tracker, all of one family. One is asked if those before are silent.
#[derive(Debug)]
pub(super) struct Exchanges {
    asked: Vec<(SocketAddr, Exchange)>,
    further: VecDeque<SocketAddr>,
    /// When the last one of `asked` was asked.
    asked_at: Duration,
}

impl ActiveAnnounce {
    /// Whether a fetcher works on it.
    pub(super) fn is_fetching(&self) -> bool {
        self.legs().iter().any(|leg| matches!(leg, Leg::Fetching))
    }

    pub(super) fn legs(&self) -> &[Leg] {
        match &self.stage {
            Stage::Asking { legs, .. } => legs,
            Stage::Resolving => &[],
        }
    }

    pub(super) fn legs_mut(&mut self) -> &mut [Leg] {
        match &mut self.stage {
            Stage::Asking { legs, .. } => legs,
            Stage::Resolving => &mut [],
        }
    }

    pub(super) fn next_timeout(&self, trackers: &UdpTrackers) -> Option<Duration> {
        let exchanges = self.legs().iter().filter_map(|leg| match leg {
            Leg::Exchanging(exchanges) => exchanges.next_timeout(trackers),
            Leg::Fetching | Leg::Done => None,
        });
        let deadline = (self.interest == Interest::Awaited).then_some(self.deadline);
        exchanges.chain(deadline).min()
    }
}

impl Exchanges {
    pub(super) fn new(now: Duration, addresses: VecDeque<SocketAddr>) -> Self {
        Self { asked: Vec::new(), further: addresses, asked_at: now }
    }

    /// Takes the next address to ask, if the one before has been silent for long enough.
    pub(super) fn take_due(&mut self, now: Duration, trackers: &UdpTrackers) -> Option<SocketAddr> {
        self.next_due(trackers).filter(|due| *due <= now)?;
        self.further.pop_front()
    }

    pub(super) fn push(&mut self, now: Duration, address: SocketAddr, exchange: Exchange) {
        self.asked.push((address, exchange));
        self.asked_at = now;
    }

    /// When to ask the next address, if the one before stays silent.
    fn next_due(&self, trackers: &UdpTrackers) -> Option<Duration> {
        self.further.front()?;
        let Some((asked, _)) = self.asked.last() else { return Some(self.asked_at) };
        let heard_at = trackers.get(asked).and_then(UdpTracker::heard_at);
        Some(heard_at.unwrap_or_default().max(self.asked_at) + ADDRESS_SILENCE)
    }

    fn next_timeout(&self, trackers: &UdpTrackers) -> Option<Duration> {
        let asked = self.asked.iter().filter_map(|(address, exchange)| {
            trackers.get(address).and_then(|tracker| exchange.poll_timeout(tracker))
        });
        asked.chain(self.next_due(trackers)).min()
    }
}

/// One exchange of a leg.
pub(super) struct LegExchange<'a> {
    pub(super) key: AnnounceKey,
    pub(super) leg: usize,
    pub(super) address: SocketAddr,
    pub(super) exchange: &'a mut Exchange,
}

/// The exchanges under way.
pub(super) fn exchanges(
    active: &mut BTreeMap<AnnounceKey, ActiveAnnounce>,
) -> impl Iterator<Item = LegExchange<'_>> {
    active.iter_mut().flat_map(|(key, active)| {
        let legs = active.legs_mut().iter_mut().enumerate();
        legs.flat_map(move |(leg, state)| {
            let asked = match state {
                Leg::Exchanging(exchanges) => exchanges.asked.as_mut_slice(),
                Leg::Fetching | Leg::Done => &mut [],
            };
            asked.iter_mut().map(move |(address, exchange)| LegExchange {
                key: *key,
                leg,
                address: *address,
                exchange,
            })
        })
    })
}

pub(super) fn failure(message: impl Into<String>) -> FetchFailure {
    FetchFailure { message: message.into(), retry_in: None, refused: false }
}

pub(super) fn reply_of(result: Result<Reply, ExchangeError>) -> Fetched {
    match result {
        Ok(Reply::Announce(reply)) => Ok(reply),
        Ok(Reply::Scrape(_)) => Err(failure("the tracker sent a scrape response to an announce")),
        Err(error) => {
            let refused = matches!(error, ExchangeError::Refused { .. });
            Err(FetchFailure { refused, ..failure(error.to_string()) })
        }
    }
}

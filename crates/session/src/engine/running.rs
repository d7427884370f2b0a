//! One announce under way, over the address families in use.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceReply, AnnounceRequest};
use tracker_udp::{
    ADDRESS_SILENCE, Exchange, ExchangeError, Reply, TrackerHost, TrackerUrl, UdpTracker,
};
use url::Url;

use super::announces::{Announce, AnnounceKey, FetchFailure};

/// An announce under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) announce: Announce,
    pub(super) request: AnnounceRequest,
    pub(super) host: Arc<str>,
    /// `None` for HTTP and HTTPS.
    pub(super) udp: Option<TrackerUrl>,
    pub(super) deadline: Duration,
    pub(super) stage: Stage,
    /// By family, the addresses of a UDP tracker that are asked if the ones before are silent.
    pub(super) further: Vec<Further>,
    /// Whether the end was told. What still runs then only holds the turn at the host.
    pub(super) reported: bool,
    /// Whether a family answered, or nobody wants an answer any more: then no failure counts.
    pub(super) settled: bool,
    pub(super) failure: Option<FetchFailure>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    Resolving,
    Asking(Vec<Leg>),
}

/// Addresses of one family that were not asked yet.
#[derive(Debug)]
pub(super) struct Further {
    pub(super) addresses: VecDeque<SocketAddr>,
    /// The one before them, and when it was asked.
    pub(super) asked: SocketAddr,
    pub(super) asked_at: Duration,
}

/// One address of a tracker, or one address family over HTTP and HTTPS.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) work: Work,
    pub(super) done: bool,
}

/// The work of one leg.
#[derive(Debug)]
pub(super) enum Work {
    Fetch,
    Exchange { address: SocketAddr, exchange: Box<Exchange> },
}

impl Running {
    pub(super) fn new(
        announce: Announce,
        request: AnnounceRequest,
        host: Arc<str>,
        udp: Option<TrackerUrl>,
        deadline: Duration,
    ) -> Self {
        let (stage, further) = (Stage::Resolving, Vec::new());
        let (reported, settled, failure) = (false, false, None);
        Self { announce, request, host, udp, deadline, stage, further, reported, settled, failure }
    }

    /// Whether a fetcher works on it.
    pub(super) fn is_fetching(&self) -> bool {
        match &self.stage {
            Stage::Asking(legs) => {
                legs.iter().any(|leg| matches!(leg.work, Work::Fetch) && !leg.done)
            }
            Stage::Resolving => false,
        }
    }

    pub(super) fn host_name(&self) -> String {
        match self.udp.as_ref().map(|url| &url.host) {
            Some(TrackerHost::Name(name)) => name.clone(),
            Some(TrackerHost::Ip(ip)) => ip.to_string(),
            None => self.host.rsplit_once(':').map_or("", |(name, _)| name).to_owned(),
        }
    }

    pub(super) fn next_timeout(
        &self,
        trackers: &BTreeMap<SocketAddr, UdpTracker>,
    ) -> Option<Duration> {
        let of_leg = |leg: &Leg| match &leg.work {
            Work::Exchange { address, exchange } if !leg.done => {
                exchange.poll_timeout(trackers.get(address)?)
            }
            _ => None,
        };
        let legs = match &self.stage {
            Stage::Asking(legs) => legs.iter().filter_map(of_leg).min(),
            _ => None,
        };
        let further = self.further.iter().map(|further| further.due(trackers)).min();
        let deadline = Some(self.deadline).filter(|_| !self.reported);
        [legs, further, deadline].into_iter().flatten().min()
    }

    /// The next address of each family whose last one was silent for long enough.
    pub(super) fn take_further(
        &mut self,
        now: Duration,
        trackers: &BTreeMap<SocketAddr, UdpTracker>,
    ) -> Vec<SocketAddr> {
        let due = self.further.iter_mut().filter(|further| further.due(trackers) <= now);
        let taken: Vec<SocketAddr> = due
            .filter_map(|further| {
                (further.asked, further.asked_at) = (further.addresses.pop_front()?, now);
                Some(further.asked)
            })
            .collect();
        self.further.retain(|further| !further.addresses.is_empty());
        taken
    }

    /// An address answered: nothing more is expected of its family.
    pub(super) fn end_family(&mut self, v4: bool) {
        self.further.retain(|further| further.asked.is_ipv4() != v4);
        let Stage::Asking(legs) = &mut self.stage else { return };
        for leg in legs {
            leg.done |=
                matches!(leg.work, Work::Exchange { address, .. } if address.is_ipv4() == v4);
        }
    }
}

impl Further {
    /// When the next address is asked, if nothing is heard of the one before.
    fn due(&self, trackers: &BTreeMap<SocketAddr, UdpTracker>) -> Duration {
        let heard_at = trackers.get(&self.asked).and_then(UdpTracker::heard_at);
        heard_at.map_or(self.asked_at, |heard| heard.max(self.asked_at)) + ADDRESS_SILENCE
    }
}

/// The exchanges under way: announce, number of the leg, address, exchange.
pub(super) fn exchanges(
    running: &mut BTreeMap<AnnounceKey, Running>,
) -> impl Iterator<Item = (AnnounceKey, usize, &SocketAddr, &mut Exchange)> {
    running.iter_mut().flat_map(|(key, running)| {
        let legs = match &mut running.stage {
            Stage::Asking(legs) => legs.as_mut_slice(),
            _ => &mut [],
        };
        legs.iter_mut().enumerate().filter_map(|(number, leg)| match &mut leg.work {
            Work::Exchange { address, exchange } if !leg.done => {
                Some((*key, number, &*address, exchange.as_mut()))
            }
            _ => None,
        })
    })
}

/// The host that manners apply to, and the UDP target if it is one.
pub(super) fn parse(url: &str) -> Result<(String, Option<TrackerUrl>), String> {
    let parsed = Url::parse(url).map_err(|error| format!("the tracker's URL is wrong: {error}"))?;
    let host = parsed.host_str().unwrap_or_default().to_owned();
    let host = format!("{host}:{}", parsed.port_or_known_default().unwrap_or(0));
    match parsed.scheme() {
        "http" | "https" => Ok((host, None)),
        "udp" => {
            let target = tracker_udp::parse_url(url).map_err(|error| error.to_string())?;
            Ok((host, Some(target)))
        }
        other => Err(format!("expected a tracker URL with http, https or udp, got {other}")),
    }
}

pub(super) fn failure(message: impl Into<String>) -> FetchFailure {
    FetchFailure { message: message.into(), retry_in: None, refused: false }
}

pub(super) fn reply_of(
    result: Result<Reply, ExchangeError>,
) -> Result<AnnounceReply, FetchFailure> {
    match result {
        Ok(Reply::Announce(reply)) => Ok(reply),
        Ok(Reply::Scrape(_)) => Err(failure("the tracker sent a scrape response to an announce")),
        Err(error) => {
            let refused = matches!(error, ExchangeError::Refused { .. });
            Err(FetchFailure { refused, ..failure(error.to_string()) })
        }
    }
}

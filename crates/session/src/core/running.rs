//! One announce under way, over the address families in use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceReply, AnnounceRequest};
use tracker_udp::{Exchange, ExchangeError, Reply, TrackerHost, TrackerUrl, UdpTracker};
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

/// One address family of a tracker.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) work: Work,
    pub(super) done: bool,
}

/// What one family does.
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
        let stage = Stage::Resolving;
        let (reported, settled, failure) = (false, false, None);
        Self { announce, request, host, udp, deadline, stage, reported, settled, failure }
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
        let deadline = Some(self.deadline).filter(|_| !self.reported);
        [legs, deadline].into_iter().flatten().min()
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
        Ok(Reply::Scrape(_)) => Err(failure("the tracker answered a scrape nobody made")),
        Err(error) => {
            let refused = matches!(error, ExchangeError::Refused { .. });
            Err(FetchFailure { refused, ..failure(error.to_string()) })
        }
    }
}

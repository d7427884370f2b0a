//! Announces under way: each waits for its turn at the host, then has names looked up and datagrams
//! exchanged (UDP, one exchange for each address family) or goes to a fetcher (HTTP and HTTPS).
//!
//! ```text
//!  http: Waiting ------------> Fetching ---> finished
//!  udp:  Waiting -> Resolving -> Exchanging -> finished
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest};
use piece_store::TorrentKey;
use swarm::{AnnounceFailure, TrackerIndex};
use tracker_udp::{Exchange, ExchangeError, Reply, TrackerHost, TrackerUrl, UdpTracker};
use url::Url;

use super::Families;
use super::action::Action;
use super::hosts::{Admission, Hosts};
use super::names::{Lookup, Names, Resolved};
use crate::limits::ANNOUNCE_DEADLINE;

/// An announce, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceKey(u64);

impl AnnounceKey {
    #[cfg(test)]
    pub(super) fn new(number: u64) -> Self {
        Self(number)
    }
}

/// An announce failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchFailure {
    /// What went wrong, for people.
    pub message: String,
    /// After how many seconds the tracker may be asked again, where it said so.
    pub retry_in: Option<u32>,
    /// Whether the tracker is well and refused this one torrent.
    pub refused: bool,
}

impl From<FetchFailure> for AnnounceFailure {
    fn from(failure: FetchFailure) -> Self {
        Self { message: failure.message, retry_in: failure.retry_in }
    }
}

/// Who announces what to whom.
#[derive(Debug)]
pub(super) struct Announce {
    pub(super) torrent: TorrentKey,
    pub(super) tracker: TrackerIndex,
    pub(super) url: String,
    pub(super) request: AnnounceRequest,
}

/// The end of an announce.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) torrent: TorrentKey,
    pub(super) tracker: TrackerIndex,
    pub(super) url: String,
    pub(super) result: Result<AnnounceReply, AnnounceFailure>,
}

#[derive(Debug)]
struct Running {
    announce: Announce,
    host: String,
    /// `None` for HTTP and HTTPS.
    udp: Option<TrackerUrl>,
    /// Set when the host's turn came.
    deadline: Option<Duration>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Fetching,
    Resolving,
    Exchanging(Vec<Leg>),
}

/// The exchange with one address of a UDP tracker.
#[derive(Debug)]
struct Leg {
    address: SocketAddr,
    exchange: Exchange,
    result: Option<Result<AnnounceReply, FetchFailure>>,
}

/// All announces under way, and what the trackers' hosts are known by.
#[derive(Debug)]
pub(super) struct Announces {
    families: Families,
    running: BTreeMap<AnnounceKey, Running>,
    next_key: u64,
    hosts: Hosts,
    pub(super) names: Names,
    trackers: BTreeMap<SocketAddr, UdpTracker>,
    /// Fetches whose announce was given up, until the fetcher is back: they still take a turn.
    abandoned: BTreeMap<AnnounceKey, String>,
    pub(super) actions: VecDeque<Action>,
    pub(super) finished: VecDeque<Finished>,
}

impl Announces {
    pub(super) fn new(families: Families) -> Self {
        Self {
            families,
            running: BTreeMap::new(),
            next_key: 0,
            hosts: Hosts::default(),
            names: Names::default(),
            trackers: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            actions: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }

    /// Begins an announce; its end is found in `finished`.
    pub(super) fn start(&mut self, now: Duration, announce: Announce) {
        let (host, udp) = match parse(&announce.url) {
            Ok(target) => target,
            Err(message) => return self.finish_early(announce, message),
        };
        let key = AnnounceKey(self.next_key);
        self.next_key += 1;
        let event = announce.request.event;
        let urgent = matches!(event, AnnounceEvent::Started | AnnounceEvent::Stopped);
        match self.hosts.admit(now, &host, key, urgent) {
            Admission::Failing(message) => self.finish_early(announce, message),
            admission => {
                let stage = Stage::Waiting;
                self.running.insert(key, Running { announce, host, udp, deadline: None, stage });
                if admission == Admission::Go {
                    self.go(now, key);
                }
            }
        }
    }

    /// A fetcher is back.
    pub(super) fn handle_fetched(
        &mut self,
        now: Duration,
        key: AnnounceKey,
        result: Result<AnnounceReply, FetchFailure>,
    ) {
        if self.running.contains_key(&key) {
            self.finish(now, key, result);
        } else if let Some(host) = self.abandoned.remove(&key) {
            self.next_turn(now, &host, None);
        }
    }

    /// A name was looked up.
    pub(super) fn handle_resolved(&mut self, now: Duration, host: &str, result: Resolved) {
        self.names.handle_resolved(now, host, result);
        let waiting = self.running.iter().filter(|(_, running)| {
            matches!(running.stage, Stage::Resolving) && running.host_name() == host
        });
        let keys: Vec<AnnounceKey> = waiting.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.resolve(now, key));
    }

    /// A datagram came. Whether an exchange took it.
    pub(super) fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Some(tracker) = self.trackers.get_mut(&from) else { return false };
        let mut touched = false;
        for running in self.running.values_mut() {
            let Stage::Exchanging(legs) = &mut running.stage else { continue };
            for leg in legs.iter_mut().filter(|leg| leg.address == from && leg.result.is_none()) {
                if let Some(result) = leg.exchange.handle_datagram(tracker, now, from, bytes) {
                    leg.result = Some(reply_of(result));
                    touched = true;
                }
            }
        }
        self.pump(now);
        touched
    }

    /// The time of [`Self::poll_timeout`] came.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        for running in self.running.values_mut() {
            let Stage::Exchanging(legs) = &mut running.stage else { continue };
            for leg in legs.iter_mut().filter(|leg| leg.result.is_none()) {
                let error = leg.exchange.handle_timeout(now);
                leg.result = error.map(|error| Err(failure(error.to_string())));
            }
        }
        let late = self.running.iter().filter(|(_, running)| {
            !matches!(running.stage, Stage::Exchanging(_))
                && running.deadline.is_some_and(|at| at <= now)
        });
        let keys: Vec<AnnounceKey> = late.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.give_up(now, key));
        self.pump(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.running.values().filter_map(|running| running.next_timeout(&self.trackers)).min()
    }

    /// Nobody waits for this torrent's announces any more.
    pub(super) fn forget_torrent(&mut self, now: Duration, torrent: TorrentKey) {
        let of_torrent = self.running.iter().filter(|(_, run)| run.announce.torrent == torrent);
        let keys: Vec<AnnounceKey> = of_torrent.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.give_up(now, key));
        self.finished.retain(|finished| finished.torrent != torrent);
    }

    /// The host's turn for this announce came.
    fn go(&mut self, now: Duration, key: AnnounceKey) {
        let Some(running) = self.running.get_mut(&key) else { return };
        running.deadline = Some(now + ANNOUNCE_DEADLINE);
        if running.udp.is_some() {
            running.stage = Stage::Resolving;
            return self.resolve(now, key);
        }
        running.stage = Stage::Fetching;
        let (url, request) = (running.announce.url.clone(), running.announce.request.clone());
        self.actions.push_back(Action::Fetch { key, url, request: Box::new(request) });
    }

    fn resolve(&mut self, now: Duration, key: AnnounceKey) {
        let Some(running) = self.running.get(&key) else { return };
        let host = running.host_name();
        match self.names.look_up(now, &host) {
            Lookup::Asked => {}
            Lookup::Ask => self.actions.push_back(Action::Resolve { host }),
            Lookup::Known(Ok(ips)) => self.exchange(now, key, &ips),
            Lookup::Known(Err(message)) => {
                let message = format!("can't look up {}: {message}", running.host);
                self.finish(now, key, Err(failure(message)));
            }
        }
    }

    /// Begins an exchange with the first address of each family.
    fn exchange(&mut self, now: Duration, key: AnnounceKey, ips: &[IpAddr]) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let Some(target) = &running.udp else { return };
        let usable = |ip: &&IpAddr| self.families.allow(**ip);
        let v4 = ips.iter().filter(usable).find(|ip| ip.is_ipv4());
        let v6 = ips.iter().filter(usable).find(|ip| ip.is_ipv6());
        let deadline = running.deadline.unwrap_or(now + ANNOUNCE_DEADLINE);
        let legs: Vec<Leg> = [v4, v6]
            .into_iter()
            .flatten()
            .map(|ip| {
                let address = SocketAddr::new(*ip, target.port);
                // The transaction ids must differ from those of another tracker, not be secret from
                // this one: number and address make a seed.
                let seed = key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(target.port);
                let new = || UdpTracker::new(address, seed);
                let tracker = self.trackers.entry(address).or_insert_with(new);
                let request = running.announce.request.clone();
                let data = target.url_data.as_bytes();
                let exchange = Exchange::announce(tracker, now, deadline, request, data);
                Leg { address, exchange, result: None }
            })
            .collect();
        if legs.is_empty() {
            let message = format!("{} has no address that can be reached", running.host);
            return self.finish(now, key, Err(failure(message)));
        }
        running.stage = Stage::Exchanging(legs);
        self.pump(now);
    }

    /// Sends what exchanges have to send, and ends those that are done.
    fn pump(&mut self, now: Duration) {
        let mut done = Vec::new();
        for (key, running) in &mut self.running {
            let Stage::Exchanging(legs) = &mut running.stage else { continue };
            for leg in legs.iter_mut().filter(|leg| leg.result.is_none()) {
                let Some(tracker) = self.trackers.get_mut(&leg.address) else { continue };
                while let Some(bytes) = leg.exchange.poll_transmit(tracker, now) {
                    self.actions.push_back(Action::Datagram { to: leg.address, bytes });
                }
            }
            if legs.iter().all(|leg| leg.result.is_some()) {
                done.push((*key, merge(legs)));
            }
        }
        done.into_iter().for_each(|(key, result)| self.finish(now, key, result));
    }

    fn give_up(&mut self, now: Duration, key: AnnounceKey) {
        let Some(running) = self.running.get(&key) else { return };
        let host = running.host.clone();
        let message = format!("no answer within {} s", ANNOUNCE_DEADLINE.as_secs());
        match running.stage {
            Stage::Waiting => self.hosts.forget(&host, key),
            // Its turn at the host ends when the fetcher is back.
            Stage::Fetching => {
                self.abandoned.insert(key, host);
            }
            Stage::Resolving | Stage::Exchanging(_) => {
                return self.finish(now, key, Err(failure(message)));
            }
        }
        if let Some(running) = self.running.remove(&key) {
            self.finish_early(running.announce, message);
        }
    }

    fn finish(
        &mut self,
        now: Duration,
        key: AnnounceKey,
        result: Result<AnnounceReply, FetchFailure>,
    ) {
        let Some(Running { announce, host, .. }) = self.running.remove(&key) else { return };
        let blame = result.as_ref().err().filter(|failure| !failure.refused);
        self.next_turn(now, &host, blame.map(|failure| failure.message.as_str()));
        let Announce { torrent, tracker, url, .. } = announce;
        let result = result.map_err(AnnounceFailure::from);
        self.finished.push_back(Finished { torrent, tracker, url, result });
    }

    fn next_turn(&mut self, now: Duration, host: &str, failure: Option<&str>) {
        if let Some(next) = self.hosts.handle_finished(now, host, failure) {
            self.go(now, next);
        }
    }

    fn finish_early(&mut self, announce: Announce, message: String) {
        let Announce { torrent, tracker, url, .. } = announce;
        let result = Err(failure(message).into());
        self.finished.push_back(Finished { torrent, tracker, url, result });
    }
}

impl Running {
    fn host_name(&self) -> String {
        match self.udp.as_ref().map(|url| &url.host) {
            Some(TrackerHost::Name(name)) => name.clone(),
            Some(TrackerHost::Ip(ip)) => ip.to_string(),
            None => self.host.clone(),
        }
    }

    fn next_timeout(&self, trackers: &BTreeMap<SocketAddr, UdpTracker>) -> Option<Duration> {
        match &self.stage {
            Stage::Exchanging(legs) => {
                let open = legs.iter().filter(|leg| leg.result.is_none());
                open.filter_map(|leg| leg.exchange.poll_timeout(trackers.get(&leg.address)?)).min()
            }
            _ => self.deadline,
        }
    }
}

/// The host that manners apply to, and the UDP target if it is one.
fn parse(url: &str) -> Result<(String, Option<TrackerUrl>), String> {
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

fn failure(message: impl Into<String>) -> FetchFailure {
    FetchFailure { message: message.into(), retry_in: None, refused: false }
}

fn reply_of(result: Result<Reply, ExchangeError>) -> Result<AnnounceReply, FetchFailure> {
    match result {
        Ok(Reply::Announce(reply)) => Ok(reply),
        Ok(Reply::Scrape(_)) => Err(failure("the tracker answered a scrape nobody made")),
        Err(error) => {
            let refused = matches!(error, ExchangeError::Refused { .. });
            Err(FetchFailure { refused, ..failure(error.to_string()) })
        }
    }
}

/// One answer of both families: the peers of both, and the first error only if neither answered.
fn merge(legs: &mut [Leg]) -> Result<AnnounceReply, FetchFailure> {
    let mut results = legs.iter_mut().filter_map(|leg| leg.result.take());
    let first = results.next().unwrap_or_else(|| Err(failure("no address was asked")));
    results.fold(first, |merged, result| match (merged, result) {
        (Ok(mut merged), Ok(reply)) => {
            merged.peers.extend(reply.peers);
            Ok(merged)
        }
        (Ok(reply), Err(_)) | (Err(_), Ok(reply)) => Ok(reply),
        (Err(failure), Err(_)) => Err(failure),
    })
}

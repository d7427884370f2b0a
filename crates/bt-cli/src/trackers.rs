//! All trackers of a torrent, asked at once.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bt_types::{AnnounceReply, AnnounceRequest, InfoHashV1, PeerId, ScrapeEntry, TrackerPeer};
use crossbeam_channel::{Receiver, bounded};
use metainfo::Metainfo;
use session::limits::MAX_TRACKERS;
use tracker_http::{AnnounceError, FetchError, Fetcher, FetcherConfig};

use crate::failure::{Class, Failure, chain};
use crate::identity::{CLIENT_NAME, PEER_ID_PREFIX};

/// What an answer may be late by, so that a request's own error is told where there is one.
const GRACE: Duration = Duration::from_millis(500);
/// How long the answer over the second address family may take when the first one is here.
const SECOND_FAMILY_GRACE: Duration = Duration::from_secs(1);

/// A tracker's URL and what came of asking it.
pub(crate) type Answer<T> = (String, Result<T, String>);

/// Talks to trackers of both kinds.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: Fetcher,
    /// One that uses IPv4 only, one that uses IPv6 only.
    http_families: [Fetcher; 2],
    udp: tracker_udp::Client,
    timeout: Duration,
}

impl Client {
    /// A client whose every request takes `timeout` at most.
    pub(crate) fn new(ca_file: Option<&Path>, timeout: Duration) -> Result<Self, Failure> {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        let of = |bind| fetcher_from(ca_file, timeout, bind);
        Ok(Self {
            http: of(None)?,
            http_families: [of(Some(v4))?, of(Some(v6))?],
            udp: tracker_udp::Client::new(timeout),
            timeout,
        })
    }

    /// Asks every one of `urls` at once; the answers are in the order of `urls`.
    pub(crate) fn ask_all<T: Send + 'static>(
        &self,
        urls: &[String],
        ask: impl Fn(&Self, &str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Vec<Answer<T>> {
        let urls: Vec<&String> = urls.iter().take(MAX_TRACKERS).collect();
        let deadline = Instant::now() + self.timeout + GRACE;
        let (sender, receiver) = bounded(urls.len());
        let ask = Arc::new(ask);
        for (index, url) in urls.iter().enumerate() {
            let (client, url, ask, sender) =
                (self.clone(), (*url).clone(), Arc::clone(&ask), sender.clone());
            // A look-up of a name can't be interrupted: such a thread is left to the process's end.
            thread::spawn(move || sender.send((index, ask(&client, &url))));
        }
        drop(sender);
        let late = || Err(format!("no answer within {} s", self.timeout.as_secs_f64()));
        let mut answers: Vec<Answer<T>> =
            urls.into_iter().map(|url| (url.clone(), late())).collect();
        while let Ok((index, answer)) = receiver.recv_deadline(deadline) {
            answers[index].1 = answer;
        }
        answers
    }

    /// One announce, over each address family that the tracker's name has (BEP 7).
    pub(crate) fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, String> {
        match kind(url)? {
            Kind::Http => self.announce_http(url, request),
            Kind::Udp => self.udp.announce(url, request).map_err(|error| chain(&error)),
        }
    }

    fn announce_http(&self, url: &str, request: &AnnounceRequest) -> Result<AnnounceReply, String> {
        let (sender, receiver) = bounded(self.http_families.len());
        for fetcher in self.http_families.clone() {
            let (url, request, sender) = (url.to_owned(), request.clone(), sender.clone());
            // It ends at its timeout by itself; nobody need wait for it.
            thread::spawn(move || sender.send(fetcher.announce(&url, &request)));
        }
        drop(sender);
        join_families(&receiver)
    }

    /// What the tracker knows of one torrent.
    pub(crate) fn scrape(&self, url: &str, info_hash: InfoHashV1) -> Result<ScrapeEntry, String> {
        let entries = match kind(url)? {
            Kind::Http => self.http.scrape(url, &[info_hash]).map_err(|error| chain(&error)),
            Kind::Udp => self.udp.scrape(url, &[info_hash]).map_err(|error| chain(&error)),
        }?;
        let entry = entries.into_iter().find(|entry| entry.info_hash == info_hash);
        entry.ok_or_else(|| "the tracker does not know the torrent".to_owned())
    }
}

/// What fetches over HTTP(S), for this program.
pub(crate) fn fetcher(ca_file: Option<&Path>, timeout: Duration) -> Result<Fetcher, Failure> {
    fetcher_from(ca_file, timeout, None)
}

fn fetcher_from(
    ca_file: Option<&Path>,
    timeout: Duration,
    bind: Option<IpAddr>,
) -> Result<Fetcher, Failure> {
    let config = FetcherConfig {
        user_agent: CLIENT_NAME.to_owned(),
        timeout,
        ca_file: ca_file.map(Path::to_owned),
        bind,
        ..FetcherConfig::default()
    };
    Fetcher::new(config).map_err(|error| Failure::new(Class::Disk, chain(&error)))
}

/// The first good reply, with the peers of the other one; else the most telling error.
fn join_families(
    replies: &Receiver<Result<AnnounceReply, AnnounceError>>,
) -> Result<AnnounceReply, String> {
    let mut failures = Vec::new();
    for reply in replies {
        match reply {
            Ok(first) => {
                let second = replies.recv_timeout(SECOND_FAMILY_GRACE).ok().and_then(Result::ok);
                return Ok(second.into_iter().fold(first, join));
            }
            Err(error) => failures.push(error),
        }
    }
    let told = failures.iter().min_by_key(|error| vagueness(error));
    Err(told.map_or_else(|| "no answer".to_owned(), |error| chain(error)))
}

/// The first reply, with the second one's peers that it lacks.
fn join(mut first: AnnounceReply, second: AnnounceReply) -> AnnounceReply {
    let known: HashSet<TrackerPeer> = first.peers.iter().cloned().collect();
    first.peers.extend(second.peers.into_iter().filter(|peer| !known.contains(peer)));
    first
}

/// What a tracker said tells more than that it can't be reached, and that more than that it has no
/// address of a family.
fn vagueness(error: &AnnounceError) -> u8 {
    match error {
        AnnounceError::Fetch(FetchError::Connect { address, .. }) if address.is_ipv4() => 1,
        AnnounceError::Fetch(FetchError::Connect { .. }) => 2,
        AnnounceError::Fetch(FetchError::Resolve { .. }) => 3,
        _ => 0,
    }
}

/// Every tracker of every tier, once each.
pub(crate) fn urls(metainfo: &Metainfo) -> Result<Vec<String>, Failure> {
    let mut urls: Vec<String> = Vec::new();
    for url in metainfo.trackers().iter().flatten() {
        if !urls.contains(url) {
            urls.push(url.clone());
        }
    }
    if urls.is_empty() {
        return Err(Failure::new(Class::Network, "the torrent names no tracker"));
    }
    Ok(urls)
}

/// An announce of this program that has nothing of the torrent yet.
pub(crate) fn announce_request(
    metainfo: &Metainfo,
    port: u16,
    ip: Option<IpAddr>,
) -> AnnounceRequest {
    let peer_id = PeerId::new(PEER_ID_PREFIX, rand::random());
    let mut request = AnnounceRequest::new(metainfo.info_hash(), peer_id);
    request.port = port;
    request.left = metainfo.info().geometry().total();
    request.key = rand::random();
    request.ip = ip;
    request
}

/// The answers that failed, as causes of a failure: `URL: why`.
pub(crate) fn causes<T>(answers: &[Answer<T>]) -> Vec<String> {
    let failed = answers.iter().filter_map(|(url, answer)| Some((url, answer.as_ref().err()?)));
    failed.map(|(url, why)| format!("{}: {why}", tracker_http::shorten_url(url))).collect()
}

enum Kind {
    Http,
    Udp,
}

fn kind(url: &str) -> Result<Kind, String> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    match scheme.as_str() {
        "http" | "https" => Ok(Kind::Http),
        "udp" => Ok(Kind::Udp),
        _ => Err("expected an http, https or udp tracker".to_owned()),
    }
}

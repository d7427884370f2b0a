//! Asks all trackers of a torrent at once.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bt_types::{AnnounceReply, AnnounceRequest, InfoHashV1, PeerId, ScrapeEntry, TrackerPeer};
use crossbeam_channel::{Receiver, bounded};
use session::limits::MAX_TRACKERS;
use tracker_http::{AnnounceError, FetchError, Fetcher, FetcherConfig};

use crate::failure::{Class, Failure, chain};
use crate::identity::{CLIENT_NAME, PEER_ID_PREFIX};
use crate::source::NamedTorrent;

/// The time after the timeout in which a request can still report its own error.
const GRACE: Duration = Duration::from_millis(500);
/// How long to wait for the answer over the second address family after the first one.
const SECOND_FAMILY_GRACE: Duration = Duration::from_secs(1);

/// A tracker's URL, and its answer or error.
pub(crate) type Answer<T> = (String, Result<T, String>);

/// A client for HTTP(S) and UDP trackers.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: Fetcher,
    /// One that uses IPv4 only, one that uses IPv6 only.
    http_families: [Fetcher; 2],
    udp: tracker_udp::Client,
    timeout: Duration,
}

impl Client {
    /// Creates a client whose requests take at most `timeout` each.
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

    /// Asks all `urls` at once. Returns the answers in the order of `urls`.
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
            // Not joined: a name look-up can't be interrupted and may take until the process ends.
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

    /// Announces over each address family that the tracker's name has (BEP 7).
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
            // Not joined: it ends at its timeout.
            thread::spawn(move || sender.send(fetcher.announce(&url, &request)));
        }
        drop(sender);
        join_families(&receiver)
    }

    /// Asks the tracker for its counts of one torrent.
    pub(crate) fn scrape(&self, url: &str, info_hash: InfoHashV1) -> Result<ScrapeEntry, String> {
        let entries = match kind(url)? {
            Kind::Http => self.http.scrape(url, &[info_hash]).map_err(|error| chain(&error)),
            Kind::Udp => self.udp.scrape(url, &[info_hash]).map_err(|error| chain(&error)),
        }?;
        let entry = entries.into_iter().find(|entry| entry.info_hash == info_hash);
        entry.ok_or_else(|| "the tracker does not know the torrent".to_owned())
    }
}

/// Creates the HTTP(S) client of this program.
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

/// Returns the first good reply with the peers of the other one, or the most specific error.
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
    let most_specific = failures.iter().min_by_key(|error| vagueness(error));
    Err(most_specific.map_or_else(|| "no answer".to_owned(), |error| chain(error)))
}

/// Adds the peers of the second reply that the first one lacks.
fn join(mut first: AnnounceReply, second: AnnounceReply) -> AnnounceReply {
    let known: HashSet<TrackerPeer> = first.peers.iter().cloned().collect();
    first.peers.extend(second.peers.into_iter().filter(|peer| !known.contains(peer)));
    first
}

/// Ranks errors, the most specific first: the tracker's own, then a failed connection, then a name
/// without an address of that family.
fn vagueness(error: &AnnounceError) -> u8 {
    match error {
        AnnounceError::Fetch(FetchError::Connect { address, .. }) if address.is_ipv4() => 1,
        AnnounceError::Fetch(FetchError::Connect { .. }) => 2,
        AnnounceError::Fetch(FetchError::Resolve { .. }) => 3,
        _ => 0,
    }
}

/// Returns an announce for a torrent of which we have nothing.
pub(crate) fn announce_request(
    torrent: &NamedTorrent,
    port: u16,
    ip: Option<IpAddr>,
) -> AnnounceRequest {
    let peer_id = PeerId::new(PEER_ID_PREFIX, rand::random());
    let mut request = AnnounceRequest::new(torrent.description.info_hash(), peer_id);
    request.port = port;
    // Not 0, which a seeder announces.
    request.left = torrent.size().unwrap_or(1);
    request.key = rand::random();
    request.ip = ip;
    request
}

/// Returns a line for each tracker that failed: `URL: error`.
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

//! A blocking client for command-line tools. It looks up the tracker's name, and opens a socket and
//! drives an [`Exchange`] for each address. A program with many trackers drives the exchanges
//! itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the crate's only I/O

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use bt_types::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerId, ScrapeEntry, TrackerPeer,
};

use crate::addresses::{ADDRESS_SILENCE, addresses_to_ask};
use crate::exchange::{Exchange, ExchangeError, Reply, ScrapeCountError};
use crate::packet::{MAX_PEERS, MAX_SCRAPE};
use crate::tracker::UdpTracker;
use crate::url::{TrackerHost, TrackerUrl, TrackerUrlError, parse_url};

/// The default time limit of a call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time limit that can be set. A longer one could overflow the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How long to wait for the other family once one has answered.
const SECOND_FAMILY_GRACE: Duration = Duration::from_secs(1);
/// The largest datagram UDP can carry.
const DATAGRAM_LENGTH: usize = 65_535;

/// A tracker's reply about one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// The number of incomplete peers.
    pub leechers: u32,
    /// The number of complete peers.
    pub seeders: u32,
    /// Seconds until the next regular announce.
    pub interval: u32,
    /// The peers' addresses, at most [`MAX_PEERS`].
    pub peers: Vec<SocketAddr>,
}

/// Why a call of the client failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Occurs when the URL is not that of a UDP tracker.
    #[error(transparent)]
    Url(#[from] TrackerUrlError),
    /// Occurs when a scrape is of no torrent or of too many.
    #[error(transparent)]
    ScrapeCount(#[from] ScrapeCountError),
    /// Occurs when the lookup of the tracker's name fails or takes too long, or finds no address of
    /// the family that the client is bound to.
    #[error("cannot look up the tracker's address {host}: {message}")]
    Resolve {
        /// The name.
        host: String,
        /// The system's error.
        message: String,
    },
    /// Occurs when sending or receiving fails, or the system reports a closed port.
    #[error("cannot communicate with {address}: {kind}")]
    Socket {
        /// The tracker's address.
        address: SocketAddr,
        /// The system's error.
        kind: io::ErrorKind,
    },
    /// Occurs when the tracker does not answer or refuses, or its answer is invalid.
    #[error("{address}: {error}")]
    Exchange {
        /// The tracker's address.
        address: SocketAddr,
        /// How the exchange ended.
        error: ExchangeError,
    },
}

/// Gets the peers of one torrent from the tracker at `url`, within 30 s. See [`Client::get_peers`].
///
/// # Errors
/// See [`ClientError`].
pub fn get_peers(url: &str, info_hash: InfoHashV1) -> Result<Peers, ClientError> {
    Client::default().get_peers(url, info_hash)
}

/// A blocking client.
///
/// It asks an IPv4 and an IPv6 address of the tracker if there are both. An announce joins the
/// peers of both replies (BEP 7); a scrape takes the first reply. Within a family it asks the
/// addresses from [`addresses_to_ask`] one after the other: the next one when the one before is
/// unreachable or silent for [`ADDRESS_SILENCE`]. The first answer counts, even a late one of an
/// earlier address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The time limit of a call, with the lookup of the name. The longest is a day.
    pub timeout: Duration,
    /// The local address to send from. The client asks only addresses of its family.
    pub bind: Option<IpAddr>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(DEFAULT_TIMEOUT)
    }
}

impl Client {
    /// Makes a client that sends from any local address.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, bind: None }
    }

    /// Announces to the tracker at `url`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, ClientError> {
        let url = parse_url(url)?;
        self.announce_to(&url, request.clone(), false)
    }

    /// Scrapes the tracker at `url`. Returns one entry for each of `info_hashes`, in that order.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn scrape(
        &self,
        url: &str,
        info_hashes: &[InfoHashV1],
    ) -> Result<Vec<ScrapeEntry>, ClientError> {
        let url = parse_url(url)?;
        if !(1..=MAX_SCRAPE).contains(&info_hashes.len()) {
            return Err(ScrapeCountError { got: info_hashes.len() }.into());
        }
        let question = Question::Scrape { info_hashes: info_hashes.to_vec() };
        let replies = self.ask(&url, question, Duration::ZERO)?;
        let entries = replies.into_iter().find_map(|reply| match reply {
            Reply::Scrape(entries) => Some(entries),
            Reply::Announce(_) => None,
        });
        Ok(entries.unwrap_or_default())
    }

    /// Gets the peers of one torrent. Announces `started` with a random peer id and then `stopped`,
    /// so that the tracker does not list this client as a peer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get_peers(&self, url: &str, info_hash: InfoHashV1) -> Result<Peers, ClientError> {
        let url = parse_url(url)?;
        let mut request = AnnounceRequest::new(info_hash, PeerId(rand::random()));
        request.event = AnnounceEvent::Started;
        request.key = rand::random();
        let reply = self.announce_to(&url, request, true)?;
        Ok(Peers {
            leechers: reply.leechers.unwrap_or_default(),
            seeders: reply.seeders.unwrap_or_default(),
            interval: reply.interval,
            peers: reply.peers.iter().filter_map(TrackerPeer::address).collect(),
        })
    }

    fn announce_to(
        &self,
        url: &TrackerUrl,
        request: AnnounceRequest,
        leave: bool,
    ) -> Result<AnnounceReply, ClientError> {
        let url_data = url.url_data.clone().into_bytes();
        let question = Question::Announce { request, url_data, leave };
        let replies = self.ask(url, question, SECOND_FAMILY_GRACE)?;
        let announced = replies.into_iter().filter_map(|reply| match reply {
            Reply::Announce(reply) => Some(reply),
            Reply::Scrape(_) => None,
        });
        Ok(announced.reduce(join).unwrap_or_default())
    }

    /// Asks both families at the same time. Returns one or two replies, or the most useful error.
    fn ask(
        &self,
        url: &TrackerUrl,
        question: Question,
        grace: Duration,
    ) -> Result<Vec<Reply>, ClientError> {
        let deadline = Instant::now() + self.timeout.min(MAX_TIMEOUT);
        let families = self.addresses(url, deadline)?;
        let question = Arc::new(question);
        let (sender, receiver) = mpsc::channel();
        for family in families {
            let (sender, question, bind) = (sender.clone(), Arc::clone(&question), self.bind);
            // The thread ends at the deadline, so nothing waits for it.
            thread::spawn(move || {
                ask_in_sequence(&family, deadline, move |address| {
                    ask_one(address, bind, &question, deadline)
                })
                .and_then(|result| sender.send(result).ok())
            });
        }
        drop(sender);
        collect(&receiver, grace).unwrap_or_else(|| {
            let message = "no address of a family in use".to_owned();
            Err(ClientError::Resolve { host: url.host.to_string(), message })
        })
    }

    /// Looks up the addresses to ask, by family.
    fn addresses(
        &self,
        url: &TrackerUrl,
        deadline: Instant,
    ) -> Result<[Vec<SocketAddr>; 2], ClientError> {
        let failed = |message: String| ClientError::Resolve { host: url.host.to_string(), message };
        let found = match &url.host {
            TrackerHost::Ip(ip) => vec![*ip],
            TrackerHost::Name(name) => look_up(name, deadline).map_err(failed)?,
        };
        let at_port = |ip| SocketAddr::new(ip, url.port);
        Ok(self.addresses_to_ask(&found).map(|ips| ips.into_iter().map(at_port).collect()))
    }

    /// Returns the addresses to ask, by family. `found` holds all addresses of the tracker's name.
    fn addresses_to_ask(&self, found: &[IpAddr]) -> [Vec<IpAddr>; 2] {
        addresses_to_ask(found, |ip| self.bind.is_none_or(|bind| bind.is_ipv4() == ip.is_ipv4()))
    }
}

/// What to ask, without the address.
#[derive(Debug)]
enum Question {
    Announce { request: AnnounceRequest, url_data: Vec<u8>, leave: bool },
    Scrape { info_hashes: Vec<InfoHashV1> },
}

impl Question {
    fn start(
        &self,
        tracker: &mut UdpTracker,
        now: Duration,
        deadline: Duration,
    ) -> Result<Exchange, ScrapeCountError> {
        match self {
            Self::Announce { request, url_data, .. } => {
                Ok(Exchange::announce(tracker, now, deadline, request.clone(), url_data))
            }
            Self::Scrape { info_hashes } => Exchange::scrape(tracker, now, deadline, info_hashes),
        }
    }

    /// Returns the `stopped` announce that follows a `started` one, if the client should not stay.
    fn leave(&self, tracker: &mut UdpTracker, now: Duration) -> Option<Vec<u8>> {
        let Self::Announce { request, url_data, leave: true } = self else { return None };
        let request =
            AnnounceRequest { event: AnnounceEvent::Stopped, num_want: Some(0), ..request.clone() };
        Exchange::announce(tracker, now, Duration::MAX, request, url_data)
            .poll_transmit(tracker, now)
    }
}

/// Looks up a name. A lookup cannot be interrupted, so it has a thread of its own, which goes on
/// alone after the deadline.
fn look_up(name: &str, deadline: Instant) -> Result<Vec<IpAddr>, String> {
    let (sender, receiver) = mpsc::channel();
    let name = name.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let found = found.map(|found| found.map(|address| address.ip()).collect());
        let _ = sender.send(found.map_err(|error| error.to_string()));
    });
    let wait = deadline.saturating_duration_since(Instant::now());
    receiver.recv_timeout(wait).unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// Asks the addresses of one family, the next one when the one before is unreachable or silent.
/// Returns the first answer of any address.
fn ask_in_sequence(
    addresses: &[SocketAddr],
    deadline: Instant,
    ask: impl Fn(SocketAddr) -> Result<Reply, ClientError> + Clone + Send + 'static,
) -> Option<Result<Reply, ClientError>> {
    let mut addresses = addresses.iter().copied();
    let (sender, receiver) = mpsc::channel();
    let (mut in_flight, mut first_failure) = (0, None);
    loop {
        match addresses.next() {
            Some(address) => {
                let (sender, ask) = (sender.clone(), ask.clone());
                // The thread ends at the deadline, so nothing waits for it.
                thread::spawn(move || sender.send(ask(address)));
                in_flight += 1;
            }
            None if in_flight == 0 => return first_failure,
            None => {}
        }
        let wait = match addresses.len() {
            // Each thread reports its timeout at the deadline. The margin lets that error arrive.
            0 => deadline.saturating_duration_since(Instant::now()) + ADDRESS_SILENCE,
            _ => ADDRESS_SILENCE,
        };
        match receiver.recv_timeout(wait) {
            Ok(result) if is_silence(&result) => {
                in_flight -= 1;
                first_failure.get_or_insert(result);
            }
            Ok(result) => return Some(result),
            Err(_) if addresses.len() == 0 => return first_failure,
            Err(_) => {}
        }
    }
}

/// Whether the address did not answer.
fn is_silence(result: &Result<Reply, ClientError>) -> bool {
    let timed_out = |error: &ExchangeError| matches!(error, ExchangeError::TimedOut { .. });
    match result {
        Err(ClientError::Socket { .. }) => true,
        Err(ClientError::Exchange { error, .. }) => timed_out(error),
        _ => false,
    }
}

fn ask_one(
    address: SocketAddr,
    bind: Option<IpAddr>,
    question: &Question,
    deadline: Instant,
) -> Result<Reply, ClientError> {
    let socket_error = |error: io::Error| ClientError::Socket { address, kind: error.kind() };
    let socket = open(address, bind).map_err(socket_error)?;
    let start = Instant::now();
    let mut tracker = UdpTracker::new(address, rand::random());
    let mut exchange =
        question.start(&mut tracker, Duration::ZERO, deadline.saturating_duration_since(start))?;
    let mut buffer = vec![0; DATAGRAM_LENGTH];
    loop {
        while let Some(datagram) = exchange.poll_transmit(&mut tracker, start.elapsed()) {
            socket.send(&datagram).map_err(socket_error)?;
        }
        let until = exchange.poll_timeout(&tracker).unwrap_or_default();
        let wait = until.saturating_sub(start.elapsed());
        let received = receive(&socket, wait, &mut buffer).map_err(socket_error)?;
        let now = start.elapsed();
        let result = exchange
            .handle_datagram(&mut tracker, now, address, received)
            .or_else(|| exchange.handle_timeout(now).map(Err));
        if let Some(result) = result {
            if result.is_ok()
                && let Some(datagram) = question.leave(&mut tracker, now)
            {
                let _ = socket.send(&datagram);
            }
            return result.map_err(|error| ClientError::Exchange { address, error });
        }
    }
}

/// Opens a connected socket, so that the system drops datagrams of other senders and reports a
/// closed port.
fn open(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((bind.unwrap_or(any), 0))?;
    socket.connect(address)?;
    Ok(socket)
}

/// Returns the next datagram, or no bytes if none comes within `wait`.
fn receive<'a>(socket: &UdpSocket, wait: Duration, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    // Zero would mean no timeout.
    socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
    match socket.recv(buffer) {
        Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
        Err(error) if is_harmless(error.kind()) => Ok(&[]),
        Err(error) => Err(error),
    }
}

fn is_harmless(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(kind, Interrupted | TimedOut | WouldBlock)
}

/// Waits for the first reply, and then up to `grace` for the second. Every sender ends at its
/// deadline. Returns `None` if there is no sender.
fn collect(
    receiver: &Receiver<Result<Reply, ClientError>>,
    grace: Duration,
) -> Option<Result<Vec<Reply>, ClientError>> {
    let mut failure = None;
    for result in receiver {
        match result {
            Ok(first) => {
                let second = receiver.recv_timeout(grace).ok().and_then(Result::ok);
                return Some(Ok([Some(first), second].into_iter().flatten().collect()));
            }
            Err(error) => failure = Some(more_useful(failure, error)),
        }
    }
    failure.map(Err)
}

/// Prefers the error of an exchange to that of a socket, which may mean only that the machine has
/// no route for a family.
fn more_useful(first: Option<ClientError>, second: ClientError) -> ClientError {
    match first {
        Some(first @ ClientError::Exchange { .. }) => first,
        _ => second,
    }
}

/// Adds to the first reply the peers that only the second one has.
fn join(mut first: AnnounceReply, second: AnnounceReply) -> AnnounceReply {
    for peer in second.peers {
        if first.peers.len() < MAX_PEERS && !first.peers.contains(&peer) {
            first.peers.push(peer);
        }
    }
    first
}

#[cfg(test)]
mod tests;

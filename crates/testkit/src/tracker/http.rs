//! An HTTP tracker with minimal HTTP/1.1: one request per connection.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bt_types::{AnnounceEvent, InfoHashV1, PeerId, compact};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::ben::write_bytes;
use crate::server::TcpServer;

use super::{Answer, SeenAnnounce, SwarmState, Tracker};

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The coding of an HTTP body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyCoding {
    /// No coding, with `Content-Length`.
    #[default]
    Plain,
    /// `Content-Encoding: gzip`.
    Gzip,
    /// `Transfer-Encoding: chunked`, in pieces of 7 bytes.
    Chunked,
    /// No coding and no length: the body ends with the connection.
    UntilClose,
}

/// An HTTP tracker on a real socket. Dropping it stops it and joins its threads.
#[derive(Debug)]
pub struct HttpTracker {
    tracker: Tracker,
    stop: Arc<AtomicBool>,
    server: TcpServer,
}

impl HttpTracker {
    /// Starts a tracker on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::bind(address, Tracker::new()).expect("a free port on 127.0.0.1")
    }

    /// Starts a tracker on a free port of `::1`.
    ///
    /// # Errors
    /// The machine has no IPv6.
    pub fn start_v6() -> io::Result<Self> {
        Self::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), Tracker::new())
    }

    /// Starts a tracker at `address` with the state `tracker`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(address: SocketAddr, tracker: Tracker) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let handler = Handler { tracker: tracker.clone(), stop: stop.clone() };
        let serve = move |mut stream: TcpStream| {
            // The client may close the connection early.
            let _closed = handler.serve(&mut stream);
        };
        let server = TcpServer::start("http-tracker", address, serve)?;
        Ok(Self { tracker, stop, server })
    }

    /// The address of the tracker.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The announce URL. The path is `/announce`, which libtorrent requires on loopback.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address())
    }
}

impl Deref for HttpTracker {
    type Target = Tracker;

    fn deref(&self) -> &Tracker {
        &self.tracker
    }
}

impl Drop for HttpTracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tracker.wake();
    }
}

/// Handles the requests of one tracker.
#[derive(Clone)]
struct Handler {
    tracker: Tracker,
    stop: Arc<AtomicBool>,
}

impl Handler {
    fn serve(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        let from = stream.peer_addr()?;
        let Some(target) = read_target(stream)? else {
            return stream.write_all(&head(400, "Bad Request", "Content-Length: 0\r\n"));
        };
        let request = Request::parse(&target);
        match request.answer(&self.tracker, from) {
            Ok((Answer::Redirect(url), _)) => stream.write_all(&redirect(&url, &target)),
            Ok((answer, body)) => self.reply(stream, &answer, body),
            Err(reason) => stream.write_all(&self.with_head(failure(reason, None))),
        }
    }

    fn reply(&self, stream: &mut TcpStream, answer: &Answer, body: Vec<u8>) -> io::Result<()> {
        match answer {
            Answer::Silence => return hold(stream),
            Answer::Slow(time) if self.tracker.pause(*time, &self.stop) => return Ok(()),
            Answer::Truncated => {
                let all = self.with_head(body);
                return stream.write_all(&all[..all.len() - all.len() / 4]);
            }
            Answer::Status(status) => {
                return stream.write_all(&head(*status, "Scripted", "Content-Length: 0\r\n"));
            }
            _ => {}
        }
        stream.write_all(&self.with_head(body))
    }

    /// Returns the response with status 200 and the coded body.
    fn with_head(&self, body: Vec<u8>) -> Vec<u8> {
        let coding = self.tracker.lock().body;
        let (lines, body) = match coding {
            BodyCoding::Plain => (format!("Content-Length: {}\r\n", body.len()), body),
            BodyCoding::UntilClose => (String::new(), body),
            BodyCoding::Chunked => ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&body)),
            BodyCoding::Gzip => {
                let body = gzip(&body);
                (format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", body.len()), body)
            }
        };
        [head(200, "OK", &lines), body].concat()
    }
}

/// Reads the path and query of the request on `stream`. Returns `None` if it is not a GET request.
fn read_target(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 || head.len() > MAX_HEAD {
            return Ok(None);
        }
        head.extend(&buffer[..count]);
    }
    let text = String::from_utf8_lossy(&head);
    let mut words = text.split(' ');
    let is_get = words.next() == Some("GET");
    Ok(words.next().filter(|_| is_get).map(str::to_owned))
}

/// Sends nothing until the client closes the connection or the tracker stops.
fn hold(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    io::copy(stream, &mut io::sink()).map(drop)
}

/// A parsed request target.
struct Request<'a> {
    target: &'a str,
    path: &'a str,
    pairs: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> Request<'a> {
    fn parse(target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(key, value)| (key, percent_decoded(value))).collect();
        Self { target, path, pairs }
    }

    /// Returns how to answer, and the body.
    fn answer(
        &self,
        tracker: &Tracker,
        from: SocketAddr,
    ) -> Result<(Answer, Vec<u8>), &'static str> {
        if self.path.contains("scrape") {
            let torrents: Vec<_> =
                self.all("info_hash").filter_map(InfoHashV1::from_slice).collect();
            let (answer, known) = tracker.note_scrape(&torrents);
            let body = body_of(&answer, || scrape_body(&known));
            return Ok((answer, body));
        }
        let (answer, swarm_state) = tracker.note(self.announce(from)?);
        let compact = self.get("compact") != Some(b"0");
        let swarm_state = match &answer {
            Answer::Peers(peers) => swarm_state.with_peers(peers.clone()),
            _ => swarm_state,
        };
        let warning = match &answer {
            Answer::Warning(text) => Some(text.as_str()),
            _ => None,
        };
        let body = body_of(&answer, || announce_body(&swarm_state, compact, warning));
        Ok((answer, body))
    }

    /// Decodes the announce, or returns what is wrong with it.
    fn announce(&self, from: SocketAddr) -> Result<SeenAnnounce, &'static str> {
        let number = |key| self.get(key).and_then(|value| str::from_utf8(value).ok()?.parse().ok());
        let info_hash = self.get("info_hash").and_then(InfoHashV1::from_slice);
        let port = number("port").and_then(|port| u16::try_from(port).ok());
        let ip = self.get("ip").and_then(|ip| str::from_utf8(ip).ok()?.parse::<IpAddr>().ok());
        Ok(SeenAnnounce {
            from: SocketAddr::new(ip.unwrap_or(from.ip()), from.port()),
            info_hash: info_hash.ok_or("info_hash is not 20 bytes")?,
            peer_id: self.get("peer_id").and_then(PeerId::from_slice).ok_or("no peer_id")?,
            port: port.ok_or("no port")?,
            uploaded: number("uploaded").ok_or("no uploaded")?,
            downloaded: number("downloaded").ok_or("no downloaded")?,
            left: number("left").ok_or("no left")?,
            event: self.event()?,
            num_want: number("numwant").and_then(|count: u64| u32::try_from(count).ok()),
            url_data: self.target.to_owned(),
        })
    }

    fn event(&self) -> Result<AnnounceEvent, &'static str> {
        match self.get("event") {
            None | Some(b"" | b"empty") => Ok(AnnounceEvent::None),
            Some(b"started") => Ok(AnnounceEvent::Started),
            Some(b"completed") => Ok(AnnounceEvent::Completed),
            Some(b"stopped") => Ok(AnnounceEvent::Stopped),
            Some(b"paused") => Ok(AnnounceEvent::Paused),
            Some(_) => Err("unknown event"),
        }
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.all(key).next()
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.pairs.iter().filter(move |(name, _)| *name == key).map(|(_, value)| value.as_ref())
    }
}

/// Returns the body for this answer. `usual` makes the body of a normal reply.
fn body_of(answer: &Answer, usual: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    match answer {
        Answer::Failure { reason, retry_in } => failure(reason, *retry_in),
        Answer::Html => PAGE.to_vec(),
        Answer::Raw(bytes) => bytes.clone(),
        _ => usual(),
    }
}

/// The page of a proxy or a parked domain in place of a tracker.
pub(super) const PAGE: &[u8] = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>";

// Bencode is encoded here, so that tests check the workspace's own encoder independently.

fn failure(reason: &str, retry_in: Option<u32>) -> Vec<u8> {
    let retry = retry_in.map_or(String::new(), |seconds| format!("8:retry ini{seconds}e"));
    format!("d14:failure reason{}:{reason}{retry}e", reason.len()).into_bytes()
}

fn announce_body(swarm_state: &SwarmState, compact: bool, warning: Option<&str>) -> Vec<u8> {
    let SwarmState { interval, seeders, leechers, .. } = swarm_state;
    let mut body = format!("d8:completei{seeders}e10:incompletei{leechers}e8:intervali{interval}e");
    body.push_str("5:peers");
    let mut body = body.into_bytes();
    if compact {
        let (v4, v6): (Vec<_>, Vec<_>) =
            swarm_state.peers.iter().map(|(address, _)| *address).partition(SocketAddr::is_ipv4);
        write_bytes(&mut body, &packed(&v4));
        if !v6.is_empty() {
            body.extend(b"6:peers6");
            write_bytes(&mut body, &packed(&v6));
        }
    } else {
        body.push(b'l');
        swarm_state.peers.iter().for_each(|(address, id)| push_peer(&mut body, *address, *id));
        body.push(b'e');
    }
    if let Some(warning) = warning {
        body.extend(b"15:warning message");
        write_bytes(&mut body, warning.as_bytes());
    }
    body.push(b'e');
    body
}

/// Appends a peer as a dictionary (BEP 3).
fn push_peer(body: &mut Vec<u8>, address: SocketAddr, peer_id: Option<PeerId>) {
    body.extend(b"d2:ip");
    write_bytes(body, address.ip().to_string().as_bytes());
    if let Some(peer_id) = peer_id {
        body.extend(b"7:peer id");
        write_bytes(body, peer_id.as_bytes());
    }
    body.extend(format!("4:porti{}ee", address.port()).into_bytes());
}

fn scrape_body(known: &[(InfoHashV1, SwarmState)]) -> Vec<u8> {
    let mut body = b"d5:filesd".to_vec();
    let mut known: Vec<_> = known.iter().collect();
    known.sort_by_key(|(hash, _)| *hash);
    for (hash, SwarmState { seeders, leechers, completed, .. }) in known {
        write_bytes(&mut body, hash.as_bytes());
        let numbers =
            format!("d8:completei{seeders}e10:downloadedi{completed}e10:incompletei{leechers}ee");
        body.extend(numbers.into_bytes());
    }
    body.extend(b"ee");
    body
}

fn packed(addresses: &[SocketAddr]) -> Vec<u8> {
    let mut out = Vec::new();
    addresses.iter().for_each(|address| compact::encode(*address, &mut out));
    out
}

fn head(status: u16, phrase: &str, lines: &str) -> Vec<u8> {
    let fixed = "Content-Type: text/plain\r\nConnection: close\r\n";
    format!("HTTP/1.1 {status} {phrase}\r\n{fixed}{lines}\r\n").into_bytes()
}

/// Redirects to `url`, with the query of the request if `url` has none.
fn redirect(url: &str, target: &str) -> Vec<u8> {
    let query = target.find('?').filter(|_| !url.contains('?')).map_or("", |at| &target[at..]);
    head(302, "Found", &format!("Location: {url}{query}\r\nContent-Length: 0\r\n"))
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks(7) {
        out.extend(format!("{:x}\r\n", part.len()).into_bytes());
        out.extend(part);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// Compresses `body` for `Content-Encoding: gzip`.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.expect("writing into memory does not fail")
}

fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|pair| str::from_utf8(pair).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    Cow::Owned(out)
}

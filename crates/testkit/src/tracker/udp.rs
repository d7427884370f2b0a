//! A UDP tracker (BEP 15), with the URL data of BEP 41.
//!
//! ```text
//! connect   magic 8 | action 0 | transaction        -> action 0 | transaction | connection 8
//! announce  connection 8 | action 1 | transaction | hash 20 | id 20 | downloaded 8 | left 8 |
//!           uploaded 8 | event 4 | ip 4 | key 4 | numwant 4 | port 2 | options
//!                                                   -> action 1 | transaction | interval | leechers | seeders | peers
//! scrape    connection 8 | action 2 | transaction | hash 20 ..
//!                                                   -> action 2 | transaction | seeders, completed, leechers ..
//! error                                             -> action 3 | transaction | message
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bt_types::{AnnounceEvent, InfoHashV1, PeerId, compact};

use super::http::PAGE;
use super::{Answer, SeenAnnounce, SwarmState, Tracker};

/// The protocol id of a connect request (BEP 15).
const MAGIC: u64 = 0x0417_2710_1980;
/// How long the tracker accepts a connection id (BEP 15: two minutes).
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// The length of an announce request without options, in bytes.
const ANNOUNCE_LENGTH: usize = 98;

/// A UDP tracker on a real socket. Dropping it stops it and joins its thread.
#[derive(Debug)]
pub struct UdpTracker {
    tracker: Tracker,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    drops: Arc<AtomicU32>,
    connects: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl UdpTracker {
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
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        let mut server = Server {
            socket,
            tracker: tracker.clone(),
            stop: Arc::default(),
            drops: Arc::default(),
            connects: Arc::default(),
            connections: BTreeMap::new(),
        };
        let (stop, drops, connects) =
            (server.stop.clone(), server.drops.clone(), server.connects.clone());
        let thread =
            thread::Builder::new().name("udp-tracker".to_owned()).spawn(move || server.run())?;
        Ok(Self { tracker, address, stop, drops, connects, thread: Some(thread) })
    }

    /// The address of the tracker.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The announce URL, with a path that clients send as URL data (BEP 41).
    pub fn url(&self) -> String {
        format!("udp://{}/announce", self.address)
    }

    /// Drops the next `count` datagrams.
    pub fn drop_next(&self, count: u32) {
        self.drops.store(count, Ordering::SeqCst);
    }

    /// Returns the number of answered connect requests.
    pub fn connects(&self) -> u32 {
        self.connects.load(Ordering::SeqCst)
    }
}

impl Deref for UdpTracker {
    type Target = Tracker;

    fn deref(&self) -> &Tracker {
        &self.tracker
    }
}

impl Drop for UdpTracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tracker.wake();
        let any = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let from = if self.address.ip().is_loopback() || self.address.ip().is_unspecified() {
            UdpSocket::bind(any)
        } else {
            UdpSocket::bind((self.address.ip(), 0))
        };
        if let Ok(socket) = from {
            let _wakes_recv = socket.send_to(&[], self.address);
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

struct Server {
    socket: UdpSocket,
    tracker: Tracker,
    stop: Arc<AtomicBool>,
    drops: Arc<AtomicU32>,
    connects: Arc<AtomicU32>,
    connections: BTreeMap<u64, (SocketAddr, Instant)>,
}

impl Server {
    fn run(&mut self) {
        let mut buffer = [0; 64 * 1024];
        while !self.stop.load(Ordering::SeqCst) {
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            let lost = self
                .drops
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if lost.is_ok() {
                continue;
            }
            if let Some(reply) = self.handle(&buffer[..length], from) {
                let _closed = self.socket.send_to(&reply, from);
            }
        }
    }

    /// Returns the answer to a datagram, if there is one.
    fn handle(&mut self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let mut fields = Fields(datagram);
        let (connection, action, transaction) = (fields.u64()?, fields.u32()?, fields.u32()?);
        if action == 0 {
            return if connection == MAGIC { self.connect(transaction, from) } else { None };
        }
        if !self.is_open(connection, from) {
            return Some(error(transaction, "unknown connection id"));
        }
        let (answer, reply) = match action {
            1 if datagram.len() < ANNOUNCE_LENGTH => return None,
            1 => {
                let announce = read_announce(fields, from)?;
                let (answer, swarm_state) = self.tracker.note(announce);
                let swarm_state = match &answer {
                    Answer::Peers(peers) => swarm_state.with_peers(peers.clone()),
                    _ => swarm_state,
                };
                (answer, announce_reply(transaction, &swarm_state, from))
            }
            2 => {
                let torrents: Vec<_> =
                    fields.0.as_chunks::<20>().0.iter().map(|hash| InfoHashV1(*hash)).collect();
                let (answer, known) = self.tracker.note_scrape(&torrents);
                (answer, scrape_reply(transaction, &known))
            }
            _ => return Some(error(transaction, "unknown action")),
        };
        self.scripted(&answer, transaction, reply)
    }

    fn connect(&mut self, transaction: u32, from: SocketAddr) -> Option<Vec<u8>> {
        if self.tracker.lock().answer == Answer::Silence {
            return None;
        }
        let count = u64::from(self.connects.fetch_add(1, Ordering::SeqCst)) + 1;
        // Ids use all 64 bits, so that tests notice a client that truncates them.
        let connection = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.connections.insert(connection, (from, Instant::now()));
        Some(
            [&0u32.to_be_bytes()[..], &transaction.to_be_bytes(), &connection.to_be_bytes()]
                .concat(),
        )
    }

    fn is_open(&self, connection: u64, from: SocketAddr) -> bool {
        let known = self.connections.get(&connection);
        known.is_some_and(|(owner, since)| *owner == from && since.elapsed() < CONNECTION_LIFE)
    }

    /// Returns what to send for this answer in place of `reply`.
    fn scripted(&self, answer: &Answer, transaction: u32, reply: Vec<u8>) -> Option<Vec<u8>> {
        match answer {
            Answer::Failure { reason, .. } => Some(error(transaction, reason)),
            Answer::Html => Some(PAGE.to_vec()),
            Answer::Raw(bytes) => Some(bytes.clone()),
            Answer::Truncated => Some(reply[..reply.len() / 2].to_vec()),
            Answer::WrongTransaction => {
                let other = (!transaction).to_be_bytes();
                Some([&reply[..4], &other, &reply[8..]].concat())
            }
            Answer::Slow(time) => (!self.tracker.pause(*time, &self.stop)).then_some(reply),
            Answer::Silence | Answer::Status(_) | Answer::Redirect(_) => None,
            Answer::Swarm | Answer::Warning(_) | Answer::Peers(_) => Some(reply),
        }
    }
}

/// Decodes an announce from the info-hash on.
fn read_announce(mut fields: Fields<'_>, from: SocketAddr) -> Option<SeenAnnounce> {
    let info_hash = InfoHashV1::from_slice(fields.take(20)?)?;
    let peer_id = PeerId::from_slice(fields.take(20)?)?;
    let (downloaded, left, uploaded) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let event = match fields.u32()? {
        1 => AnnounceEvent::Completed,
        2 => AnnounceEvent::Started,
        3 => AnnounceEvent::Stopped,
        _ => AnnounceEvent::None,
    };
    let (_ip, _key, num_want) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let port = u16::from_be_bytes(fields.take(2)?.try_into().ok()?);
    // -1 leaves the number to the tracker (BEP 15).
    let num_want = (num_want != u32::MAX).then_some(num_want);
    let url_data = url_data(fields.0);
    Some(SeenAnnounce {
        from,
        info_hash,
        peer_id,
        port,
        uploaded,
        downloaded,
        left,
        event,
        num_want,
        url_data,
    })
}

/// Returns the URL data in the options of an announce (BEP 41). Option 0 is the end, 1 is padding,
/// and 2 is a length and that many bytes.
fn url_data(mut options: &[u8]) -> String {
    let mut data = Vec::new();
    loop {
        options = match options {
            [1, rest @ ..] => rest,
            [2, length, rest @ ..] if rest.len() >= usize::from(*length) => {
                let (part, rest) = rest.split_at(usize::from(*length));
                data.extend(part);
                rest
            }
            _ => return String::from_utf8_lossy(&data).into_owned(),
        };
    }
}

fn announce_reply(transaction: u32, swarm_state: &SwarmState, from: SocketAddr) -> Vec<u8> {
    let SwarmState { interval, leechers, seeders, .. } = swarm_state;
    let mut reply = words(&[1, transaction, *interval, *leechers, *seeders]);
    // A reply holds only addresses of the family of the datagram (BEP 15, "IPv6").
    let peers = swarm_state.peers.iter().map(|(address, _)| *address);
    peers
        .filter(|address| address.is_ipv4() == from.is_ipv4())
        .for_each(|address| compact::encode(address, &mut reply));
    reply
}

fn scrape_reply(transaction: u32, known: &[(InfoHashV1, SwarmState)]) -> Vec<u8> {
    let mut reply = words(&[2, transaction]);
    for (_, SwarmState { seeders, completed, leechers, .. }) in known {
        reply.extend(words(&[*seeders, *completed, *leechers]));
    }
    reply
}

fn error(transaction: u32, message: &str) -> Vec<u8> {
    [&words(&[3, transaction])[..], message.as_bytes()].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The fields of a datagram that are not decoded yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }
}

//! The state of a tracker, of either protocol: its swarms, the announces it has seen, and how it
//! answers.
//!
//! ```text
//!  HttpTracker --.                      .--> swarms: peers, per info-hash
//!                |--> Tracker (Answer) -|
//!  UdpTracker ---'                      '--> the announces seen, in order
//! ```

mod http;
mod udp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bt_types::{AnnounceEvent, InfoHashV1, PeerId};

pub use http::{BodyCoding, HttpTracker, gzip};
pub use udp::UdpTracker;

/// How a tracker answers announces and scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A normal reply: remembers the peer and returns the other peers of its swarm.
    Swarm,
    /// As [`Self::Swarm`], with a `warning message`. UDP has no warnings and answers as `Swarm`.
    Warning(String),
    /// As [`Self::Swarm`], after this delay.
    Slow(Duration),
    /// These peers.
    Peers(Vec<SocketAddr>),
    /// `failure reason`, with `retry in` if given. UDP: the error action.
    Failure {
        /// The reason, for people.
        reason: String,
        /// The value of `retry in` (HTTP only).
        retry_in: Option<u32>,
    },
    /// HTTP: a web page with status 200. UDP: the same bytes, which are not a valid reply.
    Html,
    /// HTTP: an empty response with this status. UDP: as [`Self::Silence`].
    Status(u16),
    /// HTTP: a redirect to this URL, with the query of the request unless the URL has one. UDP: as
    /// [`Self::Silence`].
    Redirect(String),
    /// HTTP: these bytes as the body. UDP: these bytes as the datagram.
    Raw(Vec<u8>),
    /// The first part of the reply of [`Self::Swarm`].
    Truncated,
    /// UDP: as [`Self::Swarm`], with another transaction id. HTTP: as `Swarm`.
    WrongTransaction,
    /// No reply.
    Silence,
}

/// An announce, as the tracker decoded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAnnounce {
    /// The address of the client.
    pub from: SocketAddr,
    /// The torrent.
    pub info_hash: InfoHashV1,
    /// The id of the client.
    pub peer_id: PeerId,
    /// The port that the client listens on.
    pub port: u16,
    /// The number of payload bytes that the client sent.
    pub uploaded: u64,
    /// The number of payload bytes that the client received.
    pub downloaded: u64,
    /// The number of bytes that the client lacks.
    pub left: u64,
    /// The event.
    pub event: AnnounceEvent,
    /// How many peers the client wants, if it says so.
    pub num_want: Option<u32>,
    /// HTTP: path and query. UDP: the URL data of BEP 41.
    pub url_data: String,
}

/// The state of a tracker: its swarms and how it answers. Several trackers can share one: pass
/// clones to [`HttpTracker::bind`] and [`UdpTracker::bind`].
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    interval: u32,
    body: BodyCoding,
    seen: Vec<SeenAnnounce>,
    scrapes: usize,
    swarms: BTreeMap<InfoHashV1, Swarm>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            answer: Answer::Swarm,
            interval: DEFAULT_INTERVAL,
            body: BodyCoding::Plain,
            seen: Vec::new(),
            scrapes: 0,
            swarms: BTreeMap::new(),
        }
    }
}

/// The default time between announces, in seconds.
const DEFAULT_INTERVAL: u32 = 1800;

#[derive(Debug, Default, Clone)]
struct Swarm {
    peers: BTreeMap<SocketAddr, Member>,
    completed: u32,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    peer_id: PeerId,
    left: u64,
}

/// The state of one swarm, for a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SwarmState {
    interval: u32,
    seeders: u32,
    leechers: u32,
    completed: u32,
    peers: Vec<(SocketAddr, Option<PeerId>)>,
}

impl Tracker {
    /// Makes a tracker without swarms that answers [`Answer::Swarm`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the answer from now on.
    pub fn answer(&self, answer: Answer) {
        self.lock().answer = answer;
    }

    /// Sets the interval in replies, in seconds. The default is 1800.
    pub fn interval(&self, seconds: u32) {
        self.lock().interval = seconds;
    }

    /// Sets the coding of HTTP bodies from now on.
    pub fn body_coding(&self, coding: BodyCoding) {
        self.lock().body = coding;
    }

    /// Returns all announces so far, in order.
    pub fn announces(&self) -> Vec<SeenAnnounce> {
        self.lock().seen.clone()
    }

    /// Returns the number of scrapes so far.
    pub fn scrapes(&self) -> usize {
        self.lock().scrapes
    }

    /// Waits up to `limit` until `enough` returns true for the announces so far. Returns whether it
    /// did.
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&[SeenAnnounce]) -> bool) -> bool {
        let missing = |state: &mut State| !enough(&state.seen);
        let waited = self.shared.changed.wait_timeout_while(self.lock(), limit, missing);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the announce and updates its swarm. Returns how to answer.
    fn note(&self, announce: SeenAnnounce) -> (Answer, SwarmState) {
        let mut state = self.lock();
        let asking = SocketAddr::new(announce.from.ip(), announce.port);
        let swarm = state.swarms.entry(announce.info_hash).or_default();
        swarm.note(asking, &announce);
        let mut swarm_state = swarm.state(Some(asking), announce.num_want);
        swarm_state.interval = state.interval;
        state.seen.push(announce);
        self.shared.changed.notify_all();
        (state.answer.clone(), swarm_state)
    }

    /// Records a scrape. Returns how to answer, and the state of each swarm.
    fn note_scrape(&self, torrents: &[InfoHashV1]) -> (Answer, Vec<(InfoHashV1, SwarmState)>) {
        let mut state = self.lock();
        state.scrapes += 1;
        let known = torrents.iter().map(|hash| {
            let swarm = state.swarms.get(hash).cloned().unwrap_or_default();
            (*hash, swarm.state(None, Some(0)))
        });
        let known = known.collect();
        (state.answer.clone(), known)
    }

    /// Waits for `time`, or until `stop` is set and [`Self::wake`] is called. Returns whether
    /// `stop` is set.
    fn pause(&self, time: Duration, stop: &AtomicBool) -> bool {
        let going = |_: &mut State| !stop.load(Ordering::SeqCst);
        drop(self.shared.changed.wait_timeout_while(self.lock(), time, going));
        stop.load(Ordering::SeqCst)
    }

    /// Wakes all waiting threads.
    fn wake(&self) {
        let _state = self.lock();
        self.shared.changed.notify_all();
    }
}

impl Swarm {
    fn note(&mut self, asking: SocketAddr, announce: &SeenAnnounce) {
        self.completed += u32::from(announce.event == AnnounceEvent::Completed);
        if announce.event == AnnounceEvent::Stopped {
            self.peers.remove(&asking);
        } else {
            let member = Member { peer_id: announce.peer_id, left: announce.left };
            self.peers.insert(asking, member);
        }
    }

    /// Returns the state of the swarm for `asking`, which is `None` in a scrape. The peers do not
    /// include `asking` itself.
    fn state(&self, asking: Option<SocketAddr>, num_want: Option<u32>) -> SwarmState {
        let seeders = self.peers.values().filter(|peer| peer.left == 0).count() as u32;
        let me = asking.and_then(|asking| self.peers.get(&asking)).map(|peer| peer.peer_id);
        let others = self.peers.iter().filter(|(_, peer)| Some(peer.peer_id) != me);
        let others = others.map(|(address, peer)| (*address, Some(peer.peer_id)));
        SwarmState {
            interval: 0,
            seeders,
            leechers: self.peers.len() as u32 - seeders,
            completed: self.completed,
            peers: others.take(num_want.map_or(50, |wanted| wanted as usize)).collect(),
        }
    }
}

impl SwarmState {
    fn with_peers(self, peers: Vec<SocketAddr>) -> Self {
        Self { peers: peers.into_iter().map(|address| (address, None)).collect(), ..self }
    }
}

//! What both trackers share: the swarms they remember, what they were told, how they answer.
//!
//! ```text
//!  HttpTracker --.                      .--> swarms: who announced, per info-hash
//!                |--> Tracker (Answer) -|
//!  UdpTracker ---'                      '--> the announces seen, in order
//! ```

mod http;
mod udp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bt_types::{AnnounceEvent, InfoHashV1, PeerId};

pub use http::{BodyCoding, HttpTracker, gzip};
pub use udp::UdpTracker;

/// How a tracker answers the announces (and scrapes) that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As a tracker does: remembers who announced and gives the others.
    Swarm,
    /// As [`Self::Swarm`], with a `warning message`. UDP knows none and answers as `Swarm`.
    Warning(String),
    /// As [`Self::Swarm`], after that long.
    Slow(Duration),
    /// These peers, whoever asks.
    Peers(Vec<SocketAddr>),
    /// `failure reason`, with the seconds of `retry in` if given. UDP: the error action.
    Failure {
        /// What a person is to read.
        reason: String,
        /// Seconds after which the client may ask again (HTTP only).
        retry_in: Option<u32>,
    },
    /// HTTP: a web page with status 200. UDP: the same bytes, which are no reply.
    Html,
    /// HTTP: an empty answer with that status. UDP: as [`Self::Silence`].
    Status(u16),
    /// HTTP: a redirect to that address, with the query of the request unless it has one. UDP: as
    /// [`Self::Silence`].
    Redirect(String),
    /// HTTP: these bytes as the body. UDP: these bytes as the datagram.
    Raw(Vec<u8>),
    /// Half of what [`Self::Swarm`] would answer.
    Truncated,
    /// UDP: as [`Self::Swarm`], under another transaction id. HTTP: as `Swarm`.
    WrongTransaction,
    /// The request is taken and nothing ever comes back.
    Silence,
}

/// One announce, as the tracker understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAnnounce {
    /// Where the request came from.
    pub from: SocketAddr,
    /// Which torrent it was about.
    pub info_hash: InfoHashV1,
    /// Who asked.
    pub peer_id: PeerId,
    /// The port the client says it listens on.
    pub port: u16,
    /// Payload bytes sent, as told.
    pub uploaded: u64,
    /// Payload bytes received, as told.
    pub downloaded: u64,
    /// Bytes missing, as told.
    pub left: u64,
    /// Why it announced.
    pub event: AnnounceEvent,
    /// How many peers were asked for, if any number was told.
    pub num_want: Option<u32>,
    /// HTTP: path and query. UDP: the URL data of BEP 41.
    pub url_data: String,
}

/// The memory and the manners of a tracker. Several trackers may share one: give clones of it to
/// [`HttpTracker::bind`] and [`UdpTracker::bind`].
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

/// Seconds between announces, unless a test asks for less.
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

/// What a tracker knows of one torrent when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    interval: u32,
    seeders: u32,
    leechers: u32,
    completed: u32,
    peers: Vec<(SocketAddr, Option<PeerId>)>,
}

impl Tracker {
    /// A tracker that knows no swarm and answers [`Answer::Swarm`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers like this from now on.
    pub fn answer(&self, answer: Answer) {
        self.lock().answer = answer;
    }

    /// Tells clients to come back after that many seconds (1800 unless set).
    pub fn interval(&self, seconds: u32) {
        self.lock().interval = seconds;
    }

    /// How HTTP bodies travel from now on.
    pub fn body_coding(&self, coding: BodyCoding) {
        self.lock().body = coding;
    }

    /// Every announce so far, in order.
    pub fn announces(&self) -> Vec<SeenAnnounce> {
        self.lock().seen.clone()
    }

    /// How many scrapes were asked for so far.
    pub fn scrapes(&self) -> usize {
        self.lock().scrapes
    }

    /// Waits until `enough` holds for the announces so far, at most `limit`; says whether it does.
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&[SeenAnnounce]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while !enough(&state.seen) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .map_or_else(|e| e.into_inner().0, |(state, _)| state);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the announce down, changes the swarm as it says, and tells how to answer.
    fn note(&self, announce: SeenAnnounce) -> (Answer, Standing) {
        let mut state = self.lock();
        let asking = SocketAddr::new(announce.from.ip(), announce.port);
        let swarm = state.swarms.entry(announce.info_hash).or_default();
        swarm.note(asking, &announce);
        let mut standing = swarm.standing(Some(asking), announce.num_want);
        standing.interval = state.interval;
        state.seen.push(announce);
        self.shared.changed.notify_all();
        (state.answer.clone(), standing)
    }

    /// Counts a scrape and tells what is known of each torrent, and how to answer.
    fn note_scrape(&self, torrents: &[InfoHashV1]) -> (Answer, Vec<(InfoHashV1, Standing)>) {
        let mut state = self.lock();
        state.scrapes += 1;
        let known = torrents.iter().map(|hash| {
            let swarm = state.swarms.get(hash).cloned().unwrap_or_default();
            (*hash, swarm.standing(None, Some(0)))
        });
        let known = known.collect();
        (state.answer.clone(), known)
    }

    /// Waits `time`, or until `stop` is set and [`Self::wake`] called; says whether it was.
    fn pause(&self, time: Duration, stop: &AtomicBool) -> bool {
        let going = |_: &mut State| !stop.load(Ordering::SeqCst);
        drop(self.shared.changed.wait_timeout_while(self.lock(), time, going));
        stop.load(Ordering::SeqCst)
    }

    /// Wakes everyone who waits, to look again at what they wait for.
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

    /// What `asking` (nobody in a scrape) is told; it is not among its own peers.
    fn standing(&self, asking: Option<SocketAddr>, num_want: Option<u32>) -> Standing {
        let seeders = self.peers.values().filter(|peer| peer.left == 0).count() as u32;
        let me = asking.and_then(|asking| self.peers.get(&asking)).map(|peer| peer.peer_id);
        let others = self.peers.iter().filter(|(_, peer)| Some(peer.peer_id) != me);
        let others = others.map(|(address, peer)| (*address, Some(peer.peer_id)));
        Standing {
            interval: 0,
            seeders,
            leechers: self.peers.len() as u32 - seeders,
            completed: self.completed,
            peers: others.take(num_want.map_or(50, |wanted| wanted as usize)).collect(),
        }
    }
}

impl Standing {
    fn with_peers(self, peers: Vec<SocketAddr>) -> Self {
        Self { peers: peers.into_iter().map(|address| (address, None)).collect(), ..self }
    }
}

/// Forwards what tests ask of a tracker to its [`Tracker`].
macro_rules! forward_to_tracker {
    ($name:ident) => {
        impl $name {
            /// The memory and manners, to be shared with another tracker.
            pub fn tracker(&self) -> &Tracker {
                &self.tracker
            }

            /// Answers like this from now on.
            pub fn answer(&self, answer: Answer) {
                self.tracker.answer(answer);
            }

            /// Tells clients to come back after that many seconds (1800 unless set).
            pub fn interval(&self, seconds: u32) {
                self.tracker.interval(seconds);
            }

            /// Every announce so far, in order.
            pub fn announces(&self) -> Vec<SeenAnnounce> {
                self.tracker.announces()
            }

            /// How many scrapes were asked for so far.
            pub fn scrapes(&self) -> usize {
                self.tracker.scrapes()
            }

            /// Waits until `enough` holds for the announces so far, at most `limit`; says whether
            /// it does.
            pub fn wait_for(
                &self,
                limit: Duration,
                enough: impl Fn(&[SeenAnnounce]) -> bool,
            ) -> bool {
                self.tracker.wait_for(limit, enough)
            }
        }
    };
}

forward_to_tracker!(HttpTracker);
forward_to_tracker!(UdpTracker);

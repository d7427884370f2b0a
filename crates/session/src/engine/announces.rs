//! Announces under way: each waits for its turn at the host, then asks it over every address family
//! in use (BEP 7): one leg each, a datagram exchange (UDP) or a fetch (HTTP and HTTPS).
//!
//! ```text
//!  Waiting --(UDP)--> Resolving --> Asking: legs --first answer--> finished
//!     '---(HTTP)---------------------^               '--later ones--> more peers
//! ```
//!
//! A family that does not work must not hold up the one that does: the first good answer ends the
//! announce, peers of a later one are passed on when they come. Of a UDP tracker with several
//! addresses the next one of a family is asked, with a leg of its own, when the one before is
//! silent.

mod udp;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, TrackerPeer};
use piece_store::TorrentKey;
use rand_chacha::ChaCha8Rng;
use swarm::{AnnounceFailure, TrackerIndex};
use tracker_udp::UdpTracker;

use super::Families;
use super::action::Action;
use super::hosts::Hosts;
use super::names::{Names, Resolved};
use super::running::{Leg, Running, Stage, Work, exchanges, failure, parse, reply_of};
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

/// Who announces what to whom. What else the request says is filled in when it goes out: ten thousand
/// may wait.
#[derive(Debug, Clone)]
pub(super) struct Announce {
    pub(super) torrent: TorrentKey,
    pub(super) tracker: TrackerIndex,
    pub(super) event: AnnounceEvent,
    /// How many peers are asked for.
    pub(super) num_want: u32,
    /// What the tracker said is to be told it again.
    pub(super) tracker_id: Option<Box<[u8]>>,
}

/// An announce that waits for its turn at its host.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) announce: Announce,
    host: Arc<str>,
}

/// What became of an announce.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The end: the first good answer, or the first failure if there is none.
    Finished { announce: Announce, result: Result<AnnounceReply, AnnounceFailure> },
    /// The other family answered too.
    MorePeers { torrent: TorrentKey, peers: Vec<TrackerPeer> },
}

/// All announces under way, and what the trackers' hosts are known by.
#[derive(Debug)]
pub(super) struct Announces {
    families: Families,
    /// Announces that wait for their turn at the host.
    waiting: BTreeMap<AnnounceKey, Waiting>,
    /// Announces whose turn has come, to be taken with [`Self::poll_due`].
    due: VecDeque<(AnnounceKey, Waiting)>,
    /// Those under way, a bounded number: every event looks at all of them.
    running: BTreeMap<AnnounceKey, Running>,
    /// All of these, by torrent.
    by_torrent: BTreeSet<(TorrentKey, AnnounceKey)>,
    /// Announces that wait until the one before, of the same torrent to the same tracker, has ended:
    /// a tracker must not hear `stopped` before `completed`.
    queued: BTreeMap<TorrentKey, Vec<(Announce, String)>>,
    next_key: u64,
    hosts: Hosts,
    pub(super) names: Names,
    trackers: BTreeMap<SocketAddr, UdpTracker>,
    rng: ChaCha8Rng,
    pub(super) actions: VecDeque<Action>,
    pub(super) outcomes: VecDeque<Outcome>,
}

impl Announces {
    pub(super) fn new(families: Families, rng: ChaCha8Rng) -> Self {
        Self {
            families,
            waiting: BTreeMap::new(),
            due: VecDeque::new(),
            running: BTreeMap::new(),
            by_torrent: BTreeSet::new(),
            queued: BTreeMap::new(),
            next_key: 0,
            hosts: Hosts::default(),
            names: Names::default(),
            trackers: BTreeMap::new(),
            rng,
            actions: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// Begins an announce once the one before it has ended.
    pub(super) fn start_in_order(&mut self, now: Duration, announce: Announce, url: &str) {
        let mut before = self.keys_of(announce.torrent);
        if before.any(|key| self.is_under_way(key, announce.tracker)) {
            drop(before);
            let queue = self.queued.entry(announce.torrent).or_default();
            queue.push((announce, url.to_owned()));
        } else {
            drop(before);
            self.start(now, announce, url);
        }
    }

    /// An announce of the torrent has ended: what waited for it may begin.
    pub(super) fn start_queued(&mut self, now: Duration, torrent: TorrentKey) {
        for (announce, url) in self.queued.remove(&torrent).unwrap_or_default() {
            self.start_in_order(now, announce, &url);
        }
    }

    /// Begins an announce to `url`: it goes on with [`Self::poll_due`], and what becomes of it is found
    /// in `outcomes`.
    pub(super) fn start(&mut self, now: Duration, announce: Announce, url: &str) {
        let host = match parse(url) {
            Ok((host, _)) => host,
            Err(message) => return self.refuse(announce, message),
        };
        let key = AnnounceKey(self.next_key);
        self.next_key += 1;
        let urgent = matches!(announce.event, AnnounceEvent::Started | AnnounceEvent::Stopped);
        match self.hosts.admit(now, &host, key, urgent) {
            Err(message) => self.refuse(announce, message),
            Ok(host) => {
                self.by_torrent.insert((announce.torrent, key));
                self.waiting.insert(key, Waiting { announce, host });
                self.begin_next();
            }
        }
    }

    /// The announces of a torrent, waiting and under way.
    fn keys_of(&self, torrent: TorrentKey) -> impl Iterator<Item = AnnounceKey> + '_ {
        let all = (torrent, AnnounceKey(0))..=(torrent, AnnounceKey(u64::MAX));
        self.by_torrent.range(all).map(|(_, key)| *key)
    }

    /// Whether the announce goes to this tracker of its torrent and its end was not told yet.
    fn is_under_way(&self, key: AnnounceKey, tracker: TrackerIndex) -> bool {
        let due = || self.due.iter().find(|(due, _)| *due == key).map(|(_, waiting)| waiting);
        match (self.waiting.get(&key).or_else(due), self.running.get(&key)) {
            (Some(waiting), _) => waiting.announce.tracker == tracker,
            (None, Some(running)) => !running.reported && running.announce.tracker == tracker,
            (None, None) => false,
        }
    }

    /// Sees which may go out now.
    fn begin_next(&mut self) {
        while let Some(key) = self.hosts.poll_next() {
            let waiting = self.waiting.remove(&key);
            self.due.extend(waiting.map(|waiting| (key, waiting)));
        }
    }

    /// An announce that may go out now: [`Self::go`] has it do so.
    pub(super) fn poll_due(&mut self) -> Option<(AnnounceKey, Waiting)> {
        self.due.pop_front()
    }

    /// A fetcher is back.
    pub(super) fn handle_fetched(
        &mut self,
        now: Duration,
        key: AnnounceKey,
        leg: usize,
        result: Result<AnnounceReply, FetchFailure>,
    ) {
        self.end_leg(key, leg, result);
        self.end_if_done(now, key);
        self.begin_next();
    }

    /// A name was looked up.
    pub(super) fn handle_resolved(&mut self, now: Duration, host: &str, result: Resolved) {
        self.names.handle_resolved(now, host, result);
        let waiting = self.running.iter().filter(|(_, running)| {
            matches!(running.stage, Stage::Resolving) && running.host_name() == host
        });
        let keys: Vec<AnnounceKey> = waiting.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.resolve(now, key));
        self.begin_next();
    }

    /// A datagram came.
    pub(super) fn handle_datagram(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Some(tracker) = self.trackers.get_mut(&from) else { return };
        let mut ended = Vec::new();
        for (key, number, address, exchange) in exchanges(&mut self.running) {
            if *address == from
                && let Some(result) = exchange.handle_datagram(tracker, now, from, bytes)
            {
                ended.push((key, number, reply_of(result)));
            }
        }
        self.end_legs(now, ended);
        self.begin_next();
    }

    /// The time of [`Self::poll_timeout`] came.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        let mut ended = Vec::new();
        for (key, number, _, exchange) in exchanges(&mut self.running) {
            if let Some(error) = exchange.handle_timeout(now) {
                ended.push((key, number, Err(failure(error.to_string()))));
            }
        }
        self.end_legs(now, ended);
        self.ask_further(now);
        let late =
            self.running.iter().filter(|(_, running)| !running.reported && running.deadline <= now);
        let keys: Vec<AnnounceKey> = late.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.give_up(now, key));
        self.begin_next();
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.running.values().filter_map(|running| running.next_timeout(&self.trackers)).min()
    }

    /// Nobody waits for this torrent's announces any more. That they had no answer yet is no fault
    /// of their hosts.
    pub(super) fn forget_torrent(&mut self, now: Duration, torrent: TorrentKey) {
        let keys: Vec<AnnounceKey> = self.keys_of(torrent).collect();
        for key in keys {
            self.forget(now, key);
        }
        self.queued.remove(&torrent);
        self.outcomes.retain(|outcome| outcome.torrent() != torrent);
        self.begin_next();
    }

    fn forget(&mut self, now: Duration, key: AnnounceKey) {
        if let Some(Waiting { host, .. }) = self.take_waiting(key) {
            return self.hosts.forget(&host, key);
        }
        if let Some(place) = self.due.iter().position(|(due, _)| *due == key)
            && let Some((_, Waiting { announce, host })) = self.due.remove(place)
        {
            self.by_torrent.remove(&(announce.torrent, key));
            return self.end_turn(now, &host, None);
        }
        let Some(running) = self.running.get_mut(&key) else { return };
        let waited_for = !std::mem::replace(&mut running.reported, true);
        running.settled = true;
        if running.is_fetching() {
            // A fetcher can't be called back: the turn at the host ends when it is here.
            if waited_for {
                self.hosts.release(&running.host);
            }
            return;
        }
        if let Some(running) = self.take_running(key) {
            self.end_turn(now, &running.host, None);
        }
    }

    fn take_waiting(&mut self, key: AnnounceKey) -> Option<Waiting> {
        let waiting = self.waiting.remove(&key)?;
        self.by_torrent.remove(&(waiting.announce.torrent, key));
        Some(waiting)
    }

    fn take_running(&mut self, key: AnnounceKey) -> Option<Running> {
        let running = self.running.remove(&key)?;
        self.by_torrent.remove(&(running.announce.torrent, key));
        Some(running)
    }

    /// The announce that [`Self::poll_due`] gave goes out to `url`.
    pub(super) fn go(
        &mut self,
        now: Duration,
        (key, Waiting { announce, host }): (AnnounceKey, Waiting),
        url: &str,
        request: AnnounceRequest,
    ) {
        let udp = parse(url).ok().and_then(|(_, udp)| udp);
        let mut running = Running::new(announce, request, host, udp, now + ANNOUNCE_DEADLINE);
        if running.udp.is_some() {
            self.running.insert(key, running);
            return self.resolve(now, key);
        }
        let families = self.families.of_host(&running.host_name());
        let leg = |_| Leg { work: Work::Fetch, done: false };
        running.stage = Stage::Asking(families.iter().map(leg).collect());
        for (leg, family) in families.into_iter().enumerate() {
            let (url, request) = (url.to_owned(), Box::new(running.request.clone()));
            self.actions.push_back(Action::Fetch { key, leg, url, request, family });
        }
        self.running.insert(key, running);
    }

    fn end_legs(
        &mut self,
        now: Duration,
        ended: Vec<(AnnounceKey, usize, Result<AnnounceReply, FetchFailure>)>,
    ) {
        for (key, leg, result) in ended {
            self.end_leg(key, leg, result);
            self.end_if_done(now, key);
        }
        self.pump(now);
    }

    fn end_leg(
        &mut self,
        key: AnnounceKey,
        leg: usize,
        result: Result<AnnounceReply, FetchFailure>,
    ) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let Stage::Asking(legs) = &mut running.stage else { return };
        let Some(leg) = legs.get_mut(leg) else { return };
        leg.done = true;
        if let Work::Exchange { address, .. } = leg.work {
            running.end_family(address.is_ipv4());
        }
        match result {
            Ok(reply) if running.reported => {
                running.settled = true;
                let (torrent, peers) = (running.announce.torrent, reply.peers);
                self.outcomes.push_back(Outcome::MorePeers { torrent, peers });
            }
            Ok(reply) => {
                (running.reported, running.settled) = (true, true);
                let announce = running.announce.clone();
                self.outcomes.push_back(Outcome::Finished { announce, result: Ok(reply) });
            }
            Err(failure) => _ = running.failure.get_or_insert(failure),
        }
    }

    /// Ends an announce whose legs are all done.
    fn end_if_done(&mut self, now: Duration, key: AnnounceKey) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let Stage::Asking(legs) = &running.stage else { return };
        if !legs.iter().all(|leg| leg.done) {
            return;
        }
        match running.failure.take().filter(|_| !running.settled) {
            Some(failure) => self.fail(now, key, failure),
            None => {
                if let Some(running) = self.take_running(key) {
                    self.end_turn(now, &running.host, None);
                }
            }
        }
    }

    /// Reports an announce that did not end in time.
    fn give_up(&mut self, now: Duration, key: AnnounceKey) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let late = failure(format!("no answer within {} s", ANNOUNCE_DEADLINE.as_secs()));
        if running.is_fetching() {
            // A fetcher can't be called back: the turn at the host ends when it is here.
            running.reported = true;
            let (announce, host) = (running.announce.clone(), running.host.clone());
            let waiting = self.hosts.handle_late(now, &host, &late.message);
            self.refuse_waiting(waiting, &late.message);
            self.refuse(announce, late.message);
        } else {
            self.fail(now, key, late);
        }
    }

    /// Ends an announce that failed.
    fn fail(&mut self, now: Duration, key: AnnounceKey, failure: FetchFailure) {
        let Some(running) = self.take_running(key) else { return };
        let blame = (!failure.refused).then_some(failure.message.as_str());
        self.end_turn(now, &running.host, blame);
        if !running.reported {
            let (announce, result) = (running.announce, Err(failure.into()));
            self.outcomes.push_back(Outcome::Finished { announce, result });
        }
    }

    fn end_turn(&mut self, now: Duration, host: &str, failure: Option<&str>) {
        let failed = self.hosts.handle_finished(now, host, failure);
        self.refuse_waiting(failed, failure.unwrap_or_default());
    }

    /// Ends announces whose host failed before their turn came.
    fn refuse_waiting(&mut self, waiting: BTreeSet<AnnounceKey>, message: &str) {
        for key in waiting {
            if let Some(Waiting { announce, .. }) = self.take_waiting(key) {
                self.refuse(announce, message.to_owned());
            }
        }
    }

    /// Ends an announce that never had a turn.
    fn refuse(&mut self, announce: Announce, message: String) {
        let result = Err(failure(message).into());
        self.outcomes.push_back(Outcome::Finished { announce, result });
    }
}

impl Outcome {
    fn torrent(&self) -> TorrentKey {
        match self {
            Self::Finished { announce, .. } => announce.torrent,
            Self::MorePeers { torrent, .. } => *torrent,
        }
    }
}

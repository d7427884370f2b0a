//! The announces of all torrents. Each waits until the tracker's host has room, then asks over
//! every address family in use (BEP 7), with one leg each.
//!
//! ```text
//!  pending: BehindAnother --> AtHost --> active: Awaited --first answer--> Settled
//!                                                     '--deadline--> Late -----^
//! ```
//!
//! The first good answer ends the announce, so that a broken family does not delay the other one.
//! Peers of a later answer are passed on.

mod active;
mod families;
mod hosts;
mod legs;
mod names;
mod target;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, PeerHost, TrackerPeer};
use piece_store::TorrentKey;
use rand_chacha::ChaCha8Rng;
use swarm::{AnnounceFailure, Source, TrackerIndex};
use tracker_udp::TrackerHost;

use super::action::Action;
use super::keys::AnnounceKey;
use crate::limits::ANNOUNCE_DEADLINE;
use active::{ActiveAnnounce, Interest, Leg, Stage, UdpTrackers, exchanges, failure, reply_of};
use hosts::Hosts;
use names::{Lookup, NamedPeer, Names, named_peers};
use target::{Protocol, Target};

pub use families::{Families, Family};
pub use names::Resolved;

/// An announce failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchFailure {
    /// The error, for the user.
    pub message: String,
    /// After how many seconds the tracker may be asked again, if it said so.
    pub retry_in: Option<u32>,
    /// Whether the tracker works and refused this torrent.
    pub refused: bool,
}

/// The result of one leg of an announce.
pub type Fetched = Result<AnnounceReply, FetchFailure>;

impl From<FetchFailure> for AnnounceFailure {
    fn from(failure: FetchFailure) -> Self {
        Self { message: failure.message, retry_in: failure.retry_in }
    }
}

/// What a torrent announces to which tracker. The rest of the request is filled in when it is sent,
/// since ten thousand may wait for their turns.
#[derive(Debug)]
pub(super) struct Announce {
    pub(super) tracker: TrackerIndex,
    /// The tracker's URL, as the torrent has it.
    pub(super) url: String,
    pub(super) event: AnnounceEvent,
    /// How many peers to ask for.
    pub(super) num_want: u32,
    /// The tracker id of its last reply.
    pub(super) tracker_id: Option<Box<[u8]>>,
}

/// The result of an announce.
#[derive(Debug)]
pub(super) enum Answer {
    /// The first good reply, or the first failure if there is none.
    Finished {
        torrent: TorrentKey,
        tracker: TrackerIndex,
        url: String,
        result: Result<AnnounceReply, AnnounceFailure>,
    },
    /// Peers of a later reply, of a link, or whose names were looked up.
    Peers { torrent: TorrentKey, source: Source, peers: Vec<SocketAddr> },
}

/// An announce that was not sent yet.
#[derive(Debug)]
struct Pending {
    announce: Announce,
    target: Target,
    line: Line,
}

/// What a pending announce waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The end of an earlier announce of its torrent to the same tracker, so that `stopped` is not
    /// sent before `completed`.
    BehindAnother,
    /// Room at the host.
    AtHost,
}

/// All announces, with the state of trackers and their hosts.
#[derive(Debug)]
pub(super) struct Announces {
    families: Families,
    rng: ChaCha8Rng,
    next_number: u64,
    pending: BTreeMap<AnnounceKey, Pending>,
    /// Announces that were sent. Their number is bounded, since every event visits all.
    active: BTreeMap<AnnounceKey, ActiveAnnounce>,
    hosts: Hosts,
    names: Names,
    trackers: UdpTrackers,
    actions: VecDeque<Action>,
    answers: VecDeque<Answer>,
}

impl Announces {
    pub(super) fn new(families: Families, rng: ChaCha8Rng) -> Self {
        Self {
            families,
            rng,
            next_number: 0,
            pending: BTreeMap::new(),
            active: BTreeMap::new(),
            hosts: Hosts::default(),
            names: Names::default(),
            trackers: UdpTrackers::new(),
            actions: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// A leg has ended: a fetcher is done, or an exchange of datagrams. The first reply ends the
    /// announce. Of a later one only the peers are used.
    pub(super) fn handle_fetched(
        &mut self,
        now: Duration,
        key: AnnounceKey,
        leg: usize,
        result: Fetched,
    ) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let Stage::Asking { legs, failure } = &mut active.stage else { return };
        let Some(leg) = legs.get_mut(leg) else { return };
        *leg = Leg::Done;
        let all_done = legs.iter().all(|leg| matches!(leg, Leg::Done));
        match result {
            Err(error) => _ = failure.get_or_insert(error),
            Ok(reply) => {
                let reply = with_canonical_peers(reply);
                let named: Vec<(String, u16)> =
                    named_peers(&reply.peers).map(|(name, port)| (name.to_owned(), port)).collect();
                self.answers.push_back(active.take_reply(key.torrent, reply));
                for (name, port) in named {
                    let (torrent, source) = (key.torrent, Source::Tracker);
                    self.look_up_peer(now, name, NamedPeer { torrent, port, source });
                }
            }
        }
        if all_done {
            self.end_legs(now, key);
        }
    }

    /// A name was looked up.
    pub(super) fn handle_resolved(&mut self, now: Duration, host: &str, result: Resolved) {
        let found = result.as_deref().unwrap_or_default().to_vec();
        let peers = self.names.handle_resolved(now, host, result);
        let waiting = self.active.iter().filter(|(_, active)| active.is_resolving(host));
        let keys: Vec<AnnounceKey> = waiting.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.ask(now, key));
        for peer in peers {
            self.answers.push_back(peer.at(&found));
        }
    }

    /// A datagram of a tracker arrived.
    pub(super) fn handle_datagram(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Some(tracker) = self.trackers.get_mut(&from) else { return };
        let mut ended = Vec::new();
        for of_leg in exchanges(&mut self.active).filter(|of_leg| of_leg.address == from) {
            if let Some(result) = of_leg.exchange.handle_datagram(tracker, now, from, bytes) {
                ended.push((of_leg.key, of_leg.leg, reply_of(result)));
            }
        }
        for (key, leg, result) in ended {
            self.handle_fetched(now, key, leg, result);
        }
        self.pump(now);
    }

    /// The time of [`Self::poll_timeout`] came.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        let mut ended = Vec::new();
        for of_leg in exchanges(&mut self.active) {
            if let Some(error) = of_leg.exchange.handle_timeout(now) {
                ended.push((of_leg.key, of_leg.leg, Err(failure(error.to_string()))));
            }
        }
        for (key, leg, result) in ended {
            self.handle_fetched(now, key, leg, result);
        }
        self.pump(now);
        self.ask_further(now);
        let late = self
            .active
            .iter()
            .filter(|(_, active)| active.interest == Interest::Awaited && active.deadline <= now);
        let keys: Vec<AnnounceKey> = late.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.give_up(now, key));
    }

    /// Lines an announce up. [`Self::poll_admitted`] returns it once its host admits it, and an
    /// [`Answer`] follows.
    pub(super) fn start(&mut self, now: Duration, torrent: TorrentKey, announce: Announce) {
        match Target::parse(&announce.url) {
            Ok(target) => self.line_up(now, torrent, announce, target),
            Err(message) => self.refuse(torrent, &announce, &message),
        }
    }

    /// Sends the announce that [`Self::poll_admitted`] returned, with the rest of the request.
    pub(super) fn send(&mut self, now: Duration, key: AnnounceKey, mut request: AnnounceRequest) {
        let Some(Pending { announce, target, .. }) = self.pending.remove(&key) else { return };
        request.num_want = Some(announce.num_want);
        request.tracker_id = announce.tracker_id.as_deref().map(<[u8]>::to_vec);
        let (deadline, interest) = (now + ANNOUNCE_DEADLINE, Interest::Awaited);
        let stage = Stage::Resolving;
        let active = ActiveAnnounce { announce, target, request, deadline, interest, stage };
        self.active.insert(key, active);
        self.ask(now, key);
    }

    /// Forgets the announces of a torrent. Their hosts are not blamed.
    pub(super) fn forget_torrent(&mut self, now: Duration, torrent: TorrentKey) {
        for (key, pending) in take_of(&mut self.pending, torrent, |_| true) {
            self.hosts.forget(&pending.target.host, key);
        }
        let active = self.active.range(keys_of(torrent)).map(|(key, _)| *key);
        active.collect::<Vec<_>>().into_iter().for_each(|key| self.forget_active(now, key));
        self.answers.retain(|answer| answer.torrent() != torrent);
    }

    /// The next announce to give to [`Self::send`], with its event.
    pub(super) fn poll_admitted(&mut self) -> Option<(AnnounceKey, AnnounceEvent)> {
        let key = self.hosts.poll_next()?;
        Some((key, self.pending[&key].announce.event))
    }

    /// The next answer. Announces that waited behind this one are lined up.
    pub(super) fn poll_answer(&mut self, now: Duration) -> Option<Answer> {
        let answer = self.answers.pop_front()?;
        if let Answer::Finished { torrent, .. } = answer {
            self.line_up_next(now, torrent);
        }
        Some(answer)
    }

    pub(super) fn take_actions(&mut self) -> VecDeque<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.active.values().filter_map(|active| active.next_timeout(&self.trackers)).min()
    }

    /// Whether an announce of the torrent is without a polled answer.
    pub(super) fn is_announcing(&self, torrent: TorrentKey) -> bool {
        let finished = |answer: &Answer| matches!(answer, Answer::Finished { .. });
        self.pending.range(keys_of(torrent)).next().is_some()
            || self.awaited(torrent).next().is_some()
            || self.answers.iter().any(|it| finished(it) && it.torrent() == torrent)
    }

    fn line_up(&mut self, now: Duration, torrent: TorrentKey, announce: Announce, target: Target) {
        let key = AnnounceKey { torrent, number: self.next_number };
        self.next_number += 1;
        let urgent = matches!(announce.event, AnnounceEvent::Started | AnnounceEvent::Stopped);
        if self.is_under_way(torrent, announce.tracker) {
            let line = Line::BehindAnother;
            self.pending.insert(key, Pending { announce, target, line });
            return;
        }
        match self.hosts.admit(now, &target.host, key, urgent) {
            Err(message) => self.refuse(torrent, &announce, &message),
            Ok(host) => {
                let (target, line) = (Target { host, ..target }, Line::AtHost);
                self.pending.insert(key, Pending { announce, target, line });
            }
        }
    }

    /// Lines up the announces of a torrent that waited behind another.
    fn line_up_next(&mut self, now: Duration, torrent: TorrentKey) {
        let is_behind = |pending: &Pending| pending.line == Line::BehindAnother;
        for (_, pending) in take_of(&mut self.pending, torrent, is_behind) {
            self.line_up(now, torrent, pending.announce, pending.target);
        }
    }

    /// Whether an announce to this tracker was sent or waits at the host.
    fn is_under_way(&self, torrent: TorrentKey, tracker: TrackerIndex) -> bool {
        let pending = self.pending.range(keys_of(torrent)).map(|(_, pending)| pending);
        let at_host = pending.filter(|pending| pending.line == Line::AtHost);
        let announces = at_host.map(|pending| &pending.announce);
        announces.chain(self.awaited(torrent)).any(|announce| announce.tracker == tracker)
    }

    fn awaited(&self, torrent: TorrentKey) -> impl Iterator<Item = &Announce> {
        let active = self.active.range(keys_of(torrent)).map(|(_, active)| active);
        let awaited = active.filter(|active| active.interest == Interest::Awaited);
        awaited.map(|active| &active.announce)
    }

    fn forget_active(&mut self, now: Duration, key: AnnounceKey) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let before = std::mem::replace(&mut active.interest, Interest::Settled);
        if !active.is_fetching() {
            _ = self.end_active(now, key, None);
            return;
        }
        // A fetcher cannot be interrupted: the request at the host ends when it is done.
        if before == Interest::Awaited {
            self.hosts.release(&active.target.host);
        }
    }

    /// A link names a peer, as `host:port`.
    pub(super) fn look_up_link_peer(&mut self, now: Duration, torrent: TorrentKey, peer: &str) {
        let source = Source::User;
        if let Ok(address) = peer.parse() {
            self.answers.push_back(Answer::Peers { torrent, source, peers: vec![address] });
        } else if let Some((host, port)) = peer.rsplit_once(':')
            && let Ok(port) = port.parse()
        {
            self.look_up_peer(now, host.to_owned(), NamedPeer { torrent, port, source });
        }
    }

    fn look_up_peer(&mut self, now: Duration, host: String, peer: NamedPeer) {
        match self.names.look_up_peer(now, &host, peer) {
            None | Some(Lookup::Asked | Lookup::Known(Err(_))) => {}
            Some(Lookup::Ask) => self.actions.push_back(Action::Resolve { host, of_peer: true }),
            Some(Lookup::Known(Ok(ips))) => self.answers.push_back(peer.at(&ips)),
        }
    }

    /// Ends an active announce whose legs are all done.
    fn end_legs(&mut self, now: Duration, key: AnnounceKey) {
        let Some(active) = self.active.get_mut(&key) else { return };
        let Stage::Asking { failure, .. } = &mut active.stage else { return };
        match failure.take().filter(|_| active.interest != Interest::Settled) {
            Some(failure) => self.fail(now, key, failure),
            None => _ = self.end_active(now, key, None),
        }
    }

    /// Ends an announce without an answer in time.
    fn give_up(&mut self, now: Duration, key: AnnounceKey) {
        let late = failure(format!("no answer within {} s", ANNOUNCE_DEADLINE.as_secs()));
        let Some(active) = self.active.get_mut(&key) else { return };
        if !active.is_fetching() {
            return self.fail(now, key, late);
        }
        // A fetcher cannot be interrupted: the request at the host ends when it is done.
        active.interest = Interest::Late;
        let waiting = self.hosts.handle_late(now, &active.target.host, &late.message);
        let finished = active.announce.finished(key.torrent, Err(late.clone().into()));
        self.refuse_waiting(waiting, &late.message);
        self.answers.push_back(finished);
    }

    /// Ends an announce that failed.
    fn fail(&mut self, now: Duration, key: AnnounceKey, failure: FetchFailure) {
        let blame = (!failure.refused).then_some(failure.message.as_str());
        let Some(active) = self.end_active(now, key, blame) else { return };
        if active.interest == Interest::Awaited {
            let finished = active.announce.finished(key.torrent, Err(failure.into()));
            self.answers.push_back(finished);
        }
    }

    /// Ends the request of an announce at its host. If the host failed, the announces that wait there
    /// fail.
    fn end_active(
        &mut self,
        now: Duration,
        key: AnnounceKey,
        failure: Option<&str>,
    ) -> Option<ActiveAnnounce> {
        let active = self.active.remove(&key)?;
        let failed = self.hosts.handle_finished(now, &active.target.host, failure);
        self.refuse_waiting(failed, failure.unwrap_or_default());
        Some(active)
    }

    fn refuse_waiting(&mut self, waiting: Vec<AnnounceKey>, message: &str) {
        for key in waiting {
            if let Some(pending) = self.pending.remove(&key) {
                self.refuse(key.torrent, &pending.announce, message);
            }
        }
    }

    /// Ends an announce that no host admitted.
    fn refuse(&mut self, torrent: TorrentKey, announce: &Announce, message: &str) {
        self.answers.push_back(announce.finished(torrent, Err(failure(message).into())));
    }
}

impl Announce {
    fn finished(
        &self,
        torrent: TorrentKey,
        result: Result<AnnounceReply, AnnounceFailure>,
    ) -> Answer {
        Answer::Finished { torrent, tracker: self.tracker, url: self.url.clone(), result }
    }
}

impl ActiveAnnounce {
    /// Returns the answer that a reply makes.
    fn take_reply(&mut self, torrent: TorrentKey, reply: AnnounceReply) -> Answer {
        match std::mem::replace(&mut self.interest, Interest::Settled) {
            Interest::Awaited => self.announce.finished(torrent, Ok(reply)),
            Interest::Late | Interest::Settled => {
                let peers = reply.peers.iter().filter_map(TrackerPeer::address).collect();
                Answer::Peers { torrent, source: Source::Tracker, peers }
            }
        }
    }

    /// Whether it waits for the addresses of `name`.
    fn is_resolving(&self, name: &str) -> bool {
        let Protocol::Udp(url) = &self.target.protocol else { return false };
        matches!(self.stage, Stage::Resolving)
            && matches!(&url.host, TrackerHost::Name(host) if host == name)
    }
}

impl NamedPeer {
    /// Returns the peer, whose name has these addresses.
    fn at(self, ips: &[IpAddr]) -> Answer {
        let Self { torrent, port, source } = self;
        let peers = ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        Answer::Peers { torrent, source, peers }
    }
}

impl Answer {
    fn torrent(&self) -> TorrentKey {
        match self {
            Self::Finished { torrent, .. } | Self::Peers { torrent, .. } => *torrent,
        }
    }
}

/// Takes the announces of a torrent that satisfy `wanted`.
fn take_of(
    pending: &mut BTreeMap<AnnounceKey, Pending>,
    torrent: TorrentKey,
    mut wanted: impl FnMut(&Pending) -> bool,
) -> Vec<(AnnounceKey, Pending)> {
    pending.extract_if(keys_of(torrent), |_, pending| wanted(pending)).collect()
}

fn keys_of(torrent: TorrentKey) -> std::ops::RangeInclusive<AnnounceKey> {
    AnnounceKey { torrent, number: 0 }..=AnnounceKey { torrent, number: u64::MAX }
}

/// Returns the reply with IPv4-mapped IPv6 addresses as IPv4.
fn with_canonical_peers(mut reply: AnnounceReply) -> AnnounceReply {
    for peer in &mut reply.peers {
        if let PeerHost::Ip(ip) = &mut peer.host {
            *ip = ip.to_canonical();
        }
    }
    reply
}

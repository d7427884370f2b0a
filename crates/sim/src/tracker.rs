//! The trackers of a simulation: one over HTTP, one over UDP (BEP 15), with the same peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerHost, TrackerPeer};
use session::engine::FetchFailure;

use crate::rng::Rng;
use crate::scenario::TrackerPlan;

/// The address of the UDP tracker.
pub(crate) const TRACKER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));
const MAGIC: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();
const CONNECTION: [u8; 8] = *b"connect!";
const MAX_PEERS: usize = 50;

/// A process that announces to one of the trackers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Announcer {
    address: SocketAddr,
    launch: u32,
    udp: bool,
}

#[derive(Debug)]
pub(crate) struct Trackers {
    plan: TrackerPlan,
    rng: Rng,
    /// Peers by torrent and address, and whether each has everything.
    peers: BTreeMap<(InfoHashV1, SocketAddr), bool>,
    /// A torrent, and peers that are returned for it although they never announce.
    liars: (InfoHashV1, Vec<SocketAddr>),
    /// The announcers that sent `started`.
    started: BTreeSet<Announcer>,
    /// A peer that sent `completed` without `started` before.
    unstarted: Option<SocketAddr>,
}

impl Trackers {
    pub(crate) fn new(
        plan: TrackerPlan,
        liars: (InfoHashV1, Vec<SocketAddr>),
        rng: &mut Rng,
    ) -> Self {
        Self {
            plan,
            rng: rng.split(),
            peers: BTreeMap::new(),
            liars,
            started: BTreeSet::new(),
            unstarted: None,
        }
    }

    /// Draws how long a request and its answer take.
    pub(crate) fn delay(&mut self) -> Duration {
        self.rng.millis(1..400)
    }

    fn fails(&mut self, now: Duration) -> bool {
        let drawn = now < self.plan.faulty_until && self.rng.chance(self.plan.failing);
        drawn || now < self.plan.down_until
    }

    /// Answers an announce over HTTP.
    pub(crate) fn fetch(
        &mut self,
        now: Duration,
        (from, launch): (SocketAddr, u32),
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, FetchFailure> {
        if self.fails(now) {
            let message = "the tracker is failing".to_owned();
            let retry_in = self.rng.chance(20).then(|| self.rng.within(1..120) as u32);
            return Err(FetchFailure { message, retry_in, refused: self.rng.chance(10) });
        }
        let who = Announcer { address: from, launch, udp: false };
        self.note(who, request.info_hash, request.event, request.left == 0);
        let peers = self.others((request.info_hash, from)).into_iter().map(|peer| TrackerPeer {
            host: PeerHost::Ip(peer.ip()),
            port: peer.port(),
            peer_id: None,
        });
        let interval = self.plan.interval;
        Ok(AnnounceReply { interval, peers: peers.collect(), ..AnnounceReply::default() })
    }

    /// Returns a peer that sent `completed` without `started` before.
    pub(crate) fn unstarted(&self) -> Option<SocketAddr> {
        self.unstarted
    }

    fn note(&mut self, who: Announcer, of: InfoHashV1, event: AnnounceEvent, complete: bool) {
        match event {
            AnnounceEvent::Started => _ = self.started.insert(who),
            AnnounceEvent::Completed if !self.started.contains(&who) => {
                self.unstarted = Some(who.address);
            }
            AnnounceEvent::Completed
            | AnnounceEvent::None
            | AnnounceEvent::Stopped
            | AnnounceEvent::Paused => {}
        }
        if event == AnnounceEvent::Stopped {
            self.peers.remove(&(of, who.address));
        } else {
            self.peers.insert((of, who.address), complete);
        }
    }

    fn others(&mut self, (torrent, from): (InfoHashV1, SocketAddr)) -> Vec<SocketAddr> {
        let in_swarm = self.peers.keys().filter(|(other, _)| *other == torrent);
        let liars = self.liars.1.iter().filter(|_| self.liars.0 == torrent);
        let known = in_swarm.map(|(_, peer)| peer).chain(liars).copied();
        // As real trackers do, it sometimes returns the asker too.
        let with_asker = self.rng.chance(20);
        let mut peers: Vec<SocketAddr> = known.filter(|peer| *peer != from || with_asker).collect();
        if self.plan.returns_dead_peers {
            peers.push(SocketAddr::from(([10, 9, 0, self.rng.below(250) as u8], 6881)));
        }
        self.rng.shuffle(&mut peers);
        peers.truncate(MAX_PEERS);
        peers
    }

    /// Answers a datagram; a damaged answer may come twice.
    pub(crate) fn datagram(
        &mut self,
        now: Duration,
        (from, launch): (SocketAddr, u32),
        bytes: &[u8],
    ) -> Vec<Vec<u8>> {
        if self.fails(now) {
            return Vec::new();
        }
        let Some(mut reply) = self.reply((from, launch), bytes) else { return Vec::new() };
        let rubbish = if now < self.plan.faulty_until { self.plan.rubbish } else { 0 };
        if self.rng.chance(rubbish) {
            let at = self.rng.below(reply.len() as u64) as usize;
            match self.rng.below(3) {
                0 => reply.truncate(at),
                1 => reply[at] ^= 1 << self.rng.below(8),
                _ => reply.extend([0; 7]),
            }
        }
        let twice = self.rng.chance(rubbish);
        if twice { vec![reply.clone(), reply] } else { vec![reply] }
    }

    fn reply(&mut self, (from, launch): (SocketAddr, u32), bytes: &[u8]) -> Option<Vec<u8>> {
        let (head, transaction) = (bytes.get(..12)?, bytes.get(12..16)?);
        let (connection, action) = head.split_at(8);
        if action == [0; 4] && connection == MAGIC {
            return Some([&[0; 4], transaction, &CONNECTION].concat());
        }
        if action != [0, 0, 0, 1] || connection != CONNECTION || bytes.len() < 98 {
            let text: &[u8] = b"unknown action";
            return Some([&[0, 0, 0, 3], transaction, text].concat());
        }
        let complete = bytes[64..72] == [0; 8];
        let port = u16::from_be_bytes([bytes[96], bytes[97]]);
        let from = SocketAddr::new(from.ip(), port);
        let event = match bytes[83] {
            1 => AnnounceEvent::Completed,
            2 => AnnounceEvent::Started,
            3 => AnnounceEvent::Stopped,
            _ => AnnounceEvent::None,
        };
        let torrent = InfoHashV1(bytes[16..36].try_into().ok()?);
        self.note(Announcer { address: from, launch, udp: true }, torrent, event, complete);
        let interval = self.plan.interval.to_be_bytes();
        let mut reply = [&[0, 0, 0, 1], transaction, &interval, &[0; 8]].concat();
        for peer in self.others((torrent, from)) {
            if let IpAddr::V4(ip) = peer.ip() {
                reply.extend(ip.octets());
                reply.extend(peer.port().to_be_bytes());
            }
        }
        Some(reply)
    }
}

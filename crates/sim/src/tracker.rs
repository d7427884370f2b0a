//! The trackers of a run: one over HTTP, one over UDP (BEP 15), which know the same peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, InfoHashV1, PeerHost, TrackerPeer};
use session::engine::FetchFailure;

use crate::dice::Dice;
use crate::scenario::TrackerPlan;

/// Where the UDP tracker is.
pub(crate) const TRACKER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));
const MAGIC: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();
const CONNECTION: [u8; 8] = *b"connect!";
const MAX_PEERS: usize = 50;

/// A process that tells one of the trackers something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Teller {
    address: SocketAddr,
    life: u32,
    udp: bool,
}

#[derive(Debug)]
pub(crate) struct Trackers {
    plan: TrackerPlan,
    dice: Dice,
    /// Who announced which torrent, and whether it has everything.
    peers: BTreeMap<(InfoHashV1, SocketAddr), bool>,
    /// Those that are named for a torrent without having announced.
    liars: (InfoHashV1, Vec<SocketAddr>),
    /// Who told which of them that it started.
    started: BTreeSet<Teller>,
    /// Who told one of them that it completed, and did not tell it before that it started.
    stranger: Option<SocketAddr>,
}

impl Trackers {
    pub(crate) fn new(
        plan: TrackerPlan,
        liars: (InfoHashV1, Vec<SocketAddr>),
        dice: &mut Dice,
    ) -> Self {
        Self {
            plan,
            dice: dice.split(),
            peers: BTreeMap::new(),
            liars,
            started: BTreeSet::new(),
            stranger: None,
        }
    }

    /// How long an answer takes, in all.
    pub(crate) fn delay(&mut self) -> Duration {
        self.dice.millis(1..400)
    }

    fn fails(&mut self, now: Duration) -> bool {
        let ill = now < self.plan.ill_until && self.dice.chance(self.plan.failing);
        ill || now < self.plan.down_until
    }

    /// An announce over HTTP.
    pub(crate) fn fetch(
        &mut self,
        now: Duration,
        (from, life): (SocketAddr, u32),
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, FetchFailure> {
        if self.fails(now) {
            let message = "the tracker is ill".to_owned();
            let retry_in = self.dice.chance(20).then(|| self.dice.within(1..120) as u32);
            return Err(FetchFailure { message, retry_in, refused: self.dice.chance(10) });
        }
        self.note_event(Teller { address: from, life, udp: false }, request.event);
        let stopped = request.event == AnnounceEvent::Stopped;
        let who = (request.info_hash, from);
        self.note(who, request.left == 0, stopped);
        let peers = self.others(who).into_iter().map(|peer| TrackerPeer {
            host: PeerHost::Ip(peer.ip()),
            port: peer.port(),
            peer_id: None,
        });
        let interval = self.plan.interval;
        Ok(AnnounceReply { interval, peers: peers.collect(), ..AnnounceReply::default() })
    }

    /// Who has completed without having started, if somebody has.
    pub(crate) fn stranger(&self) -> Option<SocketAddr> {
        self.stranger
    }

    fn note_event(&mut self, who: Teller, event: AnnounceEvent) {
        match event {
            AnnounceEvent::Started => _ = self.started.insert(who),
            AnnounceEvent::Completed if !self.started.contains(&who) => {
                self.stranger = Some(who.address);
            }
            _ => {}
        }
    }

    fn note(&mut self, who: (InfoHashV1, SocketAddr), complete: bool, stopped: bool) {
        if stopped {
            self.peers.remove(&who);
        } else {
            self.peers.insert(who, complete);
        }
    }

    fn others(&mut self, (torrent, from): (InfoHashV1, SocketAddr)) -> Vec<SocketAddr> {
        let in_swarm = self.peers.keys().filter(|(other, _)| *other == torrent);
        let liars = self.liars.1.iter().filter(|_| self.liars.0 == torrent);
        let known = in_swarm.map(|(_, peer)| peer).chain(liars).copied();
        // As real ones do, it names the asker too, now and then.
        let with_asker = self.dice.chance(20);
        let mut peers: Vec<SocketAddr> = known.filter(|peer| *peer != from || with_asker).collect();
        if self.plan.names_nobodies {
            peers.push(SocketAddr::from(([10, 9, 0, self.dice.below(250) as u8], 6881)));
        }
        self.dice.shuffle(&mut peers);
        peers.truncate(MAX_PEERS);
        peers
    }

    /// A datagram; answers those it is answered with.
    pub(crate) fn datagram(
        &mut self,
        now: Duration,
        (from, life): (SocketAddr, u32),
        bytes: &[u8],
    ) -> Vec<Vec<u8>> {
        if self.fails(now) {
            return Vec::new();
        }
        let Some(mut reply) = self.reply((from, life), bytes) else { return Vec::new() };
        let rubbish = if now < self.plan.ill_until { self.plan.rubbish } else { 0 };
        if self.dice.chance(rubbish) {
            let at = self.dice.below(reply.len() as u64) as usize;
            match self.dice.below(3) {
                0 => reply.truncate(at),
                1 => reply[at] ^= 1 << self.dice.below(8),
                _ => reply.extend([0; 7]),
            }
        }
        let twice = self.dice.chance(rubbish);
        if twice { vec![reply.clone(), reply] } else { vec![reply] }
    }

    fn reply(&mut self, (from, life): (SocketAddr, u32), bytes: &[u8]) -> Option<Vec<u8>> {
        let (head, transaction) = (bytes.get(..12)?, bytes.get(12..16)?);
        let (connection, action) = head.split_at(8);
        if action == [0; 4] && connection == MAGIC {
            return Some([&[0; 4], transaction, &CONNECTION].concat());
        }
        if action != [0, 0, 0, 1] || connection != CONNECTION || bytes.len() < 98 {
            let text: &[u8] = b"what?";
            return Some([&[0, 0, 0, 3], transaction, text].concat());
        }
        let complete = bytes[64..72] == [0; 8];
        let port = u16::from_be_bytes([bytes[96], bytes[97]]);
        let from = SocketAddr::new(from.ip(), port);
        let stopped = bytes[83] == 3;
        let teller = Teller { address: from, life, udp: true };
        match bytes[83] {
            1 => self.note_event(teller, AnnounceEvent::Completed),
            2 => self.note_event(teller, AnnounceEvent::Started),
            _ => {}
        }
        let who = (InfoHashV1(bytes[16..36].try_into().ok()?), from);
        self.note(who, complete, stopped);
        let interval = self.plan.interval.to_be_bytes();
        let mut reply = [&[0, 0, 0, 1], transaction, &interval, &[0; 8]].concat();
        for peer in self.others(who) {
            if let IpAddr::V4(ip) = peer.ip() {
                reply.extend(ip.octets());
                reply.extend(peer.port().to_be_bytes());
            }
        }
        Some(reply)
    }
}

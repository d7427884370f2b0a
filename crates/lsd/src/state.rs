//! What is announced and when, and which announces of others count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::InfoHashV1;

use crate::message::{Announce, Group, LSD_HASHES};
use crate::network::Network;
use crate::pace::Pace;

/// How often a torrent is announced (BEP 14, "Usage").
pub const LSD_EVERY: Duration = Duration::from_secs(5 * 60);
/// How much time is between two announces of one torrent at least, and between two announces after
/// the first [`LSD_BURST`]. BEP 14 asks for one announce per minute.
pub const LSD_GAP: Duration = Duration::from_secs(60);
/// How many announces may be sent at once, so that the first torrents do not wait.
pub const LSD_BURST: u32 = 10;
/// How many torrents are announced one by one. Beyond that several share an announce, which old
/// programs do not understand (BEP 14, "Usage").
pub const LSD_SINGLE: usize = 5;
/// How many datagrams per second are read. The rest is ignored.
pub const LSD_RATE: u32 = 20;

/// Local service discovery: announces our torrents in the local networks, and reports the clients
/// there that have the same.
///
/// 1. What happened: [`handle_datagram`](Self::handle_datagram).
/// 2. What we want: [`announce`](Self::announce), [`stop`](Self::stop),
///    [`set_networks`](Self::set_networks).
/// 3. What the caller must do now: [`poll_transmit`](Self::poll_transmit),
///    [`poll_event`](Self::poll_event), [`poll_timeout`](Self::poll_timeout).
///
/// After any call, drain the polls. `now` is the time since any fixed start.
#[derive(Debug)]
pub struct Lsd {
    port: u16,
    cookie: String,
    networks: Vec<Network>,
    torrents: BTreeMap<InfoHashV1, Torrent>,
    /// The time and the torrent of each `due` in `torrents`.
    schedule: BTreeSet<(Duration, InfoHashV1)>,
    sending: Pace,
    reading: Pace,
    transmits: VecDeque<Transmit>,
    events: VecDeque<LocalPeer>,
}

/// A torrent that is announced, or was less than [`LSD_GAP`] ago.
#[derive(Debug)]
struct Torrent {
    due: Duration,
    /// When it was announced last.
    sent: Option<Duration>,
    stopped: bool,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The group to send it to, on every interface that has the family.
    pub group: Group,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// A client in a local network that is in the swarm of one of our torrents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPeer {
    /// The torrent.
    pub info_hash: InfoHashV1,
    /// Where the client says that it accepts connections.
    pub address: SocketAddr,
}

/// What happened.
impl Lsd {
    /// Starts with no torrents and no networks. `port` is the TCP port that we listen on. `cookie`
    /// is random, and drawn once per launch: by it we recognise our own announces.
    pub fn new(port: u16, cookie: u32) -> Self {
        Self {
            port,
            cookie: format!("{cookie:08x}"),
            networks: Vec::new(),
            torrents: BTreeMap::new(),
            schedule: BTreeSet::new(),
            sending: Pace::new(LSD_GAP, LSD_BURST),
            reading: Pace::new(Duration::from_secs(1) / LSD_RATE, LSD_RATE),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Handles a datagram that was received at the group of the family of `source`. Ignores it if
    /// it is not from one of our networks, is one of more than [`LSD_RATE`] per second, is no
    /// announce, or one of ours. Torrents that we do not announce are ignored too.
    pub fn handle_datagram(&mut self, now: Duration, source: SocketAddr, bytes: &[u8]) {
        let on_link = self.networks.iter().any(|network| network.contains(source.ip()));
        if !on_link || !self.reading.take(now) {
            return;
        }
        let group = if source.is_ipv4() { Group::V4 } else { Group::V6 };
        let Ok(theirs) = Announce::decode(group, bytes) else { return };
        if theirs.cookie.as_ref() == Some(&self.cookie) {
            return;
        }
        let mut address = source;
        address.set_port(theirs.port);
        let ours = |hash: &InfoHashV1| self.torrents.get(hash).is_some_and(|known| !known.stopped);
        let shared = theirs.info_hashes.into_iter().filter(ours);
        self.events.extend(shared.map(|info_hash| LocalPeer { info_hash, address }));
    }
}

/// What we want.
impl Lsd {
    /// Announces a torrent from now on, every [`LSD_EVERY`]. It must not be private (BEP 27).
    pub fn announce(&mut self, now: Duration, info_hash: InfoHashV1) {
        if let Some(known) = self.torrents.get_mut(&info_hash) {
            known.stopped = false;
        } else {
            self.torrents.insert(info_hash, Torrent { due: now, sent: None, stopped: false });
            self.schedule.insert((now, info_hash));
        }
    }

    /// Announces a torrent no more. If it is announced again within [`LSD_GAP`], that waits.
    pub fn stop(&mut self, info_hash: InfoHashV1) {
        let Some(known) = self.torrents.get_mut(&info_hash) else { return };
        self.schedule.remove(&(known.due, info_hash));
        if let Some(sent) = known.sent {
            known.stopped = true;
            known.due = sent + LSD_GAP;
            self.schedule.insert((known.due, info_hash));
        } else {
            self.torrents.remove(&info_hash);
        }
    }

    /// Sets the networks of our interfaces. Announces from elsewhere are ignored: multicast packets
    /// may be forwarded, and a local peer is one that we reach without a router.
    pub fn set_networks(&mut self, networks: impl IntoIterator<Item = Network>) {
        self.networks = networks.into_iter().collect();
    }
}

/// What the caller must do now.
impl Lsd {
    /// Returns a datagram to send. There is one for each group of what is due.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Transmit> {
        if self.transmits.is_empty() {
            self.send_due(now);
        }
        self.transmits.pop_front()
    }

    /// Returns a local peer.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<LocalPeer> {
        self.events.pop_front()
    }

    /// Returns when to call [`Self::poll_transmit`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let (due, _) = self.schedule.first()?;
        Some((*due).max(self.sending.next()))
    }
}

impl Lsd {
    /// Queues an announce of what is due, if one may be sent.
    fn send_due(&mut self, now: Duration) {
        if self.sending.next() > now {
            return;
        }
        let most = if self.torrents.len() > LSD_SINGLE { LSD_HASHES } else { 1 };
        let mut info_hashes = Vec::new();
        while info_hashes.len() < most
            && let Some(info_hash) = self.take_due(now)
        {
            info_hashes.push(info_hash);
        }
        if !info_hashes.is_empty() && self.sending.take(now) {
            let cookie = Some(self.cookie.clone());
            let announce = Announce { port: self.port, info_hashes, cookie };
            let transmit = |group| Transmit { group, bytes: announce.encode(group) };
            self.transmits.extend(Group::ALL.map(transmit));
        }
    }

    /// Returns a torrent that is due, and schedules it again. Forgets stopped ones.
    fn take_due(&mut self, now: Duration) -> Option<InfoHashV1> {
        while self.schedule.first().is_some_and(|(due, _)| *due <= now) {
            let (_, info_hash) = self.schedule.pop_first()?;
            let known = self.torrents.get_mut(&info_hash)?;
            if !known.stopped {
                known.sent = Some(now);
                known.due = now + LSD_EVERY;
                self.schedule.insert((known.due, info_hash));
                return Some(info_hash);
            }
            self.torrents.remove(&info_hash);
        }
        None
    }
}

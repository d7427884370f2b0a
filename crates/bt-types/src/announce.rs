//! What a client tells a tracker and what the tracker answers, whatever the transport (BEP 3, 15).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::{InfoHashV1, PeerId};

/// The port a client announces when nobody chose one.
pub const DEFAULT_PORT: u16 = 6881;

/// The seconds until the next regular announce where a tracker says nothing usable: what most
/// trackers say.
pub const DEFAULT_INTERVAL: u32 = 1800;

/// The interval of a tracker's reply: `seconds`, or [`DEFAULT_INTERVAL`] if there are none or they
/// are odd. 0, negative numbers and those above [`i32::MAX`], which many readers take as negative,
/// are odd.
///
/// ```
/// assert_eq!(bt_types::interval_or_default(Some(900)), 900);
/// assert_eq!(bt_types::interval_or_default(Some(-1)), 1800);
/// ```
pub fn interval_or_default(seconds: Option<i64>) -> u32 {
    let seconds = seconds.and_then(|seconds| i32::try_from(seconds).ok());
    seconds.filter(|seconds| *seconds > 0).map_or(DEFAULT_INTERVAL, i32::unsigned_abs)
}

/// Why an announce is made (BEP 3, "event").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AnnounceEvent {
    /// A regular announce after the interval.
    #[default]
    None,
    /// The first announce of a run.
    Started,
    /// The last piece was verified in this run.
    Completed,
    /// The client leaves the swarm.
    Stopped,
    /// A regular announce of a partial seed (BEP 21). UDP has no such event.
    Paused,
}

/// What a client tells a tracker about one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent, in the 20-byte form.
    pub info_hash: InfoHashV1,
    /// Who asks.
    pub peer_id: PeerId,
    /// Where the client listens for peers.
    pub port: u16,
    /// Payload sent since `started`, in bytes.
    pub uploaded: u64,
    /// Payload received since `started`, in bytes.
    pub downloaded: u64,
    /// Bytes of the torrent still missing; [`u64::MAX`] before they are known (a magnet link).
    pub left: u64,
    /// Why the announce is made.
    pub event: AnnounceEvent,
    /// How many peers are asked for; `None` leaves it to the tracker.
    pub num_want: Option<u32>,
    /// The same in every announce of a run, so that a tracker knows a client whose address changed.
    pub key: u32,
    /// The address peers should use, where it differs from the one the tracker sees.
    pub ip: Option<IpAddr>,
    /// What the tracker called itself in its last reply, to be sent back.
    pub tracker_id: Option<Vec<u8>>,
}

impl AnnounceRequest {
    /// A regular announce of `info_hash` by `peer_id` that listens on [`DEFAULT_PORT`], with
    /// nothing transferred and nothing known to be left.
    pub fn new(info_hash: InfoHashV1, peer_id: PeerId) -> Self {
        Self {
            info_hash,
            peer_id,
            port: DEFAULT_PORT,
            uploaded: 0,
            downloaded: 0,
            left: u64::MAX,
            event: AnnounceEvent::None,
            num_want: None,
            key: 0,
            ip: None,
            tracker_id: None,
        }
    }
}

/// What a tracker answers to an announce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnounceReply {
    /// Seconds until the next regular announce; [`DEFAULT_INTERVAL`] if the tracker said nothing
    /// usable.
    pub interval: u32,
    /// Seconds below which the tracker wants no announce at all, if it said more than 0.
    pub min_interval: Option<u32>,
    /// To be sent back in later announces.
    pub tracker_id: Option<Vec<u8>>,
    /// Peers that have everything (`complete`).
    pub seeders: Option<u32>,
    /// Peers that do not (`incomplete`).
    pub leechers: Option<u32>,
    /// What the tracker wants a person to read. Untrusted text.
    pub warning: Option<String>,
    /// The peers, in the tracker's order.
    pub peers: Vec<TrackerPeer>,
}

/// One peer of a tracker's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackerPeer {
    /// Where it is.
    pub host: PeerHost,
    /// Where it listens.
    pub port: u16,
    /// Its id, which only the dictionary form of HTTP trackers tells (BEP 3).
    pub peer_id: Option<PeerId>,
}

/// An address, or a name that must be looked up first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerHost {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A DNS name (BEP 3 allows one in the dictionary form). Untrusted text.
    Name(String),
}

impl From<SocketAddr> for TrackerPeer {
    fn from(address: SocketAddr) -> Self {
        Self { host: PeerHost::Ip(address.ip()), port: address.port(), peer_id: None }
    }
}

impl TrackerPeer {
    /// The address to connect to, unless the peer was given by name.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            PeerHost::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            PeerHost::Name(_) => None,
        }
    }
}

impl fmt::Display for TrackerPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            PeerHost::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            PeerHost::Name(name) => write!(f, "{}:{}", name.escape_default(), self.port),
        }
    }
}

/// What a tracker says about one torrent when scraped (BEP 48, BEP 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// The torrent.
    pub info_hash: InfoHashV1,
    /// Peers that have everything.
    pub seeders: u32,
    /// Peers that do not.
    pub leechers: u32,
    /// How often the tracker was told `completed`.
    pub completed: u32,
}

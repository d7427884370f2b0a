//! What a client sends to a tracker and what the tracker replies, over HTTP or UDP (BEP 3, 15).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::{InfoHashV1, PeerId};

/// The port that a client announces by default.
pub const DEFAULT_PORT: u16 = 6881;

/// The seconds until the next regular announce if the tracker's reply has no valid interval. Most
/// trackers send this value.
pub const DEFAULT_INTERVAL: u32 = 1800;

/// Returns `seconds`, the interval of a tracker's reply, if it is valid, else [`DEFAULT_INTERVAL`].
/// Valid numbers are 1 to [`i32::MAX`], because many programs treat larger ones as negative.
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
    /// The client joins the swarm: the first announce.
    Started,
    /// The client has verified the last piece since it joined.
    Completed,
    /// The client leaves the swarm.
    Stopped,
    /// A regular announce of a partial seed (BEP 21). UDP has no such event.
    Paused,
}

/// What a client sends to a tracker about one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent, in the 20-byte form.
    pub info_hash: InfoHashV1,
    /// The client's own id.
    pub peer_id: PeerId,
    /// The port on which the client listens for peers.
    pub port: u16,
    /// Payload sent since `started`, in bytes.
    pub uploaded: u64,
    /// Payload received since `started`, in bytes.
    pub downloaded: u64,
    /// Missing bytes of the torrent; [`u64::MAX`] if unknown (a magnet link).
    pub left: u64,
    /// Why the announce is made.
    pub event: AnnounceEvent,
    /// The number of peers to ask for; `None` lets the tracker choose.
    pub num_want: Option<u32>,
    /// A number that is the same in every announce of a launch, so that a tracker recognises a
    /// client whose address changed.
    pub key: u32,
    /// The address that peers should use, if it differs from the one the tracker sees.
    pub ip: Option<IpAddr>,
    /// The `tracker id` of the tracker's last reply.
    pub tracker_id: Option<Vec<u8>>,
}

impl AnnounceRequest {
    /// Makes a regular announce of `info_hash` by `peer_id`. The port is [`DEFAULT_PORT`], nothing
    /// was transferred, and the number of missing bytes is unknown.
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

/// A tracker's reply to an announce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnounceReply {
    /// Seconds until the next regular announce; [`DEFAULT_INTERVAL`] if the reply has no valid
    /// interval.
    pub interval: u32,
    /// The minimum of seconds between two announces, if the reply has one above 0.
    pub min_interval: Option<u32>,
    /// An id that the client sends back in later announces.
    pub tracker_id: Option<Vec<u8>>,
    /// The number of peers that have everything (`complete`).
    pub seeders: Option<u32>,
    /// The number of other peers (`incomplete`).
    pub leechers: Option<u32>,
    /// A message for the user. Untrusted text.
    pub warning: Option<String>,
    /// The peers, in the tracker's order.
    pub peers: Vec<TrackerPeer>,
}

/// One peer of a tracker's reply.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackerPeer {
    /// The peer's address or name.
    pub host: PeerHost,
    /// The port on which the peer listens.
    pub port: u16,
    /// The peer's id, which only the dictionary form of HTTP trackers has (BEP 3).
    pub peer_id: Option<PeerId>,
}

/// An IP address, or a name to resolve.
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
    /// Returns the address to connect to, or `None` if the peer has a name.
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

/// A tracker's counts of one torrent, from a scrape (BEP 48, BEP 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// The torrent.
    pub info_hash: InfoHashV1,
    /// The number of peers that have everything.
    pub seeders: u32,
    /// The number of other peers.
    pub leechers: u32,
    /// The number of announces with event `completed`.
    pub completed: u32,
}

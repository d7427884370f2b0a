//! How a session is set up, and what it is to do with one torrent.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bt_types::{InfoHashV1, InfoHashes};
use metainfo::{Magnet, Metainfo};
use piece_store::StoreLayout;

use crate::engine::Families;
use crate::limits;

/// The name of a program that gives none.
pub(crate) const DEFAULT_CLIENT_NAME: &str = concat!("session/", env!("CARGO_PKG_VERSION"));
/// The peer id prefix of such a program.
pub(crate) const DEFAULT_PEER_ID_PREFIX: [u8; 8] = *b"-qS0100-";

/// What holds for the whole session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The program's name and version, as in `program/1.0`, for HTTP trackers and peers.
    pub client_name: String,
    /// The first eight bytes of every peer id: Azureus style (BEP 20), a two-letter code no other
    /// client uses, then the version.
    pub peer_id_prefix: [u8; 8],
    /// The ports to listen on: the first free one is taken. `0..=0` lets the system choose.
    pub ports: RangeInclusive<u16>,
    /// Listen on, connect from and announce from this address only.
    pub bind: Option<IpAddr>,
    /// Whether to listen for incoming connections at all.
    pub listen: bool,
    /// Received bytes per second, all torrents together.
    pub max_down: Option<u64>,
    /// Sent bytes per second, all torrents together.
    pub max_up: Option<u64>,
    /// Memory for all buffers together, in bytes; at least [`limits::MIN_MEMORY`].
    pub max_memory: usize,
    /// File descriptors that the session may use, at least [`limits::MIN_DESCRIPTORS`] and at most
    /// the process's limit (`ulimit -n`). The session divides them between connections, open files
    /// and helper threads, on the assumption that the program has few others open. The default is
    /// enough for what the other fields allow by default.
    pub max_descriptors: usize,
    /// The most connections, or fewer if there are not enough descriptors.
    pub max_connections: usize,
    /// The most connections of one torrent.
    pub max_peers_per_torrent: usize,
    /// Peers of one torrent that are unchoked at a time; more while seeding, if the rate suffices
    /// for more. 0 uploads nothing.
    pub upload_slots: usize,
    /// Where journals are kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// Certificates (PEM) that are trusted for HTTPS trackers instead of the usual ones.
    pub ca_file: Option<PathBuf>,
    /// Threads that hash, write, read and verify, or fewer if there are not enough descriptors;
    /// `None` is one per core, at least two.
    pub workers: Option<usize>,
    /// The seed of all random choices; `None` draws one.
    pub seed: Option<u64>,
    /// The address trackers should give to peers, if it differs from the one they see.
    pub announce_ip: Option<IpAddr>,
    /// Whether peers of public torrents tell us of others, and we them (BEP 11).
    pub pex: bool,
    /// Whether peers of public torrents are looked for in the local network (BEP 14).
    pub lsd: bool,
    /// How peers of public torrents are found in the DHT (BEP 5); `None` if not at all.
    pub dht: Option<DhtConfig>,
}

/// How the session takes part in the DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhtConfig {
    /// Nodes to join through, each as `host:port`.
    pub nodes: Vec<String>,
    /// Routers, each as `host:port`. They are asked only if nobody else is known or answers.
    pub routers: Vec<String>,
    /// What an earlier launch saved: see [`Session::dht_state`](crate::Session::dht_state).
    pub state: Option<Vec<u8>>,
    /// Whether the node's ids are new, because a node that runs may have those in `state`.
    pub new_ids: bool,
    /// Whether the session answers no queries (BEP 43). Then its ids are always new.
    pub read_only: bool,
    /// Whether the node limits what it answers. Without limits it is of use to measurements only.
    pub throttle: bool,
}

impl DhtConfig {
    /// Returns the configuration of a node that answers queries, and joins through the well-known
    /// routers.
    pub fn new() -> Self {
        let routers = [
            "router.bittorrent.com:6881",
            "dht.transmissionbt.com:6881",
            "dht.libtorrent.org:25401",
        ];
        Self {
            nodes: Vec::new(),
            routers: routers.map(str::to_owned).to_vec(),
            state: None,
            new_ids: false,
            read_only: false,
            throttle: true,
        }
    }

    /// Returns the configuration of a node with sockets of these families.
    pub(crate) fn node(&self, families: Families, seed: [u8; 32]) -> dht::Config {
        let mut state = self.state.as_deref().and_then(|bytes| dht::SavedState::decode(bytes).ok());
        if let Some(state) = state.as_mut().filter(|_| self.new_ids || self.read_only) {
            (state.id_v4, state.id_v6) = (None, None);
        }
        dht::Config {
            v4: families.v4,
            v6: families.v6,
            state,
            read_only: self.read_only,
            throttle: self.throttle,
            wants_routers: !self.routers.is_empty() || !self.nodes.is_empty(),
            ..dht::Config::new(seed)
        }
    }
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            client_name: DEFAULT_CLIENT_NAME.to_owned(),
            peer_id_prefix: DEFAULT_PEER_ID_PREFIX,
            ports: 6881..=6889,
            bind: None,
            listen: true,
            max_down: None,
            max_up: None,
            max_memory: limits::DEFAULT_MAX_MEMORY,
            max_descriptors: limits::DEFAULT_MAX_DESCRIPTORS,
            max_connections: limits::DEFAULT_MAX_CONNECTIONS,
            max_peers_per_torrent: limits::DEFAULT_MAX_PEERS_PER_TORRENT,
            upload_slots: limits::DEFAULT_UPLOAD_SLOTS,
            state_dir: None,
            ca_file: None,
            workers: None,
            seed: None,
            announce_ip: None,
            pex: true,
            lsd: false,
            dht: None,
        }
    }
}

/// How a torrent is known when it is added.
#[derive(Debug, Clone)]
pub enum Description {
    /// By everything that a `.torrent` file says.
    Metainfo(Arc<Metainfo>),
    /// By a magnet link. The metadata comes from peers (BEP 9).
    Link(Arc<Magnet>),
}

impl Description {
    /// Returns every info-hash that is known.
    pub fn info_hashes(&self) -> InfoHashes {
        match self {
            Self::Metainfo(metainfo) => metainfo.info_hashes(),
            Self::Link(link) => link.info_hashes,
        }
    }

    /// Returns the 20 bytes that identify the torrent to peers and trackers.
    pub fn info_hash(&self) -> InfoHashV1 {
        self.info_hashes().wire()
    }

    /// Returns the torrent's name; of a link without one, its info-hash. Untrusted text.
    pub fn name(&self) -> String {
        match self {
            Self::Metainfo(metainfo) => metainfo.info().name().to_owned(),
            Self::Link(link) => link.name.clone().unwrap_or_else(|| self.info_hash().to_string()),
        }
    }

    /// Returns the nodes of the DHT that the torrent names (BEP 5, `nodes`; `dht` of a link), each as
    /// `host:port`.
    pub fn dht_nodes(&self) -> Vec<String> {
        match self {
            Self::Metainfo(metainfo) => {
                metainfo.nodes().iter().map(|node| format!("{}:{}", node.host, node.port)).collect()
            }
            Self::Link(link) => link.dht_nodes.clone(),
        }
    }

    /// Returns what a `.torrent` file says, if that is known.
    pub fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        match self {
            Self::Metainfo(metainfo) => Some(metainfo),
            Self::Link(_) => None,
        }
    }
}

/// One torrent to take part in.
#[derive(Debug, Clone)]
pub struct AddTorrent {
    /// How the torrent is known.
    pub description: Description,
    /// Trackers of the link that are not used if the torrent turns out to be private, because they
    /// come from elsewhere (BEP 27). In a box, as most torrents have none.
    pub further_trackers: Option<Box<Vec<String>>>,
    /// Whether the torrent waits for [`Session::select`](crate::Session::select) once its metadata
    /// is there. Otherwise it goes on with `selected`.
    pub await_selection: bool,
    /// The folder that contains, or will contain, the torrent's `name`. Many torrents in one folder
    /// take less memory if they share its path.
    pub folder: Arc<Path>,
    /// The whole torrent, or one piece of it into a file of its own.
    pub layout: StoreLayout,
    /// Which files are wanted, one entry per file; `None` is all of them.
    pub selected: Option<Vec<bool>>,
    /// Peers to try besides those the trackers name. A private torrent ignores them (BEP 27), with
    /// a warning.
    pub peers: Vec<SocketAddr>,
    /// Whether to trust the journal of an earlier launch. Otherwise everything is verified.
    pub resume: bool,
    /// Whether unrelated files may be overwritten.
    pub overwrite: bool,
    /// Whether to allocate every file in full at once, instead of leaving holes.
    pub preallocate: bool,
    /// Whether to serve what is there, write no payload and request none.
    pub seed_only: bool,
    /// Whether to announce to the trackers.
    pub announce: bool,
    /// Received bytes per second for this torrent.
    pub max_down: Option<u64>,
    /// Sent bytes per second for this torrent.
    pub max_up: Option<u64>,
    /// When the session stops it; `None` is never. It is in a box because most of many torrents
    /// have none.
    pub goal: Option<Box<Goal>>,
}

/// When the session stops a torrent that nobody stops. By default it never does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Goal {
    /// Whether to stop once every wanted piece is verified, written and synced.
    pub stop_when_complete: bool,
    /// Stop seeding when this many times the torrent's size has been uploaded, in this launch and
    /// earlier ones together.
    pub ratio: Option<f64>,
    /// Stop after seeding for this time. The check of existing data does not count.
    pub seed_time: Option<Duration>,
    /// Give up when not complete after this time, the check of existing data included.
    pub timeout: Option<Duration>,
    /// Give up when the metadata of a link is not there after this time.
    pub metadata_timeout: Option<Duration>,
    /// Give up after this time without a verified piece.
    pub stall_timeout: Option<Duration>,
    /// Whether to give up when nobody is left to download from, and when a seed-only torrent has no
    /// piece. See [`crate::GiveUp`].
    pub give_up: bool,
}

impl AddTorrent {
    /// The whole of `metainfo`'s torrent, in `folder`, resumed where possible.
    pub fn new(metainfo: Arc<Metainfo>, folder: impl Into<PathBuf>) -> Self {
        Self::described(Description::Metainfo(metainfo), folder)
    }

    /// The whole of the torrent that `link` names, in `folder`, resumed where possible.
    pub fn from_link(link: Arc<Magnet>, folder: impl Into<PathBuf>) -> Self {
        Self::described(Description::Link(link), folder)
    }

    fn described(description: Description, folder: impl Into<PathBuf>) -> Self {
        Self {
            description,
            further_trackers: None,
            await_selection: false,
            folder: folder.into().into(),
            layout: StoreLayout::Torrent,
            selected: None,
            peers: Vec::new(),
            resume: true,
            overwrite: false,
            preallocate: false,
            seed_only: false,
            announce: true,
            max_down: None,
            max_up: None,
            goal: None,
        }
    }
}

//! How an engine is set up.

use std::net::IpAddr;
use std::path::PathBuf;

use super::announce::Families;
use crate::config::{DEFAULT_CLIENT_NAME, DEFAULT_PEER_ID_PREFIX, DhtConfig};
use crate::limits;

/// The settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The program's name and version, for peers.
    pub client_name: String,
    /// The first eight bytes of every peer id.
    pub peer_id_prefix: [u8; 8],
    /// The port that peers connect to, for announces and the extension handshake; 0 for none.
    pub listen_port: u16,
    /// The port that datagrams come to, for peers that have a node of the DHT; 0 for none.
    pub datagram_port: u16,
    /// Received bytes per second, all torrents together.
    pub max_down: Option<u64>,
    /// Sent bytes per second, all torrents together.
    pub max_up: Option<u64>,
    /// Memory for payload on its way to the disk, in bytes.
    pub span_memory: usize,
    /// Memory of buffers outside the engine, in bytes; added in [`TorrentStatus::buffers_peak`](
    /// crate::TorrentStatus::buffers_peak).
    pub fixed_memory: usize,
    /// Verify jobs of one torrent under way at a time, at least 1.
    pub verify_jobs: usize,
    /// The most connections.
    pub max_connections: usize,
    /// The most connections without a complete handshake, in and out together.
    pub max_half_open: usize,
    /// The most files that the store has open: see [`piece_store::Resources::open_files`].
    pub open_files: usize,
    /// The most connections of one torrent.
    pub max_peers_per_torrent: usize,
    /// Peers of one torrent that are unchoked at a time; see
    /// [`SessionConfig::upload_slots`](crate::SessionConfig::upload_slots).
    pub upload_slots: usize,
    /// Where journals are kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// The address trackers should give to peers.
    pub announce_ip: Option<IpAddr>,
    /// Whether IPv4 and IPv6 can be used.
    pub families: Families,
    /// Whether peers of public torrents are told of each other, and name others (BEP 11).
    pub pex: bool,
    /// Whether peers of public torrents are looked for in the local network (BEP 14).
    pub lsd: bool,
    /// How peers of public torrents are found in the DHT; `None` if not at all.
    pub dht: Option<DhtConfig>,
    /// The seed of all random choices.
    pub seed: u64,
}

impl EngineConfig {
    /// IPv4 and IPv6, no rate limits, no journals, one worker; otherwise the defaults of a session.
    pub fn new(seed: u64) -> Self {
        Self {
            client_name: DEFAULT_CLIENT_NAME.to_owned(),
            peer_id_prefix: DEFAULT_PEER_ID_PREFIX,
            listen_port: 0,
            datagram_port: 0,
            max_down: None,
            max_up: None,
            span_memory: limits::span_memory(limits::DEFAULT_MAX_MEMORY, 1),
            fixed_memory: limits::fixed_memory(1),
            verify_jobs: 1 + limits::VERIFY_AHEAD,
            max_connections: limits::DEFAULT_MAX_CONNECTIONS,
            max_half_open: limits::MAX_HALF_OPEN,
            open_files: piece_store::MAX_OPEN_FILES,
            max_peers_per_torrent: limits::DEFAULT_MAX_PEERS_PER_TORRENT,
            upload_slots: limits::DEFAULT_UPLOAD_SLOTS,
            state_dir: None,
            announce_ip: None,
            families: Families { v4: true, v6: true },
            pex: true,
            lsd: false,
            dht: None,
            seed,
        }
    }
}

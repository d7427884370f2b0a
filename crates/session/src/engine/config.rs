//! How an engine is set up.

use std::net::IpAddr;
use std::path::PathBuf;

use super::announce::Families;
use crate::config::{DEFAULT_CLIENT_NAME, DEFAULT_PEER_ID_PREFIX};
use crate::limits;

/// What the engine must know of the machine and the user's wishes.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The program's name and version, for peers.
    pub client_name: String,
    /// The first eight bytes of every peer id.
    pub peer_id_prefix: [u8; 8],
    /// The port others reach us on, for announces and the extension handshake; 0 for none.
    pub listen_port: u16,
    /// Received bytes a second, all torrents together.
    pub max_down: Option<u64>,
    /// Sent bytes a second, all torrents together.
    pub max_up: Option<u64>,
    /// Memory for payload on its way to the disk, in bytes.
    pub span_memory: usize,
    /// Memory of other buffers that is taken whatever happens, in bytes: only reported.
    pub fixed_memory: usize,
    /// Verify jobs of one torrent under way at a time, at least 1.
    pub verify_jobs: usize,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections without a complete handshake, in and out together.
    pub max_half_open: usize,
    /// Files that the store may have open: see [`piece_store::Resources::open_files`].
    pub open_files: usize,
    /// Connections of one torrent.
    pub max_peers_per_torrent: usize,
    /// Peers of one torrent that are unchoked at a time, at least; see
    /// [`SessionConfig::upload_slots`](crate::SessionConfig::upload_slots).
    pub upload_slots: usize,
    /// Where journals are kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// The address trackers should give to peers.
    pub announce_ip: Option<IpAddr>,
    /// Whether IPv4 and IPv6 can be used.
    pub families: Families,
    /// The number all random choices come from.
    pub seed: u64,
}

impl EngineConfig {
    /// IPv4 and IPv6 without rate limits and journals; the memory, connections and open files of a
    /// session by default; one worker.
    pub fn new(seed: u64) -> Self {
        Self {
            client_name: DEFAULT_CLIENT_NAME.to_owned(),
            peer_id_prefix: DEFAULT_PEER_ID_PREFIX,
            listen_port: 0,
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
            seed,
        }
    }
}

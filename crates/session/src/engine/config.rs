//! How an engine is set up.

use std::net::IpAddr;
use std::path::PathBuf;

use super::announce::Families;

/// What the engine must know of the machine and the user's wishes.
#[derive(Debug, Clone)]
pub struct EngineConfig {
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

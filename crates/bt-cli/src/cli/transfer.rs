//! The arguments of the commands that take part in a swarm.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values;
use super::{DiscoveryArgs, SourceArgs, TrustArgs};

/// The heading of the network flags in the help.
pub(super) const NETWORK: &str = "Network";

/// How to reach peers and be reached by them.
#[derive(Debug, Args)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct NetworkArgs {
    /// Also connect to this peer (HOST:PORT); may be given more than once
    #[arg(long = "peer", value_name = "ADDR")]
    pub(crate) peers: Vec<String>,
    #[command(flatten)]
    pub(crate) discovery: DiscoveryArgs,
    /// Listen on and connect from this address only
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// Download at most RATE bytes per second, for example 2M (K, M, G: powers of 1024; 0: no
    /// limit)
    #[arg(long, value_name = "RATE", value_parser = values::rate)]
    pub(crate) max_down: Option<u64>,
    /// Upload at most RATE bytes per second, for example 500K (0: no limit)
    #[arg(long, value_name = "RATE", value_parser = values::rate)]
    pub(crate) max_up: Option<u64>,
    /// Connect to at most N peers per torrent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_peers: Option<u16>,
    /// Announce this address to trackers instead of the one they see
    #[arg(long, value_name = "IP")]
    pub(crate) announce_ip: Option<IpAddr>,
    /// Neither ask peers for other peers nor name any to them (PEX)
    #[arg(long)]
    pub(crate) no_pex: bool,
    /// Use at most SIZE bytes of memory for all buffers together; at least 16M
    #[arg(long, value_name = "SIZE", default_value = "40M", value_parser = values::memory)]
    pub(crate) max_memory: usize,
}

/// Where the record of verified pieces is.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Resuming")]
pub(crate) struct StateArgs {
    /// Where to keep the record of verified pieces, the torrents of links and the nodes of the DHT
    /// [default: bt-cli in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// How to treat existing data and its record.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resuming")]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Verify everything instead of trusting the record of an earlier launch
    #[arg(long)]
    pub(crate) no_resume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PieceArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The number of the piece, from 0
    pub(crate) index: u32,
    /// Where to write the piece, - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Give up after this time without the piece, for example 30s or 1h30m; 0 for never
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::time)]
    pub(crate) stall_timeout: Duration,
    /// Replace the output file if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// .torrent files, HTTP(S) URLs of them, magnet links, info-hashes, or - for standard input
    #[arg(required = true, value_name = "TORRENT")]
    pub(crate) torrents: Vec<OsString>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// The folder to download into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,
    /// Only these files: numbers as `info` shows them (0,3-5), the name of a file or folder, or a
    /// pattern ('*.flac'); may be given more than once
    #[arg(long, value_name = "FILES")]
    pub(crate) files: Vec<String>,
    /// Keep seeding when the download is complete
    #[arg(long)]
    pub(crate) seed: bool,
    /// Keep seeding until R times the torrent's size has been uploaded
    #[arg(long, value_name = "R", value_parser = values::ratio)]
    pub(crate) ratio: Option<f64>,
    /// Keep seeding for this time, for example 90m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) seed_time: Option<Duration>,
    /// Give up if not finished after this time
    #[arg(long, value_name = "TIME", value_parser = values::limit)]
    pub(crate) timeout: Option<Duration>,
    /// Give up after this time without a verified piece; 0 for never
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = values::time)]
    pub(crate) stall_timeout: Duration,
    /// Give up if the metadata of a magnet link is not there after this time; 0 for never
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = values::time)]
    pub(crate) metadata_timeout: Duration,
    /// Save the .torrent file of a magnet link here; a folder for several links
    #[arg(long, value_name = "PATH")]
    pub(crate) save_torrent: Option<PathBuf>,
    /// Overwrite existing files that do not belong to the torrent
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Reserve the disk space of every file at once
    #[arg(long)]
    pub(crate) preallocate: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SeedArgs {
    /// .torrent files, HTTP(S) URLs of them, or - for standard input; then the folder that contains
    /// the torrents' files and folders
    // One list, so that flags may come between its items.
    #[arg(required = true, value_name = "TORRENT")]
    pub(crate) torrents_and_dir: Vec<OsString>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Stop when R times the torrent's size has been uploaded
    #[arg(long, value_name = "R", value_parser = values::ratio)]
    pub(crate) ratio: Option<f64>,
    /// Stop after seeding for this time, for example 90m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) seed_time: Option<Duration>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

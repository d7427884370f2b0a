//! The command line: commands, flags, and their help.

mod dht;
mod discovery;
mod transfer;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

pub(crate) use dht::{
    AskArgs, DhtArgs, DhtCommand, DhtGetArgs, DhtNodeArgs, DhtPingArgs, DhtPutArgs, DhtTorrentArgs,
};
pub(crate) use discovery::{DiscoveryArgs, JoinArgs, UseDhtArgs};
pub(crate) use transfer::{DownloadArgs, NetworkArgs, PieceArgs, SeedArgs, StateArgs};
pub(crate) use values::Routers;

const ABOUT: &str = "\
A BitTorrent client for the shell.

TORRENT is a .torrent file, an http:// or https:// URL of one, a magnet link, an info-hash, or - for \
standard input. DIR is always the folder that contains, or will contain, the torrent's file or folder.

SIZE and RATE take K, M, G and T, which are powers of 1024 (3M, 3MB and 3MiB are the same). TIME \
takes s, m, h and d, also together (1h30m); without a unit it is in seconds.";

const AFTER_HELP: &str = "\
Examples:
  bt-cli info example.torrent
  bt-cli download example.torrent -o ~/Downloads
  bt-cli create photos -t http://tracker.example/announce -o photos.torrent
  bt-cli peers example.torrent --json | jq .peers

Exit codes:
  0    done
  1    failure      anything not listed below
  2    usage        a wrong argument: flag, piece index, address, data that create cannot share
  3    bad_torrent  not a torrent, or one that contradicts itself
  4    network      tracker or peer unreachable, refused, answered wrongly, or no peers
  5    bad_data     the data does not match the torrent
  6    disk         a file or folder cannot be read or written, or is in the way
  130  interrupted  by Ctrl-C, SIGTERM or SIGHUP

With --json every command prints one JSON object per line on standard output; after a failure the
last line is {\"error\": {\"class\": .., \"message\": ..}}.";

/// Where the help shows the flags of every command.
const EVERY_COMMAND: &str = "Every command";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "bt-cli",
    version,
    about = "A BitTorrent client for the shell",
    long_about = ABOUT,
    after_help = AFTER_HELP,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct GlobalArgs {
    /// Print JSON for programs, one object per line
    #[arg(long, global = true, help_heading = EVERY_COMMAND)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, help_heading = EVERY_COMMAND)]
    pub(crate) quiet: bool,
    /// Log more to standard error; -vv logs still more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = EVERY_COMMAND)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show bencoded data as readable text
    #[command(after_help = "\
Examples:
  bt-cli decode 'd3:cow3:moo4:spaml1:a1:bee'
  bt-cli decode example.torrent
  curl -s http://tracker.example/scrape | bt-cli decode -")]
    Decode(DecodeArgs),
    /// Show what a torrent contains
    #[command(after_help = "\
Examples:
  bt-cli info example.torrent
  bt-cli info https://example.org/example.torrent
  bt-cli info 'magnet:?xt=urn:btih:..' -o example.torrent
  bt-cli info example.torrent --json | jq -r .magnet")]
    Info(InfoArgs),
    /// Ask a torrent's trackers and the DHT for peers
    #[command(after_help = "\
All trackers are asked at once, and the DHT unless the torrent is private; one answer with peers is \
enough for exit code 0. The DHT is not told that you are a peer.

Examples:
  bt-cli peers example.torrent
  bt-cli peers 52d123ddfc4de05165c10784bb535d4c40397d45
  bt-cli peers example.torrent --timeout 5 --json | jq -r '.peers[]'")]
    Peers(PeersArgs),
    /// Ask a torrent's trackers and the DHT how many seeders and leechers it has
    #[command(after_help = "\
Examples:
  bt-cli scrape example.torrent
  bt-cli scrape example.torrent --json")]
    Scrape(ScrapeArgs),
    /// Connect to one peer and show what it says about itself
    #[command(after_help = "\
Examples:
  bt-cli handshake example.torrent 127.0.0.1:6881
  bt-cli handshake example.torrent '[::1]:6881' --timeout 5")]
    Handshake(HandshakeArgs),
    /// Ask the DHT, or take part in it
    #[command(after_help = "\
The DHT is a distributed table that says which peers a torrent has. Commands that ask it join it \
through --dht-node, the nodes of earlier launches, or well-known routers.

Examples:
  bt-cli dht peers 52d123ddfc4de05165c10784bb535d4c40397d45
  bt-cli dht node --port 6881")]
    Dht(DhtArgs),
    /// Download and verify one piece
    #[command(
        name = "download_piece",
        visible_alias = "download-piece",
        after_help = "\
Examples:
  bt-cli download_piece example.torrent 0 -o piece_0.dat
  bt-cli download_piece example.torrent 7 -o - | sha1sum"
    )]
    DownloadPiece(PieceArgs),
    /// Download torrents; interrupted ones resume where they stopped
    #[command(after_help = "\
Examples:
  bt-cli download example.torrent
  bt-cli download -o ~/Downloads \\
      'magnet:?xt=urn:btih:52d123ddfc4de05165c10784bb535d4c40397d45'
  bt-cli download one.torrent https://example.org/two.torrent -o ~/Downloads
  bt-cli download example.torrent --files 0,3-5
  bt-cli download example.torrent --files 'Season 1'
  bt-cli download example.torrent --files '*.flac' --max-up 200K
  bt-cli download example.torrent --peer 192.0.2.7:6881 --seed --ratio 2")]
    Download(DownloadArgs),
    /// Make a .torrent file from a file or folder
    #[command(after_help = "\
Each -t is a tier of its own; trackers of one tier are separated by commas.

Symbolic links are followed; those that lead out of PATH are named. Sockets, pipes, devices and the \
output itself are left out.

Examples:
  bt-cli create photos -t http://tracker.example/announce
  bt-cli create film.mkv -t udp://one.example:6969,udp://two.example:6969 \\
    -t http://last.example/announce
  bt-cli create photos --private --source EXAMPLE -o - > photos.torrent")]
    Create(CreateArgs),
    /// Check downloaded data against a torrent
    #[command(after_help = "\
Examples:
  bt-cli verify example.torrent ~/Downloads
  bt-cli verify example.torrent . --json | jq '.bad'")]
    Verify(VerifyArgs),
    /// Serve what you have of torrents to other peers
    #[command(
        override_usage = "bt-cli seed [OPTIONS] <TORRENT>... <DIR>",
        after_help = "\
The last argument is the folder; all torrents are served from it.

Examples:
  bt-cli seed example.torrent ~/Downloads
  bt-cli seed one.torrent two.torrent ~/Downloads
  bt-cli seed example.torrent . --max-up 1M --ratio 2
  bt-cli seed example.torrent . --seed-time 2h"
    )]
    Seed(SeedArgs),
    /// Print completions for a shell
    #[command(after_help = "\
Example:
  bt-cli completions bash > ~/.local/share/bash-completion/completions/bt-cli")]
    Completions(CompletionsArgs),
    /// Write the man pages into a folder
    #[command(after_help = "\
Example:
  bt-cli man ~/.local/share/man/man1")]
    Man(ManArgs),
}

/// Where a torrent comes from.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// A .torrent file, an HTTP(S) URL of one, a magnet link, an info-hash, or - for standard input
    pub(crate) torrent: OsString,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

/// Which certificates to trust for HTTPS.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Trust the certificates in this file (PEM) for HTTPS, instead of the public authorities
    #[arg(long, value_name = "FILE", help_heading = transfer::NETWORK)]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// Bencoded text, a file, or - for standard input
    pub(crate) input: OsString,
    /// Refuse dictionaries whose keys are not sorted
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Show what a magnet link alone says, and ask nobody
    #[arg(long)]
    pub(crate) offline: bool,
    /// Write the .torrent file here instead of showing it, - for standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "offline")]
    pub(crate) output: Option<PathBuf>,
    /// Give up if the metadata of a magnet link is not there after this time; 0 for never
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::time)]
    pub(crate) metadata_timeout: Duration,
    /// Also ask this peer (HOST:PORT) for the metadata of a magnet link; may be given more than once
    #[arg(long = "peer", value_name = "ADDR", help_heading = transfer::NETWORK)]
    pub(crate) peers: Vec<String>,
    #[command(flatten)]
    pub(crate) discovery: DiscoveryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How long to wait for the trackers and the DHT
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    pub(crate) timeout: Duration,
    /// The port to announce to trackers [default: random, so that no client of yours is taken for this one]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// How many peers to ask each tracker for
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) num_want: u32,
    /// Announce this address to trackers instead of the one they see
    #[arg(long, value_name = "IP")]
    pub(crate) announce_ip: Option<std::net::IpAddr>,
    #[command(flatten)]
    pub(crate) dht: UseDhtArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScrapeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How long to wait for the trackers and the DHT
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) dht: UseDhtArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HandshakeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The peer, as HOST:PORT; an IPv6 address in brackets
    pub(crate) address: String,
    /// How long to wait for the peer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The file or folder to share
    pub(crate) path: PathBuf,
    /// A tracker URL, or several of one tier separated by commas; repeat for each further tier
    #[arg(short, long = "tracker", value_name = "URL")]
    pub(crate) trackers: Vec<String>,
    /// Where to write the torrent, or - for standard output [default: NAME.torrent]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The piece length, for example 256K; chosen by the size if not given
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = values::piece_length)]
    pub(crate) piece_length: Option<u32>,
    /// A web seed (BEP 19); may be given more than once
    #[arg(short, long = "web-seed", value_name = "URL")]
    pub(crate) web_seeds: Vec<String>,
    /// Mark the torrent as private: peers come from its trackers only (BEP 27)
    #[arg(short, long)]
    pub(crate) private: bool,
    /// A text that gives the torrent its own info-hash, as private trackers ask for
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// A comment in the torrent
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// The name in the torrent [default: the name of PATH]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Leave out the creation date and the creator, so that the same content gives the same file
    #[arg(long)]
    pub(crate) no_date: bool,
    /// Replace the output file if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The folder that contains the torrent's file or folder
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder; it is created if it does not exist
    pub(crate) dir: PathBuf,
}

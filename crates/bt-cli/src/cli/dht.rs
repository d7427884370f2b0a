//! The commands below `dht`, and their arguments.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::JoinArgs;
use super::transfer::NETWORK;
use super::values::{self, Ports};

#[derive(Debug, Args)]
pub(crate) struct DhtArgs {
    #[command(subcommand)]
    pub(crate) command: DhtCommand,
}

/// The commands below `dht`.
#[derive(Debug, Subcommand)]
pub(crate) enum DhtCommand {
    /// Look for peers of a torrent
    #[command(after_help = "\
Nothing is announced.

Examples:
  bt-cli dht peers 52d123ddfc4de05165c10784bb535d4c40397d45
  bt-cli dht peers 'magnet:?xt=urn:btih:..' --json | jq -r '.peers[]'")]
    Peers(DhtTorrentArgs),
    /// Ask how many seeders and leechers a torrent has
    #[command(after_help = "\
The numbers are estimates: nodes tell them without naming the peers (BEP 33).

Example:
  bt-cli dht scrape 52d123ddfc4de05165c10784bb535d4c40397d45")]
    Scrape(DhtTorrentArgs),
    /// Find an item, data of any kind, and print its value
    #[command(after_help = "\
TARGET has 40 hexadecimal digits, PUBKEY 64. The value is verified. Of a mutable item it is the newest \
version that was found.

Examples:
  bt-cli dht get 7df83f3b5ce8c9d71a2e1d6a1bd3b2f2dd8a1f30
  bt-cli dht get PUBKEY --salt news --json | jq .value")]
    Get(DhtGetArgs),
    /// Store an item, data of any kind, of at most 1000 bytes
    #[command(after_help = "\
Without --key the item is immutable: its target is the hash of its value. With --key it is found by the \
public key, and only the owner of the key can replace it. Nodes forget an item after two hours, unless \
it is put again.

FILE of --key has the private key: the seed of Ed25519 (RFC 8032), 32 bytes, as 64 hexadecimal digits. \
If the file does not exist, it is created with a new key, for you alone to read.

Examples:
  bt-cli dht put 'hello, world'
  bt-cli dht put --file data.bin
  bt-cli dht put 'version 2' --key my.key --salt news")]
    Put(DhtPutArgs),
    /// Ask a node for its id
    #[command(after_help = "\
Example:
  bt-cli dht ping 127.0.0.1:6881")]
    Ping(DhtPingArgs),
    /// Run a node that answers others, until a signal ends it
    #[command(after_help = "\
Examples:
  bt-cli dht node
  bt-cli dht node --port 6881 --json | jq .nodes_v4
  bt-cli dht node --dht-node 192.0.2.7:6881 --dht-routers none")]
    Node(DhtNodeArgs),
}

/// How to ask the DHT.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// How long to wait for the nodes
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    #[command(flatten)]
    pub(crate) socket: DhtSocketArgs,
}

/// The socket of a node.
#[derive(Debug, Args)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct DhtSocketArgs {
    /// Use this UDP port, or the first free one of a range; 0 for any [default: 6881-6889 for dht
    /// node, otherwise any]
    #[arg(long, value_name = "PORTS", value_parser = values::ports)]
    port: Option<Ports>,
    /// Use this address only
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
}

impl DhtSocketArgs {
    /// Returns the ports to try for a node that others look for.
    pub(crate) fn node_ports(&self) -> RangeInclusive<u16> {
        self.ports_or(6881..=6889)
    }

    /// Returns the ports to try for a node that only asks.
    pub(crate) fn asking_ports(&self) -> RangeInclusive<u16> {
        self.ports_or(0..=0)
    }

    fn ports_or(&self, default: RangeInclusive<u16>) -> RangeInclusive<u16> {
        self.port.as_ref().map_or(default, |ports| ports.0.clone())
    }
}

/// A torrent that the DHT is asked about.
#[derive(Debug, Args)]
pub(crate) struct DhtTorrentArgs {
    /// An info-hash or a magnet link
    #[arg(value_name = "HASH|LINK")]
    pub(crate) torrent: String,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DhtGetArgs {
    /// The target of the item, or the public key of its owner
    #[arg(value_name = "TARGET|PUBKEY")]
    pub(crate) target: String,
    /// The salt that tells items of one key apart
    #[arg(long, value_name = "TEXT")]
    pub(crate) salt: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DhtPutArgs {
    /// The value
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// Take the value from this file, - for standard input
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// The value is bencode, not text: it may be a number, a list or a dictionary
    #[arg(long)]
    pub(crate) bencode: bool,
    /// Sign with the private key in this file; the item is mutable
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// A text that tells items of one key apart
    #[arg(long, value_name = "TEXT", requires = "key")]
    pub(crate) salt: Option<String>,
    /// The version [default: one more than the newest that is found]
    #[arg(long, value_name = "N", requires = "key", value_parser = values::seq)]
    pub(crate) seq: Option<i64>,
    /// Replace the item only where its version is N
    #[arg(long, value_name = "N", requires = "key", value_parser = values::seq)]
    pub(crate) cas: Option<i64>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DhtPingArgs {
    /// The node, as HOST:PORT; an IPv6 address in brackets
    pub(crate) address: String,
    /// How long to wait for the node
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::limit)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) socket: DhtSocketArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DhtNodeArgs {
    /// Where the nodes are kept for the next launch [default: bt-cli in $XDG_STATE_HOME or
    /// ~/.local/state]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    #[command(flatten)]
    pub(crate) socket: DhtSocketArgs,
}

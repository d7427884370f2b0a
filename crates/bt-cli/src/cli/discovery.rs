//! The flags that say how peers are looked for.

use clap::Args;

use super::transfer::NETWORK;
use super::values::{self, Ports, Routers};

/// How to look for peers.
#[derive(Debug, Args)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct DiscoveryArgs {
    /// Listen on this port, or on the first free one of a range; 0 for any
    #[arg(long, value_name = "PORTS", default_value = "6881-6889", value_parser = values::ports)]
    pub(crate) port: Ports,
    #[command(flatten)]
    pub(crate) dht: UseDhtArgs,
    /// Do not look for peers in the local network
    #[arg(long)]
    pub(crate) no_lsd: bool,
}

/// Whether to use the DHT, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct UseDhtArgs {
    /// Do not use the DHT
    #[arg(long)]
    pub(crate) no_dht: bool,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
}

/// Which nodes of the DHT to start from.
#[derive(Debug, Args)]
#[command(next_help_heading = NETWORK)]
pub(crate) struct JoinArgs {
    /// Join the DHT through this node (HOST:PORT); may be given more than once
    #[arg(long = "dht-node", value_name = "ADDR", value_parser = values::host_and_port)]
    pub(crate) dht_nodes: Vec<String>,
    /// The routers of the DHT to ask if no node is known (HOST:PORT, separated by commas), or none
    /// [default: three well-known ones]
    #[arg(long, value_name = "LIST", value_parser = values::routers)]
    pub(crate) dht_routers: Option<Routers>,
}

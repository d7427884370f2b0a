//! A node of the DHT on loopback that answers without budgets until it is ended, for measurements.
//!
//! `cargo run --release -p session --example answer ADDRESS:PORT [NODE:PORT..]`
//!
//! It joins through the given nodes, and answers with those of them that answered.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // It runs until it is ended.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use session::DhtConfig;
use session::node::Node;

/// How long one call takes part in the DHT.
const TURN: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let addresses = std::env::args().skip(1).map(|word| word.parse());
    let addresses: Vec<SocketAddr> = addresses.collect::<Result<_, _>>()?;
    let (own, nodes) = addresses.split_first().ok_or("no address to listen on")?;
    if !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err("a node without budgets is only for loopback".into());
    }
    let nodes = nodes.iter().map(ToString::to_string).collect();
    let config = DhtConfig { nodes, routers: Vec::new(), throttle: false, ..DhtConfig::new() };
    let mut node = Node::start(&config, &(own.port()..=own.port()), Some(own.ip()))?;
    loop {
        node.run(TURN);
    }
}

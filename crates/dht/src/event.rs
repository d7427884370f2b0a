//! What goes in and out of a [`Dht`](crate::Dht).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::NodeId;

/// Names what was asked for, in the events that belong to it. Keys are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupKey(pub(crate) u64);

/// Whether a lookup for peers also announces us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// It only reads.
    No,
    /// It announces that a peer listens at this port of our address.
    Port {
        /// The port. Nodes refuse 0 and 1.
        port: u16,
        /// Whether we have the whole torrent (BEP 33).
        seed: bool,
    },
}

/// A datagram to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Peers of the torrent, at least one, none of which was in an earlier event of this lookup.
    Peers {
        /// The lookup.
        lookup: LookupKey,
        /// Who named them; `None` for peers that announced to us.
        from: Option<SocketAddr>,
        /// The peers.
        addresses: Vec<SocketAddr>,
    },
    /// The nodes closest to the target that answered, at the end of [`find_nodes`].
    ///
    /// [`find_nodes`]: crate::Dht::find_nodes
    Nodes {
        /// The lookup.
        lookup: LookupKey,
        /// The nodes, [`K`](crate::K) of each family at most, first those of IPv4; the closest first.
        nodes: Vec<(NodeId, SocketAddr)>,
    },
    /// How many peers the torrent has, at the end of [`scrape`](crate::Dht::scrape). Estimates from
    /// filters (BEP 33).
    Scraped {
        /// The lookup.
        lookup: LookupKey,
        /// The number of seeds.
        seeds: u32,
        /// The number of other peers.
        peers: u32,
    },
    /// The item that a lookup found; it is verified.
    #[cfg(feature = "items")]
    Item {
        /// The lookup.
        lookup: LookupKey,
        /// The item.
        item: crate::Item,
    },
    /// The answer to a [`ping`](crate::Dht::ping).
    Pong {
        /// The ping.
        lookup: LookupKey,
        /// The node's id.
        id: NodeId,
        /// How long the answer took.
        rtt: Duration,
    },
    /// A lookup, scrape or ping is over. The last event with its key.
    Done {
        /// Its key.
        lookup: LookupKey,
        /// What it took.
        stats: Stats,
    },
    /// Nobody answers, or nobody is known: resolve the names of the routers and pass their addresses
    /// to [`handle_routers`](crate::Dht::handle_routers).
    RoutersWanted,
    /// Nodes of eight networks, and two thirds of all, see us at this address (BEP 42). Our id of the
    /// family is one that fits it now.
    Address {
        /// The address.
        ip: IpAddr,
    },
}

/// What a lookup took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Queries sent, without those that store something.
    pub asked: u32,
    /// Nodes that answered.
    pub answered: u32,
    /// Nodes that confirmed that they stored something.
    pub stored: u32,
    /// Nodes that have another version of the item that was put (BEP 44, errors 301 and 302).
    pub conflicts: u32,
    /// The time since it was requested.
    pub elapsed: Duration,
}

/// How a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Status {
    /// Nodes in the routing table for IPv4.
    pub nodes_v4: usize,
    /// Nodes in the routing table for IPv6.
    pub nodes_v6: usize,
    /// Lookups that run.
    pub lookups: usize,
    /// Lookups that wait until others are over.
    pub queued: usize,
    /// Queries that wait for an answer; at most [`MAX_CALLS`](crate::MAX_CALLS).
    pub calls: usize,
    /// Torrents for which peers are stored here.
    pub torrents: usize,
    /// Peers that are stored here.
    pub peers: usize,
    /// The time after which a silent node no longer holds a lookup up.
    pub short_timeout: Duration,
    /// About how many bytes the node has allocated; at most [`DHT_MEMORY`](crate::DHT_MEMORY).
    pub memory: usize,
    /// What has been counted since the start.
    pub counters: Counters,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// Of them, those that are no message, or came from an address where nobody can be.
    pub malformed: u64,
    /// Queries received.
    pub queries: u64,
    /// Queries that got an answer or an error.
    pub answered: u64,
    /// Queries that got no answer because of a budget for answers.
    pub throttled: u64,
    /// Answers to no query of ours.
    pub unmatched: u64,
    /// Answers with another id than expected.
    pub mismatched: u64,
    /// Queries sent.
    pub sent: u64,
    /// The bytes of these queries.
    pub sent_bytes: u64,
}

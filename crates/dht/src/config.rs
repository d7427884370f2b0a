//! How a node is set up.

use crate::{NodeId, SavedState};

/// The configuration of a [`Dht`](crate::Dht).
#[derive(Debug, Clone)]
pub struct Config {
    /// Where all random choices come from. It has to be random and secret, because anybody who knows
    /// it can forge tokens and answers.
    pub seed: [u8; 32],
    /// Whether there is a socket for IPv4.
    pub v4: bool,
    /// Whether there is a socket for IPv6.
    pub v6: bool,
    /// Our id in the IPv4 DHT; `None` for the saved one, or else a random one.
    pub id_v4: Option<NodeId>,
    /// Our id in the IPv6 DHT; `None` for the saved one, or else a random one.
    pub id_v6: Option<NodeId>,
    /// What an earlier launch saved. Two nodes that run at the same time must not have the same ids.
    pub state: Option<SavedState>,
    /// Whether we answer no queries and say so in ours (BEP 43).
    pub read_only: bool,
    /// Whether local addresses are contacted: those from the caller, and those that a node at a
    /// local address names.
    pub accept_local: bool,
    /// Whether [`Event::RoutersWanted`](crate::Event::RoutersWanted) is reported.
    pub wants_routers: bool,
    /// Whether the budgets for answers and for queries hold. Only benchmarks turn them off.
    pub throttle: bool,
    /// Our program and version, sent as `v` (BEP 5): two letters of BEP 20 and two bytes.
    pub version: Option<[u8; 4]>,
}

impl Config {
    /// Returns a configuration of a node with random ids that answers queries over IPv4 and IPv6.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            v4: true,
            v6: true,
            id_v4: None,
            id_v6: None,
            state: None,
            read_only: false,
            accept_local: true,
            wants_routers: true,
            throttle: true,
            version: None,
        }
    }
}

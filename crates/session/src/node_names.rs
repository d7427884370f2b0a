//! Nodes of the DHT that are known by `host:port`: those of the user, of torrents and links, and
//! routers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use dht::Dht;

use crate::engine::Resolved;
use crate::limits::MAX_NODE_NAMES;

/// What a node is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Node,
    /// It helps others to join, and is not to be used otherwise.
    Router,
}

/// Addresses that were found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    nodes: Vec<SocketAddr>,
    routers: Vec<SocketAddr>,
}

impl Found {
    /// Has `node` ask at these addresses.
    pub(crate) fn pass_to(self, node: &mut Dht, now: Duration) {
        self.nodes.into_iter().for_each(|address| node.handle_node(now, address));
        if !self.routers.is_empty() {
            node.handle_routers(now, &self.routers);
        }
    }

    fn add(&mut self, role: Role, address: SocketAddr) {
        match role {
            Role::Node => self.nodes.push(address),
            Role::Router => self.routers.push(address),
        }
    }
}

/// The names, and those that are being looked up.
#[derive(Debug)]
pub(crate) struct NodeNames {
    nodes: Vec<String>,
    routers: Vec<String>,
    /// Names to look up.
    queue: VecDeque<String>,
    /// The ports and roles that wait for a name.
    asked: BTreeMap<String, Vec<(u16, Role)>>,
}

impl NodeNames {
    pub(crate) fn new(nodes: &[String], routers: &[String]) -> Self {
        let (nodes, routers) = (nodes.to_vec(), routers.to_vec());
        Self { nodes, routers, queue: VecDeque::new(), asked: BTreeMap::new() }
    }

    /// A name was looked up, perhaps for somebody else.
    pub(crate) fn handle_resolved(&mut self, host: &str, result: &Resolved) -> Found {
        let mut found = Found::default();
        let waiting = self.asked.remove(host).unwrap_or_default();
        for ip in result.as_deref().unwrap_or_default() {
            for (port, role) in &waiting {
                found.add(*role, SocketAddr::new(*ip, *port));
            }
        }
        found
    }

    /// Returns the user's nodes that are given by address; the names of the others are looked up.
    pub(crate) fn look_up_nodes(&mut self) -> Found {
        self.look_up(self.nodes.clone())
    }

    /// The same for nodes that a torrent or a link names.
    pub(crate) fn look_up(&mut self, nodes: impl IntoIterator<Item = String>) -> Found {
        let mut found = Found::default();
        nodes.into_iter().for_each(|node| self.look_up_one(&node, Role::Node, &mut found));
        found
    }

    /// The same for the user's nodes and the routers, because nobody answers.
    pub(crate) fn look_up_again(&mut self) -> Found {
        let mut found = self.look_up_nodes();
        for router in self.routers.clone() {
            self.look_up_one(&router, Role::Router, &mut found);
        }
        found
    }

    /// Returns the next name to look up.
    pub(crate) fn poll_name(&mut self) -> Option<String> {
        self.queue.pop_front()
    }

    fn look_up_one(&mut self, node: &str, role: Role, found: &mut Found) {
        if let Ok(address) = node.parse() {
            return found.add(role, address);
        }
        let Some((host, port)) = node.rsplit_once(':') else { return };
        let Ok(port) = port.parse() else { return };
        if let Ok(ip) = host.parse() {
            // An IPv6 address without brackets.
            return found.add(role, SocketAddr::new(ip, port));
        }
        if self.asked.len() < MAX_NODE_NAMES || self.asked.contains_key(host) {
            let waiting = self.asked.entry(host.to_owned()).or_insert_with(|| {
                self.queue.push_back(host.to_owned());
                Vec::new()
            });
            if !waiting.contains(&(port, role)) {
                waiting.push((port, role));
            }
        }
    }
}

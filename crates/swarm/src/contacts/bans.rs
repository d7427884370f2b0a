//! The peers that are refused because they sent bad data.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use bt_types::PeerId;

/// The refused peers: whole IP addresses, except this machine's, where many peers share one and
/// port and peer id tell them apart.
#[derive(Debug, Default)]
pub(super) struct Bans {
    ips: BTreeSet<IpAddr>,
    addresses: BTreeSet<SocketAddr>,
    ids: BTreeSet<PeerId>,
}

impl Bans {
    pub(super) fn add(&mut self, address: SocketAddr, id: PeerId) {
        let ip = address.ip().to_canonical();
        if ip.is_loopback() {
            self.addresses.insert(address);
            self.ids.insert(id);
        } else {
            self.ips.insert(ip);
        }
    }

    /// Whether connections from or to `address` are refused, or to a peer of this id.
    pub(super) fn cover(&self, address: SocketAddr, id: Option<PeerId>) -> bool {
        self.ips.contains(&address.ip().to_canonical())
            || self.addresses.contains(&address)
            || id.is_some_and(|id| self.ids.contains(&id))
    }

    /// Returns how many addresses are refused.
    pub(super) fn len(&self) -> usize {
        self.ips.len() + self.addresses.len()
    }
}

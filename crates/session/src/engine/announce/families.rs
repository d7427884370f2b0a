//! The address families over which a tracker is asked: both at the same time, if the machine and
//! the user allow both (BEP 7).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

pub use tracker_udp::Family;

/// The address families this machine and its user allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// How one leg of an announce asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Over HTTP(S), by one family or by any.
    Fetch(Option<Family>),
    /// Over UDP, at these addresses of one family, each if the ones before are silent.
    Addresses(VecDeque<SocketAddr>),
}

impl Families {
    /// Whether `ip` can be reached.
    pub fn allow(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Returns the legs of an announce to an HTTP(S) tracker. One for an address has one family.
    pub(super) fn fetches(self, host_is_address: bool) -> Vec<Ask> {
        let families = match self.v4 && self.v6 && !host_is_address {
            true => vec![Some(Family::V4), Some(Family::V6)],
            false => vec![None],
        };
        families.into_iter().map(Ask::Fetch).collect()
    }

    /// Returns the legs of an announce to a UDP tracker with these addresses; none if no address
    /// can be reached.
    pub(super) fn exchanges(self, found: &[IpAddr], port: u16) -> Vec<Ask> {
        let families = tracker_udp::addresses_to_ask(found, |ip| self.allow(*ip));
        let legs = families.into_iter().filter(|ips| !ips.is_empty());
        let addresses =
            |ips: Vec<IpAddr>| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        legs.map(|ips| Ask::Addresses(addresses(ips))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_over_both_families() {
        let both = Families { v4: true, v6: true };
        let [v4, v6] = [Family::V4, Family::V6].map(|family| Ask::Fetch(Some(family)));
        assert_eq!(both.fetches(false), [v4, v6]);
        assert_eq!(both.fetches(true), [Ask::Fetch(None)]);
        assert_eq!(Families { v4: true, v6: false }.fetches(false), [Ask::Fetch(None)]);
        let found = ["45.0.0.1", "2606:4700::1"].map(|ip| ip.parse().unwrap());
        let legs = found.map(|ip| Ask::Addresses([SocketAddr::new(ip, 7)].into()));
        assert_eq!(both.exchanges(&found, 7), legs);
        assert_eq!(Families { v4: false, v6: true }.exchanges(&found, 7), legs[1..]);
        assert!(Families { v4: true, v6: false }.exchanges(&found[1..], 7).is_empty());
    }
}

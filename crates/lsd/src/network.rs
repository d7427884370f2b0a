//! Which addresses are in a local network.

use std::net::IpAddr;

/// The network of an interface: an address in it, and how many of its leading bits are the
/// network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Makes the network that `address` is in. A `prefix` beyond the length of an address counts as
    /// that: the network has one address.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix }
    }

    /// Whether `address` is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, length) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(u32::from(ours)), u128::from(u32::from(theirs)), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.into(), theirs.into(), 128),
            _ => return false,
        };
        let host_bits = length - u32::from(self.prefix).min(length);
        (ours ^ theirs).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (network, prefix, inside, outside) in [
            ("192.168.1.7", 24, "192.168.1.255", "192.168.2.7"),
            ("192.168.1.7", 23, "192.168.0.1", "192.168.2.7"),
            ("10.0.0.1", 32, "10.0.0.1", "10.0.0.0"),
            ("10.0.0.1", 200, "10.0.0.1", "10.0.0.0"),
            ("10.0.0.1", 0, "203.0.113.1", "::1"),
            ("fe80::1", 64, "fe80::ffff:1:2:3", "fe80:0:0:1::1"),
            ("2001:db8::1", 0, "fe80::1", "10.0.0.1"),
            ("2001:db8::1", 128, "2001:db8::1", "2001:db8::2"),
        ] {
            let network = Network::new(network.parse().unwrap(), prefix);
            assert!(network.contains(inside.parse().unwrap()), "{network:?} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network:?} {outside}");
        }
    }
}

//! Which addresses may be contacted, and which of them count as one.

use std::net::{IpAddr, SocketAddr};

use bt_types::is_public;

/// An address family: each has a DHT of its own (BEP 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns the family of `address`.
    pub fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Both families.
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A group of addresses that limits count as one. Among local addresses each address and port is a
/// group, because test networks and home networks have few addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group {
    ip: u128,
    port: u16,
}

/// Returns the group of `address` alone.
pub(crate) fn host(address: SocketAddr) -> Group {
    group(address, 32, 128)
}

/// Returns the group of what one owner has at least: the IPv4 address, or the IPv6 /64.
#[cfg(feature = "items")]
pub(crate) fn owner(address: SocketAddr) -> Group {
    group(address, 32, 64)
}

/// Returns the group of the /24, or for IPv6 the /64.
pub(crate) fn net(address: SocketAddr) -> Group {
    group(address, 24, 64)
}

/// Returns the group of the /16, or for IPv6 the /48.
pub(crate) fn wide_net(address: SocketAddr) -> Group {
    group(address, 16, 48)
}

fn group(address: SocketAddr, v4_bits: u32, v6_bits: u32) -> Group {
    let (ip, kept) = match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped().to_bits(), 96 + v4_bits),
        IpAddr::V6(ip) => (ip.to_bits(), v6_bits),
    };
    if is_local(address.ip()) {
        return Group { ip, port: address.port() };
    }
    let dropped = 128 - kept;
    Group { ip: ip >> dropped << dropped, port: 0 }
}

/// Returns whether `ip` is of this machine or a local network: loopback, link-local, RFC 1918, ULA.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Returns whether a datagram may be sent to `address`, if local ones are acceptable (`local`).
pub(crate) fn is_usable(address: SocketAddr, local: bool) -> bool {
    let ip = address.ip();
    let is_mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    address.port() != 0 && !is_mapped && (is_public(ip) || local && is_local(ip))
}

/// Returns whether a peer may be at `address`. Nobody listens at port 1: it comes from nodes that
/// stored the flag `implied_port` as a port.
pub(crate) fn is_peer(address: SocketAddr, local: bool) -> bool {
    is_usable(address, local) && address.port() != 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn groups_of_public_addresses() {
        assert_eq!(host(at("45.1.2.3:1")), host(at("45.1.2.3:2")));
        assert_ne!(host(at("45.1.2.3:1")), host(at("45.1.2.4:1")));
        assert_eq!(net(at("45.1.2.3:1")), net(at("45.1.2.9:2")));
        assert_ne!(net(at("45.1.2.3:1")), net(at("45.1.3.3:1")));
        assert_eq!(wide_net(at("45.1.2.3:1")), wide_net(at("45.1.9.9:1")));
        assert_eq!(net(at("[2a00::1:2:3:4]:1")), net(at("[2a00::9:9:9:9]:1")));
        assert_ne!(net(at("[2a00::1:2:3:4]:1")), net(at("[2a00:0:0:1:2:3:4:5]:1")));
        assert_eq!(wide_net(at("[2a00:0:0:1::]:1")), wide_net(at("[2a00:0:0:2::]:1")));
        assert_ne!(wide_net(at("[2a00:0:1::]:1")), wide_net(at("[2a00:0:2::]:1")));
    }

    #[test]
    fn local_addresses_count_by_port() {
        for ip in ["127.0.0.1", "10.0.0.1", "192.168.1.1", "[fe80::1]", "[fd00::1]", "[::1]"] {
            let (a, b) = (at(&format!("{ip}:1")), at(&format!("{ip}:2")));
            for group in [host, net, wide_net] {
                assert_ne!(group(a), group(b), "{ip}");
                assert_eq!(group(a), group(a), "{ip}");
            }
        }
    }

    #[test]
    fn unusable_addresses_are_refused() {
        for (address, expected) in [
            ("45.1.2.3:6881", true),
            ("[2a00::1]:6881", true),
            ("45.1.2.3:0", false),
            ("0.1.2.3:6881", false),
            ("224.0.0.1:6881", false),
            ("255.255.255.255:6881", false),
            ("100.64.0.1:6881", false),
            ("[::]:6881", false),
            ("[ff02::1]:6881", false),
            ("[::ffff:45.1.2.3]:6881", false),
            ("[::ffff:127.0.0.1]:6881", false),
        ] {
            assert_eq!(is_usable(at(address), true), expected, "{address}");
        }
        for local in ["127.0.0.1:1", "10.1.1.1:1", "[fd00::1]:1", "[fe80::1]:1"] {
            assert!(is_usable(at(local), true) && !is_usable(at(local), false), "{local}");
        }
        assert!(!is_peer(at("45.1.2.3:1"), true) && is_peer(at("45.1.2.3:2"), true));
    }
}

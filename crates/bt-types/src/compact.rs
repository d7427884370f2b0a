//! Peer addresses packed into 6 bytes (IPv4, BEP 23) or 18 bytes (IPv6, BEP 7): the address, then
//! the port, both big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The length of a packed IPv4 address and port.
pub const V4_LENGTH: usize = 6;
/// The length of a packed IPv6 address and port.
pub const V6_LENGTH: usize = 18;

/// Returns the addresses in `bytes`, [`V4_LENGTH`] bytes each. Ignores an incomplete address at the
/// end.
pub fn decode_v4(bytes: &[u8]) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
    let (entries, _) = bytes.as_chunks::<V4_LENGTH>();
    entries.iter().map(|[a, b, c, d, port @ ..]| {
        SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes(*port)))
    })
}

/// Returns the addresses in `bytes`, [`V6_LENGTH`] bytes each. Ignores an incomplete address at the
/// end.
pub fn decode_v6(bytes: &[u8]) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
    let (entries, _) = bytes.as_chunks::<V6_LENGTH>();
    entries.iter().map(decode_one_v6)
}

/// Appends the packed `address` to `out`: [`V4_LENGTH`] or [`V6_LENGTH`] bytes.
pub fn encode(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(address.port().to_be_bytes());
}

fn decode_one_v6(entry: &[u8; V6_LENGTH]) -> SocketAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&entry[..16]);
    SocketAddr::from((Ipv6Addr::from(ip), u16::from_be_bytes([entry[16], entry[17]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        let v4: SocketAddr = "10.0.0.1:6881".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:51413".parse().unwrap();
        let mut bytes = Vec::new();
        encode(v4, &mut bytes);
        assert_eq!(bytes, [10, 0, 0, 1, 0x1a, 0xe1]);
        assert_eq!(decode_v4(&bytes).collect::<Vec<_>>(), [v4]);
        bytes.clear();
        encode(v6, &mut bytes);
        assert_eq!(bytes.len(), V6_LENGTH);
        assert_eq!(decode_v6(&bytes).collect::<Vec<_>>(), [v6]);
    }

    #[test]
    fn incomplete_address_is_ignored() {
        assert_eq!(decode_v4(&[0; 13]).len(), 2);
        assert_eq!(decode_v6(&[0; 35]).len(), 1);
        assert_eq!(decode_v6(&[0; 17]).len(), 0);
    }
}

//! Node ids: the XOR metric (BEP 5) and the tie to an IP address (BEP 42).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::address::is_local;
use bt_types::InfoHashV1;
use rand::{Rng, RngExt as _};

/// The masks of BEP 42 for the bytes of an IPv4 address.
const V4_MASK: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
/// The masks of BEP 42 for the first eight bytes of an IPv6 address.
const V6_MASK: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];

/// A point of the 160-bit space of the DHT: the id of a node, or the target of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// A node as others name it ("compact node info", BEP 5): its id and its address, either of which may
/// be wrong.
pub(crate) type NodeInfo = (NodeId, SocketAddr);

/// How far two ids are apart (BEP 5, "Overview"). Smaller is closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance(u64, u64, u32);

impl Distance {
    /// Returns the number of leading bits that the two ids share, 0 to 160.
    pub fn shared_bits(self) -> u32 {
        match self {
            Self(0, 0, low) => 128 + low.leading_zeros(),
            Self(0, middle, _) => 64 + middle.leading_zeros(),
            Self(high, ..) => high.leading_zeros(),
        }
    }
}

impl NodeId {
    /// Returns the id in `bytes`, or `None` unless there are 20.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Draws an id.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut id = [0; 20];
        rng.fill_bytes(&mut id);
        Self(id)
    }

    /// Draws an id that a node at `ip` may have (BEP 42, "Node ID restriction").
    pub fn for_address(ip: IpAddr, rng: &mut impl Rng) -> Self {
        let mut id = Self::random(rng);
        let prefix = prefix(ip, id.0[19]);
        id.0[0] = (prefix >> 24) as u8;
        id.0[1] = (prefix >> 16) as u8;
        id.0[2] = (prefix >> 8) as u8 & 0xf8 | id.0[2] & 0x07;
        id
    }

    /// Returns whether a node at `ip` may have this id (BEP 42): its first 21 bits follow from the
    /// address and the last byte.
    pub fn fits_address(&self, ip: IpAddr) -> bool {
        let [a, b, c, ..] = self.0;
        let own = u32::from_be_bytes([a, b, c, 0]);
        (own ^ prefix(ip, self.0[19])) & 0xffff_f800 == 0
    }

    /// Returns whether nothing speaks against this id at `ip`: it fits, or the address is local, where
    /// any id may be (BEP 42).
    pub(crate) fn is_compliant(&self, ip: IpAddr) -> bool {
        is_local(ip) || self.fits_address(ip)
    }

    /// Returns the distance to `other`.
    pub fn distance(&self, other: &Self) -> Distance {
        let (a, b) = (self.words(), other.words());
        Distance(a.0 ^ b.0, a.1 ^ b.1, a.2 ^ b.2)
    }

    /// Draws an id that shares exactly `bits` leading bits with this one; 159 at most.
    pub(crate) fn random_sharing(&self, bits: u32, rng: &mut impl Rng) -> Self {
        let mut id = Self(rng.random());
        let bits = bits.min(159);
        for bit in 0..=bits {
            let (byte, mask) = (bit as usize / 8, 0x80 >> (bit % 8));
            let own = self.0[byte] & mask;
            let wanted = if bit == bits { own ^ mask } else { own };
            id.0[byte] = id.0[byte] & !mask | wanted;
        }
        id
    }

    /// Returns the `width` bits that follow the first `start`, as a number; past the end they are
    /// zero. `width` is 16 at most.
    pub(crate) fn bits_after(&self, start: u32, width: u32) -> usize {
        let byte = |at: usize| u32::from(self.0.get(at).copied().unwrap_or(0));
        let at = start as usize / 8;
        let word = byte(at) << 16 | byte(at + 1) << 8 | byte(at + 2);
        (word >> (24 - start % 8 - width)) as usize & ((1 << width) - 1)
    }

    fn words(&self) -> (u64, u64, u32) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = self.0;
        (
            u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            u64::from_be_bytes([i, j, k, l, m, n, o, p]),
            u32::from_be_bytes([q, r, s, t]),
        )
    }
}

/// Our ids, in each DHT where we have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnIds(pub(crate) [Option<NodeId>; 2]);

impl OwnIds {
    /// Returns how far `target` is from the closer one.
    pub(crate) fn distance(&self, target: &NodeId) -> Option<Distance> {
        self.0.iter().flatten().map(|own| own.distance(target)).min()
    }
}

impl From<InfoHashV1> for NodeId {
    fn from(hash: InfoHashV1) -> Self {
        Self(hash.0)
    }
}

impl From<NodeId> for InfoHashV1 {
    fn from(id: NodeId) -> Self {
        Self(id.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Returns the checksum whose first 21 bits an id at `ip` has that ends with the byte `last`.
fn prefix(ip: IpAddr, last: u8) -> u32 {
    let salt = (last & 0x07) << 5;
    match ip {
        IpAddr::V4(ip) => salted_checksum(ip.octets(), V4_MASK, salt),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            salted_checksum([a, b, c, d, e, f, g, h], V6_MASK, salt)
        }
    }
}

fn salted_checksum<const N: usize>(mut ip: [u8; N], mask: [u8; N], salt: u8) -> u32 {
    ip.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
    ip[0] |= salt;
    crc32c(&ip)
}

/// The checksum of Castagnoli. The inputs have 4 or 8 bytes, so a table would not pay.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[track_caller]
    fn check_bep_42(ip: &str, id: &str) {
        let ip: IpAddr = ip.parse().unwrap();
        let id = NodeId::from(id.parse::<InfoHashV1>().unwrap());
        assert!(id.fits_address(ip), "{ip}");
        for bit in 0..21 {
            let mut other = id;
            other.0[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(!other.fits_address(ip), "{ip} bit {bit}");
        }
        for byte in 3..19 {
            let mut other = id;
            other.0[byte] ^= 0xff;
            assert!(other.fits_address(ip), "{ip} byte {byte}");
        }
    }

    /// BEP 42, "test vectors".
    #[test]
    fn vectors_of_bep_42() {
        check_bep_42("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401");
        check_bep_42("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256");
        check_bep_42("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616");
        check_bep_42("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41");
        check_bep_42("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a");
    }

    #[test]
    fn drawn_ids_fit_their_address() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for ip in ["45.1.2.3", "2001:470::1", "2a00::"] {
            let ip: IpAddr = ip.parse().unwrap();
            for _ in 0..100 {
                assert!(NodeId::for_address(ip, &mut rng).fits_address(ip));
            }
            let fitting = (0..1000).filter(|_| NodeId::random(&mut rng).fits_address(ip));
            assert_eq!(fitting.count(), 0);
        }
    }

    #[test]
    fn checksum_of_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn distance_orders_and_counts_bits() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let own = NodeId::random(&mut rng);
        assert_eq!(own.distance(&own).shared_bits(), 160);
        for bits in 0..160 {
            let near = own.random_sharing(bits, &mut rng);
            assert_eq!(own.distance(&near).shared_bits(), bits);
            assert_eq!(near.distance(&own), own.distance(&near));
            if bits > 0 {
                let far = own.random_sharing(bits - 1, &mut rng);
                assert!(own.distance(&near) < own.distance(&far));
            }
        }
        assert_eq!(own.random_sharing(200, &mut rng).distance(&own).shared_bits(), 159);
    }

    #[test]
    fn bits_after_prefix() {
        let mut id = NodeId([0; 20]);
        id.0[1] = 0b0101_1000;
        assert_eq!(id.bits_after(9, 3), 0b101);
        assert_eq!(id.bits_after(7, 3), 0b001);
        assert_eq!(id.bits_after(5, 7), 0b000_0101);
        assert_eq!(id.bits_after(0, 16), 0b0101_1000);
        id.0[19] = 1;
        assert_eq!(id.bits_after(159, 3), 0b100);
    }
}

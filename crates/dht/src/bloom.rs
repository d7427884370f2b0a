//! The Bloom filters of BEP 33, which count the peers of a torrent across nodes.

use std::net::IpAddr;

use sha1::{Digest as _, Sha1};

/// The length of a filter in bytes.
pub const BLOOM_LENGTH: usize = 256;

/// The number of bits of a filter (`m` in BEP 33).
const BITS: usize = BLOOM_LENGTH * 8;

/// A set of IP addresses whose size can be estimated (BEP 33, "Bloom Filters").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bloom([u8; BLOOM_LENGTH]);

impl Default for Bloom {
    fn default() -> Self {
        Self([0; BLOOM_LENGTH])
    }
}

impl Bloom {
    /// Adds `ip`.
    pub fn insert(&mut self, ip: IpAddr) {
        let hash = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()),
        };
        for pair in [[hash[0], hash[1]], [hash[2], hash[3]]] {
            let bit = usize::from(u16::from_le_bytes(pair)) % BITS;
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Adds all addresses that `other` holds.
    pub fn merge(&mut self, other: &[u8; BLOOM_LENGTH]) {
        self.0.iter_mut().zip(other).for_each(|(own, other)| *own |= other);
    }

    /// Returns the bytes, as on the wire.
    pub fn as_bytes(&self) -> &[u8; BLOOM_LENGTH] {
        &self.0
    }

    /// Estimates the number of addresses (BEP 33, "Calculating the estimate"). Above about 6,000
    /// the estimate is unreliable.
    pub fn estimate(&self) -> f64 {
        let bits = BITS as f64;
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        // A full filter counts as one with a single zero, and an empty one holds nothing.
        let zeros = f64::from(zeros).clamp(1.0, bits);
        (zeros / bits).ln() / (2.0 * (1.0 - 1.0 / bits).ln())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// BEP 33, "Test Vectors".
    const EXPECTED: &str = "\
        F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE\
        FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B\
        7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F\
        D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3\
        FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5\
        BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57\
        62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6\
        FD8F72EF";

    #[test]
    fn vectors_of_bep_33() {
        let (mut v4, mut v6) = (Bloom::default(), Bloom::default());
        (0..=255).for_each(|last| v4.insert(Ipv4Addr::new(192, 0, 2, last).into()));
        let first = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).to_bits();
        (0..0x3e8).for_each(|last| v6.insert(Ipv6Addr::from_bits(first + last).into()));
        let mut all = v4.clone();
        all.merge(v6.as_bytes());
        let hex: String = all.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hex, EXPECTED);
        assert!((all.estimate() - 1224.9308).abs() < 0.0001, "{}", all.estimate());
    }

    #[test]
    fn empty_and_full_filters() {
        assert_eq!(Bloom::default().estimate(), 0.0);
        assert!(Bloom([0xff; BLOOM_LENGTH]).estimate() > 7000.0);
    }
}

//! The handshake: the first 68 bytes of each side (BEP 3, "peer protocol").
//!
//! ```text
//! | 19 | "BitTorrent protocol" | reserved | info-hash | peer id |
//!   1    19                      8          20          20
//! ```

use std::fmt;

use bt_types::{InfoHashV1, PeerId};

/// The length of a handshake, in bytes.
pub const HANDSHAKE_LENGTH: usize = 68;

/// The first bytes of every handshake.
pub(crate) const PREFIX: &[u8; 20] = b"\x13BitTorrent protocol";

/// The handshake of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The extensions that this side supports.
    pub reserved: Reserved,
    /// The torrent.
    pub info_hash: InfoHashV1,
    /// The id of this side.
    pub peer_id: PeerId,
}

/// Occurs when bytes do not begin with the name of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected \"\\x13BitTorrent protocol\", got other bytes")]
pub struct HandshakeError;

impl Handshake {
    /// Makes the handshake of a client with the extensions of this crate ([`Reserved::OURS`]).
    pub fn new(info_hash: InfoHashV1, peer_id: PeerId) -> Self {
        Self { reserved: Reserved::OURS, info_hash, peer_id }
    }

    /// Encodes the handshake.
    pub fn encode(&self) -> [u8; HANDSHAKE_LENGTH] {
        let mut bytes = [0; HANDSHAKE_LENGTH];
        bytes[..20].copy_from_slice(PREFIX);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(self.info_hash.as_bytes());
        bytes[48..].copy_from_slice(self.peer_id.as_bytes());
        bytes
    }

    /// Decodes a handshake.
    ///
    /// # Errors
    /// `bytes` begin with another protocol name.
    pub fn decode(bytes: &[u8; HANDSHAKE_LENGTH]) -> Result<Self, HandshakeError> {
        let (mut reserved, mut info_hash, mut peer_id) = ([0; 8], [0; 20], [0; 20]);
        reserved.copy_from_slice(&bytes[20..28]);
        info_hash.copy_from_slice(&bytes[28..48]);
        peer_id.copy_from_slice(&bytes[48..]);
        if !bytes.starts_with(PREFIX) {
            return Err(HandshakeError);
        }
        Ok(Self {
            reserved: Reserved(reserved),
            info_hash: InfoHashV1(info_hash),
            peer_id: PeerId(peer_id),
        })
    }
}

/// The eight reserved bytes, in which a client sets bits for its extensions (BEP 4). Keeps unknown
/// bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Reserved(pub [u8; 8]);

/// The bits with a known meaning: byte, mask, name.
const KNOWN_BITS: [(usize, u8, &str); 5] = [
    (5, 0x10, "extension protocol"),
    (7, 0x01, "DHT"),
    (7, 0x04, "fast extension"),
    (7, 0x08, "NAT traversal"),
    (7, 0x10, "v2 upgrade"),
];

impl Reserved {
    /// No extensions.
    pub const NONE: Self = Self([0; 8]);
    /// The extensions of this crate: the fast extension and the extension protocol.
    pub const OURS: Self = Self([0, 0, 0, 0, 0, 0x10, 0, 0x04]);

    /// Returns these extensions and the DHT (BEP 5).
    #[must_use]
    pub fn with_dht(mut self) -> Self {
        self.0[7] |= 0x01;
        self
    }

    /// Whether the bit of the extension protocol is set (BEP 10).
    pub fn supports_extension_protocol(&self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Whether the bit of the fast extension is set (BEP 6).
    pub fn supports_fast(&self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// Whether the bit of the DHT is set: the peer has a node and accepts `port` messages (BEP 5).
    pub fn supports_dht(&self) -> bool {
        self.0[7] & 0x01 != 0
    }

    /// Whether the bit of v2 is set: the peer of a hybrid torrent can switch to v2 (BEP 52).
    pub fn supports_v2(&self) -> bool {
        self.0[7] & 0x10 != 0
    }

    /// Returns the names of the known extensions that are set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let bytes = self.0;
        KNOWN_BITS
            .into_iter()
            .filter(move |(byte, mask, _)| bytes[*byte] & mask != 0)
            .map(|(_, _, name)| name)
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Handshake {
        Handshake::new(InfoHashV1([0xaa; 20]), PeerId(*b"-TR3000-abcdefghijkl"))
    }

    #[test]
    fn round_trip() {
        let bytes = sample().encode();
        assert_eq!(&bytes[..28], b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04");
        assert_eq!(&bytes[28..48], [0xaa; 20]);
        assert_eq!(&bytes[48..], b"-TR3000-abcdefghijkl");
        assert_eq!(Handshake::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn other_protocol_is_refused() {
        for at in 0..20 {
            let mut bytes = sample().encode();
            bytes[at] ^= 1;
            assert_eq!(Handshake::decode(&bytes), Err(HandshakeError));
        }
    }

    #[test]
    fn unknown_bits_survive() {
        let reserved = Reserved([1, 2, 3, 4, 5, 6, 7, 8]);
        let handshake = Handshake { reserved, ..sample() };
        assert_eq!(Handshake::decode(&handshake.encode()).unwrap().reserved, reserved);
        assert_eq!(reserved.to_string(), "0102030405060708");
    }

    #[test]
    fn known_bits_have_names() {
        assert_eq!(Reserved::NONE.names().count(), 0);
        let ours: Vec<&str> = Reserved::OURS.names().collect();
        assert_eq!(ours, ["extension protocol", "fast extension"]);
        assert!(Reserved::OURS.supports_fast() && Reserved::OURS.supports_extension_protocol());
        assert!(!Reserved::OURS.supports_dht() && !Reserved::OURS.supports_v2());
        assert_eq!(Reserved([0xff; 8]).names().count(), KNOWN_BITS.len());
    }
}

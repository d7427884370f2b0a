//! Identifiers: info-hashes, peer ids, digests. Each is a fixed array of bytes, shown in hex.

use std::fmt;
use std::str::FromStr;

/// A text that is not the expected identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, got {got:?}")]
pub struct ParseIdError {
    /// The number of hexadecimal digits of the identifier.
    pub expected: usize,
    /// The text.
    pub got: String,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// Returns the raw bytes, as on the wire.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Returns the identifier in `bytes`, or `None` if the length differs.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

identifier! {
    /// The SHA-1 of the raw `info` dictionary (BEP 3). Also the 20-byte form of any info-hash on
    /// the wire.
    InfoHashV1, 20
}
identifier! {
    /// The SHA-256 of the raw `info` dictionary (BEP 52).
    InfoHashV2, 32
}
identifier! {
    /// The 20 bytes that identify a client for one torrent and one launch (BEP 3, BEP 20).
    PeerId, 20
}
identifier! {
    /// A SHA-1 digest, for example of a piece.
    Sha1Digest, 20
}

/// Every info-hash of one torrent: v1, v2, or both in a hybrid (BEP 52).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InfoHashes {
    /// A v1 torrent.
    V1(InfoHashV1),
    /// A v2 torrent.
    V2(InfoHashV2),
    /// A torrent that is both.
    Hybrid(InfoHashV1, InfoHashV2),
}

impl InfoHashes {
    /// Returns the 20 bytes for handshakes and announces: v1 if there is one, else v2 cut to 20
    /// bytes (BEP 52, "Upgrade path").
    pub fn wire(&self) -> InfoHashV1 {
        match self {
            Self::V1(v1) | Self::Hybrid(v1, _) => *v1,
            Self::V2(v2) => v2.truncated(),
        }
    }

    /// Returns whether `wire`, from a peer or tracker, means this torrent.
    pub fn matches(&self, wire: InfoHashV1) -> bool {
        match self {
            Self::V1(v1) => *v1 == wire,
            Self::V2(v2) => v2.truncated() == wire,
            Self::Hybrid(v1, v2) => *v1 == wire || v2.truncated() == wire,
        }
    }
}

impl InfoHashV2 {
    /// Returns the first 20 bytes (BEP 52).
    pub fn truncated(&self) -> InfoHashV1 {
        let mut short = [0; 20];
        short.copy_from_slice(&self.0[..20]);
        InfoHashV1(short)
    }
}

impl PeerId {
    /// Makes the id that starts with `prefix` (Azureus style, BEP 20) and ends with `tail`, which
    /// the caller chooses at random.
    pub fn new(prefix: [u8; 8], tail: [u8; 12]) -> Self {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&prefix);
        id[8..].copy_from_slice(&tail);
        Self(id)
    }
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let error = || ParseIdError { expected: 2 * N, got: text.to_owned() };
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(error());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = str::from_utf8(pair).map_err(|_| error())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_round_trip_in_hex() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        let hash: InfoHashV1 = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<InfoHashV1>().unwrap(), hash);
    }

    #[test]
    fn wrong_hex_is_refused() {
        for text in ["", "01", "+123456789abcdef0123456789abcdef01234567", "é"] {
            let error = text.parse::<PeerId>().unwrap_err();
            assert_eq!(error, ParseIdError { expected: 40, got: text.to_owned() });
        }
    }

    #[test]
    fn hybrid_matches_both_of_its_hashes() {
        let (v1, v2) = (InfoHashV1([1; 20]), InfoHashV2([2; 32]));
        let hashes = InfoHashes::Hybrid(v1, v2);
        assert_eq!(hashes.wire(), v1);
        assert!(hashes.matches(v1) && hashes.matches(InfoHashV1([2; 20])));
        assert!(!hashes.matches(InfoHashV1([3; 20])));
        assert_eq!(InfoHashes::V2(v2).wire(), InfoHashV1([2; 20]));
    }
}

//! SHA-1 of one message, at once or in chunks.

use bt_types::Sha1Digest;
use sha1::{Digest as _, Sha1};

/// Returns the SHA-1 of `bytes`.
pub fn sha1(bytes: &[u8]) -> Sha1Digest {
    Sha1Digest(Sha1::digest(bytes).into())
}

/// Computes the SHA-1 of a message that arrives in chunks.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha1);

impl Hasher {
    /// Makes a hasher of an empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `bytes` to the message.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of the message.
    pub fn finish(self) -> Sha1Digest {
        Sha1Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of FIPS 180-4 and the empty message.
    const KNOWN: [(&[u8], &str); 3] = [
        (b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        ),
    ];

    #[test]
    fn known_digests_are_computed() {
        for (message, digest) in KNOWN {
            assert_eq!(sha1(message), digest.parse().unwrap());
        }
        let million = vec![b'a'; 1_000_000];
        let digest = "34aa973cd4c4daa4f61eeb2bdbad27316534016f";
        assert_eq!(sha1(&million), digest.parse().unwrap());
    }

    #[test]
    fn chunks_do_not_change_digest() {
        let message: Vec<u8> = (0..300u16).map(|i| i as u8).collect();
        for cut in 0..=message.len() {
            let (head, tail) = message.split_at(cut);
            let mut hasher = Hasher::new();
            hasher.update(head);
            hasher.update(tail);
            assert_eq!(hasher.finish(), sha1(&message), "cut at {cut}");
        }
    }
}

//! Tokens: proof that whoever stores something can receive at its address (BEP 5, "get_peers").

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::{Rng, RngExt as _};
use sha1::{Digest as _, Sha1};

use crate::NodeId;

/// How long a token is handed out. It is valid for as long again.
pub const TOKEN_ROTATION: Duration = Duration::from_secs(5 * 60);
/// The length of a token in bytes.
pub(crate) const TOKEN_LENGTH: usize = 8;

/// The secrets that tokens are made from. A token is a digest, so none can be computed from others,
/// and it holds for one address, port, node id and target.
#[derive(Debug)]
pub(crate) struct Tokens {
    current: [u8; 16],
    previous: [u8; 16],
    rotated: Duration,
}

impl Tokens {
    pub(crate) fn new(now: Duration, rng: &mut impl Rng) -> Self {
        Self { current: rng.random(), previous: rng.random(), rotated: now }
    }

    /// Returns the token for the node `id` at `asker` and for `target`.
    pub(crate) fn issue(
        &mut self,
        now: Duration,
        asker: SocketAddr,
        id: &NodeId,
        target: &NodeId,
        rng: &mut impl Rng,
    ) -> [u8; TOKEN_LENGTH] {
        self.rotate(now, rng);
        token(&self.current, asker, id, target)
    }

    /// Returns whether `given` was issued for these, in this period or the one before.
    pub(crate) fn is_valid(
        &mut self,
        now: Duration,
        given: &[u8],
        asker: SocketAddr,
        id: &NodeId,
        target: &NodeId,
        rng: &mut impl Rng,
    ) -> bool {
        self.rotate(now, rng);
        [&self.current, &self.previous].iter().any(|secret| {
            let expected = token(secret, asker, id, target);
            given.len() == TOKEN_LENGTH && given == expected
        })
    }

    fn rotate(&mut self, now: Duration, rng: &mut impl Rng) {
        let age = now.saturating_sub(self.rotated);
        if age < TOKEN_ROTATION {
            return;
        }
        self.previous = if age < 2 * TOKEN_ROTATION { self.current } else { rng.random() };
        self.current = rng.random();
        self.rotated = now;
    }
}

fn token(secret: &[u8; 16], asker: SocketAddr, id: &NodeId, target: &NodeId) -> [u8; TOKEN_LENGTH] {
    let mut hash = Sha1::new();
    hash.update(secret);
    match asker.ip() {
        IpAddr::V4(ip) => hash.update(ip.octets()),
        IpAddr::V6(ip) => hash.update(ip.octets()),
    }
    hash.update(asker.port().to_be_bytes());
    hash.update(id.0);
    hash.update(target.0);
    let digest: [u8; 20] = hash.finalize().into();
    let mut token = [0; TOKEN_LENGTH];
    token.copy_from_slice(&digest[..TOKEN_LENGTH]);
    token
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn token_holds_for_all_it_was_issued_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let now = Duration::from_secs(77);
        let mut tokens = Tokens::new(now, &mut rng);
        let asker: SocketAddr = "45.1.2.3:6881".parse().unwrap();
        let (id, target) = (NodeId([1; 20]), NodeId([2; 20]));
        let token = tokens.issue(now, asker, &id, &target, &mut rng);
        let mut check = |given: &[u8], asker: &str, id: u8, target: u8| {
            let asker = asker.parse().unwrap();
            let (id, target) = (NodeId([id; 20]), NodeId([target; 20]));
            tokens.is_valid(now, given, asker, &id, &target, &mut rng)
        };
        assert!(check(&token, "45.1.2.3:6881", 1, 2));
        assert!(!check(&token, "45.1.2.4:6881", 1, 2), "another address");
        assert!(!check(&token, "[2d01:203::]:6881", 1, 2), "another family");
        assert!(!check(&token, "45.1.2.3:6882", 1, 2), "another port");
        assert!(!check(&token, "45.1.2.3:6881", 2, 2), "another id");
        assert!(!check(&token, "45.1.2.3:6881", 1, 1), "another target");
        assert!(!check(&token[1..], "45.1.2.3:6881", 1, 2) && !check(b"", "45.1.2.3:6881", 1, 2));
    }

    #[test]
    fn token_ends_after_two_periods() {
        for (after, expected) in [(0, true), (299, true), (300, true), (599, true), (600, false)] {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut tokens = Tokens::new(Duration::ZERO, &mut rng);
            let asker: SocketAddr = "45.1.2.3:6881".parse().unwrap();
            let id = NodeId([1; 20]);
            let token = tokens.issue(Duration::ZERO, asker, &id, &id, &mut rng);
            // Rotation must not depend on how often it is checked.
            for step in [after / 2, after] {
                let now = Duration::from_secs(step);
                let valid = tokens.is_valid(now, &token, asker, &id, &id, &mut rng);
                assert!(step != after || valid == expected, "{after}");
            }
        }
    }

    /// A linear checksum in the place of a digest would let one token give another address's.
    #[test]
    fn token_of_other_address_cannot_be_computed() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut tokens = Tokens::new(Duration::ZERO, &mut rng);
        let mut issue = |last: u8| {
            let asker = SocketAddr::from(([45, 1, 2, last], 6881));
            let id = NodeId([1; 20]);
            u64::from_be_bytes(tokens.issue(Duration::ZERO, asker, &id, &id, &mut rng))
        };
        assert_ne!(issue(0) ^ issue(1) ^ issue(2), issue(3));
    }
}

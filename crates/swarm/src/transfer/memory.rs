//! How the memory of a swarm is shared among its peers: in proportion to their rates.
//!
//! A slow peer with a piece of its own would keep the memory of that piece for many seconds, and
//! fast peers would wait for it. Therefore a peer starts a piece, or a span of a long piece, only if
//! its share holds one. Slower peers fill pieces together. For the same reason the requests of a
//! peer cover no longer time than the memory lasts at the rate of all peers together.

use std::time::Duration;

/// The part of the memory that may wait for answers, as a divisor. The rest holds blocks that were
/// received, and free blocks of unfinished pieces.
const REQUESTED: u64 = 4;

/// The memory of a swarm and the rate that it must suffice for.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryShares {
    /// The memory that the swarm holds and may still reserve, in bytes.
    pub(super) memory: u64,
    /// The rate of all peers together, in bytes per second.
    pub(super) rate: u64,
}

impl MemoryShares {
    /// Returns for how long requests may be outstanding at any peer.
    pub(super) fn request_time(&self) -> Duration {
        let millis = (self.memory / REQUESTED).saturating_mul(1000) / self.rate.max(1);
        Duration::from_millis(millis)
    }

    /// Whether the share of a peer that sends `rate` bytes per second holds `bytes`. It does as
    /// long as no peer has sent anything.
    pub(super) fn has_share(&self, rate: u64, bytes: u64) -> bool {
        u128::from(rate) * u128::from(self.memory) >= u128::from(bytes) * u128::from(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_by_rate() {
        let shares = MemoryShares { memory: 1000, rate: 50 };
        assert!(shares.has_share(10, 200) && !shares.has_share(10, 201));
        assert_eq!(shares.request_time(), Duration::from_secs(5));
    }

    #[test]
    fn without_a_rate_every_share_suffices() {
        let shares = MemoryShares { memory: 1000, rate: 0 };
        assert!(shares.has_share(0, u64::MAX));
        assert_eq!(shares.request_time(), Duration::from_secs(250));
    }
}

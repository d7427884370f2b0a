//! Which queries are answered: budgets for all askers, for each, and for each network.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::Duration;

use crate::address::{Group, host, net};
use crate::rate::Rate;

/// The most bytes of answers that are sent per second, after a burst of twice as many. Nodes of the
/// routing table and owners of a token may have as many again.
pub const REPLY_BYTES: u32 = 32 * 1024;
const REPLY_BURST: u32 = 64 * 1024;
/// The most queries per second of an IP address that are answered, after a burst of 20.
pub const ASKER_RATE: u32 = 5;
const ASKER_BURST: u32 = 20;
/// The most queries per second of a /24 (IPv6: /64) that are answered, after a burst of 100.
pub const NET_RATE: u32 = 50;
const NET_BURST: u32 = 100;
/// The most askers, and the most networks of askers, that are remembered.
pub const MAX_ASKERS: usize = 4096;
/// How many entries share a place in the table.
const WAYS: usize = 4;

/// Whether the asker is more than an address that may be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Anybody: the sender's address may be that of a victim.
    Unknown,
    /// It receives at its address: it answered us, or has a token.
    Proven,
}

/// The budgets. Proven askers have one of their own, so that a flood of forged queries does not
/// take the answers from them.
#[derive(Debug)]
pub(crate) struct Throttle {
    unknown: Rate,
    proven: Rate,
    askers: GroupRates,
    nets: GroupRates,
    is_on: bool,
}

impl Throttle {
    /// `secret` makes it impossible to choose addresses that share a place in the tables.
    pub(crate) fn new(now: Duration, secret: u64, is_on: bool) -> Self {
        Self {
            unknown: Rate::new(now, REPLY_BYTES, REPLY_BURST),
            proven: Rate::new(now, REPLY_BYTES, REPLY_BURST),
            askers: GroupRates::new(secret, ASKER_RATE, ASKER_BURST),
            nets: GroupRates::new(!secret, NET_RATE, NET_BURST),
            is_on,
        }
    }

    /// Returns whether a query from `asker` may be answered, and counts it if so.
    pub(crate) fn admit(&mut self, now: Duration, asker: SocketAddr, standing: Standing) -> bool {
        if !self.is_on {
            return true;
        }
        let budget = match standing {
            Standing::Unknown => &mut self.unknown,
            Standing::Proven => &mut self.proven,
        };
        budget.has(now) && self.askers.take(now, host(asker)) && self.nets.take(now, net(asker))
    }

    /// Whether the budget of unknown askers is used up.
    pub(crate) fn is_flooded(&mut self, now: Duration) -> bool {
        self.is_on && !self.unknown.has(now)
    }

    /// Counts an answer of `bytes` to an admitted query.
    pub(crate) fn spend(&mut self, now: Duration, bytes: usize, standing: Standing) {
        match standing {
            Standing::Unknown => self.unknown.spend(now, bytes),
            Standing::Proven => self.proven.spend(now, bytes),
        };
    }

    pub(crate) fn memory() -> usize {
        2 * MAX_ASKERS * size_of::<GroupRate>()
    }
}

/// A rate for each of the last groups: a table of fixed size, whose entries are found by a digest.
#[derive(Debug)]
struct GroupRates {
    entries: Vec<GroupRate>,
    secret: u64,
    rate: f32,
    burst: f32,
}

#[derive(Debug, Clone, Copy, Default)]
struct GroupRate {
    /// The digest of the group, or 0.
    key: u64,
    left: f32,
    /// When that was left, in milliseconds.
    at: u32,
}

impl GroupRates {
    fn new(secret: u64, rate: u32, burst: u32) -> Self {
        let entries = vec![GroupRate::default(); MAX_ASKERS];
        Self { entries, secret, rate: rate as f32, burst: burst as f32 }
    }

    /// Spends one of the rate of `group`. Of the groups that share its place, the one that was
    /// longest silent is forgotten.
    fn take(&mut self, now: Duration, group: Group) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.secret, group).hash(&mut hasher);
        let key = hasher.finish() | 1;
        let now = now.as_millis() as u32;
        let start = (key >> 1) as usize % (MAX_ASKERS / WAYS) * WAYS;
        let places = &mut self.entries[start..start + WAYS];
        let at = places.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            let silent = |at: &usize| now.wrapping_sub(places[*at].at);
            let oldest = (0..WAYS).max_by_key(silent).unwrap_or(0);
            places[oldest] = GroupRate { key, left: self.burst, at: now };
            oldest
        });
        let entry = &mut places[at];
        let gained = now.wrapping_sub(entry.at) as f32 / 1000.0 * self.rate;
        entry.left = (entry.left + gained).min(self.burst);
        entry.at = now;
        let has = entry.left >= 1.0;
        if has {
            entry.left -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(Duration::ZERO, 7, true)
    }

    fn at(ip: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from_bits(0x2d00_0000 + ip), 6881))
    }

    #[test]
    fn address_has_a_burst_and_a_rate() {
        let mut throttle = throttle();
        let mut count = |time: u64, port: u16| {
            let mut asker = at(1);
            asker.set_port(port);
            let now = Duration::from_secs(time);
            (0..100).filter(|_| throttle.admit(now, asker, Standing::Unknown)).count()
        };
        assert_eq!(count(0, 1), ASKER_BURST as usize);
        assert_eq!(count(0, 2), 0, "ports do not matter");
        assert_eq!(count(1, 1), ASKER_RATE as usize);
        assert_eq!(count(60, 1), ASKER_BURST as usize);
    }

    #[test]
    fn network_has_a_rate() {
        let mut throttle = throttle();
        let admitted =
            (0..250).filter(|ip| throttle.admit(Duration::ZERO, at(*ip), Standing::Unknown));
        assert_eq!(admitted.count(), NET_BURST as usize);
        let later = Duration::from_secs(1);
        let admitted = (0..250).filter(|ip| throttle.admit(later, at(*ip), Standing::Unknown));
        assert_eq!(admitted.count(), NET_RATE as usize);
    }

    #[test]
    fn bytes_are_limited_for_all() {
        let mut throttle = throttle();
        let mut sent = 0;
        for ip in 0..100_000 {
            let now = Duration::from_millis(u64::from(ip) / 10);
            let asker = at(ip << 8);
            if throttle.admit(now, asker, Standing::Unknown) {
                throttle.spend(now, 300, Standing::Unknown);
                sent += 300;
            }
        }
        let most = REPLY_BURST + 10 * REPLY_BYTES + 300;
        assert!(sent <= most && sent > most - 3000, "{sent}");
        let now = Duration::from_secs(10);
        assert!(throttle.is_flooded(now));
        assert!(throttle.admit(now, at(5), Standing::Proven), "it has a budget of its own");
    }

    #[test]
    fn askers_are_limited() {
        let mut throttle = throttle();
        while throttle.admit(Duration::ZERO, at(0), Standing::Unknown) {}
        let later = Duration::from_millis(10);
        for ip in 1..=20 * MAX_ASKERS as u32 {
            throttle.admit(later, at(ip << 8), Standing::Unknown);
        }
        assert_eq!(throttle.askers.entries.len(), MAX_ASKERS);
        assert!(throttle.admit(later, at(0), Standing::Unknown), "it was forgotten");
    }

    #[test]
    fn without_throttle_all_are_answered() {
        let mut throttle = Throttle::new(Duration::ZERO, 7, false);
        throttle.spend(Duration::ZERO, 1 << 30, Standing::Unknown);
        assert!(!throttle.is_flooded(Duration::ZERO));
        assert!((0..1000).all(|_| throttle.admit(Duration::ZERO, at(1), Standing::Unknown)));
    }
}

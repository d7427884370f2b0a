//! Our external address, as other nodes see it (BEP 42, "Bootstrapping").

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bt_types::is_public;

use crate::address::{Group, is_local, wide_net};

/// How many networks must have voted for an address.
const MIN_VOTERS: usize = 8;
/// The most votes that count; the oldest are forgotten.
const MAX_VOTES: usize = 50;
/// How long an adopted address stays.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long a vote counts. Nodes that are gone vote for the address that they knew, and in a small
/// network they soon are many.
const VOTE_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The votes of one family. Each /16 (IPv6: /48) has one, in the last matched reply from there.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    /// With when they were cast, in that order.
    votes: Vec<(Group, IpAddr, Duration)>,
    adopted: Option<(IpAddr, Duration)>,
}

impl Votes {
    /// Records that the node at `voter` sees us at `ip`. Returns the address if it is a new one that
    /// two thirds of the voters agree on.
    pub(crate) fn handle(
        &mut self,
        now: Duration,
        voter: SocketAddr,
        ip: IpAddr,
    ) -> Option<IpAddr> {
        // In a local network everybody sees a local address, which is no one else's business.
        if is_local(voter.ip()) || !is_public(ip) || voter.is_ipv4() != ip.is_ipv4() {
            return None;
        }
        let group = wide_net(voter);
        let counts = |cast: Duration| now.saturating_sub(cast) < VOTE_LIFETIME;
        self.votes.retain(|(other, _, cast)| *other != group && counts(*cast));
        if self.votes.len() == MAX_VOTES {
            self.votes.remove(0);
        }
        self.votes.push((group, ip, now));
        let winner = self.winner()?;
        let is_settled = |(current, since): (IpAddr, Duration)| {
            current == winner || now.saturating_sub(since) < ADDRESS_LIFETIME
        };
        if self.adopted.is_some_and(is_settled) {
            return None;
        }
        self.adopted = Some((winner, now));
        Some(winner)
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.adopted.map(|(ip, _)| ip)
    }

    fn winner(&self) -> Option<IpAddr> {
        let mut counts = BTreeMap::new();
        self.votes.iter().for_each(|(_, ip, _)| *counts.entry(*ip).or_insert(0) += 1);
        let (ip, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (count >= MIN_VOTERS && count * 3 >= self.votes.len() * 2).then_some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(net: u8) -> SocketAddr {
        SocketAddr::from(([45, net, 0, 1], 6881))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([46, 0, 0, last])
    }

    #[test]
    fn eight_networks_adopt_an_address() {
        let mut votes = Votes::default();
        let now = Duration::ZERO;
        for _ in 0..100 {
            assert_eq!(votes.handle(now, voter(0), ip(1)), None, "one network is one voter");
        }
        for net in 1..MIN_VOTERS as u8 - 1 {
            assert_eq!(votes.handle(now, voter(net), ip(1)), None);
        }
        assert_eq!(votes.handle(now, voter(100), ip(1)), Some(ip(1)));
        assert_eq!(votes.handle(now, voter(101), ip(1)), None, "it is adopted once");
        assert_eq!(votes.address(), Some(ip(1)));
    }

    #[test]
    fn third_of_liars_is_outvoted() {
        let mut votes = Votes::default();
        for net in 0..5 {
            votes.handle(Duration::ZERO, voter(net), ip(9));
        }
        let honest = (10..30).map(|net| votes.handle(Duration::ZERO, voter(net), ip(1)));
        let adopted: Vec<usize> =
            honest.enumerate().filter_map(|(at, adopted)| adopted.map(|_| at)).collect();
        assert_eq!(adopted, [9], "ten of fifteen");
    }

    #[test]
    fn address_changes_after_ten_minutes() {
        let mut votes = Votes::default();
        for net in 0..8 {
            votes.handle(Duration::ZERO, voter(net), ip(1));
        }
        let late = ADDRESS_LIFETIME;
        for net in 0..60 {
            let early = late - Duration::from_secs(1);
            assert_eq!(votes.handle(early, voter(net), ip(2)), None);
        }
        assert_eq!(votes.handle(late, voter(60), ip(2)), Some(ip(2)));
        assert_eq!(votes.votes.len(), MAX_VOTES);
    }

    #[test]
    fn votes_of_nodes_that_are_gone_expire() {
        let mut votes = Votes::default();
        for net in 0..40 {
            votes.handle(Duration::ZERO, voter(net), ip(1));
        }
        for net in 100..107 {
            assert_eq!(votes.handle(VOTE_LIFETIME, voter(net), ip(2)), None);
        }
        assert_eq!(votes.handle(VOTE_LIFETIME, voter(107), ip(2)), Some(ip(2)));
    }

    #[test]
    fn thousand_voters_of_few_networks_are_few() {
        let mut votes = Votes::default();
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let voter = SocketAddr::from(([45, low % 4, low, high + 1], 6881));
            let victim = IpAddr::from([66, 6, 6, 6]);
            assert_eq!(votes.handle(Duration::ZERO, voter, victim), None);
        }
        assert_eq!(votes.votes.len(), 4);
    }

    #[test]
    fn odd_votes_do_not_count() {
        let mut votes = Votes::default();
        for net in 0..20 {
            votes.handle(Duration::ZERO, SocketAddr::from(([10, net, 0, 1], 1)), ip(1));
            votes.handle(Duration::ZERO, voter(net), IpAddr::from([10, 0, 0, 1]));
            votes.handle(Duration::ZERO, voter(net), "2a00::1".parse().unwrap());
        }
        assert_eq!((votes.votes.len(), votes.address()), (0, None));
    }
}

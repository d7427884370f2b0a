//! Chooses the addresses of a tracker's name to ask.

use std::net::IpAddr;
use std::time::Duration;

use bt_types::is_public;

/// The largest number of addresses of one name that are asked.
pub const MAX_ADDRESSES: usize = 8;
/// How long an address may be silent before the client also asks the next one of its family.
pub const ADDRESS_SILENCE: Duration = Duration::from_secs(2);

/// Returns the addresses to ask: the IPv4 and the IPv6 ones of `found` that `is_usable` accepts, in
/// the given order, each once, [`MAX_ADDRESSES`] in total. Ask both families at the same time (BEP
/// 7). Within a family, ask the next address once the one before was silent for
/// [`ADDRESS_SILENCE`].
///
/// A public name must not lead into a private network: if any address in `found`
/// [is public](is_public), even an unusable one, the private ones are dropped. So `found` must hold
/// all addresses of the name.
///
/// ```
/// let found = ["192.0.2.1", "45.0.0.1", "2606:4700::1"].map(|ip| ip.parse().unwrap());
/// let [v4, v6] = tracker_udp::addresses_to_ask(&found, |_| true);
/// assert_eq!((v4, v6), (vec![found[1]], vec![found[2]]));
/// ```
pub fn addresses_to_ask(found: &[IpAddr], is_usable: impl Fn(&IpAddr) -> bool) -> [Vec<IpAddr>; 2] {
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in found.iter().map(IpAddr::to_canonical) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.iter().copied().any(is_public) {
        ips.retain(|ip| is_public(*ip));
    }
    ips.retain(is_usable);
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = ips.into_iter().partition(IpAddr::is_ipv4);
    // Each family gets half, and what the other one does not use.
    v6.truncate(MAX_ADDRESSES - v4.len().min(MAX_ADDRESSES / 2));
    v4.truncate(MAX_ADDRESSES - v6.len());
    [v4, v6]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_family(count: u8, v4: bool) -> impl Iterator<Item = IpAddr> {
        (1..=count).map(move |number| match v4 {
            true => IpAddr::from([10, 0, 0, number]),
            false => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]),
        })
    }

    #[test]
    fn eight_addresses_are_asked() {
        for (v4, v6, asked) in [
            (0, 0, [0, 0]),
            (8, 0, [8, 0]),
            (9, 0, [8, 0]),
            (0, 9, [0, 8]),
            (9, 9, [4, 4]),
            (2, 9, [2, 6]),
            (9, 3, [5, 3]),
            (3, 3, [3, 3]),
        ] {
            let found: Vec<IpAddr> = of_family(v6, false).chain(of_family(v4, true)).collect();
            let lists = addresses_to_ask(&found, |_| true);
            assert_eq!(lists.each_ref().map(Vec::len), asked, "{v4} and {v6}");
            assert!(lists[0].iter().copied().eq(of_family(asked[0] as u8, true)));
            assert!(lists[1].iter().copied().eq(of_family(asked[1] as u8, false)));
        }
    }

    #[test]
    fn unusable_family_leaves_eight_addresses() {
        let found: Vec<IpAddr> = of_family(9, false).chain(of_family(9, true)).collect();
        let lists = addresses_to_ask(&found, IpAddr::is_ipv4);
        assert_eq!(lists.each_ref().map(Vec::len), [8, 0]);
        let lists = addresses_to_ask(&found, IpAddr::is_ipv6);
        assert_eq!(lists.each_ref().map(Vec::len), [0, 8]);
    }

    /// Returns the addresses to ask, in order.
    fn asked(found: &[&str], is_usable: impl Fn(&IpAddr) -> bool) -> Vec<String> {
        let found: Vec<IpAddr> = found.iter().map(|ip| ip.parse().unwrap()).collect();
        addresses_to_ask(&found, is_usable).concat().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unusable_public_address_excludes_private_ones() {
        let found = ["2606:4700::1", "192.168.0.1", "fd00::1"];
        assert_eq!(asked(&found, IpAddr::is_ipv4), [""; 0]);
        assert_eq!(asked(&found, IpAddr::is_ipv6), ["2606:4700::1"]);
        assert_eq!(asked(&found[1..], IpAddr::is_ipv4), ["192.168.0.1"]);
    }

    #[test]
    fn public_name_excludes_private_addresses() {
        let ask = |found: &[&str]| asked(found, |_| true);
        assert_eq!(
            ask(&["10.0.0.1", "45.0.0.1", "127.0.0.1", "45.0.0.2"]),
            ["45.0.0.1", "45.0.0.2"]
        );
        assert_eq!(ask(&["2606:4700::1", "192.168.0.1", "::1"]), ["2606:4700::1"]);
        assert_eq!(ask(&["127.0.0.5", "127.0.0.6", "::1"]), ["127.0.0.5", "127.0.0.6", "::1"]);
        assert_eq!(ask(&["::ffff:10.0.0.1", "10.0.0.1"]), ["10.0.0.1"]);
    }
}

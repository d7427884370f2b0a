//! Tests of `Lsd` through its public API, and the fuzz target on its corpus and on random input.

mod fuzz;

use std::net::SocketAddr;
use std::time::Duration;

use lsd::{
    Announce, Group, InfoHashV1, LSD_BURST, LSD_EVERY, LSD_GAP, LSD_HASHES, LSD_RATE, LSD_SINGLE,
    LocalPeer, Lsd, Network,
};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(10_000);
const COOKIE: u32 = 0x00c0_0c1e;
const TICK: Duration = Duration::from_nanos(1);

fn hash(number: usize) -> InfoHashV1 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    InfoHashV1(bytes)
}

/// A client in 192.168.1.0/24 and fe80::/64 that announces the first `torrents` hashes.
fn client(torrents: usize) -> Lsd {
    let mut lsd = Lsd::new(6881, COOKIE);
    let networks = [("192.168.1.2", 24), ("fe80::2", 64)];
    lsd.set_networks(networks.map(|(ip, prefix)| Network::new(ip.parse().unwrap(), prefix)));
    (0..torrents).for_each(|number| lsd.announce(NOW, hash(number)));
    lsd
}

/// Returns what is announced at `now`, one list for each announce. Both groups get the same.
fn announced(lsd: &mut Lsd, now: Duration) -> Vec<Vec<InfoHashV1>> {
    let mut lists = Vec::new();
    while let Some(v4) = lsd.poll_transmit(now) {
        let v6 = lsd.poll_transmit(now).expect("the other group");
        assert_eq!((v4.group, v6.group), (Group::V4, Group::V6));
        let v4 = Announce::decode(Group::V4, &v4.bytes).unwrap();
        assert_eq!(Announce::decode(Group::V6, &v6.bytes), Ok(v4.clone()));
        assert_eq!((v4.port, v4.cookie.as_deref()), (6881, Some("00c00c1e")));
        lists.push(v4.info_hashes);
    }
    assert!(lsd.poll_timeout().is_none_or(|at| at > now));
    lists
}

fn source(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn events(lsd: &mut Lsd) -> Vec<LocalPeer> {
    std::iter::from_fn(|| lsd.poll_event()).collect()
}

/// Returns an announce of somebody else.
fn datagram(group: Group, info_hashes: Vec<InfoHashV1>) -> Vec<u8> {
    Announce { port: 9, info_hashes, cookie: None }.encode(group)
}

#[test]
fn torrent_is_announced_every_five_minutes() {
    let mut lsd = client(1);
    assert_eq!(lsd.poll_timeout(), Some(NOW));
    for round in 0..5 {
        let due = NOW + LSD_EVERY * round;
        assert_eq!(announced(&mut lsd, due - TICK), Vec::<Vec<_>>::new());
        assert_eq!(announced(&mut lsd, due), [[hash(0)]]);
        assert_eq!(lsd.poll_timeout(), Some(due + LSD_EVERY));
        lsd.announce(due + TICK, hash(0));
    }
    lsd.stop(hash(0));
    assert_eq!(announced(&mut lsd, NOW + LSD_EVERY * 9), Vec::<Vec<_>>::new());
    assert_eq!(lsd.poll_timeout(), None);
}

#[test]
fn same_torrent_waits_a_minute() {
    let mut lsd = client(1);
    assert_eq!(announced(&mut lsd, NOW).len(), 1);
    for second in 1..10 {
        lsd.stop(hash(0));
        lsd.announce(NOW + Duration::from_secs(second), hash(0));
        assert_eq!(announced(&mut lsd, NOW + Duration::from_secs(second)).len(), 0);
    }
    assert_eq!(lsd.poll_timeout(), Some(NOW + LSD_GAP));
    assert_eq!(announced(&mut lsd, NOW + LSD_GAP - TICK).len(), 0);
    assert_eq!(announced(&mut lsd, NOW + LSD_GAP), [[hash(0)]]);

    // One that was never announced is forgotten at once.
    lsd.announce(NOW, hash(1));
    lsd.stop(hash(1));
    lsd.stop(hash(2));
    assert_eq!(lsd.poll_timeout(), Some(NOW + LSD_GAP + LSD_EVERY));
}

#[test]
fn few_torrents_are_announced_singly() {
    let lists = announced(&mut client(LSD_SINGLE), NOW);
    assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [1; LSD_SINGLE]);
    let more = announced(&mut client(LSD_SINGLE + 1), NOW);
    assert_eq!(more.iter().map(Vec::len).collect::<Vec<_>>(), [LSD_SINGLE + 1]);
    let many = announced(&mut client(LSD_HASHES + 1), NOW);
    assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [LSD_HASHES, 1]);
}

#[test]
fn announces_are_limited() {
    let count = 1000;
    let mut lsd = client(count);
    let mut seen = announced(&mut lsd, NOW).concat();
    assert_eq!(seen.len(), LSD_BURST as usize * LSD_HASHES);
    let mut now = NOW;
    while seen.len() < count {
        now += LSD_GAP;
        assert_eq!(lsd.poll_timeout(), Some(now));
        let lists = announced(&mut lsd, now);
        assert_eq!(lists.len(), 1, "one per minute");
        seen.extend(lists.concat());
    }
    // Each has its turn.
    seen.sort_unstable();
    assert_eq!(seen[..count], (0..count).map(hash).collect::<Vec<_>>());
}

#[test]
fn local_peers_are_reported() {
    let mut lsd = client(3);
    for (from, group, address) in [
        ("192.168.1.9:6771", Group::V4, "192.168.1.9:9"),
        ("[fe80::9%3]:1234", Group::V6, "[fe80::9%3]:9"),
    ] {
        let bytes = datagram(group, vec![hash(2), hash(77), hash(0)]);
        lsd.handle_datagram(NOW, source(from), &bytes);
        let peer = |number| LocalPeer { info_hash: hash(number), address: source(address) };
        assert_eq!(events(&mut lsd), [peer(2), peer(0)]);
    }
    lsd.stop(hash(2));
    let bytes = datagram(Group::V4, vec![hash(2)]);
    lsd.handle_datagram(NOW, source("192.168.1.9:6771"), &bytes);
    assert_eq!(events(&mut lsd), []);
}

#[test]
fn stopped_torrent_reports_no_peers() {
    let mut lsd = client(1);
    let _ = announced(&mut lsd, NOW);
    let bytes = datagram(Group::V4, vec![hash(0)]);
    for (reported, again) in [(1, false), (0, true), (1, true)] {
        lsd.handle_datagram(NOW, source("192.168.1.9:6771"), &bytes);
        assert_eq!(events(&mut lsd).len(), reported);
        if reported == 1 && !again {
            lsd.stop(hash(0));
        } else {
            lsd.announce(NOW, hash(0));
        }
    }
}

#[test]
fn other_datagrams_are_ignored() {
    let v4 = datagram(Group::V4, vec![hash(0)]);
    let own = client(1).poll_transmit(NOW).expect("an announce").bytes;
    let long = [v4.as_slice(), &vec![b' '; 1400]].concat();
    for (from, bytes) in [
        ("192.168.2.9:6771", &v4),
        ("10.0.0.1:6771", &v4),
        ("[2001:db8::1]:6771", &datagram(Group::V6, vec![hash(0)])),
        ("[fe80::9]:6771", &v4),
        ("192.168.1.9:6771", &datagram(Group::V6, vec![hash(0)])),
        ("192.168.1.9:6771", &own),
        ("192.168.1.9:6771", &long),
        ("192.168.1.9:6771", &b"M-SEARCH * HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let mut lsd = client(1);
        lsd.handle_datagram(NOW, source(from), bytes);
        assert_eq!(events(&mut lsd), [], "{from}");
    }
    let mut lost = Lsd::new(1, 1);
    lost.announce(NOW, hash(0));
    lost.handle_datagram(NOW, source("192.168.1.9:6771"), &v4);
    assert_eq!(events(&mut lost), [], "it has no network");
}

#[test]
fn received_datagrams_are_limited() {
    let mut lsd = client(1);
    let bytes = datagram(Group::V4, vec![hash(0)]);
    let mut storm = |now, count| {
        for _ in 0..count {
            // Datagrams from elsewhere do not count.
            lsd.handle_datagram(now, source("10.0.0.1:6771"), &bytes);
            lsd.handle_datagram(now, source("192.168.1.9:6771"), &bytes);
        }
        events(&mut lsd).len() as u32
    };
    assert_eq!(storm(NOW, LSD_RATE + 1), LSD_RATE);
    let second = Duration::from_secs(1);
    assert_eq!(storm(NOW + second, LSD_RATE + 1), LSD_RATE);
    assert_eq!(storm(NOW + second + second / LSD_RATE, 2), 1);
}

#[test]
fn corpus() {
    testkit::replay("lsd", fuzz::lsd);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::lsd(&bytes);
    }

    #[test]
    fn random_headers(
        names in prop::collection::vec("(Host|port|Infohash|cookie|x): ?", 0..8),
        values in prop::collection::vec("239.192.152.143:6771|\\[ff15::efc0:988f\\]:6771|[0-9]{1,5}|[0-9a-f]{40}", 8),
        end in "\r\n|\n",
    ) {
        let lines = names.iter().zip(&values).map(|(name, value)| format!("{name}{value}{end}"));
        let text = format!("BT-SEARCH * HTTP/1.1{end}{}", lines.collect::<String>());
        fuzz::lsd(text.as_bytes());
    }
}

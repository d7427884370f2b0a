use crate::message::Values;

use super::*;
use crate::NodeId;

const OWN: OwnIds = OwnIds([Some(NodeId([0; 20])), None]);

/// A torrent whose distance from us grows with `number`.
fn hash(number: u32) -> InfoHashV1 {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    InfoHashV1(hash)
}

fn at(ip: u32) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::from_bits(0x2d00_0000 + ip), 6881))
}

fn store() -> PeerStore {
    PeerStore::default()
}

fn values(store: &PeerStore, asker: &str, noseed: bool, start: u32, limit: usize) -> Vec<String> {
    let mut out = Vec::new();
    store.values(hash(1), asker.parse().unwrap(), noseed, start, limit, &mut out);
    assert!(out.len() <= limit);
    Values::new(&out).iter().map(|peer| peer.to_string()).collect()
}

#[test]
fn address_has_one_entry_per_torrent() {
    let mut store = store();
    let now = Duration::ZERO;
    for peer in ["45.0.0.1:1000", "45.0.0.1:2000", "10.0.0.1:1", "10.0.0.1:2", "[2a00::1]:5"] {
        store.announce(now, OWN, (hash(1), peer.parse().unwrap(), false)).unwrap();
    }
    assert_eq!(
        values(&store, "10.9.9.9", false, 0, 999),
        ["45.0.0.1:2000", "10.0.0.1:1", "10.0.0.1:2"]
    );
    assert_eq!(values(&store, "45.9.9.9", false, 0, 999), ["45.0.0.1:2000"], "no local ones");
    assert_eq!(values(&store, "2a00::9", false, 0, 999), ["[2a00::1]:5"]);
    assert_eq!((store.torrent_count(), store.peer_count()), (1, 4));
}

#[test]
fn values_are_limited_and_vary() {
    let mut store = store();
    for ip in 0..120 {
        store.announce(Duration::ZERO, OWN, (hash(1), at(ip), ip < 100)).unwrap();
        let v6 = SocketAddr::from((std::net::Ipv6Addr::from([ip as u16 + 0x2a00; 8]), 6881));
        store.announce(Duration::ZERO, OWN, (hash(1), v6, false)).unwrap();
    }
    assert_eq!(values(&store, "45.9.9.9", false, 0, 9999).len(), 50);
    assert_eq!(values(&store, "2a00::1", false, 0, 9999).len(), 20);
    assert_eq!(values(&store, "45.9.9.9", false, 0, 80).len(), 10);
    assert_eq!(values(&store, "45.9.9.9", false, 0, 7).len(), 0);
    let (a, b) =
        (values(&store, "45.9.9.9", false, 5, 9999), values(&store, "45.9.9.9", false, 99, 9999));
    assert_ne!(a, b);
    assert_eq!(values(&store, "45.9.9.9", true, 5, 9999).len(), 20, "only those that are no seeds");
}

#[test]
fn filters_count_seeds_and_peers() {
    let mut store = store();
    (0..300)
        .for_each(|ip| store.announce(Duration::ZERO, OWN, (hash(1), at(ip), ip < 100)).unwrap());
    let (seeds, peers) = store.filters(hash(1)).unwrap();
    assert!((seeds.estimate() - 100.0).abs() < 10.0, "{}", seeds.estimate());
    assert!((peers.estimate() - 200.0).abs() < 20.0, "{}", peers.estimate());
    assert!(store.filters(hash(2)).is_none());
}

#[test]
fn peers_expire() {
    let mut store = store();
    let late = Duration::from_secs(60);
    store.announce(Duration::ZERO, OWN, (hash(1), at(1), false)).unwrap();
    store.announce(Duration::ZERO, OWN, (hash(1), at(2), false)).unwrap();
    store.announce(Duration::ZERO, OWN, (hash(2), at(2), false)).unwrap();
    store.announce(late, OWN, (hash(1), at(1), false)).unwrap();
    store.expire(PEER_LIFETIME - Duration::from_secs(1));
    assert_eq!((store.torrent_count(), store.peer_count()), (2, 3));
    store.expire(PEER_LIFETIME);
    assert_eq!((store.torrent_count(), store.peer_count()), (1, 1));
    store.expire(PEER_LIFETIME + late);
    assert_eq!((store.torrent_count(), store.peer_count()), (0, 0));
}

#[test]
fn peers_of_a_torrent_are_limited() {
    let mut store = store();
    for ip in 0..PEERS_PER_TORRENT as u32 {
        store.announce(Duration::ZERO, OWN, (hash(1), at(ip), false)).unwrap();
    }
    assert!(!store.accepts(OWN, hash(1), at(9999)));
    assert_eq!(store.announce(Duration::ZERO, OWN, (hash(1), at(9999), false)), Err(StoreFull));
    assert!(store.accepts(OWN, hash(1), at(3)), "its announce is renewed");
    assert_eq!(store.announce(Duration::ZERO, OWN, (hash(1), at(3), true)), Ok(()));
    assert_eq!(store.peer_count(), PEERS_PER_TORRENT);
}

#[test]
fn ipv6_network_does_not_close_a_torrent() {
    let mut store = store();
    let v6 = |net: u32, last: u32| {
        let ip = 0x2a00 << 112 | u128::from(net) << 64 | u128::from(last);
        SocketAddr::from((std::net::Ipv6Addr::from_bits(ip), 1))
    };
    for last in 0..1000 {
        let now = Duration::from_secs(last.into());
        assert_eq!(store.announce(now, OWN, (hash(1), v6(1, last), false)), Ok(()));
    }
    assert_eq!(store.peer_count(), 4);
    let newest = values(&store, "2a00::1", false, 0, 999);
    assert!(newest.contains(&v6(1, 999).to_string()), "{newest:?}");
    for net in 2..=PEERS_PER_TORRENT as u32 - 3 {
        assert_eq!(store.announce(Duration::ZERO, OWN, (hash(1), v6(net, 1), false)), Ok(()));
    }
    assert!(!store.accepts(OWN, hash(1), v6(9999, 1)));
    assert!(store.accepts(OWN, hash(1), v6(1, 5)), "it takes the place of another of its network");
    assert!(store.accepts(OWN, hash(1), at(1)), "IPv4 has places of its own");
}

#[test]
fn torrents_are_limited_and_farthest_goes() {
    let mut store = store();
    for number in 0..MAX_TORRENTS as u32 {
        store.announce(Duration::ZERO, OWN, (hash(2 * number), at(number << 8), false)).unwrap();
    }
    let farthest = 2 * (MAX_TORRENTS as u32 - 1);
    assert!(!store.accepts(OWN, hash(farthest + 1), at(1)));
    assert_eq!(
        store.announce(Duration::ZERO, OWN, (hash(farthest + 1), at(1), false)),
        Err(StoreFull)
    );
    assert!(store.accepts(OWN, hash(1), at(1)));
    store.announce(Duration::ZERO, OWN, (hash(1), at(1), false)).unwrap();
    assert_eq!(store.torrent_count(), MAX_TORRENTS);
    assert!(store.filters(hash(farthest)).is_none() && store.filters(hash(1)).is_some());
}

#[test]
fn peers_are_limited_in_all() {
    let mut store = store();
    let mut ip = 0;
    for number in 0..40 {
        for _ in 0..PEERS_PER_TORRENT {
            ip += 1;
            // Nearer and nearer, so that each torrent is accepted.
            let _ = store.announce(Duration::ZERO, OWN, (hash(1000 - number), at(ip), false));
        }
        assert!(store.peer_count() <= MAX_PEERS);
    }
    assert!(store.peer_count() > MAX_PEERS - PEERS_PER_TORRENT);
    assert!(store.filters(hash(961)).is_some() && store.filters(hash(1000)).is_none());
    let bytes = store.memory() - 2 * store.torrent_count() * (20 + size_of::<TorrentPeers>());
    assert!(bytes <= 24 * store.peer_count(), "{bytes}");
}

#[test]
fn torrents_of_an_address_are_limited() {
    let mut store = store();
    let v6 = |last: u32| {
        SocketAddr::from((std::net::Ipv6Addr::from_bits(0x2a00 << 112 | u128::from(last)), 1))
    };
    for number in 0..TORRENTS_PER_ADDRESS as u32 {
        store.announce(Duration::ZERO, OWN, (hash(number), at(1), false)).unwrap();
        store.announce(Duration::ZERO, OWN, (hash(number), v6(number), false)).unwrap();
    }
    let full = hash(TORRENTS_PER_ADDRESS as u32);
    assert_eq!(store.announce(Duration::ZERO, OWN, (full, at(1), false)), Err(StoreFull));
    assert_eq!(
        store.announce(Duration::ZERO, OWN, (full, v6(9999), false)),
        Err(StoreFull),
        "the /64"
    );
    assert_eq!(store.announce(Duration::ZERO, OWN, (hash(5), at(1), false)), Ok(()));
    assert_eq!(store.announce(Duration::ZERO, OWN, (full, at(2), false)), Ok(()));
}

#[test]
fn nearer_of_our_ids_counts() {
    let mut store = store();
    // Torrents near the IPv6 id are far from the IPv4 id.
    let far = NodeId([0xff; 20]);
    let both = OwnIds([Some(NodeId([0; 20])), Some(far)]);
    for number in 1..=MAX_TORRENTS as u32 {
        store.announce(Duration::ZERO, both, (hash(number << 16), at(number << 8), false)).unwrap();
    }
    let near = InfoHashV1([0xff; 20]);
    assert!(store.accepts(both, near, at(1)));
    assert!(!store.accepts(OWN, near, at(1)), "another id ranks in another way");
}

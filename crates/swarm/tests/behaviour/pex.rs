//! Peer exchange.

use std::net::SocketAddr;

use swarm::{ConnectFailure, ConnectedPeer, DisconnectReason, Output, PeerKey, PexEntry, Source};

use crate::bench::{Bench, address, peer_id, seconds, setup};

/// Connects to a peer that takes part.
fn dial(bench: &mut Bench, number: u64) -> PeerKey {
    bench.swarm.handle_candidates(bench.now, Source::Tracker, &[address(number)]);
    while bench.swarm.next_candidate(bench.now).is_some() {}
    let (key, address, peer_id) = (PeerKey(5000 + number), address(number), peer_id(number));
    let peer = ConnectedPeer { address, outgoing: true, fast: true, peer_id };
    bench.swarm.handle_connected(bench.now, key, peer).unwrap();
    bench.swarm.handle_pex_support(bench.now, key, true);
    key
}

fn leave(bench: &mut Bench, key: PeerKey) {
    bench.swarm.handle_disconnected(bench.now, key, DisconnectReason::Closed);
}

/// A message to one peer: who came and who went.
type News = (Vec<SocketAddr>, Vec<SocketAddr>);

/// Returns the messages to `key` in the next `time`.
fn told(bench: &mut Bench, key: PeerKey, time: u64) -> Vec<News> {
    let outputs = bench.pass(seconds(time));
    let news = outputs.into_iter().filter_map(|output| match output {
        Output::Pex { peer, added, dropped } if peer == key => {
            Some((added.iter().map(|entry| entry.address).collect(), dropped))
        }
        _ => None,
    });
    news.collect()
}

fn addresses(numbers: impl IntoIterator<Item = u64>) -> Vec<SocketAddr> {
    numbers.into_iter().map(address).collect()
}

/// A public address.
fn public(number: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([45, 1, 1, number], port))
}

#[test]
fn peers_are_told_of_changes() {
    let mut bench = Bench::new(2, 1);
    let (one, two) = (dial(&mut bench, 1), dial(&mut bench, 2));
    assert_eq!(told(&mut bench, one, 10), [(addresses([2]), vec![])], "soon after the handshake");
    let three = dial(&mut bench, 3);
    let passing = dial(&mut bench, 4);
    leave(&mut bench, passing);
    leave(&mut bench, two);
    assert_eq!(told(&mut bench, one, 40), [], "not before a minute has passed");
    assert_eq!(told(&mut bench, one, 20), [(addresses([3]), addresses([2]))]);
    assert_eq!(told(&mut bench, one, 200), [], "nothing has changed");
    leave(&mut bench, three);
    assert_eq!(told(&mut bench, one, 60), [(vec![], addresses([3]))]);
}

#[test]
fn peer_that_came_back_has_not_gone() {
    let mut bench = Bench::new(2, 1);
    let (one, two) = (dial(&mut bench, 1), dial(&mut bench, 2));
    assert_eq!(told(&mut bench, one, 10), [(addresses([2]), vec![])]);
    leave(&mut bench, two);
    let (key, address, peer_id) = (PeerKey(9), address(2), peer_id(2));
    let peer = ConnectedPeer { address, outgoing: true, fast: true, peer_id };
    bench.swarm.handle_connected(bench.now, key, peer).unwrap();
    assert_eq!(told(&mut bench, one, 60), [(addresses([2]), vec![])]);
}

#[test]
fn local_addresses_stay_in_the_local_network() {
    let mut bench = Bench::new(2, 1);
    let (local, public) = (dial(&mut bench, 1), PeerKey(9));
    assert_eq!(address(1).ip().to_string(), "10.0.0.1");
    let peer = ConnectedPeer {
        address: self::public(1, 6881),
        outgoing: true,
        fast: true,
        peer_id: peer_id(9),
    };
    bench.swarm.handle_connected(bench.now, public, peer).unwrap();
    bench.swarm.handle_pex_support(bench.now, public, true);
    let messages = bench.pass(seconds(10)).into_iter().filter_map(|output| match output {
        Output::Pex { peer, added, .. } => Some((peer, added[0].address)),
        _ => None,
    });
    assert_eq!(messages.collect::<Vec<_>>(), [(local, self::public(1, 6881))]);
}

#[test]
fn entry_says_seed_and_reachable() {
    let mut bench = Bench::new(2, 1);
    let one = dial(&mut bench, 101);
    let seed = dial(&mut bench, 102);
    bench.swarm.handle_have_all(bench.now, seed);
    let incoming = bench.join();
    bench.swarm.handle_listen_port(bench.now, incoming, 7000);
    let hidden = bench.join();
    assert!(bench.swarm.peer(hidden).is_some(), "nobody knows where it listens");
    let outputs = bench.pass(seconds(10));
    let mut added = outputs.into_iter().find_map(|output| match output {
        Output::Pex { peer, added, .. } if peer == one => Some(added),
        _ => None,
    });
    added.as_mut().unwrap().sort_by_key(|entry| entry.address);
    let at = SocketAddr::new(bench.swarm.peer(incoming).unwrap().address.ip(), 7000);
    let mut expected = [
        PexEntry { address: address(102), seed: true, reachable: true },
        PexEntry { address: at, seed: false, reachable: false },
    ];
    expected.sort_by_key(|entry| entry.address);
    assert_eq!(added.unwrap(), expected);
}

#[test]
fn message_has_fifty_entries() {
    let config = setup(2, 1).config(|config| config.max_peers = 500);
    let mut bench = Bench::with(&config);
    let one = dial(&mut bench, 1);
    told(&mut bench, one, 10);
    let many: Vec<PeerKey> = (2..122).map(|number| dial(&mut bench, number)).collect();
    let counts = |news: Vec<News>| -> Vec<(usize, usize)> {
        news.iter().map(|(added, dropped)| (added.len(), dropped.len())).collect()
    };
    assert_eq!(counts(told(&mut bench, one, 180)), [(50, 0), (50, 0), (20, 0)]);
    many.into_iter().for_each(|key| leave(&mut bench, key));
    assert_eq!(counts(told(&mut bench, one, 180)), [(0, 50), (0, 50), (0, 20)]);
}

#[test]
fn feed_remembers_thousand_changes() {
    let mut bench = Bench::new(2, 1);
    let one = dial(&mut bench, 1);
    told(&mut bench, one, 10);
    dial(&mut bench, 2000);
    (0..499).for_each(|number| pass_by(&mut bench, 100 + number));
    assert_eq!(told(&mut bench, one, 60), [(addresses([2000]), vec![])]);
    dial(&mut bench, 2001);
    dial(&mut bench, 2002);
    (0..500).for_each(|number| pass_by(&mut bench, 700 + number));
    assert_eq!(told(&mut bench, one, 60), [], "both are forgotten");
}

fn pass_by(bench: &mut Bench, number: u64) {
    let key = dial(bench, number);
    leave(bench, key);
}

#[test]
fn private_torrents_exchange_no_peers() {
    let config = setup(2, 1).config(|config| config.private = true);
    let mut bench = Bench::with(&config);
    let (one, two) = (dial(&mut bench, 1), dial(&mut bench, 2));
    bench.swarm.handle_pex(bench.now, one, &addresses([3]));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    leave(&mut bench, two);
    assert_eq!(told(&mut bench, one, 200), []);
}

#[test]
fn no_message_before_the_transfer() {
    let mut bench = Bench::without_transfer(&setup(2, 1));
    let one = dial(&mut bench, 1);
    dial(&mut bench, 2);
    assert_eq!(told(&mut bench, one, 200), []);
    bench.begin_transfer(&setup(2, 1)).unwrap();
    assert_eq!(told(&mut bench, one, 10), [(addresses([2]), vec![])]);
}

#[test]
fn named_peers_become_candidates() {
    let mut bench = Bench::new(2, 1);
    let one = dial(&mut bench, 1);
    bench.swarm.handle_pex(bench.now, one, &addresses(2..100));
    let mut named = 0;
    while let Some(address) = bench.swarm.next_candidate(bench.now) {
        bench.swarm.handle_connect_failed(bench.now, address, ConnectFailure::Unreachable);
        named += 1;
    }
    assert_eq!(named, 50, "as many as a message may have");
    assert_eq!(bench.swarm.source_of(address(2)), Some(Source::Pex));
}

#[test]
fn untried_addresses_of_one_peer_are_limited() {
    let mut bench = Bench::new(2, 1);
    let (one, two) = (dial(&mut bench, 1), dial(&mut bench, 2));
    let known = bench.swarm.peers_known();
    bench.swarm.handle_pex(bench.now, one, &addresses(100..140));
    bench.swarm.handle_pex(bench.now, one, &addresses(140..180));
    assert_eq!(bench.swarm.peers_known(), known + 50);
    bench.swarm.handle_pex(bench.now, two, &addresses(200..210));
    assert_eq!(bench.swarm.peers_known(), known + 60, "the other one has a limit of its own");
    while let Some(address) = bench.swarm.next_candidate(bench.now) {
        bench.swarm.handle_connect_failed(bench.now, address, ConnectFailure::Unreachable);
    }
    bench.swarm.handle_pex(bench.now, one, &addresses(140..180));
    assert_eq!(bench.swarm.peers_known(), known + 90, "they were tried");
}

#[test]
fn one_address_per_public_ip_is_kept() {
    let mut bench = Bench::new(2, 1);
    let (one, two) = (dial(&mut bench, 1), dial(&mut bench, 2));
    let ports: Vec<SocketAddr> = (1000..1040).map(|port| public(7, port)).collect();
    bench.swarm.handle_pex(bench.now, one, &ports);
    bench.swarm.handle_pex(bench.now, two, &[public(7, 2000), public(8, 0), public(8, 1)]);
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(public(7, 1000)));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    // It is not dialled again within a minute.
    bench.swarm.handle_connect_failed(bench.now, public(7, 1000), ConnectFailure::Unreachable);
    bench.pass(seconds(59));
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    bench.pass(seconds(2));
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(public(7, 1000)));
}

#[test]
fn nodes_name_one_address_per_public_ip() {
    let mut bench = Bench::new(2, 1);
    let named = [public(7, 1000), public(7, 1001), public(8, 1), public(8, 1002)];
    assert_eq!(bench.swarm.handle_candidates(bench.now, Source::Dht, &named), 2);
    assert_eq!(bench.swarm.handle_candidates(bench.now, Source::Dht, &[public(7, 1003)]), 0);
}

#[test]
fn made_up_addresses_keep_nobody_else_out() {
    let mut bench = Bench::new(2, 1);
    let made_up: Vec<SocketAddr> = (0..10_000)
        .map(|number: u32| SocketAddr::from(((0x2D00_0000 + number).to_be_bytes(), 6881)))
        .collect();
    let kept = |bench: &mut Bench, source, addresses: &[SocketAddr]| -> usize {
        let lists = addresses.chunks(2000);
        lists.map(|list| bench.swarm.handle_candidates(bench.now, source, list)).sum()
    };
    assert_eq!(kept(&mut bench, Source::Dht, &made_up), 5000);
    assert_eq!(kept(&mut bench, Source::Tracker, &made_up[6000..8000]), 2000);
    // What a tracker names, too, is not made up any more.
    kept(&mut bench, Source::Tracker, &made_up[..1000]);
    assert_eq!(kept(&mut bench, Source::Dht, &made_up), 1000);
}

#[test]
fn public_peer_names_no_local_address() {
    let mut bench = Bench::new(2, 1);
    let join = |bench: &mut Bench, number: u8| {
        let (key, address) = (PeerKey(900 + u64::from(number)), public(number, 6881));
        let peer_id = peer_id(900 + u64::from(number));
        let peer = ConnectedPeer { address, outgoing: false, fast: true, peer_id };
        bench.swarm.handle_connected(bench.now, key, peer).unwrap();
        key
    };
    let stranger = join(&mut bench, 1);
    let local = ["10.9.9.9:1000", "127.0.0.1:1000", "[fe80::1]:1000", "[fd00::1]:1000"];
    let local: Vec<SocketAddr> = local.iter().map(|address| address.parse().unwrap()).collect();
    bench.swarm.handle_pex(bench.now, stranger, &local);
    assert_eq!(bench.swarm.next_candidate(bench.now), None);
    // The user named this one.
    bench.swarm.handle_candidates(bench.now, Source::User, &[public(2, 6881)]);
    while bench.swarm.next_candidate(bench.now).is_some() {}
    let named = join(&mut bench, 2);
    bench.swarm.handle_pex(bench.now, named, &local[..1]);
    assert_eq!(bench.swarm.next_candidate(bench.now), Some(local[0]));
}

#[test]
fn frequent_messages_are_ignored_then_break_a_rule() {
    let mut bench = Bench::new(2, 1);
    let one = dial(&mut bench, 1);
    let name = |bench: &mut Bench, number: u64| {
        bench.swarm.handle_pex(bench.now, one, &addresses([number]));
        bench.swarm.source_of(address(number)).is_some()
    };
    assert!((100..103).all(|number| name(&mut bench, number)), "a burst of three");
    assert!(!name(&mut bench, 103));
    bench.pass(seconds(45));
    assert!(name(&mut bench, 104) && !name(&mut bench, 105));
    // The one that came in time makes up for one.
    for number in 106..115 {
        assert!(!name(&mut bench, number));
        assert!(bench.swarm.peer(one).is_some(), "ignored");
    }
    // To say that one takes no messages clears nothing.
    bench.swarm.handle_pex_support(bench.now, one, false);
    bench.swarm.handle_pex_support(bench.now, one, true);
    name(&mut bench, 115);
    let outputs = bench.drain();
    let reason = DisconnectReason::Misbehaved;
    assert!(outputs.contains(&Output::Disconnect { peer: one, reason }), "{outputs:?}");
}

/// A message in 40 s is one too many now and then.
#[test]
fn nearly_timely_messages_break_no_rule() {
    let mut bench = Bench::new(2, 1);
    let one = dial(&mut bench, 1);
    for number in 0..2000 {
        bench.swarm.handle_pex(bench.now, one, &addresses([100 + number]));
        bench.pass(seconds(40));
    }
    assert!(bench.swarm.peer(one).is_some());
}

#[test]
fn one_address_per_ipv6_network_is_kept() {
    let mut bench = Bench::new(2, 1);
    let one = dial(&mut bench, 1);
    let at = |host: u16, net: u16| {
        let ip = std::net::Ipv6Addr::new(0x2a00, 1, 1, net, 9, 0, 0, host);
        SocketAddr::from((ip, 6881 + host))
    };
    let named: Vec<SocketAddr> = (0..20).map(|host| at(host, 7)).collect();
    bench.swarm.handle_pex(bench.now, one, &named);
    bench.swarm.handle_pex(bench.now, one, &[at(30, 7), at(1, 6), at(2, 8)]);
    let tried: Vec<_> = std::iter::from_fn(|| bench.swarm.next_candidate(bench.now)).collect();
    assert_eq!(tried.len(), 3, "{tried:?}");
    // A tracker may name more.
    assert_eq!(bench.swarm.handle_candidates(bench.now, Source::Tracker, &named), 19);
}

/// The others of the same informant wait, and those of another one do not.
#[test]
fn dials_of_one_informant_are_limited() {
    let mut bench = Bench::new(2, 1);
    let (one, two) = (dial(&mut bench, 1), dial(&mut bench, 2));
    let dials = |bench: &mut Bench| -> Vec<SocketAddr> {
        std::iter::from_fn(|| bench.swarm.next_candidate(bench.now)).collect()
    };
    bench.swarm.handle_pex(bench.now, one, &addresses(100..150));
    let first = dials(&mut bench);
    assert_eq!(first.len(), 12);
    bench.swarm.handle_pex(bench.now, two, &addresses(200..202));
    bench.swarm.handle_candidates(bench.now, Source::Tracker, &addresses([300, 301]));
    let mut others = dials(&mut bench);
    others.sort();
    assert_eq!(others, addresses([200, 201, 300, 301]));
    for address in &first[..3] {
        bench.swarm.handle_connect_failed(bench.now, *address, ConnectFailure::Unreachable);
    }
    assert_eq!(dials(&mut bench).len(), 3, "as many as have ended");
    // What a tracker names, too, waits for nobody.
    bench.swarm.handle_candidates(bench.now, Source::Tracker, &addresses(100..150));
    assert_eq!(dials(&mut bench).len(), 50 - 15);
}

#[test]
fn dials_of_one_node_are_limited() {
    let mut bench = Bench::new(2, 1);
    let named: Vec<SocketAddr> = (0..60).map(|number| public(number, 6881)).collect();
    let mut dials = |node: &str, named: &[SocketAddr]| {
        bench.swarm.handle_node_peers(bench.now, node.parse().unwrap(), named);
        std::iter::from_fn(|| bench.swarm.next_candidate(bench.now)).count()
    };
    assert_eq!(dials("46.1.1.1:1", &named[..20]), 12);
    assert_eq!(dials("46.1.1.1:2", &named[20..40]), 0, "the same host");
    assert_eq!(dials("46.1.1.2:1", &named[40..50]), 10);
    // A local host has many nodes.
    assert_eq!(dials("127.0.0.1:1", &named[50..55]), 5);
    assert_eq!(dials("127.0.0.1:2", &named[55..]), 5);
}

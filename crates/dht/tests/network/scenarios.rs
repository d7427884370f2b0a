//! Networks that grow, churn, fail and hide behind NATs.

use std::time::Duration;

use dht::{Announce, Config, Event, InfoHashV1, NodeId, SavedState};
use rand::RngExt as _;

use super::net::{Nat, Net};

const MINUTE: Duration = Duration::from_secs(60);

fn hash(number: u8) -> InfoHashV1 {
    let mut hash = [number; 20];
    hash[0] = number.wrapping_mul(37);
    InfoHashV1(hash)
}

/// Has `index` announce a torrent and returns how many nodes stored it.
fn announce(net: &mut Net, index: usize, number: u8) -> u32 {
    let announce = Announce::Port { port: 7000 + u16::from(number), seed: false };
    net.lookup(index, |dht, now| dht.find_peers(now, hash(number), announce)).1.stored
}

/// Whether `index` finds the peer of `announcer`.
fn finds(net: &mut Net, index: usize, announcer: usize, number: u8) -> bool {
    let (peers, _) = net.lookup(index, |dht, now| dht.find_peers(now, hash(number), Announce::No));
    let mut expected = net.nodes[announcer].address;
    expected.set_port(7000 + u16::from(number));
    peers.contains(&expected)
}

#[test]
fn everyone_finds_everyone() {
    let mut net = Net::new(1);
    net.join(60, Nat::None);
    net.run(4 * MINUTE);
    for number in 0..20 {
        let stored = announce(&mut net, usize::from(number), number);
        assert!(stored >= 6, "{number}: {stored}");
    }
    for index in 0..60 {
        let number = net.rng.random_range(0..20);
        assert!(finds(&mut net, index, number.into(), number), "{index} {number}");
    }
    for node in &net.nodes {
        assert!(node.dht.status().nodes_v4 >= 20, "{}", node.dht.status().nodes_v4);
        // Everyone has heard its address and taken an id that fits it.
        let ip = node.address.ip();
        assert_eq!(node.dht.external_address(), [Some(ip), None]);
        assert!(node.dht.node_ids()[0].expect("IPv4").fits_address(ip));
    }
}

#[test]
fn two_nodes_are_a_network() {
    let mut net = Net::new(2);
    net.join(2, Nat::None);
    assert_eq!(announce(&mut net, 1, 1), 1);
    assert!(finds(&mut net, 0, 1, 1), "it has the peer itself");
    net.run(3 * MINUTE);
    assert_eq!(net.nodes[0].dht.status().nodes_v4, 1, "the asker was checked");
    assert_eq!(announce(&mut net, 0, 2), 1);
    assert!(finds(&mut net, 1, 0, 2));
}

/// The nodes that it asks first tell it its address, for which it takes another id while it
/// announces itself (BEP 42).
#[test]
fn new_id_does_not_spoil_announce() {
    let mut net = Net::new(10);
    net.join(30, Nat::None);
    net.run(4 * MINUTE);
    let config = net.config();
    let new = net.add(&config, Nat::None);
    let (contact, first) = (net.nodes[0].address, net.nodes[new].dht.node_ids());
    net.with(new, |dht, now| dht.handle_node(now, contact));
    let stored = announce(&mut net, new, 1);
    assert_ne!(net.nodes[new].dht.node_ids(), first, "it has another id");
    assert!(stored >= 6, "{stored}");
    assert!(finds(&mut net, 5, new, 1));
}

/// A node that nobody answered at first has been found by another one since. It still meets the
/// network that it was to join.
#[test]
fn silent_contact_is_asked_again() {
    let mut net = Net::new(9);
    // In a local network a node that asks is known at once.
    let [first, other, late, asker] = [1, 2, 3, 4].map(|last| {
        let config = net.config();
        net.add_at(&config, Nat::None, ([10, 0, 0, last], 6881).into())
    });
    let name = |net: &mut Net, index: usize, contact: usize| {
        let contact = net.nodes[contact].address;
        net.with(index, |dht, now| dht.handle_node(now, contact));
        net.run(2 * Duration::from_secs(1));
    };
    name(&mut net, other, first);
    net.nodes[first].online = false;
    name(&mut net, late, first);
    name(&mut net, asker, late);
    assert_eq!(net.nodes[asker].dht.node_count(), 1, "the late one");
    net.nodes[first].online = true;
    net.run(2 * MINUTE);
    announce(&mut net, other, 1);
    assert!(finds(&mut net, asker, other, 1));
}

#[test]
fn churn_leaves_peers_findable() {
    let mut net = Net::new(3);
    net.join(40, Nat::None);
    let (mut found, mut tried) = (0, 0);
    for minute in 0..40_u32 {
        // Half of the nodes live less than ten minutes; the first one stays.
        for index in 1..net.nodes.len() {
            if net.nodes[index].online && net.rng.random_bool(0.067) {
                net.nodes[index].online = false;
                let config = net.config();
                let new = net.add(&config, Nat::None);
                let contact = net.nodes[0].address;
                net.with(new, |dht, now| dht.handle_node(now, contact));
            }
        }
        net.run(MINUTE);
        if minute >= 10 {
            let number = minute as u8;
            announce(&mut net, 0, number);
            net.run(4 * Duration::from_secs(1));
            let live: Vec<usize> =
                (1..net.nodes.len()).filter(|at| net.nodes[*at].online).collect();
            let index = live[net.rng.random_range(0..live.len())];
            tried += 1;
            found += u32::from(finds(&mut net, index, 0, number));
        }
    }
    assert!(found * 100 >= tried * 95, "{found} of {tried}");
}

#[test]
fn saved_nodes_that_are_mostly_dead_suffice() {
    let mut net = Net::new(4);
    net.join(40, Nat::None);
    net.run(2 * MINUTE);
    announce(&mut net, 5, 1);
    // Of 300 saved nodes 270 are dead, and so are the routers.
    let mut nodes = Vec::new();
    for number in 0..300_u32 {
        let live = (number as usize % 10 == 3).then(|| &net.nodes[10 + number as usize / 10]);
        nodes.push(match live {
            Some(node) => (node.dht.node_ids()[0].expect("IPv4"), node.address),
            None => {
                let ip = std::net::Ipv4Addr::from_bits(0x5000_0001 + (number << 16));
                (NodeId(net.rng.random()), (ip, 6881).into())
            }
        });
    }
    let state = Some(SavedState { nodes, ..SavedState::default() });
    let config = Config { state, ..net.config() };
    let index = net.add(&config, Nat::None);
    let start = net.now;
    let router = "66.1.1.1:6881".parse().expect("an address");
    net.with(index, |dht, now| dht.handle_routers(now, &[router]));
    assert!(finds(&mut net, index, 5, 1));
    assert!(net.now - start < Duration::from_secs(30), "{:?}", net.now - start);
    net.run(2 * MINUTE);
    assert!(net.nodes[index].dht.status().nodes_v4 >= 20);
}

#[test]
fn outage_of_all_leaves_tables_intact() {
    let mut net = Net::new(5);
    net.join(40, Nat::None);
    net.run(5 * MINUTE);
    let before: usize = net.nodes.iter().map(|node| node.dht.status().nodes_v4).sum();
    net.loss = 1000;
    for minute in 0..20 {
        let index = minute % 40;
        net.lookup(index, |dht, now| dht.find_peers(now, hash(9), Announce::No));
        net.run(MINUTE);
    }
    net.loss = 20;
    let after: usize = net.nodes.iter().map(|node| node.dht.status().nodes_v4).sum();
    assert!(after * 100 >= before * 90, "{after} of {before}");
    net.run(MINUTE);
    announce(&mut net, 3, 1);
    for index in 10..30 {
        assert!(finds(&mut net, index, 3, 1), "{index}");
    }
}

#[test]
fn outage_of_one_is_survived() {
    let mut net = Net::new(6);
    net.join(40, Nat::None);
    net.run(5 * MINUTE);
    announce(&mut net, 3, 1);
    net.nodes[7].online = false;
    for _ in 0..20 {
        net.lookup(7, |dht, now| dht.find_peers(now, hash(1), Announce::No));
        net.run(MINUTE);
    }
    net.nodes[7].online = true;
    net.run(MINUTE);
    assert!(finds(&mut net, 7, 3, 1));
}

#[test]
fn unreachable_nodes_are_not_named() {
    let mut net = Net::new(7);
    net.join(30, Nat::None);
    net.run(5 * MINUTE);
    net.join(10, Nat::PortRestricted);
    net.join(10, Nat::Symmetric);
    net.run(5 * MINUTE);
    for index in 30..50 {
        let number = index as u8;
        assert!(announce(&mut net, index, number) >= 4, "a NAT does not hinder an announce");
    }
    net.run(20 * MINUTE);
    net.named = (0, 0);
    for index in 0..50 {
        let announcer = 30 + index % 20;
        assert!(finds(&mut net, index, announcer, announcer as u8), "{index}");
    }
    net.run(20 * MINUTE);
    let (unreachable, named) = net.named;
    assert!(named > 1000 && unreachable * 100 <= named * 3, "{unreachable} of {named}");
}

#[test]
fn same_seed_gives_same_datagrams() {
    let play = |seed| {
        let mut net = Net::new(seed);
        net.join(20, Nat::None);
        net.run(MINUTE);
        announce(&mut net, 3, 1);
        net.nodes.into_iter().map(|node| node.sent).collect::<Vec<_>>()
    };
    assert_eq!(play(8), play(8));
    assert_ne!(play(8), play(9));
}

#[test]
fn families_help_each_other() {
    let mut net = Net::new(11);
    let v6 = |number: u16| {
        let ip = std::net::Ipv6Addr::new(0x2a00 + number, number, 0, 0, 0, 0, 0, 1);
        std::net::SocketAddr::from((ip, 6881))
    };
    // Nodes 0 to 19 have both families, 20 to 29 IPv4 only, 30 to 39 IPv6 only.
    for number in 0..40_u16 {
        let (is_v4, is_v6) = (number < 30, !(20..30).contains(&number));
        let config = Config { v4: is_v4, v6: is_v6, ..net.config() };
        let index = if is_v4 {
            net.add(&config, Nat::None)
        } else {
            net.add_at(&config, Nat::None, v6(number))
        };
        if is_v4 && is_v6 {
            net.add_address(index, v6(number));
        }
        // Nobody with both families is given a contact for IPv6 but the second one.
        let contact = if is_v4 { net.nodes[0].address } else { v6(1) };
        if number > 0 {
            net.with(index, |dht, now| dht.handle_node(now, contact));
        }
        if number == 1 {
            net.with(0, |dht, now| dht.handle_node(now, v6(1)));
        }
        net.run(Duration::from_secs(1));
    }
    net.run(6 * MINUTE);
    for node in &net.nodes[..20] {
        let status = node.dht.status();
        assert!(status.nodes_v4 >= 16 && status.nodes_v6 >= 16, "{status:?}");
    }
    announce(&mut net, 5, 1);
    assert!(finds(&mut net, 25, 5, 1), "IPv4 only");
    let (peers, _) = net.lookup(35, |dht, now| dht.find_peers(now, hash(1), Announce::No));
    let expected = std::net::SocketAddr::new(v6(5).ip(), 7001);
    assert_eq!(peers, [expected], "IPv6 only");
    let (mut peers, _) = net.lookup(7, |dht, now| dht.find_peers(now, hash(1), Announce::No));
    peers.sort();
    let v4 = std::net::SocketAddr::new(net.nodes[5].address.ip(), 7001);
    assert_eq!(peers, [v4, expected], "both");
}

#[test]
fn scrape_counts_a_swarm() {
    let mut net = Net::new(12);
    net.join(60, Nat::None);
    net.run(3 * MINUTE);
    for index in 0..40 {
        let announce = Announce::Port { port: 7000, seed: index % 4 == 0 };
        net.lookup(index, |dht, now| dht.find_peers(now, hash(1), announce));
    }
    net.lookup(50, |dht, now| dht.scrape(now, hash(1)));
    let counts = net.nodes[50].events.iter().find_map(|event| match event {
        Event::Scraped { seeds, peers, .. } => Some((*seeds, *peers)),
        _ => None,
    });
    let (seeds, peers) = counts.expect("counts");
    assert!((9..=11).contains(&seeds) && (28..=32).contains(&peers), "{seeds} {peers}");
}

#[test]
fn idle_node_sends_little() {
    let mut net = Net::new(10);
    net.join(60, Nat::None);
    net.run(10 * MINUTE);
    net.nodes.iter_mut().for_each(|node| node.sent.clear());
    let before: Vec<u64> =
        net.nodes.iter().map(|node| node.dht.status().counters.sent_bytes).collect();
    net.run(60 * MINUTE);
    for (node, before) in net.nodes.iter().zip(before) {
        let day = (node.dht.status().counters.sent_bytes - before) * 24;
        assert!(day <= 2_000_000, "{day} bytes a day");
        assert!(node.dht.status().nodes_v4 >= 40, "{}", node.dht.status().nodes_v4);
    }
}

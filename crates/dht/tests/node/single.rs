//! One node and what others send it, message by message.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::InfoHashV1;
use dht::message::{Body, Message, Method, Nodes, Query, Reply, Want};
use dht::{
    Announce, CALL_TIMEOUT, Config, DHT_MEMORY, Event, Family, MAX_LOOKUPS, MAX_QUEUED_LOOKUPS,
    NodeId, SavedState, TOKEN_ROTATION,
};

use super::bench::{Bench, HASH, OWN, Script, at, compact, config, encode, get_peers, node, query};

#[test]
fn queries_get_their_replies() {
    let mut bench = Bench::new(&config());
    let (id, asker) = (NodeId([9; 20]), at("45.1.2.3:6881"));
    let answer = bench.ask(asker, id, Method::Ping).expect("a reply");
    assert_eq!((answer.reply(), answer.message().ip), (Reply::new(OWN), Some(asker)));
    bench.meet(20);
    let target = node(7).0;
    let method = Method::FindNode { target, want: Want::default() };
    let answer = bench.ask(asker, id, method).expect("a reply");
    let nodes: Vec<_> = answer.reply().nodes.expect("nodes").iter().collect();
    assert_eq!((nodes.len(), nodes[0]), (8, node(7)));
    assert_eq!(answer.reply().nodes6, None);

    let answer = bench.ask(asker, id, get_peers(false)).expect("a reply");
    let reply = answer.reply();
    assert_eq!((reply.values, reply.nodes.map(|nodes| nodes.iter().count())), (None, Some(8)));
    let token = reply.token.expect("a token");
    let announce = Method::AnnouncePeer { info_hash: HASH, port: Some(5000), seed: true, token };
    let stored = bench.ask(asker, id, announce).expect("a reply");
    assert_eq!(stored.reply(), Reply::new(OWN));

    let other = at("45.5.5.5:1234");
    let answer = bench.ask(other, id, get_peers(true)).expect("a reply");
    let reply = answer.reply();
    let peers: Vec<_> = reply.values.expect("peers").iter().collect();
    assert_eq!(peers, [at("45.1.2.3:5000")]);
    let bits = |filter: Option<&[u8; 256]>| {
        filter.expect("a filter").iter().map(|byte| byte.count_ones()).sum::<u32>()
    };
    assert_eq!((bits(reply.seeds), bits(reply.peers)), (2, 0));
    assert_eq!((bench.dht.status().torrents, bench.dht.status().peers), (1, 1));
}

#[test]
fn implied_port_is_the_senders() {
    let mut bench = Bench::new(&config());
    let (id, asker) = (NodeId([9; 20]), at("45.1.2.3:6881"));
    let answer = bench.ask(asker, id, get_peers(false)).expect("a reply");
    let token = answer.reply().token.expect("a token");
    let announce = Method::AnnouncePeer { info_hash: HASH, port: None, seed: false, token };
    bench.ask(asker, id, announce).expect("a reply");
    let answer = bench.ask(asker, id, get_peers(false)).expect("a reply");
    assert_eq!(answer.reply().values.expect("peers").iter().next(), Some(asker));
}

#[test]
fn bad_tokens_store_nothing() {
    let mut bench = Bench::new(&config());
    let (id, asker) = (NodeId([9; 20]), at("45.1.2.3:6881"));
    let answer = bench.ask(asker, id, get_peers(false)).expect("a reply");
    let token = answer.reply().token.expect("a token").to_vec();
    let mut try_with = |token: &[u8], from: &str, id: u8, hash: u8| {
        let info_hash = InfoHashV1([hash; 20]);
        let method = Method::AnnouncePeer { info_hash, port: Some(5000), seed: false, token };
        let answer = bench.ask(at(from), NodeId([id; 20]), method).expect("an answer");
        assert_eq!(answer.error(), 203);
    };
    let mut forged = token.clone();
    forged[0] ^= 1;
    try_with(&forged, "45.1.2.3:6881", 9, 0x77);
    try_with(b"", "45.1.2.3:6881", 9, 0x77);
    try_with(&token, "45.1.2.4:6881", 9, 0x77);
    try_with(&token, "45.1.2.3:6882", 9, 0x77);
    try_with(&token, "45.1.2.3:6881", 8, 0x77);
    try_with(&token, "45.1.2.3:6881", 9, 0x78);
    bench.now += 2 * TOKEN_ROTATION;
    let announce =
        Method::AnnouncePeer { info_hash: HASH, port: Some(5000), seed: false, token: &token };
    assert_eq!(bench.ask(asker, id, announce).expect("an answer").error(), 203, "too old");
    assert_eq!(bench.dht.status().peers, 0);
}

#[test]
fn other_datagrams_get_nothing() {
    let mut bench = Bench::new(&config());
    let ping = query(NodeId([9; 20]), Method::Ping);
    for from in ["45.1.2.3:0", "0.0.0.0:5", "224.1.1.1:5", "255.255.255.255:5", "[::]:5"] {
        assert!(bench.send(at(from), &ping).is_empty(), "{from}");
    }
    let ours = query(OWN, Method::Ping);
    assert!(bench.send(at("45.1.2.3:6881"), &ours).is_empty(), "our id from elsewhere");
    for bytes in [&b""[..], b"d", b"hello world, this is no message", &[b'd'; 2000], &[0; 65_507]] {
        assert!(bench.send(at("45.1.2.3:6881"), bytes).is_empty());
    }
    // Errors and replies get no answer, so that two nodes never talk in circles.
    let error = encode(b"tttt", Body::Error(203));
    let reply = encode(b"tttt", Body::Reply(Reply::new(NodeId([9; 20]))));
    for bytes in [error, reply] {
        assert!(bench.send(at("45.1.2.3:6881"), &bytes).is_empty());
    }
    assert_eq!(bench.dht.status().counters.unmatched, 2);
}

#[test]
fn errors_are_short() {
    let mut bench = Bench::new(&config());
    let from = at("45.1.2.3:6881");
    for (bytes, expected) in [
        (&b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t1:a1:y1:qe"[..], Some(204)),
        (b"d1:ad2:id19:abcdefghij012345678e1:q9:find_node1:t1:a1:y1:qe", Some(203)),
        // The error would be more than 1.5 times as long.
        (b"d1:q1:x1:t1:a1:y1:qe", None),
    ] {
        let sent = bench.send(from, bytes);
        assert_eq!(sent.first().map(|(_, answer)| answer.error()), expected);
        assert!(sent.iter().all(|(_, answer)| answer.0.len() <= bytes.len() * 3 / 2));
    }
}

#[test]
fn answers_amplify_little() {
    let mut bench = Bench::new(&Config { throttle: false, ..config() });
    bench.meet(100);
    for number in 0..200_u16 {
        let (id, asker) = node(number);
        let answer = bench.ask(asker, id, get_peers(false)).expect("a reply");
        let token = answer.reply().token.expect("a token");
        let announce =
            Method::AnnouncePeer { info_hash: HASH, port: Some(5000), seed: false, token };
        bench.ask(asker, id, announce).expect("a reply");
    }
    let (want, target) = (Want { v4: true, v6: true }, NodeId(HASH.0));
    let scrape = Method::GetPeers { info_hash: HASH, want, noseed: false, scrape: true };
    for (method, factor) in [
        (Method::Ping, 4),
        (Method::FindNode { target, want }, 4),
        (get_peers(false), 8),
        (get_peers(true), 8),
        (scrape, 8),
    ] {
        let bytes = query(NodeId([9; 20]), method);
        for (from, headers) in [("45.1.2.3:6881", 28), ("[2a00::1]:6881", 48)] {
            let sent = bench.send(at(from), &bytes);
            let length = sent.first().expect("an answer").1.0.len();
            assert!(length <= 1024 && length + headers <= factor * (bytes.len() + headers));
        }
        if let Method::GetPeers { scrape, .. } = method {
            let answer = bench.ask(at("45.1.2.3:6881"), NodeId([9; 20]), method).expect("a reply");
            let reply = answer.reply();
            let peers = reply.values.map_or(0, |values| values.iter().count());
            assert_eq!(peers, if scrape { 21 } else { 50 });
            assert_eq!(reply.seeds.is_some(), scrape);
        }
    }
}

#[test]
fn read_only_node_answers_nothing_and_says_so() {
    let mut bench = Bench::new(&Config { read_only: true, ..config() });
    assert!(bench.ask(at("45.1.2.3:6881"), NodeId([9; 20]), Method::Ping).is_none());
    bench.dht.handle_node(bench.now, node(0).1);
    let sent = bench.drain();
    assert!(sent[0].1.message().read_only);
    bench.dht.set_read_only(false);
    assert!(bench.ask(at("45.1.2.3:6881"), NodeId([9; 20]), Method::Ping).is_some());
}

#[test]
fn read_only_asker_is_not_checked() {
    for (read_only, expected) in [(true, 0), (false, 1)] {
        let mut bench = Bench::new(&config());
        let (id, asker) = node(0);
        let body = Body::Query(Query { id, method: Method::Ping });
        let mut bytes = Vec::new();
        Message { transaction: b"tt", body, ip: None, read_only, version: None }.encode(&mut bytes);
        assert_eq!(bench.send(asker, &bytes).len(), 1, "it is answered");
        assert!(bench.wait(Duration::from_secs(89)).is_empty(), "its NAT may still be open");
        let sent = bench.wait(Duration::from_secs(10));
        let checks = sent.iter().filter(|(to, _)| *to == asker);
        assert_eq!(checks.count(), expected);
    }
}

#[test]
fn only_the_node_asked_can_answer() {
    let mut bench = Bench::new(&config());
    let (id, address) = node(0);
    bench.dht.handle_node(bench.now, address);
    let sent = bench.drain();
    let reply = encode(sent[0].1.message().transaction, Body::Reply(Reply::new(id)));
    let mut other = address;
    other.set_port(6882);
    bench.send(other, &reply);
    bench.send(node(1).1, &reply);
    assert_eq!(bench.dht.status().nodes_v4, 0);
    bench.send(address, &reply);
    assert_eq!(bench.dht.status().nodes_v4, 1);
    bench.send(address, &reply);
    assert_eq!(bench.dht.status().counters.unmatched, 3, "the last one is a duplicate");
}

#[test]
fn node_that_changes_its_id_is_evicted_and_ignored() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let address = node(0).1;
    bench.dht.ping(bench.now, address);
    let sent = bench.drain();
    let other = Reply::new(node(9).0);
    bench.send(address, &encode(sent[0].1.message().transaction, Body::Reply(other)));
    assert_eq!(bench.dht.status().nodes_v4, 0);
    bench.dht.ping(bench.now, address);
    assert!(bench.drain().is_empty());
    let ours = Reply::new(OWN);
    bench.meet_at(node(3));
    bench.dht.ping(bench.now, node(3).1);
    let sent = bench.drain();
    bench.send(node(3).1, &encode(sent[0].1.message().transaction, Body::Reply(ours)));
    assert_eq!(bench.dht.status().nodes_v4, 0, "nobody else has our id");
}

#[test]
fn wrong_claim_about_a_node_does_not_hurt_it() {
    let mut bench = Bench::new(&config());
    bench.meet(2);
    // Node 0 names node 1 under a wrong id near the target.
    let nodes = compact(&[(NodeId(HASH.0), node(1).1)]);
    let lie = Reply { nodes: Nodes::new(Family::V4, &nodes), ..Reply::new(node(0).0) };
    bench.dht.find_peers(bench.now, HASH, Announce::No);
    let sent = bench.drain();
    bench.serve(sent, &lie);
    bench.wait(CALL_TIMEOUT);
    assert_eq!(bench.dht.status().nodes_v4, 2);
}

#[test]
fn bad_nodes_are_not_asked() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let id = |last: u8| {
        let mut id = HASH.0;
        id[19] = last;
        NodeId(id)
    };
    let nodes = [
        "0.1.2.3:6881",
        "45.1.1.1:0",
        "127.0.0.1:6881",
        "10.0.0.1:6881",
        "224.0.0.1:6881",
        "255.255.255.255:6881",
        "100.64.0.1:6881",
        "46.7.7.7:6881",
    ];
    let named: Vec<_> = nodes.iter().zip(1..).map(|(node, last)| (id(last), at(node))).collect();
    let nodes = compact(&[&named[..], &[(OWN, at("46.8.8.8:6881"))]].concat());
    let reply = Reply { nodes: Nodes::new(Family::V4, &nodes), ..Reply::new(node(0).0) };
    bench.dht.find_nodes(bench.now, HASH.into());
    let sent = bench.drain();
    let mut asked = bench.serve(sent, &reply);
    asked.extend(bench.wait(CALL_TIMEOUT).iter().map(|(to, _)| *to));
    asked.retain(|to| *to != node(0).1);
    assert_eq!(asked, [at("46.7.7.7:6881")]);
}

#[test]
fn bad_peers_are_skipped() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let mut values = Vec::new();
    for peer in
        ["45.1.1.1:0", "45.1.1.1:1", "10.0.0.1:5", "0.0.0.0:5", "45.2.2.2:80", "45.2.2.2:80"]
    {
        values.extend(b"6:");
        bt_types::compact::encode(at(peer), &mut values);
    }
    let bytes = [&b"d1:rd2:id20:"[..], &node(0).0.0, b"6:valuesl", &values, b"ee1:t4:TTTT1:y1:re"];
    let bytes = bytes.concat();
    bench.dht.find_peers(bench.now, HASH, Announce::No);
    let (to, sent) = bench.drain().pop().expect("a query");
    let transaction = bytes.windows(4).position(|four| four == b"TTTT").expect("it is there");
    let mut bytes = bytes;
    bytes[transaction..transaction + 4].copy_from_slice(sent.message().transaction);
    bench.send(to, &bytes);
    let peers = bench.events().into_iter().find_map(|event| match event {
        Event::Peers { addresses, from, .. } => Some((addresses, from)),
        _ => None,
    });
    assert_eq!(peers, Some((vec![at("45.2.2.2:80")], Some(to))));
}

#[test]
fn local_node_may_name_local_ones() {
    for (accept_local, expected) in [(true, true), (false, false)] {
        let mut bench = Bench::new(&Config { accept_local, ..config() });
        bench.meet_at((node(0).0, at("127.0.0.1:7000")));
        let nodes = compact(&[(NodeId(HASH.0), at("127.0.0.1:7001"))]);
        let reply = Reply { nodes: Nodes::new(Family::V4, &nodes), ..Reply::new(node(0).0) };
        bench.dht.find_nodes(bench.now, HASH.into());
        let mut asked = Vec::new();
        for (to, sent) in bench.drain() {
            let bytes = encode(sent.message().transaction, Body::Reply(reply));
            asked.extend(bench.send(to, &bytes).into_iter().map(|(to, _)| to));
        }
        assert_eq!(asked.contains(&at("127.0.0.1:7001")), expected);
    }
}

#[test]
fn named_victim_gets_two_datagrams_a_minute() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let mut asked = Vec::new();
    for round in 0..20_u8 {
        // Node 0 names the victim under ever new ids and ports.
        let mut id = HASH.0;
        id[19] = round;
        let victim = SocketAddr::from(([66, 6, 6, 6], 1000 + u16::from(round)));
        let nodes = compact(&[(NodeId(id), victim)]);
        let reply = Reply { nodes: Nodes::new(Family::V4, &nodes), ..Reply::new(node(0).0) };
        bench.dht.find_nodes(bench.now, HASH.into());
        let sent = bench.drain();
        asked.extend(bench.serve(sent, &reply));
        asked.extend(bench.wait(Duration::from_secs(2)).into_iter().map(|(to, _)| to));
    }
    let victims = asked.iter().filter(|to| to.ip() == at("66.6.6.6:1").ip());
    assert_eq!(victims.count(), 2);
}

#[test]
fn few_addresses_are_asked_at_the_start() {
    let mut bench = Bench::new(&config());
    let start = bench.now;
    bench.meet(1);
    let mut asked = std::collections::BTreeMap::new();
    let mut next = 1;
    while bench.now < start + Duration::from_secs(180) {
        // Node 0 names ever new nodes, none of which answers.
        let nodes: Vec<_> = (next..next + 8).map(node).collect();
        next += 8;
        let nodes = compact(&nodes);
        let reply = Reply { nodes: Nodes::new(Family::V4, &nodes), ..Reply::new(node(0).0) };
        bench.dht.find_nodes(bench.now, node(next).0);
        let mut sent = bench.drain();
        sent.extend(bench.wait(Duration::from_millis(300)));
        for to in bench.serve(sent, &reply) {
            asked.entry(to).or_insert(bench.now);
        }
    }
    let within = |from: u64, period: u64| {
        let from = start + Duration::from_secs(from);
        let to = from + Duration::from_secs(period);
        asked.values().filter(|time| (from..to).contains(time)).count()
    };
    assert!((250..=300).contains(&within(0, 30)), "{}", within(0, 30));
    let most = (0..120).map(|from| within(from, 59)).max().expect("a period");
    assert!((500..=600).contains(&most), "{most}");
}

#[test]
fn lookups_are_limited() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let hash = |number: usize| {
        let mut hash = [0; 20];
        hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
        InfoHashV1(hash)
    };
    let most = MAX_LOOKUPS + MAX_QUEUED_LOOKUPS;
    let keys: Vec<_> =
        (0..=most).map(|at| bench.dht.find_peers(bench.now, hash(at), Announce::No)).collect();
    let status = bench.dht.status();
    assert_eq!((status.lookups, status.queued), (MAX_LOOKUPS, MAX_QUEUED_LOOKUPS));
    let events = bench.events();
    let over = matches!(&events[..], [Event::Done { lookup, stats }]
        if *lookup == keys[most] && stats.asked == 0);
    assert!(over, "{events:?}");
    keys[..most - 1].iter().for_each(|key| bench.dht.stop(*key));
    // Nobody is known for IPv6, which is waited for.
    bench.wait(Duration::from_secs(16));
    let events = bench.events();
    let done = events.iter().filter_map(|event| match event {
        Event::Done { lookup, .. } => Some(*lookup),
        _ => None,
    });
    assert_eq!(done.collect::<Vec<_>>(), [keys[most - 1]], "{events:?}");
}

#[test]
fn concluded_lookup_tells_what_it_found() {
    let mut bench = Bench::new(&config());
    bench.meet(3);
    bench.events();
    let key = bench.dht.find_nodes(bench.now, NodeId([0x80; 20]));
    let (to, asked) = bench.drain().into_iter().next().expect("a query");
    let (id, _) = (0..3).map(node).find(|(_, address)| *address == to).expect("one of ours");
    let reply = encode(asked.message().transaction, Body::Reply(Reply::new(id)));
    bench.send(to, &reply);
    bench.dht.conclude(bench.now, key);
    let events = bench.events();
    let [Event::Nodes { nodes, .. }, Event::Done { lookup, stats }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((nodes.as_slice(), *lookup, stats.answered), (&[(id, to)][..], key, 1));
    assert!(stats.asked >= 1);
    bench.wait(Duration::from_secs(10));
    bench.dht.conclude(bench.now, key);
    assert!(bench.events().iter().all(|event| !matches!(event, Event::Done { .. })));

    // One that waits has found nothing.
    let keys: Vec<_> = (0..=MAX_LOOKUPS).map(|_| bench.dht.find_nodes(bench.now, OWN)).collect();
    let last = keys[MAX_LOOKUPS];
    bench.dht.conclude(bench.now, last);
    let events = bench.events();
    assert!(matches!(&events[..], [Event::Done { lookup, .. }] if *lookup == last), "{events:?}");
}

#[test]
fn routers_are_wanted_when_nobody_is_known() {
    let wanted = |bench: &mut Bench| {
        bench.events().iter().filter(|event| **event == Event::RoutersWanted).count()
    };
    let mut bench = Bench::new(&config());
    bench.wait(Duration::ZERO);
    assert_eq!(wanted(&mut bench), 1, "at once");
    bench.wait(Duration::from_secs(59));
    assert_eq!(wanted(&mut bench), 0);
    bench.wait(Duration::from_secs(5));
    assert_eq!(wanted(&mut bench), 1, "after a minute");
    bench.wait(Duration::from_secs(24 * 3600));
    assert_eq!(wanted(&mut bench), 5 + 22, "doubling to an hour");

    let mut bench = Bench::new(&config());
    bench.dht.handle_node(bench.now, node(0).1);
    bench.wait(Duration::from_millis(2900));
    assert_eq!(wanted(&mut bench), 0, "somebody is being asked");
    bench.wait(Duration::from_millis(200));
    assert_eq!(wanted(&mut bench), 1);

    let mut bench = Bench::new(&Config { wants_routers: false, ..config() });
    bench.wait(Duration::from_secs(3600));
    assert_eq!(wanted(&mut bench), 0);
}

#[test]
fn routers_stay_out_of_the_table() {
    let mut bench = Bench::new(&config());
    bench.dht.handle_routers(bench.now, &[node(0).1]);
    let (to, sent) = bench.drain().pop().expect("a query");
    assert!(matches!(sent.query().method, Method::FindNode { target: OWN, .. }));
    let nodes = compact(&[node(1), node(2)]);
    let reply = Reply { nodes: Nodes::new(Family::V4, &nodes), ..Reply::new(node(0).0) };
    bench.send(to, &encode(sent.message().transaction, Body::Reply(reply)));
    assert_eq!(bench.dht.status().nodes_v4, 0);
    let sent = bench.wait(Duration::ZERO);
    let asked: Vec<_> = sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, [node(1).1, node(2).1], "those that it named are asked");
}

#[test]
fn lookup_without_any_node_ends() {
    let mut bench = Bench::new(&config());
    let key = bench.dht.find_peers(bench.now, HASH, Announce::No);
    bench.wait(Duration::from_secs(14));
    let done = |event: &Event| matches!(event, Event::Done { lookup, .. } if *lookup == key);
    assert!(!bench.events().iter().any(done));
    bench.wait(Duration::from_secs(2));
    assert!(bench.events().iter().any(done));
}

#[test]
fn send_failure_is_not_held_against_nodes() {
    let mut bench = Bench::new(&config());
    bench.meet(3);
    for _ in 0..10 {
        bench.dht.find_nodes(bench.now, HASH.into());
        for (to, _) in bench.drain() {
            bench.dht.handle_send_failed(bench.now, to);
        }
        bench.now += Duration::from_secs(61);
    }
    assert_eq!(bench.dht.status().nodes_v4, 3);
}

#[test]
fn saved_state_is_restored() {
    let mut bench = Bench::new(&config());
    bench.meet(10);
    let state = bench.dht.save();
    assert_eq!((state.id_v4, state.nodes.len()), (Some(OWN), 10));
    let state = SavedState::decode(&state.encode()).expect("a state");
    let config = Config { id_v4: None, state: Some(state), ..config() };
    let mut again = Bench::new(&config);
    assert_eq!(again.dht.node_ids()[0], Some(OWN));
    assert_eq!(again.dht.save().nodes.len(), 10, "a short launch loses nothing");
    assert_eq!(again.dht.status().nodes_v4, 0, "but they must answer first");
    let sent = again.wait(Duration::ZERO);
    assert!(sent.iter().all(|(to, _)| bench.dht.save().nodes.iter().any(|node| node.1 == *to)));
    assert!(!sent.is_empty());
}

#[test]
fn flood_leaves_memory_bounded_and_announces_possible() {
    let mut bench = Bench::new(&config());
    bench.meet(100);
    let (id, honest) = node(5);
    let unknown = at("99.1.2.3:6881");
    let answer = bench.ask(unknown, id, get_peers(false)).expect("a reply");
    let token = answer.reply().token.expect("a token").to_vec();
    for number in 0..40_000_u32 {
        let spoofed =
            SocketAddr::from((std::net::Ipv4Addr::from_bits(0x5000_0000 + number * 257), 5));
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        let method = Method::GetPeers {
            info_hash: InfoHashV1(hash),
            want: Want::default(),
            noseed: false,
            scrape: false,
        };
        bench.send(spoofed, &query(NodeId(hash), method));
        bench.now += Duration::from_micros(100);
    }
    let counters = bench.dht.status().counters;
    assert!(counters.throttled > 38_000, "{counters:?}");
    assert!(bench.dht.status().memory <= DHT_MEMORY, "{}", bench.dht.status().memory);
    assert!(bench.ask(honest, id, get_peers(false)).is_some(), "a node of the table");
    let announce =
        Method::AnnouncePeer { info_hash: HASH, port: Some(5000), seed: false, token: &token };
    assert!(bench.ask(unknown, id, announce).is_some(), "it has a token");
    assert_eq!(bench.dht.status().peers, 1);
}

#[test]
fn unmatched_answers_cause_no_work() {
    let mut bench = Bench::new(&config());
    bench.meet(100);
    for number in 0..60 {
        bench.dht.find_nodes(bench.now, node(number).0);
    }
    assert!(!bench.drain().is_empty());
    // The budget allows more now, but nobody called to say so.
    bench.now += Duration::from_secs(2);
    let reply = encode(b"tttt", Body::Reply(Reply::new(NodeId([9; 20]))));
    for bytes in [reply, encode(b"tttt", Body::Error(203))] {
        assert!(bench.send(node(0).1, &bytes).is_empty());
    }
    bench.dht.handle_timeout(bench.now);
    assert!(!bench.drain().is_empty(), "there was work");
}

#[test]
fn search_that_needs_new_addresses_holds_up_no_other() {
    let mut bench = Bench::new(&config());
    bench.meet(30);
    let start = bench.now;
    // All new addresses of the first half minute are used up.
    for number in 1000..1300 {
        bench.dht.handle_node(bench.now, node(number).1);
        bench.play(Duration::from_millis(30), |_, _| None);
    }
    let named: Vec<_> = (2000..2008).map(node).collect();
    let answer = |nodes: &[(NodeId, SocketAddr)], to: SocketAddr| {
        let number = (0..30).find(|number| node(*number).1 == to)?;
        Some(Script { id: node(number).0, nodes: nodes.to_vec(), peers: Vec::new() })
    };
    let first = bench.dht.find_nodes(bench.now, node(2000).0);
    let asked = bench.play(Duration::from_secs(2), |to, _| answer(&named, to));
    assert!(!asked.contains(&node(2000).1));
    let second = bench.dht.find_nodes(bench.now, node(3).0);
    bench.play(Duration::from_secs(2), |to, _| answer(&[], to));
    assert!(bench.now < start + Duration::from_secs(25), "{:?}", bench.now);
    let events = bench.events();
    let is_done = |key| {
        let done = |event: &Event| matches!(event, Event::Done { lookup, .. } if *lookup == key);
        events.iter().any(done)
    };
    assert_eq!([is_done(first), is_done(second)], [false, true]);
}

/// A host without a route to the IPv6 Internet, whose nodes name nodes of both families.
#[test]
fn family_without_route_rests() {
    let mut bench = Bench::new(&config());
    bench.meet(100);
    let nodes6: Vec<_> = (0..8_u16)
        .map(|number| {
            let ip = std::net::Ipv6Addr::new(0x2a00 + number, 0, 0, 0, 0, 0, 0, 1);
            (node(number).0, SocketAddr::from((ip, 6881)))
        })
        .collect();
    let bytes = compact(&nodes6);
    let before = bench.dht.status().counters.sent;
    let mut failed = Vec::new();
    let end = bench.now + Duration::from_secs(3600);
    while bench.now < end {
        for (to, sent) in bench.wait(Duration::from_millis(200)) {
            if to.is_ipv6() {
                failed.push(bench.now);
                bench.dht.handle_send_failed(bench.now, to);
                continue;
            }
            let Some(number) = (0..100).find(|number| node(*number).1 == to) else { continue };
            let reply =
                Reply { nodes6: Nodes::new(Family::V6, &bytes), ..Reply::new(node(number).0) };
            bench.send(to, &encode(sent.message().transaction, Body::Reply(reply)));
        }
    }
    let late = failed.iter().filter(|time| **time + Duration::from_secs(1800) > end).count();
    assert!((1..=20).contains(&late), "{late} of {}", failed.len());
    let sent = bench.dht.status().counters.sent - before;
    assert!(sent < 1500, "{sent}");
    // A lookup that begins while the family rests does not wait for it.

    let key = bench.dht.find_nodes(bench.now, node(3).0);
    bench.play(Duration::from_secs(5), |to, _| {
        let number = (0..100).find(|number| node(*number).1 == to)?;
        Some(Script { id: node(number).0, nodes: Vec::new(), peers: Vec::new() })
    });
    let elapsed = bench.events().into_iter().find_map(|event| match event {
        Event::Done { lookup, stats } if lookup == key => Some(stats.elapsed),
        _ => None,
    });
    assert!(elapsed.is_some_and(|time| time < Duration::from_secs(1)), "{elapsed:?}");
    // The route is there again.
    bench.send(nodes6[0].1, &query(nodes6[0].0, Method::Ping));
    let sent = bench.wait(Duration::from_secs(600));
    assert!(sent.iter().any(|(to, _)| to.is_ipv6()));
}

#[test]
fn own_announce_is_not_a_peer_found() {
    let mut bench = Bench::new(&config());
    bench.be_seen(0..12, at("45.9.9.9:6881"));
    let announce = Announce::Port { port: 7000, seed: false };
    let key = bench.dht.find_peers(bench.now, HASH, announce);
    bench.play(Duration::from_secs(5), |to, _| {
        let number = (0..12).find(|number| node(*number).1 == to)?;
        let peers = vec![at("45.9.9.9:7000"), at("45.8.8.8:7000")];
        Some(Script { id: node(number).0, nodes: Vec::new(), peers })
    });
    assert_eq!(bench.peers(key), [at("45.8.8.8:7000")]);
}

#[test]
fn hostile_nodes_do_not_fill_the_list_of_peers() {
    let mut bench = Bench::new(&config());
    bench.meet(20);
    let key = bench.dht.find_peers(bench.now, HASH, Announce::No);
    bench.play(Duration::from_secs(20), |to, _| {
        let number = (0..20).find(|number| node(*number).1 == to)?;
        let peer = |last: u8| SocketAddr::from(([60, number as u8, 1, last], 7000));
        let mut peers: Vec<_> = (0..100).map(peer).collect();
        if number == 19 {
            peers = vec![at("45.8.8.8:7000")];
        }
        Some(Script { id: node(number).0, nodes: (0..20).map(node).collect(), peers })
    });
    let peers = bench.peers(key);
    let most = (0..20).map(|net| {
        let of_net = |peer: &&SocketAddr| peer.to_string().starts_with(&format!("60.{net}."));
        peers.iter().filter(of_net).count()
    });
    assert_eq!(most.max(), Some(50));
}

#[test]
fn local_addresses_are_named_to_local_askers_only() {
    let mut bench = Bench::new(&config());
    bench.meet(3);
    let local = (NodeId([0x99; 20]), at("192.168.1.7:6881"));
    bench.meet_at(local);
    let answer = bench.ask(local.1, local.0, get_peers(false)).expect("a reply");
    let token = answer.reply().token.expect("a token").to_vec();
    let announce =
        Method::AnnouncePeer { info_hash: HASH, port: Some(5000), seed: false, token: &token };
    bench.ask(local.1, local.0, announce).expect("a reply");
    for (asker, nodes, peers) in [("192.168.1.9:6881", 4, 1), ("45.1.2.3:6881", 3, 0)] {
        let answer = bench.ask(at(asker), NodeId([8; 20]), get_peers(false)).expect("a reply");
        let reply = answer.reply();
        assert_eq!(reply.nodes.map_or(0, |nodes| nodes.iter().count()), nodes, "{asker}");
        assert_eq!(reply.values.map_or(0, |values| values.iter().count()), peers, "{asker}");
    }
}

#[test]
fn misnamed_node_enters_the_table_once_it_repeats_its_id() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let named = (NodeId(HASH.0), node(5).1);
    bench.dht.find_nodes(bench.now, HASH.into());
    let mut seen = Vec::new();
    for _ in 0..3 {
        for (to, sent) in bench.drain() {
            let reply = if to == node(0).1 {
                Script { id: node(0).0, nodes: vec![named], peers: Vec::new() }
            } else {
                seen.push(bench.dht.status().nodes_v4);
                Script { id: node(5).0, nodes: Vec::new(), peers: Vec::new() }
            };
            let bytes = reply.encode(sent.message().transaction);
            bench.dht.handle_datagram(bench.now, to, &bytes);
        }
    }
    assert_eq!(seen, [1, 1], "it is asked again, and is not in the table before");
    assert_eq!(bench.dht.status().nodes_v4, 2);
}

#[test]
fn node_that_answers_errors_is_checked_rarely() {
    let mut bench = Bench::new(&config());
    bench.meet(1);
    let mut checks = 0;
    let end = bench.now + Duration::from_secs(3600);
    while bench.now < end {
        for (to, sent) in bench.wait(Duration::from_secs(1)) {
            checks += u32::from(matches!(sent.query().method, Method::Ping));
            let bytes = encode(sent.message().transaction, Body::Error(203));
            bench.send(to, &bytes);
        }
    }
    assert!(checks <= 6, "{checks}");
}

#[test]
fn local_addresses_are_not_asked_unless_accepted() {
    let local = at("192.168.1.7:6881");
    for (accept_local, expected) in [(true, true), (false, false)] {
        let nodes = vec![(NodeId([9; 20]), local), (NodeId([8; 20]), at("45.1.1.1:0"))];
        let state = Some(SavedState { nodes, ..SavedState::default() });
        let mut bench = Bench::new(&Config { accept_local, state, ..config() });
        // It also asks us, and is a candidate for the table.
        bench.ask(local, NodeId([9; 20]), Method::Ping).expect("a reply");
        bench.dht.handle_node(bench.now, local);
        bench.dht.ping(bench.now, local);
        let mut sent = bench.drain();
        sent.extend(bench.wait(Duration::from_secs(120)));
        assert_eq!(sent.iter().any(|(to, _)| *to == local), expected);
        assert!(sent.iter().all(|(to, _)| to.port() != 0));
    }
}

#[test]
fn checks_of_both_families_share_a_rate() {
    let mut bench = Bench::new(&config());
    bench.meet(100);
    for number in 0..100_u16 {
        let ip = std::net::Ipv6Addr::new(0x2a00 + number, 1, 0, 0, 0, 0, 0, 1);
        bench.meet_at((node(number).0, SocketAddr::from((ip, 6881))));
        bench.now += Duration::from_millis(150);
    }
    assert_eq!(bench.dht.status().nodes_v6, 100);
    bench.wait(Duration::from_secs(14 * 60));
    let mut checks = [0, 0];
    for (to, sent) in bench.wait(Duration::from_secs(5 * 60)) {
        if matches!(sent.query().method, Method::Ping) {
            checks[usize::from(to.is_ipv6())] += 1;
        }
    }
    assert!(checks[0] + checks[1] <= 5 * 60 / 4 + 1 && checks.iter().all(|count| *count >= 20));
}

#[test]
fn implied_port_one_is_refused() {
    let mut bench = Bench::new(&config());
    let (id, asker) = (NodeId([9; 20]), at("45.1.2.3:1"));
    let answer = bench.ask(asker, id, get_peers(false)).expect("a reply");
    let token = answer.reply().token.expect("a token");
    let announce = Method::AnnouncePeer { info_hash: HASH, port: None, seed: false, token };
    assert_eq!(bench.ask(asker, id, announce).expect("an answer").error(), 203);
    assert_eq!(bench.dht.status().peers, 0);
}

#[test]
fn node_that_knows_nobody_answers_with_an_empty_list() {
    let mut bench = Bench::new(&config());
    let both = Want { v4: true, v6: true };
    for (want, expected) in [(Want::default(), [true, false]), (both, [true, true])] {
        let method = Method::FindNode { target: OWN, want };
        let answer = bench.ask(at("45.1.2.3:6881"), NodeId([9; 20]), method).expect("a reply");
        let reply = answer.reply();
        assert_eq!([reply.nodes.is_some(), reply.nodes6.is_some()], expected);
        assert!(
            [reply.nodes, reply.nodes6].into_iter().flatten().all(|list| list.iter().count() == 0)
        );
    }
}

/// The nodes that it asks first tell it its address, for which it takes another id while it
/// announces itself (BEP 42). Tokens are bound to the id that asked.
#[test]
fn announce_ends_under_the_id_it_began_with() {
    let mut bench = Bench::new(&config());
    bench.meet(12);
    let key = bench.dht.find_peers(bench.now, HASH, Announce::Port { port: 7000, seed: false });
    let (former, mut sent) = (bench.dht.node_ids(), bench.drain());
    sent.extend(bench.be_seen(100..112, at("45.9.9.9:6881")));
    assert_ne!(bench.dht.node_ids(), former, "it has another id");
    let ids = RefCell::new(Vec::new());
    let answer = |to: SocketAddr, query: &Query<'_>| {
        match query.method {
            Method::GetPeers { .. } => ids.borrow_mut().push((false, query.id)),
            Method::AnnouncePeer { .. } => ids.borrow_mut().push((true, query.id)),
            _ => {}
        }
        let number = (0..12).chain(100..112).find(|number| node(*number).1 == to)?;
        Some(Script { id: node(number).0, nodes: Vec::new(), peers: Vec::new() })
    };
    for (to, datagram) in sent {
        let script = answer(to, &datagram.query()).expect("a node that we know");
        let bytes = script.encode(datagram.message().transaction);
        bench.dht.handle_datagram(bench.now, to, &bytes);
    }
    bench.play(Duration::from_secs(5), answer);
    let is_done = |event: &Event| matches!(event, Event::Done { lookup, .. } if *lookup == key);
    assert!(bench.events().iter().any(is_done));
    let ids = ids.into_inner();
    assert!(ids.iter().filter(|(stores, _)| *stores).count() >= 8);
    assert!(ids.iter().all(|(_, id)| Some(*id) == former[0]), "{ids:?}");
}

/// A node that nobody answered at first has been found by another one since. It still asks the node
/// through which it was to join.
#[test]
fn silent_contact_is_asked_again() {
    let mut bench = Bench::new(&config());
    let (named, other) = (node(0), node(1));
    bench.dht.handle_node(bench.now, named.1);
    bench.wait(Duration::from_secs(2));
    bench.meet_at(other);
    let asked = bench.play(Duration::from_secs(120), |to, _| {
        let id = [named, other].into_iter().find(|node| node.1 == to)?.0;
        Some(Script { id, nodes: Vec::new(), peers: Vec::new() })
    });
    assert!(asked.contains(&named.1));
    assert_eq!(bench.dht.status().nodes_v4, 2);
}

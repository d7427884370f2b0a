//! Items: one node that is asked to store some.

use std::net::SocketAddr;
use std::time::Duration;

use dht::message::{Body, Message, Method, MutablePut, Query, Want};
use dht::{Config, Dht, Event, Item, NodeId, Stats};

const SEED: [u8; 32] = [5; 32];

fn item(salt: &[u8], seq: i64, value: &str) -> Item {
    Item::sign(&SEED, salt.to_vec(), seq, value.as_bytes().to_vec()).expect("an item")
}

/// Sends a query to a node and returns its answer.
fn ask(dht: &mut Dht, from: SocketAddr, method: Method<'_>) -> Option<Vec<u8>> {
    let now = Duration::from_secs(1);
    let body = Body::Query(Query { id: NodeId([9; 20]), method });
    let mut bytes = Vec::new();
    Message { transaction: b"tt", body, ip: None, read_only: false, version: None }
        .encode(&mut bytes);
    dht.handle_datagram(now, from, &bytes);
    dht.poll_transmit().map(|transmit| transmit.bytes.to_vec())
}

fn error(answer: Option<Vec<u8>>) -> i64 {
    match Message::decode(&answer.expect("an answer")).expect("a message").body {
        Body::Error(code) => code,
        Body::Reply(_) => 0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_puts_are_refused() {
    let mut dht = Dht::new(&Config::new([3; 32]));
    let from: SocketAddr = "45.1.2.3:6881".parse().expect("an address");
    let Item::Mutable { key, signature, .. } = item(b"", 1, "i1e") else { panic!("mutable") };
    let target = item(b"", 1, "i1e").target();
    let get = |seq| Method::Get { target, want: Want::default(), seq };
    let answer = ask(&mut dht, from, get(None)).expect("a reply");
    let Ok(Message { body: Body::Reply(reply), .. }) = Message::decode(&answer) else {
        panic!("a reply")
    };
    let token = reply.token.expect("a token");
    let good = MutablePut { key: &key, salt: b"", seq: 1, cas: None, signature: &signature };
    let (long, salt) = (format!("997:{}", "x".repeat(997)), [0; 65]);
    let forged = [0; 64];
    for (put, value, token, expected) in [
        (good, "i1e", &b"bad"[..], 203),
        (good, long.as_str(), token, 205),
        (MutablePut { salt: &salt, ..good }, "i1e", token, 207),
        (MutablePut { signature: &forged, ..good }, "i1e", token, 206),
        (MutablePut { seq: -1, ..good }, "i1e", token, 203),
        (good, "d1:bi1e1:ai1ee", token, 203),
        (good, "i1e", token, 0),
        (MutablePut { cas: Some(5), ..good }, "i1e", token, 301),
        (MutablePut { seq: 0, ..good }, "i1e", token, 302),
        (good, "i2e", token, 302),
    ] {
        let method = Method::Put { token, value: value.as_bytes(), mutable: Some(put) };
        assert_eq!(error(ask(&mut dht, from, method)), expected, "{put:?} {value}");
    }
    for (seq, expected) in [(None, true), (Some(0), true), (Some(1), false), (Some(9), false)] {
        let answer = ask(&mut dht, from, get(seq)).expect("a reply");
        let Ok(Message { body: Body::Reply(reply), .. }) = Message::decode(&answer) else {
            panic!("a reply")
        };
        assert_eq!((reply.seq, reply.value.is_some()), (Some(1), expected));
        assert_eq!(reply.signature.is_some(), expected);
    }
}

#[test]
fn invalid_items_and_long_salts_are_refused() {
    let mut dht = Dht::new(&Config { v6: false, ..Config::new([1; 32]) });
    let now = Duration::from_secs(1);
    let mut forged = item(b"", 1, "i1e");
    if let Item::Mutable { signature, .. } = &mut forged {
        signature[0] ^= 1;
    }
    let invalid = Item::Immutable { value: b"i01e".to_vec() };
    let keys = [
        dht.put(now, forged, None),
        dht.put(now, invalid, None),
        dht.get(now, NodeId([1; 20]), &[0; 65]),
    ];
    for key in keys {
        let event = dht.poll_event();
        let is_over = matches!(event, Some(Event::Done { lookup, stats })
            if lookup == key && stats == Stats::default());
        assert!(is_over, "{event:?}");
    }
    assert_eq!(dht.status().lookups, 0);
}

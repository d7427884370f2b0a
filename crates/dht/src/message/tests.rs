use super::*;
use crate::Family;

const ID: &str = "abcdefghij0123456789";
const TARGET: &str = "mnopqrstuvwxyz123456";

fn id(text: &str) -> NodeId {
    NodeId::from_slice(text.as_bytes()).unwrap()
}

fn query(method: Method<'_>) -> Message<'_> {
    let body = Body::Query(Query { id: id(ID), method });
    Message::new(b"aa", body)
}

fn reply<'a>(change: impl FnOnce(&mut Reply<'a>)) -> Message<'a> {
    let mut reply = Reply::new(id(TARGET));
    change(&mut reply);
    let body = Body::Reply(reply);
    Message::new(b"aa", body)
}

/// Decodes `wire`, encodes the message, cuts it everywhere and lengthens it.
#[track_caller]
fn check(wire: &[u8], message: &Message<'_>) {
    let shown = wire.escape_ascii();
    assert_eq!(Message::decode(wire).as_ref(), Ok(message), "{shown}");
    let mut out = Vec::new();
    message.encode(&mut out);
    assert_eq!(out.escape_ascii().to_string(), shown.to_string());
    for end in 0..wire.len() {
        assert!(Message::decode(&wire[..end]).is_err(), "{shown} {end}");
    }
    assert!(Message::decode(&[wire, b"e"].concat()).is_err(), "{shown}");
}

#[test]
fn queries_of_bep_5() {
    let info_hash = InfoHashV1::from(id(TARGET));
    let want = Want::default();
    let token = b"aoeusnth".as_slice();
    let get = Method::GetPeers { info_hash, want, noseed: false, scrape: false };
    let announce = |port, seed| Method::AnnouncePeer { info_hash, port, seed, token };
    for (wire, method) in [
        ("d1:ad2:id20:IDe1:q4:ping1:t2:aa1:y1:qe".to_owned(), Method::Ping),
        (
            "d1:ad2:id20:ID6:target20:TARGETe1:q9:find_node1:t2:aa1:y1:qe".to_owned(),
            Method::FindNode { target: id(TARGET), want },
        ),
        ("d1:ad2:id20:ID9:info_hash20:TARGETe1:q9:get_peers1:t2:aa1:y1:qe".to_owned(), get),
        (
            "d1:ad2:id20:ID9:info_hash20:TARGET4:porti6881e5:token8:aoeusnthe\
             1:q13:announce_peer1:t2:aa1:y1:qe"
                .to_owned(),
            announce(Some(6881), false),
        ),
        (
            "d1:ad2:id20:ID12:implied_porti1e9:info_hash20:TARGET4:seedi1e5:token8:aoeusnthe\
             1:q13:announce_peer1:t2:aa1:y1:qe"
                .to_owned(),
            announce(None, true),
        ),
    ] {
        check(wire.replace("TARGET", TARGET).replace("ID", ID).as_bytes(), &query(method));
    }
}

#[test]
fn fields_of_later_beps() {
    let wire = format!(
        "d1:ad2:id20:{ID}9:info_hash20:{TARGET}6:noseedi1e6:scrapei1e4:wantl2:n42:n6ee\
         1:q9:get_peers2:roi1e1:t2:aa1:v4:XX011:y1:qe"
    );
    let message = query(Method::GetPeers {
        info_hash: id(TARGET).into(),
        want: Want { v4: true, v6: true },
        noseed: true,
        scrape: true,
    });
    check(wire.as_bytes(), &Message { read_only: true, version: Some(b"XX01"), ..message });
    let wire = format!("d1:ad2:id20:{ID}3:seqi-7e6:target20:{TARGET}e1:q3:get1:t2:aa1:y1:qe");
    let want = Want::default();
    let method = Method::Get { target: id(TARGET), want, seq: Some(-7) };
    check(wire.as_bytes(), &query(method));
}

#[test]
fn puts_of_bep_44() {
    let wire = format!("d1:ad2:id20:{ID}5:token2:tk1:v5:helloe1:q3:put1:t2:aa1:y1:qe");
    let method = Method::Put { token: b"tk", value: b"5:hello", mutable: None };
    check(wire.as_bytes(), &query(method));
    let (key, signature) = (&[b'k'; 32], &[b's'; 64]);
    let wire = format!(
        "d1:ad3:casi3e2:id20:{ID}1:k32:{}4:salt3:abc3:seqi4e3:sig64:{}5:token2:tk1:vli1eee\
         1:q3:put1:t2:aa1:y1:qe",
        key.escape_ascii(),
        signature.escape_ascii()
    );
    let mutable = MutablePut { key, salt: b"abc", seq: 4, cas: Some(3), signature };
    let method = Method::Put { token: b"tk", value: b"li1ee", mutable: Some(mutable) };
    check(wire.as_bytes(), &query(method));
}

#[test]
fn replies() {
    check(format!("d1:rd2:id20:{TARGET}e1:t2:aa1:y1:re").as_bytes(), &reply(|_| {}));
    let node = format!("{ID}\x01\x02\x03\x04\x05\x06");
    let wire = format!("d1:rd2:id20:{TARGET}5:nodes26:{node}5:token2:tk")
        + "6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
    let message = reply(|reply| {
        reply.nodes = Nodes::new(Family::V4, node.as_bytes());
        reply.token = Some(b"tk");
        reply.values = Some(Values::new(b"6:axje.u6:idhtnm"));
    });
    check(wire.as_bytes(), &message);
    let Body::Reply(read) = message.body else { panic!("a reply") };
    let peers: Vec<_> = read.values.unwrap().iter().map(|peer| peer.to_string()).collect();
    assert_eq!(peers, ["97.120.106.101:11893", "105.100.104.116:28269"]);
    let nodes: Vec<_> = read.nodes.unwrap().iter().collect();
    assert_eq!(nodes, [(id(ID), "1.2.3.4:1286".parse().unwrap())]);
}

#[test]
fn endpoint_in_reply() {
    let ip = Some("45.1.2.3:6667".parse().unwrap());
    let wire = format!("d2:ip6:\x2d\x01\x02\x03\x1a\x0b1:rd2:id20:{TARGET}e1:t2:aa1:y1:re");
    check(wire.as_bytes(), &Message { ip, ..reply(|_| {}) });
    let wire = wire.replace("2:ip6:\x2d\x01\x02\x03\x1a\x0b", "2:ip5:abcde");
    assert_eq!(Message::decode(wire.as_bytes()).unwrap().ip, None);
}

#[test]
fn filters_and_items_in_replies() {
    let (seeds, peers, key, signature) = ([b'S'; 256], [b'P'; 256], [b'k'; 32], [b's'; 64]);
    let wire = format!(
        "d1:rd4:BFpe256:{}4:BFsd256:{}2:id20:{TARGET}1:k32:{}6:nodes60:3:seqi9e3:sig64:{}1:vi5ee\
         1:t2:aa1:y1:re",
        peers.escape_ascii(),
        seeds.escape_ascii(),
        key.escape_ascii(),
        signature.escape_ascii()
    );
    let message = reply(|reply| {
        reply.seeds = Some(&seeds);
        reply.peers = Some(&peers);
        reply.nodes6 = Nodes::new(Family::V6, b"");
        reply.key = Some(&key);
        reply.signature = Some(&signature);
        reply.seq = Some(9);
        reply.value = Some(b"i5e");
    });
    check(wire.as_bytes(), &message);
}

#[test]
fn errors() {
    let message = |body| Message { body, ..reply(|_| {}) };
    let wire = b"d1:eli203e14:Protocol Errore1:t2:aa1:y1:ee";
    check(wire, &message(Body::Error(203)));
    let mut out = Vec::new();
    message(Body::Refused(ErrorCode::Protocol)).encode(&mut out);
    assert_eq!(out, wire);
    let wire = b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
    assert_eq!(Message::decode(wire).unwrap().body, Body::Error(201));
    for odd in ["d1:e0:1:t2:aa1:y1:ee", "d1:ele1:t2:aa1:y1:ee", "d1:t2:aa1:y1:ee"] {
        assert_eq!(Message::decode(odd.as_bytes()).unwrap().body, Body::Error(0));
    }
}

/// Decodes a query whose arguments are `arguments` and returns its body.
fn body(name: &str, arguments: &str) -> String {
    let arguments = arguments.replace("TARGET", TARGET).replace("ID", ID);
    let wire = format!("d1:a{arguments}1:q{}:{name}1:t2:aa1:y1:qe", name.len());
    match Message::decode(wire.as_bytes()) {
        Ok(Message { body: Body::Refused(code), .. }) => code.number().to_string(),
        Ok(Message { body: Body::Query(query), .. }) => format!("{:?}", query.method),
        other => format!("{other:?}"),
    }
}

#[test]
fn bad_queries_are_refused() {
    let announce = |port: &str| format!("d2:id20:ID9:info_hash20:TARGET{port}5:token1:te");
    for (name, arguments, expected) in [
        ("ping", "de", "203"),
        ("ping", "d2:id19:abcdefghij012345678e", "203"),
        ("ping", "d2:id21:abcdefghij0123456789ae", "203"),
        ("ping", "d2:idi5ee", "203"),
        ("ping", "le", "203"),
        ("find_node", "d2:id20:IDe", "203"),
        ("find_node", "d2:id20:ID6:target3:abce", "203"),
        ("get_peers", "d2:id20:ID6:target20:TARGETe", "203"),
        ("announce_peer", &announce("4:porti0e"), "203"),
        ("announce_peer", &announce("4:porti1e"), "203"),
        ("announce_peer", &announce("4:porti65536e"), "203"),
        ("announce_peer", &announce("4:porti-1e"), "203"),
        ("announce_peer", &announce("4:port4:6881"), "203"),
        ("announce_peer", &announce(""), "203"),
        ("announce_peer", "d2:id20:ID9:info_hash20:TARGET4:porti6881ee", "203"),
        ("put", "d2:id20:ID5:token1:te", "203"),
        ("put", "d2:id20:ID1:k3:abc3:seqi1e3:sig3:abc5:token1:t1:v1:xe", "203"),
        ("vote", "d2:id20:IDe", "204"),
        ("", "d2:id20:IDe", "204"),
    ] {
        assert_eq!(body(name, arguments), expected, "{name} {arguments}");
    }
}

#[test]
fn unknown_method_with_target_finds_nodes() {
    let find_node = body("find_node", "d2:id20:ID6:target20:TARGETe");
    assert!(find_node.starts_with("FindNode"), "{find_node}");
    assert_eq!(body("sample_infohashes", "d2:id20:ID6:target20:TARGETe"), find_node);
    assert_eq!(body("new", "d2:id20:ID9:info_hash20:TARGETe"), find_node);
}

#[test]
fn lengths_of_datagrams_are_limited() {
    assert_eq!(Message::decode(b"d1:t1:a1:y1:e"), Err(MessageError::Length(13)));
    assert!(Message::decode(b"d1:t2:aa1:y1:ee").is_ok(), "{MIN_DATAGRAM} bytes");
    let padded = |length: usize| {
        let mut wire = format!("d1:rd2:id20:{TARGET}e1:t2:aa1:v").into_bytes();
        let rest = "1:y1:re";
        let filler = length - wire.len() - rest.len() - "1234:".len();
        wire.extend(format!("{filler}:{}{rest}", "x".repeat(filler)).into_bytes());
        wire
    };
    assert!(Message::decode(&padded(MAX_DATAGRAM_IN)).is_ok());
    let long = padded(MAX_DATAGRAM_IN + 1);
    assert_eq!(Message::decode(&long), Err(MessageError::Length(MAX_DATAGRAM_IN + 1)));
    assert_eq!(Message::decode(&[b'd'; 65_507]), Err(MessageError::Length(65_507)));
}

#[test]
fn transaction_ids_are_limited() {
    for length in [0, 1, 4, MAX_TRANSACTION_LENGTH, MAX_TRANSACTION_LENGTH + 1, 1000] {
        let wire = format!("d1:rd2:id20:{TARGET}e1:t{length}:{}1:y1:re", "t".repeat(length));
        let read = Message::decode(wire.as_bytes());
        let expected = if length <= MAX_TRANSACTION_LENGTH {
            Ok(length)
        } else {
            Err(MessageError::Transaction)
        };
        assert_eq!(read.map(|message| message.transaction.len()), expected);
    }
}

#[test]
fn tokens_are_limited() {
    for length in [MAX_TOKEN_LENGTH, MAX_TOKEN_LENGTH + 1] {
        let token = "t".repeat(length);
        let wire = format!("d1:rd2:id20:{TARGET}5:token{length}:{token}e1:t2:aa1:y1:re");
        let Body::Reply(reply) = Message::decode(wire.as_bytes()).unwrap().body else { panic!() };
        assert_eq!(reply.token.is_some(), length == MAX_TOKEN_LENGTH);
        let arguments = format!("d2:id20:ID9:info_hash20:TARGET4:porti2e5:token{length}:{token}e");
        assert_eq!(body("announce_peer", &arguments) == "203", length > MAX_TOKEN_LENGTH);
    }
}

#[test]
fn depth_and_tokens_are_limited() {
    let nested = |depth: usize| {
        let lists = ["l".repeat(depth - 1), "e".repeat(depth - 1)].concat();
        format!("d1:rd2:id20:{TARGET}e1:t2:aa1:x{lists}1:y1:re").into_bytes()
    };
    assert!(Message::decode(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(Message::decode(&nested(MAX_DEPTH + 1)), Err(MessageError::Bencode));
    assert_eq!(Message::decode(&nested(600)), Err(MessageError::Bencode));
    let values = |count: usize| {
        let list = ["l", &"0:".repeat(count), "e"].concat();
        format!("d1:rd2:id20:{TARGET}e1:t2:aa1:x{list}1:y1:re").into_bytes()
    };
    // The rest of the message has 12 tokens, the list two.
    assert!(Message::decode(&values(MAX_BENCODE_TOKENS - 14)).is_ok());
    assert_eq!(Message::decode(&values(MAX_BENCODE_TOKENS - 13)), Err(MessageError::Bencode));
}

#[test]
fn lists_are_limited() {
    let nodes = vec![7; 26 * (MAX_NODES_IN + 1)];
    assert_eq!(Nodes::new(Family::V4, &nodes).unwrap().iter().count(), MAX_NODES_IN);
    assert!(Nodes::new(Family::V4, &nodes[1..]).is_none(), "a ragged list is ignored");
    assert!(Nodes::new(Family::V6, &[0; 37]).is_none());
    assert_eq!(Nodes::new(Family::V6, &[1; 38]).unwrap().iter().count(), 1);
    let values = b"6:abcdef".repeat(MAX_VALUES_IN + 1);
    assert_eq!(Values::new(&values).iter().count(), MAX_VALUES_IN);
    assert_eq!(Values::new(b"6:abcdef18:abcdefghijklmnopqr3:abc6:abcdef").iter().count(), 2);
}

#[test]
fn want_has_any_number_of_names() {
    let names = "1:x".repeat(200);
    let arguments = format!("d2:id20:ID6:target20:TARGET4:wantl{names}2:n6ee");
    assert!(body("find_node", &arguments).contains("v4: false, v6: true"));
    let arguments = "d2:id20:ID6:target20:TARGET4:want2:n6e";
    assert!(body("find_node", arguments).contains("v4: false, v6: false"));
}

#[test]
fn other_datagrams_get_no_answer() {
    for (wire, expected) in [
        ("i12345678901234e", MessageError::Bencode),
        ("le1:t2:aa1:y1:re", MessageError::Bencode),
        ("d1:t2:aa1:t2:bb1:y1:ee", MessageError::Bencode),
        ("d1:ti99999999999999999999999999e1:y1:ee", MessageError::Bencode),
        ("d1:y1:e1:z3:abce", MessageError::Transaction),
        ("d1:ti5e1:y1:e1:z0:e", MessageError::Transaction),
        ("d1:t2:aa1:z3:abce", MessageError::Kind),
        ("d1:t2:aa1:y1:xe", MessageError::Kind),
        ("d1:t2:aa1:y2:qqe", MessageError::Kind),
        ("d1:ad2:id1:xe1:t2:aa1:y1:qe", MessageError::Kind),
        ("d1:rde1:t2:aa1:y1:re", MessageError::Kind),
        ("d1:r0:1:t2:aa1:y1:re", MessageError::Kind),
    ] {
        assert_eq!(Message::decode(wire.as_bytes()), Err(expected), "{wire}");
    }
    // Keys may come in any order.
    let wire = format!("d1:y1:r1:t2:aa1:rd2:id20:{TARGET}ee");
    assert_eq!(Message::decode(wire.as_bytes()), Ok(reply(|_| {})));
}

//! The fuzz targets: each takes any bytes and panics if the crate breaks a promise.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::InfoHashV1;
use dht::message::{
    Body, MAX_DATAGRAM_IN, MAX_NODES_IN, MAX_TOKEN_LENGTH, MAX_TRANSACTION_LENGTH, MAX_VALUES_IN,
    Message, Method, Nodes, Query, Reply, Want,
};
use dht::{
    Announce, Config, DHT_MEMORY, Dht, Event, Family, LookupKey, NodeId, SAVED_NODES, SavedState,
};
use testkit::Choices;

/// The longest datagram that a node sends: one with an item.
const MAX_SENT: usize = 1450;
/// How long any lookup may take once nobody answers any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reads `data` as a message, and as a saved state.
pub(crate) fn krpc(data: &[u8]) {
    if let Ok(state) = SavedState::decode(data) {
        assert!(state.nodes.len() <= 2 * SAVED_NODES);
        assert_eq!(SavedState::decode(&state.encode()), Ok(state));
    }
    let Ok(message) = Message::decode(data) else { return };
    assert!(message.transaction.len() <= MAX_TRANSACTION_LENGTH);
    if let Body::Reply(reply) = message.body {
        for nodes in [reply.nodes, reply.nodes6].into_iter().flatten() {
            assert!(nodes.iter().count() <= MAX_NODES_IN);
        }
        assert!(reply.values.is_none_or(|values| values.iter().count() <= MAX_VALUES_IN));
        assert!(reply.token.is_none_or(|token| token.len() <= MAX_TOKEN_LENGTH));
    }
    let mut out = Vec::new();
    message.encode(&mut out);
    let expected = match message.body {
        Body::Refused(code) => Message { body: Body::Error(code.number()), ..message },
        _ => message,
    };
    // An unknown method becomes `find_node`, which may be longer.
    if out.len() <= MAX_DATAGRAM_IN {
        assert_eq!(Message::decode(&out), Ok(expected));
    }
}

/// Drives a node with the calls, datagrams and times that `data` chooses.
pub(crate) fn dht(data: &[u8]) {
    let mut choices = Choices::new(data);
    let flags = choices.byte();
    let config = Config {
        v4: true,
        v6: flags & 1 == 0,
        read_only: flags & 6 == 6,
        accept_local: flags & 8 == 0,
        ..Config::new([7; 32])
    };
    let mut bench = Bench::new(&config);
    while !choices.is_empty() {
        bench.act(&mut choices);
    }
    bench.finish();
}

/// A node, and what is known about it from outside.
struct Bench {
    dht: Dht,
    now: Duration,
    /// Queries of the node that wait for an answer: where to, and their bytes.
    asked: Vec<(SocketAddr, Vec<u8>)>,
    /// The last tokens that it gave.
    tokens: Vec<Vec<u8>>,
    /// The lookups that are not over.
    running: BTreeMap<LookupKey, bool>,
}

impl Bench {
    fn new(config: &Config) -> Self {
        let now = Duration::from_secs(1);
        let mut bench = Self {
            dht: Dht::new(config),
            now,
            asked: Vec::new(),
            tokens: Vec::new(),
            running: BTreeMap::new(),
        };
        bench.drain(None);
        bench
    }

    fn act(&mut self, choices: &mut Choices<'_>) {
        match choices.below(12) {
            0 => self.receive(address(choices), choices.bytes(64)),
            1 | 2 => self.receive_query(choices),
            3..=5 => self.receive_reply(choices),
            6 => {
                let address = address(choices);
                self.dht.handle_node(self.now, address);
            }
            7 => {
                let address = address(choices);
                match choices.below(3) {
                    0 => self.dht.handle_routers(self.now, &[address]),
                    1 => self.dht.handle_send_failed(self.now, address),
                    _ => self.dht.set_read_only(choices.coin()),
                }
            }
            8 | 9 => self.start(choices),
            10 => {
                let key = self.running.keys().nth(choices.below(4)).copied();
                match key {
                    // Its end is an event, unless it is a ping.
                    Some(key) if choices.coin() => self.dht.conclude(self.now, key),
                    Some(key) => {
                        self.dht.stop(key);
                        self.running.remove(&key);
                    }
                    None => {}
                }
            }
            _ => self.pass_time(choices),
        }
        self.drain(None);
    }

    fn receive_query(&mut self, choices: &mut Choices<'_>) {
        let (from, id, target) = (address(choices), id(choices), id(choices));
        let want = Want { v4: choices.coin(), v6: choices.coin() };
        let info_hash = InfoHashV1::from(target);
        let token = self.tokens.get(choices.below(4)).cloned().unwrap_or_default();
        let value = choices.bytes(8);
        let value = bencode::encode(&bencode::Owned::Bytes(value.to_vec()));
        let method = match choices.below(7) {
            0 => Method::Ping,
            1 => Method::FindNode { target, want },
            2 | 3 => {
                let (noseed, scrape) = (choices.coin(), choices.coin());
                Method::GetPeers { info_hash, want, noseed, scrape }
            }
            4 => {
                let port = choices.coin().then(|| 2 + u16::from(choices.byte()));
                Method::AnnouncePeer { info_hash, port, seed: choices.coin(), token: &token }
            }
            5 => Method::Get { target, want, seq: choices.coin().then_some(1) },
            _ => Method::Put { token: &token, value: &value, mutable: None },
        };
        let mut bytes = encode(b"tt", Body::Query(Query { id, method }), None);
        spoil(choices, &mut bytes);
        self.receive(from, &bytes);
    }

    /// Answers one of the node's queries, in time or late, from the right address or another.
    fn receive_reply(&mut self, choices: &mut Choices<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let at = choices.below(self.asked.len().min(256));
        let (to, query) = self.asked.remove(at);
        let transaction = Message::decode(&query).expect("its query").transaction;
        let (mut nodes, mut values) = (Vec::new(), Vec::new());
        for _ in 0..choices.below(10) {
            nodes.extend(id(choices).0);
            bt_types::compact::encode(v4(choices), &mut nodes);
        }
        for _ in 0..choices.below(5) {
            values.extend(b"6:");
            bt_types::compact::encode(v4(choices), &mut values);
        }
        let ip = choices.coin().then(|| v4(choices));
        let own = if choices.below(8) == 0 { id(choices) } else { id_of(to) };
        let reply = Reply {
            nodes: Nodes::new(Family::V4, &nodes),
            token: choices.coin().then_some(&b"token"[..]),
            ..Reply::new(own)
        };
        let body = if choices.below(9) == 0 { Body::Error(301) } else { Body::Reply(reply) };
        let mut bytes = encode(transaction, body, ip);
        if !values.is_empty() && !bytes.ends_with(b"ee") {
            // Peers as the last field of the reply.
            let end = bytes.windows(5).rposition(|five| five.starts_with(b"e1:t"));
            let list = [b"6:valuesl", &values[..], b"e"].concat();
            end.map(|end| bytes.splice(end..end, list)).into_iter().for_each(drop);
        }
        spoil(choices, &mut bytes);
        let from = if choices.below(9) == 0 { address(choices) } else { to };
        self.receive(from, &bytes);
    }

    fn start(&mut self, choices: &mut Choices<'_>) {
        let (now, target) = (self.now, id(choices));
        let hash = InfoHashV1::from(target);
        let key = match choices.below(5) {
            0 => self.dht.find_peers(now, hash, Announce::No),
            1 => self.dht.find_peers(now, hash, Announce::Port { port: 7000, seed: true }),
            2 => self.dht.scrape(now, hash),
            3 => self.dht.find_nodes(now, target),
            _ => self.dht.ping(now, address(choices)),
        };
        assert_eq!(self.running.insert(key, false), None, "a key is used once");
    }

    fn pass_time(&mut self, choices: &mut Choices<'_>) {
        let unit = [1, 100, 1000, 15_000][choices.below(4)];
        self.run(Duration::from_millis(unit * u64::from(choices.byte())));
    }

    fn run(&mut self, period: Duration) {
        let end = self.now + period;
        let mut calls = 0;
        while let Some(next) = self.dht.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.dht.handle_timeout(self.now);
            self.drain(None);
            calls += 1;
            let seconds = period.as_secs() as usize;
            assert!(calls < 10_000 + 1000 * seconds, "it does not call for itself in vain");
        }
        self.now = end;
    }

    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.dht.handle_datagram(self.now, from, bytes);
        self.drain(Some((from, bytes)));
    }

    /// Takes what the node gives, and checks it. An answer may only go to whoever has just asked.
    fn drain(&mut self, received: Option<(SocketAddr, &[u8])>) {
        let mut answers = 0;
        while let Some(transmit) = self.dht.poll_transmit() {
            assert!(transmit.bytes.len() <= MAX_SENT, "{}", transmit.bytes.len());
            assert_ne!(transmit.to.port(), 0);
            let message = Message::decode(transmit.bytes).expect("a message");
            if let Body::Query(_) = message.body {
                self.asked.push((transmit.to, transmit.bytes.to_vec()));
                continue;
            }
            answers += 1;
            let (from, bytes) = received.expect("an answer follows a query");
            assert!(transmit.to == from && bytes.first() == Some(&b'd'));
            if let Body::Reply(Reply { token: Some(token), .. }) = message.body {
                self.tokens.insert(0, token.to_vec());
                self.tokens.truncate(4);
            }
        }
        assert!(answers <= 1);
        self.asked.drain(..self.asked.len().saturating_sub(256));
        while let Some(event) = self.dht.poll_event() {
            self.check_event(&event);
        }
        let memory = self.dht.status().memory;
        assert!(memory <= DHT_MEMORY, "{memory}");
    }

    fn check_event(&mut self, event: &Event) {
        match event {
            Event::Done { lookup, .. } => drop(self.running.remove(lookup)),
            Event::Peers { addresses, .. } => {
                assert!(addresses.iter().all(|peer| peer.port() > 1) && !addresses.is_empty());
            }
            _ => {}
        }
    }

    /// Nobody answers any more: every lookup ends.
    fn finish(mut self) {
        self.drain(None);
        // A verb may have ended at once.
        self.run(PATIENCE * (1 + self.dht.status().queued as u32));
        assert!(self.running.is_empty(), "{:?} {:?}", self.running, self.dht.status());
        let state = self.dht.save();
        assert_eq!(SavedState::decode(&state.encode()), Ok(state));
    }
}

/// Changes a byte, now and then.
fn spoil(choices: &mut Choices<'_>, bytes: &mut [u8]) {
    if choices.below(8) == 0 {
        let at = choices.number() as usize % bytes.len();
        bytes[at] = choices.byte();
    }
}

/// Returns one of few ids.
fn id(choices: &mut Choices<'_>) -> NodeId {
    NodeId([choices.byte(); 20])
}

/// Returns the id of the node at `address`.
fn id_of(address: SocketAddr) -> NodeId {
    let mut id = [0x55; 20];
    if let SocketAddr::V4(address) = address {
        id[..4].copy_from_slice(&address.ip().octets().map(|byte| byte.wrapping_mul(151)));
    }
    NodeId(id)
}

fn address(choices: &mut Choices<'_>) -> SocketAddr {
    if choices.below(8) > 0 {
        return v4(choices);
    }
    let [a, b] = [u16::from(choices.byte()), u16::from(choices.byte())];
    SocketAddr::from(([0x2a00, a, b, 0, 0, 0, 0, 1], 6881 + b))
}

fn v4(choices: &mut Choices<'_>) -> SocketAddr {
    let (a, b) = (choices.byte(), choices.byte());
    let first = [45, 46, 127, 10, 224, 0, 100, 66][usize::from(a % 8)];
    SocketAddr::from(([first, a, b, 1], u16::from(b) * 27))
}

fn encode(transaction: &[u8], body: Body<'_>, ip: Option<SocketAddr>) -> Vec<u8> {
    let mut out = Vec::new();
    Message { ip, ..Message::new(transaction, body) }.encode(&mut out);
    out
}

//! One node, without a network.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bt_types::InfoHashV1;
use dht::message::{Body, Message, Method, Query, Reply, Want};
use dht::{Config, Dht, Event, LookupKey, NodeId};

pub(crate) const HASH: InfoHashV1 = InfoHashV1([0x77; 20]);
pub(crate) const OWN: NodeId = NodeId([0x11; 20]);

/// A node at 45.9.9.9 and the time.
pub(crate) struct Bench {
    pub(crate) dht: Dht,
    pub(crate) now: Duration,
}

/// An answer that the node sent.
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::decode(&self.0).expect("a message")
    }

    pub(crate) fn reply(&self) -> Reply<'_> {
        match self.message().body {
            Body::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn error(&self) -> i64 {
        match self.message().body {
            Body::Error(code) => code,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn query(&self) -> Query<'_> {
        match self.message().body {
            Body::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn config() -> Config {
    Config { id_v4: Some(OWN), id_v6: Some(OWN), ..Config::new([1; 32]) }
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A node in a /16 of its own that is not near our id.
pub(crate) fn node(number: u16) -> (NodeId, SocketAddr) {
    let mut id = [0x80; 20];
    id[..2].copy_from_slice(&(0x8000 | number).to_be_bytes());
    (NodeId(id), SocketAddr::from(([46 + (number >> 8) as u8, number as u8, 1, 1], 6881)))
}

pub(crate) fn encode(transaction: &[u8], body: Body<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Message { transaction, body, ip: None, read_only: false, version: None }.encode(&mut out);
    out
}

pub(crate) fn query(id: NodeId, method: Method<'_>) -> Vec<u8> {
    encode(b"tt", Body::Query(Query { id, method }))
}

pub(crate) fn get_peers(scrape: bool) -> Method<'static> {
    Method::GetPeers { info_hash: HASH, want: Want::default(), noseed: false, scrape }
}

pub(crate) fn compact(nodes: &[(NodeId, SocketAddr)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, address) in nodes {
        bytes.extend(id.0);
        bt_types::compact::encode(*address, &mut bytes);
    }
    bytes
}

impl Bench {
    pub(crate) fn new(config: &Config) -> Self {
        Self { dht: Dht::new(config), now: Duration::from_secs(1) }
    }

    pub(crate) fn send(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<(SocketAddr, Answer)> {
        self.dht.handle_datagram(self.now, from, bytes);
        self.drain()
    }

    /// Sends a query and returns the answer, if there is one.
    pub(crate) fn ask(
        &mut self,
        from: SocketAddr,
        id: NodeId,
        method: Method<'_>,
    ) -> Option<Answer> {
        let mut sent = self.send(from, &query(id, method));
        assert!(sent.len() <= 1, "one answer at most");
        let (to, answer) = sent.pop()?;
        assert_eq!((to, answer.message().transaction), (from, &b"tt"[..]));
        Some(answer)
    }

    pub(crate) fn drain(&mut self) -> Vec<(SocketAddr, Answer)> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.dht.poll_transmit() {
            sent.push((transmit.to, Answer(transmit.bytes.to_vec())));
        }
        sent
    }

    pub(crate) fn wait(&mut self, period: Duration) -> Vec<(SocketAddr, Answer)> {
        let end = self.now + period;
        let mut sent = Vec::new();
        while let Some(next) = self.dht.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.dht.handle_timeout(self.now);
            sent.extend(self.drain());
        }
        self.now = end;
        sent
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.dht.poll_event()).collect()
    }

    /// Has the node meet `count` others, so that they are in its table.
    pub(crate) fn meet(&mut self, count: u16) {
        for number in 0..count {
            let (id, address) = node(number);
            self.dht.handle_node(self.now, address);
            for (to, sent) in self.drain() {
                let id = if to == address { id } else { node(number).0 };
                let reply = encode(sent.message().transaction, Body::Reply(Reply::new(id)));
                self.dht.handle_datagram(self.now, to, &reply);
            }
            self.drain();
            self.now += Duration::from_millis(150);
        }
        assert_eq!(self.dht.status().nodes_v4, usize::from(count));
    }

    /// Answers the queries of a lookup to node 0 with `change` until it sends nothing more; others
    /// stay silent. Returns whom it asked.
    pub(crate) fn serve(
        &mut self,
        mut sent: Vec<(SocketAddr, Answer)>,
        reply: &Reply<'_>,
    ) -> Vec<SocketAddr> {
        let mut asked = Vec::new();
        while let Some((to, datagram)) = sent.pop() {
            asked.push(to);
            if to == node(0).1 {
                let bytes = encode(datagram.message().transaction, Body::Reply(*reply));
                sent.extend(self.send(to, &bytes));
            }
        }
        asked
    }

    /// Has nodes tell this one that they see it at `ours`. Returns what it sent to others meanwhile.
    pub(crate) fn be_seen(
        &mut self,
        numbers: Range<u16>,
        ours: SocketAddr,
    ) -> Vec<(SocketAddr, Answer)> {
        let mut others = Vec::new();
        for (id, address) in numbers.map(node) {
            self.dht.ping(self.now, address);
            for (to, sent) in self.drain() {
                if to != address {
                    others.push((to, sent));
                    continue;
                }
                let (transaction, body) = (sent.message().transaction, Body::Reply(Reply::new(id)));
                let mut bytes = Vec::new();
                Message { transaction, body, ip: Some(ours), read_only: false, version: None }
                    .encode(&mut bytes);
                self.dht.handle_datagram(self.now, to, &bytes);
            }
        }
        assert_eq!(self.dht.external_address()[0], Some(ours.ip()));
        others
    }

    /// Has the node meet that one.
    pub(crate) fn meet_at(&mut self, (id, address): (NodeId, SocketAddr)) {
        self.dht.ping(self.now, address);
        for (to, sent) in self.drain() {
            let reply = encode(sent.message().transaction, Body::Reply(Reply::new(id)));
            self.send(to, &reply);
        }
    }

    /// Answers each query with what `answer` returns for its address, for `period`. Returns whom it
    /// asked.
    pub(crate) fn play(
        &mut self,
        period: Duration,
        answer: impl Fn(SocketAddr, &Query<'_>) -> Option<Script>,
    ) -> Vec<SocketAddr> {
        let (end, mut asked) = (self.now + period, Vec::new());
        loop {
            let mut sent = self.drain();
            while let Some((to, datagram)) = sent.pop() {
                asked.push(to);
                if let Some(script) = answer(to, &datagram.query()) {
                    let bytes = script.encode(datagram.message().transaction);
                    sent.extend(self.send(to, &bytes));
                }
            }
            let Some(next) = self.dht.poll_timeout().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.dht.handle_timeout(self.now);
        }
        self.now = end;
        asked
    }

    /// Returns the peers of `key` that were found since the last call.
    pub(crate) fn peers(&mut self, key: LookupKey) -> Vec<SocketAddr> {
        let peers = self.events().into_iter().filter_map(|event| match event {
            Event::Peers { lookup, addresses, .. } if lookup == key => Some(addresses),
            _ => None,
        });
        peers.flatten().collect()
    }
}

/// What a node answers.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) id: NodeId,
    pub(crate) nodes: Vec<(NodeId, SocketAddr)>,
    pub(crate) peers: Vec<SocketAddr>,
}

impl Script {
    pub(crate) fn encode(&self, transaction: &[u8]) -> Vec<u8> {
        let mut bytes = b"d1:rd2:id20:".to_vec();
        bytes.extend(self.id.0);
        let nodes = compact(&self.nodes);
        bytes.extend(format!("5:nodes{}:", nodes.len()).into_bytes());
        bytes.extend(nodes);
        bytes.extend(b"5:token5:token6:valuesl");
        for peer in &self.peers {
            bytes.extend(if peer.is_ipv4() { b"6:".as_slice() } else { b"18:" });
            bt_types::compact::encode(*peer, &mut bytes);
        }
        bytes.extend(b"ee1:t4:");
        bytes.extend(transaction);
        bytes.extend(b"1:y1:re");
        bytes
    }
}

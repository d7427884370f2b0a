//! Asks a node of the DHT, and counts its answers.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;
use sha1::{Digest as _, Sha1};

use ::dht::message::{Body, Message, Method, Query, Want};
use ::dht::{InfoHashV1, K, NodeId};

/// How many different queries are sent in turn.
const QUERIES: u32 = 4096;
/// How many queries are on the way at most. Half of them are sent together: one at a time would
/// measure how a node sleeps and wakes between two queries, because the asker takes longer than it.
const WINDOW: usize = 64;
/// How long a node may be silent until what is on the way is given up.
const SILENCE: Duration = Duration::from_millis(100);
/// How every reply ends: `y` is the last key of a message (BEP 5).
const REPLY: &[u8] = b"1:y1:re";

/// Sends queries of one node, each for another target.
pub(super) struct Asker {
    socket: UdpSocket,
    queries: Vec<Vec<u8>>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) count: u64,
    /// Their lengths, in all.
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl Asker {
    /// Opens a socket to ask the node at `node` from.
    pub(super) fn new(node: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(node)?;
        socket.set_read_timeout(Some(SILENCE))?;
        Ok(Self { socket, queries: (0..QUERIES).map(query).collect() })
    }

    /// Asks once. Returns whether the answer has as many nodes as fit.
    pub(super) fn is_answered_with_nodes(&self) -> bool {
        let mut buffer = [0; 2048];
        let Ok(length) =
            self.socket.send(&self.queries[0]).and_then(|_| self.socket.recv(&mut buffer))
        else {
            return false;
        };
        let message = Message::decode(&buffer[..length]).map(|message| message.body);
        let Ok(Body::Reply(reply)) = message else { return false };
        reply.nodes.is_some_and(|nodes| nodes.iter().count() == K)
    }

    /// Asks for `time`, with up to [`WINDOW`] queries on the way.
    pub(super) fn ask(&self, time: Duration) -> Result<Answers> {
        let mut answers = Answers::default();
        let mut buffer = [0; 2048];
        let mut queries = self.queries.iter().cycle();
        let mut waiting = 0_usize;
        let start = Instant::now();
        while start.elapsed() < time {
            if waiting <= WINDOW / 2 {
                for query in queries.by_ref().take(WINDOW - waiting) {
                    self.socket.send(query)?;
                }
                waiting = WINDOW;
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) if buffer[..length].ends_with(REPLY) => {
                    answers.count += 1;
                    answers.bytes += length as u64;
                    // One may have been given up.
                    waiting = waiting.saturating_sub(1);
                }
                // A query of the node, which wants to know whether we answer.
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {
                    waiting = 0;
                }
                Err(error) => return Err(error.into()),
            }
        }
        answers.time = start.elapsed();
        Ok(answers)
    }
}

/// Returns one of the queries: `find_node` or `get_peers`.
fn query(number: u32) -> Vec<u8> {
    let (target, want) = (hash("target", number), Want::default());
    let method = match number % 2 {
        0 => Method::FindNode { target: NodeId(target), want },
        _ => Method::GetPeers { info_hash: InfoHashV1(target), want, noseed: false, scrape: false },
    };
    let body = Body::Query(Query { id: NodeId(hash("asker", 0)), method });
    let message = Message::new(b"tt", body);
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

/// Returns 20 bytes that look random and are the same in every launch.
pub(super) fn hash(name: &str, number: u32) -> [u8; 20] {
    Sha1::digest(format!("{name} {number}")).into()
}

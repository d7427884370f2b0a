//! UDP trackers whose datagrams are short, late, repeated, spoofed, or from another address (BEP
//! 15).

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::Script;

use super::{Case, case, peers_of};
use crate::integration::scene::{Scene, file};

pub(super) fn cases() -> Vec<Case> {
    vec![
        refused("short answer to connect", "15 bytes instead of 16", SHORT_CONNECT, |asked| {
            match asked.action {
                CONNECT => one(&asked.connected()[..15]),
                _ => Vec::new(),
            }
        }),
        refused("short answer to announce", "19 bytes instead of 20", SHORT_ANNOUNCE, |asked| {
            asked.usually(|| one(&asked.announced(&[])[..19]))
        }),
        refused("shorter than a header", "7 bytes, without a transaction id", NO_ANSWER, |asked| {
            one(&asked.connected()[..7])
        }),
        refused("empty", "an empty datagram", NO_ANSWER, |_| one(&[])),
        refused("another action", "the answer to a scrape", SCRAPED, |asked| {
            asked.usually(|| one(&words(&[2, asked.transaction, 1, 1, 1])))
        }),
        refused("unknown action", "action 7", "expected an action from 0 to 3, got 7", |asked| {
            asked.usually(|| one(&words(&[7, asked.transaction, 1, 1, 1])))
        }),
        refused("a web page", "counts as no answer", NO_ANSWER, |asked| {
            asked.usually(|| one(b"<!DOCTYPE html><html></html>"))
        }),
        case(
            "refusal of 60 KB",
            "an error message that fills a datagram: 1 KiB is shown",
            long_refusal,
        ),
        refused("late", "the answer comes after the timeout", NO_ANSWER, |asked| {
            asked.usually(|| {
                thread::park_timeout(Duration::from_millis(1500));
                one(&asked.announced(&[PEER]))
            })
        }),
        accepted("repeated", "each answer three times: its peer is listed once", |asked| {
            let answer = match asked.action {
                CONNECT => asked.connected(),
                _ => asked.announced(&[PEER]),
            };
            vec![(Socket::Tracker, answer); 3]
        }),
        accepted(
            "spoofed transactions",
            "100 answers with other transaction ids, then the right one",
            |asked| asked.usually(|| spoofed(asked)),
        ),
        accepted(
            "from another port",
            "the right transaction id from another port first",
            |asked| asked.usually(|| trapped(Socket::Port, asked)),
        ),
        accepted(
            "from another address",
            "the right transaction id from another address first",
            |asked| asked.usually(|| trapped(Socket::Address, asked)),
        ),
        refused(
            "connection from elsewhere",
            "the connect request is answered only from elsewhere",
            NO_ANSWER,
            |asked| [Socket::Port, Socket::Address].map(|from| (from, asked.connected())).into(),
        ),
        accepted("half a peer", "31 bytes: one peer and a half", |asked| {
            asked.usually(|| one(&asked.announced(&[PEER, TRAP])[..31]))
        }),
        case("10,000 peers", "as many as a datagram holds: 2,000 are taken", many_peers),
        case("spoofed in a download", "spoofed answers come first", download),
    ]
}

const SHORT_CONNECT: &str = "expected at least 16 bytes of connect response, got 15";
const SHORT_ANNOUNCE: &str = "expected at least 20 bytes of announce response, got 19";
const SCRAPED: &str = "expected the response to announce, got one with action 2";
const NO_ANSWER: &str = "no answer within 1 s";
const CONNECT: u32 = 0;

/// The right peer, and the one of spoofed answers: address and port.
const PEER: [u8; 6] = [10, 0, 0, 1, 0x1a, 0xe1];
const TRAP: [u8; 6] = [10, 6, 6, 6, 0x1a, 0xe1];

/// The part of a request that answers need.
#[derive(Debug, Clone, Copy)]
struct Asked {
    action: u32,
    transaction: u32,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy)]
enum Socket {
    /// The socket that got the request.
    Tracker,
    /// Another port of the same address.
    Port,
    /// Another address.
    Address,
}

type Datagram = (Socket, Vec<u8>);

/// The tracker's answer is these bytes.
fn one(bytes: &[u8]) -> Vec<Datagram> {
    vec![(Socket::Tracker, bytes.to_vec())]
}

impl Asked {
    fn read(datagram: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
        Some(Self { action: word(8)?, transaction: word(12)? })
    }

    fn connected(&self) -> Vec<u8> {
        words(&[CONNECT, self.transaction, 0x0123_4567, 0x89ab_cdef])
    }

    fn announced(&self, peers: &[[u8; 6]]) -> Vec<u8> {
        [words(&[1, self.transaction, 1800, 1, 1]), peers.concat()].concat()
    }

    /// Answers a connect request as trackers do, and an announce with `announced`.
    fn usually(&self, announced: impl FnOnce() -> Vec<Datagram>) -> Vec<Datagram> {
        match self.action {
            CONNECT => one(&self.connected()),
            _ => announced(),
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn spoofed(asked: &Asked) -> Vec<Datagram> {
    let other =
        |number: u32| Asked { transaction: asked.transaction.wrapping_add(number), ..*asked };
    let spoofed = (1..=100).flat_map(|number| one(&other(number).announced(&[TRAP])));
    spoofed.chain(one(&asked.announced(&[PEER]))).collect()
}

/// Another peer comes from elsewhere first.
fn trapped(elsewhere: Socket, asked: &Asked) -> Vec<Datagram> {
    vec![(elsewhere, asked.announced(&[TRAP])), (Socket::Tracker, asked.announced(&[PEER]))]
}

/// A tracker with three sockets that answers with a function.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(answer: impl Fn(&Asked) -> Vec<Datagram> + Send + 'static) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let (port, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.2:0")?);
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let serve = move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::SeqCst) {
                let Ok((length, to)) = socket.recv_from(&mut buffer) else { continue };
                let Some(asked) = Asked::read(&buffer[..length]) else { continue };
                for (from, bytes) in answer(&asked) {
                    let by = match from {
                        Socket::Tracker => &socket,
                        Socket::Port => &port,
                        Socket::Address => &other,
                    };
                    let _gone = by.send_to(&bytes, to);
                }
            }
        };
        Ok(Self { address, stop, thread: Some(thread::spawn(serve)) })
    }

    fn url(&self) -> String {
        format!("udp://{}/announce", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

type Answer = fn(&Asked) -> Vec<Datagram>;

fn refused(name: &'static str, what: &'static str, words: &'static str, answer: Answer) -> Case {
    case(name, what, move |scene| {
        let server = Server::start(answer)?;
        let finished = peers_of(scene, server.url(), &["--timeout", "1"])?;
        finished.expect(4)?;
        finished.expect_text(words)
    })
}

fn accepted(name: &'static str, what: &'static str, answer: Answer) -> Case {
    case(name, what, move |scene| {
        let server = Server::start(answer)?;
        let finished = peers_of(scene, server.url(), &[])?;
        finished.expect(0)?;
        let peers = &finished.lines[0]["peers"];
        ensure!(*peers == serde_json::json!(["10.0.0.1:6881"]), "{peers}");
        Ok(())
    })
}

fn long_refusal(scene: &Scene) -> Result<()> {
    let server = Server::start(|asked| {
        asked.usually(|| one(&[words(&[3, asked.transaction]), vec![b'x'; 60_000]].concat()))
    })?;
    let finished = peers_of(scene, server.url(), &[])?;
    finished.expect(4)?;
    let error = finished.lines[0]["trackers"][0]["error"].as_str().unwrap_or_default();
    let shown = error.matches('x').count();
    ensure!(shown == 1024, "{shown} bytes are shown");
    Ok(())
}

fn many_peers(scene: &Scene) -> Result<()> {
    let server = Server::start(|asked| {
        let peer = |number: u16| [10, 1, number.to_be_bytes()[0], number.to_be_bytes()[1], 1, 1];
        let peers: Vec<[u8; 6]> = (0..10_000).map(peer).collect();
        asked.usually(|| one(&asked.announced(&peers)))
    })?;
    let finished = peers_of(scene, server.url(), &[])?;
    finished.expect(0)?;
    let taken = finished.lines[0]["peers"].as_array().map(Vec::len);
    ensure!(taken == Some(2000), "{taken:?} peers were taken");
    Ok(())
}

/// Every spoofed answer lists a peer that must not be dialled.
fn download(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let (seeder, trap) = (Script::seeder(&payload).listen(), Script::seeder(&payload).listen());
    let compact = |peer: SocketAddr| {
        let [high, low] = peer.port().to_be_bytes();
        [127, 0, 0, 1, high, low]
    };
    let (good, bad) = (compact(seeder.address()), compact(trap.address()));
    let server = Server::start(move |asked| {
        let other = Asked { transaction: !asked.transaction, ..*asked };
        let (trap, right) = (asked.announced(&[bad]), asked.announced(&[good]));
        asked.usually(|| {
            vec![
                (Socket::Tracker, other.announced(&[bad])),
                (Socket::Port, trap.clone()),
                (Socket::Address, trap),
                (Socket::Tracker, right.clone()),
                (Socket::Tracker, right),
            ]
        })
    })?;
    let payload = scene.payload(file(8).tracker(server.url()))?;
    scene.fetch("user", &payload, &[], &[])?;
    ensure!(trap.seen().connections == 0, "the spoofed peer was dialled");
    Ok(())
}

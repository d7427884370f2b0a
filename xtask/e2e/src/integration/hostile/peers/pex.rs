//! Peers whose messages of peer exchange (BEP 11) are bad, or name addresses that are.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::hostile::{Crowd, Hostile};
use testkit::{Answer, HttpTracker, Script, raw};

use super::Reaction::{Dropped, Tolerated};
use super::{Row, Story, TALK, lines_of};
use crate::integration::scene::{LIMIT, Scene, file, free_address};
use tasks::process::wait_until;

/// Our id of peer exchange.
const OURS: u8 = 1;
/// How many addresses that one peer named are connected to at a time.
const MOST_DIALS: usize = 12;
/// How long one that does not answer is connected to, at least.
const WATCHED: Duration = Duration::from_secs(3);

pub(super) const ROWS: &[Row] = &[
    Row("a list that is cut", Tolerated, || {
        peer().sends(raw::extended(OURS, b"d5:added7:123456\x0ae"))
    }),
    Row("flags for fewer peers", Tolerated, || {
        peer().sends(raw::extended(OURS, b"d5:added6:\x7f\x09\x09\x09\x00\x097:added.f0:e"))
    }),
    Row("lists that are numbers", Tolerated, || {
        peer().sends(raw::extended(OURS, b"d5:addedi7e7:droppedi8ee"))
    }),
    Row("no bencode", Tolerated, || peer().sends(raw::extended(OURS, &[0xff; 100]))),
    Row("lists in each other", Tolerated, || {
        let nested = [b"l".repeat(1000), b"e".repeat(1000)].concat();
        peer().sends(raw::extended(OURS, &[b"d5:added", &nested[..], b"e"].concat()))
    }),
    Row("10,000 peers", Tolerated, || peer().sends(message(&unused(10_000)))),
    Row("5,000 peers", Tolerated, || peer().sends(message(&unused(5_000)))),
    Row("the same peer 100 times", Tolerated, || peer().sends(message(&[unused(1)[0]; 100]))),
    Row("addresses at which nobody can be", Tolerated, || {
        let all =
            ["0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80", "127.0.0.1:0", "127.0.0.1:1"];
        let all: Vec<SocketAddr> = all.iter().filter_map(|peer| peer.parse().ok()).collect();
        peer().sends(message(&all))
    }),
    Row("port 80", Tolerated, || peer().sends(message(&[SocketAddr::from(([127, 9, 9, 9], 80))]))),
    Row("ten messages at once", Tolerated, || peer().sends(message(&unused(50)).repeat(10))),
    Row("messages without end", Dropped("broke a rule"), || peer().floods(message(&unused(50)))),
    Row("noise without end", TALK, || peer().floods(raw::extended(OURS, &[0xff; 100]))),
];

pub(super) const CASES: &[Story] = &[
    ("its own address named", itself),
    ("50 silent peers named", silent_peers),
    ("peers of a private torrent named", private),
    ("public addresses of one /24 named", one_network),
];

/// Returns a peer that takes part in peer exchange.
fn peer() -> Hostile {
    Hostile::new().extensions().sends(raw::extended(0, b"d1:md6:ut_pexi3eee"))
}

/// Returns a message that names these peers.
pub(in super::super) fn message(peers: &[SocketAddr]) -> Vec<u8> {
    let compact = |peer: &SocketAddr| {
        let IpAddr::V4(ip) = peer.ip() else { return Vec::new() };
        [&ip.octets()[..], &peer.port().to_be_bytes()].concat()
    };
    let added: Vec<u8> = peers.iter().flat_map(compact).collect();
    let head = format!("d5:added{}:", added.len());
    let flags = format!("7:added.f{}:", peers.len());
    let flags = [flags.as_bytes(), &vec![0; peers.len()]].concat();
    raw::extended(OURS, &[head.as_bytes(), &added, &flags, b"e"].concat())
}

/// Addresses of loopback at which nobody listens.
fn unused(count: u16) -> Vec<SocketAddr> {
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([127, 9, high, low], 9))
    };
    (0..count).map(address).collect()
}

/// bt-cli connects to itself once, and notices.
fn itself(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let own = free_address()?;
    let crowd = Crowd::start(&payload, [peer().sends(message(&[own]).repeat(3))])?;
    let honest = Script::seeder(&payload).fast().held().listen();
    let peers = [crowd.address(0), honest.address()].map(|peer| format!("--peer={peer}"));
    let peers = [peers[0].as_str(), peers[1].as_str()];
    let mut launch = scene.download_at("leecher", &payload, own.port(), &peers)?;
    ensure!(crowd.wait_for(LIMIT, |met| met[0].done), "{}", launch.output_tail());
    let asked = honest.wait_for(LIMIT, |seen| !seen.requests.is_empty());
    ensure!(asked, "{}", launch.output_tail());
    honest.release();
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    let connected = super::state_of(&finished.lines, own, "connected");
    ensure!(connected.is_none(), "it is a peer of its own");
    Ok("not its own peer".to_owned())
}

/// Programs that accept connections and say nothing.
struct Silent {
    listeners: Vec<TcpListener>,
    open: Vec<TcpStream>,
    count: usize,
    /// The most connections at a time.
    most: usize,
}

impl Silent {
    fn new(listeners: Vec<TcpListener>) -> Result<Self> {
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        Ok(Self { listeners, open: Vec::new(), count: 0, most: 0 })
    }

    /// Accepts what came, and drops what has ended. Returns how many connections there were.
    fn look(&mut self) -> usize {
        for listener in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    self.open.push(stream);
                    self.count += 1;
                }
            }
        }
        self.open.retain_mut(|stream| !is_over(stream));
        self.most = self.most.max(self.open.len());
        self.count
    }
}

fn is_over(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 256];
    match stream.read(&mut buffer) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// A peer names more peers than are tried at a time, and keeps no other out.
fn silent_peers(scene: &Scene) -> Result<String> {
    let listeners = (0..50).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    let addresses = addresses.collect::<std::io::Result<Vec<_>>>()?;
    dials_are_limited(scene, &mut Silent::new(listeners)?, &message(&addresses))
}

/// Every address of a network, and every port of one of them.
fn one_network(scene: &Scene) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let network = |last| SocketAddr::from(([45, 66, 6, last], port));
    let one_host = (1000..1050).map(|port| SocketAddr::from(([45, 66, 7, 1], port)));
    let ports = message(&one_host.collect::<Vec<_>>());
    let hosts: Vec<SocketAddr> = (0..=255).map(network).collect();
    let messages = [ports, message(&hosts[..100]), message(&hosts[100..])].concat();
    dials_are_limited(scene, &mut Silent::new(vec![listener])?, &messages)
}

fn dials_are_limited(scene: &Scene, silent: &mut Silent, messages: &[u8]) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let crowd = Crowd::start(&payload, [peer().sends(messages)])?;
    let honest = Script::seeder(&payload).fast().held().listen();
    let peers = [crowd.address(0), honest.address()];
    let mut launch = scene.download_from("leecher", &payload, &peers, &[])?;
    let tried = wait_until(LIMIT, || silent.look() >= MOST_DIALS);
    ensure!(tried, "{} were tried\n{}", silent.count, launch.output_tail());
    let more = wait_until(WATCHED, || silent.look() > MOST_DIALS);
    ensure!(!more, "{} were tried at once", silent.count);
    let lines = lines_of(&launch);
    let of_host = lines.iter().filter_map(|line| line["address"].as_str());
    let ports: BTreeSet<&str> = of_host.filter(|at| at.starts_with("45.66.7.1:")).collect();
    ensure!(ports.len() <= 1, "one host was tried at {ports:?}");
    honest.release();
    scene.complete("leecher", &payload, &mut launch)?;
    Ok(format!("{} at a time", silent.most))
}

fn private(scene: &Scene) -> Result<String> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).private().tracker(tracker.url()))?;
    let trap = Script::seeder(&payload).listen();
    let crowd = Crowd::start(&payload, [peer().sends(message(&[trap.address()]).repeat(3))])?;
    let honest = Script::seeder(&payload).fast().held().listen();
    tracker.answer(Answer::Peers(vec![crowd.address(0), honest.address()]));
    let mut launch = scene.download("leecher", &payload, &[])?;
    ensure!(crowd.wait_for(LIMIT, |met| met[0].done), "{}", launch.output_tail());
    let asked = honest.wait_for(LIMIT, |seen| !seen.requests.is_empty());
    ensure!(asked, "{}", launch.output_tail());
    honest.release();
    scene.complete("leecher", &payload, &mut launch)?;
    ensure!(trap.seen().connections == 0, "the named peer was connected to");
    let hostile = crowd.observed().first().map(|met| met.connections);
    ensure!(hostile.context("it is there")? == 1, "the tracker's peer was connected to again");
    Ok("not connected to".to_owned())
}

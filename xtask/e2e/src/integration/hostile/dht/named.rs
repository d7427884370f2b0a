//! A victim that hostile nodes and peers name, as a node and as a peer. It must get at most two
//! datagrams and one connection per minute.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::hostile::{Crowd, Hostile};
use testkit::raw;

use super::Story;
use super::nodes::{By, ScriptedNode};
use super::wire::Id;
use crate::integration::scene::{Scene, file, link};
use crate::rng::Rng;

/// Cases that watch the victim for long enough to see that it is tried again, or not.
const LONG: &[Story] = &[("a peer and node for 70 s", WHAT, |scene| victim(scene, 70))];
const SHORT: &[Story] = &[("a peer and node for 10 s", WHAT, |scene| victim(scene, 10))];
const WHAT: &str = "2 datagrams and 1 connection per minute";

/// How many nodes, and how many peers, name the victim.
const INFORMANTS: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn cases(is_short: bool) -> &'static [Story] {
    if is_short { SHORT } else { LONG }
}

/// A program with the same port for UDP and TCP that never answers.
struct Victim {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
    datagrams: Seen,
    connections: Seen,
}

/// When something came.
#[derive(Debug, Default)]
struct Seen {
    count: usize,
    last: VecDeque<Instant>,
    /// The most in any minute.
    most: usize,
}

impl Seen {
    fn note(&mut self) {
        let now = Instant::now();
        self.count += 1;
        self.last.push_back(now);
        while self.last.front().is_some_and(|first| now.duration_since(*first) >= MINUTE) {
            self.last.pop_front();
        }
        self.most = self.most.max(self.last.len());
    }
}

impl Victim {
    fn new() -> Result<Self> {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0")?;
            // Another program may have the UDP port of this number.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?) {
                break (udp, tcp);
            }
        };
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let address = udp.local_addr()?;
        Ok(Self { udp, tcp, address, datagrams: Seen::default(), connections: Seen::default() })
    }

    /// Watches for `seconds`.
    fn watch(&mut self, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut open, mut buffer) = (Vec::new(), [0; 2048]);
        while Instant::now() < end {
            while self.udp.recv_from(&mut buffer).is_ok() {
                self.datagrams.note();
            }
            while let Ok(accepted) = self.tcp.accept() {
                open.push(accepted);
                self.connections.note();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn victim(scene: &Scene, seconds: u64) -> Result<String> {
    let payload = scene.payload(file(16))?;
    let mut victim = Victim::new()?;
    let (at, hash): (_, Id) = (victim.address, *payload.info_hash().as_bytes());
    let mut nodes = Vec::new();
    for number in 0..INFORMANTS as u64 {
        let mut rng = Rng::new(number);
        let id = near(hash, &mut rng);
        nodes.push(ScriptedNode::start(move |asked| {
            // Another node each time, which is nearer to the torrent than any other.
            let named: Vec<_> = (0..8).map(|_| (near(asked.target, &mut rng), at)).collect();
            vec![(By::Asked, asked.answer(&id, &named, &[at]))]
        })?);
    }
    let names_victim = || Hostile::new().extensions().sends(pex_support()).sends(pex(at));
    let crowd = Crowd::start(&payload, (0..INFORMANTS).map(|_| names_victim()))?;
    let peers: Vec<SocketAddr> = (0..INFORMANTS).map(|number| crowd.address(number)).collect();
    let nodes: Vec<(String, &ScriptedNode)> =
        nodes.iter().map(|node| (node.address.to_string(), node)).collect();
    let options: Vec<&str> = nodes.iter().flat_map(|(node, _)| ["--dht-node", node]).collect();
    let mut launch = scene.download_link("leecher", &link(&payload, &peers, &[]), &options)?;
    victim.watch(seconds);
    ensure!(launch.is_running(), "{}", launch.output_tail());
    let asked: u64 = nodes.iter().map(|(_, node)| node.queries()).sum();
    let met: u64 = crowd.observed().iter().map(|peer| peer.handshakes).sum();
    ensure!(asked >= INFORMANTS as u64, "only {asked} queries came to the nodes that name it");
    ensure!(met >= INFORMANTS as u64, "only {met} handshakes with the peers that name it");
    let Victim { datagrams, connections, .. } = &victim;
    ensure!(datagrams.count > 0 && connections.count > 0, "it was never tried");
    ensure!(datagrams.most <= 2, "{} datagrams in a minute", datagrams.most);
    ensure!(connections.most <= 1, "{} connections in a minute", connections.most);
    Ok(format!(
        "{} datagrams and {} connections, {} and {} per minute at most",
        datagrams.count, connections.count, datagrams.most, connections.most
    ))
}

fn near(target: Id, rng: &mut Rng) -> Id {
    let mut id = target;
    id[17..].fill_with(|| rng.below(256) as u8);
    id
}

fn pex_support() -> Vec<u8> {
    raw::extended(0, b"d1:md6:ut_pexi3eee")
}

/// A message of peer exchange that names one peer.
fn pex(peer: SocketAddr) -> Vec<u8> {
    super::super::peers::pex::message(&[peer])
}

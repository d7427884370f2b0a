//! How many queries one node answers per second and core, in memory and without budgets.
//!
//! `cargo run --release -p dht --example throughput [SECONDS] [--json]`
//!
//! A second is one of CPU time where the system reports that, so that other programs disturb less.
//! `--json` prints one object: the rates by name, and `memory`, the bytes that the node uses.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A clock, to measure with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bt_types::InfoHashV1;
use dht::message::{Body, Message, Method, Query, Reply, Want};
use dht::{Config, Dht, NodeId};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How many different queries are asked in turn.
const QUERIES: usize = 4096;
/// How many torrents have peers, and how many each.
const TORRENTS: usize = 100;
const PEERS: u32 = 60;

fn main() {
    let (flags, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word == "--json");
    let seconds = words.first().map_or(2.0, |text| text.parse().expect("seconds"));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut dht = Dht::new(&Config { throttle: false, v6: false, ..Config::new([1; 32]) });
    let now = Duration::from_secs(1);
    meet(&mut dht, now, &mut rng);
    let torrents: Vec<InfoHashV1> = (0..TORRENTS).map(|_| InfoHashV1(rng.random())).collect();
    torrents.iter().for_each(|torrent| announce(&mut dht, now, *torrent));
    let status = dht.status();
    let want = Want::default();
    let find_node = |rng: &mut ChaCha8Rng| Method::FindNode { target: NodeId::random(rng), want };
    let get = |info_hash| Method::GetPeers { info_hash, want, noseed: false, scrape: false };
    let get_known = |rng: &mut ChaCha8Rng| get(torrents[rng.random_range(0..TORRENTS)]);
    let get_unknown = |rng: &mut ChaCha8Rng| get(InfoHashV1(rng.random()));
    let rates = [
        ("ping", measure(seconds, &mut dht, now, &mut rng, |_| Method::Ping)),
        ("find_node", measure(seconds, &mut dht, now, &mut rng, find_node)),
        ("get_peers without peers", measure(seconds, &mut dht, now, &mut rng, get_unknown)),
        ("get_peers with 50 peers", measure(seconds, &mut dht, now, &mut rng, get_known)),
    ];
    if flags.is_empty() {
        println!("{} nodes, {} peers, {} bytes", status.nodes_v4, status.peers, status.memory);
        for (name, (rate, bytes)) in rates {
            println!("{name:24} {rate:>9.0} per second, {bytes} bytes each");
        }
    } else {
        let rates = rates.map(|(name, (rate, _))| format!("\"{name}\": {rate:.0}"));
        println!("{{ {}, \"memory\": {} }}", rates.join(", "), status.memory);
    }
}

/// Asks the node for `seconds`. Returns how many queries it answered per second of CPU time, and the
/// length of an answer.
fn measure(
    seconds: f64,
    dht: &mut Dht,
    now: Duration,
    rng: &mut ChaCha8Rng,
    mut method: impl FnMut(&mut ChaCha8Rng) -> Method<'static>,
) -> (f64, u64) {
    let queries: Vec<(SocketAddr, Vec<u8>)> = (0..QUERIES)
        .map(|_| {
            let query = Query { id: NodeId::random(rng), method: method(rng) };
            (address(rng.random()), encode(Body::Query(query), b"tt"))
        })
        .collect();
    let (mut answered, mut bytes) = (0_u64, 0_u64);
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed().as_secs_f64() < seconds {
        for (from, query) in &queries {
            dht.handle_datagram(now, *from, query);
            while let Some(transmit) = dht.poll_transmit() {
                answered += 1;
                bytes += transmit.bytes.len() as u64;
            }
        }
    }
    let time = cpu.zip(cpu_time()).map_or(start.elapsed(), |(before, after)| after - before);
    (answered as f64 / time.as_secs_f64(), bytes / answered.max(1))
}

/// Returns the CPU time of this program, which has one thread; `None` outside Linux.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Has the node meet others until its table is full.
fn meet(dht: &mut Dht, now: Duration, rng: &mut ChaCha8Rng) {
    for _ in 0..4000 {
        let ip = Ipv4Addr::from_bits(rng.random());
        if !bt_types::is_public(ip.into()) {
            continue;
        }
        let id = NodeId::for_address(ip.into(), rng);
        dht.ping(now, (ip, 6881).into());
        let mut answers = Vec::new();
        while let Some(transmit) = dht.poll_transmit() {
            let message = Message::decode(transmit.bytes).expect("a query");
            answers.push((transmit.to, encode(Body::Reply(Reply::new(id)), message.transaction)));
        }
        answers.iter().for_each(|(from, answer)| dht.handle_datagram(now, *from, answer));
        while dht.poll_event().is_some() {}
    }
    while dht.poll_transmit().is_some() {}
}

/// Has peers announce the torrent.
fn announce(dht: &mut Dht, now: Duration, info_hash: InfoHashV1) {
    for number in 0..PEERS {
        let id = NodeId([7; 20]);
        let from = address(number * 0x0001_0203);
        let method =
            Method::GetPeers { info_hash, want: Want::default(), noseed: false, scrape: false };
        dht.handle_datagram(now, from, &encode(Body::Query(Query { id, method }), b"tt"));
        let answer = dht.poll_transmit().expect("an answer").bytes.to_vec();
        let Ok(Message { body: Body::Reply(Reply { token: Some(token), .. }), .. }) =
            Message::decode(&answer)
        else {
            continue;
        };
        let method = Method::AnnouncePeer { info_hash, port: Some(6881), seed: false, token };
        dht.handle_datagram(now, from, &encode(Body::Query(Query { id, method }), b"tt"));
        while dht.poll_transmit().is_some() {}
    }
}

fn address(number: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0x2d00_0000 | number >> 4), 6881).into()
}

fn encode(body: Body<'_>, transaction: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message::new(transaction, body).encode(&mut out);
    out
}

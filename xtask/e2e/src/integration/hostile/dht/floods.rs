//! Floods against a node. Afterwards it answers others, rests, and has used little memory.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tasks::meter::Meter;

use super::wire::{Id, error, field, has, query, reply, text};
use super::{ASKER, Asker, HASH, Node, Story};
use crate::integration::scene::{LIMIT, Scene};
use crate::rng::Rng;
use tasks::process::wait_until_every;

pub(super) const CASES: &[Story] = &[
    ("noise", "the node answers afterwards", noise),
    ("changed and cut queries", "the node answers afterwards", changed),
    ("replies and errors without end", "no datagram comes back", answers_without_end),
    ("10,000 queries per second", "the node answers afterwards", queries),
    ("samples each millisecond", "25 answers in the first second", samples),
    ("bad signatures without end", "the node answers afterwards", signatures),
];

/// How long a flood lasts.
const TIME: Duration = Duration::from_secs(2);
/// The sockets that it comes from: each counts as another node.
const SOCKETS: usize = 64;
/// The most memory of a node, in bytes: its tables, 64 KiB for a datagram, code and stacks.
const MAX_PEAK: u64 = 32 << 20;
/// The CPU time of a node that rests, in [`REST`].
const RESTING: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_millis(500);
/// How many datagrams a flood sends before it gives the node a moment.
const BATCH: u64 = 100;

/// Sends what `datagram` makes of its number for a while, at most 10,000 per second. Then checks
/// that the node is as well as before.
fn flood(node: &Node, mut datagram: impl FnMut(u64) -> Vec<u8>) -> Result<String> {
    let sockets = (0..SOCKETS).map(|_| UdpSocket::bind("127.0.0.1:0"));
    let sockets = sockets.collect::<std::io::Result<Vec<_>>>()?;
    let mut meter = Meter::start(&node.launch);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        for _ in 0..BATCH {
            let socket = &sockets[sent as usize % SOCKETS];
            // The system may have no room for another one.
            let _full = socket.send_to(&datagram(sent), node.address);
            sent += 1;
        }
        meter.sample();
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let flooded = meter.cost();
    ensure!(flooded.peak <= MAX_PEAK, "{} KiB of memory", flooded.peak >> 10);
    let answered = wait_until_every(Duration::from_millis(100), LIMIT, || {
        Asker::new(node.address).is_ok_and(|asker| answers_soon(&asker))
    });
    ensure!(answered, "the node does not answer any more");
    let rests = wait_until_every(REST, LIMIT, || {
        let mut meter = Meter::start(&node.launch);
        std::thread::park_timeout(REST);
        meter.cost().cpu <= RESTING
    });
    ensure!(rests, "the node does not rest");
    let (cpu, peak) = (flooded.cpu.as_millis(), flooded.peak >> 20);
    Ok(format!("{sent} datagrams, {cpu} ms of CPU time, {peak} MiB"))
}

fn answers_soon(asker: &Asker) -> bool {
    let sent = asker.send(&query(b"soon", &asker.id, "ping", b""));
    sent.is_ok() && matches!(asker.receive(Duration::from_secs(1)), Ok(Some(_)))
}

fn noise(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    flood(&node, |number| {
        let bytes = testkit::bytes(number, number % 1600);
        if number % 2 == 0 { [b"d", &bytes[..]].concat() } else { bytes }
    })
}

/// Queries of every kind.
fn templates() -> Vec<Vec<u8>> {
    let (hash, token) = (text(HASH), text([7; 8]));
    let of_hash = [b"9:info_hash", &hash[..]].concat();
    let announce = [&of_hash[..], b"4:porti7000e5:token", &token].concat();
    let target = [b"6:target", &hash[..]].concat();
    let wanting = [&target[..], b"4:wantl2:n42:n6e"].concat();
    let key = [b"1:k", &text([7; 32])[..], b"3:seqi1e3:sig", &text([9; 64])].concat();
    let put = [&key[..], b"5:token", &token, b"1:v4:item"].concat();
    let methods: [(&str, &[u8]); 7] = [
        ("ping", b""),
        ("find_node", &wanting),
        ("get_peers", &of_hash),
        ("announce_peer", &announce),
        ("get", &target),
        ("put", &put),
        ("sample_infohashes", &target),
    ];
    let queries = methods.map(|(method, arguments)| query(b"aa", &ASKER, method, arguments));
    queries.into_iter().chain([reply(b"aa", &ASKER, b""), error(b"aa", 201)]).collect()
}

/// Every prefix of every kind of message, and as many with some bytes changed.
fn changed(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let mut rng = Rng::new(1);
    let templates = templates();
    flood(&node, |number| {
        let mut bytes = templates[number as usize % templates.len()].clone();
        let round = number as usize / templates.len();
        if round.is_multiple_of(2) {
            bytes.truncate(round / 2 % bytes.len());
            return bytes;
        }
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.below(256) as u8;
        }
        bytes
    })
}

/// Two nodes that answered each other's errors would never stop.
fn answers_without_end(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let asker = Asker::new(node.address)?;
    for number in 0..1000u16 {
        let transaction = number.to_be_bytes();
        asker.send(&error(&transaction, 203))?;
        asker.send(&reply(&transaction, &ASKER, b""))?;
        if number % 100 == 0 {
            // The node has read all before, so none is lost because it is slower than we are.
            ensure!(asker.exchange(&reply(b"", &ASKER, b""))?.is_empty(), "it is answered");
        }
    }
    let answers = asker.exchange(&error(b"", 0))?;
    ensure!(answers.is_empty(), "{} answers", answers.len());
    Ok("2,000 datagrams, no answer".to_owned())
}

fn queries(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    flood(&node, |number| {
        let bytes = testkit::bytes(number, 40);
        let target = [b"6:target", &text(&bytes[20..])[..]].concat();
        query(b"aa", &bytes[..20], "find_node", &target)
    })
}

/// One address gets a burst of answers, and then a few per second.
fn samples(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let asker = Asker::new(node.address)?;
    let target = [b"6:target", &text(HASH)[..]].concat();
    let (start, mut answers) = (Instant::now(), 0);
    for _ in 0..1000 {
        asker.send(&query(b"aa", &asker.id, "sample_infohashes", &target))?;
        std::thread::park_timeout(Duration::from_millis(1));
    }
    while asker.receive(Duration::from_millis(300))?.is_some() {
        answers += 1;
    }
    let time = start.elapsed().as_secs_f64();
    // A burst of 20, and five per second.
    let most = 20.0 + 5.0 * time + 1.0;
    ensure!(answers > 0 && f64::from(answers) <= most, "{answers} answers in {time:.1} s");
    Ok(format!("{answers} answers in {time:.1} s"))
}

/// Each has a token that is valid, so that the signature is verified.
fn signatures(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let (key, salt): ([u8; 32], &[u8]) = ([7; 32], b"");
    let target: Id = testkit::sha1(&[&key[..], salt].concat()).0;
    let sockets = (0..SOCKETS).map(|_| Asker::new(node.address)).collect::<Result<Vec<_>>>()?;
    let mut puts = Vec::new();
    for asker in &sockets {
        let answer = asker.ask("get", &[b"6:target", &text(target)[..]].concat())?;
        let token = text(field(&answer, "5:token").unwrap_or_default());
        let item = [b"1:k", &text(key)[..], b"3:seqi1e3:sig", &text([9; 64])].concat();
        let put = [&item[..], b"5:token", &token, b"1:v4:item"].concat();
        puts.push(query(b"aa", &asker.id, "put", &put));
    }
    let mut meter = Meter::start(&node.launch);
    let (start, mut sent, mut refused) = (Instant::now(), 0, 0);
    while start.elapsed() < TIME {
        for (asker, put) in sockets.iter().zip(&puts) {
            asker.send(put)?;
            sent += 1;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let cpu = meter.cost().cpu;
    for asker in &sockets {
        while let Some(answer) = asker.receive(Duration::from_millis(10))? {
            refused += u32::from(has(&answer, b"i206e"));
        }
    }
    // Fifty signatures per second, and a burst of as many.
    let most = 50.0 * (start.elapsed().as_secs_f64() + 1.0) + 1.0;
    ensure!(refused > 0 && f64::from(refused) <= most, "{refused} signatures were verified");
    let answered = wait_until_every(Duration::from_millis(100), LIMIT, || {
        Asker::new(node.address).is_ok_and(|asker| answers_soon(&asker))
    });
    ensure!(answered, "the node does not answer any more");
    Ok(format!("{sent} puts, {refused} verified, {} ms of CPU time", cpu.as_millis()))
}

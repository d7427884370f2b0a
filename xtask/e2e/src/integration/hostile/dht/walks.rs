//! Lookups of peers among hostile nodes. `bt-cli dht peers` knows a hostile node and an honest one,
//! and finds the honest one's peer.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use testkit::{MetadataBehaviour, Payload, Script};

use super::nodes::{Asked, By, ScriptedNode};
use super::wire::{Id, error, query, reply, text, values};
use super::{ASKER, HASH, Node, Story};
use crate::integration::scene::{Scene, file};
use crate::rng::Rng;

pub(super) const CASES: &[Story] = &[
    ("guessed transaction ids", "a peer that only these replies name is not used", |scene| {
        trapped(scene, |asked| {
            let guesses = (0..200u32).map(|number| {
                let bytes = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
                if number % 2 == 0 { bytes.to_vec() } else { bytes[..2].to_vec() }
            });
            let forged = |transaction: Vec<u8>| (By::Asked, trap(&transaction));
            guesses.map(forged).chain([honest(asked)]).collect()
        })
    }),
    ("replies from another port", "a peer that only these replies name is not used", |scene| {
        trapped(scene, |asked| vec![(By::Other, trap(asked.transaction)), honest(asked)])
    }),
    ("a second reply", "a peer that only this reply names is not used", |scene| {
        trapped(scene, |asked| vec![honest(asked), (By::Asked, trap(asked.transaction))])
    }),
    ("replies with the asker's id", "a peer that only these replies name is not used", |scene| {
        trapped(scene, |asked| {
            let all = [peers_field(), values(&[TRAP])].concat();
            vec![(By::Asked, reply(asked.transaction, &asked.asker, &all))]
        })
    }),
    ("replies with too many bytes", "a peer that only these replies name is not used", |scene| {
        trapped(scene, |asked| {
            let long = [b"1:a", &text([b'x'; 1500])[..], &values(&[TRAP])].concat();
            vec![(By::Asked, reply(asked.transaction, &HOSTILE, &long))]
        })
    }),
    ("another id in each reply", "the honest node's peer is found", |scene| {
        let mut rng = Rng::new(1);
        found(scene, move |asked| vec![(By::Asked, asked.answer(&random(&mut rng), &[], &[]))])
    }),
    ("an id of zeros", "the honest node's peer is found", |scene| {
        found(scene, |asked| vec![(By::Asked, asked.answer(&[0; 20], &[], &[]))])
    }),
    ("an id of 19 bytes", "the honest node's peer is found", |scene| {
        found(scene, |asked| vec![(By::Asked, reply(asked.transaction, &HOSTILE[1..], b""))])
    }),
    ("a list of nodes that is cut", "the honest node's peer is found", |scene| {
        found(scene, |asked| {
            let ragged = [b"5:nodes", &text([7; 26 * 8 - 1])[..]].concat();
            vec![(By::Asked, reply(asked.transaction, &HOSTILE, &ragged))]
        })
    }),
    ("dead nodes nearer than all others", "the honest node's peer is found", |scene| {
        let mut rng = Rng::new(1);
        found(scene, move |asked| {
            let dead: Vec<_> = (0..8).map(|_| (near(asked.target, &mut rng), nobody())).collect();
            vec![(By::Asked, asked.answer(&HOSTILE, &dead, &[]))]
        })
    }),
    ("noise", "the honest node's peer is found", |scene| {
        found(scene, |asked| {
            let noise = testkit::bytes(7, 300);
            vec![(By::Asked, reply(asked.transaction, &HOSTILE, &noise)), (By::Asked, noise)]
        })
    }),
    ("silence", "the honest node's peer is found", |scene| found(scene, |_| Vec::new())),
    ("errors without end", "the node is asked few times", errors_without_end),
    ("queries for replies", "the honest node's peer is found", |scene| {
        found(scene, |asked| {
            vec![(By::Asked, query(asked.transaction, &HOSTILE, "ping", b"")); 100]
        })
    }),
    ("peers that are none", "only the others are reported", bad_peers),
    ("150 peers of one node", "50 are reported", many_peers),
    ("nine hostile nodes of ten", "a link downloads", download),
];

/// The id of the hostile node, and of the honest one, which is nearer to the torrent.
const HOSTILE: Id = *b"some hostile node #1";
const HONEST: Id = *b"some torrent's node!";
/// The peer of the honest node.
const PEER: SocketAddr = local(7000);
/// A peer that nobody should believe in.
const TRAP: SocketAddr = local(6666);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 9, 9, 9)), port)
}

/// An address at which nobody is.
fn nobody() -> SocketAddr {
    local(9)
}

type Answers = Vec<(By, Vec<u8>)>;

/// The answer of a node that knows nobody.
fn honest(asked: &Asked<'_>) -> (By, Vec<u8>) {
    (By::Asked, asked.answer(&HOSTILE, &[], &[]))
}

fn peers_field() -> Vec<u8> {
    [b"5:token", &text([1; 4])[..]].concat()
}

fn trap(transaction: &[u8]) -> Vec<u8> {
    reply(transaction, &HOSTILE, &[peers_field(), values(&[TRAP])].concat())
}

fn random(rng: &mut Rng) -> Id {
    std::array::from_fn(|_| rng.below(256) as u8)
}

fn near(target: Id, rng: &mut Rng) -> Id {
    let mut id = target;
    id[16..].copy_from_slice(&random(rng)[16..]);
    id
}

/// What a lookup reports.
struct Lookup {
    peers: Vec<SocketAddr>,
    note: String,
}

/// Looks for peers through these nodes.
fn look_up(scene: &Scene, nodes: &[&ScriptedNode]) -> Result<Lookup> {
    let hash: String = HASH.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut arguments = vec!["dht".to_owned(), "peers".to_owned(), hash];
    for node in nodes {
        arguments.extend(["--dht-node".to_owned(), node.address.to_string()]);
    }
    let finished = scene.user("asker").run("peers", &arguments)?;
    finished.expect(0)?;
    let line = &finished.lines[0];
    let peers = line["peers"].as_array().into_iter().flatten();
    let peers = peers.filter_map(|peer| peer.as_str()?.parse().ok()).collect();
    let note = format!("{} nodes asked, {:.1} s", line["nodes_asked"], seconds(line));
    Ok(Lookup { peers, note })
}

fn seconds(line: &serde_json::Value) -> f64 {
    line["seconds"].as_f64().unwrap_or_default()
}

fn look_up_beside(
    scene: &Scene,
    answers: impl FnMut(&Asked<'_>) -> Answers + Send + 'static,
) -> Result<Lookup> {
    let hostile = ScriptedNode::start(answers)?;
    let honest = ScriptedNode::honest(HONEST, vec![(HOSTILE, hostile.address)], vec![PEER])?;
    let lookup = look_up(scene, &[&hostile, &honest])?;
    ensure!(lookup.peers.contains(&PEER), "it is not found: {:?}", lookup.peers);
    Ok(lookup)
}

fn found(
    scene: &Scene,
    answers: impl FnMut(&Asked<'_>) -> Answers + Send + 'static,
) -> Result<String> {
    Ok(look_up_beside(scene, answers)?.note)
}

fn trapped(
    scene: &Scene,
    answers: impl FnMut(&Asked<'_>) -> Answers + Send + 'static,
) -> Result<String> {
    let lookup = look_up_beside(scene, answers)?;
    ensure!(lookup.peers == [PEER], "found {:?}", lookup.peers);
    Ok(lookup.note)
}

/// Each query gets a hundred errors. The asker does not answer them, and asks no more often.
fn errors_without_end(scene: &Scene) -> Result<String> {
    let hostile = ScriptedNode::start(|asked| {
        let all = vec![error(asked.transaction, 201); 100].into_iter();
        all.map(|error| (By::Asked, error)).collect()
    })?;
    let honest = ScriptedNode::honest(HONEST, vec![(HOSTILE, hostile.address)], vec![PEER])?;
    let lookup = look_up(scene, &[&hostile, &honest])?;
    ensure!(lookup.peers == [PEER], "found {:?}", lookup.peers);
    let queries = hostile.queries();
    ensure!(queries <= 8, "{queries} queries");
    Ok(format!("{queries} queries"))
}

fn bad_peers(scene: &Scene) -> Result<String> {
    let good = local(7001);
    let lookup = look_up_beside(scene, move |asked| {
        let bad = ["0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80", "240.0.0.1:80"];
        let bad = bad.iter().filter_map(|peer| peer.parse().ok());
        let mut peers: Vec<SocketAddr> = bad.chain([local(0), local(1), good]).collect();
        peers.extend_from_within(..);
        let mut answer = [peers_field(), values(&peers)].concat();
        answer.pop();
        // Two that do not have the length of an address.
        answer.extend_from_slice(b"3:abc19:abcdefghijklmnopqrse");
        vec![(By::Asked, reply(asked.transaction, &HOSTILE, &answer))]
    })?;
    let mut peers = lookup.peers;
    peers.sort();
    ensure!(peers == [PEER, good], "found {peers:?}");
    Ok(lookup.note)
}

fn many_peers(scene: &Scene) -> Result<String> {
    let lookup = look_up_beside(scene, |asked| {
        let peers: Vec<SocketAddr> = (8000..8150).map(local).collect();
        let all = [peers_field(), values(&peers)].concat();
        vec![(By::Asked, reply(asked.transaction, &HOSTILE, &all))]
    })?;
    ensure!(lookup.peers.len() == 51, "{} peers", lookup.peers.len());
    Ok(lookup.note)
}

/// A seeder announces itself to `bt-cli dht node`. The link knows that node and nine hostile ones.
fn download(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let node = Node::start(scene)?;
    let target: Id = *payload.info_hash().as_bytes();
    let seeder = Script::seeder(&payload).fast().metadata(&payload, MetadataBehaviour::Honest);
    let seeder = seeder.listen();
    announce(&node, &target, seeder.address())?;
    let hostile = hostile_nodes(target)?;
    let nodes: Vec<String> = hostile.iter().map(|node| node.address.to_string()).collect();
    let mut options: Vec<&str> = nodes.iter().flat_map(|node| ["--dht-node", node]).collect();
    let honest = node.address.to_string();
    options.extend(["--dht-node", &honest]);
    let start = Instant::now();
    fetch(scene, &payload, &options)?;
    Ok(format!("complete after {:.1} s", start.elapsed().as_secs_f64()))
}

fn fetch(scene: &Scene, payload: &Payload, options: &[&str]) -> Result<()> {
    scene.fetch_link("leecher", payload, &payload.magnet(), options).map(drop)
}

/// Announces a peer of 127.0.0.1 to a node.
fn announce(node: &Node, hash: &Id, peer: SocketAddr) -> Result<()> {
    let asker = super::Asker::new(node.address)?;
    let (token, hash) = (text(asker.token(hash)?), text(hash));
    let port = format!("4:porti{}e5:token", peer.port());
    let arguments = [b"9:info_hash", &hash[..], port.as_bytes(), &token].concat();
    let answer = asker.ask("announce_peer", &arguments)?;
    ensure!(super::wire::is_reply(&answer), "{}", answer.escape_ascii());
    Ok(())
}

/// Nine nodes, each bad in its own way.
fn hostile_nodes(target: Id) -> Result<Vec<ScriptedNode>> {
    let mut nodes = Vec::new();
    for kind in 0..9u8 {
        let mut rng = Rng::new(u64::from(kind));
        let id = near(target, &mut rng);
        nodes.push(ScriptedNode::start(move |asked| {
            let dead: Vec<_> = (0..8).map(|_| (near(target, &mut rng), nobody())).collect();
            let bytes = match kind {
                0 => return Vec::new(),
                1 => error(asked.transaction, 202),
                2 => testkit::bytes(2, 400),
                3 => asked.answer(&id, &dead, &[]),
                4 => asked.answer(&id, &[], &[TRAP, nobody()]),
                5 => asked.answer(&random(&mut rng), &dead, &[]),
                6 => asked.answer(&asked.asker, &dead, &[TRAP]),
                7 => reply(asked.transaction, &id[1..], b""),
                _ => query(asked.transaction, &ASKER, "get_peers", b""),
            };
            vec![(By::Asked, bytes)]
        })?);
    }
    Ok(nodes)
}

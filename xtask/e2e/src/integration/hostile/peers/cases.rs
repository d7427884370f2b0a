//! Cases with more than one hostile peer, or with none.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::hostile::{self, Asked, Crowd, Hostile};
use testkit::{Behaviour, Payload, PeerId, Script, ScriptedPeer};

use super::{Story, held_back, state_of};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, file, free_address};

/// An address of this machine that no honest peer has.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(super) const CASES: &[Story] = &[
    ("ourselves", ourselves),
    ("two with one peer id", one_peer_id),
    ("the honest peer's id", stolen_peer_id),
    ("one liar among honest peers", liar_among_many),
    ("seventy slow handshakes", seventy_slow_handshakes),
    ("only liars", only_liars),
    ("only useless peers", no_use),
];

/// bt-cli gets its own address with `--peer`: it closes the connection to itself, and does not
/// retry.
fn ourselves(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let honest = Script::seeder(&payload).held().listen();
    let own = free_address()?;
    let peers = [own, honest.address()].map(|address| address.to_string());
    let peers = ["--peer", &peers[0], "--peer", &peers[1]];
    let mut launch = scene.download_at("leecher", &payload, own.port(), &peers)?;
    ensure!(honest.wait_for(LIMIT, |seen| !seen.requests.is_empty()), "{}", launch.output_tail());
    honest.release();
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    ensure!(state_of(&finished.lines, own, "connected").is_none(), "it is its own peer");
    Ok("refused".to_owned())
}

/// Of two peers with one id, one becomes a peer.
fn one_peer_id(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let twin = || Hostile::seeder().peer_id(PeerId([b'x'; 20]));
    beside_an_honest_one(scene, &payload, [twin(), twin()], |crowd| {
        crowd.wait_for(LIMIT, |met| {
            met.iter().all(|met| met.handshakes > 0) && met.iter().any(|met| met.ended > 0)
        })
    })?;
    Ok("the second is refused".to_owned())
}

/// A peer with the id of a connected peer is refused, and that one stays.
fn stolen_peer_id(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let id = PeerId([b'y'; 20]);
    let honest = Script::seeder(&payload).peer_id(id);
    let (honest, own, mut launch) = held_back(scene, &payload, honest)?;
    let thief = Hostile::seeder().peer_id(id).connects_to(own).from(ELSEWHERE);
    let crowd = Crowd::start(&payload, [thief])?;
    ensure!(crowd.wait_for(LIMIT, |met| met[0].ended > 0), "the second became a peer");
    honest.release();
    scene.complete("leecher", &payload, &mut launch)?;
    ensure!(honest.seen().connections == 1, "the honest one was dropped");
    Ok("refused".to_owned())
}

/// Every piece comes from several peers, and one of them sends wrong blocks: only it is banned.
fn liar_among_many(scene: &Scene) -> Result<String> {
    // Two pieces, so that all peers send blocks of the same ones.
    let payload = Payload::file("file.bin", 4 << 20).piece_length(2 << 20);
    let payload = scene.payload(payload)?;
    let lies = |asked: &Asked<'_>| match asked.number % 4 {
        2 => hostile::corrupt(asked),
        _ => hostile::right(asked),
    };
    let crowd = Crowd::start(&payload, [Hostile::seeder().answers(lies)])?;
    let slow = || Script::seeder(&payload).delay(Duration::from_millis(2)).listen();
    let honest = [slow(), slow(), slow()];
    let mut addresses: Vec<SocketAddr> = honest.iter().map(ScriptedPeer::address).collect();
    addresses.push(crowd.address(0));
    let mut launch = scene.download_from("leecher", &payload, &addresses, &[])?;
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    let banned: Vec<&SocketAddr> = addresses
        .iter()
        .filter(|address| state_of(&finished.lines, **address, "banned").is_some())
        .collect();
    ensure!(banned == [&crowd.address(0)], "banned {banned:?} instead of {}", crowd.address(0));
    Ok("only the liar is banned".to_owned())
}

/// More connections without a handshake than there may be: a connected peer stays, and others are
/// accepted once those have timed out.
fn seventy_slow_handshakes(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let (honest, own, mut launch) = held_back(scene, &payload, Script::seeder(&payload))?;
    let slow = || Hostile::new().sends_instead_of_handshake("").connects_to(own);
    let crowd = Crowd::start(&payload, (0..70).map(|_| slow()))?;
    ensure!(
        crowd.wait_for(LIMIT, |met| met.iter().all(|met| met.connections > 0)),
        "not all connected"
    );
    let other = Script::seeder(&payload).connect(own)?;
    ensure!(other.wait_for(LIMIT, |seen| !seen.peer_ids.is_empty()), "no other peer is accepted");
    honest.release();
    scene.complete("leecher", &payload, &mut launch)?;
    Ok("refused after 10 s".to_owned())
}

/// All peers are banned for bad data: exit code 5.
fn only_liars(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let crowd = Crowd::start(&payload, [Hostile::seeder().answers(hostile::corrupt)])?;
    let mut launch = scene.download_from("leecher", &payload, &[crowd.address(0)], &[])?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(5)?;
    Ok("exit code 5".to_owned())
}

/// No peer sends anything: `--stall-timeout` ends the download with exit code 4.
fn no_use(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let peers =
        [Behaviour::WrongInfoHash, Behaviour::Garbage, Behaviour::Silent, Behaviour::Chokes]
            .map(|behaviour| Script::seeder(&payload).behaviour(behaviour).listen());
    let addresses = peers.each_ref().map(ScriptedPeer::address);
    let mut launch =
        scene.download_from("leecher", &payload, &addresses, &["--stall-timeout", "3"])?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(4)?;
    Ok("exit code 4".to_owned())
}

/// Downloads from an honest peer, which waits until `enough` holds for the hostile ones.
fn beside_an_honest_one(
    scene: &Scene,
    payload: &Payload,
    hostile: impl IntoIterator<Item = Hostile>,
    enough: impl Fn(&Crowd) -> bool,
) -> Result<()> {
    let crowd = Crowd::start(payload, hostile)?;
    let honest = Script::seeder(payload).held().listen();
    let mut addresses: Vec<SocketAddr> =
        (0..crowd.observed().len()).map(|number| crowd.address(number)).collect();
    addresses.push(honest.address());
    let mut launch = scene.download_from("leecher", payload, &addresses, &[])?;
    ensure!(enough(&crowd), "{:?}\n{}", crowd.observed(), launch.output_tail());
    honest.release();
    scene.complete("leecher", payload, &mut launch).map(drop)
}

//! Downloads by magnet link: the metadata comes from peers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{
    AnnounceEvent, Answer, HttpTracker, MetadataBehaviour, Payload, Script, ScriptedPeer,
    UdpTracker,
};

use super::Case;
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, count, file, interrupt, link, tree};
use tasks::process::wait_until;

pub(super) const CASES: &[Case] = &[
    ("a link with a peer only", peer_only),
    ("a link with a tracker only", tracker_only),
    ("a link with a UDP tracker only", udp_tracker_only),
    ("a link before anybody has the metadata", leechers_share),
    ("connections of a link live on", connections_live_on),
    ("a link again asks nobody for metadata", second_launch),
    ("a damaged copy of the metadata", damaged_copy),
    ("a private link", private_link),
    ("a link ends by Ctrl-C", interrupted),
    ("several links and a torrent", several),
    ("a link to metadata of 2 MiB", long_metadata),
];

/// Returns an honest peer that has the data and the metadata.
fn seeder(payload: &Payload) -> Script {
    Script::seeder(payload).fast().metadata(payload, MetadataBehaviour::Honest)
}

fn peer_only(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let seeder = seeder(&payload).listen();
    let link = link(&payload, &[seeder.address()], &[]);
    let finished = scene.fetch_link("leecher", &payload, &link, &[])?;
    ensure!(count(&finished.lines, "metadata_received") == 1, "no metadata was reported");
    ensure!(seeder.seen().metadata_requests == [0], "{:?}", seeder.seen().metadata_requests);
    let pieces = payload.geometry().piece_count() as usize;
    ensure!(count(&finished.lines, "piece") == pieces, "not every piece was reported");
    Ok(())
}

fn tracker_only(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let _seeder = scene.seed("seeder", &payload, &tracker)?;
    let before = tracker.announces().len();
    scene.fetch_link("leecher", &payload, &link(&payload, &[], &[tracker.url()]), &[])?;
    use AnnounceEvent::{Completed, Started, Stopped};
    let seen = tracker.announces().split_off(before);
    let events: Vec<_> = seen.iter().map(|each| each.event).collect();
    ensure!(events == [Started, Completed, Stopped], "announced {events:?}");
    ensure!(seen[0].left > 0, "it announced itself as a seeder");
    Ok(())
}

fn udp_tracker_only(scene: &Scene) -> Result<()> {
    let tracker = UdpTracker::start();
    let payload = scene.payload(tree())?;
    let seeder = seeder(&payload).listen();
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let link = link(&payload, &[], &[tracker.url()]);
    scene.fetch_link("leecher", &payload, &link, &[]).map(drop)
}

/// One who has only the link passes the metadata on as soon as it is there, and the pieces.
fn leechers_share(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    let link = link(&payload, &[], &[tracker.url()]);
    let mut first = scene.download_link("first", &link, &["--seed"])?;
    ensure!(tracker.wait_for(LIMIT, |seen| seen.len() == 1), "{}", first.output_tail());
    let mut second = scene.download_link("second", &link, &["--seed"])?;
    ensure!(tracker.wait_for(LIMIT, |seen| seen.len() == 2), "{}", second.output_tail());
    // Only the first can reach it.
    let port = tracker.announces()[0].port;
    let seeder = seeder(&payload).connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    for name in ["first", "second"] {
        let done = wait_until(LIMIT, || payload.compare(scene.downloads(name)).is_ok());
        ensure!(done, "{name} does not complete\n{}{}", first.output_tail(), second.output_tail());
    }
    ensure!(seeder.seen().connections == 1, "the second found it");
    interrupt(&mut first)?;
    interrupt(&mut second)?;
    Ok(())
}

fn connections_live_on(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(250))?;
    let seeders = [(); 4].map(|()| seeder(&payload).held().listen());
    let addresses = seeders.each_ref().map(ScriptedPeer::address);
    let mut launch = scene.download_link("leecher", &link(&payload, &addresses, &[]), &[])?;
    for seeder in &seeders {
        let asked = seeder.wait_for(LIMIT, |seen| !seen.requests.is_empty());
        ensure!(asked, "a seeder is asked for nothing\n{}", launch.output_tail());
        let seen = seeder.seen();
        ensure!((seen.connections, seen.ended) == (1, 0), "a connection was closed: {seen:?}");
    }
    seeders.iter().for_each(ScriptedPeer::release);
    scene.complete("leecher", &payload, &mut launch)?;
    let connections: u64 = seeders.iter().map(|seeder| seeder.seen().connections).sum();
    ensure!(connections == 4, "{connections} connections");
    Ok(())
}

fn second_launch(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let first = seeder(&payload).listen();
    scene.fetch_link("leecher", &payload, &link(&payload, &[first.address()], &[]), &[])?;
    let mode = fs::metadata(kept(scene, &payload))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "the mode of the kept metadata is {mode:o}");
    fs::remove_dir_all(scene.downloads("leecher"))?;
    let second = seeder(&payload).listen();
    scene.fetch_link("leecher", &payload, &link(&payload, &[second.address()], &[]), &[])?;
    ensure!(second.seen().metadata_requests.is_empty(), "it was asked for metadata");
    Ok(())
}

/// A kept copy that was changed is not trusted: the metadata is fetched again.
fn damaged_copy(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let first = seeder(&payload).listen();
    scene.fetch_link("leecher", &payload, &link(&payload, &[first.address()], &[]), &[])?;
    let kept = kept(scene, &payload);
    let good = fs::read(&kept)?;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for bad in [flipped, good[..good.len() / 2].to_vec(), Vec::new()] {
        fs::write(&kept, bad)?;
        let seeder = seeder(&payload).listen();
        scene.fetch_link("leecher", &payload, &link(&payload, &[seeder.address()], &[]), &[])?;
        ensure!(!seeder.seen().metadata_requests.is_empty(), "the damaged copy was used");
        ensure!(fs::read(&kept)? == good, "it was not replaced");
    }
    Ok(())
}

/// The path of the metadata that a user's bt-cli keeps.
fn kept(scene: &Scene, payload: &Payload) -> PathBuf {
    let name = format!("{}.torrent", payload.info_hash());
    scene.path("leecher").join("state/bt-cli/torrents").join(name)
}

/// Only the peer that the tracker gave stays.
fn private_link(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).private().tracker(tracker.url()))?;
    // Slowly, so that the other one is connected by then.
    let slowly = MetadataBehaviour::Dribbles { pace: Duration::from_millis(2) };
    let named = seeder(&payload).metadata(&payload, MetadataBehaviour::Silent).held().listen();
    let known = Script::seeder(&payload).fast().metadata(&payload, slowly).listen();
    tracker.answer(Answer::Peers(vec![known.address()]));
    let link = link(&payload, &[named.address()], &[tracker.url()]);
    let finished = scene.fetch_link("leecher", &payload, &link, &["--timeout", "50"])?;
    let named = named.seen();
    ensure!((named.connections, named.ended) == (1, 1), "{named:?}");
    ensure!(named.requests.is_empty(), "a peer of the link was asked for blocks");
    ensure!(known.seen().connections == 1, "the tracker's peer was disconnected");
    let says_so = |line: &serde_json::Value| line.to_string().contains("the torrent is private");
    ensure!(finished.lines.iter().any(says_so), "it is not said that the peer is ignored");
    Ok(())
}

fn interrupted(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(16))?;
    tracker.answer(Answer::Peers(Vec::new()));
    let link = link(&payload, &[], &[tracker.url()]);
    let mut launch = scene.download_link("leecher", &link, &[])?;
    let announced = || launch.stdout().contains(r#""event":"tracker""#);
    ensure!(wait_until(LIMIT, announced), "{}", launch.output_tail());
    interrupt(&mut launch)?;
    let events: Vec<_> = tracker.announces().iter().map(|each| each.event).collect();
    ensure!(events == [AnnounceEvent::Started, AnnounceEvent::Stopped], "announced {events:?}");
    ensure!(!scene.downloads("leecher").join("file.bin").exists(), "a file was made");
    Ok(())
}

fn several(scene: &Scene) -> Result<()> {
    let payloads = [1, 2, 3].map(|number| {
        let payload = Payload::file(&format!("{number}.bin"), 100_000 * number).seed(number);
        payload.create_in(scene.path(&format!("payload-{number}")))
    });
    let [one, two, three] = payloads;
    let payloads = [one?, two?, three?];
    let seeders = payloads.each_ref().map(|payload| seeder(payload).listen());
    let links = [0, 1].map(|it| link(&payloads[it], &[seeders[it].address()], &[]));
    let third = payloads[2].torrent_path().to_str().context("a path that is text")?;
    let peer = format!("--peer={}", seeders[2].address());
    let mut launch = scene.download_link("leecher", &links[0], &[&links[1], third, &peer])?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
    for payload in payloads {
        payload.compare(scene.downloads("leecher"))?;
    }
    Ok(())
}

/// 128 pieces from three peers, of which one rejects everything and one does not answer.
fn long_metadata(scene: &Scene) -> Result<()> {
    let payload = scene.payload(Payload::file("many", 1_700_000).piece_length(16))?;
    ensure!(payload.info().len() > 2 << 20, "it has {} bytes", payload.info().len());
    let seeders = [MetadataBehaviour::Rejects, MetadataBehaviour::Silent]
        .map(|behaviour| Script::seeder(&payload).fast().metadata(&payload, behaviour).listen());
    let honest = seeder(&payload).listen();
    let mut addresses = seeders.each_ref().map(ScriptedPeer::address).to_vec();
    addresses.push(honest.address());
    // The payload has tiny pieces, and is not of interest here.
    let link = link(&payload, &addresses, &[]);
    let torrent = scene.path("saved.torrent");
    let saved = torrent.to_str().context("a path that is text")?;
    scene.run("leecher", &["info", &link, "-o", saved, "--port", "0"])?.expect(0)?;
    let info = scene.run("leecher", &["info", saved])?;
    let hash = payload.info_hash().to_string();
    ensure!(info.lines[0]["info_hash"] == hash.as_str(), "another torrent was saved");
    Ok(())
}

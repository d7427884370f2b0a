//! Trackers that work, and trackers that fail in every way.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{AnnounceEvent, Answer, BodyCoding, HttpTracker, Script, Tracker, UdpTracker};

use super::Case;
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, file, free_address, text, tree};

pub(super) const CASES: &[Case] = &[
    ("UDP tracker", udp),
    ("UDP tracker over IPv6", udp_v6),
    ("HTTP and UDP trackers", http_and_udp),
    ("dead tracker, another in its tier", dead_in_a_tier),
    ("dead tier, another tier works", dead_tier),
    ("tracker that refuses", |scene| no_peers_from(scene, refusal(), "go away")),
    ("tracker with status 500", |scene| no_peers_from(scene, Answer::Status(500), "500")),
    ("tracker without peers", |scene| no_peers_from(scene, Answer::Peers(Vec::new()), "")),
    ("silent tracker", silent),
    ("slow tracker", slow),
    ("peers that do not exist", nonexistent_peers),
    ("gzip, chunked, redirect", codings),
    ("announce life cycle", life_cycle),
    ("only its own trackers for a private torrent", private),
];

fn udp(scene: &Scene) -> Result<()> {
    let tracker = UdpTracker::start();
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let seeder = Script::seeder(&payload).listen();
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    scene.fetch("leecher", &payload, &[], &[])?;
    let urls: Vec<_> = tracker.announces().into_iter().map(|seen| seen.url_data).collect();
    ensure!(urls.iter().all(|url| url == "/announce"), "URL data {urls:?}");
    Ok(())
}

fn udp_v6(scene: &Scene) -> Result<()> {
    let tracker = UdpTracker::start_v6()?;
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let seeder = Script::seeder(&payload).listen_on("[::1]:0".parse()?)?;
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    let mut command = scene.user("leecher").command(["download"]);
    command.arg(payload.torrent_path()).arg("-o").arg(scene.downloads("leecher"));
    let mut launch =
        scene.user("leecher").start("download", command.args(["--json", "--port", "0"]))?;
    scene.complete("leecher", &payload, &mut launch).map(drop)
}

/// Two trackers of a tier share a swarm: the seeder announces to one, the leecher to the other.
fn http_and_udp(scene: &Scene) -> Result<()> {
    let tracker = Tracker::new();
    let http = HttpTracker::bind(([127, 0, 0, 1], 0).into(), tracker.clone())?;
    let udp = UdpTracker::bind(([127, 0, 0, 1], 0).into(), tracker.clone())?;
    let payload = scene.payload(tree().tier([http.url(), udp.url()]))?;
    let _seeder = scene.seed("seeder", &payload, &http)?;
    scene.fetch("leecher", &payload, &[], &[]).map(drop)
}

fn dead_in_a_tier(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let dead = format!("http://{}/announce", free_address()?);
    let payload = scene.payload(tree().tier([dead, tracker.url()]))?;
    found_through(scene, &payload, &tracker)
}

fn dead_tier(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let dead = format!("http://{}/announce", free_address()?);
    let payload = scene.payload(tree().tracker(dead).tracker(tracker.url()))?;
    found_through(scene, &payload, &tracker)
}

fn found_through(scene: &Scene, payload: &testkit::Payload, tracker: &HttpTracker) -> Result<()> {
    let seeder = Script::seeder(payload).listen();
    tracker.answer(Answer::Peers(vec![seeder.address()]));
    scene.fetch("leecher", payload, &[], &[]).map(drop)
}

fn refusal() -> Answer {
    Answer::Failure { reason: "go away".to_owned(), retry_in: None }
}

/// `peers` and `download` both end with exit code 4, and say why.
fn no_peers_from(scene: &Scene, answer: Answer, words: &str) -> Result<()> {
    let tracker = HttpTracker::start();
    tracker.answer(answer);
    let payload = scene.payload(file(8).tracker(tracker.url()))?;
    let torrent = text(payload.torrent_path())?;
    let finished = scene.run("user", &["peers", torrent, "--timeout", "5"])?;
    finished.expect(4)?;
    finished.expect_text(words)?;
    let mut launch = scene.download("user", &payload, &["--stall-timeout", "3"])?;
    let finished = finish(&mut launch, COMMAND_LIMIT)?;
    finished.expect(4)?;
    finished.expect_text(words)
}

fn silent(scene: &Scene) -> Result<()> {
    let (http, udp) = (HttpTracker::start(), UdpTracker::start());
    http.answer(Answer::Silence);
    udp.answer(Answer::Silence);
    let payload = scene.payload(file(8).tracker(http.url()).tracker(udp.url()))?;
    let torrent = text(payload.torrent_path())?;
    scene.run("user", &["peers", torrent, "--timeout", "2"])?.expect(4)
}

fn slow(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let _seeder = scene.seed("seeder", &payload, &tracker)?;
    tracker.answer(Answer::Slow(Duration::from_secs(2)));
    scene.fetch("leecher", &payload, &[], &[]).map(drop)
}

fn nonexistent_peers(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let mut peers = vec![free_address()?, free_address()?, free_address()?];
    tracker.answer(Answer::Peers(peers.clone()));
    let mut launch = scene.download("leecher", &payload, &["--stall-timeout", "3"])?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(4)?;
    let seeder = Script::seeder(&payload).listen();
    peers.push(seeder.address());
    tracker.answer(Answer::Peers(peers));
    scene.fetch("leecher", &payload, &[], &[]).map(drop)
}

fn codings(scene: &Scene) -> Result<()> {
    let (tracker, front) = (HttpTracker::start(), HttpTracker::start());
    front.answer(Answer::Redirect(tracker.url()));
    tracker.answer(Answer::Peers(vec!["192.0.2.1:6881".parse()?, "[2001:db8::1]:1".parse()?]));
    let payload = scene.payload(file(8).tracker(front.url()))?;
    let torrent = text(payload.torrent_path())?;
    for coding in [BodyCoding::Plain, BodyCoding::Gzip, BodyCoding::Chunked, BodyCoding::UntilClose]
    {
        tracker.body_coding(coding);
        let finished = scene.run("user", &["peers", torrent])?;
        finished.expect(0)?;
        let peers = finished.lines[0]["peers"].clone();
        let expected = serde_json::json!(["192.0.2.1:6881", "[2001:db8::1]:1"]);
        ensure!(peers == expected, "{coding:?}: {peers}");
    }
    Ok(())
}

/// `started` with everything left, `completed` with nothing left, `stopped`.
fn life_cycle(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    found_through(scene, &payload, &tracker)?;
    let seen = tracker.announces();
    let events: Vec<_> = seen.iter().map(|each| (each.event, each.left)).collect();
    let total = payload.geometry().total();
    use AnnounceEvent::{Completed, Started, Stopped};
    let expected = [(Started, total), (Completed, 0), (Stopped, 0)];
    ensure!(events == expected, "announced {events:?}");
    ensure!(seen[2].downloaded == total, "downloaded {}", seen[2].downloaded);
    ensure!(seen.iter().all(|each| each.peer_id == seen[0].peer_id), "another peer id");
    Ok(())
}

fn private(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(32).private().tracker(tracker.url()))?;
    found_through(scene, &payload, &tracker)?;
    ensure!(tracker.wait_for(LIMIT, |seen| seen.len() == 3), "{:?}", tracker.announces());
    Ok(())
}

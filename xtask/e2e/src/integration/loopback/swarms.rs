//! Seeders and leechers in every number and direction.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::{AnnounceEvent, HttpTracker, Payload, Script, ScriptedPeer, SeenAnnounce};

use super::Case;
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, count, file, free_address, interrupt, tree};
use tasks::process::wait_until;

pub(super) const CASES: &[Case] = &[
    ("one to one", one_to_one),
    ("one to many", one_to_many),
    ("many to one", many_to_one),
    ("leechers trade", leechers_trade),
    ("outgoing", outgoing),
    ("incoming", incoming),
    ("fast and extensions", fast_and_extensions),
    ("bitfields in place of HAVE", bitfields_for_have),
    ("IPv6", ipv6),
    ("two torrents at once", two_torrents),
    ("the same torrent twice at once", same_torrent_twice),
    ("some files only", some_files),
    ("rate limits", rate_limits),
    ("seeds what it has", seeds_what_it_has),
    ("seeds after the download", seeds_after),
];

fn one_to_one(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let mut seeder = scene.seed("seeder", &payload, &tracker)?;
    let finished = scene.fetch("leecher", &payload, &[], &[])?;
    ensure!(finished.lines[0]["schema"] == 1, "the first line is {}", finished.lines[0]);
    let pieces = payload.geometry().piece_count() as usize;
    let said = count(&finished.lines, "piece");
    ensure!(said == pieces, "{said} events for {pieces} pieces");
    finished.expect_event("started")?;
    finished.expect_event("peer")?;
    finished.expect_event("tracker")?;
    interrupt(&mut seeder)?;
    let events: Vec<_> = tracker.announces().iter().map(|each| each.event).collect();
    use AnnounceEvent::{Completed, Started, Stopped};
    ensure!(events == [Started, Started, Completed, Stopped, Stopped], "announced {events:?}");
    Ok(())
}

fn one_to_many(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(256).tracker(tracker.url()))?;
    let _seeder = scene.seed("seeder", &payload, &tracker)?;
    let names = ["leecher-1", "leecher-2", "leecher-3", "leecher-4"];
    let mut leechers = names
        .map(|name| scene.download(name, &payload, &[]).map(|launch| (name, launch)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for (name, launch) in &mut leechers {
        scene.complete(name, &payload, launch)?;
    }
    Ok(())
}

/// Each seeder has pieces that no other has.
fn many_to_one(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(240))?;
    let count = payload.geometry().piece_count();
    let parts = [0, 1, 2].map(|part| {
        let pieces = (0..count).filter(move |piece| piece % 3 == part);
        Script::seeder(&payload).pieces(pieces).listen()
    });
    scene.fetch("leecher", &payload, &parts.each_ref().map(ScriptedPeer::address), &[])?;
    let sent: u64 = parts.iter().map(|part| part.seen().blocks_sent).sum();
    ensure!(sent == 240, "{sent} blocks were sent for 240");
    Ok(())
}

/// A slow seeder sends less than two copies to two leechers.
fn leechers_trade(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(256).tracker(tracker.url()))?;
    let seeder = Script::seeder(&payload).delay(Duration::from_millis(8)).listen();
    let mut one = scene.download_from("one", &payload, &[seeder.address()], &["--seed"])?;
    let mut two = scene.download_from("two", &payload, &[seeder.address()], &["--seed"])?;
    for name in ["one", "two"] {
        let done = wait_until(LIMIT, || payload.compare(scene.downloads(name)).is_ok());
        ensure!(done, "{name} does not complete\n{}{}", one.output_tail(), two.output_tail());
    }
    let sent = seeder.seen().blocks_sent;
    ensure!(sent < 2 * 256 - 16, "the seeder sent {sent} blocks of 256: nothing was traded");
    interrupt(&mut one)?;
    interrupt(&mut two)?;
    Ok(())
}

fn outgoing(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let seeder = Script::seeder(&payload).listen();
    scene.fetch("leecher", &payload, &[seeder.address()], &[])?;
    ensure!(seeder.seen().connections == 1, "{:?}", seeder.seen());
    Ok(())
}

fn incoming(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let address = free_address()?;
    let mut leecher = scene.download_at("leecher", &payload, address.port(), &[])?;
    let mut seeder = None;
    // It listens before it has the torrent, and refuses connections until then.
    let met = wait_until(LIMIT, || {
        if seeder.as_ref().is_none_or(|seeder: &ScriptedPeer| seeder.seen().ended > 0) {
            seeder = Script::seeder(&payload).connect(address).ok();
        }
        let met = |seeder: &ScriptedPeer| !seeder.seen().peer_ids.is_empty();
        seeder.as_ref().is_some_and(met) || !leecher.is_running()
    });
    ensure!(met, "it never listened\n{}", leecher.output_tail());
    scene.complete("leecher", &payload, &mut leecher).map(drop)
}

fn fast_and_extensions(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let seeder = Script::seeder(&payload).fast().client("testkit 1").listen();
    scene.fetch("leecher", &payload, &[seeder.address()], &[]).map(drop)
}

/// aria2 sends a whole bitfield, even late, if that is shorter than the HAVEs that it replaces.
fn bitfields_for_have(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    let seeder = scene.seed("seeder", &payload, &tracker)?;
    let port = tracker.announces()[0].port;
    let script = Script::leecher(&payload).fast().announces_by_bitfield();
    let leecher = script.connect(([127, 0, 0, 1], port).into())?;
    let done = leecher.wait_for(LIMIT, |seen| seen.complete || seen.ended > 0);
    ensure!(done && leecher.seen().complete, "{}", seeder.output_tail());
    Ok(())
}

fn ipv6(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start_v6()?;
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let _seeder = scene.seed("seeder", &payload, &tracker)?;
    let mut command = scene.user("leecher").command(["download"]);
    command.arg(payload.torrent_path()).arg("-o").arg(scene.downloads("leecher"));
    command.args(["--json", "--bind", "::1", "--port", "0"]);
    let mut leecher = scene.user("leecher").start("download", &command)?;
    scene.complete("leecher", &payload, &mut leecher).map(drop)
}

fn two_torrents(scene: &Scene) -> Result<()> {
    let one = scene.payload(tree())?;
    let two = scene.payload(file(100).seed(2))?;
    let peers = [&one, &two].map(|payload| Script::seeder(payload).listen());
    let mut command = scene.download_command("leecher", one.torrent_path());
    command.arg(two.torrent_path());
    for peer in &peers {
        command.args(["--peer", &peer.address().to_string()]);
    }
    let mut leecher = scene.user("leecher").start("download", &command)?;
    let finished = scene.complete("leecher", &one, &mut leecher)?;
    two.compare(scene.downloads("leecher"))?;
    let completed = count(&finished.lines, "completed");
    ensure!(completed == 2, "{completed} torrents were completed");
    Ok(())
}

/// The second of two processes that download into one folder fails; the first continues.
fn same_torrent_twice(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let seeder = Script::seeder(&payload).delay(Duration::from_millis(40)).listen();
    let mut first = scene.download_from("leecher", &payload, &[seeder.address()], &[])?;
    ensure!(seeder.wait_for(LIMIT, |seen| seen.blocks_sent > 0), "{}", first.output_tail());
    let mut command = scene.download_command("leecher", payload.torrent_path());
    command.args(["--peer", &seeder.address().to_string()]);
    let mut second = scene.user("leecher").start("second", &command)?;
    let finished = finish(&mut second, COMMAND_LIMIT)?;
    finished.expect(6)?;
    finished.expect_text("in use")?;
    scene.complete("leecher", &payload, &mut first).map(drop)
}

/// Unselected files are never created, and `completed` is only announced for whole torrents.
fn some_files(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let files = [("a.bin", 100_000), ("b/c.bin", 100_000), ("b/d.txt", 300_000), ("f", 1)];
    let payload = scene.payload(Payload::folder("tree", &files).tracker(tracker.url()))?;
    let seeder = Script::seeder(&payload).listen();
    let mut leecher =
        scene.download_from("leecher", &payload, &[seeder.address()], &["--files", "*.bin"])?;
    let finished = finish(&mut leecher, COMMAND_LIMIT)?;
    finished.expect(0)?;
    let (ours, theirs) = (scene.downloads("leecher"), payload.folder_path());
    for path in ["tree/a.bin", "tree/b/c.bin"] {
        ensure!(fs::read(ours.join(path))? == fs::read(theirs.join(path))?, "{path} differs");
    }
    for path in ["tree/b/d.txt", "tree/f"] {
        ensure!(!ours.join(path).exists(), "{path} was created though it is unselected");
    }
    let events: Vec<_> = tracker.announces().iter().map(|each| each.event).collect();
    ensure!(events == [AnnounceEvent::Started, AnnounceEvent::Stopped], "announced {events:?}");
    Ok(())
}

fn rate_limits(scene: &Scene) -> Result<()> {
    let payload = scene.payload(Payload::file("file.bin", 3 << 20).piece_length(64 * 1024))?;
    let seeder = Script::seeder(&payload).listen();
    let start = Instant::now();
    scene.fetch("leecher", &payload, &[seeder.address()], &["--max-down", "1M"])?;
    let time = start.elapsed();
    ensure!(time > Duration::from_secs(2), "3 MiB at 1 MiB/s took {time:?}");
    Ok(())
}

/// With one damaged piece, the rest is served, and the seeder writes nothing.
fn seeds_what_it_has(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(32).tracker(tracker.url()))?;
    let path = payload.folder_path().join("file.bin");
    let mut damaged = fs::read(&path)?;
    damaged[0] ^= 1;
    fs::write(&path, &damaged)?;
    let mut command = scene.user("seeder").command(["seed"]);
    command.arg(payload.torrent_path()).arg(payload.folder_path());
    command.args(["--json", "--port", "0", "--bind", "127.0.0.1"]);
    let mut seeder = scene.user("seeder").start("seed", &command)?;
    ensure!(tracker.wait_for(LIMIT, |seen| !seen.is_empty()), "{}", seeder.output_tail());
    let announce = tracker.announces().swap_remove(0);
    ensure!(announce.left == 64 * 1024, "the damaged piece is not announced as left: {announce:?}");
    let port = announce.port;
    let leecher = Script::leecher(&payload).connect(([127, 0, 0, 1], port).into())?;
    let all_but_one = payload.geometry().total() - 64 * 1024;
    let served = leecher.wait_for(LIMIT, |seen| seen.bytes_received == all_but_one);
    ensure!(served, "{:?}\n{}", leecher.seen(), seeder.output_tail());
    interrupt(&mut seeder)?;
    ensure!(fs::read(&path)? == damaged, "the seeder wrote to its data");
    Ok(())
}

/// With `--ratio`, it seeds until it has sent that much.
fn seeds_after(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    let seeder = Script::seeder(&payload).listen();
    let mut launch =
        scene.download_from("leecher", &payload, &[seeder.address()], &["--ratio", "1"])?;
    let completed =
        |seen: &[SeenAnnounce]| seen.iter().any(|each| each.event == AnnounceEvent::Completed);
    ensure!(tracker.wait_for(LIMIT, completed), "{}", launch.output_tail());
    ensure!(launch.is_running(), "it does not seed\n{}", launch.output_tail());
    let port = tracker.announces().swap_remove(0).port;
    let leecher = Script::leecher(&payload).connect(([127, 0, 0, 1], port).into())?;
    ensure!(leecher.wait_for(LIMIT, |seen| seen.complete), "{}", launch.output_tail());
    scene.complete("leecher", &payload, &mut launch).map(drop)
}

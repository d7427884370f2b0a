//! What was had stays had, however the program ended.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use testkit::{AnnounceEvent, Answer, HttpTracker, Payload, Script, ScriptedPeer, SeenAnnounce};

use super::Case;
use crate::bt_cli::{COMMAND_LIMIT, finish, json_lines};
use crate::integration::scene::{LIMIT, Scene, count, file, interrupt, write};
use xtask::process::{Launch, wait_until};

pub(super) const CASES: &[Case] = &[
    ("after kill -9", after_kill),
    ("after Ctrl-C", after_interrupt),
    ("after SIGTERM", after_terminate),
    ("a second Ctrl-C leaves at once", second_interrupt),
    ("complete already", complete_already),
    ("without a journal", without_a_journal),
    ("data changed meanwhile", changed_meanwhile),
    ("an unrelated file", unrelated_file),
];

/// Blocks of the payload; four make a piece.
const BLOCKS: u64 = 256;
/// Pieces that are had before the program is ended.
const PIECES: usize = 20;

fn after_kill(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(BLOCKS))?;
    let mut launch = underway(scene, &payload, &[])?;
    launch.signal(Signal::KILL)?;
    let _killed = launch.wait(LIMIT)?;
    let had = pieces_said(&launch);
    let sent = go_on(scene, &payload, &[])?;
    let most = BLOCKS - 4 * had as u64;
    ensure!(sent <= most, "{had} pieces were had, yet {sent} blocks were fetched, not {most}");
    Ok(())
}

fn after_interrupt(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(BLOCKS).tracker(tracker.url()))?;
    let mut launch = underway(scene, &payload, &[])?;
    let finished = interrupt(&mut launch)?;
    let had = count(&finished.lines, "piece");
    let stopped = tracker.announces().last().map(|announce| announce.event);
    ensure!(stopped == Some(AnnounceEvent::Stopped), "the last announce was {stopped:?}");
    let sent = go_on(scene, &payload, &[])?;
    let most = BLOCKS - 4 * had as u64;
    ensure!(sent <= most, "{had} pieces were had, yet {sent} blocks were fetched, not {most}");
    Ok(())
}

fn after_terminate(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(BLOCKS))?;
    let mut launch = underway(scene, &payload, &[])?;
    launch.signal(Signal::TERM)?;
    finish(&mut launch, LIMIT)?.expect(130)?;
    ensure!(go_on(scene, &payload, &[])? <= BLOCKS - 4 * PIECES as u64, "it began anew");
    Ok(())
}

/// A tracker that never answers `stopped` holds it up for three seconds, or until the second time.
fn second_interrupt(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(BLOCKS).tracker(tracker.url()))?;
    let mut launch = underway(scene, &payload, &[])?;
    tracker.answer(Answer::Silence);
    launch.signal(Signal::INT)?;
    let leaves = |seen: &[SeenAnnounce]| {
        seen.last().is_some_and(|announce| announce.event == AnnounceEvent::Stopped)
    };
    ensure!(tracker.wait_for(LIMIT, leaves), "it did not announce\n{}", launch.output_tail());
    let start = Instant::now();
    launch.signal(Signal::INT)?;
    let code = launch.exit_code(LIMIT)?;
    ensure!(code == 130, "exit code {code}\n{}", launch.output_tail());
    ensure!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    Ok(())
}

/// Nothing is fetched, nobody needed, and it is quick.
fn complete_already(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    go_on(scene, &payload, &[])?;
    let mut again = scene.download("leecher", &payload, &[])?;
    let finished = scene.complete("leecher", &payload, &mut again)?;
    ensure!(count(&finished.lines, "piece") == 0, "pieces came from nowhere");
    Ok(())
}

/// Data that is there without a journal is verified, not fetched again.
fn without_a_journal(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let half = payload.data()[..8 * 64 * 1024].to_vec();
    write(&scene.downloads("leecher"), "file.bin", &half)?;
    let sent = go_on(scene, &payload, &[])?;
    ensure!(sent == 32, "{sent} blocks were fetched for half the data");
    let sent = go_on(scene, &payload, &["--no-resume"])?;
    ensure!(sent == 0, "{sent} blocks were fetched though all is there");
    Ok(())
}

/// A file that changed since the clean end is verified again, and mended.
fn changed_meanwhile(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    go_on(scene, &payload, &[])?;
    let path = scene.downloads("leecher").join("file.bin");
    let mut bytes = fs::read(&path)?;
    bytes[70_000] ^= 1;
    fs::write(&path, bytes)?;
    let sent = go_on(scene, &payload, &[])?;
    ensure!(sent == 4, "{sent} blocks were fetched to mend one piece");
    Ok(())
}

/// A file of that name that is plainly something else stops the download, until told otherwise.
fn unrelated_file(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let folder = scene.downloads("leecher");
    let diary = testkit::bytes(99, 300_000);
    write(&folder, "file.bin", &diary)?;
    let seeder = Script::seeder(&payload).listen();
    let address = seeder.address().to_string();
    let mut launch = scene.download("leecher", &payload, &["--peer", &address])?;
    let finished = finish(&mut launch, COMMAND_LIMIT)?;
    finished.expect(6)?;
    finished.expect_words("file.bin")?;
    ensure!(fs::read(folder.join("file.bin"))? == diary, "the file was written to");
    let mut launch = scene.download("leecher", &payload, &["--peer", &address, "--overwrite"])?;
    scene.complete("leecher", &payload, &mut launch).map(drop)
}

/// A download from a slow seeder that has said of some pieces that they are had.
fn underway(scene: &Scene, payload: &Payload, more: &[&str]) -> Result<Launch> {
    let seeder = Script::seeder(payload).delay(Duration::from_millis(8)).listen();
    let address = seeder.address().to_string();
    let arguments = [&["--peer", &address], more].concat();
    let launch = scene.download("leecher", payload, &arguments)?;
    let said = seeder.wait_for(LIMIT, |seen| seen.blocks_sent >= 4 * (PIECES as u64 + 2));
    ensure!(said, "the seeder is not asked\n{}", launch.output_tail());
    let reached = wait_until(LIMIT, || pieces_said(&launch) >= PIECES);
    ensure!(reached, "{} pieces are had\n{}", pieces_said(&launch), launch.output_tail());
    Ok(launch)
}

/// How many pieces it has said it had.
fn pieces_said(launch: &Launch) -> usize {
    count(&json_lines(&launch.stdout()).collect::<Vec<_>>(), "piece")
}

/// Downloads to the end from a fast seeder; says how many blocks that took.
fn go_on(scene: &Scene, payload: &Payload, more: &[&str]) -> Result<u64> {
    let seeder: ScriptedPeer = Script::seeder(payload).listen();
    let address = seeder.address().to_string();
    let arguments = [&["--peer", &address], more].concat();
    let mut launch = scene.download("leecher", payload, &arguments)?;
    scene.complete("leecher", payload, &mut launch)?;
    Ok(seeder.seen().blocks_sent)
}

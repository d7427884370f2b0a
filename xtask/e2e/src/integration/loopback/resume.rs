//! No verified piece is lost, however the program ended.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use testkit::{AnnounceEvent, Answer, HttpTracker, Payload, Script, SeenAnnounce};

use super::Case;
use crate::bt_cli::{COMMAND_LIMIT, finish, json_lines};
use crate::integration::scene::{LIMIT, Scene, count, file, interrupt, write};
use tasks::process::{Launch, wait_until};

pub(super) const CASES: &[Case] = &[
    ("after kill -9", after_kill),
    ("after Ctrl-C", after_interrupt),
    ("after SIGTERM", after_terminate),
    ("a second Ctrl-C ends it at once", second_interrupt),
    ("already complete", complete_already),
    ("without a journal", without_a_journal),
    ("data changed meanwhile", changed_meanwhile),
    ("an unrelated file", unrelated_file),
];

/// Blocks of the payload; four make a piece.
const BLOCKS: u64 = 256;
/// How many pieces are verified before the program is ended.
const PIECES: usize = 20;

fn after_kill(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(BLOCKS))?;
    let mut launch = start_and_wait(scene, &payload)?;
    launch.signal(Signal::KILL)?;
    let _killed = launch.wait(LIMIT)?;
    resume_after(scene, &payload, reported_pieces(&launch))
}

fn after_interrupt(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(BLOCKS).tracker(tracker.url()))?;
    let mut launch = start_and_wait(scene, &payload)?;
    wait_for_announce(&launch)?;
    let finished = interrupt(&mut launch)?;
    let verified = count(&finished.lines, "piece");
    let stopped = tracker.announces().last().map(|announce| announce.event);
    ensure!(stopped == Some(AnnounceEvent::Stopped), "the last announce was {stopped:?}");
    resume_after(scene, &payload, verified)
}

fn after_terminate(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(BLOCKS))?;
    let mut launch = start_and_wait(scene, &payload)?;
    launch.signal(Signal::TERM)?;
    finish(&mut launch, LIMIT)?.expect(130)?;
    resume_after(scene, &payload, PIECES)
}

/// A tracker that never answers `stopped` delays the end by three seconds, or until a second
/// signal.
fn second_interrupt(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(BLOCKS).tracker(tracker.url()))?;
    let mut launch = start_and_wait(scene, &payload)?;
    wait_for_announce(&launch)?;
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

/// Nothing is downloaded, and no peer is needed.
fn complete_already(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    resume(scene, &payload, &[])?;
    let finished = scene.fetch("leecher", &payload, &[], &[])?;
    ensure!(count(&finished.lines, "piece") == 0, "pieces were verified again");
    Ok(())
}

/// Data without a journal is verified, not downloaded again.
fn without_a_journal(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let half = payload.data()[..8 * 64 * 1024].to_vec();
    write(&scene.downloads("leecher"), "file.bin", &half)?;
    let sent = resume(scene, &payload, &[])?;
    ensure!(sent == 32, "{sent} blocks were sent for half the data");
    let sent = resume(scene, &payload, &["--no-resume"])?;
    ensure!(sent == 0, "{sent} blocks were sent though the data is complete");
    Ok(())
}

/// A file that changed after a clean shutdown is verified again, and repaired.
fn changed_meanwhile(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    resume(scene, &payload, &[])?;
    let path = scene.downloads("leecher").join("file.bin");
    let mut bytes = fs::read(&path)?;
    bytes[70_000] ^= 1;
    fs::write(&path, bytes)?;
    let sent = resume(scene, &payload, &[])?;
    ensure!(sent == 4, "{sent} blocks were sent to repair one piece");
    Ok(())
}

/// An unrelated file with the name stops the download, unless `--overwrite` is given.
fn unrelated_file(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let folder = scene.downloads("leecher");
    let unrelated = testkit::bytes(99, 300_000);
    write(&folder, "file.bin", &unrelated)?;
    let seeder = Script::seeder(&payload).listen();
    let mut launch = scene.download_from("leecher", &payload, &[seeder.address()], &[])?;
    let finished = finish(&mut launch, COMMAND_LIMIT)?;
    finished.expect(6)?;
    finished.expect_text("file.bin")?;
    ensure!(fs::read(folder.join("file.bin"))? == unrelated, "the file was written to");
    scene.fetch("leecher", &payload, &[seeder.address()], &["--overwrite"]).map(drop)
}

/// Starts a download from a slow seeder, and waits until some pieces are verified.
fn start_and_wait(scene: &Scene, payload: &Payload) -> Result<Launch> {
    let seeder = Script::seeder(payload).delay(Duration::from_millis(8)).listen();
    let launch = scene.download_from("leecher", payload, &[seeder.address()], &[])?;
    let said = seeder.wait_for(LIMIT, |seen| seen.blocks_sent >= 4 * (PIECES as u64 + 2));
    ensure!(said, "the seeder got no requests\n{}", launch.output_tail());
    let reached = wait_until(LIMIT, || reported_pieces(&launch) >= PIECES);
    ensure!(reached, "{} pieces are verified\n{}", reported_pieces(&launch), launch.output_tail());
    Ok(launch)
}

/// Waits until the tracker's reply is reported: `stopped` is announced only after `started`.
fn wait_for_announce(launch: &Launch) -> Result<()> {
    let reported = || count(&json_lines(&launch.stdout()).collect::<Vec<_>>(), "tracker") > 0;
    ensure!(wait_until(LIMIT, reported), "no announce ended\n{}", launch.output_tail());
    Ok(())
}

/// Returns how many pieces it reported as verified.
fn reported_pieces(launch: &Launch) -> usize {
    count(&json_lines(&launch.stdout()).collect::<Vec<_>>(), "piece")
}

/// Downloads to the end from a fast seeder; returns how many blocks that took.
fn resume(scene: &Scene, payload: &Payload, more: &[&str]) -> Result<u64> {
    let seeder = Script::seeder(payload).listen();
    scene.fetch("leecher", payload, &[seeder.address()], more)?;
    Ok(seeder.seen().blocks_sent)
}

/// Downloads the rest when so many pieces are verified.
fn resume_after(scene: &Scene, payload: &Payload, verified: usize) -> Result<()> {
    let sent = resume(scene, payload, &[])?;
    let most = BLOCKS - 4 * verified as u64;
    ensure!(
        sent <= most,
        "{verified} pieces were verified, yet {sent} blocks were sent, not {most}"
    );
    Ok(())
}

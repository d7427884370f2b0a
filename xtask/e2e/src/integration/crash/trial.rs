//! A download that something happens to, and the launch after it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, geteuid};
use testkit::{Payload, PayloadBuilder, Script, ScriptedPeer};

use super::pieces::{check_not_requested, reported_pieces, requested, wait_until_read};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, interrupt};
use tasks::process::{Launch, wait_until, within};

/// How many pieces are verified before anything happens.
const PIECES: usize = 20;
/// How long the slow seeder waits before each block.
const DELAY: Duration = Duration::from_millis(5);
const USER: &str = "leecher";

/// How a download ends before anything happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    Killed,
}

/// A download, and the pieces that it reported as verified.
pub(super) struct Trial<'a> {
    scene: &'a Scene,
    pub(super) payload: Payload,
    pub(super) verified: BTreeSet<u32>,
    slow: ScriptedPeer,
}

impl<'a> Trial<'a> {
    pub(super) fn new(scene: &'a Scene, payload: PayloadBuilder) -> Result<Self> {
        let payload = scene.payload(payload)?;
        let slow = Script::seeder(&payload).delay(DELAY).listen();
        Ok(Self { scene, payload, verified: BTreeSet::new(), slow })
    }

    /// Starts a download and waits until some pieces are verified.
    pub(super) fn started(scene: &'a Scene, payload: PayloadBuilder) -> Result<(Self, Launch)> {
        let trial = Self::new(scene, payload)?;
        let launch = trial.start_and_wait()?;
        Ok((trial, launch))
    }

    /// The same, then ends the download.
    pub(super) fn ended(scene: &'a Scene, payload: PayloadBuilder, end: End) -> Result<Self> {
        let (mut trial, launch) = Self::started(scene, payload)?;
        trial.end(launch, end)?;
        Ok(trial)
    }

    /// Returns the download folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.scene.downloads(USER)
    }

    /// Returns the folder of its journal.
    pub(super) fn state(&self) -> PathBuf {
        self.scene.path(USER).join("state").join("bt-cli")
    }

    /// Returns the command that downloads from the slow seeder.
    pub(super) fn command(&self) -> Command {
        let mut command = self.scene.download_command(USER, self.payload.torrent_path());
        command.arg("--peer").arg(self.slow.address().to_string());
        command
    }

    pub(super) fn start(&self, command: &Command) -> Result<Launch> {
        self.scene.user(USER).start("download", command)
    }

    /// Starts the download and waits until some pieces are verified.
    pub(super) fn start_and_wait(&self) -> Result<Launch> {
        let mut launch = self.start(&self.command())?;
        wait_until(LIMIT, || reported_pieces(&launch, &[]).len() >= PIECES || !launch.is_running());
        ensure!(launch.is_running(), "the download ended\n{}", launch.output_tail());
        Ok(launch)
    }

    /// Ends a download.
    pub(super) fn end(&mut self, mut launch: Launch, end: End) -> Result<()> {
        match end {
            End::Clean => drop(interrupt(&mut launch)?),
            End::Killed => {
                launch.signal(Signal::KILL)?;
                launch.wait(LIMIT)?;
            }
        }
        self.note(&launch)
    }

    /// Records the pieces that an ended process reported.
    fn note(&mut self, launch: &Launch) -> Result<()> {
        let slow = std::slice::from_ref(&self.slow);
        wait_until_read(slow)?;
        self.verified.extend(reported_pieces(launch, slow));
        Ok(())
    }

    /// Waits for exit code 6, with a message that contains all of `words`; returns the message.
    pub(super) fn expect_failure(&mut self, mut launch: Launch, words: &[&str]) -> Result<String> {
        let finished = finish(&mut launch, COMMAND_LIMIT)?;
        finished.expect(6)?;
        let message = finished.lines.last().and_then(|line| line["error"]["message"].as_str());
        let message = message.context("no message")?;
        for word in words {
            ensure!(message.contains(word), "{word:?} is not in {message:?}");
        }
        self.note(&launch)?;
        // The path of the scene differs each time, and is long.
        let path = format!("{}/{USER}/", self.scene.path("").display());
        Ok(message.replace(&path.replace("//", "/"), ""))
    }

    /// Starts the download, which must fail in the same way.
    pub(super) fn expect_refusal(&mut self, words: &[&str]) -> Result<String> {
        self.expect_failure(self.start(&self.command())?, words)
    }

    /// Downloads again after the cause is gone: it completes, and of the verified pieces requests
    /// only `lost`. Returns how many pieces were downloaded.
    pub(super) fn resume(&self, lost: &BTreeSet<u32>) -> Result<String> {
        self.resume_with(lost, &[])
    }

    /// Like [`resume`](Self::resume), with more arguments.
    pub(super) fn resume_with(&self, lost: &BTreeSet<u32>, more: &[&str]) -> Result<String> {
        let quick = Script::seeder(&self.payload).listen();
        self.scene.fetch(USER, &self.payload, &[quick.address()], more)?;
        let asked = requested(&quick).len();
        let kept = self.verified.difference(lost).copied().collect();
        check_not_requested(&[quick], &kept)?;
        let (verified, all) = (self.verified.len(), self.payload.geometry().piece_count());
        Ok(format!(
            "{verified} of {all} pieces were verified, {asked} downloaded by the next launch"
        ))
    }

    /// Creates an unrelated file and returns its path. [`Self::check_victim`] compares it.
    pub(super) fn victim(&self) -> Result<PathBuf> {
        let path = self.scene.path("victim");
        fs::write(&path, victim_bytes())?;
        Ok(path)
    }

    /// Checks that the file of [`Self::victim`] is unchanged.
    pub(super) fn check_victim(&self) -> Result<()> {
        let bytes = fs::read(self.scene.path("victim"))?;
        ensure!(bytes == victim_bytes(), "the target of the link was written to");
        Ok(())
    }
}

fn victim_bytes() -> Vec<u8> {
    testkit::bytes(99, 100_000)
}

/// Returns the command without root's power to ignore permissions.
pub(super) fn unprivileged(command: &Command) -> Command {
    let words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    within(if geteuid().is_root() { &words } else { &[] }, command)
}

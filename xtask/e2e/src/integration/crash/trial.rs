//! A download that something happens to, and the run after it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, geteuid};
use testkit::{Payload, PayloadBuilder, Script, ScriptedPeer};

use super::had::{hear_out, none_again, pieces_said, requested};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, interrupt};
use xtask::process::{Launch, wait_until, within};

/// Pieces that are had before anything happens.
const PIECES: usize = 20;
/// How long the slow seeder waits before each block.
const DELAY: Duration = Duration::from_millis(5);
const USER: &str = "leecher";

/// How a run ends that nothing happened to yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    Killed,
}

pub(super) const ENDS: [End; 2] = [End::Clean, End::Killed];

/// A download, and what it said it had.
pub(super) struct Trial<'a> {
    scene: &'a Scene,
    pub(super) payload: Payload,
    pub(super) had: BTreeSet<u32>,
    slow: ScriptedPeer,
}

impl<'a> Trial<'a> {
    pub(super) fn new(scene: &'a Scene, payload: PayloadBuilder) -> Result<Self> {
        let payload = scene.payload(payload)?;
        let slow = Script::seeder(&payload).delay(DELAY).listen();
        Ok(Self { scene, payload, had: BTreeSet::new(), slow })
    }

    /// Where it downloads into.
    pub(super) fn folder(&self) -> PathBuf {
        self.scene.downloads(USER)
    }

    /// Where its journal is.
    pub(super) fn state(&self) -> PathBuf {
        self.scene.path(USER).join("state").join("bt-cli")
    }

    /// The download from the slow seeder, not started yet.
    pub(super) fn command(&self) -> Command {
        let mut command = self.scene.download_command(USER, self.payload.torrent_path());
        command.arg("--peer").arg(self.slow.address().to_string());
        command
    }

    pub(super) fn start(&self, command: &Command) -> Result<Launch> {
        self.scene.user(USER).start("download", command)
    }

    /// Starts `command` and waits until some pieces are had.
    pub(super) fn underway(&self, command: &Command) -> Result<Launch> {
        let mut launch = self.start(command)?;
        wait_until(LIMIT, || pieces_said(&launch, &[]).len() >= PIECES || !launch.is_running());
        ensure!(launch.is_running(), "it is not underway\n{}", launch.output_tail());
        Ok(launch)
    }

    /// Ends a run that was underway.
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

    /// Notes what a run that has ended had.
    fn note(&mut self, launch: &Launch) -> Result<()> {
        let slow = std::slice::from_ref(&self.slow);
        hear_out(slow)?;
        self.had.extend(pieces_said(launch, slow));
        Ok(())
    }

    /// Waits for exit code 6, whose message must have all of `words` in it; gives the message.
    pub(super) fn fails(&mut self, mut launch: Launch, words: &[&str]) -> Result<String> {
        let finished = finish(&mut launch, COMMAND_LIMIT)?;
        finished.expect(6)?;
        let message = finished.lines.last().and_then(|line| line["error"]["message"].as_str());
        let message = message.context("no message")?;
        for word in words {
            ensure!(message.contains(word), "not a word of {word:?} in {message:?}");
        }
        self.note(&launch)?;
        // Where it was is different each time, and long.
        let place = format!("{}/{USER}/", self.scene.path("").display());
        Ok(message.replace(&place.replace("//", "/"), ""))
    }

    /// Runs it again, now that the cause is gone: it completes, and of what was had asks for `lost`
    /// only. Says how many pieces were fetched.
    pub(super) fn goes_on(&self, lost: &BTreeSet<u32>) -> Result<String> {
        self.goes_on_with(lost, &[])
    }

    /// The same, with more arguments.
    pub(super) fn goes_on_with(&self, lost: &BTreeSet<u32>, more: &[&str]) -> Result<String> {
        let quick = Script::seeder(&self.payload).listen();
        let address = quick.address().to_string();
        let more = [&["--peer", &address], more].concat();
        let mut launch = self.scene.download(USER, &self.payload, &more)?;
        self.scene.complete(USER, &self.payload, &mut launch)?;
        let asked = requested(&quick).len();
        let kept = self.had.difference(lost).copied().collect();
        none_again(&[quick], &kept)?;
        let (had, all) = (self.had.len(), self.payload.geometry().piece_count());
        Ok(format!("{had} of {all} pieces had before, {asked} fetched by the next run"))
    }

    /// A file that is somebody else's: its path. [`Self::is_untouched`] compares it.
    pub(super) fn victim(&self) -> Result<PathBuf> {
        let path = self.scene.path("victim");
        fs::write(&path, victim_bytes())?;
        Ok(path)
    }

    /// Checks that nobody wrote to the file of [`Self::victim`].
    pub(super) fn is_untouched(&self) -> Result<()> {
        let bytes = fs::read(self.scene.path("victim"))?;
        ensure!(bytes == victim_bytes(), "what the link points to was written to");
        Ok(())
    }
}

fn victim_bytes() -> Vec<u8> {
    testkit::bytes(99, 100_000)
}

/// The same command, subject to permissions: for root there are none, unless it gives that up.
pub(super) fn as_mere_user(command: &Command) -> Command {
    let words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    within(if geteuid().is_root() { &words } else { &[] }, command)
}

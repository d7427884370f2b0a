//! Who comes and goes: other bt-cli processes, and peers that break the rules.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{Behaviour, Payload, Script, ScriptedPeer};

use super::{LIMIT, on_loopback};
use crate::bt_cli::BtCli;
use crate::draws::Draws;
use xtask::process::Launch;

/// How many processes there are at a time, and how many peers of our own.
const PROCESSES: usize = 4;
const PEERS: usize = 3;
/// How long one stays at most.
const STAY: Duration = Duration::from_secs(20);
/// How fast visitors download, so that they take some time over it.
const RATE: &str = "4M";
/// What the peers of our own do to a seeder.
const BEHAVIOURS: [Behaviour; 4] =
    [Behaviour::Honest, Behaviour::Garbage, Behaviour::Silent, Behaviour::WrongInfoHash];

/// All visitors, those of now and the count of those before.
pub(super) struct Visitors<'a> {
    program: PathBuf,
    payload: &'a Payload,
    /// The seeder that stays.
    seeder: SocketAddr,
    draws: Draws,
    processes: Vec<Process>,
    peers: Vec<(ScriptedPeer, Instant)>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    seeders: usize,
    downloads: usize,
    completed: usize,
    terminated: usize,
    killed: usize,
    peers: usize,
}

/// A process, which is removed with its folder.
struct Process {
    launch: Launch,
    place: TempDir,
    downloads: bool,
    leaves: Instant,
}

impl<'a> Visitors<'a> {
    pub(super) fn new(
        program: &Path,
        payload: &'a Payload,
        seeder: SocketAddr,
        draws: Draws,
    ) -> Self {
        let program = program.to_owned();
        let (processes, peers, counts) = (Vec::new(), Vec::new(), Counts::default());
        Self { program, payload, seeder, draws, processes, peers, counts }
    }

    /// Lets go who is due, and others in. A download that came to its end is compared.
    pub(super) fn come_and_go(&mut self) -> Result<()> {
        let now = Instant::now();
        for mut process in std::mem::take(&mut self.processes) {
            if process.launch.has_ended() {
                self.farewell(&mut process)?;
            } else if process.leaves <= now {
                self.show_out(&mut process)?;
            } else {
                self.processes.push(process);
            }
        }
        self.peers.retain(|(_, leaves)| *leaves > now);
        if self.processes.len() < PROCESSES {
            let process = self.invite(now)?;
            self.processes.push(process);
        }
        if self.peers.len() < PEERS {
            let behaviour = BEHAVIOURS[self.draws.below(BEHAVIOURS.len() as u64) as usize];
            let peer = Script::leecher(self.payload).behaviour(behaviour).connect(self.seeder)?;
            self.peers.push((peer, now + self.draws.time(STAY)));
            self.counts.peers += 1;
        }
        Ok(())
    }

    /// All go.
    pub(super) fn leave(&mut self) {
        self.processes.clear();
        self.peers.clear();
    }

    pub(super) fn so_far(&self) -> String {
        let Counts { seeders, downloads, peers, .. } = self.counts;
        format!("{downloads} downloads, {seeders} seeders, {peers} scripted peers")
    }

    /// One in four seeds, the others download.
    fn invite(&mut self, now: Instant) -> Result<Process> {
        let place = TempDir::with_prefix("visitor-")?;
        let bt_cli = BtCli::new(&self.program, place.path());
        let downloads = self.draws.below(4) > 0;
        let mut command = bt_cli.command([if downloads { "download" } else { "seed" }]);
        command.arg(self.payload.torrent_path());
        if downloads {
            command.arg("-o").arg(place.path().join("downloads")).args(["--max-down", RATE]);
            self.counts.downloads += 1;
        } else {
            command.arg(self.payload.folder_path());
            self.counts.seeders += 1;
        }
        on_loopback(&mut command);
        let launch = bt_cli.start("visitor", &command)?;
        Ok(Process { launch, place, downloads, leaves: now + self.draws.time(STAY) })
    }

    /// One has ended by itself: a download that is done.
    fn farewell(&mut self, process: &mut Process) -> Result<()> {
        let code = process.launch.exit_code(LIMIT)?;
        let words = process.launch.output_tail();
        ensure!(process.downloads && code == 0, "a visitor ended with exit code {code}\n{words}");
        let folder = process.place.path().join("downloads");
        self.payload.compare(&folder).context("a visitor got other bytes")?;
        self.counts.completed += 1;
        Ok(fs::remove_dir_all(folder)?)
    }

    /// One is told to go, or is not even told.
    fn show_out(&mut self, process: &mut Process) -> Result<()> {
        if self.draws.below(2) == 0 {
            process.launch.signal(Signal::KILL)?;
            process.launch.wait(LIMIT)?;
            self.counts.killed += 1;
        } else {
            process.launch.signal(Signal::TERM)?;
            let code = process.launch.wait(LIMIT)?.code();
            // It may just have been done, or not know yet what a signal is.
            let well = matches!(code, None | Some(0 | 130));
            ensure!(well, "exit code {code:?}\n{}", process.launch.output_tail());
            self.counts.terminated += 1;
        }
        Ok(())
    }
}

impl fmt::Display for Visitors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { completed, terminated, killed, .. } = self.counts;
        let so_far = self.so_far();
        write!(
            f,
            "Visitors: {so_far}; {completed} downloads complete, compared byte for byte; \
             {terminated} ended by SIGTERM, {killed} by SIGKILL."
        )
    }
}

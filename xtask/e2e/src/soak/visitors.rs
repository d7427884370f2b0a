//! The visitors of the swarm: other bt-cli processes, and peers that break the rules.

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
use crate::rng::Rng;
use tasks::process::Launch;

/// How many processes and scripted peers there are at a time.
const PROCESSES: usize = 4;
const PEERS: usize = 3;
/// The longest stay of a visitor.
const STAY: Duration = Duration::from_secs(20);
/// How fast visitors download: slowly enough to take some time.
const RATE: &str = "4M";
/// What scripted peers do to the seeder.
const BEHAVIOURS: [Behaviour; 4] =
    [Behaviour::Honest, Behaviour::Garbage, Behaviour::Silent, Behaviour::WrongInfoHash];

/// The present visitors, and counts of all so far.
pub(super) struct Visitors<'a> {
    program: PathBuf,
    payload: &'a Payload,
    /// The seeder that stays.
    seeder: SocketAddr,
    rng: Rng,
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

/// A bt-cli, whose folder is removed with it.
struct Process {
    launch: Launch,
    folder: TempDir,
    downloads: bool,
    leaves: Instant,
}

impl<'a> Visitors<'a> {
    pub(super) fn new(program: &Path, payload: &'a Payload, seeder: SocketAddr, rng: Rng) -> Self {
        let program = program.to_owned();
        let (processes, peers, counts) = (Vec::new(), Vec::new(), Counts::default());
        Self { program, payload, seeder, rng, processes, peers, counts }
    }

    /// Ends visitors whose time is over, and starts others. Checks completed downloads.
    pub(super) fn come_and_go(&mut self) -> Result<()> {
        let now = Instant::now();
        for mut process in std::mem::take(&mut self.processes) {
            if process.launch.has_ended() {
                self.handle_completed(&mut process)?;
            } else if process.leaves <= now {
                self.end(&mut process)?;
            } else {
                self.processes.push(process);
            }
        }
        self.peers.retain(|(_, leaves)| *leaves > now);
        if self.processes.len() < PROCESSES {
            let process = self.start(now)?;
            self.processes.push(process);
        }
        if self.peers.len() < PEERS {
            let behaviour = BEHAVIOURS[self.rng.below(BEHAVIOURS.len() as u64) as usize];
            let peer = Script::leecher(self.payload).behaviour(behaviour).connect(self.seeder)?;
            self.peers.push((peer, now + self.rng.time(STAY)));
            self.counts.peers += 1;
        }
        Ok(())
    }

    /// Ends all visitors.
    pub(super) fn leave(&mut self) {
        self.processes.clear();
        self.peers.clear();
    }

    pub(super) fn so_far(&self) -> String {
        let Counts { seeders, downloads, peers, .. } = self.counts;
        format!("{downloads} downloads, {seeders} seeders, {peers} scripted peers")
    }

    /// Starts a process: one in four seeds, the others download.
    fn start(&mut self, now: Instant) -> Result<Process> {
        let folder = TempDir::with_prefix("visitor-")?;
        let bt_cli = BtCli::new(&self.program, folder.path());
        let downloads = self.rng.below(4) > 0;
        let mut command = bt_cli.command([if downloads { "download" } else { "seed" }]);
        command.arg(self.payload.torrent_path());
        if downloads {
            command.arg("-o").arg(folder.path().join("downloads")).args(["--max-down", RATE]);
            self.counts.downloads += 1;
        } else {
            command.arg(self.payload.folder_path());
            self.counts.seeders += 1;
        }
        on_loopback(&mut command);
        let launch = bt_cli.start("visitor", &command)?;
        Ok(Process { launch, folder, downloads, leaves: now + self.rng.time(STAY) })
    }

    /// Checks a process that ended by itself: it must be a completed download.
    fn handle_completed(&mut self, process: &mut Process) -> Result<()> {
        let code = process.launch.exit_code(LIMIT)?;
        let words = process.launch.output_tail();
        ensure!(process.downloads && code == 0, "a visitor ended with exit code {code}\n{words}");
        let folder = process.folder.path().join("downloads");
        self.payload.compare(&folder).context("a visitor got wrong bytes")?;
        self.counts.completed += 1;
        Ok(fs::remove_dir_all(folder)?)
    }

    /// Ends a process by SIGTERM or by SIGKILL.
    fn end(&mut self, process: &mut Process) -> Result<()> {
        if self.rng.below(2) == 0 {
            process.launch.signal(Signal::KILL)?;
            process.launch.wait(LIMIT)?;
            self.counts.killed += 1;
        } else {
            process.launch.signal(Signal::TERM)?;
            let code = process.launch.wait(LIMIT)?.code();
            // It may have completed just now, or not have installed its signal handler yet.
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
             {terminated} ended with SIGTERM, {killed} with SIGKILL."
        )
    }
}

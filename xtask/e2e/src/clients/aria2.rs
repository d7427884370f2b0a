//! aria2: one process per torrent, with everything in its arguments.

use std::process::Command;

use anyhow::Result;

use super::{Job, PORT, Program, version_in};
use tasks::process::{Launch, output_of};

/// aria2, started with `aria2c`.
pub struct Aria2;

impl Aria2 {
    fn command(job: &Job<'_>) -> Command {
        let mut command = Command::new("aria2c");
        command
            .args(["--no-conf=true", "--enable-dht6=false"])
            .arg(format!("--enable-peer-exchange={}", job.pex()))
            .args(["--file-allocation=none", "--disable-ipv6=true", "--allow-overwrite=true"])
            .args(["--summary-interval=1", "--console-log-level=notice"])
            .args(["--bt-tracker-timeout=10", "--bt-tracker-connect-timeout=10"])
            // It forgets a peer whose connection has ended until a tracker names it again.
            .arg("--bt-tracker-interval=5")
            .arg(format!("--interface={}", job.ip))
            .arg(format!("--listen-port={PORT}"))
            .arg("--dir")
            .arg(job.folder);
        // It takes one node only.
        match job.dht_nodes().first() {
            Some(node) => command
                .args(["--enable-dht=true", &format!("--dht-entry-point={node}")])
                .arg(format!("--dht-listen-port={PORT}"))
                .arg(format!("--dht-file-path={}", job.home.join("dht.dat").display())),
            None => command.arg("--enable-dht=false"),
        };
        match job.lan() {
            Some(_) => {
                command.args(["--bt-enable-lpd=true", "--bt-lpd-interface", job.interface()])
            }
            None => command.arg("--bt-enable-lpd=false"),
        };
        command
    }
}

impl Aria2 {
    /// Verifies the data on disk, and ends.
    pub fn check(&self, job: &Job<'_>) -> Result<Launch> {
        let mut command = Self::command(job);
        command.args(["--check-integrity=true", "--hash-check-only=true"]).arg(job.torrent);
        job.start(self.name(), &command)
    }
}

impl Program for Aria2 {
    fn name(&self) -> &'static str {
        "aria2"
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of("aria2c", ["--version"])?)
    }

    fn seed(&self, job: &Job<'_>) -> Result<Launch> {
        let mut command = Self::command(job);
        command.args(["--check-integrity=true", "--seed-ratio=0.0"]).arg(job.torrent);
        Ok(job.start(self.name(), &command)?.with_short_grace())
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let mut command = Self::command(job);
        command.arg("--seed-time=0").arg(job.torrent);
        Ok(job.start(self.name(), &command)?.with_short_grace())
    }
}

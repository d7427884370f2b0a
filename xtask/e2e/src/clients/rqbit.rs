//! rqbit: one process per torrent, with everything in its arguments.

use std::process::Command;

use anyhow::Result;

use super::{Job, PORT, Program, version_in};
use tasks::process::{Launch, find_program, output_of};

/// rqbit.
pub struct Rqbit;

impl Rqbit {
    /// Verifies the data on disk, and ends.
    pub fn check(&self, job: &Job<'_>) -> Result<Launch> {
        self.start(job, &["--overwrite", "--exit-on-finish"])
    }

    fn start(&self, job: &Job<'_>, flags: &[&str]) -> Result<Launch> {
        let mut command = Command::new(find_program("rqbit").unwrap_or_default());
        command.args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward"]);
        command.arg(format!("--listen-ip={}", job.ip)).arg(format!("--listen-port={PORT}"));
        command.args(["download", "--disable-http-api", "--output-folder"]).arg(job.folder);
        command.args(flags);
        if !job.peers.is_empty() {
            command.arg(format!("--initial-peers={}", job.peer_list()));
        }
        command.arg(job.torrent).env("HOME", job.home);
        Ok(job.start(self.name(), &command)?.with_short_grace())
    }
}

impl Program for Rqbit {
    fn name(&self) -> &'static str {
        "rqbit"
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of(find_program("rqbit")?.to_str()?, ["--version"])?)
    }

    /// Complete data is verified first.
    fn seed(&self, job: &Job<'_>) -> Result<Launch> {
        self.start(job, &["--overwrite"])
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        self.start(job, &["--exit-on-finish"])
    }
}

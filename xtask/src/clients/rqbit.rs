//! rqbit: one process a torrent, everything in its arguments.

use std::process::Command;

use anyhow::Result;

use super::{Job, PORT, Program, version_in};
use crate::process::{Running, find_program, output_of};

pub(crate) struct Rqbit;

impl Rqbit {
    /// On the search path, or where `cargo install` puts it.
    fn program() -> Option<String> {
        let home = std::env::var("HOME").unwrap_or_default();
        let places = ["rqbit".to_owned(), format!("{home}/.cargo/bin/rqbit")];
        places.into_iter().find(|place| find_program(place).is_some())
    }

    fn start(&self, job: &Job<'_>, overwrite: bool) -> Result<Running> {
        let mut command = Command::new(Self::program().unwrap_or_default());
        command.args(["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward"]);
        command.arg(format!("--listen-ip={}", job.ip)).arg(format!("--listen-port={PORT}"));
        command.args(["download", "--disable-http-api", "--output-folder"]).arg(job.folder);
        command.arg(if overwrite { "--overwrite" } else { "--exit-on-finish" });
        if !job.peers.is_empty() {
            command.arg(format!("--initial-peers={}", job.peer_list()));
        }
        command.arg(job.torrent).env("HOME", job.home);
        Ok(Running::start(self.name(), &command, job.home)?.with_little_patience())
    }
}

impl Program for Rqbit {
    fn name(&self) -> &'static str {
        "rqbit"
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of(&Self::program()?, ["--version"])?)
    }

    /// Data that is in place is verified first.
    fn seed(&self, job: &Job<'_>) -> Result<Running> {
        self.start(job, true)
    }

    fn download(&self, job: &Job<'_>) -> Result<Running> {
        self.start(job, false)
    }
}

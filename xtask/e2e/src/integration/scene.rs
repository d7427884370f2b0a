//! The set-up that most cases need: a folder, bt-cli's users with their files in it, and downloads.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{HttpTracker, Payload, PayloadBuilder, SeenAnnounce};

use crate::bt_cli::{BtCli, COMMAND_LIMIT, Finished, finish};
use crate::clients::namespace;
use tasks::process::Launch;

/// How long anything that should happen may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A new temporary folder for the files of one case, and the bt-cli that the case runs.
pub(super) struct Scene {
    folder: TempDir,
    program: PathBuf,
    address_space: Option<u64>,
}

/// Returns why a case can't run on this machine; `None` if it can.
pub(super) fn obstacle(case: &str) -> Option<&'static str> {
    let no_v6 = case.contains("IPv6") && TcpListener::bind("[::1]:0").is_err();
    let no_public = case.starts_with("public ") && !namespace::is_inside();
    match (no_v6, no_public) {
        (true, _) => Some("this machine has no IPv6 on loopback"),
        (_, true) => Some("this machine allows no network namespace with public addresses"),
        _ => None,
    }
}

impl Scene {
    pub(super) fn new(program: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix("scene-")?;
        Ok(Self { folder, program: program.to_owned(), address_space: None })
    }

    /// Limits the address space of each process.
    pub(super) fn with_address_space(self, bytes: u64) -> Self {
        Self { address_space: Some(bytes), ..self }
    }

    /// Returns the path of the bt-cli that the case runs.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Returns a path in the case's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a payload in the case's folder.
    pub(super) fn payload(&self, builder: PayloadBuilder) -> Result<Payload> {
        Ok(builder.create_in(self.path("payload"))?)
    }

    /// Returns bt-cli as the user `name`, with a home and a state folder of its own.
    pub(super) fn user(&self, name: &str) -> BtCli {
        let user = BtCli::new(&self.program, &self.path(name));
        match self.address_space {
            Some(bytes) => user.with_address_space(bytes),
            None => user,
        }
    }

    /// Returns the download folder of `name`.
    pub(super) fn downloads(&self, name: &str) -> PathBuf {
        self.path(name).join("downloads")
    }

    /// Runs a command of `name` with `--json` to its end.
    pub(super) fn run(&self, name: &str, arguments: &[&str]) -> Result<Finished> {
        let command = arguments.first().copied().unwrap_or("nothing");
        self.user(name).run(command, arguments)
    }

    /// Returns the command with which `name` downloads on any port of loopback.
    pub(super) fn download_command(&self, name: &str, torrent: &Path) -> Command {
        self.download_command_at(name, torrent, 0)
    }

    /// Returns the same command as [`Self::download_command`], on this port.
    fn download_command_at(&self, name: &str, torrent: &Path, port: u16) -> Command {
        let mut command = self.user(name).command(["download"]);
        command.arg(torrent).arg("-o").arg(self.downloads(name));
        command.args(["--json", "--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command
    }

    /// Starts a download of `name` with more arguments.
    pub(super) fn download(&self, name: &str, payload: &Payload, more: &[&str]) -> Result<Launch> {
        self.download_from(name, payload, &[], more)
    }

    /// Starts a download of `name` from these peers, with more arguments.
    pub(super) fn download_from(
        &self,
        name: &str,
        payload: &Payload,
        peers: &[SocketAddr],
        more: &[&str],
    ) -> Result<Launch> {
        let mut command = self.download_command(name, payload.torrent_path());
        command.args(more).args(peers.iter().map(|peer| format!("--peer={peer}")));
        self.user(name).start("download", &command)
    }

    /// Starts a download of `name` by a link, with more arguments.
    pub(super) fn download_link(&self, name: &str, link: &str, more: &[&str]) -> Result<Launch> {
        self.download_link_at(name, link, 0, more)
    }

    /// Starts a download of `name` by a link on `port`, with more arguments.
    pub(super) fn download_link_at(
        &self,
        name: &str,
        link: &str,
        port: u16,
        more: &[&str],
    ) -> Result<Launch> {
        let mut command = self.download_command_at(name, Path::new(link), port);
        self.user(name).start("download", command.args(more))
    }

    /// Runs [`Self::download_link`], which must succeed, to its end, and compares every byte.
    pub(super) fn fetch_link(
        &self,
        name: &str,
        payload: &Payload,
        link: &str,
        more: &[&str],
    ) -> Result<Finished> {
        let mut launch = self.download_link(name, link, more)?;
        self.complete(name, payload, &mut launch)
    }

    /// Runs [`Self::download_from`], which must succeed, to its end, and compares every byte.
    pub(super) fn fetch(
        &self,
        name: &str,
        payload: &Payload,
        peers: &[SocketAddr],
        more: &[&str],
    ) -> Result<Finished> {
        let mut launch = self.download_from(name, payload, peers, more)?;
        self.complete(name, payload, &mut launch)
    }

    /// Starts a download of `name` on `port`, with more arguments.
    pub(super) fn download_at(
        &self,
        name: &str,
        payload: &Payload,
        port: u16,
        more: &[&str],
    ) -> Result<Launch> {
        let mut command = self.download_command_at(name, payload.torrent_path(), port);
        self.user(name).start("download", command.args(more))
    }

    /// Starts `bt-cli seed` of `name` and waits until it has announced to `tracker` that it is
    /// complete.
    pub(super) fn seed(
        &self,
        name: &str,
        payload: &Payload,
        tracker: &HttpTracker,
    ) -> Result<Launch> {
        let mut command = self.user(name).command(["seed"]);
        command.arg(payload.torrent_path()).arg(payload.folder_path());
        let ip = tracker.address().ip().to_string();
        command.args(["--json", "--port", "0", "--bind", &ip]);
        let before = tracker.announces().len();
        let launch = self.user(name).start("seed", &command)?;
        let seeds = |seen: &[SeenAnnounce]| seen.iter().skip(before).any(|each| each.left == 0);
        if !tracker.wait_for(LIMIT, seeds) {
            bail!("the seeder never announced itself\n{}", launch.output_tail());
        }
        Ok(launch)
    }

    /// Waits for a download that must succeed, and compares every byte.
    pub(super) fn complete(
        &self,
        name: &str,
        payload: &Payload,
        launch: &mut Launch,
    ) -> Result<Finished> {
        let finished = finish(launch, COMMAND_LIMIT)?;
        finished.expect(0)?;
        finished.expect_event("completed")?;
        payload.compare(self.downloads(name))?;
        Ok(finished)
    }
}

/// Returns a magnet link with these peers (`x.pe`) and trackers.
pub(super) fn link(payload: &Payload, peers: &[SocketAddr], trackers: &[String]) -> String {
    let peers = peers.iter().map(|peer| format!("&x.pe={peer}"));
    let trackers = trackers.iter().map(|url| format!("&tr={url}"));
    payload.magnet() + &peers.chain(trackers).collect::<String>()
}

/// Sends SIGINT and waits for exit code 130.
pub(super) fn interrupt(launch: &mut Launch) -> Result<Finished> {
    launch.signal(Signal::INT)?;
    let finished = finish(launch, LIMIT)?;
    finished.expect(130)?;
    Ok(finished)
}

/// Returns an address with a port that is free now. Another program can take it before we do, which
/// is unlikely.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A payload of one file of `blocks` blocks, in pieces of four.
pub(super) fn file(blocks: u64) -> PayloadBuilder {
    Payload::file("file.bin", blocks * 16 * 1024 - 5).piece_length(64 * 1024)
}

/// Some files that start and end within pieces, in the order in which `create` lists them.
pub(super) fn tree() -> PayloadBuilder {
    let files =
        [("a.bin", 1_500_001), ("b/c.bin", 700_000), ("b/d/e.txt", 7), ("b/empty", 0), ("f", 1)];
    Payload::folder("tree", &files).piece_length(64 * 1024)
}

/// Returns how many lines are this event.
pub(super) fn count(lines: &[Value], event: &str) -> usize {
    lines.iter().filter(|line| line["event"] == event).count()
}

/// Returns a path as an argument.
pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary folder whose name is text")
}

/// Creates `folder` and writes `bytes` into `name` below it.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
    Ok(fs::write(path, bytes)?)
}

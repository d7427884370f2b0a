//! webtorrent, the library, in node: the package that `npm install -g webtorrent` installs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Job, PORT, Program, wait_until_added};
use tasks::process::{Launch, output_of};

const SCRIPT: &str = include_str!("webtorrent.mjs");

/// WebTorrent, run by a script for node.
pub struct Webtorrent;

impl Webtorrent {
    fn package() -> Option<PathBuf> {
        let root = output_of("npm", ["root", "-g"])?;
        let package = PathBuf::from(root.trim()).join("webtorrent");
        package.is_dir().then_some(package)
    }
}

impl Program for Webtorrent {
    fn name(&self) -> &'static str {
        "webtorrent"
    }

    fn version(&self) -> Option<String> {
        let module = Self::package()?.join("index.js");
        // Its native dependencies may be missing.
        let load = format!("import('{}').then(() => process.exit(0))", module.display());
        output_of("node", ["-e", &load])?;
        let package = fs::read(module.with_file_name("package.json")).ok()?;
        let package: serde_json::Value = serde_json::from_slice(&package).ok()?;
        Some(package["version"].as_str()?.to_owned())
    }

    fn seed(&self, _job: &Job<'_>) -> Result<Launch> {
        bail!("webtorrent only downloads here")
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let script = job.home.join("webtorrent.mjs");
        fs::write(&script, SCRIPT)?;
        let package = Self::package().context("webtorrent is not installed")?;
        let mut command = Command::new("node");
        command.arg(script).arg(package.join("index.js")).arg(job.torrent).arg(job.folder);
        command.arg(PORT.to_string()).arg(job.home);
        command.args(job.peers.iter().map(ToString::to_string));
        let mut launch = job.start(self.name(), &command)?.with_short_grace();
        wait_until_added(&mut launch, job.home);
        Ok(launch)
    }
}

//! Transmission: `transmission-daemon` in the foreground, controlled through its watch folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::{Job, PORT, Program, version_in};
use tasks::process::{Launch, output_of};

/// transmission-daemon.
pub struct Transmission;

impl Program for Transmission {
    fn name(&self) -> &'static str {
        "transmission"
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of("transmission-daemon", ["--version"])?)
    }

    fn ends(&self) -> bool {
        false
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let watch = job.home.join("watch");
        fs::create_dir_all(&watch)?;
        fs::copy(job.torrent, watch.join("job.torrent"))?;
        let script = done_script(job)?;
        let settings = json!({
            "bind-address-ipv4": job.ip.to_string(),
            "bind-address-ipv6": "::1",
            "dht-enabled": false,
            "download-dir": job.folder,
            "incomplete-dir-enabled": false,
            "lpd-enabled": false,
            "peer-port": PORT,
            "pex-enabled": false,
            "port-forwarding-enabled": false,
            "rename-partial-files": false,
            "rpc-enabled": false,
            "scrape-paused-torrents-enabled": false,
            "script-torrent-done-enabled": true,
            "script-torrent-done-filename": script,
            "trash-original-torrent-files": false,
            "utp-enabled": false,
            "watch-dir": watch,
            "watch-dir-enabled": true,
        });
        fs::write(job.home.join("settings.json"), settings.to_string())?;
        let mut command = Command::new("transmission-daemon");
        command.args(["--foreground", "--log-info", "--config-dir"]).arg(job.home);
        Ok(Launch::start(self.name(), &command, job.home)?.with_short_grace())
    }
}

/// Writes the script that the daemon runs when the torrent is complete.
fn done_script(job: &Job<'_>) -> Result<PathBuf> {
    let script = job.home.join("done.sh");
    fs::write(&script, format!("#!/bin/sh\ntouch '{}'\n", job.done().display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

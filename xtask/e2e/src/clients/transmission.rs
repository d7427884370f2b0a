//! Transmission: `transmission-daemon` in the foreground, controlled through its watch folder, or
//! for a magnet link through `transmission-remote`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Job, PORT, Program, version_in};
use tasks::process::{Launch, output_of, wait_until};

/// The port at which it takes links.
const RPC_PORT: u16 = 19091;
const START_LIMIT: Duration = Duration::from_secs(20);

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
        if job.link().is_none() {
            fs::copy(job.torrent, watch.join("job.torrent"))?;
        }
        let script = done_script(job)?;
        let settings = json!({
            "bind-address-ipv4": job.ip.to_string(),
            "bind-address-ipv6": "::1",
            "dht-enabled": !job.dht_nodes().is_empty(),
            "download-dir": job.folder,
            "incomplete-dir-enabled": false,
            "lpd-enabled": job.lan().is_some(),
            "peer-port": PORT,
            "pex-enabled": job.pex(),
            "port-forwarding-enabled": false,
            "rename-partial-files": false,
            "rpc-bind-address": job.ip.to_string(),
            "rpc-enabled": job.link().is_some(),
            "rpc-host-whitelist-enabled": false,
            "rpc-port": RPC_PORT,
            "rpc-whitelist-enabled": false,
            "scrape-paused-torrents-enabled": false,
            "script-torrent-done-enabled": true,
            "script-torrent-done-filename": script,
            "trash-original-torrent-files": false,
            "utp-enabled": false,
            "watch-dir": watch,
            "watch-dir-enabled": true,
        });
        fs::write(job.home.join("settings.json"), settings.to_string())?;
        let nodes = job.dht_nodes().iter().map(|node| format!("{} {}\n", node.ip(), node.port()));
        fs::write(job.home.join("dht.bootstrap"), nodes.collect::<String>())?;
        let mut command = Command::new("transmission-daemon");
        command.args(["--foreground", "--log-info", "--config-dir"]).arg(job.home);
        let launch = job.start(self.name(), &command)?.with_short_grace();
        if let Some(link) = job.link() {
            let rpc = format!("{}:{RPC_PORT}", job.ip);
            let add = || output_of("transmission-remote", [&rpc, "-a", link]).is_some();
            ensure!(wait_until(START_LIMIT, add), "it takes no link\n{}", launch.output_tail());
        }
        Ok(launch)
    }
}

/// Writes the script that the daemon runs when the torrent is complete.
fn done_script(job: &Job<'_>) -> Result<PathBuf> {
    let script = job.home.join("done.sh");
    fs::write(&script, format!("#!/bin/sh\ntouch '{}'\n", job.done().display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

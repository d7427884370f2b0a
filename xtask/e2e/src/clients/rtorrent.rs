//! rTorrent, without its screen.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::{Job, PORT, Program, version_in};
use tasks::process::{Launch, output_of};

/// rTorrent, in a pseudo terminal.
pub struct Rtorrent;

impl Program for Rtorrent {
    fn name(&self) -> &'static str {
        "rtorrent"
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of("rtorrent", ["-h"])?)
    }

    fn ends(&self) -> bool {
        false
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let session = job.home.join("session");
        fs::create_dir_all(&session)?;
        let nodes = job
            .dht_nodes()
            .iter()
            .map(|node| format!("schedule2=node-{},0,0,((dht.add_node,\"{node}\"))\n", node.ip()));
        let nodes: String = nodes.collect();
        let settings = format!(
            "system.daemon.set=true\n\
             network.bind_address.set={ip}\n\
             network.local_address.set={ip}\n\
             network.port_range.set={PORT}-{PORT}\n\
             network.port_random.set=no\n\
             dht.mode.set={dht}\n\
             dht.port.set={PORT}\n\
             protocol.pex.set={pex}\n\
             trackers.use_udp.set=yes\n\
             protocol.encryption.set=allow_incoming\n\
             session.path.set={session}\n\
             directory.default.set={folder}\n\
             log.open_file=\"log\",{home}/rtorrent.log\n\
             log.add_output=\"info\",\"log\"\n\
             method.set_key=event.download.finished,done,\"execute.nothrow=touch,{done}\"\n\
             {nodes}\
             schedule2=load,{delay},0,((load.start,\"{torrent}\"))\n",
            ip = job.ip,
            dht = if nodes.is_empty() { "disable" } else { "on" },
            // It asks the DHT at once, and then after a minute.
            delay = if nodes.is_empty() { 0 } else { 3 },
            pex = if job.pex() { "yes" } else { "no" },
            session = session.display(),
            folder = job.folder.display(),
            home = job.home.display(),
            done = job.done().display(),
            torrent = job.torrent.display(),
        );
        let file = job.home.join("rtorrent.rc");
        fs::write(&file, settings)?;
        let mut command = Command::new("rtorrent");
        command.args(["-n", "-o"]).arg(format!("import={}", file.display()));
        command.env("HOME", job.home).env("TERM", "dumb");
        Ok(job.start(self.name(), &command)?.with_short_grace())
    }
}

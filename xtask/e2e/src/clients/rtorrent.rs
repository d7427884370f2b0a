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
        let settings = format!(
            "system.daemon.set=true\n\
             network.bind_address.set={ip}\n\
             network.local_address.set={ip}\n\
             network.port_range.set={PORT}-{PORT}\n\
             network.port_random.set=no\n\
             dht.mode.set=disable\n\
             protocol.pex.set=no\n\
             trackers.use_udp.set=yes\n\
             protocol.encryption.set=allow_incoming\n\
             session.path.set={session}\n\
             directory.default.set={folder}\n\
             log.open_file=\"log\",{home}/rtorrent.log\n\
             log.add_output=\"info\",\"log\"\n\
             method.set_key=event.download.finished,done,\"execute.nothrow=touch,{done}\"\n\
             schedule2=load,0,0,((load.start,\"{torrent}\"))\n",
            ip = job.ip,
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
        Ok(Launch::start(self.name(), &command, job.home)?.with_short_grace())
    }
}

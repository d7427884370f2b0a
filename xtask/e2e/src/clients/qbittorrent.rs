//! qBittorrent: `qbittorrent-nox` with its own profile, controlled through its web interface.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Job, PORT, Program, version_in};
use tasks::process::{Launch, output_of, wait_until};

/// The port of its web interface.
const WEB_PORT: u16 = 18080;
const BOUNDARY: &str = "----------------interop";
const START_LIMIT: Duration = Duration::from_secs(20);

/// qBittorrent without a window.
pub struct Qbittorrent;

impl Program for Qbittorrent {
    fn name(&self) -> &'static str {
        "qbittorrent"
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of("qbittorrent-nox", ["--version"])?)
    }

    fn ends(&self) -> bool {
        false
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let config = job.home.join("qBittorrent").join("config");
        fs::create_dir_all(&config)?;
        fs::write(config.join("qBittorrent.conf"), settings(job))?;
        let mut command = Command::new("qbittorrent-nox");
        command.arg(format!("--profile={}", job.home.display()));
        command.arg(format!("--webui-port={WEB_PORT}"));
        command.env("HOME", job.home);
        let mut launch = job.start(self.name(), &command)?.with_short_grace();
        let web = SocketAddrV4::new(job.ip, WEB_PORT).into();
        let up =
            wait_until(START_LIMIT, || !launch.is_running() || TcpStream::connect(web).is_ok());
        if !up || !launch.is_running() {
            bail!("its web interface does not answer\n{}", launch.output_tail());
        }
        add(web, job)?;
        Ok(launch)
    }
}

fn settings(job: &Job<'_>) -> String {
    let Job { ip, folder, .. } = job;
    let interface = job.interface();
    // It has no setting for nodes: links and .torrent files name them.
    let (dht, pex, lsd) = (!job.dht_nodes().is_empty(), job.pex(), job.lan().is_some());
    let done = job.done();
    let done = done.display();
    format!(
        "[AutoRun]\nenabled=true\nprogram=touch {done}\n\n\
         [LegalNotice]\nAccepted=true\n\n\
         [BitTorrent]\n\
         Session\\AddTorrentPaused=false\n\
         Session\\DHTEnabled={dht}\n\
         Session\\DefaultSavePath={}\n\
         Session\\Encryption=0\n\
         Session\\Interface={interface}\n\
         Session\\InterfaceAddress={ip}\n\
         Session\\InterfaceName={interface}\n\
         Session\\LSDEnabled={lsd}\n\
         Session\\MultiConnectionsPerIp=true\n\
         Session\\PeXEnabled={pex}\n\
         Session\\Port={PORT}\n\
         Session\\QueueingSystemEnabled=false\n\
         Session\\BTProtocol=TCP\n\n\
         [Network]\nPortForwardingEnabled=false\n\n\
         [Preferences]\n\
         Connection\\ResolvePeerCountries=false\n\
         WebUI\\Address={ip}\n\
         WebUI\\LocalHostAuth=false\n\
         WebUI\\AuthSubnetWhitelistEnabled=true\n\
         WebUI\\AuthSubnetWhitelist=10.0.0.0/8, 45.0.0.0/8\n\
         WebUI\\UseUPnP=false\n",
        folder.display()
    )
}

/// `POST /api/v2/torrents/add`, as a browser does. The torrent is a file or a magnet link.
fn add(web: SocketAddr, job: &Job<'_>) -> Result<()> {
    let mut body = Vec::new();
    let folder = job.folder.display().to_string();
    let link = job.link().map(|link| ("urls", link));
    let fields = [("savepath", folder.as_str()), ("autoTMM", "false"), ("paused", "false")];
    for (name, value) in fields.into_iter().chain(link) {
        write!(body, "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")?;
        write!(body, "{value}\r\n")?;
    }
    if link.is_none() {
        write!(body, "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"torrents\"; ")?;
        write!(body, "filename=\"job.torrent\"\r\n")?;
        write!(body, "Content-Type: application/x-bittorrent\r\n\r\n")?;
        body.extend(fs::read(job.torrent)?);
        write!(body, "\r\n")?;
    }
    write!(body, "--{BOUNDARY}--\r\n")?;

    let mut stream = TcpStream::connect(web)?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    write!(stream, "POST /api/v2/torrents/add HTTP/1.1\r\nHost: {web}\r\nConnection: close\r\n")?;
    write!(stream, "Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n")?;
    write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(&body)?;
    let mut reply = Vec::new();
    // It keeps the connection open for seconds after its answer.
    while !reply.ends_with(b"Ok.") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).context("its web interface does not answer")?;
        ensure!(count > 0, "its web interface refuses: {}", String::from_utf8_lossy(&reply).trim());
        reply.extend(&part[..count]);
    }
    ensure!(reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
    Ok(())
}

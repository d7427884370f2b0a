//! BitTorrent programs, including ours: how each is run on a torrent. The interop suite and the
//! benchmarks share them.

mod aria2;
mod discovery;
mod libtorrent;
pub mod namespace;
mod ours;
mod qbittorrent;
mod rqbit;
mod rtorrent;
mod transmission;
mod webtorrent;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use tasks::process::{Launch, wait_until_every};

pub use aria2::Aria2;
pub use discovery::{Discovery, Lan};
pub use libtorrent::Libtorrent;
pub use ours::Ours;
pub use qbittorrent::Qbittorrent;
pub use rqbit::Rqbit;
pub use rtorrent::Rtorrent;
pub use transmission::Transmission;
pub use webtorrent::Webtorrent;

/// The port every program listens on, each at its own address.
pub const PORT: u16 = 16881;
/// How long Python or node may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often we check whether it has started.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// A torrent for a program.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The .torrent file, or a magnet link.
    pub torrent: &'a Path,
    /// The folder that contains, or will contain, the torrent's name.
    pub folder: &'a Path,
    /// An empty folder for the program's settings, state and output.
    pub home: &'a Path,
    /// The program's address.
    pub ip: Ipv4Addr,
    /// Peers to connect to, for programs that accept some. All programs ask the torrent's tracker.
    pub peers: &'a [SocketAddr],
    /// How it looks for further peers; `None` leaves bt-cli at its defaults, and the others without.
    pub discovery: Option<&'a Discovery>,
}

impl<'a> Job<'a> {
    /// Returns a job for which the program asks the torrent's tracker only.
    pub fn new(torrent: &'a Path, folder: &'a Path, home: &'a Path, ip: Ipv4Addr) -> Self {
        Self { torrent, folder, home, ip, peers: &[], discovery: None }
    }

    /// Starts a program of that name for this job.
    fn start(&self, name: &str, command: &Command) -> Result<Launch> {
        match self.lan() {
            Some(lan) => Launch::start(name, &lan.inside(command), self.home),
            None => Launch::start(name, command, self.home),
        }
    }

    /// Returns the nodes by which it joins the DHT; if there are none, it has no DHT.
    fn dht_nodes(&self) -> &'a [SocketAddr] {
        self.discovery.map_or(&[], |discovery| &discovery.dht_nodes)
    }

    /// Whether it exchanges peers with peers (BEP 11).
    fn pex(&self) -> bool {
        self.discovery.is_some_and(|discovery| discovery.pex)
    }

    /// Returns the network at whose far end it is, where it looks for peers (BEP 14).
    fn lan(&self) -> Option<&'a Lan> {
        self.discovery?.lan.as_deref()
    }

    /// Returns the name of its network interface.
    fn interface(&self) -> &str {
        self.lan().map_or("lo", Lan::interface)
    }
}

impl Job<'_> {
    /// Returns the magnet link, if the torrent is given by one.
    pub fn link(&self) -> Option<&str> {
        self.torrent.to_str().filter(|text| text.starts_with("magnet:"))
    }

    /// Returns the address that the program listens at.
    pub fn listen(&self) -> SocketAddr {
        SocketAddrV4::new(self.ip, PORT).into()
    }

    /// Returns the peers, separated by commas.
    fn peer_list(&self) -> String {
        let peers: Vec<String> = self.peers.iter().map(ToString::to_string).collect();
        peers.join(",")
    }

    /// Returns the file by which a program that does not end reports that it is complete.
    pub fn done(&self) -> PathBuf {
        self.home.join("done")
    }
}

/// A program that takes part in swarms.
pub trait Program: Send + Sync {
    /// The name that `REQUIRE_PEERS` and the table use.
    fn name(&self) -> &'static str;

    /// Returns its version; `None` if it is not installed.
    fn version(&self) -> Option<String>;

    /// Starts it on a torrent whose data is complete. Most programs verify that at the start of a
    /// download.
    fn seed(&self, job: &Job<'_>) -> Result<Launch> {
        self.download(job)
    }

    /// Starts a download; returns when the program has the torrent. When it is complete, it ends or
    /// creates [`Job::done`].
    fn download(&self, job: &Job<'_>) -> Result<Launch>;

    /// Whether it ends on its own when a download is complete.
    fn ends(&self) -> bool {
        true
    }

    /// Returns the most bytes that its buffers held during a completed download, if it reports
    /// that.
    fn buffers_peak(&self, _launch: &Launch) -> Option<u64> {
        None
    }

    /// Waits for the end of a completed download, if the program ends on its own.
    fn finish(&self, _launch: &mut Launch) -> Result<()> {
        Ok(())
    }
}

/// Waits until one of our scripts creates `added` in `home`: its interpreter has started and it has
/// the torrent.
fn wait_until_added(launch: &mut Launch, home: &Path) {
    let added = home.join("added");
    wait_until_every(CHECK_INTERVAL, START_LIMIT, || added.exists() || !launch.is_running());
}

/// Returns the first word of `text` that starts with a digit, or with `v` and a digit.
pub fn version_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == '(' || c == ',');
    let digits = words.map(|word| word.trim_start_matches('v').trim_end_matches([')', '.', ',']));
    digits.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_are_found() {
        for (text, version) in [
            ("transmission-daemon 3.00 (bb6b5a062e)\n", "3.00"),
            ("aria2 version 1.36.0\nCopyright (C) 2006", "1.36.0"),
            ("qBittorrent v4.5.2", "4.5.2"),
            ("Rakshasa's BitTorrent client version 0.9.8.", "0.9.8"),
            ("mktorrent 1.1 (c) 2007, 2009", "1.1"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version));
        }
        assert_eq!(version_in("no number"), None);
    }
}

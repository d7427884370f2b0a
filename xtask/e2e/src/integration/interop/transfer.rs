//! One program seeds, another downloads, and every byte is compared.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tempfile::TempDir;
use testkit::{HttpTracker, Payload, PayloadBuilder, SeenAnnounce, Tracker};

use super::opentracker::Opentracker;
use crate::bt_cli::json_lines;
use crate::clients::{Discovery, Job, PORT, Program, namespace};
use tasks::process::{Launch, wait_until};

/// How long a program may take to check its data and announce.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Added to the time that the download takes at [`MIN_RATE`].
const DOWNLOAD_ALLOWANCE: Duration = Duration::from_secs(60);
/// The slowest rate of a download, in MiB per second.
const MIN_RATE: u64 = 8;
/// Why a connection may end: one end has everything, and closes it.
const CLEAN_ENDS: [&str; 2] = ["closed by the peer", "both ends have everything they want"];
const OPENTRACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
/// The address of the second of two copies of our program.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 19);

/// A program, the address it uses, and how it looks for peers.
#[derive(Clone, Copy)]
pub(super) struct Party<'a> {
    pub(super) program: &'a dyn Program,
    pub(super) ip: Ipv4Addr,
    /// `None` if it asks the tracker only.
    pub(super) discovery: Option<&'a Discovery>,
    pub(super) peers: &'a [SocketAddr],
}

impl<'a> Party<'a> {
    /// A program that asks the tracker only.
    pub(super) fn new(program: &'a dyn Program, ip: Ipv4Addr) -> Self {
        Self { program, ip, discovery: None, peers: &[] }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((self.ip, PORT))
    }
}

/// How a program that has only a link finds the seeder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// The link names the tracker.
    Tracker,
    /// The link names the seeder (`x.pe`).
    Peer,
}

/// The side that connects to the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialler {
    /// The leecher starts later and connects to the seeder.
    Leecher,
    /// The seeder starts later and connects to the leecher.
    Seeder,
}

/// `leecher` downloads from `seeder`; both use our tracker. The one that starts later learns of the
/// other, and dials it.
pub(super) fn run(seeder: Party<'_>, leecher: Party<'_>, dialler: Dialler) -> Result<()> {
    exchange(payload(), seeder, leecher, dialler).map(|_| ())
}

/// `leecher` downloads `mebibytes` from `seeder` over one connection. One of them is bt-cli.
pub(super) fn over_one_connection(
    seeder: Party<'_>,
    leecher: Party<'_>,
    mebibytes: u32,
) -> Result<()> {
    let payload = Payload::file("much.bin", u64::from(mebibytes) << 20).piece_length(1 << 20);
    let said = exchange(payload, seeder, leecher, Dialler::Leecher)?;
    let events = said.iter().flat_map(|said| json_lines(said));
    let mut connections = 0;
    for event in events.filter(|event| event["event"] == "peer") {
        match (event["state"].as_str(), event["reason"].as_str().unwrap_or_default()) {
            (Some("connected"), _) => connections += 1,
            (Some("disconnected"), reason) => {
                ensure!(CLEAN_ENDS.contains(&reason), "bt-cli disconnected: {reason}");
            }
            _ => {}
        }
    }
    ensure!(connections == 1, "{connections} connections");
    Ok(())
}

/// `leecher` downloads from `seeder`; returns what each wrote to its output.
fn exchange(
    payload: PayloadBuilder,
    seeder: Party<'_>,
    leecher: Party<'_>,
    dialler: Dialler,
) -> Result<[String; 2]> {
    let base = TempDir::with_prefix("interop-")?;
    let tracker = HttpTracker::bind((namespace::TRACKER, 0).into(), Tracker::new())?;
    let payload = payload.tracker(tracker.url()).create_in(base.path())?;
    let (mut seeding, mut leeching) = match dialler {
        Dialler::Leecher => {
            let seeding = Side::seed(seeder, &payload, base.path())?;
            seeding.wait_for_announce(&tracker, |announce| announce.left == 0)?;
            (seeding, Side::leech(leecher, &payload, base.path())?)
        }
        Dialler::Seeder => {
            let leeching = Side::leech(leecher, &payload, base.path())?;
            leeching.wait_for_announce(&tracker, |announce| announce.left > 0)?;
            (Side::seed(seeder, &payload, base.path())?, leeching)
        }
    };
    leeching.complete(&payload).map_err(|error| {
        let seeder = seeding.launch.output_tail();
        anyhow!("{error:#}\n  announces: {:?}\n{seeder}", announces_of(&tracker))
    })?;
    seeding.launch.stop();
    payload.compare(payload.folder_path()).context("the seeder changed its data")?;
    Ok([seeding, leeching].map(|side| side.launch.stdout()))
}

/// `leecher` has a link, and gets metadata and data from `seeder`.
pub(super) fn by_link(seeder: Party<'_>, leecher: Party<'_>, hint: Hint) -> Result<()> {
    let base = TempDir::with_prefix("interop-")?;
    let tracker = HttpTracker::bind((namespace::TRACKER, 0).into(), Tracker::new())?;
    // Two pieces of metadata.
    let payload = payload().piece_length(8 * 1024).tracker(tracker.url());
    let payload = payload.create_in(base.path())?;
    ensure!(payload.info().len() > 16 * 1024, "short metadata");
    let mut seeding = Side::seed(seeder, &payload, base.path())?;
    seeding.wait_for_announce(&tracker, |announce| announce.left == 0)?;
    let link = match hint {
        Hint::Tracker => format!("{}&tr={}", payload.magnet(), tracker.url()),
        Hint::Peer => format!("{}&x.pe={}:{PORT}", payload.magnet(), seeder.ip),
    };
    let mut leeching = Side::download(leecher, Path::new(&link), base.path())?;
    leeching.complete(&payload).map_err(|error| {
        let seeder = seeding.launch.output_tail();
        anyhow!("{error:#}\n  announces: {:?}\n{seeder}", announces_of(&tracker))
    })?;
    seeding.launch.stop();
    payload.compare(payload.folder_path()).context("the seeder changed its data")
}

/// Two copies of one program find each other through opentracker.
pub(super) fn through_opentracker(party: Party<'_>, protocol: &str) -> Result<()> {
    let base = TempDir::with_prefix("interop-")?;
    let known = payload().create_in(base.path().join("hash"))?.info_hash().to_string();
    let home = base.path().join("opentracker");
    let opentracker = Opentracker::start(OPENTRACKER, &[known], &home)?;
    let url = match protocol {
        "UDP" => opentracker.udp_url(),
        _ => opentracker.http_url(),
    };
    let payload = payload().tracker(url).create_in(base.path())?;
    let mut seeding = Side::seed(party, &payload, base.path())?;
    // opentracker does not report who announced; an open port shows that the seeder is up.
    let listens = || std::net::TcpStream::connect((party.ip, PORT)).is_ok();
    ensure!(
        wait_until(START_LIMIT, listens),
        "the seeder does not listen\n{}",
        seeding.launch.output_tail()
    );
    let mut leeching = Side::leech(Party { ip: SECOND, ..party }, &payload, base.path())?;
    let complete = leeching.complete(&payload);
    complete.map_err(|error| anyhow!("{error:#}\n{}", seeding.launch.output_tail()))?;
    seeding.launch.stop();
    Ok(())
}

/// 12 MiB in files that start and end within pieces.
pub(super) fn payload() -> PayloadBuilder {
    let files = [
        ("first.bin", 3 * 1024 * 1024 + 1),
        ("folder/second.bin", 9 * 1024 * 1024 - 17),
        ("folder/deep/third.txt", 1000),
        ("fourth.txt", 1),
    ];
    Payload::folder("interop", &files).seed(11).piece_length(128 * 1024)
}

/// A running program.
pub(super) struct Side<'a> {
    party: Party<'a>,
    folder: PathBuf,
    pub(super) launch: Launch,
}

impl<'a> Side<'a> {
    /// Seeds the payload.
    pub(super) fn seed(party: Party<'a>, payload: &Payload, base: &Path) -> Result<Self> {
        let (home, folder) = (base.join("seeder"), payload.folder_path().to_owned());
        let job = job(party, payload.torrent_path(), &folder, &home)?;
        let launch = party.program.seed(&job).context("the seeder does not start")?;
        Ok(Self { party, folder, launch })
    }

    fn leech(party: Party<'a>, payload: &Payload, base: &Path) -> Result<Self> {
        Self::download(party, payload.torrent_path(), base)
    }

    /// Downloads what a .torrent file or a link names.
    pub(super) fn download(party: Party<'a>, torrent: &Path, base: &Path) -> Result<Self> {
        let (home, folder) = (base.join("leecher"), base.join("downloads"));
        fs::create_dir_all(&folder)?;
        let job = job(party, torrent, &folder, &home)?;
        let launch = party.program.download(&job).context("the leecher does not start")?;
        Ok(Self { party, folder, launch })
    }

    /// Waits until it has sent the tracker such an announce.
    pub(super) fn wait_for_announce(
        &self,
        tracker: &HttpTracker,
        wanted: impl Fn(&SeenAnnounce) -> bool,
    ) -> Result<()> {
        let wanted = |announce: &SeenAnnounce| announce.port == PORT && wanted(announce);
        if tracker.wait_for(START_LIMIT, |seen| seen.iter().any(wanted)) {
            return Ok(());
        }
        let seen = tracker.announces();
        bail!("it did not announce: {seen:?}\n{}", self.launch.output_tail());
    }

    /// Waits until every byte is there and the program has finished.
    pub(super) fn complete(&mut self, payload: &Payload) -> Result<()> {
        self.complete_within(DOWNLOAD_ALLOWANCE, payload)
    }

    /// The same with so much time besides that of the download.
    pub(super) fn complete_within(&mut self, allowance: Duration, payload: &Payload) -> Result<()> {
        let mebibytes = payload.geometry().total() >> 20;
        let limit = allowance + Duration::from_secs(mebibytes / MIN_RATE);
        wait_until(limit, || payload.compare(&self.folder).is_ok() || !self.launch.is_running());
        if let Err(difference) = payload.compare(&self.folder) {
            bail!("not downloaded: {difference}\n{}", self.launch.output_tail());
        }
        self.party.program.finish(&mut self.launch)?;
        self.launch.stop();
        payload.compare(&self.folder).context("changed at the end")
    }
}

fn job<'a>(
    party: Party<'a>,
    torrent: &'a Path,
    folder: &'a Path,
    home: &'a Path,
) -> Result<Job<'a>> {
    fs::create_dir_all(home)?;
    let Party { ip, discovery, peers, .. } = party;
    Ok(Job { peers, discovery, ..Job::new(torrent, folder, home, ip) })
}

/// Returns the announces, for an error message.
fn announces_of(tracker: &HttpTracker) -> Vec<(SocketAddr, u64)> {
    let seen = tracker.announces();
    let each = seen
        .iter()
        .map(|announce| (SocketAddr::new(announce.from.ip(), announce.port), announce.left));
    each.collect()
}

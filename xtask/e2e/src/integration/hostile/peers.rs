//! Hostile peers on real sockets. Each does one thing wrong, beside an honest transfer that must
//! succeed.

mod blocks;
mod cases;
mod crowd;
mod framing;
mod handshakes;
mod metadata;
pub(super) mod pex;
mod pieces;
mod requests;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::hostile::{Crowd, Hostile, Observed};
use testkit::{HttpTracker, Payload, Script, ScriptedPeer};

use crate::bt_cli::json_lines;
use crate::integration::is_wanted;
use crate::integration::scene::{self, LIMIT, Scene, file, free_address};
use tasks::process::{Launch, wait_until};
use tasks::report::{Case, Report};

/// How many cases run at a time: most of them wait for a timeout.
const AT_ONCE: usize = 8;
/// The number of pieces: seven of them are in the last byte of a bitfield.
const PIECES: u32 = 63;

/// The name of a case, the reaction that it must cause, and the peer's behaviour.
struct Row(&'static str, Reaction, fn() -> Hostile);

/// How bt-cli must react to a hostile peer.
#[derive(Debug, Clone, Copy)]
enum Reaction {
    /// It does not become a peer, for a reason that contains this text.
    Failed(&'static str),
    /// It is disconnected, for a reason that contains this text.
    Dropped(&'static str),
    /// The connection is closed without an event.
    Refused,
    /// It is banned for bad data.
    Banned,
    /// It stays a peer as long as the honest transfer lasts.
    Tolerated,
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "no peer: {why}"),
            Self::Dropped(why) => write!(f, "dropped: {why}"),
            Self::Refused => f.write_str("refused"),
            Self::Banned => f.write_str("banned"),
            Self::Tolerated => f.write_str("tolerated"),
        }
    }
}

/// A case by name. It gets a scene of its own, and returns a note.
type Story = (&'static str, fn(&Scene) -> Result<String>);

/// The reaction to messages that neither side gains from.
const TALK: Reaction = Reaction::Dropped("too many useless messages");

/// A function that runs one row: it lets the hostile peer meet bt-cli.
type Encounter = fn(&Scene, &Row) -> Result<String>;

/// Reasons to disconnect a peer that has done nothing wrong.
const HARMLESS: &[&str] = &["both ends have everything they want", "the torrent is stopped"];

/// Runs every case whose name contains `only`.
pub(super) fn run(report: &mut Report, program: &Path, only: Option<&str>) {
    let tables: &[(&'static str, Encounter, &'static [Row])] = &[
        ("handshakes of peers that we dial", dialled, handshakes::DIALLED),
        ("handshakes of peers that dial us", dialling, handshakes::DIALLING),
        ("framing and floods", dialled, framing::ROWS),
        ("announced pieces", dialled, pieces::ROWS),
        ("blocks", dialled, blocks::ROWS),
        ("requests", requesting, requests::ROWS),
        ("metadata", metadata::linked, metadata::ROWS),
        ("pex", dialled, pex::ROWS),
    ];
    let mut all: Vec<Case<'_>> = Vec::new();
    for (area, encounter, rows) in tables {
        for row in rows.iter().filter(|row| is_wanted(only, area, row.0)) {
            let work = move || encounter(&Scene::new(program)?, row);
            all.push(Case::new(&[area, row.0, &row.1.to_string()], work));
        }
    }
    for (area, cases) in
        [("peers", cases::CASES), ("metadata", metadata::CASES), ("pex", pex::CASES)]
    {
        for (name, what) in cases.iter().filter(|(name, _)| is_wanted(only, area, name)) {
            let cells = [area, name, "several peers"];
            match scene::obstacle(name) {
                Some(obstacle) => report.skip(&cells, obstacle),
                None => all.push(Case::new(&cells, move || what(&Scene::new(program)?))),
            }
        }
    }
    report.run_parallel(AT_ONCE, all);
    // Alone, because its speed is measured.
    let name = "500 at once";
    if is_wanted(only, "peers", name) {
        let work = || crowd::five_hundred(&Scene::new(program)?);
        report.run_noted(&["peers", name, "the download completes"], work);
    }
}

/// bt-cli downloads, and connects to the hostile peer and to an honest one, which sends nothing
/// before bt-cli has reacted.
fn dialled(scene: &Scene, row: &Row) -> Result<String> {
    let payload = scene.payload(file(250))?;
    let crowd = Crowd::start(&payload, [row.2()])?;
    let honest = Script::seeder(&payload).fast().held().listen();
    let peers = [crowd.address(0), honest.address()];
    let mut launch = scene.download_from("leecher", &payload, &peers, &[])?;
    row.1.wait(&crowd, &launch, |_| Some(crowd.address(0)))?;
    honest.release();
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    ensure!(
        state_of(&finished.lines, honest.address(), "banned").is_none(),
        "the honest one is banned"
    );
    row.1.check(&finished.lines, crowd.address(0))
}

/// bt-cli downloads from an honest peer, and the hostile one connects to it.
fn dialling(scene: &Scene, row: &Row) -> Result<String> {
    let payload = scene.payload(file(250))?;
    let (honest, own, mut launch) = held_back(scene, &payload, Script::seeder(&payload))?;
    let crowd = Crowd::start(&payload, [row.2().connects_to(own)])?;
    row.1.wait(&crowd, &launch, first_address)?;
    honest.release();
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    row.1.check(&finished.lines, first_address(&crowd.observed()[0]).context("it did not connect")?)
}

/// Starts a download from an honest peer that sends nothing before it is released. Returns the
/// peer, the address that bt-cli listens at, and the process.
fn held_back(
    scene: &Scene,
    payload: &Payload,
    honest: Script,
) -> Result<(ScriptedPeer, SocketAddr, Launch)> {
    let honest = honest.fast().held().listen();
    let own = free_address()?;
    let peer = honest.address().to_string();
    let launch = scene.download_at("leecher", payload, own.port(), &["--peer", &peer])?;
    ensure!(honest.wait_for(LIMIT, |seen| !seen.requests.is_empty()), "{}", launch.output_tail());
    Ok((honest, own, launch))
}

/// bt-cli seeds; first the hostile peer requests data, then an honest leecher.
fn requesting(scene: &Scene, row: &Row) -> Result<String> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(250).tracker(tracker.url()))?;
    let mut launch = scene.seed("seeder", &payload, &tracker)?;
    let port = tracker.announces().first().context("the seeder announced itself")?.port;
    let own = SocketAddr::from(([127, 0, 0, 1], port));
    let crowd = Crowd::start(&payload, [row.2().connects_to(own)])?;
    row.1.wait(&crowd, &launch, first_address)?;
    let leecher = Script::leecher(&payload).fast().connect(own)?;
    ensure!(leecher.wait_for(LIMIT, |seen| seen.complete), "{}", launch.output_tail());
    ensure!(leecher.data() == payload.data()[..], "the honest leecher got wrong bytes");
    ensure!(launch.is_running(), "the seeder ended\n{}", launch.output_tail());
    let address = first_address(&crowd.observed()[0]).context("it did not connect")?;
    row.1.check(&lines_of(&launch), address)
}

fn first_address(met: &Observed) -> Option<SocketAddr> {
    met.addresses.first().copied()
}

impl Reaction {
    /// Waits for the reaction; if the peer is tolerated, until it has done its work.
    fn wait(
        self,
        crowd: &Crowd,
        launch: &Launch,
        address: impl Fn(&Observed) -> Option<SocketAddr>,
    ) -> Result<()> {
        let met = || crowd.observed().swap_remove(0);
        let there = wait_until(LIMIT, || match self {
            Self::Tolerated => met().done,
            Self::Refused => met().ended > 0,
            Self::Failed(_) | Self::Dropped(_) | Self::Banned => address(&met())
                .is_some_and(|address| self.find(&lines_of(launch), address).is_some()),
        });
        ensure!(there, "expected {self:?}, but {:?}\n{}", met(), launch.output_tail());
        Ok(())
    }

    /// Returns the reason in the event of this reaction.
    fn find(self, lines: &[Value], address: SocketAddr) -> Option<String> {
        match self {
            Self::Failed(_) => state_of(lines, address, "failed"),
            Self::Dropped(_) => state_of(lines, address, "disconnected"),
            Self::Banned => state_of(lines, address, "banned"),
            Self::Refused | Self::Tolerated => None,
        }
    }

    /// Checks the events about the peer at `address`; returns the reaction.
    fn check(self, lines: &[Value], address: SocketAddr) -> Result<String> {
        let states = ["failed", "disconnected", "banned"];
        let all = states.map(|state| state_of(lines, address, state));
        match self {
            Self::Failed(reason) | Self::Dropped(reason) => {
                let got = self.find(lines, address).unwrap_or_default();
                ensure!(got.contains(reason), "expected {self:?}, got {got:?}");
                ensure!(all[2].is_none(), "it is banned too");
                Ok(format!("{}: {got}", if all[0].is_some() { "no peer" } else { "dropped" }))
            }
            Self::Banned => {
                ensure!(all[2].is_some(), "it is not banned, but {all:?}");
                Ok("banned".to_owned())
            }
            Self::Refused => {
                ensure!(all.iter().all(Option::is_none), "expected no event, got {all:?}");
                Ok("refused".to_owned())
            }
            Self::Tolerated => {
                let left = all[1].as_deref().filter(|reason| !HARMLESS.contains(reason));
                ensure!(all[0].is_none() && left.is_none() && all[2].is_none(), "got {all:?}");
                let peer = state_of(lines, address, "connected");
                ensure!(peer.is_some(), "it never was a peer");
                Ok("tolerated".to_owned())
            }
        }
    }
}

/// Returns the reason in the first event with this state of the peer at `address`.
fn state_of(lines: &[Value], address: SocketAddr, state: &str) -> Option<String> {
    let address = address.to_string();
    let mut events = lines.iter().filter(|line| line["event"] == "peer");
    let event =
        events.find(|line| line["address"] == address.as_str() && line["state"] == state)?;
    Some(event["reason"].as_str().unwrap_or_default().to_owned())
}

/// Returns what it has printed so far.
fn lines_of(launch: &Launch) -> Vec<Value> {
    json_lines(&launch.stdout()).collect()
}

/// How long a slow peer waits between two bytes.
const SLOW: Duration = Duration::from_millis(40);

//! Whole swarms from one number: the real `session::engine` and `piece_store` on a virtual clock, a
//! virtual network and virtual disks. Development only.
//!
//! In scope: drawing a scenario from a seed, playing it, checking every rule while it is played.
//! Out of scope: sockets, threads, HTTP and TLS, which the loopback suites test.
//!
//! ```
//! let report = sim::run(7);
//! assert_eq!(report.broken, None);
//! assert_eq!(report.digest, sim::run(7).digest);
//! ```
//!
//! What is checked in every run:
//!
//! | rule | where |
//! |---|---|
//! | every honest node ends with the true bytes of what it wants, synced, and its next start trusts them | `world/finish.rs` |
//! | files that nobody wants are not made, files of the user's own stay as they are, a seed-only node writes nothing, no link is written through, no unselected file is cut | `node.rs` |
//! | a node says `completed` only if every wanted file has its bytes and its length, durably, whatever else wants the file | `world/jobs.rs` |
//! | of two torrents that want one file, one goes on; the other one stops and names the file | `world/actions.rs` |
//! | what a message about a link advises leads on | `world/actions.rs` |
//! | what a node announces or serves lies on its disk as it should | `watch.rs` |
//! | no request while choked, for what the other lacks, for what is had, or twice at a time | `watch.rs` |
//! | what came from elsewhere is cancelled | `watch.rs` |
//! | what the journal trusts is on the disk; what was had before a kill, or durable before a power cut, is found again | `world/jobs.rs` |
//! | no piece is fetched twice, unless it was lost | `world/jobs.rs` |
//! | only who sent wrong data is banned; honest nodes break no rule in each other's eyes | `world/actions.rs` |
//! | a torrent stops with an error only if its disk failed, or a file is not its own to write | `world/actions.rs` |
//! | connections, buffers and tables are under their named limits | `world/actions.rs`, `world/links.rs` |
//! | who tells a tracker `completed` has told it `started` | `tracker.rs` |
//! | time moves, and the run ends | `world.rs` |
//!
//! The contract: a run depends on its seed and nothing else. Sources: BEP 3, 6, 12, 15.

mod dice;
mod disk;
mod frames;
mod liar;
mod network;
mod node;
mod payload;
mod scenario;
mod site;
mod trace;
mod tracker;
mod watch;
mod world;

use std::time::Duration;

pub use scenario::{Shape, shapes};
use world::World;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number it was drawn from.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub broken: Option<String>,
    /// One number for everything that happened: the same for the same seed, in any process.
    pub digest: u64,
    /// How many things happened.
    pub events: u64,
    /// How long it took by its own clock.
    pub time: Duration,
}

/// Plays the scenario of `seed`.
pub fn run(seed: u64) -> Report {
    report(seed, World::new(seed, false).run()).0
}

/// Plays the scenario of `seed`, and tells it: what is in it, and what happened when.
pub fn tell(seed: u64) -> (Report, Vec<String>) {
    report(seed, World::new(seed, true).run())
}

/// What came of a download from seeders of given rates.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    /// How much was used of what the seeders could have sent meanwhile, in percent.
    pub share: f64,
    /// When each liar was banned.
    pub bans: Vec<Duration>,
}

/// Plays a download from seeders of given rates.
///
/// # Errors
///
/// The rule that was broken, if one was: also if an honest seeder is banned.
pub fn race(shape: &Shape) -> Result<Race, String> {
    let ending = World::shaped(shape, false).run();
    let share = 100.0 * shape.ideal().as_secs_f64() / ending.done.as_secs_f64();
    ending.result.map(|()| Race { share, bans: ending.bans })
}

fn report(seed: u64, ending: world::Ending) -> (Report, Vec<String>) {
    let report = Report {
        seed,
        broken: ending.result.err(),
        digest: ending.trace.digest(),
        events: ending.trace.events(),
        time: ending.time,
    };
    let mut lines: Vec<String> = ending.scenario.to_string().lines().map(str::to_owned).collect();
    lines.extend(ending.trace.into_lines());
    (report, lines)
}

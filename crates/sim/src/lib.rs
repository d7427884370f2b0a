//! Simulates whole swarms from a seed: the real `session::core` and `piece_store` on a virtual
//! clock, a virtual network and virtual disks. Development only.
//!
//! In scope: drawing a scenario from a seed, playing it, and checking every rule meanwhile.
//! Out of scope: sockets, threads, HTTP and TLS, which the loopback suites test.
//!
//! ```
//! let report = sim::run(7);
//! assert_eq!(report.broken, None);
//! assert_eq!(report.digest, sim::run(7).digest);
//! ```
//!
//! The rules that every simulation checks:
//!
//! | rule | where |
//! |---|---|
//! | every honest node ends with the true bytes of what it wants, synced, and its next start trusts them | `world/finish.rs` |
//! | no unselected file is created or cut, the user's own files stay as they are, a seed-only node writes nothing, nothing is written through a link | `node.rs` |
//! | a node reports `completed` only if every selected file has its bytes and its length, durably, whatever else wants the file | `world/jobs.rs` |
//! | of two torrents that want the same file, one continues; the other stops and names the file | `world/actions.rs` |
//! | the advice in a message about a link works | `world/actions.rs` |
//! | the pieces that a node announces or serves are right on its disk | `watch.rs` |
//! | no request while choked, for pieces that the peer lacks, for pieces that the node has, or twice at a time | `watch.rs` |
//! | requests are cancelled once another peer has sent the block | `watch.rs` |
//! | the pieces that the journal trusts are on the disk; pieces verified before a kill, or durable before a power cut, are found again | `world/jobs.rs` |
//! | no piece is downloaded twice, unless it was lost | `world/jobs.rs` |
//! | only peers that sent wrong data are banned; honest nodes find no protocol errors in each other | `world/actions.rs` |
//! | a torrent stops with an error only if its disk failed, or a file is not its own to write | `world/actions.rs` |
//! | connections, buffers and tables are under their named limits | `world/actions.rs`, `world/links.rs` |
//! | a node that sends `completed` to a tracker has sent it `started` | `tracker.rs` |
//! | time moves, and the simulation ends | `world.rs` |
//!
//! The contract: a simulation depends only on its seed. Sources: BEP 3, 6, 12, 15.

mod disk;
mod frames;
mod liar;
mod network;
mod node;
mod payload;
mod rng;
mod scenario;
mod site;
mod trace;
mod tracker;
mod watch;
mod world;

use std::time::Duration;

pub use scenario::{Shape, shapes};
use world::World;

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The broken rule, if any.
    pub broken: Option<String>,
    /// A hash of all events: the same for the same seed, in any process.
    pub digest: u64,
    /// The number of events.
    pub events: u64,
    /// The duration by the virtual clock.
    pub time: Duration,
}

/// Plays the scenario of `seed`.
pub fn run(seed: u64) -> Report {
    report(seed, World::new(seed, false).run()).0
}

/// Plays the scenario of `seed`. Also returns the scenario and its events as text.
pub fn tell(seed: u64) -> (Report, Vec<String>) {
    report(seed, World::new(seed, true).run())
}

/// The result of a download from seeders of given rates.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    /// The share of the seeders' rates that was used, in percent.
    pub share: f64,
    /// When each liar was banned.
    pub bans: Vec<Duration>,
}

/// Plays a download from seeders of given rates.
///
/// # Errors
///
/// The broken rule, if any. Banning an honest seeder breaks one.
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

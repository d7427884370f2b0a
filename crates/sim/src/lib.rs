//! Simulates whole swarms: the real `session::engine` and `piece_store` on a virtual clock, a
//! virtual network and virtual disks. [`dht`] simulates networks of DHT nodes. Development only.
//!
//! In scope: drawing a scenario from a seed, playing it, checking every rule meanwhile.
//! Out of scope: sockets, threads, HTTP and TLS, which the loopback suites test.
//!
//! ```
//! let report = sim::play(7);
//! assert_eq!(report.broken, None);
//! assert_eq!(report.digest, sim::play(7).digest);
//! ```
//!
//! A *node* is an honest peer; a *liar* is a peer that sends wrong data or breaks the protocol.
//! What is checked in every simulation:
//!
//! | rule | where |
//! |---|---|
//! | every node ends with the true bytes of what it wants, synced, and its next start trusts them | `world/finish.rs` |
//! | unwanted files are not created, the user's own files stay unchanged, a seed-only node writes nothing, no write goes through a link, no unselected file is cut | `node.rs` |
//! | a node reports `completed` only if every wanted file has its bytes and its length, durably, whatever else wants the file | `world/jobs.rs` |
//! | of two torrents that want one file, one continues; the other one stops and names the file | `world/actions.rs` |
//! | the advice in a message about a link helps | `world/actions.rs` |
//! | the pieces that a node announces or serves are correct on its disk | `watch.rs` |
//! | a node sends no request while choked, for a piece that the peer lacks, for one that it has itself, or twice at a time | `watch.rs` |
//! | a node cancels the request for a block that another peer sent | `watch.rs` |
//! | what the journal trusts is on the disk; after a kill every verified piece is still there, after a power cut every durable one | `world/jobs.rs` |
//! | no piece is downloaded twice, unless it was lost | `world/jobs.rs` |
//! | only peers that sent wrong data are banned; no node sees another one break a rule | `world/actions.rs` |
//! | a torrent stops with an error only if its disk failed, or a file is not its own to write | `world/actions.rs` |
//! | connections, buffers and tables stay under their named limits | `world/actions.rs`, `world/links.rs` |
//! | a node that sends `completed` to a tracker has sent it `started` | `tracker.rs` |
//! | time advances, and the simulation ends | `world.rs` |
//!
//! The contract: a simulation depends on its seed and nothing else. Sources: BEP 3, 6, 12, 15.

pub mod dht;
mod disk;
mod frames;
mod liar;
mod network;
mod node;
mod payload;
mod report;
mod rng;
mod scenario;
mod site;
mod trace;
mod tracker;
mod watch;
mod world;

use std::time::Duration;

pub use report::{Report, Share};
use rng::Rng;
use scenario::Scenario;
pub use scenario::{Shape, shapes};
use world::World;

/// Plays the scenario of `seed`.
pub fn play(seed: u64) -> Report {
    report(seed, World::new(seed, false).run()).0
}

/// Plays the scenario of `seed`, and returns the scenario and every event as lines of text too.
pub fn trace(seed: u64) -> (Report, Vec<String>) {
    report(seed, World::new(seed, true).run())
}

/// The result of a download from seeders of given rates.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    /// What share of the seeders' total rate the download used, in percent.
    pub share: f64,
    /// When each liar was banned.
    pub bans: Vec<Duration>,
}

/// Plays a download from seeders of given rates.
///
/// # Errors
///
/// The rule that was broken. One of them is that no honest seeder is banned.
pub fn race(shape: &Shape) -> Result<Race, String> {
    let ending = World::of(Scenario::shaped(shape), Rng::new(0), false).run();
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
        shares: Vec::new(),
    };
    let mut lines: Vec<String> = ending.scenario.to_string().lines().map(str::to_owned).collect();
    lines.extend(ending.trace.into_lines());
    (report, lines)
}

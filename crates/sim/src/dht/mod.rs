//! Networks of DHT nodes: real `dht::Dht` values on a virtual UDP network with loss, delays, doubled
//! datagrams, NATs, outages, churn and hostile nodes.
//!
//! ```
//! let report = sim::dht::play(3);
//! assert_eq!(report.broken, None);
//! assert_eq!(report.digest, sim::dht::play(3).digest);
//! ```
//!
//! What is checked in every simulation:
//!
//! | rule | where |
//! |---|---|
//! | what a node sends: its budgets, one answer to a query, who is named, which tokens are good | `watch.rs` |
//! | tables, stores and memory are bounded | `net.rs` |
//! | a lookup ends, and asks no more than 200 nodes in a family | `net.rs` |
//! | no node believes to be at an address where it never was | `net.rs` |
//! | a node learns its address, and takes an id that fits it | `world.rs` |
//! | what honest nodes announce and put is found, also in bad times | `world.rs` |
//! | nodes behind NATs are hardly ever named to others | `world/themes.rs` |
//! | polluters at most double the queries of a lookup, and forged queries hardly slow it | `world/themes.rs` |
//! | time advances, and the simulation ends | `net.rs` |
//!
//! And in the long ones: an idle node sends at most 2 MB of queries a day, keeps a table of which nine
//! of ten nodes are alive, and does not grow (`world/long.rs`).
//!
//! Unlike in swarms, messages are made with the codec under test, which `dht` tests by tables.

mod crowd;
mod hostile;
mod net;
mod node;
mod plan;
mod rate;
mod watch;
mod world;

use crate::watch::Broken;
use crate::{Report, Share};
use world::World;

/// Plays the network of `seed`.
pub fn play(seed: u64) -> Report {
    report(seed, false).0
}

/// Plays the network of `seed`, and returns the plan and every event as lines of text too.
pub fn trace(seed: u64) -> (Report, Vec<String>) {
    report(seed, true)
}

/// A simulation that is too long for a seed, and plays the same each time.
pub type Long = fn() -> Report;

/// The long simulations, each with its name.
pub const LONG: [(&str, Long); 3] = [
    ("5,000 nodes", || report_of(0, World::large(), World::play_large).0),
    ("a day in which nodes live ten minutes", || {
        report_of(0, World::restless(), World::play_restless).0
    }),
    ("a node that is idle for 24 days", || report_of(0, World::idle(), World::play_idle).0),
];

fn report(seed: u64, readable: bool) -> (Report, Vec<String>) {
    report_of(seed, World::new(seed, readable), World::play)
}

fn report_of(
    seed: u64,
    mut world: World,
    play: fn(&mut World) -> Result<(), Broken>,
) -> (Report, Vec<String>) {
    let result = play(&mut world);
    let (plan, time, shares, trace) = world.end();
    let shares: Vec<Share> = shares.into_iter().filter(|share| share.tried > 0).collect();
    let few = shares.iter().find(|share| share.is_too_few());
    let result = result.and_then(|()| few.map_or(Ok(()), |share| Err(share.to_string())));
    let report = Report {
        seed,
        broken: result.err(),
        digest: trace.digest(),
        events: trace.events(),
        time,
        shares,
    };
    let mut lines: Vec<String> = plan.to_string().lines().map(str::to_owned).collect();
    lines.extend(trace.into_lines());
    (report, lines)
}

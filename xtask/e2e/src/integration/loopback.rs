//! bt-cli against our own trackers, seeders and leechers, on loopback.

mod commands;
mod input;
mod magnet;
mod resume;
mod swarms;
mod trackers;

use anyhow::Result;

use super::is_wanted;
use super::scene::{self, Scene};
use tasks::report::{self, Report, Tally};
use tasks::workspace;

/// A case by name. It gets a scene of its own.
type Case = (&'static str, fn(&Scene) -> Result<()>);

/// How many cases run at a time: they mostly wait.
const AT_ONCE: usize = 4;

/// Runs every case whose name contains `only`.
pub(super) fn run(only: Option<&str>) -> Result<Tally> {
    let program = workspace::build_bt_cli()?;
    let mut report = Report::new(&["area", "case"]);
    let mut all = Vec::new();
    for (area, cases) in [
        ("commands", commands::CASES),
        ("input", input::CASES),
        ("swarms", swarms::CASES),
        ("trackers", trackers::CASES),
        ("resume", resume::CASES),
        ("magnet", magnet::CASES),
    ] {
        for (name, case) in cases.iter().filter(|(name, _)| is_wanted(only, area, name)) {
            match scene::obstacle(name) {
                Some(obstacle) => report.skip(&[area, name], obstacle),
                None => all.push(report::Case::new(&[area, name], || {
                    case(&Scene::new(&program)?).map(|()| String::new())
                })),
            }
        }
    }
    report.run_parallel(AT_ONCE, all);
    Ok(report.finish())
}

//! bt-cli against our own trackers, seeders and leechers, on loopback.

mod commands;
mod input;
mod magnet;
mod resume;
mod swarms;
mod trackers;

use anyhow::Result;

use super::scene::{self, Scene};
use super::{Options, is_wanted};
use crate::clients::namespace;
use tasks::report::{self, Report, Tally};
use tasks::workspace;

/// A case by name. It gets a scene of its own.
type Case = (&'static str, fn(&Scene) -> Result<()>);

/// How many cases run at a time: they mostly wait.
const AT_ONCE: usize = 4;

/// Runs every case whose name contains `only`, in a network namespace if this machine allows one.
pub(super) fn run(options: &Options) -> Result<Tally> {
    let program = workspace::build_bt_cli()?;
    if namespace::is_inside() {
        namespace::add_addresses()?;
    } else if let Ok(flags) = namespace::network_flags() {
        return namespace::run_suite_inside(flags, &options.words("loopback"), &program);
    }
    let only = options.only.as_deref();
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

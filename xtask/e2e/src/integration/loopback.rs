//! bt-cli against our own trackers, seeders and leechers, on loopback.

mod commands;
mod input;
mod resume;
mod swarms;
mod trackers;

use std::path::Path;

use anyhow::Result;

use super::scene::{self, Scene};
use xtask::report::{Report, Tally};
use xtask::workspace;

/// A case by name. It gets a scene of its own.
type Case = (&'static str, fn(&Scene) -> Result<()>);

/// Runs every case whose name contains `only`.
pub(super) fn run(only: Option<&str>) -> Result<Tally> {
    let program = workspace::build_bt_cli()?;
    let mut report = Report::new(&["area", "case"]);
    for (area, cases) in [
        ("commands", commands::CASES),
        ("input", input::CASES),
        ("swarms", swarms::CASES),
        ("trackers", trackers::CASES),
        ("resume", resume::CASES),
    ] {
        run_area(&mut report, area, cases, only, &program);
    }
    Ok(report.finish())
}

fn run_area(report: &mut Report, area: &str, cases: &[Case], only: Option<&str>, program: &Path) {
    for (name, case) in cases {
        let wanted = only.is_none_or(|only| name.contains(only) || area == only);
        match scene::obstacle(name) {
            _ if !wanted => {}
            Some(obstacle) => report.skip(&[area, name], obstacle),
            None => report.run(&[area, name], || case(&Scene::new(program)?)),
        }
    }
}

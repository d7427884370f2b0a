//! `bt-cli download` killed at any moment, and disks that fail: nothing that was had is lost, nothing
//! is fetched twice, nothing of anybody else is touched.
//!
//! A piece counts as verified once bt-cli has said so, in a line of `--json` or to a seeder by HAVE.
//! From then on, no run may ask for it again: the seeders are ours and note every request.
//!
//! Everything runs in a mount namespace, so that disks can be small or read-only. Where the machine
//! allows none, what needs one is skipped.

mod faults;
mod had;
mod kills;
mod mounts;
mod trial;

use std::path::Path;

use anyhow::Result;

use super::Options;
use super::loopback::scene::Scene;
use crate::clients::namespace;
use crate::report::{Report, Tally};
use crate::workspace;

/// How often bt-cli is killed where time is short.
pub(crate) const SHORT: u32 = 40;
/// How often it is killed else.
const LONG: u32 = 400;

/// A disk that fails, by name: what came of it.
type Case = (&'static str, fn(&Scene) -> Result<String>);

/// Runs the suite: inside, if there is a way in.
pub(super) fn run(options: &Options) -> Result<Tally> {
    let bt_cli = workspace::build_bt_cli()?;
    match namespace::way_in_to_mounts() {
        _ if namespace::are_we_inside() => run_here(options, &bt_cli, None),
        Ok(flags) => namespace::run_suite_inside(flags, &words(options), &bt_cli),
        Err(why) => run_here(options, &bt_cli, Some(&why)),
    }
}

/// The arguments of the process inside.
fn words(options: &Options) -> Vec<String> {
    let only = options.only.iter().flat_map(|only| ["--only".to_owned(), only.clone()]);
    let numbers = [("--kills", options.kills.map(u64::from)), ("--seed", options.seed)];
    let numbers = numbers.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
    let numbers = numbers.flat_map(|(flag, value)| [flag.to_owned(), value.to_string()]);
    let suite = ["integration", "crash"].map(str::to_owned);
    suite.into_iter().chain(only).chain(numbers).collect()
}

fn run_here(options: &Options, bt_cli: &Path, no_mounts: Option<&str>) -> Result<Tally> {
    let only = options.only.as_deref();
    let mut report = Report::new(&["area", "case"]);
    kills::run(&mut report, only, bt_cli, options.kills.unwrap_or(LONG), options.seed);
    for (area, cases) in [("faults", faults::CASES), ("mounts", mounts::CASES)] {
        for (name, case) in cases {
            let obstacle = no_mounts.filter(|_| area == "mounts").map(str::to_owned);
            match obstacle.or_else(|| faults::obstacle(name)) {
                _ if !is_wanted(only, area, name) => {}
                Some(why) => report.skip(&[area, name], why),
                None => report.run(&[area, name], || case(&Scene::new(bt_cli)?)),
            }
        }
    }
    Ok(report.finish())
}

fn is_wanted(only: Option<&str>, area: &str, name: &str) -> bool {
    only.is_none_or(|only| name.contains(only) || area == only)
}

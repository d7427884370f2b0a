//! `bt-cli download` killed at any moment, and disks that fail: nothing that was had is lost,
//! nothing is fetched twice, nothing of anybody else is touched.
//!
//! A piece counts as verified once bt-cli has said so, in a line of `--json` or to a seeder by
//! HAVE. From then on, no run may ask for it again: the seeders are ours and note every request.
//!
//! Everything runs in a mount namespace, so that disks can be small or read-only. Where the machine
//! allows none, what needs one is skipped.

mod faults;
mod had;
mod kills;
mod mounts;
mod shared;
mod trial;

use std::path::Path;

use anyhow::Result;

use super::Options;
use super::scene::Scene;
use crate::clients::namespace;
use crate::draws::fresh_seed;
use xtask::report::{self, Report, Tally};
use xtask::workspace;

/// How often bt-cli is killed by default.
const KILLS: u32 = 500;
/// How often two torrents want the same file by default.
const ROUNDS: u32 = 1_000;
/// How many cases run at a time: most of their time they wait.
const SIDE_BY_SIDE: usize = 4;

/// A disk that fails, by name: what came of it.
type Case = (&'static str, fn(&Scene) -> Result<String>);

/// Runs the suite: inside, if there is a way in.
pub(super) fn run(options: &Options) -> Result<Tally> {
    let bt_cli = workspace::build_bt_cli()?;
    match namespace::way_in_to_mounts() {
        _ if namespace::are_we_inside() => run_here(options, &bt_cli, None),
        Ok(flags) => namespace::run_suite_inside(flags, &options.words("crash"), &bt_cli),
        Err(why) => run_here(options, &bt_cli, Some(&why)),
    }
}

fn run_here(options: &Options, bt_cli: &Path, no_mounts: Option<&str>) -> Result<Tally> {
    let only = options.only.as_deref();
    let mut report = Report::new(&["area", "case"]);
    let seed = options.seed.unwrap_or_else(fresh_seed);
    let mut cases = kills::cases(bt_cli, options.kills.unwrap_or(KILLS), seed);
    cases.extend(shared::cases(bt_cli, options.rounds.unwrap_or(ROUNDS), seed));
    for (area, list) in [("faults", faults::CASES), ("mounts", mounts::CASES)] {
        let obstacle = |name| no_mounts.filter(|_| area == "mounts").or(faults::obstacle(name));
        for (name, case) in list {
            match obstacle(name) {
                Some(why) if is_wanted(only, area, name) => report.skip(&[area, name], why),
                Some(_) => {}
                None => cases.push(report::Case {
                    cells: vec![area.to_owned(), (*name).to_owned()],
                    run: Box::new(move || case(&Scene::new(bt_cli)?)),
                }),
            }
        }
    }
    cases.retain(|case| is_wanted(only, &case.cells[0], &case.cells[1]));
    report.run_parallel(SIDE_BY_SIDE, cases);
    Ok(report.finish())
}

fn is_wanted(only: Option<&str>, area: &str, name: &str) -> bool {
    only.is_none_or(|only| name.contains(only) || area == only)
}

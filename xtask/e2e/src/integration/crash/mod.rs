//! `bt-cli download` killed at any moment, and disks that fail: no verified piece is lost or
//! downloaded twice, and no file of anybody else is touched.
//!
//! A piece counts as verified once bt-cli has reported it, in a line of `--json` or to a seeder by
//! HAVE. From then on, no launch may request it again: the seeders are ours and record every
//! request.
//!
//! Everything runs in a mount namespace, so that disks can be small or read-only. Where the machine
//! allows none, cases that need one are skipped.

mod faults;
mod kills;
mod links;
mod moment;
mod mounts;
mod pieces;
mod shared;
mod trial;

use std::path::Path;

use anyhow::Result;

use super::scene::Scene;
use super::{Options, is_wanted};
use crate::clients::namespace;
use crate::rng::fresh_seed;
use tasks::report::{self, Report, Tally};
use tasks::workspace;

/// How often bt-cli is killed by default.
const KILLS: u32 = 500;
/// How many rounds of two torrents that want the same file there are by default.
const ROUNDS: u32 = 1_000;
/// How many cases run at a time: most of their time they wait.
const PARALLEL: usize = 4;

/// A disk that fails, by name; the function returns a note.
type Case = (&'static str, fn(&Scene) -> Result<String>);

/// Runs the suite: in a mount namespace, if there can be one.
pub(super) fn run(options: &Options) -> Result<Tally> {
    let bt_cli = workspace::build_bt_cli()?;
    match namespace::mount_flags() {
        _ if namespace::is_inside() => {
            namespace::add_addresses()?;
            run_here(options, &bt_cli, None)
        }
        Ok(flags) => namespace::run_suite_inside(flags, &options.words("crash"), &bt_cli),
        Err(why) => run_here(options, &bt_cli, Some(&why)),
    }
}

fn run_here(options: &Options, bt_cli: &Path, no_mounts: Option<&str>) -> Result<Tally> {
    let only = options.only.as_deref();
    let mut report = Report::new(&["area", "case"]);
    let seed = options.seed.unwrap_or_else(fresh_seed);
    let kills = options.kills.unwrap_or(KILLS);
    let mut cases = kills::cases(bt_cli, kills, seed);
    cases.push(links::case(bt_cli, kills * 2 / 5, seed));
    cases.extend(shared::cases(bt_cli, options.rounds.unwrap_or(ROUNDS), seed));
    for (area, list) in [("faults", faults::CASES), ("mounts", mounts::CASES)] {
        let obstacle = |name| no_mounts.filter(|_| area == "mounts").or(faults::obstacle(name));
        for (name, case) in list {
            match obstacle(name) {
                Some(why) if is_wanted(only, area, name) => report.skip(&[area, name], why),
                Some(_) => {}
                None => {
                    cases.push(report::Case::new(&[area, name], || case(&Scene::new(bt_cli)?)));
                }
            }
        }
    }
    cases.retain(|case| is_wanted(only, &case.cells[0], &case.cells[1]));
    report.run_parallel(PARALLEL, cases);
    Ok(report.finish())
}

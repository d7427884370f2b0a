//! Hostile torrents, trackers and peers against bt-cli as a process. Each row of the report names
//! what is done; the result that it must have is beside it.

mod certificates;
mod datagrams;
mod peers;
mod redirects;
mod torrents;
mod trackers;
mod words;

use anyhow::Result;

use super::is_wanted;
use super::scene::{self, Scene, file, text};
use crate::bt_cli::Finished;
use crate::clients::namespace;
use tasks::process::find_program;
use tasks::report::{self, Report, Tally};
use tasks::workspace;

/// Does what a case is about, in a scene of its own.
type Work = Box<dyn FnOnce(&Scene) -> Result<()> + Send>;

/// A case of one of the areas below.
struct Case {
    name: &'static str,
    /// What is done.
    what: &'static str,
    work: Work,
}

fn case(
    name: &'static str,
    what: &'static str,
    work: impl FnOnce(&Scene) -> Result<()> + Send + 'static,
) -> Case {
    Case { name, what, work: Box::new(work) }
}

/// Runs `bt-cli peers` on a torrent with the tracker `url`.
fn peers_of(scene: &Scene, url: String, options: &[&str]) -> Result<Finished> {
    let payload = scene.payload(file(8).tracker(url))?;
    scene.run("user", &[&["peers", text(payload.torrent_path())?], options].concat())
}

/// How many cases run at a time: they wait for processes, and some for a timeout of 2 s.
const AT_ONCE: usize = 4;
/// The address space of each bt-cli: buffers of 40 MiB, stacks and libraries.
const ADDRESS_SPACE: u64 = 512 << 20;

/// Runs every case whose name contains `only`, in a network namespace if this machine allows one.
pub(super) fn run(only: Option<&str>) -> Result<Tally> {
    if namespace::is_inside() {
        namespace::add_addresses()?;
    } else if let Ok(flags) = namespace::network_flags() {
        let mut arguments = vec!["hostile"];
        arguments.extend(only.iter().flat_map(|only| ["--only", only]));
        return namespace::run_suite_inside(flags, &arguments, &workspace::build_bt_cli()?);
    }
    run_here(only)
}

fn run_here(only: Option<&str>) -> Result<Tally> {
    let program = workspace::build_bt_cli()?;
    let mut report = Report::new(&["area", "case", "what is done"]);
    torrents::run(&mut report, only, &program)?;
    let mut all = Vec::new();
    for (area, cases) in [
        ("trackers", trackers::cases()),
        ("redirects", redirects::cases()),
        ("certificates", certificates::cases()),
        ("datagrams", datagrams::cases()),
        ("words", words::cases()),
    ] {
        let wanted = |case: &Case| is_wanted(only, area, case.name);
        for Case { name, what, work } in cases.into_iter().filter(wanted) {
            match scene::obstacle(name) {
                Some(obstacle) => report.skip(&[area, name, what], obstacle),
                None => all.push(report::Case::new(&[area, name, what], || {
                    let scene = Scene::new(&program)?.with_address_space(ADDRESS_SPACE);
                    work(&scene).map(|()| String::new())
                })),
            }
        }
    }
    report.run_parallel(AT_ONCE, all);
    peers::run(&mut report, &program, only);
    for (program, what) in [("prlimit", "limits of memory"), ("script", "output on a terminal")] {
        if find_program(program).is_none() {
            report.skip(&["all", program, what], "not installed");
        }
    }
    Ok(report.finish())
}

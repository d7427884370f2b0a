//! Hostile torrents, trackers, peers and nodes of the DHT against bt-cli as a process. Each row of
//! the report names what is done; the result that it must have is beside it.

mod certificates;
mod datagrams;
mod dht;
mod local;
mod peers;
mod redirects;
mod torrents;
mod trackers;
mod words;

use anyhow::Result;

use super::scene::{self, Scene, file, text};
use super::{Options, is_wanted};
use crate::bt_cli::{Finished, json_lines};
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

/// A case by name, what must come of it, and the work. It gets a scene of its own, and returns a note.
type Story = (&'static str, &'static str, fn(&Scene) -> Result<String>);

/// Returns the case with these cells (its area and name come first), if it is wanted.
fn hostile_case<'a>(
    only: Option<&str>,
    cells: &[&str; 3],
    work: impl FnOnce() -> Result<String> + Send + 'a,
) -> Option<report::Case<'a>> {
    is_wanted(only, cells[0], cells[1]).then(|| report::Case::new(cells, work))
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
pub(super) fn run(options: &Options) -> Result<Tally> {
    if namespace::is_inside() {
        namespace::add_addresses()?;
        namespace::add_lan()?;
    } else if let Ok(flags) = namespace::network_flags() {
        let words = options.words("hostile");
        return namespace::run_suite_inside(flags, &words, &workspace::build_bt_cli()?);
    }
    run_here(options)
}

fn run_here(options: &Options) -> Result<Tally> {
    let program = workspace::build_bt_cli()?;
    let only = options.only.as_deref();
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
    all.extend(dht::cases(&program, only, options.short));
    all.extend(local::cases(&mut report, &program, only));
    report.run_parallel(AT_ONCE, all);
    peers::run(&mut report, &program, only);
    for (program, what) in [("prlimit", "limits of memory"), ("script", "output on a terminal")] {
        if find_program(program).is_none() {
            report.skip(&["all", program, what], "not installed");
        }
    }
    Ok(report.finish())
}

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

use super::scene::{self, Scene};
use crate::clients::namespace;
use xtask::process::find_program;
use xtask::report::{self, Report, Tally};
use xtask::workspace;

/// A case: its name, what is done, and the function that does it in a scene of its own.
type Case = (&'static str, &'static str, fn(&Scene) -> Result<()>);

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
        ("trackers", trackers::CASES),
        ("redirects", redirects::CASES),
        ("certificates", certificates::CASES),
        ("datagrams", datagrams::CASES),
        ("words", words::CASES),
    ] {
        for (name, what, work) in cases {
            let wanted = only.is_none_or(|only| name.contains(only) || area == only);
            match scene::obstacle(name) {
                _ if !wanted => {}
                Some(obstacle) => report.skip(&[area, name, what], obstacle),
                None => all.push(case([area, name, what], || {
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

fn case<'a>(
    cells: [&str; 3],
    work: impl FnOnce() -> Result<String> + Send + 'a,
) -> report::Case<'a> {
    report::Case { cells: cells.map(str::to_owned).to_vec(), run: Box::new(work) }
}

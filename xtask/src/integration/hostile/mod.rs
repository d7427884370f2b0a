//! Torrents, trackers and peers that mean no good, against bt-cli as a process. Each row says what
//! was tried; what must come of it stands beside it.

mod torrents;

use anyhow::Result;

use crate::report::{Report, Tally};
use crate::workspace;

/// Runs every case whose name contains `only`.
pub(super) fn run(only: Option<&str>) -> Result<Tally> {
    let program = workspace::build_bt_cli()?;
    let mut report = Report::new(&["area", "case", "what is tried"]);
    torrents::run(&mut report, only, &program)?;
    Ok(report.finish())
}

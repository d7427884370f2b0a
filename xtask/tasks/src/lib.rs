//! What the development tasks share, also those in packages of their own: child processes and what
//! they cost, reports of test cases, and paths of the workspace.
//!
//! ```
//! use tasks::report::{Report, Tally};
//!
//! let mut report = Report::new(&["case"]);
//! report.run(&["numbers add up"], || {
//!     anyhow::ensure!(1 + 1 == 2);
//!     Ok(())
//! });
//! assert_eq!(report.finish(), Tally { passed: 1, failed: 0, skipped: 0 });
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Processes, files and clocks.

pub mod meter;
pub mod process;
pub mod report;
pub mod workspace;

use std::process::ExitCode;

/// Prints the error of a task that failed, and returns the program's exit code.
#[must_use]
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

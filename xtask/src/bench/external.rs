//! Measurements that are programs of their own elsewhere in the workspace; their tables are shown as
//! they print them.

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{cargo, root};

/// The parsers of bencode side by side: time, then allocations. Their package is a workspace of its
/// own, for its dependencies are other people's parsers.
pub(super) fn parse() -> Result<()> {
    for program in ["parse", "allocations"] {
        run(&["--manifest-path", "xtask/bench/Cargo.toml", "--bin", program])?;
    }
    Ok(())
}

/// The kernels of SHA-1 on one core.
pub(super) fn hash() -> Result<()> {
    run(&["--package", "piece-hash", "--example", "speed"])
}

/// Many idle torrents in one session: a thousand, and ten thousand.
pub(super) fn idle() -> Result<()> {
    for torrents in ["1000", "10000"] {
        run(&["--package", "session", "--example", "idle", "--", "--torrents", torrents])?;
    }
    Ok(())
}

/// Runs a program, if it is there.
fn run(arguments: &[&str]) -> Result<()> {
    println!("\n$ cargo run --release {}", arguments.join(" "));
    let mut command = cargo();
    command.current_dir(root()).args(["run", "--release", "--quiet"]).args(arguments);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

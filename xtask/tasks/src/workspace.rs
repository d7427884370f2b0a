//! Paths of the workspace, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The environment variable with the path of a built bt-cli. The outer process sets it for the one
/// inside the namespace, where there is no network for a build; the tests for all suites.
pub const BT_CLI: &str = "BT_CLI";

/// Returns the folder with the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    xtask.and_then(Path::parent).expect("xtask is in the root folder")
}

/// Returns the cargo that runs us, with the workspace's folder as working directory.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Builds bt-cli in release mode, like its users, and returns its path. Cargo prints its progress.
pub fn build_bt_cli() -> Result<PathBuf> {
    match std::env::var_os(BT_CLI) {
        Some(built) => Ok(built.into()),
        None => Ok(build(&["bt-cli"], "release")?.join("bt-cli")),
    }
}

/// The same for the bt-cli that [`build_synced_at_end`] builds.
const SYNC_AT_END: &str = "BT_CLI_SYNC_AT_END";

/// Builds a bt-cli that syncs only once, at the end of a download, in a target folder of its own.
/// Returns the environment variable for the process inside the namespace.
pub fn build_synced_at_end() -> Result<(&'static str, PathBuf)> {
    let folder = target()?.join("sync-at-end");
    let status = cargo()
        .args(["build", "--release", "--quiet", "--package", "bt-cli"])
        .env("RUSTFLAGS", "--cfg sync_at_end")
        .env("CARGO_TARGET_DIR", &folder)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "bt-cli does not build with --cfg sync_at_end");
    Ok((SYNC_AT_END, folder.join("release").join("bt-cli")))
}

/// Returns the path of what [`build_synced_at_end`] built.
pub fn synced_at_end() -> Option<PathBuf> {
    std::env::var_os(SYNC_AT_END).map(Into::into)
}

/// Builds packages together, so that what they share is compiled once. Returns the folder of their
/// programs, which have the same names. Cargo prints its progress.
pub fn build(packages: &[&str], profile: &str) -> Result<PathBuf> {
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    let status = cargo()
        .args(["build", "--profile", profile])
        .args(packages)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(target()?.join(profile))
}

/// Returns the command that builds and runs a package's program; its arguments are still to be
/// added.
pub fn run_package(package: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", package, "--"]);
    command
}

/// Returns cargo's metadata of the workspace's own packages.
pub fn metadata() -> Result<serde_json::Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .context("cannot run cargo")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {}", problem.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Returns the workspace's target folder.
pub fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("no target_directory")?;
    Ok(target.into())
}

/// Returns the commit that is checked out, even if the sources have changed since.
pub fn commit() -> String {
    let command = ["rev-parse", "--short=10", "HEAD"];
    let output = Command::new("git").args(command).current_dir(root()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

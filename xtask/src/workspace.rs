//! Where things are, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Set by the outer process for the one inside the namespace, where there is no network to build.
pub const BT_CLI: &str = "BT_CLI";

/// The folder with the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the root")
}

/// The cargo that runs us, in the workspace's folder.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Builds bt-cli in release mode, as its users have it, and returns its path. Cargo shows its
/// progress.
pub fn build_bt_cli() -> Result<PathBuf> {
    if let Some(built) = std::env::var_os(BT_CLI) {
        return Ok(built.into());
    }
    build_release("bt-cli")
}

/// Set for the process inside the namespace: where the build is that syncs only at the end.
const SYNC_AT_END: &str = "BT_CLI_SYNC_AT_END";

/// Builds bt-cli so that it syncs only once, when all is there, in a target folder of its own. Gives
/// what the process inside is to find in its environment.
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

/// What [`build_synced_at_end`] made.
pub fn synced_at_end() -> Option<PathBuf> {
    std::env::var_os(SYNC_AT_END).map(Into::into)
}

/// Builds a package in release mode, and returns the path of its program, which has the same name.
/// Cargo shows its progress.
pub fn build_release(package: &str) -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--release", "--package", package])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "{package} does not build");
    let program = target()?.join("release").join(package);
    ensure!(program.is_file(), "cargo built no {}", program.display());
    Ok(program)
}

/// The command that builds a package with a program and runs it; arguments are still to be added.
pub fn run_package(package: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", package, "--"]);
    command
}

/// What cargo knows about the workspace's own packages.
pub fn metadata() -> Result<serde_json::Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .context("cannot run cargo")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {}", problem.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The workspace's target folder.
pub fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("no target_directory")?;
    Ok(target.into())
}

/// The commit that is checked out, or that of which a changed state is.
pub fn commit() -> String {
    let command = ["rev-parse", "--short=10", "HEAD"];
    let output = Command::new("git").args(command).current_dir(root()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

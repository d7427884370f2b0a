//! Where things are, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Set by the outer process for the one inside the namespace, where there is no network to build.
pub(crate) const BT_CLI: &str = "BT_CLI";

/// The folder with the workspace's Cargo.toml.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the root")
}

/// The cargo that runs us, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Builds bt-cli in release mode, as its users have it, and says where it is.
pub(crate) fn build_bt_cli() -> Result<PathBuf> {
    if let Some(built) = std::env::var_os(BT_CLI) {
        return Ok(built.into());
    }
    build_release("bt-cli")
}

/// Builds a package in release mode, and says where its program of the same name is.
pub(crate) fn build_release(package: &str) -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--release", "--quiet", "--package", package])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "{package} does not build");
    let program = target()?.join("release").join(package);
    ensure!(program.is_file(), "cargo built no {}", program.display());
    Ok(program)
}

/// What cargo knows about the workspace's own packages.
pub(crate) fn metadata() -> Result<serde_json::Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .context("cannot run cargo")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {}", problem.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("no target_directory")?;
    Ok(target.into())
}

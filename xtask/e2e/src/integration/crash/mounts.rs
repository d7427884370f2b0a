//! Disks that are full or can't be written: file systems of our own, in our own namespace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::Payload;

use super::Case;
use super::faults::tree;
use super::trial::{End, Trial};
use crate::integration::scene::{Scene, file};

pub(super) const CASES: &[Case] = &[
    ("a full disk", full_disk),
    ("a full disk, many files", full_disk_of_files),
    ("no room for another file", no_inode),
    ("no room to reserve", no_room_to_reserve),
    ("a full disk under the journal", full_journal),
    ("a read-only disk from the start", read_only),
    ("a read-only disk during the run", read_only_during),
    ("a read-only disk under the journal", read_only_journal),
];

/// A file system in memory. Unmounted when dropped.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// A tmpfs at `at`, which is made, with these options.
    fn tmpfs(at: PathBuf, options: &str) -> Result<Self> {
        fs::create_dir_all(&at)?;
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &at)?;
        Ok(Self { at })
    }

    /// The folder `at` once more, over itself, read-only.
    fn read_only_over(at: PathBuf) -> Result<Self> {
        let place = at.to_str().context("a path that is text")?.to_owned();
        mount(&["--bind", &place], &at)?;
        let mount = Self { at };
        mount.remount("bind,ro")?;
        Ok(mount)
    }

    fn remount(&self, options: &str) -> Result<()> {
        mount(&["-o", &format!("remount,{options}")], &self.at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // With the namespace it goes in any case.
        let _gone = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> Result<()> {
    let output = Command::new("mount").args(arguments).arg(at).output()?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mount {arguments:?}: {}", problem.trim());
    Ok(())
}

fn full_disk(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.folder(), "size=3m")?;
    let launch = trial.start(&trial.command())?;
    let message = trial.fails(launch, &["file.bin", "write", "no space left"])?;
    // Still full: nothing has changed, nothing is lost.
    trial.fails(trial.start(&trial.command())?, &["file.bin", "write", "no space left"])?;
    disk.remount("size=16m")?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn full_disk_of_files(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let disk = Mount::tmpfs(trial.folder(), "size=2500k")?;
    let launch = trial.start(&trial.command())?;
    let message = trial.fails(launch, &["tree/", "write", "no space left"])?;
    disk.remount("size=16m")?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn no_inode(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let disk = Mount::tmpfs(trial.folder(), "size=16m,nr_inodes=14")?;
    let launch = trial.start(&trial.command())?;
    let message = trial.fails(launch, &["tree/", "create", "no space left"])?;
    disk.remount("nr_inodes=100")?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn no_room_to_reserve(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.folder(), "size=3m")?;
    let mut command = trial.command();
    let launch = trial.start(command.arg("--preallocate"))?;
    let message = trial.fails(launch, &["file.bin", "reserve space for", "no space left"])?;
    ensure!(trial.had.is_empty(), "something was fetched");
    disk.remount("size=16m")?;
    Ok(format!("{message}; {}", trial.goes_on_with(&BTreeSet::new(), &["--preallocate"])?))
}

/// Something else takes all room that is left; the journal's page in use still takes some records.
fn full_journal(scene: &Scene) -> Result<String> {
    let builder = Payload::file("file.bin", 6 << 20).piece_length(16 * 1024);
    let mut trial = Trial::new(scene, builder)?;
    let _disk = Mount::tmpfs(trial.state(), "size=128k")?;
    let launch = trial.underway(&trial.command())?;
    let ballast = trial.state().join("ballast");
    ensure!(fs::write(&ballast, vec![1; 1 << 20]).is_err(), "it never got full");
    let message = trial.fails(launch, &[".journal", "write", "free some space"])?;
    trial.fails(trial.start(&trial.command())?, &["state/bt-cli", "free some space"])?;
    fs::remove_file(ballast)?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn read_only(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.folder(), "size=16m,ro")?;
    let launch = trial.start(&trial.command())?;
    let message = trial.fails(launch, &["file.bin", "create", "read-only"])?;
    ensure!(trial.had.is_empty(), "something was had");
    disk.remount("rw")?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

/// The kernel lets nobody make a file system read-only in which files are open to be written; but it
/// can be laid over itself, so that no file in it can be opened any more.
fn read_only_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let launch = trial.underway(&trial.command())?;
    let disk = Mount::read_only_over(trial.folder().join("tree"))?;
    let message = trial.fails(launch, &["tree/", "create", "read-only"])?;
    drop(disk);
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn read_only_journal(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.state(), "size=1m")?;
    let launch = trial.underway(&trial.command())?;
    trial.end(launch, End::Killed)?;
    disk.remount("ro")?;
    let message = trial.fails(trial.start(&trial.command())?, &["state/bt-cli", "read-only"])?;
    disk.remount("rw")?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

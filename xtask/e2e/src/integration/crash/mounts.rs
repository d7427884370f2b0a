//! Disks that are full or read-only: file systems in our own mount namespace.

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
    ("no inode for another file", no_inode),
    ("no space to reserve", no_room_to_reserve),
    ("a full disk with the journal", full_journal),
    ("a read-only disk from the start", read_only),
    ("a read-only disk during a download", read_only_during),
    ("a read-only disk with the journal", read_only_journal),
];

/// A file system in memory. Unmounted when dropped.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts a tmpfs at `at`, which is created, with these options.
    fn tmpfs(at: PathBuf, options: &str) -> Result<Self> {
        fs::create_dir_all(&at)?;
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &at)?;
        Ok(Self { at })
    }

    /// Mounts the folder `at` over itself, read-only from the first moment. A mount that becomes
    /// read-only in a second step is busy if a file in it was opened for writing in between.
    fn read_only_over(at: PathBuf) -> Result<Self> {
        let folder = at.to_str().context("a path that is text")?;
        let aside = tempfile::tempdir()?;
        let read_only = Self { at: aside.path().to_owned() };
        mount(&["--bind", folder], aside.path())?;
        read_only.remount("bind,ro")?;
        mount(&["--bind", aside.path().to_str().context("a path that is text")?], &at)?;
        drop(read_only);
        Ok(Self { at })
    }

    fn remount(&self, options: &str) -> Result<()> {
        mount(&["-o", &format!("remount,{options}")], &self.at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It ends with the namespace in any case.
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
    let message = trial.expect_refusal(&["file.bin", "write", "no space left"])?;
    // Still full: nothing has changed, nothing is lost.
    trial.expect_refusal(&["file.bin", "write", "no space left"])?;
    disk.remount("size=16m")?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn full_disk_of_files(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let disk = Mount::tmpfs(trial.folder(), "size=2500k")?;
    let message = trial.expect_refusal(&["tree/", "write", "no space left"])?;
    disk.remount("size=16m")?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn no_inode(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let disk = Mount::tmpfs(trial.folder(), "size=16m,nr_inodes=14")?;
    let message = trial.expect_refusal(&["tree/", "create", "no space left"])?;
    disk.remount("nr_inodes=100")?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn no_room_to_reserve(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.folder(), "size=3m")?;
    let mut command = trial.command();
    let launch = trial.start(command.arg("--preallocate"))?;
    let message =
        trial.expect_failure(launch, &["file.bin", "reserve space for", "no space left"])?;
    ensure!(trial.verified.is_empty(), "something was downloaded");
    disk.remount("size=16m")?;
    Ok(format!("{message}; {}", trial.resume_with(&BTreeSet::new(), &["--preallocate"])?))
}

/// Another file takes all space that is left. The last page of the journal still has room for some
/// records.
fn full_journal(scene: &Scene) -> Result<String> {
    let builder = Payload::file("file.bin", 6 << 20).piece_length(16 * 1024);
    let mut trial = Trial::new(scene, builder)?;
    let _disk = Mount::tmpfs(trial.state(), "size=128k")?;
    let launch = trial.start_and_wait()?;
    let ballast = trial.state().join("ballast");
    ensure!(fs::write(&ballast, vec![1; 1 << 20]).is_err(), "it never got full");
    let message = trial.expect_failure(launch, &[".journal", "write", "free some space"])?;
    trial.expect_refusal(&["state/bt-cli", "free some space"])?;
    fs::remove_file(ballast)?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn read_only(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.folder(), "size=16m,ro")?;
    let message = trial.expect_refusal(&["file.bin", "create", "read-only"])?;
    ensure!(trial.verified.is_empty(), "a piece was verified");
    disk.remount("rw")?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

/// The kernel refuses to make a file system read-only while files are open for writing. But it can
/// be mounted over itself, so that no other file in it can be opened.
fn read_only_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, tree())?;
    let disk = Mount::read_only_over(trial.folder().join("tree"))?;
    let message = trial.expect_failure(launch, &["tree/", "create", "read-only"])?;
    drop(disk);
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn read_only_journal(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let disk = Mount::tmpfs(trial.state(), "size=1m")?;
    let launch = trial.start_and_wait()?;
    trial.end(launch, End::Killed)?;
    disk.remount("ro")?;
    let message = trial.expect_refusal(&["state/bt-cli", "read-only"])?;
    disk.remount("rw")?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

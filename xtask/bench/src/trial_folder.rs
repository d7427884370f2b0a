//! The folder of a benchmark's files.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const PREFIX: &str = "bt-bench-";
const PART: usize = 1024 * 1024;

/// A folder that is removed when it is dropped; if we are killed, the next launch removes it.
#[derive(Debug)]
pub(super) struct TrialFolder(PathBuf);

impl TrialFolder {
    /// Creates it in `folder`; by default in memory (/dev/shm), or in the folder of temporary
    /// files.
    pub(super) fn new(folder: Option<&Path>) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let temporary = std::env::temp_dir();
        let parent = folder.unwrap_or(if memory.is_dir() { memory } else { &temporary });
        remove_forgotten(parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path.canonicalize()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns a new empty folder of that name, and removes an old one.
    pub(super) fn empty(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Writes and removes a file of `size` bytes. Virtual machines that return freed memory to
    /// their host are slow at touching it again, and that must not affect a measurement.
    pub(super) fn warm_up_memory(&self, size: u64) -> Result<()> {
        let path = self.0.join("warm-up");
        let mut file = File::create(&path)?;
        let part = vec![1; PART];
        for _ in 0..size.div_ceil(PART as u64) {
            file.write_all(&part)?;
        }
        Ok(fs::remove_file(path)?)
    }
}

impl Drop for TrialFolder {
    fn drop(&mut self) {
        let _next_launch_removes_it = fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of processes that have ended.
fn remove_forgotten(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).filter(|id| id.parse::<u32>().is_ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _not_ours = fs::remove_dir_all(entry.path());
        }
    }
}

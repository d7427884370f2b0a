//! Where a benchmark puts its files.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const PREFIX: &str = "bt-bench-";
const PART: usize = 1024 * 1024;

/// A folder of our own that is removed in the end; should we be killed, by the next run.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// Below `folder`; or where files are memory, if there is such a place; or else where temporary
    /// files are.
    pub(super) fn new(folder: Option<&Path>) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let temporary = std::env::temp_dir();
        let parent = folder.unwrap_or(if memory.is_dir() { memory } else { &temporary });
        remove_forgotten(parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path.canonicalize()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A new empty folder; what was there by that name is gone.
    pub(super) fn empty(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Writes and removes a file of `size` bytes. Virtual machines that give freed memory back to
    /// their host make whoever touches it first pay for it; nobody measured shall be the first.
    pub(super) fn even_out(&self, size: u64) -> Result<()> {
        let path = self.0.join("evened-out");
        let mut file = File::create(&path)?;
        let part = vec![1; PART];
        for _ in 0..size.div_ceil(PART as u64) {
            file.write_all(&part)?;
        }
        Ok(fs::remove_file(path)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _left_to_the_next_run = fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of runs whose process is gone.
fn remove_forgotten(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).filter(|id| id.parse::<u32>().is_ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _somebody_elses = fs::remove_dir_all(entry.path());
        }
    }
}

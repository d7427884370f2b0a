//! What a launch knows of the DHT, for the next one: `dht` in the state folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The name of the file.
const NAME: &str = "dht";

/// The file, which belongs to this process as long as it is locked: two nodes must not have the
/// same ids.
#[derive(Debug)]
pub(crate) struct DhtFile {
    path: PathBuf,
    _lock: File,
}

impl DhtFile {
    /// Takes the file in a state folder; `None` if another process has it, or it cannot be locked.
    pub(crate) fn take(state_dir: &Path) -> Option<Self> {
        let lock = File::create(state_dir.join("dht.lock")).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self { path: state_dir.join(NAME), _lock: lock })
    }

    /// Returns what was saved last in a state folder, also if another process has the file. The ids in
    /// it may be that process's.
    pub(crate) fn peek(state_dir: &Path) -> Option<Vec<u8>> {
        fs::read(state_dir.join(NAME)).ok()
    }

    /// Returns what was saved last.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        fs::read(&self.path).ok()
    }

    /// Saves, whole or not at all. It is not synced: if it is lost, the nodes are found again.
    pub(crate) fn save(&self, bytes: &[u8]) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_belongs_to_one_process() {
        let state = tempfile::tempdir().unwrap();
        let first = DhtFile::take(state.path()).unwrap();
        assert!(DhtFile::take(state.path()).is_none());
        assert_eq!((first.read(), DhtFile::peek(state.path())), (None, None));
        first.save(b"nodes").unwrap();
        assert_eq!(DhtFile::peek(state.path()).as_deref(), Some(&b"nodes"[..]));
        drop(first);
        let next = DhtFile::take(state.path()).unwrap();
        assert_eq!(next.read().as_deref(), Some(&b"nodes"[..]));
    }
}

//! What a launch knows of the DHT, for the next one: `dht` in the state folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use session::DhtConfig;

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
    /// Has the node of `config` start with what was saved last in a state folder, and takes the file
    /// for it. `None` if another process has the file, or it cannot be locked: then the node gets ids
    /// of its own.
    pub(crate) fn take_for(config: &mut DhtConfig, state_dir: &Path) -> Option<Self> {
        let file = Self::take(state_dir);
        (config.state, config.new_ids) = (Self::read(state_dir), file.is_none());
        file
    }

    fn take(state_dir: &Path) -> Option<Self> {
        let lock = File::create(state_dir.join("dht.lock")).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self { path: state_dir.join(NAME), _lock: lock })
    }

    /// Returns what was saved last in a state folder, whichever process has the file.
    pub(crate) fn read(state_dir: &Path) -> Option<Vec<u8>> {
        fs::read(state_dir.join(NAME)).ok()
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
        let take = || {
            let mut config = DhtConfig::new();
            let file = DhtFile::take_for(&mut config, state.path());
            (file, config.state, config.new_ids)
        };
        let (first, saved, new_ids) = take();
        assert_eq!((saved, new_ids), (None, false));
        first.as_ref().unwrap().save(b"nodes").unwrap();
        let (second, saved, new_ids) = take();
        assert!(second.is_none() && new_ids, "the ids are in use");
        assert_eq!(saved.as_deref(), Some(&b"nodes"[..]), "the nodes are of use all the same");
        drop(first);
        let (next, saved, new_ids) = take();
        assert!(next.is_some() && !new_ids);
        assert_eq!(saved.as_deref(), Some(&b"nodes"[..]));
    }
}

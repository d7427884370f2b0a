//! What is in a file: as the system shows it, and as it would be after a power cut.

use std::path::Path;

use super::State;

impl State {
    /// Whether the file shows these bytes at `offset`.
    pub(crate) fn shows(&self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        self.file_at(path).is_some_and(|inode| has(self.shown(inode), offset, bytes))
    }

    /// Whether the bytes would survive a power cut now that keeps no unsynced change.
    pub(crate) fn keeps(&self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        self.durable_file_at(path).is_some_and(|inode| has(self.durable(inode), offset, bytes))
    }

    /// Whether the file has exactly these bytes and would keep them after a power cut. An empty
    /// file need not survive: it can be created again.
    pub(crate) fn keeps_whole(&self, path: &Path, bytes: &[u8]) -> bool {
        let shown = self.file_at(path).is_some_and(|inode| self.shown(inode) == bytes);
        let kept = || self.durable_file_at(path).is_some_and(|inode| self.durable(inode) == bytes);
        shown && (bytes.is_empty() || kept())
    }

    /// Returns the content of the file.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        self.file_at(path).map(|inode| self.shown(inode).to_vec()).unwrap_or_default()
    }

    /// Returns the length of the file; `None` if there is none.
    pub(crate) fn length(&self, path: &Path) -> Option<u64> {
        self.file_at(path).map(|inode| self.shown(inode).len() as u64)
    }
}

fn has(content: &[u8], offset: u64, bytes: &[u8]) -> bool {
    content.get(offset as usize..).is_some_and(|rest| rest.starts_with(bytes))
}

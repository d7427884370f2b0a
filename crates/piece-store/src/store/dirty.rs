//! What must be synced before pieces are durable.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};

use super::open_files::UnsyncedFile;

/// Above this many files, one sync of the whole file system is cheaper than one sync per file.
const MAX_DIRTY_FILES: usize = 64;

/// Files that were written, or read to be verified, by slot number.
///
/// They stay open so that the system reports its errors. If they are more than [`MAX_DIRTY_FILES`],
/// or more than [`OpenFiles::hold_unsynced`](super::open_files::OpenFiles::hold_unsynced) allows
/// all torrents, some are not held open, and the whole file system is synced.
#[derive(Debug)]
pub(super) struct Touched<F>(BTreeMap<u32, Option<UnsyncedFile<F>>>);

impl<F> Touched<F> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether no more files are held open.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_DIRTY_FILES
    }

    /// Whether some files are not held open.
    pub(super) fn has_closed(&self) -> bool {
        self.0.values().any(Option::is_none)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.0.contains_key(&slot)
    }

    /// The numbers of the slots, ascending.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// Adds `file`; `None` if it is not held open. A file that was closed stays closed, because a
    /// file that is opened again does not report its earlier errors.
    ///
    /// `None` replaces an open file too. A selected file that is given up is removed and created
    /// again in the same slot. The open file may be the removed one, whose sync would prove
    /// nothing.
    pub(super) fn push(&mut self, slot: u32, file: Option<UnsyncedFile<F>>) {
        let is_full = self.is_full();
        match self.0.entry(slot) {
            Entry::Vacant(entry) => _ = entry.insert(file.filter(|_| !is_full)),
            Entry::Occupied(mut entry) if entry.get().is_some() => _ = entry.insert(file),
            Entry::Occupied(_) => {}
        }
    }

    /// Closes all files except that of slot `keep`, which may be on another file system.
    pub(super) fn close_except(&mut self, keep: u32) {
        self.0.iter_mut().filter(|(slot, _)| **slot != keep).for_each(|(_, file)| *file = None);
    }

    /// The numbers of the slots, ascending, each with its file unless that was closed.
    pub(super) fn into_files(self) -> impl Iterator<Item = (u32, Option<UnsyncedFile<F>>)> {
        self.0.into_iter()
    }
}

/// What must be synced before pieces are durable.
#[derive(Debug)]
pub(super) struct Dirty<F> {
    pub(super) touched: Touched<F>,
    /// Folders in which names may be new, relative to the download folder.
    pub(super) folders: BTreeSet<PathBuf>,
}

impl<F> Default for Dirty<F> {
    fn default() -> Self {
        Self { touched: Touched::new(), folders: BTreeSet::new() }
    }
}

impl<F> Dirty<F> {
    /// Records that the name `path` may be new, and the names of the folders above it.
    pub(super) fn add_name(&mut self, path: &Path) {
        self.folders.extend(path.ancestors().skip(1).map(Path::to_owned));
    }
}

//! A disk, and what all torrents that are open on it share.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lock::Locks;
use super::open_files::OpenFiles;
use crate::{Access, Disk, MAX_OPEN_FILES, is_out_of_descriptors};

/// A disk, the table of open files, and the locks of the torrents that are open on it.
#[derive(Debug)]
pub struct SharedDisk<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) files: OpenFiles<D::File>,
    locks: Mutex<Locks<D::File>>,
    /// The paths of download and state folders: most torrents are in the same ones.
    paths: Mutex<BTreeSet<Arc<Path>>>,
}

impl<D: Disk> SharedDisk<D> {
    /// A table of at most [`MAX_OPEN_FILES`] files on `disk`.
    pub fn new(disk: Arc<D>) -> Self {
        Self::with_open_files(disk, MAX_OPEN_FILES)
    }

    /// A table of at most `open_files` files on `disk`, at least 1; see
    /// [`Resources`](crate::Resources).
    pub fn with_open_files(disk: Arc<D>, open_files: usize) -> Self {
        let files = OpenFiles::new(open_files);
        Self { disk, files, locks: Mutex::default(), paths: Mutex::default() }
    }

    /// The locks of the open torrents.
    pub(super) fn locks(&self) -> MutexGuard<'_, Locks<D::File>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `path`, in memory that all owners of the same path share.
    pub(super) fn share_path(&self, path: &Path) -> Arc<Path> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = paths.get(path) {
            return Arc::clone(known);
        }
        // Paths without other owners are dropped each time the table has doubled.
        if paths.len().is_power_of_two() {
            paths.retain(|path| Arc::strong_count(path) > 1);
        }
        let path: Arc<Path> = path.into();
        paths.insert(Arc::clone(&path));
        path
    }

    /// Opens the file `path` below `folder`; see [`Self::make_room`].
    pub(super) fn open(
        &self,
        folder: &D::Folder,
        path: &Path,
        access: Access,
    ) -> io::Result<D::File> {
        self.make_room(|| self.disk.open(folder, path, access))
    }

    /// Opens a file or a folder by `open`. While the process has too many files open, closes half
    /// of the table and tries again.
    pub(super) fn make_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut can_shrink = true;
        loop {
            match open() {
                // Tries once more even if nothing was closed: another thread may have closed some.
                Err(error) if is_out_of_descriptors(error.raw_os_error()) && can_shrink => {
                    can_shrink = self.files.shrink();
                }
                opened => return opened,
            }
        }
    }
}

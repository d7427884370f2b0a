//! Locks that say which process has a torrent open. The kernel frees them when the process ends,
//! however it ends.
//!
//! A torrent is a range of bytes in one of a few lock files, which have no content. So an idle
//! torrent costs no descriptor. Every process locks the range from the same start. The length of
//! the range names the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::record::JournalName;
use super::shared::SharedDisk;
use crate::{Access, Disk, FileId, Operation, StoreError};

/// How many lock files a state folder has. For each lock the kernel walks the list of all locks of
/// the file.
const LOCK_FILES: u64 = 16;
/// How many low bits of a range's start are 0. Process numbers have at most 22 bits.
const PROCESS_BITS: u32 = 23;

/// The locks that a pool holds in one state folder.
#[derive(Debug)]
pub(super) struct Locks<F>(BTreeMap<(PathBuf, u64), LockFile<F>>);

#[derive(Debug)]
struct LockFile<F> {
    file: F,
    id: FileId,
    /// Starts of the ranges that this pool holds. The kernel lets one open file lock a range twice.
    held: BTreeSet<u64>,
}

impl<F> Default for Locks<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A state folder, open.
#[derive(Debug)]
pub(super) struct StateFolder<'a, D: Disk> {
    pub(super) shared: &'a SharedDisk<D>,
    pub(super) folder: &'a D::Folder,
    /// Its canonical path.
    pub(super) path: &'a Path,
}

impl<D: Disk> StateFolder<'_, D> {
    /// Locks the torrent whose journal is called `name`; `save_path` is for the error.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; the disk fails.
    pub(super) fn lock(&self, name: JournalName, save_path: &Path) -> Result<(), StoreError> {
        let mut locks = self.shared.locks();
        let pid = self.shared.disk.process_id();
        let (number, range) = locked_range(name, pid);
        let failed = |error| self.error(&file_name(number), &error);
        let in_use = |pid| StoreError::InUse { path: save_path.to_owned(), pid };
        let lock = self.lock_file(&mut locks, number)?;
        if lock.held.contains(&range.start) {
            return Err(in_use(Some(pid)));
        }
        if !self.shared.disk.lock_range(&lock.file, &range).map_err(failed)? {
            let holder = self.shared.disk.range_holder(&lock.file, &range).map_err(failed)?;
            return Err(in_use(holder.map(|range| (range.end - range.start - 1) as u32)));
        }
        lock.held.insert(range.start);
        Ok(())
    }

    /// Whether the torrent is open in this process or another.
    pub(super) fn is_in_use(&self, name: JournalName) -> Result<bool, StoreError> {
        let mut locks = self.shared.locks();
        let (number, range) = locked_range(name, self.shared.disk.process_id());
        let lock = self.lock_file(&mut locks, number)?;
        let holder = self.shared.disk.range_holder(&lock.file, &range);
        let holder = holder.map_err(|error| self.error(&file_name(number), &error))?;
        Ok(holder.is_some() || lock.held.contains(&range.start))
    }

    /// Unlocks the torrent.
    pub(super) fn unlock(&self, name: JournalName) {
        let mut locks = self.shared.locks();
        let (number, range) = locked_range(name, self.shared.disk.process_id());
        let Some(lock) = locks.0.get_mut(&(self.path.to_owned(), number)) else { return };
        lock.held.remove(&range.start);
        if let Err(error) = self.shared.disk.unlock_range(&lock.file, &range) {
            log::warn!("cannot release {}: {error}", self.path.join(file_name(number)).display());
        }
    }

    /// Returns the open lock file. If another program removed or replaced it, opens the new one and
    /// locks there the ranges that this pool holds.
    fn lock_file<'l>(
        &self,
        locks: &'l mut Locks<D::File>,
        number: u64,
    ) -> Result<&'l mut LockFile<D::File>, StoreError> {
        let name = file_name(number);
        let failed = |error| self.error(&name, &error);
        let key = (self.path.to_owned(), number);
        let named = self.shared.disk.stat(self.folder, &name).map_err(failed)?.map(|stat| stat.id);
        let known = locks.0.get(&key);
        if known.is_none_or(|lock| named != Some(lock.id)) {
            let held = known.map(|lock| lock.held.clone()).unwrap_or_default();
            let lock = self.open_lock_file(&name, held).map_err(failed)?;
            locks.0.insert(key.clone(), lock);
        }
        let missing = || failed(std::io::ErrorKind::NotFound.into());
        locks.0.get_mut(&key).ok_or_else(missing)
    }

    fn open_lock_file(
        &self,
        name: &Path,
        held: BTreeSet<u64>,
    ) -> std::io::Result<LockFile<D::File>> {
        let file = self.shared.open(self.folder, name, Access::Create)?;
        for start in &held {
            let range = *start..start + range_length(self.shared.disk.process_id());
            if !self.shared.disk.lock_range(&file, &range)? {
                return Err(std::io::ErrorKind::ResourceBusy.into());
            }
        }
        let id = self.shared.disk.file_stat(&file)?.id;
        Ok(LockFile { file, id, held })
    }

    pub(super) fn error(&self, name: &Path, error: &std::io::Error) -> StoreError {
        StoreError::disk(Operation::Lock, &self.path.join(name), error)
    }
}

/// Returns the number of a torrent's lock file, and the range that the process `pid` locks in it.
fn locked_range(name: JournalName, pid: u32) -> (u64, Range<u64>) {
    let number = name.number();
    let start = (number / LOCK_FILES) << PROCESS_BITS & i64::MAX.cast_unsigned();
    (number % LOCK_FILES, start..start + range_length(pid))
}

fn range_length(pid: u32) -> u64 {
    1 + u64::from(pid) % (1 << (PROCESS_BITS - 1))
}

fn file_name(number: u64) -> PathBuf {
    PathBuf::from(format!("locks-{number:x}"))
}

//! A table of open files, shared by all torrents of a pool. The files that were not used for the
//! longest time are closed when there is no room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many files can be written at the same time. Two files share a lock if their numbers leave
/// the same remainder.
const WRITE_LOCKS: usize = 64;

/// A file of a torrent: the number of its store, then the number of its slot.
pub(super) type FileKey = (u64, u32);

/// The share of the open files that may wait for a sync: one in so many.
const UNSYNCED_SHARE: usize = 3;

/// The table.
#[derive(Debug)]
pub(super) struct OpenFiles<F> {
    /// How many files are open at most, not counting those in use.
    limit: usize,
    /// How many files wait for a sync; see [`UnsyncedFile`].
    unsynced: Arc<AtomicUsize>,
    table: Mutex<Table<F>>,
    write_locks: [Mutex<()>; WRITE_LOCKS],
}

#[derive(Debug)]
struct Table<F> {
    open: BTreeMap<FileKey, Entry<F>>,
    by_use: BTreeMap<u64, FileKey>,
    uses: u64,
    stores: u64,
}

#[derive(Debug)]
struct Entry<F> {
    file: Arc<F>,
    writable: bool,
    last_use: u64,
}

/// An open file that waits for a sync. It stays open until this is dropped.
#[derive(Debug)]
pub(super) struct UnsyncedFile<F> {
    pub(super) file: Arc<F>,
    count: Arc<AtomicUsize>,
}

impl<F> Drop for UnsyncedFile<F> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F> OpenFiles<F> {
    /// A table that keeps at most `limit` files open, at least 1.
    pub(super) fn new(limit: usize) -> Self {
        let (open, by_use) = (BTreeMap::new(), BTreeMap::new());
        let table = Mutex::new(Table { open, by_use, uses: 0, stores: 0 });
        let (limit, unsynced) = (limit.max(1), Arc::default());
        Self { limit, unsynced, table, write_locks: std::array::from_fn(|_| Mutex::default()) }
    }

    fn table(&self) -> MutexGuard<'_, Table<F>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other store has.
    pub(super) fn new_store(&self) -> u64 {
        let mut table = self.table();
        table.stores += 1;
        table.stores
    }

    /// The open file, if it is in the table and, if asked for, can be written.
    pub(super) fn get(&self, key: FileKey, writable: bool) -> Option<Arc<F>> {
        self.table().get(key, writable)
    }

    /// Adds an open file.
    pub(super) fn insert(&self, key: FileKey, file: Arc<F>, writable: bool) {
        self.table().insert(key, file, writable, self.limit);
    }

    /// Keeps a file open until it is synced. `None` if no more files may wait for a sync.
    pub(super) fn hold_unsynced(&self, file: Arc<F>) -> Option<UnsyncedFile<F>> {
        let held = UnsyncedFile { file, count: Arc::clone(&self.unsynced) };
        let before = self.unsynced.fetch_add(1, Ordering::Relaxed);
        (before < self.limit.div_ceil(UNSYNCED_SHARE)).then_some(held)
    }

    /// Locks a file against other writers. The system admits one writer at a time to a file and
    /// lets the others spin. Here they sleep, and their core is free for other threads.
    pub(super) fn write_lock(&self, (store, slot): FileKey) -> MutexGuard<'_, ()> {
        let number = (store as usize).wrapping_add(slot as usize) % WRITE_LOCKS;
        self.write_locks[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a file.
    pub(super) fn close_file(&self, key: FileKey) {
        self.table().remove(key);
    }

    /// Closes all files of a store.
    pub(super) fn close_store(&self, store: u64) {
        let mut table = self.table();
        let keys: Vec<FileKey> =
            table.open.range((store, 0)..=(store, u32::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| table.remove(key));
    }

    /// Closes half of the table. Returns whether it closed any file.
    pub(super) fn shrink(&self) -> bool {
        let mut table = self.table();
        let keep = table.open.len() / 2;
        table.shrink_to(keep)
    }
}

impl<F> Table<F> {
    fn get(&mut self, key: FileKey, writable: bool) -> Option<Arc<F>> {
        let entry = self.open.get_mut(&key)?;
        if writable && !entry.writable {
            return None;
        }
        self.uses += 1;
        self.by_use.remove(&entry.last_use);
        self.by_use.insert(self.uses, key);
        entry.last_use = self.uses;
        Some(Arc::clone(&entry.file))
    }

    fn insert(&mut self, key: FileKey, file: Arc<F>, writable: bool, limit: usize) {
        if !writable && self.open.get(&key).is_some_and(|entry| entry.writable) {
            // Closing the writable one would give up its lock.
            return;
        }
        self.remove(key);
        self.shrink_to(limit - 1);
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        self.open.insert(key, Entry { file, writable, last_use: self.uses });
    }

    fn remove(&mut self, key: FileKey) {
        if let Some(entry) = self.open.remove(&key) {
            self.by_use.remove(&entry.last_use);
        }
    }

    /// Closes the files that were not used for the longest time, until `count` are left. Files in
    /// use stay open: a file that is being written must stay locked. Returns whether it closed any.
    fn shrink_to(&mut self, count: usize) -> bool {
        let surplus = self.open.len().saturating_sub(count);
        let is_idle = |key: &FileKey| {
            self.open.get(key).is_some_and(|entry| Arc::strong_count(&entry.file) == 1)
        };
        let idle: Vec<FileKey> =
            self.by_use.values().copied().filter(is_idle).take(surplus).collect();
        let closes = !idle.is_empty();
        idle.into_iter().for_each(|key| self.remove(key));
        closes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_is_closed() {
        let files = OpenFiles::new(5);
        for file in 0..5 {
            files.insert((1, file), Arc::new(file), false);
        }
        assert!(files.get((1, 0), false).is_some());
        files.insert((2, 0), Arc::new(0), true);
        assert!(files.get((1, 0), false).is_some(), "it was used a moment ago");
        assert!(files.get((1, 1), false).is_none(), "it was not used for longest");
        assert!(files.get((1, 2), true).is_none(), "it can't be written");
        files.close_store(1);
        assert!(files.get((1, 0), false).is_none() && files.get((2, 0), true).is_some());
    }

    #[test]
    fn shrinking_halves() {
        let files = OpenFiles::new(20);
        (0..10).for_each(|file| files.insert((1, file), Arc::new(file), false));
        assert!(files.shrink());
        let open = (0..10).filter(|file| files.get((1, *file), false).is_some()).count();
        assert_eq!(open, 5);
    }

    #[test]
    fn unsynced_files_are_limited() {
        let files = OpenFiles::new(7);
        let mut held: Vec<_> = (0..3).map(|file| files.hold_unsynced(Arc::new(file))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(files.hold_unsynced(Arc::new(3)).is_none(), "one past the limit");
        held.pop();
        assert!(files.hold_unsynced(Arc::new(4)).is_some(), "one was synced");
    }
}

//! A table of open files, shared by all torrents of a pool: those not used for the longest time are
//! closed when there is no room.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lock::Locks;
use crate::{Disk, MAX_OPEN_FILES};

/// How many files can be written at the same time: of two whose numbers leave the same rest, one
/// waits.
const WRITE_TURNS: usize = 64;

/// A file of a torrent: the number its store drew, then the number of the file.
pub(super) type HandleKey = (u64, usize);

/// The part of the open files that may wait for a sync: one in so many.
const KEPT_SHARE: usize = 3;

/// The table.
#[derive(Debug)]
pub struct Handles<F> {
    /// How many files are open at most, but for more that are in use.
    limit: usize,
    /// How many files wait for a sync; see [`Kept`].
    kept: Arc<AtomicUsize>,
    table: Mutex<Table<F>>,
    locks: Mutex<Locks<F>>,
    /// The paths of folders that torrents are in, most of them in the same.
    paths: Mutex<BTreeSet<Arc<Path>>>,
    turns: [Mutex<()>; WRITE_TURNS],
}

#[derive(Debug)]
struct Table<F> {
    open: BTreeMap<HandleKey, Handle<F>>,
    by_use: BTreeMap<u64, HandleKey>,
    uses: u64,
    stores: u64,
}

#[derive(Debug)]
struct Handle<F> {
    file: Arc<F>,
    writable: bool,
    last_use: u64,
}

/// An open file that waits for a sync. Only its drop closes it.
#[derive(Debug)]
pub(super) struct Kept<F> {
    pub(super) file: Arc<F>,
    count: Arc<AtomicUsize>,
}

impl<F> Drop for Kept<F> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F> Default for Handles<F> {
    /// A table for [`MAX_OPEN_FILES`].
    fn default() -> Self {
        Self::new(MAX_OPEN_FILES)
    }
}

impl<F> Handles<F> {
    /// A table that keeps at most `limit` files open, at least 1.
    pub fn new(limit: usize) -> Self {
        let (open, by_use) = (BTreeMap::new(), BTreeMap::new());
        let table = Mutex::new(Table { open, by_use, uses: 0, stores: 0 });
        let (locks, paths) = (Mutex::default(), Mutex::default());
        let (limit, kept) = (limit.max(1), Arc::default());
        Self { limit, kept, table, locks, paths, turns: std::array::from_fn(|_| Mutex::default()) }
    }

    fn table(&self) -> MutexGuard<'_, Table<F>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locks of the open torrents.
    pub(super) fn locks(&self) -> MutexGuard<'_, Locks<F>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path, shared with others who have the same.
    pub(super) fn share(&self, path: &Path) -> Arc<Path> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = paths.get(path) {
            return Arc::clone(known);
        }
        // Those that nobody has any more are forgotten each time the table has doubled.
        if paths.len().is_power_of_two() {
            paths.retain(|path| Arc::strong_count(path) > 1);
        }
        let path: Arc<Path> = path.into();
        paths.insert(Arc::clone(&path));
        path
    }

    /// A number no other store has.
    pub(super) fn new_store(&self) -> u64 {
        let mut table = self.table();
        table.stores += 1;
        table.stores
    }

    /// The open file, if it is in the table and, if asked for, can be written.
    pub(super) fn get(&self, key: HandleKey, writable: bool) -> Option<Arc<F>> {
        self.table().get(key, writable)
    }

    /// Puts an open file in.
    pub(super) fn insert(&self, key: HandleKey, file: Arc<F>, writable: bool) {
        self.table().insert(key, file, writable, self.limit);
    }

    /// Keeps a file open until it is synced. `None` if as many are kept as may be.
    pub(super) fn keep(&self, file: Arc<F>) -> Option<Kept<F>> {
        let kept = Kept { file, count: Arc::clone(&self.kept) };
        let before = self.kept.fetch_add(1, Ordering::Relaxed);
        (before < self.limit.div_ceil(KEPT_SHARE)).then_some(kept)
    }

    /// The turn to write to a file. The system lets one writer at a time into a file, and has the
    /// others spin: here they sleep, and their core is free for who has something to do.
    pub(super) fn write_turn(&self, (store, file): HandleKey) -> MutexGuard<'_, ()> {
        let number = (store as usize).wrapping_add(file) % WRITE_TURNS;
        self.turns[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a file.
    pub(super) fn forget_one(&self, key: HandleKey) {
        self.table().remove(key);
    }

    /// Closes all files of a store.
    pub(super) fn forget(&self, store: u64) {
        let mut table = self.table();
        let keys: Vec<HandleKey> =
            table.open.range((store, 0)..=(store, usize::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| table.remove(key));
    }

    /// Opens a file or a folder by `open`. While the process has too many open, closes half of the
    /// table and tries again.
    pub(super) fn make_room<D: Disk<File = F>, T>(
        &self,
        disk: &D,
        open: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut can_shrink = true;
        loop {
            match open() {
                // The last time even if there was nothing to close: others may have closed theirs.
                Err(error) if disk.is_out_of_handles(&error) && can_shrink => {
                    can_shrink = self.shrink();
                }
                opened => return opened,
            }
        }
    }

    /// Closes half of the table; says whether it closed any.
    fn shrink(&self) -> bool {
        let mut table = self.table();
        let keep = table.open.len() / 2;
        table.shrink_to(keep)
    }
}

impl<F> Table<F> {
    fn get(&mut self, key: HandleKey, writable: bool) -> Option<Arc<F>> {
        let handle = self.open.get_mut(&key)?;
        if writable && !handle.writable {
            return None;
        }
        self.uses += 1;
        self.by_use.remove(&handle.last_use);
        self.by_use.insert(self.uses, key);
        handle.last_use = self.uses;
        Some(Arc::clone(&handle.file))
    }

    fn insert(&mut self, key: HandleKey, file: Arc<F>, writable: bool, limit: usize) {
        if !writable && self.open.get(&key).is_some_and(|handle| handle.writable) {
            // To close it would give up its lock.
            return;
        }
        self.remove(key);
        self.shrink_to(limit - 1);
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        self.open.insert(key, Handle { file, writable, last_use: self.uses });
    }

    fn remove(&mut self, key: HandleKey) {
        if let Some(handle) = self.open.remove(&key) {
            self.by_use.remove(&handle.last_use);
        }
    }

    /// Closes the files that were not used for the longest time, but none that somebody uses now: a
    /// file that is being written must stay locked. Says whether it closed any.
    fn shrink_to(&mut self, count: usize) -> bool {
        let surplus = self.open.len().saturating_sub(count);
        let is_idle = |key: &HandleKey| {
            self.open.get(key).is_some_and(|handle| Arc::strong_count(&handle.file) == 1)
        };
        let idle: Vec<HandleKey> =
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
    fn the_least_recently_used_is_closed() {
        let handles = Handles::new(5);
        for file in 0..5 {
            handles.insert((1, file), Arc::new(file), false);
        }
        assert!(handles.get((1, 0), false).is_some());
        handles.insert((2, 0), Arc::new(0), true);
        assert!(handles.get((1, 0), false).is_some(), "it was used a moment ago");
        assert!(handles.get((1, 1), false).is_none(), "it was used longest ago");
        assert!(handles.get((1, 2), true).is_none(), "it can't be written");
        handles.forget(1);
        assert!(handles.get((1, 0), false).is_none() && handles.get((2, 0), true).is_some());
    }

    #[test]
    fn shrinking_halves() {
        let handles = Handles::new(20);
        (0..10).for_each(|file| handles.insert((1, file), Arc::new(file), false));
        assert!(handles.shrink());
        let open = (0..10).filter(|file| handles.get((1, *file), false).is_some()).count();
        assert_eq!(open, 5);
    }

    #[test]
    fn kept_files_are_limited() {
        let handles = Handles::new(7);
        let mut kept: Vec<_> = (0..3).map(|file| handles.keep(Arc::new(file))).collect();
        assert!(kept.iter().all(Option::is_some));
        assert!(handles.keep(Arc::new(3)).is_none(), "one past the limit");
        kept.pop();
        assert!(handles.keep(Arc::new(4)).is_some(), "one was synced");
    }
}

//! How many threads and open files fit into a number of file descriptors.

use std::num::NonZero;

/// The most files that the table keeps open by default. A process may usually have 1024
/// descriptors, sockets included.
pub const MAX_OPEN_FILES: usize = 384;

/// The descriptors besides those of the table and the threads: `/dev/null`, the download folder,
/// the state folder, a lock file, the journal and the one that replaces it, the parts file, and the
/// file of zeros.
const FIXED: usize = 8;
/// The descriptors of one thread besides the table: two folders on the way to a file, and the file
/// that was just opened.
const PER_THREAD: usize = 3;
/// The share of the descriptors that threads may use: one in so many.
const THREADS_SHARE: usize = 3;

/// How many threads and open files the store may use.
///
/// Files in use are never closed: those that a thread reads or writes, those that an
/// [`Extent`](crate::Extent) holds, and those that wait for a sync. At most a third of `open_files`
/// wait for a sync, over all torrents; for others the whole file system is synced. The caller must
/// not hold extents in more than two thirds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// How many threads work; 0 for one per core, at least 2.
    pub workers: usize,
    /// How many files of all torrents together are open, at least 1.
    pub open_files: usize,
}

impl Default for Resources {
    /// Returns one thread per core, at least 2, and [`MAX_OPEN_FILES`].
    fn default() -> Self {
        Self::with_workers(0)
    }
}

impl Resources {
    /// Returns `workers` threads, 0 for one per core, and [`MAX_OPEN_FILES`].
    pub fn with_workers(workers: usize) -> Self {
        Self { workers, open_files: MAX_OPEN_FILES }
    }

    /// Returns what fits into `descriptors`: at most `workers` threads, 0 for one per core, and at
    /// most [`MAX_OPEN_FILES`]. Fewer than 20 descriptors are not enough for one thread and three
    /// files. Each further torrent that is written to takes three more, and each further folder
    /// one.
    ///
    /// ```
    /// use piece_store::{MAX_OPEN_FILES, Resources};
    ///
    /// let few = Resources::within(24, 8);
    /// assert_eq!(few, Resources { workers: 1, open_files: 10 });
    /// assert_eq!(Resources::within(1024, 8).open_files, MAX_OPEN_FILES);
    /// ```
    pub fn within(descriptors: usize, workers: usize) -> Self {
        let all = Self::with_workers(worker_count(workers));
        if all.descriptors() <= descriptors {
            return all;
        }
        let room = descriptors.saturating_sub(FIXED);
        let most = room / THREADS_SHARE / PER_THREAD;
        let workers = all.workers.min(most).max(1);
        let open_files = room.saturating_sub(threads(workers));
        Self { workers, open_files: open_files.clamp(1, MAX_OPEN_FILES) }
    }

    /// Returns how many descriptors these need.
    pub fn descriptors(self) -> usize {
        FIXED + threads(worker_count(self.workers)) + self.open_files
    }
}

/// The descriptors of this many workers and the thread that syncs.
fn threads(workers: usize) -> usize {
    (workers + 1) * PER_THREAD
}

/// `wanted` threads; for 0, one per core and at least 2.
pub(crate) fn worker_count(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(2, NonZero::get).max(2),
        wanted => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_fit_into_descriptors() {
        for descriptors in 20..2000 {
            let fitted = Resources::within(descriptors, 64);
            assert!(fitted.descriptors() <= descriptors, "{descriptors}: {fitted:?}");
            assert!(fitted.open_files >= 3, "{descriptors}: {fitted:?}");
        }
        let plenty = Resources { workers: 64, open_files: MAX_OPEN_FILES };
        assert_eq!(Resources::within(plenty.descriptors(), 64), plenty);
        assert!(Resources::within(plenty.descriptors() - 1, 64).open_files < MAX_OPEN_FILES);
    }
}

//! Divides the pieces of a torrent among threads, for a command. Blocks until it is done.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bt_types::Geometry;
use piece_hash::lane_count;

use crate::StoreError;
use crate::hashing::range_count;
use crate::resources::worker_count;
use crate::store::STRIP_LENGTH;

/// Calls `work` on `workers` threads (0 for one per core) for one range of pieces after another,
/// each thread with [`STRIP_LENGTH`] bytes of scratch, until all pieces are done or one range
/// failed. `progress` gets the bytes done and the total bytes, from any of the threads.
///
/// # Errors
/// The first error of `work`.
pub(super) fn for_each_range(
    geometry: &Geometry,
    workers: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
    work: impl Fn(Range<u32>, &mut [u8]) -> Result<(), StoreError> + Sync,
) -> Result<(), StoreError> {
    let workers = worker_count(workers);
    let shares = Mutex::new(Shares { left: 0..geometry.piece_count(), done: 0, error: None });
    let serve = || {
        let mut scratch = vec![0; STRIP_LENGTH];
        loop {
            let range = lock(&shares).take(range_count(geometry), workers);
            if range.is_empty() {
                return;
            }
            let result = work(range.clone(), &mut scratch);
            let done = lock(&shares).finish(geometry, range, result);
            progress(done, geometry.total());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(serve);
        }
    });
    let error = lock(&shares).error.take();
    error.map_or(Ok(()), Err)
}

/// What the threads share.
struct Shares {
    /// The pieces that no thread has taken yet.
    left: Range<u32>,
    /// How many bytes are done.
    done: u64,
    error: Option<StoreError>,
}

impl Shares {
    /// Takes the next range: `most` pieces, and fewer towards the end, so that all threads end at
    /// the same time.
    fn take(&mut self, most: u32, workers: usize) -> Range<u32> {
        let share = self.left.len() / (2 * workers);
        let count = (share.max(lane_count()) as u32).min(most);
        let start = self.left.start;
        self.left.start = start.saturating_add(count).min(self.left.end);
        start..self.left.start
    }

    /// Records that a range is done. Returns how many bytes are done now. After an error no more
    /// ranges are taken.
    fn finish(
        &mut self,
        geometry: &Geometry,
        range: Range<u32>,
        result: Result<(), StoreError>,
    ) -> u64 {
        match result {
            Ok(()) => {
                let lengths = range.filter_map(|index| geometry.piece(index));
                self.done += lengths.map(|piece| u64::from(geometry.length_of(piece))).sum::<u64>();
            }
            Err(error) => {
                self.error.get_or_insert(error);
                self.left.start = self.left.end;
            }
        }
        self.done
    }
}

fn lock(shares: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

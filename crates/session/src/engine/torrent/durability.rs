//! Verified data that is not synced yet, and when to sync it.

use std::time::Duration;

use crate::limits::{MAX_UNSYNCED, SYNC_AGE, SYNC_BYTES};

/// How much verified data of a torrent is not synced yet. Takes no memory if all is synced.
///
/// A build with `--cfg sync_at_end`, to measure against, syncs at the end only.
#[derive(Debug, Default)]
pub(crate) struct Durability(Option<Box<Unsynced>>);

#[derive(Debug, Default)]
struct Unsynced {
    bytes: u64,
    /// When the oldest data was written, without that of the sync under way.
    oldest: Option<Duration>,
    /// How many bytes the sync under way covers.
    syncing: Option<u64>,
    /// Whether a sync waits for another one on the file system.
    waiting: bool,
}

impl Durability {
    /// Counts data that was verified and written at `now`.
    pub(crate) fn handle_written(&mut self, now: Duration, bytes: u64) {
        if bytes > 0 {
            let unsynced = self.0.get_or_insert_default();
            unsynced.bytes += bytes;
            unsynced.oldest.get_or_insert(now);
        }
    }

    pub(crate) fn handle_synced(&mut self, now: Duration) {
        let Some(unsynced) = &mut self.0 else { return };
        unsynced.bytes -= unsynced.syncing.take().unwrap_or(0).min(unsynced.bytes);
        match unsynced.bytes {
            0 => self.0 = None,
            _ => _ = unsynced.oldest.get_or_insert(now),
        }
    }

    pub(crate) fn begin_sync(&mut self) {
        if let Some(unsynced) = &mut self.0 {
            unsynced.syncing = Some(unsynced.bytes);
            unsynced.oldest = None;
        }
    }

    /// A due sync waits for that of another torrent, or no longer does.
    pub(crate) fn set_waiting(&mut self, waiting: bool) {
        if let Some(unsynced) = &mut self.0 {
            unsynced.waiting = waiting;
        }
    }

    /// Whether to sync now; `at_once` does so for any amount.
    pub(crate) fn is_sync_due(&self, now: Duration, at_once: bool) -> bool {
        let Some(unsynced) = self.0.as_ref().filter(|unsynced| unsynced.is_idle()) else {
            return false;
        };
        let due = unsynced.bytes >= SYNC_BYTES || self.deadline().is_some_and(|at| at <= now);
        at_once || (due && !cfg!(sync_at_end))
    }

    /// When the oldest data must be synced.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let unsynced = self.0.as_ref().filter(|unsynced| unsynced.is_idle())?;
        unsynced.oldest.filter(|_| !cfg!(sync_at_end)).map(|at| at + SYNC_AGE)
    }

    /// Whether so much is unsynced that no new piece may be opened.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = |unsynced: &Unsynced| unsynced.bytes >= MAX_UNSYNCED;
        self.0.as_deref().is_some_and(is_full) && !cfg!(sync_at_end)
    }

    /// Whether everything verified was synced.
    pub(crate) fn is_clean(&self) -> bool {
        self.0.is_none()
    }
}

impl Unsynced {
    /// Whether no sync is under way or waits.
    fn is_idle(&self) -> bool {
        self.syncing.is_none() && !self.waiting
    }
}

//! Answers of the store.

use std::ops::Range;
use std::time::Duration;

use bt_types::{Bitfield, PieceIndex};
use piece_store::{CommitResult, Done, Extent, Job, Opened, Span, StoreError, TorrentKey};
use rand::RngExt as _;
use swarm::{Source, SpanLayout};

use super::Engine;
use super::disk::RangeKey;
use super::disk_failure::torrent_error;
use crate::event::{EventKind, StopReason};

impl<F> Engine<F> {
    /// The store answered a job.
    pub fn handle_done(&mut self, now: Duration, done: Done<F>) {
        self.now = now;
        match done {
            Done::InfoChecked { torrent, attempt, result } => {
                self.finish_job(torrent, [], |engine| {
                    engine.handle_info_checked(torrent, attempt, result);
                });
            }
            Done::Opened { torrent, result } => {
                self.finish_job(torrent, [], |engine| engine.handle_opened(torrent, result));
            }
            Done::Checked { torrent, pieces, good, error } => {
                self.finish_job(torrent, [], |engine| {
                    engine.handle_checked(torrent, &pieces, &good, error);
                });
            }
            Done::CheckFinished { torrent, result } => {
                self.finish_job(torrent, [], |engine| engine.finish_check(torrent, result));
            }
            Done::Committed { torrent, piece, spans, result } => {
                let spans = spans.into_iter().flatten();
                self.finish_job(torrent, spans, |engine| {
                    engine.handle_committed(torrent, piece, result);
                });
            }
            Done::Staged { torrent, piece, span, result, .. } => {
                self.finish_job(torrent, [span], |engine| {
                    engine.handle_staged(torrent, piece, result);
                });
            }
            Done::Ready { torrent, piece, range, result } => {
                let range = RangeKey::named(torrent, piece, &range);
                self.finish_job(torrent, [], |engine| engine.handle_ready(torrent, range, result));
            }
            Done::Synced { torrent, result, lost } => {
                self.finish_job(torrent, [], |engine| engine.handle_synced(torrent, result, &lost));
            }
            Done::Closed { torrent, result, spans } => {
                self.finish_job(torrent, spans, |engine| {
                    engine.handle_closed_store(torrent, result);
                });
            }
        }
        self.settle();
    }

    /// Counts a job as answered, takes its buffers back, and has `handle` act on the answer.
    fn finish_job(
        &mut self,
        key: TorrentKey,
        spans: impl IntoIterator<Item = Span>,
        handle: impl FnOnce(&mut Self),
    ) {
        let Some(torrent) = self.torrents.get_mut(key) else { return };
        torrent.jobs -= 1;
        self.take_back(key, spans);
        handle(self);
        self.advance_stop(key);
        self.drain(key);
    }

    /// Takes buffers of a torrent back and releases their memory.
    pub(super) fn take_back(&mut self, key: TorrentKey, spans: impl IntoIterator<Item = Span>) {
        for span in spans {
            let layout = SpanLayout::new(self.torrents[key].geometry());
            self.disk.buffers.give(layout.span_length(), span);
        }
    }

    fn handle_opened(&mut self, key: TorrentKey, result: Result<Box<Opened>, StoreError>) {
        match result {
            Ok(opened) => {
                self.torrents[key].handle_opened(*opened);
                self.continue_check(key);
            }
            Err(error) => self.leave(key, StopReason::Failed(torrent_error(&error)), false),
        }
    }

    fn handle_checked(
        &mut self,
        key: TorrentKey,
        pieces: &Range<u32>,
        good: &[u32],
        error: Option<StoreError>,
    ) {
        if let Some(error) = error {
            return self.fail(key, &error);
        }
        let Some(check) = self.torrents[key].check_mut() else { return };
        check.handle_checked(self.now, pieces, good);
        let (done, total) = (check.done, check.total);
        self.emit(key, EventKind::Checking { done, total });
        self.continue_check(key);
    }

    fn continue_check(&mut self, key: TorrentKey) {
        let Some(check) = self.torrents[key].check_mut() else { return };
        let jobs = check.next_jobs(key, self.config.verify_jobs.max(1));
        jobs.into_iter().for_each(|job| self.submit(key, job));
    }

    fn finish_check(&mut self, key: TorrentKey, result: Result<Bitfield, StoreError>) {
        let have = match result {
            Ok(have) => have,
            Err(error) => return self.fail(key, &error),
        };
        let torrent = &mut self.torrents[key];
        let Some(check) = torrent.check_mut() else { return };
        check.handle_finished(self.now, have);
        let seed = self.rng.random();
        let events = torrent.begin_transfer(self.now, &self.config, seed);
        let peers = torrent.add.peers.clone();
        events.into_iter().for_each(|event| self.emit(key, event));
        self.begin_on_links(key);
        self.seek_peers(key);
        self.take_candidates(key, Source::User, &peers);
        self.report_completion(key);
    }

    fn handle_committed(&mut self, key: TorrentKey, piece: PieceIndex, result: CommitResult) {
        match &result {
            CommitResult::Verified { .. } => self.emit(key, EventKind::PieceVerified(piece)),
            CommitResult::Mismatch { .. } => self.emit(key, EventKind::PieceFailed(piece)),
            CommitResult::Failed(_) => {}
        }
        let transfer = self.torrents.transfer(key);
        if let Err(error) = transfer.handle_committed(self.now, piece, result) {
            self.fail(key, &error);
        }
    }

    fn handle_staged(
        &mut self,
        key: TorrentKey,
        piece: PieceIndex,
        result: Result<(), StoreError>,
    ) {
        let buffers = &mut self.torrents.transfer(key).buffers;
        let waited = buffers.handle_staged(key, piece, result.is_ok());
        waited.into_iter().for_each(|job| self.submit(key, job));
        if let Err(error) = result {
            self.fail(key, &error);
        }
    }

    /// A range was read for peers.
    fn handle_ready(
        &mut self,
        key: TorrentKey,
        range: RangeKey,
        result: Result<Vec<Extent<F>>, StoreError>,
    ) {
        self.disk.reads.end_read(range);
        match result {
            Ok(extents) => self.send_range(range, extents),
            // A failed sync has just lost the piece. The answer to that sync stops the torrent.
            Err(StoreError::Missing { .. }) => {}
            Err(error) => self.fail(key, &error),
        }
        self.read_ranges();
    }

    fn handle_synced(&mut self, key: TorrentKey, result: Result<(), StoreError>, lost: &[u32]) {
        let transfer = self.torrents.transfer(key);
        transfer.handle_synced(self.now, lost);
        let file_system = transfer.file_system;
        self.disk.syncs.handle_finished(file_system);
        match result {
            Ok(()) => self.report_completion(key),
            Err(error) => self.fail(key, &error),
        }
        self.next_sync(file_system);
    }

    /// Starts the next sync that waits for this file system.
    fn next_sync(&mut self, file_system: u64) {
        while let Some(next) = self.disk.syncs.next_waiting(file_system) {
            if let Some(transfer) = self.torrents.running_mut(next) {
                transfer.durability.set_waiting(false);
                self.sync_if_due(next);
                self.torrents.set_timer(next);
            }
        }
    }

    fn handle_closed_store(&mut self, key: TorrentKey, result: Result<(), StoreError>) {
        let torrent = &mut self.torrents[key];
        if let Err(error) = result {
            torrent.note_error(torrent_error(&error));
        }
        if torrent.is_stopping() {
            self.say_goodbye(key);
        }
    }

    /// Starts a sync once one is due, or lines it up.
    pub(super) fn sync_if_due(&mut self, key: TorrentKey) {
        let Some(transfer) = self.torrents.running_mut(key) else { return };
        if !transfer.is_sync_due(self.now) {
            return;
        }
        if self.disk.syncs.admit(transfer.file_system, key) {
            transfer.durability.begin_sync();
            self.submit(key, Job::Sync { torrent: key });
        } else {
            transfer.durability.set_waiting(true);
        }
    }

    /// Notifies the user once every wanted piece is verified and synced.
    pub(super) fn report_completion(&mut self, key: TorrentKey) {
        if self.torrents[key].take_completion(self.now) {
            self.disk.buffers.shrink();
            self.emit(key, EventKind::Completed);
        }
    }
}

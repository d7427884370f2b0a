//! What the store answered.

use std::ops::Range;
use std::time::Duration;

use bt_types::{Bitfield, PieceIndex};
use piece_store::{Done, Extent, Job, Opened, Outcome, Span, StoreError, TorrentKey};
use swarm::Committed;

use super::Engine;
use super::resident::RunKey;
use super::torrent::Phase;
use crate::event::EventKind;

impl<F> Engine<F> {
    /// The store answered a job.
    pub fn handle_done(&mut self, now: Duration, done: Done<F>) {
        self.now = now;
        match done {
            Done::Opened { torrent, result } => {
                self.finish_job(torrent, [], |engine| engine.handle_opened(torrent, result));
            }
            Done::Checked { torrent, pieces, good, error } => {
                self.finish_job(torrent, [], |engine| {
                    engine.handle_checked(torrent, pieces, &good, error);
                });
            }
            Done::CheckFinished { torrent, result } => {
                self.finish_job(torrent, [], |engine| {
                    engine.handle_check_finished(torrent, result);
                });
            }
            Done::Committed { torrent, piece, spans, outcome } => {
                let spans = spans.into_iter().flatten();
                self.finish_job(torrent, spans, |engine| {
                    engine.handle_committed(torrent, piece, outcome);
                });
            }
            Done::Staged { torrent, piece, span, result, .. } => {
                self.finish_job(torrent, [span], |engine| {
                    engine.handle_staged(torrent, piece, result);
                });
            }
            Done::Ready { torrent, piece, range, result } => {
                let run = RunKey::named(torrent, piece, &range);
                self.finish_job(torrent, [], |engine| engine.handle_ready(torrent, run, result));
            }
            Done::Synced { torrent, result, lost } => {
                self.finish_job(torrent, [], |engine| engine.handle_synced(torrent, result, &lost));
            }
            Done::Closed { torrent, result, spans } => {
                self.finish_job(torrent, spans, |engine| {
                    engine.handle_closed_store(torrent, result);
                });
            }
            _ => log::error!("an answer of the store that the session does not know"),
        }
        self.settle();
    }

    /// Counts a job as answered, takes its buffers back, lets `handle` act on the answer, and goes
    /// on with the torrent.
    fn finish_job(
        &mut self,
        key: TorrentKey,
        spans: impl IntoIterator<Item = Span>,
        handle: impl FnOnce(&mut Self),
    ) {
        self.jobs = self.jobs.saturating_sub(1);
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.jobs = torrent.jobs.saturating_sub(1);
        self.take_back(key, spans);
        handle(self);
        self.advance_stop(key);
        self.drain(key);
    }

    fn handle_opened(&mut self, key: TorrentKey, result: Result<Box<Opened>, StoreError>) {
        let now = self.now;
        let opened = match result {
            Ok(opened) => *opened,
            Err(error) => return self.fail(key, &error),
        };
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.earlier = (opened.downloaded, opened.uploaded);
        torrent.file_system = opened.file_system;
        if let Phase::Opening = torrent.phase {
            torrent.begin_check(now, opened);
            self.continue_check(key);
        }
    }

    fn handle_checked(
        &mut self,
        key: TorrentKey,
        pieces: Range<u32>,
        good: &[u32],
        error: Option<StoreError>,
    ) {
        if let Some(error) = error {
            return self.fail(key, &error);
        }
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let geometry = torrent.geometry();
        let Phase::Checking(check) = &mut torrent.phase else { return };
        check.running -= 1;
        check.done += pieces.len() as u32;
        let mut bytes = 0;
        for piece in good.iter().filter_map(|index| geometry.piece(*index)) {
            let length = geometry.length_of(piece);
            let new = check.opened.have.insert(piece);
            if new && check.opened.wanted.contains(piece) {
                torrent.progress.gain(torrent.add.metainfo.info(), piece);
            }
            bytes += u64::from(length);
        }
        let (done, total) = (check.done, check.total);
        if bytes > 0 {
            torrent.durability.handle_written(now, bytes);
        }
        self.emit(key, EventKind::Checking { done, total });
        self.continue_check(key);
    }

    fn handle_check_finished(&mut self, key: TorrentKey, result: Result<Bitfield, StoreError>) {
        let have = match result {
            Ok(have) => have,
            Err(error) => return self.fail(key, &error),
        };
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let geometry = torrent.geometry();
        let Phase::Checking(check) = &mut torrent.phase else { return };
        let before = std::mem::replace(&mut check.opened.have, have);
        let imported = geometry
            .pieces()
            .filter(|piece| check.opened.have.contains(*piece) && !before.contains(*piece));
        let bytes: u64 = imported.map(|piece| u64::from(geometry.length_of(piece))).sum();
        if bytes > 0 {
            torrent.durability.handle_written(now, bytes);
        }
        self.begin_transfer(key);
    }

    fn handle_committed(&mut self, key: TorrentKey, piece: PieceIndex, outcome: Outcome) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let length = u64::from(torrent.geometry().length_of(piece));
        let mut failed = None;
        let committed = match outcome {
            Outcome::Verified { digests } => {
                torrent.durability.handle_written(now, length);
                torrent.progress.gain(torrent.add.metainfo.info(), piece);
                torrent.last_piece_at = now;
                self.emit(key, EventKind::PieceVerified(piece));
                Committed::Verified { digests }
            }
            Outcome::Mismatch { digests } => {
                self.emit(key, EventKind::PieceFailed(piece));
                Committed::Mismatch { digests }
            }
            Outcome::Failed(error) => {
                failed = Some(error);
                Committed::Failed
            }
            _ => Committed::Failed,
        };
        if let Some(swarm) = self.torrents.get_mut(&key).and_then(|torrent| torrent.swarm_mut()) {
            swarm.handle_committed(now, piece, committed);
        }
        if let Some(error) = failed {
            self.fail(key, &error);
        }
    }

    fn handle_staged(
        &mut self,
        key: TorrentKey,
        piece: PieceIndex,
        result: Result<(), StoreError>,
    ) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let waited = torrent.open.handle_staged(piece);
        waited.into_iter().for_each(|job| self.submit(key, job));
        match result {
            Ok(()) => self.commit_if_ready(key, piece),
            Err(error) => self.fail(key, &error),
        }
    }

    /// A run is resident: the blocks of it that peers asked for may be sent.
    fn handle_ready(
        &mut self,
        key: TorrentKey,
        run: RunKey,
        result: Result<Vec<Extent<F>>, StoreError>,
    ) {
        self.resident.end_read(run);
        match result {
            Ok(extents) => self.send_run(run, extents),
            // A failed sync took the piece a moment ago. Its own answer stops the torrent, and
            // tells why.
            Err(StoreError::NotHad { .. }) => {}
            Err(error) => self.fail(key, &error),
        }
        self.read_runs();
    }

    /// The run is resident: whoever waits for it sends it.
    fn send_run(&mut self, run: RunKey, extents: Vec<Extent<F>>) {
        let (run, wanted) = self.resident.finish(self.now, run, extents);
        for (link_key, request) in wanted {
            let Some(link) = self.links.get_mut(link_key) else { continue };
            link.reading = link.reading.saturating_sub(u64::from(request.length()));
            link.take_run(request, &run);
            self.transmit(link_key);
            self.serve(link_key);
        }
    }

    fn handle_synced(&mut self, key: TorrentKey, result: Result<(), StoreError>, lost: &[u32]) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.durability.handle_synced(now);
        let (geometry, file_system) = (torrent.geometry(), torrent.file_system);
        if let Some(swarm) = torrent.swarm_mut() {
            let lost = lost.iter().filter_map(|index| geometry.piece(*index));
            lost.for_each(|piece| swarm.handle_lost(now, piece));
        }
        self.syncs.handle_finished(file_system);
        match result {
            Ok(()) => self.report_completion(key),
            Err(error) => self.fail(key, &error),
        }
        self.next_sync(file_system);
    }

    /// Lets the next torrent sync that waits for this file system.
    fn next_sync(&mut self, file_system: u64) {
        while let Some(next) = self.syncs.next_waiting(file_system) {
            if let Some(torrent) = self.torrents.get_mut(&next) {
                torrent.durability.set_waiting(false);
                self.sync_if_due(next);
                self.set_timer(next);
            }
        }
    }

    fn handle_closed_store(&mut self, key: TorrentKey, result: Result<(), StoreError>) {
        if let Err(error) = result {
            self.note_error(key, &error);
        }
        if self.torrents.get(&key).is_some_and(|torrent| torrent.is_stopping()) {
            self.say_goodbye(key);
        }
    }

    /// Starts a sync once enough is unsynced, or everything is there and only that is missing.
    pub(super) fn sync_if_due(&mut self, key: TorrentKey) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if !torrent.is_transferring()
            || !torrent.durability.is_sync_due(now, torrent.completion_due)
        {
            return;
        }
        if !self.syncs.admit(torrent.file_system, key) {
            return torrent.durability.set_waiting(true);
        }
        torrent.durability.begin_sync();
        self.submit(key, Job::Sync { torrent: key });
    }

    /// Every wanted piece is verified; the user hears of it once everything is synced.
    pub(super) fn handle_all_verified(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.completion_due = true;
        self.report_completion(key);
    }

    fn report_completion(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if torrent.completion_due && torrent.durability.is_clean() {
            torrent.completion_due = false;
            torrent.durability.give_up();
            self.buffers.shrink();
            self.emit(key, EventKind::Completed);
        }
    }
}

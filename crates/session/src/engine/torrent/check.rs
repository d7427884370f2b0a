//! Verification of the data on the disk, before a transfer.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bt_types::Bitfield;
use metainfo::Metainfo;
use piece_store::{Job, Opened, TorrentKey};
use swarm::Swarm;

use super::durability::Durability;
use super::progress::Progress;

/// A check of the data on the disk.
#[derive(Debug)]
pub(crate) struct Check {
    metainfo: Arc<Metainfo>,
    pub(super) opened: Opened,
    /// The swarm of a link.
    pub(super) swarm: Option<Box<Swarm>>,
    /// The ranges of pieces that have no job yet.
    ranges: VecDeque<Range<u32>>,
    running: usize,
    pub(crate) done: u32,
    pub(crate) total: u32,
    pub(super) progress: Progress,
    pub(super) durability: Durability,
}

impl Check {
    pub(super) fn new(metainfo: Arc<Metainfo>, opened: Opened, swarm: Option<Box<Swarm>>) -> Self {
        let ranges = VecDeque::from(opened.to_verify.clone());
        let total = ranges.iter().map(|range| range.len() as u32).sum();
        let progress = Progress::of(metainfo.info(), &opened.wanted, &opened.have);
        let durability = Durability::default();
        Self { metainfo, opened, swarm, ranges, running: 0, done: 0, total, progress, durability }
    }

    /// Pieces were verified; `good` are those that matched.
    pub(crate) fn handle_checked(&mut self, now: Duration, pieces: &Range<u32>, good: &[u32]) {
        let info = self.metainfo.info();
        self.running -= 1;
        self.done += pieces.len() as u32;
        let mut bytes = 0;
        for piece in good.iter().filter_map(|index| info.geometry().piece(*index)) {
            let new = self.opened.have.insert(piece);
            if new && self.opened.wanted.contains(piece) {
                self.progress.gain(info, piece);
            }
            bytes += u64::from(info.geometry().length_of(piece));
        }
        self.durability.handle_written(now, bytes);
    }

    /// Every range was verified. We have the pieces `have`, some of them imported from the parts
    /// file.
    pub(crate) fn handle_finished(&mut self, now: Duration, have: Bitfield) {
        let geometry = self.metainfo.info().geometry();
        let imported = geometry
            .pieces()
            .filter(|piece| have.contains(*piece) && !self.opened.have.contains(*piece));
        let bytes = imported.map(|piece| u64::from(geometry.length_of(piece))).sum();
        self.opened.have = have;
        self.durability.handle_written(now, bytes);
    }

    /// Returns the next jobs, so that at most `most` are under way. The last one finishes the
    /// check.
    pub(crate) fn next_jobs(&mut self, torrent: TorrentKey, most: usize) -> Vec<Job> {
        let count = self.ranges.len().min(most.saturating_sub(self.running));
        let ranges = self.ranges.drain(..count);
        let mut jobs: Vec<Job> = ranges.map(|pieces| Job::Verify { torrent, pieces }).collect();
        self.running += count;
        if self.running == 0 {
            jobs.push(Job::FinishCheck { torrent });
        }
        jobs
    }
}

//! One torrent of the session, and the phase it is in.
//!
//! ```text
//!  Opening --> Checking --> Transfer --> Stopping --> Stopped
//!     |            |                        ^            |
//!     '------------'------------------------'   resume: Opening
//! ```

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceRequest, Blank, Geometry, InfoHashV1, OnDemand, PeerId};
use piece_store::{Opened, TorrentKey};
use swarm::{Pieces, Swarm, TrackerIndex};

use super::open::OpenPieces;
use super::rate::Bucket;
use super::status::Progress;
use crate::config::AddTorrent;
use crate::event::TorrentError;
use crate::limits::{MAX_UNSYNCED, SYNC_AGE, SYNC_BYTES};

/// What a torrent is doing, and what it needs only for that.
#[derive(Debug)]
pub(super) enum Phase {
    /// The store opens files and journal.
    Opening,
    /// Data on the disk is verified.
    Checking(Box<Check>),
    /// Pieces come and go.
    Transfer(Box<Swarm>),
    /// On the way to `Stopped`.
    Stopping(Box<Stopping>),
    /// Nothing happens.
    Stopped,
}

/// Verification of what is on the disk.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) opened: Opened,
    /// What no job was given for yet.
    pub(super) ranges: VecDeque<Range<u32>>,
    pub(super) running: usize,
    pub(super) done: u32,
    pub(super) total: u32,
}

/// The way out: jobs finish, the store syncs and closes, then the trackers hear `stopped`.
#[derive(Debug)]
pub(super) struct Stopping {
    pub(super) swarm: Option<Box<Swarm>>,
    pub(super) step: StopStep,
    pub(super) error: Option<TorrentError>,
}

/// How far a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopStep {
    /// Jobs given to the store before the stop are waited for.
    Jobs,
    /// The store syncs and closes.
    Closing,
    /// The trackers are told, until the deadline.
    Announcing { deadline: Duration },
}

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) key: TorrentKey,
    pub(super) add: AddTorrent,
    pub(super) peer_id: PeerId,
    /// The `key` of all its announces.
    pub(super) announce_key: u32,
    pub(super) phase: Phase,
    pub(super) open: OpenPieces,
    pub(super) durability: OnDemand<Durability>,
    /// Jobs given to the store and not answered yet.
    pub(super) jobs: usize,
    /// Announces under way.
    pub(super) announces: usize,
    /// When the last announce was made.
    pub(super) announced_at: Duration,
    pub(super) down: Bucket,
    pub(super) up: Bucket,
    /// When it stands in the table of timers.
    pub(super) timer: Option<Duration>,
    /// Payload received and sent in earlier runs.
    pub(super) earlier: (u64, u64),
    /// The last verified piece, or the begin of the transfer.
    pub(super) last_piece_at: Duration,
    /// Whether `upload_only` was sent to the peers: nothing more is downloaded.
    pub(super) upload_only: bool,
    /// Whether the user is still to hear that everything is there.
    pub(super) completion_due: bool,
    /// How much of what is wanted was had when the phase began, or so far in a check.
    pub(super) progress: Progress,
    /// Where its data lies; syncs take turns there.
    pub(super) file_system: u64,
    /// Whether it stands in line to connect to peers.
    pub(super) waits_to_dial: bool,
    /// Whether it stands in line for memory.
    pub(super) waits_for_memory: bool,
    /// Whether it is to be forgotten once it is stopped.
    pub(super) removing: bool,
    /// What [`super::Core::status`] shows once there is no swarm any more.
    pub(super) last_status: Option<Box<crate::event::TorrentStatus>>,
}

impl Torrent {
    /// The swarm, while there is one.
    pub(super) fn swarm(&self) -> Option<&Swarm> {
        match &self.phase {
            Phase::Transfer(swarm) => Some(swarm),
            Phase::Stopping(stopping) => stopping.swarm.as_deref(),
            _ => None,
        }
    }

    pub(super) fn swarm_mut(&mut self) -> Option<&mut Swarm> {
        match &mut self.phase {
            Phase::Transfer(swarm) => Some(swarm),
            Phase::Stopping(stopping) => stopping.swarm.as_deref_mut(),
            _ => None,
        }
    }

    /// The swarm, while pieces may come and go.
    pub(super) fn transfer_mut(&mut self) -> Option<&mut Swarm> {
        match &mut self.phase {
            Phase::Transfer(swarm) => Some(swarm),
            _ => None,
        }
    }

    /// Whether pieces may come and go.
    pub(super) fn is_transferring(&self) -> bool {
        matches!(self.phase, Phase::Transfer(_))
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_))
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    pub(super) fn info_hash(&self) -> InfoHashV1 {
        self.add.metainfo.info_hash()
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.add.metainfo.info().geometry()
    }

    /// Payload received and sent in this run.
    pub(super) fn transferred(&self) -> (u64, u64) {
        self.swarm().map_or((0, 0), |swarm| (swarm.downloaded(), swarm.uploaded()))
    }

    /// The URL of a tracker, by its place in the torrent's list.
    pub(super) fn tracker_url(&self, TrackerIndex(index): TrackerIndex) -> &str {
        let mut urls = self.add.metainfo.trackers().iter().flatten();
        urls.nth(index).map_or("", String::as_str)
    }

    /// Returns the event to announce instead of `event`: a partial seed announces `paused` where no
    /// other event is due (BEP 21).
    pub(super) fn announced_event(&self, event: AnnounceEvent) -> AnnounceEvent {
        let pieces = self.swarm().and_then(Swarm::pieces);
        match event {
            AnnounceEvent::None if pieces.is_some_and(Pieces::is_partial_seed) => {
                AnnounceEvent::Paused
            }
            event => event,
        }
    }

    pub(super) fn announce_request(&self, port: u16) -> AnnounceRequest {
        let swarm = self.swarm();
        AnnounceRequest {
            port,
            key: self.announce_key,
            uploaded: swarm.map_or(0, Swarm::uploaded),
            downloaded: swarm.map_or(0, Swarm::downloaded),
            // Of all pieces: a client that has all of a selection is no seeder.
            left: swarm.and_then(Swarm::pieces).map_or(u64::MAX, Pieces::torrent_left),
            ..AnnounceRequest::new(self.info_hash(), self.peer_id)
        }
    }
}

/// How much verified data is not synced yet, and when that is to change.
#[derive(Debug, Default)]
pub(super) struct Durability {
    unsynced: u64,
    oldest: Option<Duration>,
    /// What the sync under way covers.
    syncing: Option<u64>,
    /// Whether a sync waits for its turn at the file system.
    waiting: bool,
}

impl Blank for Durability {
    const BLANK: &'static Self = &Self { unsynced: 0, oldest: None, syncing: None, waiting: false };
}

impl Durability {
    /// Counts data that was verified and written at `now`.
    pub(super) fn handle_written(&mut self, now: Duration, bytes: u64) {
        self.unsynced += bytes;
        self.oldest.get_or_insert(now);
    }

    /// Whether a sync should begin; `at_once` asks for one whatever the amount.
    ///
    /// With `--cfg sync_at_end`, a build to measure against, only `at_once` does.
    pub(super) fn is_sync_due(&self, now: Duration, at_once: bool) -> bool {
        let due = self.unsynced >= SYNC_BYTES || self.deadline().is_some_and(|at| at <= now);
        let due = due && !cfg!(sync_at_end);
        let idle = self.syncing.is_none() && !self.waiting;
        idle && self.unsynced > 0 && (due || at_once)
    }

    /// The sync that is due has to wait for another torrent's, or has waited long enough.
    pub(super) fn set_waiting(&mut self, waiting: bool) {
        self.waiting = waiting;
    }

    pub(super) fn begin_sync(&mut self) {
        self.syncing = Some(self.unsynced);
        self.oldest = None;
    }

    pub(super) fn handle_synced(&mut self, now: Duration) {
        self.unsynced -= self.syncing.take().unwrap_or(0).min(self.unsynced);
        if self.unsynced > 0 {
            self.oldest.get_or_insert(now);
        }
    }

    /// When the oldest data has waited long enough.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let idle = self.syncing.is_none() && !self.waiting;
        self.oldest.filter(|_| idle && !cfg!(sync_at_end)).map(|at| at + SYNC_AGE)
    }

    /// Whether so much is unsynced that no new piece may be opened.
    pub(super) fn is_full(&self) -> bool {
        self.unsynced >= MAX_UNSYNCED && !cfg!(sync_at_end)
    }

    /// Whether everything verified was synced.
    pub(super) fn is_clean(&self) -> bool {
        self.unsynced == 0
    }
}

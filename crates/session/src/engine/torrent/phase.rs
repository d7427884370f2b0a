//! One torrent of the session, and the phase it is in.
//!
//! ```text
//!  Opening --> Checking --> Transfer --> Stopping --> Stopped
//!     |            |                        ^            |
//!     '------------'------------------------'   resume: Opening
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceRequest, Geometry, InfoHashV1, PeerId};
use piece_store::{Job, OpenSpec, Opened, TorrentKey};
use rand::RngExt as _;
use swarm::{Pieces, Swarm};

use super::check::Check;
use super::goal::GoalWatch;
use super::transfer::Transfer;
use crate::config::AddTorrent;
use crate::engine::rate::Bucket;
use crate::event::{StopReason, TorrentError, TorrentStatus};
use crate::limits::{ANNOUNCE_DEADLINE, MAX_USER_PEERS, STOP_ANNOUNCE_TIME};

/// What a torrent is doing, with the data for that.
#[derive(Debug)]
pub(super) enum Phase {
    /// The store opens its files and journal.
    Opening,
    /// Data on the disk is verified.
    Checking(Box<Check>),
    /// Pieces are exchanged.
    Transfer(Box<Transfer>),
    /// It syncs, closes and announces `stopped`.
    Stopping(Box<Stopping>),
    /// Has the status before the stop, unless the store could not open it.
    Stopped(Option<Box<TorrentStatus>>),
}

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stopping {
    transfer: Option<Box<Transfer>>,
    step: StopStep,
    /// Why; the first error if there was one.
    reason: StopReason,
    /// The status before the stop.
    pub(super) status: Box<TorrentStatus>,
}

/// How far a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopStep {
    /// Waits for the jobs given to the store before the stop.
    Jobs,
    /// The store syncs and closes.
    Closing,
    /// Waits for the trackers, until the deadline.
    Announcing { deadline: Duration },
}

/// One torrent.
#[derive(Debug)]
pub(crate) struct Torrent {
    pub(super) key: TorrentKey,
    pub(crate) add: AddTorrent,
    pub(crate) peer_id: PeerId,
    /// The `key` of all its announces.
    announce_key: u32,
    pub(super) phase: Phase,
    /// Jobs given to the store and not answered yet.
    pub(crate) jobs: u32,
    pub(crate) down: Bucket,
    pub(crate) up: Bucket,
    /// When it is due, by the table of timers.
    pub(super) timer: Option<Duration>,
    /// When to stop it; `None` is never.
    pub(super) watch: Option<Box<GoalWatch>>,
    /// Payload received and sent in earlier launches, as soon as the journal was read.
    pub(super) earlier: (u64, u64),
    /// Whether it is in line to connect to peers.
    pub(super) waits_to_dial: bool,
    /// Whether it is in line for memory.
    pub(super) waits_for_memory: bool,
    /// Whether it is to be forgotten once it is stopped.
    pub(super) removing: bool,
}

impl Torrent {
    pub(super) fn new(
        now: Duration,
        key: TorrentKey,
        mut add: AddTorrent,
        peer_id_prefix: [u8; 8],
        rng: &mut impl rand::Rng,
    ) -> Self {
        let size = add.metainfo.info().content_size();
        Self {
            key,
            peer_id: PeerId::new(peer_id_prefix, rng.random()),
            announce_key: rng.random(),
            phase: Phase::Stopped(None),
            jobs: 0,
            down: Bucket::new(now, add.max_down),
            up: Bucket::new(now, add.max_up),
            timer: None,
            watch: add.goal.take().map(|goal| Box::new(GoalWatch::new(*goal, size))),
            earlier: (0, 0),
            waits_to_dial: false,
            waits_for_memory: false,
            removing: false,
            add,
        }
    }

    /// Returns the job that opens the files and the journal.
    pub(super) fn open(&mut self, now: Duration, state_dir: Option<PathBuf>) -> Job {
        if let Some(watch) = &mut self.watch {
            watch.start(now);
        }
        self.phase = Phase::Opening;
        let add = &self.add;
        let spec = OpenSpec {
            layout: add.layout.clone(),
            selected: add.selected.clone(),
            state_dir,
            resume: add.resume,
            preallocate: add.preallocate,
            overwrite: add.overwrite,
            seed_only: add.seed_only,
            ..OpenSpec::new(add.metainfo.clone(), &*add.folder)
        };
        Job::Open { torrent: self.key, spec: Box::new(spec) }
    }

    /// The store has opened the torrent. It may be stopping by now.
    pub(crate) fn handle_opened(&mut self, opened: Opened) {
        self.earlier = (opened.downloaded, opened.uploaded);
        if let Phase::Opening = self.phase {
            let check = Check::new(Arc::clone(&self.add.metainfo), opened);
            self.phase = Phase::Checking(Box::new(check));
        }
    }

    /// Begins to stop a torrent that is not stopping yet, whose status is `status`.
    pub(super) fn stop(
        mut self: Box<Self>,
        status: TorrentStatus,
        reason: StopReason,
    ) -> Box<Self> {
        let transfer = match self.phase {
            Phase::Opening | Phase::Checking(_) => None,
            Phase::Transfer(transfer) => Some(transfer),
            phase @ (Phase::Stopping(_) | Phase::Stopped(_)) => {
                self.phase = phase;
                return self;
            }
        };
        let (step, status) = (StopStep::Jobs, Box::new(status));
        self.phase = Phase::Stopping(Box::new(Stopping { transfer, step, reason, status }));
        self
    }

    /// Keeps the error that led to a stop, if it is the first.
    pub(crate) fn note_error(&mut self, error: TorrentError) {
        if let Phase::Stopping(stopping) = &mut self.phase {
            match stopping.reason {
                StopReason::Failed(_) | StopReason::GaveUp { .. } => {}
                StopReason::Asked | StopReason::Done => {
                    stopping.reason = StopReason::Failed(error);
                }
            }
        }
    }

    /// Returns the job that closes the store, once every earlier job is answered.
    pub(crate) fn close_store(&mut self) -> Option<Job> {
        let Phase::Stopping(stopping) = &mut self.phase else { return None };
        if stopping.step != StopStep::Jobs || self.jobs > 0 {
            return None;
        }
        stopping.step = StopStep::Closing;
        let transfer = stopping.transfer.as_mut();
        let unfinished = transfer.map_or_else(Vec::new, |transfer| transfer.take_buffers());
        let swarm = self.transfer().map(|transfer| &transfer.swarm);
        let downloaded = self.earlier.0 + swarm.map_or(0, Swarm::downloaded);
        let uploaded = self.earlier.1 + swarm.map_or(0, Swarm::uploaded);
        Some(Job::Close { torrent: self.key, uploaded, downloaded, unfinished })
    }

    /// The store is closed: has `stopped` announced.
    pub(crate) fn say_goodbye(&mut self, now: Duration) {
        let Phase::Stopping(stopping) = &mut self.phase else { return };
        let deadline = stopping.transfer.as_ref().map_or(now, |it| goodbye_deadline(it, now));
        stopping.step = StopStep::Announcing { deadline };
        if let Some(transfer) = &mut stopping.transfer {
            transfer.swarm.stop(now);
        }
    }

    /// Whether a stop is over. `announcing` says whether an announce has no answer yet.
    pub(crate) fn is_stop_over(&self, now: Duration, announcing: bool) -> bool {
        let Phase::Stopping(stopping) = &self.phase else { return false };
        matches!(stopping.step, StopStep::Announcing { deadline } if !announcing || deadline <= now)
    }

    /// Ends a stop. Returns its reason; `None` if the store could not open the torrent.
    pub(super) fn end_stop(mut self: Box<Self>) -> (Box<Self>, Option<StopReason>) {
        let (status, reason) = match self.phase {
            Phase::Stopping(stopping) => (Some(stopping.status), Some(stopping.reason)),
            Phase::Opening | Phase::Checking(_) | Phase::Transfer(_) | Phase::Stopped(_) => {
                (None, None)
            }
        };
        self.phase = Phase::Stopped(status);
        (self, reason)
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let goal = self.next_ending().map(|(at, _)| at);
        match &self.phase {
            Phase::Transfer(transfer) => {
                let sync = transfer.durability.deadline();
                [transfer.swarm.poll_timeout(), sync, goal].into_iter().flatten().min()
            }
            Phase::Stopping(stopping) => match stopping.step {
                StopStep::Announcing { deadline } => Some(deadline),
                StopStep::Jobs | StopStep::Closing => None,
            },
            Phase::Opening | Phase::Checking(_) => goal,
            Phase::Stopped(_) => None,
        }
    }

    /// The transfer, also while it is being stopped.
    pub(crate) fn transfer(&self) -> Option<&Transfer> {
        match &self.phase {
            Phase::Transfer(transfer) => Some(transfer),
            Phase::Stopping(stopping) => stopping.transfer.as_deref(),
            Phase::Opening | Phase::Checking(_) | Phase::Stopped(_) => None,
        }
    }

    /// The transfer, also while it is being stopped.
    pub(crate) fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match &mut self.phase {
            Phase::Transfer(transfer) => Some(transfer),
            Phase::Stopping(stopping) => stopping.transfer.as_deref_mut(),
            Phase::Opening | Phase::Checking(_) | Phase::Stopped(_) => None,
        }
    }

    /// The transfer, unless it is being stopped.
    pub(crate) fn running_mut(&mut self) -> Option<&mut Transfer> {
        let Phase::Transfer(transfer) = &mut self.phase else { return None };
        Some(transfer)
    }

    /// The check, while data on the disk is verified.
    pub(crate) fn check_mut(&mut self) -> Option<&mut Check> {
        let Phase::Checking(check) = &mut self.phase else { return None };
        Some(check)
    }

    /// Whether pieces are exchanged.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Transfer(_))
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_))
    }

    pub(crate) fn info_hash(&self) -> InfoHashV1 {
        self.add.metainfo.info_hash()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.add.metainfo.info().geometry()
    }

    /// The torrent's part of an announce: not address, port and number of peers. A partial seed
    /// announces `paused` if no other event is due (BEP 21).
    pub(crate) fn announce_request(&self, event: AnnounceEvent) -> AnnounceRequest {
        let swarm = self.transfer().map(|transfer| &transfer.swarm);
        let pieces = swarm.and_then(Swarm::pieces);
        let partial_seed = pieces.is_some_and(Pieces::is_partial_seed);
        AnnounceRequest {
            event: match event {
                AnnounceEvent::None if partial_seed => AnnounceEvent::Paused,
                event => event,
            },
            key: self.announce_key,
            uploaded: swarm.map_or(0, Swarm::uploaded),
            downloaded: swarm.map_or(0, Swarm::downloaded),
            // Of all pieces, wanted or not: a partial seed is no seeder.
            left: pieces.map_or(u64::MAX, Pieces::torrent_left),
            ..AnnounceRequest::new(self.info_hash(), self.peer_id)
        }
    }

    /// Keeps peers that the user named for later launches of the torrent.
    pub(crate) fn keep_peers(&mut self, peers: &[std::net::SocketAddr]) {
        let known = &mut self.add.peers;
        for peer in peers {
            if known.len() < MAX_USER_PEERS && !known.contains(peer) {
                known.push(*peer);
            }
        }
    }
}

/// When a stop no longer waits for trackers. If none has ever answered, they are probably dead, and
/// the time runs from the last announce.
fn goodbye_deadline(transfer: &Transfer, now: Duration) -> Duration {
    let replied = transfer.swarm.trackers().any(|tracker| tracker.replied);
    let from = if replied { now } else { transfer.announced_at };
    (from + STOP_ANNOUNCE_TIME).max(now)
}

/// A stop waits for less time than any announce.
const _: () = assert!(STOP_ANNOUNCE_TIME.as_secs() < ANNOUNCE_DEADLINE.as_secs());

//! One torrent of the session, and the phase it is in.
//!
//! ```text
//!  Metadata --> Opening --> Checking --> Transfer --> Stopping --> Stopped
//!     |            |            |                         ^            |
//!     '------------'------------'-------------------------'   resume: Metadata or Opening
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceRequest, BLOCK_LENGTH, Geometry, InfoHashV1, PeerId};
use metainfo::Metainfo;
use piece_store::{Job, OpenSpec, Opened, TorrentKey};
use rand::RngExt as _;
use swarm::{Pieces, Swarm};

use super::check::Check;
use super::goal::GoalWatch;
use super::metadata::Metadata;
use super::transfer::Transfer;
use crate::config::{AddTorrent, Description};
use crate::engine::config::EngineConfig;
use crate::engine::metadata::MetadataFetch;
use crate::engine::rate::Bucket;
use crate::event::{StopReason, TorrentError, TorrentStatus};
use crate::limits::{ANNOUNCE_DEADLINE, MAX_USER_PEERS, STOP_ANNOUNCE_TIME};

/// What is announced as left while nobody knows the size of the torrent.
const UNKNOWN_LEFT: u64 = BLOCK_LENGTH as u64;

/// What a torrent is doing, with the data for that.
#[derive(Debug)]
pub(super) enum Phase {
    /// It was added as a link, and peers send its metadata.
    Metadata(Box<Metadata>),
    /// The store opens its files and journal. The swarm of a link lives on meanwhile.
    Opening(Option<Box<Swarm>>),
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
    work: Work,
    /// Whether the store has to close it.
    is_open: bool,
    step: StopStep,
    /// Why; the first error if there was one.
    reason: StopReason,
    /// The status before the stop.
    pub(super) status: Box<TorrentStatus>,
}

/// What a torrent leaves when it stops.
#[derive(Debug)]
enum Work {
    /// No peer knows of it.
    Nothing,
    /// The swarm of a link, without a transfer.
    Swarm(Box<Swarm>),
    /// A transfer.
    Transfer(Box<Transfer>),
}

/// What a stop needs next.
#[derive(Debug)]
pub(crate) enum StopAction {
    /// The store closes the torrent.
    Close(Job),
    /// There is nothing to close: trackers are told.
    SayGoodbye,
}

/// How a torrent starts.
#[derive(Debug)]
pub(crate) enum Start {
    /// The store opens it.
    Open(Job),
    /// Its metadata is fetched. These are the peers that the link names.
    Fetch(Vec<String>),
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
        let size = content_size(&add.description);
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

    /// Starts a stopped torrent.
    pub(super) fn start(&mut self, now: Duration, config: &EngineConfig, seed: u64) -> Start {
        if let Some(watch) = &mut self.watch {
            watch.start(now);
        }
        let (fetch, peers) = match &self.add.description {
            Description::Metainfo(metainfo) if !self.add.await_selection => {
                let metainfo = Arc::clone(metainfo);
                return Start::Open(self.open(metainfo, config.state_dir.clone()));
            }
            Description::Metainfo(_) => (None, Vec::new()),
            Description::Link(link) => (Some(MetadataFetch::new(now)), link.peers.clone()),
        };
        let swarm = self.new_swarm(now, config, seed);
        self.phase = Phase::Metadata(Box::new(Metadata { swarm, fetch }));
        Start::Fetch(peers)
    }

    /// Returns the job that opens the files and the journal.
    pub(crate) fn open(&mut self, metainfo: Arc<Metainfo>, state_dir: Option<PathBuf>) -> Job {
        let swarm = match std::mem::replace(&mut self.phase, Phase::Opening(None)) {
            Phase::Metadata(metadata) => Some(Box::new(metadata.swarm)),
            Phase::Opening(_)
            | Phase::Checking(_)
            | Phase::Transfer(_)
            | Phase::Stopping(_)
            | Phase::Stopped(_) => None,
        };
        self.phase = Phase::Opening(swarm);
        let add = &self.add;
        let spec = OpenSpec {
            layout: add.layout.clone(),
            selected: add.selected.clone(),
            state_dir,
            resume: add.resume,
            preallocate: add.preallocate,
            overwrite: add.overwrite,
            seed_only: add.seed_only,
            ..OpenSpec::new(metainfo, &*add.folder)
        };
        Job::Open { torrent: self.key, spec: Box::new(spec) }
    }

    /// The store has opened the torrent. It may be stopping by now.
    pub(crate) fn handle_opened(&mut self, opened: Opened) {
        self.earlier = (opened.downloaded, opened.uploaded);
        if let Phase::Opening(swarm) = &mut self.phase {
            let swarm = swarm.take();
            let check = Check::new(Arc::clone(self.metainfo()), opened, swarm);
            self.phase = Phase::Checking(Box::new(check));
        }
    }

    /// Begins to stop a torrent that is not stopping yet, whose status is `status`. `is_open` says
    /// whether the store has to close it.
    pub(super) fn stop(
        mut self: Box<Self>,
        status: TorrentStatus,
        reason: StopReason,
        is_open: bool,
    ) -> Box<Self> {
        let work = match self.phase {
            Phase::Metadata(metadata) => Work::Swarm(Box::new(metadata.swarm)),
            Phase::Opening(swarm) => swarm.map_or(Work::Nothing, Work::Swarm),
            Phase::Checking(check) => check.swarm.map_or(Work::Nothing, Work::Swarm),
            Phase::Transfer(transfer) => Work::Transfer(transfer),
            phase @ (Phase::Stopping(_) | Phase::Stopped(_)) => {
                self.phase = phase;
                return self;
            }
        };
        let (step, status) = (StopStep::Jobs, Box::new(status));
        self.phase = Phase::Stopping(Box::new(Stopping { work, is_open, step, reason, status }));
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

    /// Returns what a stop needs next, once every earlier job is answered.
    pub(crate) fn next_stop_action(&mut self) -> Option<StopAction> {
        let Phase::Stopping(stopping) = &mut self.phase else { return None };
        if stopping.step != StopStep::Jobs || self.jobs > 0 {
            return None;
        }
        stopping.step = StopStep::Closing;
        let unfinished = match &mut stopping.work {
            _ if !stopping.is_open => return Some(StopAction::SayGoodbye),
            Work::Nothing | Work::Swarm(_) => Vec::new(),
            Work::Transfer(transfer) => transfer.take_buffers(),
        };
        let swarm = self.swarm();
        let downloaded = self.earlier.0 + swarm.map_or(0, Swarm::downloaded);
        let uploaded = self.earlier.1 + swarm.map_or(0, Swarm::uploaded);
        let torrent = self.key;
        Some(StopAction::Close(Job::Close { torrent, uploaded, downloaded, unfinished }))
    }

    /// The store is closed: has `stopped` announced.
    pub(crate) fn say_goodbye(&mut self, now: Duration) {
        let Phase::Stopping(stopping) = &mut self.phase else { return };
        let deadline = stopping.swarm_mut().map_or(now, |swarm| {
            swarm.stop(now);
            goodbye_deadline(swarm, now)
        });
        stopping.step = StopStep::Announcing { deadline };
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
            Phase::Metadata(_)
            | Phase::Opening(_)
            | Phase::Checking(_)
            | Phase::Transfer(_)
            | Phase::Stopped(_) => (None, None),
        };
        self.phase = Phase::Stopped(status);
        (self, reason)
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let goal = self.next_ending().map(|(at, _)| at);
        match &self.phase {
            Phase::Metadata(metadata) => {
                let fetch = metadata.poll_timeout();
                [metadata.swarm.poll_timeout(), fetch, goal].into_iter().flatten().min()
            }
            Phase::Transfer(transfer) => {
                let sync = transfer.durability.deadline();
                [transfer.swarm.poll_timeout(), sync, goal].into_iter().flatten().min()
            }
            Phase::Stopping(stopping) => match stopping.step {
                StopStep::Announcing { deadline } => Some(deadline),
                StopStep::Jobs | StopStep::Closing => None,
            },
            Phase::Opening(_) | Phase::Checking(_) => {
                let swarm = self.swarm().and_then(Swarm::poll_timeout);
                [swarm, goal].into_iter().flatten().min()
            }
            Phase::Stopped(_) => None,
        }
    }

    /// The swarm, also while it is being stopped.
    pub(crate) fn swarm(&self) -> Option<&Swarm> {
        match &self.phase {
            Phase::Metadata(metadata) => Some(&metadata.swarm),
            Phase::Opening(swarm) => swarm.as_deref(),
            Phase::Checking(check) => check.swarm.as_deref(),
            Phase::Transfer(transfer) => Some(&transfer.swarm),
            Phase::Stopping(stopping) => stopping.swarm(),
            Phase::Stopped(_) => None,
        }
    }

    /// The swarm, also while it is being stopped.
    pub(crate) fn swarm_mut(&mut self) -> Option<&mut Swarm> {
        match &mut self.phase {
            Phase::Metadata(metadata) => Some(&mut metadata.swarm),
            Phase::Opening(swarm) => swarm.as_deref_mut(),
            Phase::Checking(check) => check.swarm.as_deref_mut(),
            Phase::Transfer(transfer) => Some(&mut transfer.swarm),
            Phase::Stopping(stopping) => stopping.swarm_mut(),
            Phase::Stopped(_) => None,
        }
    }

    /// The swarm, unless it is being stopped.
    pub(crate) fn running_swarm(&mut self) -> Option<&mut Swarm> {
        if self.is_stopping() { None } else { self.swarm_mut() }
    }

    /// The transfer, also while it is being stopped.
    pub(crate) fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match &mut self.phase {
            Phase::Transfer(transfer) => Some(transfer),
            Phase::Stopping(stopping) => match &mut stopping.work {
                Work::Transfer(transfer) => Some(transfer),
                Work::Nothing | Work::Swarm(_) => None,
            },
            Phase::Metadata(_) | Phase::Opening(_) | Phase::Checking(_) | Phase::Stopped(_) => None,
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

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_))
    }

    pub(crate) fn info_hash(&self) -> InfoHashV1 {
        self.add.description.info_hash()
    }

    /// Panics as long as the metadata is not there: it is called for what the store does.
    pub(crate) fn metainfo(&self) -> &Arc<Metainfo> {
        self.add.description.metainfo().expect("a torrent with metadata")
    }

    /// The length of all files in bytes; 0 as long as the metadata is not there.
    pub(super) fn size(&self) -> u64 {
        content_size(&self.add.description)
    }

    /// The length of the `info` dictionary; `None` as long as it is not there.
    pub(crate) fn metadata_size(&self) -> Option<u32> {
        self.add.description.metainfo().map(|metainfo| metainfo.raw_info().len() as u32)
    }

    /// Panics as [`Self::metainfo`] does.
    pub(crate) fn geometry(&self) -> Geometry {
        self.metainfo().info().geometry()
    }

    /// The torrent's part of an announce: not address, port and number of peers. A partial seed
    /// announces `paused` if no other event is due (BEP 21).
    pub(crate) fn announce_request(&self, event: AnnounceEvent) -> AnnounceRequest {
        let swarm = self.swarm();
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
            left: pieces.map_or_else(|| self.unknown_left(), Pieces::torrent_left),
            ..AnnounceRequest::new(self.info_hash(), self.peer_id)
        }
    }

    /// Returns what to announce as left before it is known. Not 0, which a seeder announces.
    fn unknown_left(&self) -> u64 {
        match &self.add.description {
            Description::Metainfo(metainfo) => metainfo.info().geometry().total(),
            Description::Link(link) => link.length.unwrap_or(UNKNOWN_LEFT),
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

fn content_size(description: &Description) -> u64 {
    description.metainfo().map_or(0, |metainfo| metainfo.info().content_size())
}

/// When a stop no longer waits for trackers. If none has ever answered, they are probably dead, and
/// the time runs from the last announce.
fn goodbye_deadline(swarm: &Swarm, now: Duration) -> Duration {
    let replied = swarm.trackers().any(|tracker| tracker.replied);
    let from = if replied { now } else { swarm.announced_at() };
    (from + STOP_ANNOUNCE_TIME).max(now)
}

impl Stopping {
    fn swarm(&self) -> Option<&Swarm> {
        match &self.work {
            Work::Nothing => None,
            Work::Swarm(swarm) => Some(swarm),
            Work::Transfer(transfer) => Some(&transfer.swarm),
        }
    }

    fn swarm_mut(&mut self) -> Option<&mut Swarm> {
        match &mut self.work {
            Work::Nothing => None,
            Work::Swarm(swarm) => Some(swarm),
            Work::Transfer(transfer) => Some(&mut transfer.swarm),
        }
    }
}

/// A stop waits for less time than any announce.
const _: () = assert!(STOP_ANNOUNCE_TIME.as_secs() < ANNOUNCE_DEADLINE.as_secs());

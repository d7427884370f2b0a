//! All decisions of a session, pure: no socket, clock, thread, disk or randomness of the system.
//!
//! The engine owns every torrent and every connection. It is told what happened (`handle_*`), and
//! after any call its polls are drained: [`Engine::poll_action`] for what must be done,
//! [`Engine::poll_transmit`] for the bytes of a link that an [`Action::Transmit`] named, and
//! [`Engine::poll_timeout`] for when [`Engine::handle_timeout`] is due.
//!
//! ```text
//!  bytes --> Connection::receive --> meaning --> Swarm::handle_* --> Output --> Connection::request
//!                                       |                              |
//!                                       '- block data -> span          '-> Action::Store(Job)
//! ```
//!
//! Invariants: a block's bytes are copied once, into the span reserved for them; a span's memory is
//! released only when the buffer is back; nothing is announced or served before the store said
//! `Verified`; every table is bounded by the limits in [`crate::limits`].

mod action;
mod announce;
mod buffers;
mod dial;
mod disk;
mod keys;
mod lifecycle;
mod link;
mod open;
mod outputs;
mod peers;
mod rate;
mod resident;
mod status;
mod sweep;
mod syncs;
mod timers;
mod torrent;
mod trackers;
mod transmit;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bt_types::InfoHashV1;
use piece_store::{OsFile, TorrentKey};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

pub use action::Action;
pub use announce::{Families, Family, FetchFailure, Resolved};
pub use keys::{AnnounceKey, LinkKey};
pub use lifecycle::AddError;
pub use transmit::Outgoing;

use crate::event::{Event, EventKind};
use announce::Announces;
use buffers::Buffers;
use link::Links;
use rate::Bucket;
use resident::Resident;
use syncs::Syncs;
use timers::Timers;
use torrent::Torrent;

/// What the engine must know of the machine and the user's wishes.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The port others reach us on, for announces and the extension handshake; 0 for none.
    pub listen_port: u16,
    /// Received bytes a second, all torrents together.
    pub max_down: Option<u64>,
    /// Sent bytes a second, all torrents together.
    pub max_up: Option<u64>,
    /// Memory for payload on its way to the disk, in bytes.
    pub span_memory: usize,
    /// Memory of other buffers that is taken whatever happens, in bytes: only reported.
    pub fixed_memory: usize,
    /// Verify jobs of one torrent under way at a time, at least 1.
    pub verify_jobs: usize,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections without a complete handshake, in and out together.
    pub max_half_open: usize,
    /// Files that the store may have open: see [`piece_store::Resources::open_files`].
    pub open_files: usize,
    /// Connections of one torrent.
    pub max_peers_per_torrent: usize,
    /// Peers of one torrent that are unchoked at a time, at least; see
    /// [`SessionConfig::upload_slots`](crate::SessionConfig::upload_slots).
    pub upload_slots: usize,
    /// Where journals are kept; `None` keeps none.
    pub state_dir: Option<std::path::PathBuf>,
    /// The address trackers should give to peers.
    pub announce_ip: Option<IpAddr>,
    /// Whether IPv4 and IPv6 can be used.
    pub families: Families,
    /// The number all random choices come from.
    pub seed: u64,
}

/// All torrents and connections of a session. `F` is an open file of the disk that holds the payload:
/// the engine passes it on from the store to whoever sends it, and never looks inside.
#[derive(Debug)]
pub struct Engine<F = OsFile> {
    config: EngineConfig,
    rng: ChaCha8Rng,
    torrents: BTreeMap<TorrentKey, Box<Torrent>>,
    /// Torrents that are not stopped.
    running: usize,
    /// Jobs of all torrents that are not answered yet.
    jobs: usize,
    by_info_hash: BTreeMap<InfoHashV1, TorrentKey>,
    next_torrent: u64,
    links: Links<F>,
    announces: Announces,
    actions: VecDeque<Action>,
    timers: Timers,
    buffers: Buffers,
    resident: Resident<F>,
    /// Torrents whose last poll found no memory, in the order in which they get some.
    starved: VecDeque<TorrentKey>,
    /// Whether memory was released since they were last polled.
    memory_freed: bool,
    /// Torrents that may have a peer to connect to, in the order of their turns.
    dial_queue: VecDeque<TorrentKey>,
    /// Before this no connection is begun.
    dial_at: Duration,
    syncs: Syncs,
    down: Bucket,
    up: Bucket,
    events_dropped: u64,
    /// The most that all peers' buffers of messages held at a time, in bytes.
    messages_peak: usize,
    now: Duration,
}

impl<F> Engine<F> {
    /// A session without torrents.
    pub fn new(now: Duration, config: EngineConfig) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let announces = Announces::new(config.families, ChaCha8Rng::from_rng(&mut rng));
        Self {
            rng,
            torrents: BTreeMap::new(),
            running: 0,
            jobs: 0,
            by_info_hash: BTreeMap::new(),
            next_torrent: 1,
            links: Links::new(config.max_half_open),
            announces,
            actions: VecDeque::new(),
            timers: Timers::new(now),
            buffers: Buffers::new(config.span_memory),
            resident: Resident::new(config.open_files),
            starved: VecDeque::new(),
            memory_freed: false,
            dial_queue: VecDeque::new(),
            dial_at: now,
            syncs: Syncs::default(),
            down: Bucket::new(now, config.max_down),
            up: Bucket::new(now, config.max_up),
            events_dropped: 0,
            messages_peak: 0,
            config,
            now,
        }
    }

    /// The next thing to do; `None` when there is nothing more.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let announces = self.announces.poll_timeout();
        [self.timers.next(), announces].into_iter().flatten().min()
    }

    /// The time of [`Self::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        // Each at most once, whatever its next time is.
        for _ in 0..self.torrents.len() {
            let Some(torrent) = self.timers.pop_due(now) else { break };
            self.handle_torrent_timeout(torrent);
        }
        if self.timers.is_sweep_due(now) {
            self.sweep_links();
        }
        self.announces.handle_timeout(now);
        self.settle();
    }

    /// Whether every torrent is stopped and every job answered.
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.jobs == 0
    }

    /// Counts passing events that the caller did not take in time.
    pub fn count_dropped_event(&mut self) {
        self.events_dropped += 1;
    }

    fn emit(&mut self, torrent: TorrentKey, kind: EventKind) {
        self.actions.push_back(Action::Event(Event { torrent, kind }));
    }
}

//! All decisions of a session, without sockets, clock, threads, disk and system randomness.
//!
//! The engine owns every torrent and every connection. The caller reports what happened
//! (`handle_*`), and drains the polls after any call: [`Engine::poll_action`] for what must be
//! done, [`Engine::poll_transmit`] for the bytes of a link that an [`Action::Transmit`] named, and
//! [`Engine::poll_timeout`] for when [`Engine::handle_timeout`] is due.
//!
//! Each folder has one type that owns the state of its subject: `torrent`, `link`, `announce`,
//! `metadata`, `dht`, `disk`. The methods of the engine, in the files beside them, route between these.
//!
//! ```text
//!  bytes --> Connection::receive --> meaning --> Swarm::handle_* --> Output --> Connection::request
//!                                       |                              |
//!                                       '- block data -> span          '-> Action::Store(Job)
//! ```
//!
//! Invariants: a block's bytes are copied once, into the span reserved for them; a span's memory is
//! released only when the buffer is back; nothing is announced or served before the store answered
//! `Verified`; every table is bounded by the limits in [`crate::limits`].

mod action;
mod announce;
mod commands;
mod config;
mod connections;
mod datagram;
mod dht;
mod dial;
mod discovery;
mod disk;
mod disk_failure;
mod keys;
mod link;
mod metadata;
mod metadata_messages;
mod outputs;
mod rate;
mod status;
mod store;
mod torrent;
mod trackers;
mod uploads;

use std::collections::VecDeque;
use std::time::Duration;

use lsd::Lsd;
use piece_store::{Job, OsFile, TorrentKey};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

pub use action::Action;
pub use announce::{Families, Family, FetchFailure, Fetched, Resolved};
pub use config::EngineConfig;
pub(crate) use datagram::is_for_dht;
pub use keys::{AnnounceKey, LinkKey};
pub use link::Outgoing;
pub use torrent::AddError;

use self::dht::DhtClient;
use crate::event::{Event, EventKind};
use crate::limits::{METADATA_MEMORY, QUEUE_CAPACITY};
use announce::Announces;
use disk::Disk;
use link::Links;
use metadata::MetadataMemory;
use rate::Bucket;
use torrent::Torrents;

/// All torrents and connections of a session. `F` is an open file of the disk: the engine passes it
/// from the store to the caller that sends its bytes.
#[derive(Debug)]
pub struct Engine<F = OsFile> {
    config: EngineConfig,
    rng: ChaCha8Rng,
    torrents: Torrents,
    links: Links<F>,
    announces: Announces,
    metadata_memory: MetadataMemory,
    dht: Option<Box<DhtClient>>,
    lsd: Option<Lsd>,
    disk: Disk<F>,
    actions: VecDeque<Action>,
    down: Bucket,
    up: Bucket,
    events_dropped: u64,
    now: Duration,
}

impl<F> Engine<F> {
    /// Returns an engine without torrents.
    pub fn new(now: Duration, config: EngineConfig) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let announces = Announces::new(config.families, ChaCha8Rng::from_rng(&mut rng));
        let dht = config.dht.as_ref();
        let dht = dht.map(|dht| Box::new(DhtClient::new(dht, config.families, &mut rng)));
        let lsd = config.lsd && config.listen_port != 0;
        let lsd = lsd.then(|| Lsd::new(config.listen_port, rng.random()));
        Self {
            rng,
            torrents: Torrents::new(),
            links: Links::new(now, config.max_connections, config.max_half_open),
            announces,
            metadata_memory: MetadataMemory::new(METADATA_MEMORY),
            dht,
            lsd,
            disk: Disk::new(config.span_memory, config.open_files),
            actions: VecDeque::new(),
            down: Bucket::new(now, config.max_down),
            up: Bucket::new(now, config.max_up),
            events_dropped: 0,
            config,
            now,
        }
    }

    /// The next action; `None` when there is nothing more.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            self.actions.shrink_to(QUEUE_CAPACITY);
        }
        action
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let dht = self.dht.as_ref().and_then(|dht| dht.poll_timeout());
        let lsd = self.lsd.as_ref().and_then(Lsd::poll_timeout);
        let next = [self.torrents.next_timeout(), self.announces.poll_timeout(), dht, lsd];
        next.into_iter().flatten().chain([self.links.poll_timeout()]).min()
    }

    /// The time of [`Self::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        // Each at most once, even if it is due again.
        for _ in 0..self.torrents.len() {
            let Some(torrent) = self.torrents.pop_due(now) else { break };
            self.handle_torrent_timeout(torrent);
        }
        if self.links.is_sweep_due(now) {
            self.sweep_links();
        }
        self.announces.handle_timeout(now);
        if let Some(dht) = &mut self.dht {
            dht.handle_timeout(now);
        }
        self.settle();
    }

    /// Whether every torrent is stopped. Then every job is answered too.
    pub fn is_idle(&self) -> bool {
        self.torrents.is_idle()
    }

    /// Counts a passing event that the caller had no room for.
    pub fn count_dropped_event(&mut self) {
        self.events_dropped += 1;
    }

    /// Gives a job to the store and counts it.
    fn submit(&mut self, torrent: TorrentKey, job: Job) {
        self.torrents[torrent].jobs += 1;
        self.actions.push_back(Action::Store(job));
    }

    fn emit(&mut self, torrent: TorrentKey, kind: EventKind) {
        self.actions.push_back(Action::Event(Event { torrent, kind }));
    }
}

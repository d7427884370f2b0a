//! An `Engine` with a real store and a virtual clock. What it asks of the network is in lists, for
//! the test to answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceReply, AnnounceRequest};
use metainfo::Metainfo;
use piece_store::{Done, Job, Operation, Pool, PoolConfig, Resources, StoreError};
use session::engine::{Action, AnnounceKey, Engine, EngineConfig, Families, LinkKey, Outgoing};
use session::{AddTorrent, EventKind, TorrentKey, TorrentStatus};
use testkit::Payload;

/// An announce that the engine asks for over HTTP.
pub(crate) struct Fetch {
    pub(crate) key: AnnounceKey,
    pub(crate) leg: usize,
    pub(crate) url: String,
    pub(crate) request: AnnounceRequest,
}

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) now: Duration,
    pool: Pool,
    pub(crate) events: Vec<(TorrentKey, EventKind)>,
    /// Connections to be made, in order.
    pub(crate) connecting: VecDeque<(LinkKey, SocketAddr)>,
    pub(crate) closed: BTreeSet<LinkKey>,
    pub(crate) sent: BTreeMap<LinkKey, Vec<u8>>,
    transmit: BTreeSet<LinkKey>,
    /// Jobs not given to the store yet. They stay here while `hold_jobs` is set.
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) hold_jobs: bool,
    /// Nothing is sent while this is set.
    pub(crate) hold_bytes: bool,
    /// Payload is sent with an error.
    pub(crate) corrupt: bool,
    /// The next sync fails, and every piece is lost.
    pub(crate) spoil_sync: bool,
    pub(crate) fetches: VecDeque<Fetch>,
    pub(crate) names: VecDeque<String>,
    pub(crate) datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(crate) multicasts: VecDeque<(lsd::Group, Vec<u8>)>,
}

pub(crate) fn config(seed: u64) -> EngineConfig {
    EngineConfig {
        listen_port: 6881,
        span_memory: 16 << 20,
        fixed_memory: 0,
        verify_jobs: 4,
        max_connections: 200,
        max_peers_per_torrent: 50,
        families: Families { v4: true, v6: false },
        ..EngineConfig::new(seed)
    }
}

pub(crate) fn add_of(payload: &Payload, folder: impl AsRef<Path>) -> AddTorrent {
    let metainfo = Metainfo::parse(payload.torrent()).expect("the payload has a good torrent");
    AddTorrent::new(Arc::new(metainfo), folder.as_ref())
}

impl Node {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let pool = PoolConfig::new(Resources::with_workers(1));
        Self {
            engine: Engine::new(Duration::ZERO, config),
            now: Duration::ZERO,
            pool: Pool::start(pool).expect("a pool"),
            events: Vec::new(),
            connecting: VecDeque::new(),
            closed: BTreeSet::new(),
            sent: BTreeMap::new(),
            transmit: BTreeSet::new(),
            jobs: VecDeque::new(),
            hold_jobs: false,
            hold_bytes: false,
            corrupt: false,
            spoil_sync: false,
            fetches: VecDeque::new(),
            names: VecDeque::new(),
            datagrams: VecDeque::new(),
            multicasts: VecDeque::new(),
        }
    }

    pub(crate) fn add(&mut self, add: AddTorrent) -> TorrentKey {
        let key = self.engine.add(self.now, add).expect("the torrent is new");
        self.act();
        key
    }

    /// Adds a torrent whose data is where the payload is.
    pub(crate) fn seed(&mut self, payload: &Payload) -> TorrentKey {
        self.add(AddTorrent { seed_only: true, ..add_of(payload, payload.folder_path()) })
    }

    /// Adds a torrent with these known peers.
    pub(crate) fn leech(
        &mut self,
        payload: &Payload,
        folder: impl AsRef<Path>,
        peers: impl IntoIterator<Item = SocketAddr>,
    ) -> TorrentKey {
        let peers = peers.into_iter().collect();
        self.add(AddTorrent { peers, ..add_of(payload, folder) })
    }

    pub(crate) fn add_peers(&mut self, key: TorrentKey, peers: &[SocketAddr]) {
        self.engine.add_peers(self.now, key, peers);
        self.act();
    }

    pub(crate) fn stop(&mut self, key: TorrentKey) {
        self.engine.stop(self.now, key);
        self.act();
    }

    pub(crate) fn resume(&mut self, key: TorrentKey) {
        self.engine.resume(self.now, key);
        self.act();
    }

    pub(crate) fn remove(&mut self, key: TorrentKey) {
        self.engine.remove(self.now, key);
        self.act();
    }

    /// Runs the actions of the engine until only those for the test are left.
    pub(crate) fn act(&mut self) {
        loop {
            // Actions last: sending may cause nothing but another read.
            let mut moved = self.send() | (!self.hold_jobs && self.work());
            while let Some(action) = self.engine.poll_action() {
                self.take(action);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Connect { link, address } => self.connecting.push_back((link, address)),
            Action::Close { link } => {
                self.connecting.retain(|(connecting, _)| *connecting != link);
                self.transmit.remove(&link);
                assert!(self.closed.insert(link), "a link is closed once");
            }
            Action::Transmit { link } => _ = self.transmit.insert(link),
            Action::Store(job) => self.jobs.push_back(job),
            Action::Fetch { key, leg, url, request, family: _ } => {
                self.fetches.push_back(Fetch { key, leg, url, request: *request });
            }
            Action::Resolve { host, .. } => self.names.push_back(host),
            Action::Datagram { to, bytes } => self.datagrams.push_back((to, bytes)),
            Action::Multicast { group, bytes } => self.multicasts.push_back((group, bytes)),
            Action::Event(event) => self.events.push((event.torrent, event.kind)),
        }
    }

    /// Sends what may be sent. Returns whether any byte was.
    fn send(&mut self) -> bool {
        let mut moved = false;
        for link in std::mem::take(&mut self.transmit) {
            if self.hold_bytes {
                self.transmit.insert(link);
                continue;
            }
            let before = self.sent.entry(link).or_default().len();
            self.send_link(link);
            moved |= self.sent[&link].len() > before;
        }
        moved
    }

    fn send_link(&mut self, link: LinkKey) {
        let sent = self.sent.entry(link).or_default();
        loop {
            let start = sent.len();
            let next = self.engine.poll_transmit(self.now, link).next();
            match next {
                None => break,
                Some(Outgoing::Bytes { bytes, .. }) => sent.extend_from_slice(bytes),
                Some(Outgoing::Payload { fresh: false, .. }) => {
                    return self.engine.refresh_upload(self.now, link);
                }
                Some(Outgoing::Payload { extent, .. }) => {
                    sent.resize(start + extent.length as usize, 0);
                    extent.file.read_exact_at(&mut sent[start..], extent.offset).expect("resident");
                    sent[start] ^= u8::from(self.corrupt);
                }
            }
            let length = sent.len() - start;
            self.engine.handle_transmitted(self.now, link, length);
        }
        if self.engine.is_send_throttled(self.now, link) {
            self.transmit.insert(link);
        }
    }

    /// The store does the next job, also while jobs are held.
    pub(crate) fn do_job(&mut self) {
        self.work();
        self.act();
    }

    /// Has the store do one job. Returns whether there was one.
    fn work(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else { return false };
        self.pool.submit(job).expect("room for one job");
        let mut done = self.pool.recv().expect("an answer");
        if let Done::Synced { result, lost, .. } = &mut done
            && std::mem::take(&mut self.spoil_sync)
        {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            *result = Err(StoreError::disk(Operation::Sync, Path::new("film"), &full));
            *lost = (0..1000).collect();
        }
        self.engine.handle_done(self.now, done);
        true
    }

    /// When the next timer is due, at most `limit`.
    pub(crate) fn next_due(&self, limit: Duration) -> Duration {
        let due = self.engine.poll_timeout().map_or(limit, |at| at.max(self.now));
        let throttled = !self.transmit.is_empty() && !self.hold_bytes;
        let refill = self.now + Duration::from_millis(50);
        if throttled { due.min(refill).min(limit) } else { due.min(limit) }
    }

    /// Moves the clock, timer by timer.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now = self.next_due(end).max(self.now + Duration::from_micros(1)).min(end);
            self.tick();
        }
    }

    pub(crate) fn tick(&mut self) {
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        self.act();
    }

    /// A peer connects and sends `bytes`.
    pub(crate) fn incoming(&mut self, from: &str, bytes: &[u8]) -> Option<LinkKey> {
        let link = self.engine.handle_accepted(self.now, from.parse().unwrap())?;
        self.act();
        self.receive(link, bytes);
        Some(link)
    }

    pub(crate) fn receive(&mut self, link: LinkKey, bytes: &[u8]) {
        self.engine.handle_bytes(self.now, link, &mut bytes.to_vec());
        self.act();
    }

    /// The next outgoing connection is established, and its peer sends `bytes`.
    pub(crate) fn outgoing(&mut self, bytes: &[u8]) -> LinkKey {
        let (link, _) = self.connecting.pop_front().expect("it wants to connect");
        self.engine.handle_connected(self.now, link);
        self.act();
        self.receive(link, bytes);
        link
    }

    /// The connection cannot be established.
    pub(crate) fn refuse(&mut self, link: LinkKey) {
        self.engine.handle_connect_failed(self.now, link, "connection refused");
        self.act();
    }

    /// The look-up of `host` finds these addresses.
    pub(crate) fn resolved(&mut self, host: &str, ips: &[&str]) {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.engine.handle_resolved(self.now, host, Ok(ips));
        self.act();
    }

    /// A datagram comes.
    pub(crate) fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.engine.handle_datagram(self.now, from, bytes);
        self.act();
    }

    pub(crate) fn answer(&mut self, fetch: &Fetch, peers: Vec<bt_types::TrackerPeer>) {
        let reply = AnnounceReply { interval: 1800, peers, ..AnnounceReply::default() };
        self.engine.handle_fetched(self.now, fetch.key, fetch.leg, Ok(reply));
        self.act();
    }

    pub(crate) fn fail(&mut self, fetch: &Fetch, message: &str, refused: bool) {
        let message = message.to_owned();
        let failure = session::engine::FetchFailure { message, retry_in: None, refused };
        self.engine.handle_fetched(self.now, fetch.key, fetch.leg, Err(failure));
        self.act();
    }

    pub(crate) fn status(&self, key: TorrentKey) -> TorrentStatus {
        self.engine.status_of(key).expect("the torrent is there")
    }

    pub(crate) fn has(&self, wanted: impl Fn(&EventKind) -> bool) -> bool {
        self.count(wanted) > 0
    }

    pub(crate) fn count(&self, wanted: impl Fn(&EventKind) -> bool) -> usize {
        self.events.iter().filter(|(_, kind)| wanted(kind)).count()
    }

    pub(crate) fn completed(&self) -> bool {
        self.has(|kind| *kind == EventKind::Completed)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.has(|kind| matches!(kind, EventKind::Stopped { .. }))
    }
}

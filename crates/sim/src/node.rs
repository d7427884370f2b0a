//! A node: the real engine and the real store, on a virtual disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use piece_store::{Done, Job, Stat, TorrentKey, Torrents};
use session::AddTorrent;
use session::engine::{Engine, EngineConfig, Families, LinkKey};

use crate::disk::{SimDisk, SimFile, State};
use crate::network::At;
use crate::payload::{FOLDER, Payload};
use crate::rng::Rng;
use crate::scenario::{Crash, NodePlan, Start, Want};
use crate::site::{Site, Truth};
use crate::watch::Watch;

pub(crate) const PORT: u16 = 6881;
/// More torrents than an engine ever has here.
const SECOND_ENGINE: u64 = 1000;

/// A process on the machine.
pub(crate) struct Process {
    pub(crate) engine: Engine<SimFile>,
    /// Shared with another torrent of the same session.
    pub(crate) torrents: Arc<Torrents<SimDisk>>,
    pub(crate) torrent: TorrentKey,
    /// What to add to the keys of its engine. Keys of two engines in one process must differ.
    pub(crate) key_offset: u64,
    /// Jobs not done yet, and answers not delivered yet.
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) answers: BTreeMap<u64, Done<SimFile>>,
    pub(crate) wires: BTreeMap<LinkKey, At>,
    pub(crate) connecting: BTreeSet<LinkKey>,
    /// Links on which the engine has something to send.
    pub(crate) sending: BTreeSet<LinkKey>,
    /// When the engine is called next.
    pub(crate) alarm: Option<Duration>,
    /// How many times in a row the engine's timer was due at once.
    pub(crate) idle_wakes: u32,
}

/// Has the store do a job of an engine, to whose keys `key_offset` is added.
pub(crate) fn handle_job(
    torrents: &Torrents<SimDisk>,
    key_offset: u64,
    mut job: Job,
    scratch: &mut [u8],
) -> Done<SimFile> {
    key_of_job(&mut job).0 += key_offset;
    let mut done = torrents.handle_job(job, None, scratch);
    key_of_done(&mut done).0 -= key_offset;
    done
}

fn key_of_job(job: &mut Job) -> &mut TorrentKey {
    match job {
        Job::CheckInfo { torrent, .. }
        | Job::Open { torrent, .. }
        | Job::Verify { torrent, .. }
        | Job::FinishCheck { torrent }
        | Job::Commit { torrent, .. }
        | Job::Stage { torrent, .. }
        | Job::Read { torrent, .. }
        | Job::Sync { torrent }
        | Job::Close { torrent, .. } => torrent,
    }
}

fn key_of_done(done: &mut Done<SimFile>) -> &mut TorrentKey {
    match done {
        Done::InfoChecked { torrent, .. }
        | Done::Opened { torrent, .. }
        | Done::Checked { torrent, .. }
        | Done::CheckFinished { torrent, .. }
        | Done::Committed { torrent, .. }
        | Done::Staged { torrent, .. }
        | Done::Ready { torrent, .. }
        | Done::Synced { torrent, .. }
        | Done::Closed { torrent, .. } => torrent,
    }
}

/// A machine: what outlives the processes on it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) plan: NodePlan,
    pub(crate) site: Site,
    /// The other node on the same machine, if there is one.
    pub(crate) mate: Option<usize>,
    /// The file that the mate wants too.
    pub(crate) contested: Option<usize>,
    /// Whether it stopped because the mate has the file. It need not complete.
    pub(crate) gave_way: bool,
    /// How many times the user resumed it after both gave way.
    pub(crate) retries: u32,
    pub(crate) rng: Rng,
    /// Whether its user has the torrent, or has got it by the link.
    pub(crate) has_torrent: bool,
    /// Counts the launches.
    pub(crate) launch: u32,
    pub(crate) process: Option<Process>,
    pub(crate) watch: Watch,
    /// The files on the disk at launch.
    pub(crate) stamps: BTreeMap<PathBuf, Stat>,
    /// Pieces that the store reported as verified.
    pub(crate) have: BTreeSet<u32>,
    /// Those of `have` that must survive a power cut.
    pub(crate) durable: BTreeSet<u32>,
    /// Those of `have` that must survive a failed sync: not those verified again since.
    pub(crate) safe: BTreeSet<u32>,
    /// Pieces that the next start must find.
    pub(crate) promised: BTreeSet<u32>,
    /// Pieces that the present start has found so far.
    pub(crate) found: BTreeSet<u32>,
    /// Whether the check at start is over.
    pub(crate) started: bool,
    pub(crate) completed: bool,
    /// Whether the last process that started its transfer was shut down cleanly.
    pub(crate) closed: bool,
    /// Whether a sync failed since the torrent was opened: then the shutdown is not clean.
    pub(crate) sync_failed: bool,
    /// Whether there may be files that count as the torrent's only while something in them
    /// verifies: the user's own, until the first transfer starts, and one that was edited since the
    /// last transfer started.
    pub(crate) doubtful: bool,
    /// The user stopped it, and its process ends once it is idle.
    pub(crate) leaving: bool,
    /// How the process ends if its disk dies.
    pub(crate) dies_how: Crash,
    /// When the next process starts after the last one ended.
    pub(crate) back_at: Duration,
    /// The disk failures that the torrent has stopped for.
    pub(crate) failures_seen: u64,
    /// When the disk's faults end.
    pub(crate) faulty_until: Duration,
    pub(crate) scratch: Vec<u8>,
}

pub(crate) fn node_address(at: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, at as u8 + 1), PORT))
}

pub(crate) fn liar_address(at: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 1, 0, at as u8 + 1), PORT))
}

impl Node {
    pub(crate) fn new(
        at: usize,
        plan: NodePlan,
        payload: &Arc<Payload>,
        disk: Option<&Arc<SimDisk>>,
        missing: Option<u32>,
        rng: &mut Rng,
    ) -> Self {
        let mut rng = rng.split();
        let disk = disk.cloned().unwrap_or_else(|| Arc::new(SimDisk::new(rng.split())));
        disk.state().lockless |= plan.lockless;
        disk.state().folds |= plan.folds;
        put_payload(&mut disk.state(), payload, &plan, missing, &mut rng);
        put_unrelated(&mut disk.state(), payload, &plan, &mut rng);
        Self {
            name: format!("n{at}"),
            doubtful: plan.start != Start::Nothing,
            site: Site::new(Arc::clone(payload), disk, plan.state),
            mate: None,
            contested: None,
            gave_way: false,
            retries: 0,
            has_torrent: !plan.by_link,
            plan,
            rng,
            launch: 0,
            process: None,
            watch: Watch::default(),
            stamps: BTreeMap::new(),
            have: BTreeSet::new(),
            durable: BTreeSet::new(),
            safe: BTreeSet::new(),
            promised: BTreeSet::new(),
            found: BTreeSet::new(),
            started: false,
            completed: false,
            closed: false,
            sync_failed: false,
            leaving: false,
            dies_how: Crash::Killed,
            back_at: Duration::ZERO,
            failures_seen: 0,
            faulty_until: Duration::ZERO,
            scratch: Torrents::<SimDisk>::scratch(),
        }
    }

    /// Returns what the user wants in this launch.
    pub(crate) fn want(&self) -> &Want {
        self.plan.want(self.launch)
    }

    /// Returns what should be on its disk, to compare with what is.
    pub(crate) fn truth(&self) -> Truth<'_> {
        Truth { site: &self.site, want: self.want() }
    }

    /// Returns the state of its disk.
    pub(crate) fn disk(&self) -> MutexGuard<'_, State> {
        self.site.disk.state()
    }

    /// Whether a file has bytes of the torrent.
    pub(crate) fn is_in_place(&self, file: usize, path: &Path) -> bool {
        !self.is_unrelated(file) && self.disk().length(path).is_some_and(|got| got > 0)
    }

    /// Whether an unrelated file of the user has this one's path: until the file is wanted and may
    /// be overwritten.
    fn is_unrelated(&self, file: usize) -> bool {
        let is_rubbish = self.plan.start == Start::Nothing
            && self.plan.long.iter().any(|(other, _)| *other == file);
        let was_wanted = || (1..=self.launch).any(|launch| self.plan.want(launch).has(file));
        self.plan.unrelated.contains(&file) || (is_rubbish && !was_wanted())
    }

    /// Whether a piece has bytes in an unselected link. If a piece of that link must be written,
    /// the store gives up all pieces of the link.
    pub(crate) fn is_beside_left_link(&self, piece: u32) -> bool {
        let mut left = self.plan.links.iter().filter(|link| !self.want().has(**link));
        left.any(|link| self.site.payload.pieces_in(*link).contains(&piece))
    }

    /// Whether the process may have written to a file. Bytes of an unwanted file that was not there
    /// go to the parts file; a file of the user with its path stays untouched.
    pub(crate) fn may_write(&self, path: &Path) -> bool {
        self.may_write_as(self.want(), path)
    }

    /// Whether an unwanted file was cut.
    pub(crate) fn is_cut_unwanted(
        &self,
        path: &Path,
        before: Option<Stat>,
        after: Option<Stat>,
    ) -> bool {
        let (Some(before), Some(after)) = (before, after) else { return false };
        let mut files = self.site.files_at(path);
        let is_wanted = files.any(|file| self.want().has(file));
        Site::is_payload(path) && !is_wanted && self.mate.is_none() && after.length < before.length
    }

    /// Whether any process on the machine may have written to a file.
    pub(crate) fn may_have_written(&self, path: &Path) -> bool {
        let wants = &self.plan.wants[..self.plan.wants.len().min(self.launch as usize)];
        wants.iter().any(|want| self.may_write_as(want, path))
    }

    fn may_write_as(&self, want: &Want, path: &Path) -> bool {
        if path.starts_with(self.site.state) {
            return *want != Want::SeedOnly || path != self.site.parts();
        }
        // An earlier process may have created an empty file.
        let is_used = |stamp: &Stat| stamp.length > 0 || self.launch > 1;
        let was_there = self.stamps.get(path).is_some_and(is_used);
        let is_used = |file: usize| was_there && !self.is_unrelated(file);
        if self.stamps.get(path).is_some_and(|stamp| stamp.linked) {
            return false;
        }
        let mut files = self.site.files_at(path);
        *want != Want::SeedOnly && files.any(|file| want.has(file) || is_used(file))
    }

    /// Returns the files that changed since launch, with their `Stat` before and after.
    pub(crate) fn changed_files(&self) -> Vec<(PathBuf, Option<Stat>, Option<Stat>)> {
        let stamps = self.disk().stamps();
        let paths =
            stamps.keys().chain(self.stamps.keys().filter(|path| !stamps.contains_key(*path)));
        let both = |path: &PathBuf| {
            (path.clone(), self.stamps.get(path).copied(), stamps.get(path).copied())
        };
        paths.map(both).filter(|(_, before, after)| before != after).collect()
    }

    /// These pieces are not on the disk any longer.
    pub(crate) fn lose(&mut self, pieces: &Range<u32>) {
        self.have.retain(|piece| !pieces.contains(piece));
        self.durable.retain(|piece| !pieces.contains(piece));
    }

    /// Stops the torrent for good because the mate has one of its files.
    pub(crate) fn give_way(&mut self) {
        self.gave_way = true;
        for pieces in [&mut self.have, &mut self.durable, &mut self.safe, &mut self.promised] {
            pieces.clear();
        }
    }

    /// Starts a process on the machine and adds the torrent. `shared` are the torrents of the
    /// mate's process, if the node joins it.
    pub(crate) fn start(&mut self, now: Duration, shared: Option<Arc<Torrents<SimDisk>>>) {
        self.launch += 1;
        self.completed = false;
        self.gave_way = false;
        self.leaving = false;
        self.watch = Watch::default();
        self.stamps = self.site.disk.state().stamps();
        let mut engine = Engine::new(now, self.config());
        let metainfo = &self.site.payload.metainfo;
        let mut add = match self.has_torrent {
            true => AddTorrent::new(Arc::clone(metainfo), FOLDER),
            false => AddTorrent::from_link(Arc::new(metainfo.magnet()), FOLDER),
        };
        match self.want() {
            Want::All => {}
            Want::Files(files) => add.selected = Some(files.clone()),
            Want::SeedOnly => add.seed_only = true,
        }
        let nodes = self.plan.peers.iter().map(|peer| node_address(*peer));
        add.peers = nodes.chain((0..self.plan.named_liars).map(liar_address)).collect();
        add.preallocate = self.plan.preallocate;
        add.overwrite = self.plan.overwrite;
        let torrent = engine.add(now, add).expect("a fresh engine has no torrent");
        self.process = Some(Process {
            engine,
            torrents: shared
                .unwrap_or_else(|| Arc::new(Torrents::new(Arc::clone(&self.site.disk)))),
            torrent,
            key_offset: if self.plan.same_process { SECOND_ENGINE } else { 0 },
            jobs: BTreeMap::new(),
            answers: BTreeMap::new(),
            wires: BTreeMap::new(),
            connecting: BTreeSet::new(),
            sending: BTreeSet::new(),
            alarm: None,
            idle_wakes: 0,
        });
    }

    fn config(&mut self) -> EngineConfig {
        EngineConfig {
            listen_port: PORT,
            max_down: self.plan.max_down,
            max_up: self.plan.max_up,
            span_memory: self.plan.span_memory,
            fixed_memory: 0,
            verify_jobs: 2,
            max_connections: self.plan.max_connections,
            max_peers_per_torrent: self.plan.max_connections,
            upload_slots: 4,
            state_dir: Some(self.plan.state.into()),
            families: Families { v4: true, v6: false },
            ..EngineConfig::new(self.rng.number())
        }
    }
}

/// Puts the files that a node has at the start on its disk.
fn put_payload(
    disk: &mut State,
    payload: &Payload,
    plan: &NodePlan,
    missing: Option<u32>,
    rng: &mut Rng,
) {
    let percent = match plan.start {
        Start::Nothing => return,
        Start::Some(percent) => percent,
        Start::Everything => 100,
    };
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        payload.files().map(|(path, length)| (path, vec![0; length as usize])).collect();
    for index in (0..payload.pieces()).filter(|index| Some(*index) != missing) {
        let Some(piece) = payload.piece(index).filter(|_| rng.chance(percent)) else { continue };
        for slice in payload.slices(piece) {
            let at = slice.at as usize;
            files[slice.file].1[at..at + slice.bytes.len()].copy_from_slice(slice.bytes);
        }
    }
    for (file, by) in &plan.long {
        files[*file].1.extend((0..*by).map(|_| rng.number() as u8));
    }
    for (file, (path, bytes)) in files.into_iter().enumerate() {
        if plan.links.contains(&file) {
            let target = link_target(file);
            disk.put(&target, bytes);
            disk.put_link(&path, &target);
        } else {
            disk.put(&path, bytes);
        }
    }
}

/// Returns the path that the link in place of a file leads to.
fn link_target(file: usize) -> PathBuf {
    PathBuf::from(format!("/elsewhere/{file}"))
}

/// Puts unrelated files at some paths. No byte of them is right, and none is zero.
fn put_unrelated(disk: &mut State, payload: &Payload, plan: &NodePlan, rng: &mut Rng) {
    let other = |byte: &u8| if *byte == 1 { 2 } else { byte ^ 1 };
    for (number, (path, length)) in payload.files().enumerate() {
        let bytes = payload.file(number).iter();
        if plan.unrelated.contains(&number) {
            let length = 1 + rng.below(length) as usize;
            disk.put(&path, bytes.take(length).map(other).collect());
        } else if let Some((_, by)) = plan.long.iter().find(|(file, _)| *file == number)
            && plan.start == Start::Nothing
        {
            let tail = (0..*by).map(|_| rng.number() as u8 | 1);
            disk.put(&path, bytes.map(other).chain(tail).collect());
        }
    }
}

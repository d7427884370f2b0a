//! An honest machine: the real core and the real store, on a virtual disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use piece_store::{Done, Job, MAX_OPEN_FILES, Stat, TorrentKey, Torrents};
use session::AddTorrent;
use session::core::{Core, CoreConfig, Families, LinkKey};
use session::limits::MAX_HALF_OPEN;

use crate::disk::{SimDisk, SimFile};
use crate::network::At;
use crate::payload::{FOLDER, Payload};
use crate::rng::Rng;
use crate::scenario::{Crash, NodePlan, Start, Want};
use crate::site::{Site, Truth};
use crate::watch::Watch;

pub(crate) const PORT: u16 = 6881;
/// More torrents than any core has here.
const SECOND_CORE: u64 = 1000;

/// A process on the machine.
pub(crate) struct Process {
    pub(crate) core: Core<SimFile>,
    /// Shared with the other node in the same process.
    pub(crate) torrents: Arc<Torrents<SimDisk>>,
    pub(crate) torrent: TorrentKey,
    /// The number that is added to the keys of its core. It tells them from the keys of the other
    /// core in the process.
    pub(crate) key_offset: u64,
    /// Jobs that are not done yet, and answers that were not handled yet.
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) answers: BTreeMap<u64, Done<SimFile>>,
    pub(crate) wires: BTreeMap<LinkKey, At>,
    pub(crate) connecting: BTreeSet<LinkKey>,
    /// Links with something to send, according to the core.
    pub(crate) sending: BTreeSet<LinkKey>,
    /// When its timer is due, if it is set.
    pub(crate) alarm: Option<Duration>,
    /// How often its timer was due again at the same time.
    pub(crate) idle_wakes: u32,
}

/// Lets the store do a job of a core. Adds `key_offset` to the keys of the core.
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
        Job::Open { torrent, .. }
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
        Done::Opened { torrent, .. }
        | Done::Checked { torrent, .. }
        | Done::CheckFinished { torrent, .. }
        | Done::Committed { torrent, .. }
        | Done::Staged { torrent, .. }
        | Done::Ready { torrent, .. }
        | Done::Synced { torrent, .. }
        | Done::Closed { torrent, .. } => torrent,
    }
}

/// A machine and its user, across all processes on it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) plan: NodePlan,
    pub(crate) site: Site,
    /// The other node on the same machine, if there is one.
    pub(crate) mate: Option<usize>,
    /// The file that the other node on the machine wants too.
    pub(crate) contested: Option<usize>,
    /// Whether it stopped because the mate has the file. Then it need not complete.
    pub(crate) gave_way: bool,
    /// How often the user resumed it after both gave way.
    pub(crate) retries: u32,
    pub(crate) rng: Rng,
    /// Counts the processes on it.
    pub(crate) life: u32,
    pub(crate) process: Option<Process>,
    pub(crate) watch: Watch,
    /// The files on the disk when the process started.
    pub(crate) stamps: BTreeMap<PathBuf, Stat>,
    /// The pieces that the node has, according to the store.
    pub(crate) have: BTreeSet<u32>,
    /// Those of them that a power cut must not remove.
    pub(crate) durable: BTreeSet<u32>,
    /// Those of them that a failed sync must not remove: all but pieces that were verified again
    /// since.
    pub(crate) safe: BTreeSet<u32>,
    /// The pieces that the next start must find.
    pub(crate) promised: BTreeSet<u32>,
    /// The pieces that the present start has found so far.
    pub(crate) found: BTreeSet<u32>,
    /// Whether its check is finished.
    pub(crate) started: bool,
    pub(crate) completed: bool,
    /// Whether the last process that started a transfer ended with a clean shutdown.
    pub(crate) closed: bool,
    /// Whether a sync failed since the torrent was opened. Then there is no clean shutdown.
    pub(crate) sync_failed: bool,
    /// Whether there may be files that are the torrent's only while something in them verifies: the
    /// user's own files, until the first transfer starts, and a file that was edited since the last
    /// transfer started.
    pub(crate) doubtful: bool,
    /// Whether the user has ended it, so that it ends once it is idle.
    pub(crate) leaving: bool,
    /// How the process dies if its disk does.
    pub(crate) dies_how: Crash,
    /// When the next process starts after the last one ended.
    pub(crate) back_at: Duration,
    /// The number of disk failures for which the torrent has stopped so far.
    pub(crate) failures_seen: u64,
    /// Until when its disk fails.
    pub(crate) ill_until: Duration,
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
        if plan.lockless {
            disk.give_all_locks();
        }
        if plan.folds {
            disk.fold_names();
        }
        put_payload(&disk, payload, &plan, missing, &mut rng);
        put_user_files(&disk, payload, &plan, &mut rng);
        Self {
            name: format!("n{at}"),
            doubtful: plan.start != Start::Nothing,
            site: Site::new(Arc::clone(payload), disk, plan.state),
            mate: None,
            contested: None,
            gave_way: false,
            retries: 0,
            plan,
            rng,
            life: 0,
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
            ill_until: Duration::ZERO,
            scratch: Torrents::<SimDisk>::scratch(),
        }
    }

    /// What the user wants now.
    pub(crate) fn want(&self) -> &Want {
        self.plan.want(self.life)
    }

    /// Compares its disk with what must be on it.
    pub(crate) fn truth(&self) -> Truth<'_> {
        Truth { site: &self.site, want: self.want() }
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.site.disk
    }

    /// Whether a file has some of the torrent's bytes.
    pub(crate) fn is_in_place(&self, file: usize, path: &Path) -> bool {
        !self.is_users(file) && self.disk().length(path).is_some_and(|got| got > 0)
    }

    /// Whether the user's own file has the name of this one. It may be overwritten once the file is
    /// wanted.
    fn is_users(&self, file: usize) -> bool {
        let is_rubbish = self.plan.start == Start::Nothing
            && self.plan.long.iter().any(|(other, _)| *other == file);
        let was_wanted = || (1..=self.life).any(|life| self.plan.want(life).has(file));
        self.plan.user_files.contains(&file) || (is_rubbish && !was_wanted())
    }

    /// Whether a piece has bytes in an unselected link. If one piece of that link must be written,
    /// all of its pieces are given up.
    pub(crate) fn is_beside_left_link(&self, piece: u32) -> bool {
        let mut left = self.plan.links.iter().filter(|link| !self.want().has(**link));
        left.any(|link| self.site.payload.pieces_in(*link).contains(&piece))
    }

    /// Whether the process may have written to a file. Bytes of missing unselected files go to the
    /// parts file, and the user's own files stay untouched.
    pub(crate) fn may_write(&self, path: &Path) -> bool {
        self.may_write_as(self.want(), path)
    }

    /// Whether an unselected file was cut.
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
        let wants = &self.plan.wants[..self.plan.wants.len().min(self.life as usize)];
        wants.iter().any(|want| self.may_write_as(want, path))
    }

    fn may_write_as(&self, want: &Want, path: &Path) -> bool {
        if path.starts_with(self.site.state) {
            return *want != Want::SeedOnly || path != self.site.parts();
        }
        // An earlier process may have made an empty file.
        let is_used = |stamp: &Stat| stamp.length > 0 || self.life > 1;
        let was_there = self.stamps.get(path).is_some_and(is_used);
        let is_used = |file: usize| was_there && !self.is_users(file);
        if self.stamps.get(path).is_some_and(|stamp| stamp.linked) {
            return false;
        }
        let mut files = self.site.files_at(path);
        *want != Want::SeedOnly && files.any(|file| want.has(file) || is_used(file))
    }

    /// Returns the files that changed since the process started, as they were and as they are.
    pub(crate) fn changed_files(&self) -> Vec<(PathBuf, Option<Stat>, Option<Stat>)> {
        let stamps = self.disk().stamps();
        let paths =
            stamps.keys().chain(self.stamps.keys().filter(|path| !stamps.contains_key(*path)));
        let both = |path: &PathBuf| {
            (path.clone(), self.stamps.get(path).copied(), stamps.get(path).copied())
        };
        paths.map(both).filter(|(_, before, after)| before != after).collect()
    }

    /// The torrent stopped because the other one on the machine has a file of it.
    pub(crate) fn give_way(&mut self) {
        self.gave_way = true;
        for pieces in [&mut self.have, &mut self.durable, &mut self.safe, &mut self.promised] {
            pieces.clear();
        }
    }

    /// Starts a process on the machine and adds the torrent. `session` are the torrents of the
    /// process that it joins, if any.
    pub(crate) fn start(&mut self, now: Duration, session: Option<Arc<Torrents<SimDisk>>>) {
        self.life += 1;
        self.completed = false;
        self.gave_way = false;
        self.leaving = false;
        self.watch = Watch::default();
        self.stamps = self.disk().stamps();
        let mut core = Core::new(now, self.config());
        let mut add = AddTorrent::new(Arc::clone(&self.site.payload.metainfo), FOLDER);
        match self.want() {
            Want::All => {}
            Want::Files(files) => add.selected = Some(files.clone()),
            Want::SeedOnly => add.seed_only = true,
        }
        let nodes = self.plan.peers.iter().map(|peer| node_address(*peer));
        add.peers = nodes.chain((0..self.plan.named_liars).map(liar_address)).collect();
        add.preallocate = self.plan.preallocate;
        add.overwrite = self.plan.overwrite;
        let torrent = core.add(now, add).expect("a fresh core has no torrent");
        self.process = Some(Process {
            core,
            torrents: session
                .unwrap_or_else(|| Arc::new(Torrents::new(Arc::clone(&self.site.disk)))),
            torrent,
            key_offset: if self.plan.same_process { SECOND_CORE } else { 0 },
            jobs: BTreeMap::new(),
            answers: BTreeMap::new(),
            wires: BTreeMap::new(),
            connecting: BTreeSet::new(),
            sending: BTreeSet::new(),
            alarm: None,
            idle_wakes: 0,
        });
    }

    fn config(&mut self) -> CoreConfig {
        CoreConfig {
            listen_port: PORT,
            max_down: self.plan.max_down,
            max_up: self.plan.max_up,
            span_memory: self.plan.span_memory,
            fixed_memory: 0,
            verify_jobs: 2,
            max_connections: self.plan.max_connections,
            max_half_open: MAX_HALF_OPEN,
            open_files: MAX_OPEN_FILES,
            max_peers_per_torrent: self.plan.max_connections,
            upload_slots: 4,
            state_dir: Some(self.plan.state.into()),
            announce_ip: None,
            families: Families { v4: true, v6: false },
            seed: self.rng.number(),
        }
    }
}

/// Puts the files that a node has at the start on its disk.
fn put_payload(
    disk: &SimDisk,
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
        for place in payload.places(piece) {
            let at = place.at as usize;
            files[place.file].1[at..at + place.bytes.len()].copy_from_slice(place.bytes);
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

/// The path of the file that a link leads to.
pub(crate) fn link_target(file: usize) -> PathBuf {
    PathBuf::from(format!("/elsewhere/{file}"))
}

/// Puts the user's own files on the disk under some names. None of their bytes is right or zero.
fn put_user_files(disk: &SimDisk, payload: &Payload, plan: &NodePlan, rng: &mut Rng) {
    let other = |byte: &u8| if *byte == 1 { 2 } else { byte ^ 1 };
    for (number, (path, length)) in payload.files().enumerate() {
        let bytes = payload.file(number).iter();
        if plan.user_files.contains(&number) {
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

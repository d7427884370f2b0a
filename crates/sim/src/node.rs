//! An honest machine: the real engine and the real store, on a virtual disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use piece_store::{Done, Job, Stat, TorrentKey, Torrents};
use session::AddTorrent;
use session::engine::{Engine, EngineConfig, Families, LinkKey};

use crate::dice::Dice;
use crate::disk::{SimDisk, SimFile};
use crate::network::At;
use crate::payload::{FOLDER, Payload};
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
    /// What to add to the keys of its engine, which those of another engine in the process must differ
    /// from.
    pub(crate) key_offset: u64,
    /// Jobs that were not done yet, and answers that were not taken yet.
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) answers: BTreeMap<u64, Done<SimFile>>,
    pub(crate) wires: BTreeMap<LinkKey, At>,
    pub(crate) connecting: BTreeSet<LinkKey>,
    /// Links with something to send, as far as the engine says.
    pub(crate) sending: BTreeSet<LinkKey>,
    /// When it is to be woken next, if it is.
    pub(crate) alarm: Option<Duration>,
    /// How often it was woken for nothing at one and the same time.
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

/// What the run must know of a machine, whoever is running on it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) plan: NodePlan,
    pub(crate) site: Site,
    /// The other node on the same machine, if there is one.
    pub(crate) mate: Option<usize>,
    /// The file that the other node on the machine wants too.
    pub(crate) contested: Option<usize>,
    /// It stopped because the mate has the file, and need not complete.
    pub(crate) gave_way: bool,
    /// How often the user had it try again after both gave way.
    pub(crate) retries: u32,
    pub(crate) dice: Dice,
    /// Counts the processes that have run on it.
    pub(crate) life: u32,
    pub(crate) process: Option<Process>,
    pub(crate) watch: Watch,
    /// What the disk had when the process began.
    pub(crate) stamps: BTreeMap<PathBuf, Stat>,
    /// Pieces that the store said are had.
    pub(crate) had: BTreeSet<u32>,
    /// Those of them that a power cut may not take away.
    pub(crate) durable: BTreeSet<u32>,
    /// Those of them that a sync which fails may not take away: not what was verified anew since.
    pub(crate) safe: BTreeSet<u32>,
    /// What the next start must find.
    pub(crate) promised: BTreeSet<u32>,
    /// What the present start has found so far.
    pub(crate) found: BTreeSet<u32>,
    /// Whether its check is over.
    pub(crate) started: bool,
    pub(crate) completed: bool,
    /// Whether the last process that had begun its transfer ended it in good order.
    pub(crate) closed: bool,
    /// Whether a sync failed since the torrent was opened: then that is no good order.
    pub(crate) sync_failed: bool,
    /// Whether files may be there that are the torrent's only as long as something in them
    /// verifies: the user's own, until the transfer first began, and one that was edited since it
    /// last began.
    pub(crate) doubtful: bool,
    /// The user ended it, and it is to end once it is idle.
    pub(crate) leaving: bool,
    /// How the process dies if its disk does.
    pub(crate) dies_how: Crash,
    /// When a process begins again after the last one ended.
    pub(crate) back_at: Duration,
    /// Disk failures that the user has seen the torrent stop for.
    pub(crate) failures_seen: u64,
    /// Until when its disk misbehaves.
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
        dice: &mut Dice,
    ) -> Self {
        let mut dice = dice.split();
        let disk = disk.cloned().unwrap_or_else(|| Arc::new(SimDisk::new(dice.split())));
        if plan.lockless {
            disk.give_all_locks();
        }
        if plan.folds {
            disk.fold_names();
        }
        put_payload(&disk, payload, &plan, missing, &mut dice);
        put_strangers(&disk, payload, &plan, &mut dice);
        Self {
            name: format!("n{at}"),
            doubtful: plan.start != Start::Nothing,
            site: Site::new(Arc::clone(payload), disk, plan.state),
            mate: None,
            contested: None,
            gave_way: false,
            retries: 0,
            plan,
            dice,
            life: 0,
            process: None,
            watch: Watch::default(),
            stamps: BTreeMap::new(),
            had: BTreeSet::new(),
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

    /// What is on its disk, and should be.
    pub(crate) fn truth(&self) -> Truth<'_> {
        Truth { site: &self.site, want: self.want() }
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.site.disk
    }

    /// Whether a file has some of the torrent's bytes.
    pub(crate) fn is_in_place(&self, file: usize, path: &Path) -> bool {
        !self.is_strange(file) && self.disk().length(path).is_some_and(|got| got > 0)
    }

    /// Whether the user's own file is in the place of this one: until it is wanted, and may be
    /// written over.
    fn is_strange(&self, file: usize) -> bool {
        let is_rubbish = self.plan.start == Start::Nothing
            && self.plan.long.iter().any(|(other, _)| *other == file);
        let was_wanted = || (1..=self.life).any(|life| self.plan.want(life).has(file));
        self.plan.strangers.contains(&file) || (is_rubbish && !was_wanted())
    }

    /// Whether a piece has bytes in an unselected link. If some piece of that link must be written,
    /// all of them are given up.
    pub(crate) fn is_beside_left_link(&self, piece: u32) -> bool {
        let mut left = self.plan.links.iter().filter(|link| !self.want().has(**link));
        left.any(|link| self.site.payload.pieces_in(*link).contains(&piece))
    }

    /// Whether the process may have written to a file. What is not wanted and was not there is kept
    /// elsewhere; what the user has in its place is let alone.
    pub(crate) fn may_write(&self, path: &Path) -> bool {
        self.may_write_as(self.want(), path)
    }

    /// Whether a file that is not wanted was cut.
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

    /// Whether a process that has run on the machine may have written to a file.
    pub(crate) fn may_have_written(&self, path: &Path) -> bool {
        let wants = &self.plan.wants[..self.plan.wants.len().min(self.life as usize)];
        wants.iter().any(|want| self.may_write_as(want, path))
    }

    fn may_write_as(&self, want: &Want, path: &Path) -> bool {
        if path.starts_with(self.site.state) {
            return *want != Want::ToServe || path != self.site.parts();
        }
        // An empty file may be one that an earlier process made.
        let is_used = |stamp: &Stat| stamp.length > 0 || self.life > 1;
        let was_there = self.stamps.get(path).is_some_and(is_used);
        let is_used = |file: usize| was_there && !self.is_strange(file);
        if self.stamps.get(path).is_some_and(|stamp| stamp.linked) {
            return false;
        }
        let mut files = self.site.files_at(path);
        *want != Want::ToServe && files.any(|file| want.has(file) || is_used(file))
    }

    /// The files that are not as they were when the process began, as they were and as they are.
    pub(crate) fn changed_files(&self) -> Vec<(PathBuf, Option<Stat>, Option<Stat>)> {
        let stamps = self.disk().stamps();
        let paths =
            stamps.keys().chain(self.stamps.keys().filter(|path| !stamps.contains_key(*path)));
        let both = |path: &PathBuf| {
            (path.clone(), self.stamps.get(path).copied(), stamps.get(path).copied())
        };
        paths.map(both).filter(|(_, before, after)| before != after).collect()
    }

    /// The torrent stopped for good because the other one on the machine has a file of it.
    pub(crate) fn give_way(&mut self) {
        self.gave_way = true;
        for pieces in [&mut self.had, &mut self.durable, &mut self.safe, &mut self.promised] {
            pieces.clear();
        }
    }

    /// A process begins on the machine and takes the torrent in.
    /// `session` are the torrents of the process that it joins, if it does.
    pub(crate) fn start(&mut self, now: Duration, session: Option<Arc<Torrents<SimDisk>>>) {
        self.life += 1;
        self.completed = false;
        self.gave_way = false;
        self.leaving = false;
        self.watch = Watch::default();
        self.stamps = self.disk().stamps();
        let mut engine = Engine::new(now, self.config());
        let mut add = AddTorrent::new(Arc::clone(&self.site.payload.metainfo), FOLDER);
        match self.want() {
            Want::All => {}
            Want::Files(files) => add.selected = Some(files.clone()),
            Want::ToServe => add.seed_only = true,
        }
        let nodes = self.plan.peers.iter().map(|peer| node_address(*peer));
        add.peers = nodes.chain((0..self.plan.named_liars).map(liar_address)).collect();
        add.preallocate = self.plan.preallocate;
        add.overwrite = self.plan.overwrite;
        let torrent = engine.add(now, add).expect("a fresh engine has no torrent");
        self.process = Some(Process {
            engine,
            torrents: session
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
            ..EngineConfig::new(self.dice.number())
        }
    }
}

/// Puts what a node has at the begin on its disk.
fn put_payload(
    disk: &SimDisk,
    payload: &Payload,
    plan: &NodePlan,
    missing: Option<u32>,
    dice: &mut Dice,
) {
    let percent = match plan.start {
        Start::Nothing => return,
        Start::Some(percent) => percent,
        Start::Everything => 100,
    };
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        payload.files().map(|(path, length)| (path, vec![0; length as usize])).collect();
    for index in (0..payload.pieces()).filter(|index| Some(*index) != missing) {
        let Some(piece) = payload.piece(index).filter(|_| dice.chance(percent)) else { continue };
        for place in payload.places(piece) {
            let at = place.at as usize;
            files[place.file].1[at..at + place.bytes.len()].copy_from_slice(place.bytes);
        }
    }
    for (file, by) in &plan.long {
        files[*file].1.extend((0..*by).map(|_| dice.number() as u8));
    }
    for (file, (path, bytes)) in files.into_iter().enumerate() {
        if plan.links.contains(&file) {
            let target = elsewhere(file);
            disk.put(&target, bytes);
            disk.put_link(&path, &target);
        } else {
            disk.put(&path, bytes);
        }
    }
}

/// Where the file is that a link leads to.
pub(crate) fn elsewhere(file: usize) -> PathBuf {
    PathBuf::from(format!("/elsewhere/{file}"))
}

/// Puts files of the user's in the place of some, with not one byte that is right, nor a zero.
fn put_strangers(disk: &SimDisk, payload: &Payload, plan: &NodePlan, dice: &mut Dice) {
    let other = |byte: &u8| if *byte == 1 { 2 } else { byte ^ 1 };
    for (number, (path, length)) in payload.files().enumerate() {
        let bytes = payload.file(number).iter();
        if plan.strangers.contains(&number) {
            let length = 1 + dice.below(length) as usize;
            disk.put(&path, bytes.take(length).map(other).collect());
        } else if let Some((_, by)) = plan.long.iter().find(|(file, _)| *file == number)
            && plan.start == Start::Nothing
        {
            let tail = (0..*by).map(|_| dice.number() as u8 | 1);
            disk.put(&path, bytes.map(other).chain(tail).collect());
        }
    }
}

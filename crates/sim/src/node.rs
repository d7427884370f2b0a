//! An honest machine: the real core and the real store, on a virtual disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use piece_store::{Done, Job, Stat, TorrentKey, Torrents};
use session::AddTorrent;
use session::core::{Core, CoreConfig, Families, LinkKey};

use crate::dice::Dice;
use crate::disk::{SimDisk, SimFile};
use crate::network::At;
use crate::payload::{FOLDER, Payload};
use crate::scenario::{Crash, NodePlan, Start, Want};
use crate::watch::{Broken, Truth, Watch};

pub(crate) const PORT: u16 = 6881;

/// A process on the machine.
pub(crate) struct Process {
    pub(crate) core: Core<SimFile>,
    pub(crate) torrents: Torrents<SimDisk>,
    pub(crate) torrent: TorrentKey,
    /// Jobs that were not done yet, and answers that were not taken yet.
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) answers: BTreeMap<u64, Done<SimFile>>,
    pub(crate) wires: BTreeMap<LinkKey, At>,
    pub(crate) connecting: BTreeSet<LinkKey>,
    /// Links with something to send, as far as the core says.
    pub(crate) sending: BTreeSet<LinkKey>,
    /// When it is to be woken next, if it is.
    pub(crate) alarm: Option<Duration>,
    /// How often it was woken for nothing at one and the same time.
    pub(crate) idle_wakes: u32,
}

/// What the run must know of a machine, whoever is running on it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) plan: NodePlan,
    pub(crate) disk: Arc<SimDisk>,
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
    /// Whether files may be there that are the torrent's only as long as something in them verifies: the
    /// user's own, until the transfer first began, and one that was edited since it last began.
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
        payload: &Payload,
        missing: Option<u32>,
        dice: &mut Dice,
    ) -> Self {
        let mut dice = dice.split();
        let disk = Arc::new(SimDisk::new(dice.split()));
        put_payload(&disk, payload, plan.start, missing, &mut dice);
        put_strangers(&disk, payload, &plan.strangers, &mut dice);
        Self {
            name: format!("n{at}"),
            doubtful: plan.start != Start::Nothing,
            plan,
            disk,
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
    pub(crate) fn truth<'a>(&'a self, payload: &'a Payload) -> Truth<'a> {
        Truth { payload, disk: &self.disk, want: self.want() }
    }

    /// Whether a file has some of the torrent's bytes.
    pub(crate) fn is_in_place(&self, file: usize, path: &Path) -> bool {
        !self.plan.strangers.contains(&file) && self.disk.length(path).is_some_and(|got| got > 0)
    }

    /// Whether the process may have written to a file. What is not wanted and was not there is kept
    /// elsewhere; what the user has in its place is let alone.
    fn may_write(&self, path: &Path, payload: &Payload) -> bool {
        let want = self.want();
        if !path.starts_with(FOLDER) {
            return *want != Want::ToServe || path != payload.parts();
        }
        let Some(file) = payload.number_of(path) else { return false };
        let was_there = self.stamps.get(path).is_some_and(|stamp| stamp.length > 0);
        let is_used = was_there && !self.plan.strangers.contains(&file);
        *want != Want::ToServe && (want.has(file) || is_used)
    }

    /// The process ends, one way or the other: it has written to no file but those it may write to.
    pub(crate) fn check_files(&self, payload: &Payload) -> Result<(), Broken> {
        let stamps = self.disk.stamps();
        let paths = stamps.keys().chain(self.stamps.keys());
        let mut changed = paths.filter(|path| stamps.get(*path) != self.stamps.get(*path));
        let wrong = changed.find(|path| !self.may_write(path, payload));
        wrong.map_or(Ok(()), |path| {
            let (before, after) = (self.stamps.get(path), stamps.get(path));
            Err(format!("{}: {path:?} was {before:?} and is {after:?}", self.name))
        })
    }

    /// A process begins on the machine and takes the torrent in.
    pub(crate) fn start(&mut self, now: Duration, payload: &Payload) {
        self.life += 1;
        self.completed = false;
        self.leaving = false;
        self.watch = Watch::default();
        self.stamps = self.disk.stamps();
        let mut core = Core::new(now, self.config());
        let mut add = AddTorrent::new(Arc::clone(&payload.metainfo), FOLDER);
        match self.want() {
            Want::All => {}
            Want::Files(files) => add.selected = Some(files.clone()),
            Want::ToServe => add.seed_only = true,
        }
        add.peers = self.plan.peers.iter().map(|peer| node_address(*peer)).collect();
        add.preallocate = self.plan.preallocate;
        let torrent = core.add(now, add).expect("a fresh core has no torrent");
        self.process = Some(Process {
            core,
            torrents: Torrents::new(Arc::clone(&self.disk)),
            torrent,
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
            max_peers_per_torrent: self.plan.max_connections,
            upload_slots: 4,
            state_dir: Some("/state".into()),
            announce_ip: None,
            families: Families { v4: true, v6: false },
            seed: self.dice.number(),
        }
    }
}

/// Puts what a node has at the begin on its disk.
fn put_payload(
    disk: &SimDisk,
    payload: &Payload,
    start: Start,
    missing: Option<u32>,
    dice: &mut Dice,
) {
    let percent = match start {
        Start::Nothing => return,
        Start::Some(percent) => percent,
        Start::Everything => 100,
    };
    let mut files: BTreeMap<_, Vec<u8>> =
        payload.files().map(|(path, length)| (path, vec![0; length as usize])).collect();
    for index in (0..payload.pieces()).filter(|index| Some(*index) != missing) {
        let Some(piece) = payload.piece(index).filter(|_| dice.chance(percent)) else { continue };
        for place in payload.places(piece) {
            if let Some(file) = files.get_mut(&place.path) {
                let at = place.at as usize;
                file[at..at + place.bytes.len()].copy_from_slice(place.bytes);
            }
        }
    }
    for (path, bytes) in files {
        disk.put(&path, bytes);
    }
}

/// Puts files of the user's in the place of some, with not one byte that is right, nor a zero.
fn put_strangers(disk: &SimDisk, payload: &Payload, strangers: &[usize], dice: &mut Dice) {
    for (number, (path, length)) in payload.files().enumerate() {
        if strangers.contains(&number) {
            let length = 1 + dice.below(length) as usize;
            let other = |byte: &u8| if *byte == 1 { 2 } else { byte ^ 1 };
            disk.put(&path, payload.file(number).iter().take(length).map(other).collect());
        }
    }
}

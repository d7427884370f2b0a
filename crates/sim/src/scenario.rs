//! What is drawn from a seed: the peers, the network, the disks, the trackers, and what happens to
//! them when.

use std::fmt;
use std::time::Duration;

mod draw;
mod rival;
mod shape;

use self::draw::*;
pub use self::shape::{Shape, shapes};
use crate::disk::Faults;
use crate::network::Quality;
use crate::payload::Layout;
use crate::rng::Rng;

/// Payload bytes of all nodes together, at most. This bounds the cost of a simulation.
const MAX_VOLUME: u64 = 6 << 20;
const BLOCK: u64 = 16 * 1024;
/// The share of scenarios in which names of files differ only in case, in percent.
const FOLDED: u32 = 15;
/// The share of nodes with files in which some files are links, in percent.
const LINKED: u32 = 15;
/// The share of nodes in which files are too long, in percent.
const LONG: u32 = 8;
/// The share of scenarios in which some nodes start with a magnet link, in percent.
const LINKS: u32 = 40;
/// The share of scenarios in which two torrents want the same file, in percent.
const RIVALS: u32 = 14;

/// The files that a node has at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Everything,
    Nothing,
    /// All files, with about this share of the pieces right, in percent.
    Some(u32),
}

/// What the user of a node wants of the torrent in one launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    All,
    /// These files of it.
    Files(Vec<bool>),
    /// Nothing: the torrent is seed-only.
    SeedOnly,
}

impl Want {
    /// Whether the file is wanted.
    pub(crate) fn has(&self, file: usize) -> bool {
        match self {
            Self::All => true,
            Self::Files(files) => files.get(file).is_none_or(|wanted| *wanted),
            Self::SeedOnly => false,
        }
    }
}

/// An honest node.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) start: Start,
    /// Whether its user has a magnet link instead of the torrent.
    pub(crate) by_link: bool,
    /// What is wanted in the first launch, the second, and so on; the last entry stays.
    pub(crate) wants: Vec<Want>,
    /// Files that are never wanted, and at whose paths the user has unrelated files.
    pub(crate) unrelated: Vec<usize>,
    /// Whether it has the rival torrent instead of the first.
    pub(crate) rival: bool,
    /// The node on whose machine it is; `None` for a machine of its own.
    pub(crate) machine: Option<usize>,
    /// Whether it is in the same process as its mate.
    pub(crate) same_process: bool,
    /// Its state folder.
    pub(crate) state: &'static str,
    /// Whether others may lose what it has, so that nothing may happen to its data.
    pub(crate) protected: bool,
    pub(crate) overwrite: bool,
    /// Whether its disk treats names that differ only in case as one.
    pub(crate) folds: bool,
    /// Whether its disk has no locks. Then only the claims in the state folder protect files.
    pub(crate) lockless: bool,
    /// Files that are symbolic links at the start.
    pub(crate) links: Vec<usize>,
    /// Files that are too long at the start, and by how many bytes. A node that starts with nothing
    /// has unrelated bytes in them.
    pub(crate) long: Vec<(usize, u64)>,
    /// The launch that ends early, if one does.
    pub(crate) ends_early: Option<EarlyEnd>,
    /// When it first starts.
    pub(crate) from: Duration,
    pub(crate) span_memory: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_down: Option<u64>,
    pub(crate) max_up: Option<u64>,
    pub(crate) preallocate: bool,
    /// Nodes that its user names with `--peer`.
    pub(crate) peers: Vec<usize>,
    /// How many of the liars its user names too.
    pub(crate) named_liars: usize,
    /// The longest time that the store takes for a job, in microseconds.
    pub(crate) job_time: u64,
}

impl NodePlan {
    /// A node on a machine of its own, with nothing unusual.
    pub(crate) fn new(start: Start, wants: Vec<Want>) -> Self {
        Self {
            start,
            by_link: false,
            wants,
            unrelated: Vec::new(),
            rival: false,
            machine: None,
            same_process: false,
            state: "/state",
            protected: false,
            overwrite: false,
            folds: false,
            lockless: false,
            links: Vec::new(),
            long: Vec::new(),
            ends_early: None,
            from: Duration::ZERO,
            span_memory: 8 << 20,
            max_connections: 250,
            max_down: None,
            max_up: None,
            preallocate: false,
            peers: Vec::new(),
            named_liars: 0,
            job_time: 3000,
        }
    }

    /// Returns what is wanted in a launch, counted from 1.
    pub(crate) fn want(&self, launch: u32) -> &Want {
        let number = (launch.max(1) as usize).min(self.wants.len()) - 1;
        &self.wants[number]
    }
}

/// The end of a process while it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EarlyEnd {
    /// The launch, counted from 1.
    pub(crate) launch: u32,
    pub(crate) how: Crash,
    /// The write or sync of its disk during which it ends, counted from 1.
    pub(crate) operation: u64,
    pub(crate) back_after: Duration,
}

/// What a liar does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Serves wrong bytes in this share of the blocks, in percent. With 0 it is honest.
    WrongBytes(u32),
    /// Claims everything and never answers a request.
    NeverAnswers,
    /// Claims everything and rejects every request.
    RejectsAll,
    /// Chokes and unchokes in turn, and serves in between.
    FlapsChoke,
    /// Serves a block every few seconds.
    Slow,
    /// Requests blocks without end, also while choked.
    AsksWithoutEnd,
    /// Sends unrequested blocks.
    SendsUnasked,
    /// Sends a bitfield that is too long.
    BadBitfield,
    /// Sends random bytes after the handshake.
    Noise,
    /// Connects and sends nothing.
    Silent,
    /// Disconnects in the middle of a block.
    BreaksOff,
    /// Announces pieces with HAVE again and again, and serves none.
    FloodsHave,
    /// Offers the metadata and sends wrong bytes; answers no other request.
    WrongMetadata,
    /// Offers metadata of another length, and sends it.
    OtherMetadata,
}

pub(crate) const TRICKS: [Trick; 15] = [
    Trick::WrongBytes(100),
    Trick::WrongBytes(20),
    Trick::NeverAnswers,
    Trick::RejectsAll,
    Trick::FlapsChoke,
    Trick::Slow,
    Trick::AsksWithoutEnd,
    Trick::SendsUnasked,
    Trick::BadBitfield,
    Trick::Noise,
    Trick::Silent,
    Trick::BreaksOff,
    Trick::FloodsHave,
    Trick::WrongMetadata,
    Trick::OtherMetadata,
];

/// How a process ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    Killed,
    PowerCut,
}

/// An incident on a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Incident {
    /// The process ends at once, or in the middle of the given write or sync of its disk from now.
    Dies { how: Crash, operation: Option<u64>, back_after: Duration },
    /// The user shuts it down cleanly, and starts it again later.
    Leaves { back_after: Duration },
    /// The disk has faults for a while.
    Disk { faults: Faults, lasts: Duration },
    /// All its connections break; `notified` says whether the ends notice.
    Cut { notified: bool },
    /// Its connections deliver nothing for a while.
    Stalls { lasts: Duration },
}

/// How trackers behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrackerPlan {
    /// They do not answer before this time.
    pub(crate) down_until: Duration,
    /// The share of announces over HTTP that fail and of datagrams that are lost, in percent.
    pub(crate) failing: u32,
    /// The share of datagrams that are damaged, in percent.
    pub(crate) rubbish: u32,
    pub(crate) interval: u32,
    /// Until when they fail or damage datagrams.
    pub(crate) faulty_until: Duration,
    /// Whether they also return addresses without a peer.
    pub(crate) returns_dead_peers: bool,
}

/// The properties of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkPlan {
    /// In milliseconds.
    pub(crate) max_latency: u64,
    /// The range of rates, in bytes per second.
    pub(crate) rates: (u64, u64),
    pub(crate) capacity: usize,
    /// The share of attempts to connect that get no answer, in percent.
    pub(crate) lost_connects: u32,
    /// The most bytes that one read returns.
    pub(crate) portion: u64,
}

/// A second torrent, which wants a file at the path of one of the first torrent's.
#[derive(Debug, Clone)]
pub(crate) struct Rival {
    pub(crate) layout: Layout,
    /// The index of the file in this torrent.
    pub(crate) file: usize,
    /// The index of the file in the first torrent.
    pub(crate) file_of_first: usize,
    /// Whether both have the same bytes in it.
    pub(crate) same: bool,
    /// The file's length if it is there at the start, all zeros. Either torrent may take it.
    pub(crate) blank: Option<u64>,
}

/// A simulation's plan.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) layout: Layout,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) liars: Vec<Trick>,
    pub(crate) network: NetworkPlan,
    /// The connection to each liar, where they are not drawn. Then the liars wait for connections.
    pub(crate) wires: Vec<Quality>,
    pub(crate) trackers: TrackerPlan,
    pub(crate) incidents: Vec<(Duration, usize, Incident)>,
    /// A piece that no peer has, so that no node can complete.
    pub(crate) missing: Option<u32>,
    /// A second torrent that shares a file with the first one.
    pub(crate) rival: Option<Rival>,
    /// One in this many uploads finds its bytes no longer resident; 0 for never.
    pub(crate) evictions: u32,
}

impl Scenario {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let calm = rng.chance(25);
        let count = node_count(rng);
        let mut layout = draw_layout(rng, count as u64);
        let pieces = layout.total().div_ceil(u64::from(layout.piece_length));
        let liars = if calm { 0 } else { liar_count(rng, count) };
        let has_folded = rng.chance(FOLDED) && fold_names(rng, &mut layout);
        let mut nodes: Vec<NodePlan> =
            (0..count).map(|at| draw_node(rng, at, count, &layout)).collect();
        if has_folded {
            draw_folding(rng, &mut nodes);
        }
        draw_long_files(rng, &mut nodes, &layout.files);
        let rival =
            if rng.chance(RIVALS) { rival::draw_rival(rng, &mut layout, &mut nodes) } else { None };
        if rng.chance(LINKS) {
            draw_by_link(rng, &mut nodes);
        }
        if !calm {
            draw_early_ends(rng, &mut nodes);
        }
        let incidents = if calm { Vec::new() } else { draw_incidents(rng, &nodes) };
        let is_missing = pieces > 1 && rival.is_none() && rng.chance(3);
        let missing = is_missing.then(|| rng.below(pieces) as u32);
        if missing.is_some() {
            // Then the files of a node with everything are wrong too.
            let all = nodes.iter_mut().filter(|node| node.start == Start::Everything);
            let some =
                all.flat_map(|node| &mut node.wants).filter(|want| matches!(want, Want::Files(_)));
            some.for_each(|want| *want = Want::All);
        }
        Self {
            liars: (0..liars).filter_map(|_| rng.pick(&TRICKS).copied()).collect(),
            network: draw_network(rng, calm),
            wires: Vec::new(),
            trackers: draw_trackers(rng, calm),
            missing,
            rival,
            evictions: if rng.chance(30) { 50 } else { 0 },
            layout,
            nodes,
            incidents,
        }
    }

    /// Whether nothing goes wrong.
    pub(crate) fn is_calm(&self) -> bool {
        self.liars.iter().all(|trick| *trick == Trick::WrongBytes(0)) && self.incidents.is_empty()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = &self.layout;
        let (total, files) = (layout.total(), layout.files.len());
        writeln!(
            f,
            "{total} bytes in {files} files, pieces of {} bytes, {}% of them zeros, trackers {:?}",
            layout.piece_length, layout.zeros, layout.trackers
        )?;
        writeln!(f, "{:?}\n{:?}", self.network, self.trackers)?;
        if let Some(rival) = &self.rival {
            writeln!(f, "{rival:?}")?;
        }
        if let Some(missing) = self.missing {
            writeln!(f, "no peer has piece {missing}")?;
        }
        for (at, node) in self.nodes.iter().enumerate() {
            writeln!(f, "n{at}: {node:?}")?;
        }
        for (at, trick) in self.liars.iter().enumerate() {
            writeln!(f, "l{at}: {trick:?}")?;
        }
        for (at, node, incident) in &self.incidents {
            writeln!(f, "at {:.3} s: n{node} {incident:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

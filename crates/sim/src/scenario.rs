//! The scenario of a seed: the nodes and their disks, the network, the trackers, and what happens
//! to them when.

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

/// The most payload bytes of all nodes together. It bounds the cost of a simulation.
const MAX_VOLUME: u64 = 6 << 20;
const BLOCK: u64 = 16 * 1024;
/// The percentage of simulations in which names of files differ only in case.
const FOLDED: u32 = 15;
/// The percentage of nodes with files in which some files are links.
const LINKED: u32 = 15;
/// The percentage of nodes in which files are too long.
const LONG: u32 = 8;
/// The percentage of simulations in which two torrents want the same file.
const RIVALS: u32 = 14;

/// What a node has at the start of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Everything,
    Nothing,
    /// Files in which about this percentage of the pieces is right.
    Some(u32),
}

/// What the user of a node wants until the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    All,
    /// These files.
    Files(Vec<bool>),
    /// Nothing: the torrent is seed-only.
    SeedOnly,
}

impl Want {
    /// Whether the file with this number must be complete at the end.
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
    /// What is wanted from the first start on, from the second, and so on. The last one stays.
    pub(crate) wants: Vec<Want>,
    /// Files that are never wanted. The user has files of their own with these names.
    pub(crate) user_files: Vec<usize>,
    /// Whether it has the rival torrent instead of the first.
    pub(crate) rival: bool,
    /// The node whose machine it shares, if any.
    pub(crate) machine: Option<usize>,
    /// Whether it is in the same process as the other node on its machine.
    pub(crate) same_process: bool,
    /// Its state folder.
    pub(crate) state: &'static str,
    /// Whether others depend on its pieces, so that none of them may get lost.
    pub(crate) source: bool,
    pub(crate) overwrite: bool,
    /// Whether names that differ only in case are the same on its disk.
    pub(crate) folds: bool,
    /// Whether files on its disk can't be locked. Then only the claims in the state folder protect
    /// them.
    pub(crate) lockless: bool,
    /// Files that are symbolic links at the start.
    pub(crate) links: Vec<usize>,
    /// Files that are too long at the start, and by how much. On a node that has nothing they are
    /// unrelated files.
    pub(crate) long: Vec<(usize, u64)>,
    /// The process that dies while it starts, if any.
    pub(crate) dies_early: Option<EarlyDeath>,
    /// When it starts first.
    pub(crate) from: Duration,
    pub(crate) span_memory: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_down: Option<u64>,
    pub(crate) max_up: Option<u64>,
    pub(crate) preallocate: bool,
    /// Peers that its user names: numbers of other nodes.
    pub(crate) peers: Vec<usize>,
    /// How many of the scripted peers its user names too.
    pub(crate) named_liars: usize,
    /// The longest time of a job of the store, in microseconds.
    pub(crate) job_time: u64,
}

impl NodePlan {
    /// What the `life`-th process on the machine wants, counted from 1.
    pub(crate) fn want(&self, life: u32) -> &Want {
        let number = (life.max(1) as usize).min(self.wants.len()) - 1;
        &self.wants[number]
    }
}

/// A death while a process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EarlyDeath {
    /// Which process on the machine, counted from 1.
    pub(crate) life: u32,
    pub(crate) how: Crash,
    /// During which write or sync of its disk, counted from 1.
    pub(crate) operation: u64,
    pub(crate) back_after: Duration,
}

/// What a scripted peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Serves wrong bytes in this percentage of the blocks; with 0 it is honest.
    WrongBytes(u32),
    /// Claims everything and never answers a request.
    NeverAnswers,
    /// Claims everything and rejects every request.
    RejectsAll,
    /// Chokes and unchokes all the time, and serves in between.
    FlapsChoke,
    /// Serves a block every few seconds.
    Slow,
    /// Requests the same blocks without end, also while choked.
    AsksWithoutEnd,
    /// Sends unrequested blocks.
    SendsUnasked,
    /// Sends a bitfield that is too long.
    BadBitfield,
    /// Sends noise after the handshake.
    Noise,
    /// Connects and sends nothing.
    Silent,
    /// Breaks off in the middle of a block.
    BreaksOff,
    /// Claims pieces one by one, again and again.
    FloodsHave,
}

pub(crate) const TRICKS: [Trick; 13] = [
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
];

/// How a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    Killed,
    PowerCut,
}

/// Something that happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mishap {
    /// The process dies at once, or in the middle of the n-th write or sync of its disk from now.
    Dies { how: Crash, operation: Option<u64>, back_after: Duration },
    /// The user shuts it down cleanly, and starts it again later.
    Leaves { back_after: Duration },
    /// The disk fails for a while.
    Disk { faults: Faults, lasts: Duration },
    /// Its connections are cut; `noticed` says whether the ends notice it.
    Cut { noticed: bool },
    /// Nothing comes through its connections for a while.
    Stalls { lasts: Duration },
}

/// How trackers behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrackerPlan {
    /// They don't answer before this time.
    pub(crate) down_until: Duration,
    /// The percentage of answers that fail, or datagrams that are lost.
    pub(crate) failing: u32,
    /// The percentage of datagrams that are garbage.
    pub(crate) rubbish: u32,
    pub(crate) interval: u32,
    /// Until when they fail or send garbage.
    pub(crate) ill_until: Duration,
    /// Whether they also name addresses without a peer.
    pub(crate) names_nobodies: bool,
}

/// What connections are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkPlan {
    /// Milliseconds.
    pub(crate) max_latency: u64,
    /// Bytes per second.
    pub(crate) rates: (u64, u64),
    pub(crate) capacity: usize,
    /// The percentage of connection attempts that are lost.
    pub(crate) lost_connects: u32,
    /// The most bytes that one read returns.
    pub(crate) portion: u64,
}

/// A torrent with a file of the same path as one of the first torrent's.
#[derive(Debug, Clone)]
pub(crate) struct Rival {
    pub(crate) layout: Layout,
    /// The number of the file in it.
    pub(crate) file: usize,
    /// Its number in the first torrent.
    pub(crate) file_of_first: usize,
    /// Whether both have the same bytes in it.
    pub(crate) same: bool,
    /// Whether it exists from the start, with this many zeros. Either torrent may take it.
    pub(crate) blank: Option<u64>,
}

/// One scenario.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) layout: Layout,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) liars: Vec<Trick>,
    pub(crate) network: NetworkPlan,
    /// The connections to each of the scripted peers, unless they are drawn. These peers wait for
    /// connections.
    pub(crate) wires: Vec<Quality>,
    pub(crate) trackers: TrackerPlan,
    pub(crate) mishaps: Vec<(Duration, usize, Mishap)>,
    /// A piece that no node has, so that none can complete.
    pub(crate) missing: Option<u32>,
    /// Another torrent that shares a file with the first one.
    pub(crate) rival: Option<Rival>,
    /// One in this many payloads is evicted before it is sent; 0 for never.
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
        if !calm {
            draw_early_deaths(rng, &mut nodes);
        }
        let mishaps = if calm { Vec::new() } else { draw_mishaps(rng, &nodes) };
        let is_missing = pieces > 1 && rival.is_none() && rng.chance(3);
        let missing = is_missing.then(|| rng.below(pieces) as u32);
        if missing.is_some() {
            // Then a node that has everything lacks the piece, too.
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
            mishaps,
        }
    }

    /// Whether something may go wrong at all.
    pub(crate) fn is_calm(&self) -> bool {
        self.liars.iter().all(|trick| *trick == Trick::WrongBytes(0)) && self.mishaps.is_empty()
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
            writeln!(f, "nobody has piece {missing}")?;
        }
        for (at, node) in self.nodes.iter().enumerate() {
            writeln!(f, "n{at}: {node:?}")?;
        }
        for (at, trick) in self.liars.iter().enumerate() {
            writeln!(f, "l{at}: {trick:?}")?;
        }
        for (at, node, mishap) in &self.mishaps {
            writeln!(f, "at {:.3} s: n{node} {mishap:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

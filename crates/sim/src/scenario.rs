//! What a seed number stands for: who takes part, over which network, with which disks and
//! trackers, and what happens to them when.

use std::fmt;
use std::time::Duration;

mod draw;
mod rival;
mod shape;

use self::draw::*;
pub use self::shape::{Shape, shapes};
use crate::dice::Dice;
use crate::disk::Faults;
use crate::network::Quality;
use crate::payload::Layout;

/// Payload bytes of all nodes together, at most: it bounds what a run costs.
const MAX_VOLUME: u64 = 6 << 20;
const BLOCK: u64 = 16 * 1024;
/// In how many percent of the runs names of files differ only in case.
const FOLDED: u32 = 15;
/// In how many percent of the nodes with files some of them are links.
const LINKED: u32 = 15;
/// In how many percent of the nodes files are too long.
const LONG: u32 = 8;
/// In how many percent of the runs two torrents want the same file.
const RIVALS: u32 = 14;

/// What a node has when the run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Everything,
    Nothing,
    /// Files with about so many percent of the pieces right.
    Some(u32),
}

/// What the user of a node wants of the torrent, until the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    All,
    /// These files of it.
    Files(Vec<bool>),
    /// Nothing: what is there is served, and not a byte is written.
    ToServe,
}

impl Want {
    /// Whether the file with this number is to be there in the end.
    pub(crate) fn has(&self, file: usize) -> bool {
        match self {
            Self::All => true,
            Self::Files(files) => files.get(file).is_none_or(|wanted| *wanted),
            Self::ToServe => false,
        }
    }
}

/// An honest node.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) start: Start,
    /// What is wanted from the first start on, from the second, and so on; the last stays.
    pub(crate) wants: Vec<Want>,
    /// Files that are never wanted, and in whose place the user has something else.
    pub(crate) strangers: Vec<usize>,
    /// Whether it has the rival torrent instead of the first.
    pub(crate) rival: bool,
    /// The node on whose machine it is, if not on one of its own.
    pub(crate) machine: Option<usize>,
    /// Whether it is in the same process as the other node on its machine.
    pub(crate) same_process: bool,
    /// Its state folder.
    pub(crate) state: &'static str,
    /// It has what others may lose: nothing of it may get lost.
    pub(crate) source: bool,
    pub(crate) overwrite: bool,
    /// Whether its disk takes names that differ only in case for one.
    pub(crate) folds: bool,
    /// Whether its disk has no locks for files: then only the claims in the state folder protect
    /// them.
    pub(crate) lockless: bool,
    /// Files that are symbolic links, to files elsewhere, when the run begins.
    pub(crate) links: Vec<usize>,
    /// Files that are longer than they should be when the run begins, and by how much. Those of a
    /// node that has nothing are rubbish.
    pub(crate) long: Vec<(usize, u64)>,
    /// The launch that ends early, how, during which write or sync, and for how long.
    pub(crate) dies_early: Option<EarlyDeath>,
    /// When it appears.
    pub(crate) from: Duration,
    pub(crate) span_memory: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_down: Option<u64>,
    pub(crate) max_up: Option<u64>,
    pub(crate) preallocate: bool,
    /// Peers its user names: numbers of other nodes.
    pub(crate) peers: Vec<usize>,
    /// How many of the scripted peers its user names too.
    pub(crate) named_liars: usize,
    /// How long the store takes for a job, in microseconds, at most.
    pub(crate) job_time: u64,
}

impl NodePlan {
    /// What is wanted by the process that is the `life`-th on the machine, counted from 1.
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

/// What a peer that is not honest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Serves wrong bytes in so many percent of the blocks; with 0 it is honest.
    WrongBytes(u32),
    /// Claims everything and never answers a request.
    NeverAnswers,
    /// Claims everything and rejects every request.
    RejectsAll,
    /// Chokes and unchokes all the time, and serves in between.
    FlapsChoke,
    /// Serves a block every few seconds.
    Slow,
    /// Asks for the same blocks without end, also while choked.
    AsksWithoutEnd,
    /// Sends blocks nobody asked for.
    SendsUnasked,
    /// A bitfield that is too long.
    BadBitfield,
    /// Noise after the handshake.
    Noise,
    /// Connects and says nothing.
    Silent,
    /// Breaks off in the middle of a block.
    BreaksOff,
    /// Claims pieces one by one, again and again, that nobody has from it.
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

/// How a process ends before its time.
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
    /// The user ends it in good order, and starts it again later.
    Leaves { back_after: Duration },
    /// The disk misbehaves for a while.
    Disk { faults: Faults, lasts: Duration },
    /// Its connections are cut; `told` says whether anybody hears of it.
    Cut { told: bool },
    /// Nothing comes through its connections for a while.
    Stalls { lasts: Duration },
}

/// How trackers behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrackerPlan {
    /// Before this they don't answer.
    pub(crate) down_until: Duration,
    /// How many percent of the answers fail, or of the datagrams are lost.
    pub(crate) failing: u32,
    /// How many percent of the datagrams are rubbish.
    pub(crate) rubbish: u32,
    pub(crate) interval: u32,
    /// Until when they fail or send rubbish.
    pub(crate) ill_until: Duration,
    /// Whether they also name addresses where nobody is.
    pub(crate) names_nobodies: bool,
}

/// What connections are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkPlan {
    /// Milliseconds.
    pub(crate) max_latency: u64,
    /// Bytes a second.
    pub(crate) rates: (u64, u64),
    pub(crate) capacity: usize,
    /// How many percent of the attempts to connect come to nothing.
    pub(crate) lost_connects: u32,
    /// The longest portion that a read gives, in bytes.
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
    /// Whether it is there from the start, empty or of that many zeros: each of them may take it.
    pub(crate) blank: Option<u64>,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) layout: Layout,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) liars: Vec<Trick>,
    pub(crate) network: NetworkPlan,
    /// The connections to each of the scripted peers, where they are not drawn. Those peers wait to
    /// be called.
    pub(crate) wires: Vec<Quality>,
    pub(crate) trackers: TrackerPlan,
    pub(crate) mishaps: Vec<(Duration, usize, Mishap)>,
    /// A piece that nobody has: nobody can complete.
    pub(crate) missing: Option<u32>,
    /// Another torrent that shares a file with the first one.
    pub(crate) rival: Option<Rival>,
    /// One in so many runs of a poll that says a payload is not resident any more; 0 for never.
    pub(crate) evictions: u32,
}

impl Scenario {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let calm = dice.chance(25);
        let count = node_count(dice);
        let mut layout = draw_layout(dice, count as u64);
        let pieces = layout.total().div_ceil(u64::from(layout.piece_length));
        let liars = if calm { 0 } else { liar_count(dice, count) };
        let has_folded = dice.chance(FOLDED) && fold_names(dice, &mut layout);
        let mut nodes: Vec<NodePlan> =
            (0..count).map(|at| draw_node(dice, at, count, &layout)).collect();
        if has_folded {
            draw_folding(dice, &mut nodes);
        }
        draw_long_files(dice, &mut nodes, &layout.files);
        let rival = if dice.chance(RIVALS) {
            rival::draw_rival(dice, &mut layout, &mut nodes)
        } else {
            None
        };
        if !calm {
            draw_early_deaths(dice, &mut nodes);
        }
        let mishaps = if calm { Vec::new() } else { draw_mishaps(dice, &nodes) };
        let is_missing = pieces > 1 && rival.is_none() && dice.chance(3);
        let missing = is_missing.then(|| dice.below(pieces) as u32);
        if missing.is_some() {
            // Then the files of a node that has everything are wrong, too.
            let all = nodes.iter_mut().filter(|node| node.start == Start::Everything);
            let some =
                all.flat_map(|node| &mut node.wants).filter(|want| matches!(want, Want::Files(_)));
            some.for_each(|want| *want = Want::All);
        }
        Self {
            liars: (0..liars).filter_map(|_| dice.pick(&TRICKS).copied()).collect(),
            network: draw_network(dice, calm),
            wires: Vec::new(),
            trackers: draw_trackers(dice, calm),
            missing,
            rival,
            evictions: if dice.chance(30) { 50 } else { 0 },
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

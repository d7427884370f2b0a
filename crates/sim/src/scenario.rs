//! What a seed number stands for: who takes part, over which network, with which disks and trackers,
//! and what happens to them when.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;
use crate::disk::Faults;
use crate::payload::Layout;

/// Payload bytes of all nodes together, at most: it bounds what a run costs.
const MAX_VOLUME: u64 = 6 << 20;
const BLOCK: u64 = 16 * 1024;

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
    /// When it appears.
    pub(crate) from: Duration,
    pub(crate) span_memory: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_down: Option<u64>,
    pub(crate) max_up: Option<u64>,
    pub(crate) preallocate: bool,
    /// Peers its user names: numbers of other nodes.
    pub(crate) peers: Vec<usize>,
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

/// What a peer that is not honest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Serves wrong bytes in so many percent of the blocks.
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
    /// The process dies at once, or in the middle of the n-th operation on its disk from now.
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

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) layout: Layout,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) liars: Vec<Trick>,
    pub(crate) network: NetworkPlan,
    pub(crate) trackers: TrackerPlan,
    pub(crate) mishaps: Vec<(Duration, usize, Mishap)>,
    /// A piece that nobody has: nobody can complete.
    pub(crate) missing: Option<u32>,
    /// One in so many runs of a poll that says a payload is not resident any more; 0 for never.
    pub(crate) evictions: u32,
}

impl Scenario {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let calm = dice.chance(25);
        let count = node_count(dice);
        let layout = draw_layout(dice, count as u64);
        let pieces = layout.total().div_ceil(u64::from(layout.piece_length));
        let liars = if calm { 0 } else { liar_count(dice, count) };
        let mut nodes: Vec<NodePlan> =
            (0..count).map(|at| draw_node(dice, at, count, &layout)).collect();
        let mishaps = if calm { Vec::new() } else { draw_mishaps(dice, &nodes) };
        let missing = (pieces > 1 && dice.chance(3)).then(|| dice.below(pieces) as u32);
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
            trackers: draw_trackers(dice, calm),
            missing,
            evictions: if dice.chance(30) { 50 } else { 0 },
            layout,
            nodes,
            mishaps,
        }
    }

    /// Whether something may go wrong at all.
    pub(crate) fn is_calm(&self) -> bool {
        self.liars.is_empty() && self.mishaps.is_empty()
    }
}

impl Layout {
    pub(crate) fn total(&self) -> u64 {
        self.files.iter().map(|(_, length)| length).sum()
    }
}

fn node_count(dice: &mut Dice) -> usize {
    match dice.below(100) {
        0..60 => dice.within(2..5) as usize,
        60..90 => dice.within(5..12) as usize,
        90..98 => dice.within(12..24) as usize,
        _ => dice.within(24..51) as usize,
    }
}

fn liar_count(dice: &mut Dice, nodes: usize) -> usize {
    if dice.chance(40) { 0 } else { dice.within(1..3 + nodes as u64 / 3) as usize }
}

fn draw_layout(dice: &mut Dice, nodes: u64) -> Layout {
    let budget = (MAX_VOLUME / nodes).max(64 * 1024);
    let piece_length = match dice.below(100) {
        0..10 => dice.within(1..5000) as u32,
        10..25 => (dice.within(1..9) * 1000 + dice.below(BLOCK)) as u32,
        25..90 => 1 << dice.within(14..18),
        90..96 => 1 << dice.within(18..20),
        _ if nodes < 4 => dice.within((2 << 20) + 1..3 << 20) as u32,
        _ => 1 << 18,
    };
    // So many pieces at most, or bookkeeping would be all there is.
    let most = budget.min(u64::from(piece_length) * 200).max(u64::from(piece_length) + 1);
    let total = dice.within(1..most);
    let files = match dice.below(100) {
        0..40 => vec![(String::new(), total)],
        40..85 => cut_files(dice, total, 12),
        85..97 => cut_files(dice, total, 100),
        _ if nodes < 4 => cut_files(dice, total, 1500),
        _ => cut_files(dice, total, 30),
    };
    let http = "http://tracker.sim/announce".to_owned();
    let udp = "udp://tracker.sim:6969".to_owned();
    let trackers = match dice.below(4) {
        0 => vec![vec![http]],
        1 => vec![vec![udp]],
        2 => vec![vec![http, udp]],
        _ => vec![vec![udp], vec![http]],
    };
    let zeros = if dice.chance(20) { 30 } else { 0 };
    Layout { files, piece_length, trackers, zeros }
}

/// Some files, empty ones among them, that are `total` bytes together.
fn cut_files(dice: &mut Dice, total: u64, most: u64) -> Vec<(String, u64)> {
    let count = dice.within(2..most + 2);
    let mut cuts: Vec<u64> = (1..count).map(|_| dice.below(total + 1)).collect();
    cuts.extend([0, total]);
    cuts.sort_unstable();
    let lengths = cuts.windows(2).map(|pair| pair[1] - pair[0]);
    lengths.enumerate().map(|(at, length)| (format!("d{}/f{at}", at % 5), length)).collect()
}

fn draw_node(dice: &mut Dice, at: usize, count: usize, layout: &Layout) -> NodePlan {
    let start = match (at, dice.below(10)) {
        (0, _) => Start::Everything,
        (_, 0) => Start::Everything,
        (_, 1 | 2) => Start::Some(dice.within(5..95) as u32),
        _ => Start::Nothing,
    };
    let rate = |dice: &mut Dice| dice.chance(15).then(|| dice.within(20_000..2_000_000));
    let least = 2 * u64::from(layout.piece_length).min(2 << 20);
    let others: Vec<usize> = (0..count).filter(|other| *other != at).collect();
    let named = if dice.chance(40) { dice.within(1..4) } else { 0 };
    let wants = draw_wants(dice, at, start, layout.files.len());
    NodePlan {
        strangers: draw_strangers(dice, start, &wants, &layout.files),
        start,
        wants,
        from: if at == 0 || dice.chance(50) { Duration::ZERO } else { dice.millis(0..20_000) },
        span_memory: dice.within(least.max(256 << 10)..(8 << 20).max(least + 1)) as usize,
        max_connections: if dice.chance(10) { dice.within(4..12) as usize } else { 200 },
        max_down: rate(dice),
        max_up: rate(dice),
        preallocate: dice.chance(15),
        peers: (0..named).filter_map(|_| dice.pick(&others).copied()).collect(),
        job_time: *dice.pick(&[100, 1_000, 5_000, 200_000]).unwrap_or(&100),
    }
}

/// The first node has what others may lose, so it never writes, or has all there is.
fn draw_wants(dice: &mut Dice, at: usize, start: Start, files: usize) -> Vec<Want> {
    let first = match at {
        0 if dice.chance(10) => Want::ToServe,
        0 => Want::All,
        _ if start != Start::Nothing && dice.chance(8) => Want::ToServe,
        // The user's own files, some of them wrong, beside those that are not wanted: not played yet.
        _ if matches!(start, Start::Some(_)) => Want::All,
        _ => draw_want(dice, files),
    };
    let changes = at != 0 && !matches!(start, Start::Some(_)) && dice.chance(40);
    let others = if changes { dice.within(1..4) } else { 0 };
    let others: Vec<Want> = (0..others)
        .map(|_| if dice.chance(20) { Want::ToServe } else { draw_want(dice, files) })
        .collect();
    [vec![first], others].concat()
}

fn draw_want(dice: &mut Dice, files: usize) -> Want {
    if files < 2 || dice.chance(50) {
        return Want::All;
    }
    let share = *dice.pick(&[10, 50, 90]).unwrap_or(&50);
    let mut wanted: Vec<bool> = (0..files).map(|_| dice.chance(share)).collect();
    wanted[dice.below(files as u64) as usize] = true;
    Want::Files(wanted)
}

fn draw_strangers(
    dice: &mut Dice,
    start: Start,
    wants: &[Want],
    files: &[(String, u64)],
) -> Vec<usize> {
    if start != Start::Nothing || dice.chance(50) {
        return Vec::new();
    }
    let never = |file: &usize| !wants.iter().any(|want| want.has(*file)) && files[*file].1 > 0;
    (0..files.len()).filter(never).filter(|_| dice.chance(20)).collect()
}

fn draw_network(dice: &mut Dice, calm: bool) -> NetworkPlan {
    let slow = dice.within(20_000..500_000);
    NetworkPlan {
        max_latency: *dice.pick(&[1, 20, 100, 800]).unwrap_or(&1),
        rates: (slow, slow + dice.below(5_000_000)),
        capacity: dice.within(2_000..300_000) as usize,
        lost_connects: if calm { 0 } else { *dice.pick(&[0, 0, 10, 40]).unwrap_or(&0) },
        portion: *dice.pick(&[700, 3_000, 40_000, 300_000]).unwrap_or(&3_000),
    }
}

fn draw_trackers(dice: &mut Dice, calm: bool) -> TrackerPlan {
    let trouble = !calm && dice.chance(40);
    let some = |dice: &mut Dice, most| if trouble { dice.below(most) } else { 0 };
    TrackerPlan {
        down_until: Duration::from_millis(some(dice, 90_000)),
        failing: some(dice, 60) as u32,
        rubbish: some(dice, 40) as u32,
        interval: dice.within(60..1800) as u32,
        ill_until: Duration::from_secs(120),
        names_nobodies: trouble,
    }
}

fn draw_mishaps(dice: &mut Dice, nodes: &[NodePlan]) -> Vec<(Duration, usize, Mishap)> {
    let count = nodes.len() as u64;
    let number = if dice.chance(30) { 0 } else { dice.within(1..4 + count / 2) };
    let mut mishaps: Vec<_> = (0..number)
        .map(|_| {
            let at = dice.millis(0..60_000);
            let node = dice.below(count) as usize;
            let mut mishap = draw_mishap(dice);
            // What a failed sync leaves on the disk is not believed, so one node's syncs work: else
            // a piece could be lost to all.
            if let (0, Mishap::Disk { faults, .. }) = (node, &mut mishap) {
                faults.sync = 0.0;
            }
            (at, node, mishap)
        })
        .collect();
    // Who is to want something else starts again.
    for (node, _) in nodes.iter().enumerate().filter(|(_, plan)| plan.wants.len() > 1) {
        if dice.chance(50) {
            let back_after = dice.millis(100..30_000);
            mishaps.push((dice.millis(0..60_000), node, Mishap::Leaves { back_after }));
        }
    }
    mishaps.sort_by_key(|(at, node, _)| (*at, *node));
    mishaps
}

fn draw_mishap(dice: &mut Dice) -> Mishap {
    let lasts = dice.millis(100..30_000);
    match dice.below(100) {
        0..40 => Mishap::Dies {
            how: if dice.chance(60) { Crash::PowerCut } else { Crash::Killed },
            operation: dice.chance(70).then(|| dice.within(1..200)),
            back_after: lasts,
        },
        40..50 => Mishap::Leaves { back_after: lasts },
        50..75 => Mishap::Disk { faults: draw_faults(dice), lasts },
        75..88 => Mishap::Cut { told: dice.chance(70) },
        _ => Mishap::Stalls { lasts },
    }
}

fn draw_faults(dice: &mut Dice) -> Faults {
    let share = *dice.pick(&[0.01, 0.1, 1.0]).unwrap_or(&0.1);
    let none = Faults { short: if dice.chance(50) { 0.3 } else { 0.0 }, ..Faults::default() };
    match dice.below(6) {
        0 => Faults { full: true, ..none },
        1 => Faults { read: share, ..none },
        2 => Faults { write: share, ..none },
        3 | 4 => Faults { sync: share, ..none },
        _ => Faults { open: share, ..none },
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

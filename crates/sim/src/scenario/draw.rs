//! What each part of a scenario is drawn from.

use std::time::Duration;

use super::*;

pub(super) fn node_count(dice: &mut Dice) -> usize {
    match dice.below(100) {
        0..60 => dice.within(2..5) as usize,
        60..90 => dice.within(5..12) as usize,
        90..98 => dice.within(12..24) as usize,
        _ => dice.within(24..51) as usize,
    }
}

pub(super) fn liar_count(dice: &mut Dice, nodes: usize) -> usize {
    if dice.chance(40) { 0 } else { dice.within(1..3 + nodes as u64 / 3) as usize }
}

pub(super) fn draw_layout(dice: &mut Dice, nodes: u64) -> Layout {
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
pub(super) fn cut_files(dice: &mut Dice, total: u64, most: u64) -> Vec<(String, u64)> {
    let count = dice.within(2..most + 2);
    let mut cuts: Vec<u64> = (1..count).map(|_| dice.below(total + 1)).collect();
    cuts.extend([0, total]);
    cuts.sort_unstable();
    let lengths = cuts.windows(2).map(|pair| pair[1] - pair[0]);
    lengths.enumerate().map(|(at, length)| (format!("d{}/f{at}", at % 5), length)).collect()
}

/// Gives a file the name of another one, in capital letters, if there are two.
pub(super) fn fold_names(dice: &mut Dice, layout: &mut Layout) -> bool {
    let count = layout.files.len() as u64;
    if count < 2 {
        return false;
    }
    for _ in 0..dice.within(1..3) {
        let (one, other) = (dice.below(count) as usize, dice.below(count) as usize);
        let name = layout.files[one].0.clone();
        let folded = match dice.chance(80) {
            true => name.replace('f', "F"),
            false => name.replace('d', "D"),
        };
        let lower = name.to_lowercase();
        let is_taken =
            layout.files.iter().filter(|(name, _)| name.to_lowercase() == lower).count() > 1;
        let was = layout.files[other].0.to_lowercase();
        let is_pair =
            layout.files.iter().filter(|(name, _)| name.to_lowercase() == was).count() > 1;
        if one != other && !is_taken && !is_pair {
            layout.files[other].0 = folded;
        }
    }
    true
}

/// Of nodes that have nothing at first, some have a disk that folds names.
pub(super) fn draw_folding(dice: &mut Dice, nodes: &mut [NodePlan]) {
    for node in nodes.iter_mut().filter(|node| node.start == Start::Nothing) {
        if dice.chance(60) {
            node.folds = true;
            node.strangers.clear();
        }
    }
}

pub(super) fn draw_node(dice: &mut Dice, at: usize, count: usize, layout: &Layout) -> NodePlan {
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
        rival: false,
        machine: None,
        same_process: false,
        state: "/state",
        source: at == 0,
        overwrite: false,
        folds: false,
        lockless: false,
        links: draw_links(dice, start, &layout.files),
        long: Vec::new(),
        dies_early: None,
        start,
        wants,
        from: if at == 0 || dice.chance(50) { Duration::ZERO } else { dice.millis(0..20_000) },
        span_memory: dice.within(least.max(256 << 10)..(8 << 20).max(least + 1)) as usize,
        max_connections: if dice.chance(10) { dice.within(4..12) as usize } else { 200 },
        max_down: rate(dice),
        max_up: rate(dice),
        preallocate: dice.chance(15),
        peers: (0..named).filter_map(|_| dice.pick(&others).copied()).collect(),
        named_liars: 0,
        job_time: *dice.pick(&[100, 1_000, 5_000, 200_000]).unwrap_or(&100),
    }
}

/// The first node has what others may lose, so it never writes, or has all there is.
pub(super) fn draw_wants(dice: &mut Dice, at: usize, start: Start, files: usize) -> Vec<Want> {
    let first = match at {
        0 if dice.chance(10) => Want::ToServe,
        0 => Want::All,
        _ if start != Start::Nothing && dice.chance(8) => Want::ToServe,
        // The user's own files, some of them wrong, beside those that are not wanted: not played
        // yet.
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

pub(super) fn draw_want(dice: &mut Dice, files: usize) -> Want {
    if files < 2 || dice.chance(50) {
        return Want::All;
    }
    let share = *dice.pick(&[10, 50, 90]).unwrap_or(&50);
    let mut wanted: Vec<bool> = (0..files).map(|_| dice.chance(share)).collect();
    wanted[dice.below(files as u64) as usize] = true;
    Want::Files(wanted)
}

pub(super) fn draw_strangers(
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

/// Of a node that has files, some are links now and then.
pub(super) fn draw_links(dice: &mut Dice, start: Start, files: &[(String, u64)]) -> Vec<usize> {
    if start == Start::Nothing || !dice.chance(LINKED) {
        return Vec::new();
    }
    let with_bytes = |file: &usize| files[*file].1 > 0;
    (0..files.len()).filter(with_bytes).filter(|_| dice.chance(30)).collect()
}

/// Some nodes have files that are too long, and their users let them be written over.
pub(super) fn draw_long_files(dice: &mut Dice, nodes: &mut [NodePlan], files: &[(String, u64)]) {
    for node in nodes.iter_mut().filter(|node| !node.source && !node.folds) {
        if !dice.chance(LONG) {
            continue;
        }
        node.overwrite = true;
        let files = (0..files.len()).filter(|file| !node.strangers.contains(file));
        node.long = files.filter(|_| dice.chance(40)).map(|file| (file, 0)).collect();
        node.long.iter_mut().for_each(|(_, by)| *by = dice.within(1..5000));
    }
}

/// Some processes die while they start: where files are made, cut and filled.
pub(super) fn draw_early_deaths(dice: &mut Dice, nodes: &mut [NodePlan]) {
    let machines: Vec<bool> = (0..nodes.len()).map(|at| is_apart(nodes, at)).collect();
    for (node, is_apart) in nodes.iter_mut().zip(machines) {
        let share = if node.wants.len() > 1 || !node.long.is_empty() { 50 } else { 5 };
        if is_apart || !dice.chance(share) {
            continue;
        }
        node.dies_early = Some(EarlyDeath {
            life: dice.within(1..2 + node.wants.len().max(2) as u64) as u32,
            how: if dice.chance(70) { Crash::PowerCut } else { Crash::Killed },
            operation: dice.within(1..30),
            back_after: dice.millis(100..20_000),
        });
    }
}

pub(super) fn draw_network(dice: &mut Dice, calm: bool) -> NetworkPlan {
    let slow = dice.within(20_000..500_000);
    NetworkPlan {
        max_latency: *dice.pick(&[1, 20, 100, 800]).unwrap_or(&1),
        rates: (slow, slow + dice.below(5_000_000)),
        capacity: dice.within(2_000..300_000) as usize,
        lost_connects: if calm { 0 } else { *dice.pick(&[0, 0, 10, 40]).unwrap_or(&0) },
        portion: *dice.pick(&[700, 3_000, 40_000, 300_000]).unwrap_or(&3_000),
    }
}

pub(super) fn draw_trackers(dice: &mut Dice, calm: bool) -> TrackerPlan {
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

pub(super) fn draw_mishaps(dice: &mut Dice, nodes: &[NodePlan]) -> Vec<(Duration, usize, Mishap)> {
    let count = nodes.len() as u64;
    let number = if dice.chance(30) { 0 } else { dice.within(1..4 + count / 2) };
    let mut mishaps: Vec<_> = (0..number)
        .map(|_| {
            let at = dice.millis(0..60_000);
            let node = dice.below(count) as usize;
            let mut mishap = draw_mishap(dice);
            // What a failed sync leaves on the disk is not believed, so one node's syncs work: else
            // a piece could be lost to all.
            // And what one process was told of a failed sync, another on the machine was not.
            let is_shared = |at: usize| nodes[at].machine.is_some() || is_host(nodes, at);
            if let Mishap::Disk { faults, .. } = &mut mishap
                && (nodes[node].source || is_shared(node))
            {
                faults.sync = 0.0;
            }
            (at, node, mishap)
        })
        .filter(|(_, node, mishap)| is_fair(nodes, *node, mishap))
        .collect();
    // A node whose selection changes is restarted.
    for (node, plan) in nodes.iter().enumerate().filter(|(_, plan)| plan.wants.len() > 1) {
        if dice.chance(if plan.dies_early.is_some() { 90 } else { 50 }) {
            let back_after = dice.millis(100..30_000);
            mishaps.push((dice.millis(0..60_000), node, Mishap::Leaves { back_after }));
        }
    }
    mishaps.sort_by_key(|(at, node, _)| (*at, *node));
    mishaps
}

/// Whether another node is on the machine of this one.
pub(super) fn is_host(nodes: &[NodePlan], node: usize) -> bool {
    nodes.iter().any(|other| other.machine == Some(node))
}

/// Two torrents with state folders of their own are protected from each other only by the locks of
/// files, as long as these are open.
pub(super) fn is_fair(nodes: &[NodePlan], node: usize, mishap: &Mishap) -> bool {
    !is_apart(nodes, node) || !matches!(mishap, Mishap::Dies { .. } | Mishap::Disk { .. })
}

/// Whether another node on its machine has a state folder of its own.
pub(super) fn is_apart(nodes: &[NodePlan], node: usize) -> bool {
    let on_machine = |(at, other): (usize, &NodePlan)| {
        at == node || other.machine == Some(node) || nodes[node].machine == Some(at)
    };
    let mut machine = nodes.iter().enumerate().filter(|other| on_machine(*other));
    machine.any(|(_, other)| other.state != "/state")
}

pub(super) fn draw_mishap(dice: &mut Dice) -> Mishap {
    let lasts = dice.millis(100..30_000);
    match dice.below(100) {
        0..40 => Mishap::Dies {
            how: if dice.chance(60) { Crash::PowerCut } else { Crash::Killed },
            operation: dice.chance(70).then(|| dice.within(1..100)),
            back_after: lasts,
        },
        40..50 => Mishap::Leaves { back_after: lasts },
        50..75 => Mishap::Disk { faults: draw_faults(dice), lasts },
        75..88 => Mishap::Cut { told: dice.chance(70) },
        _ => Mishap::Stalls { lasts },
    }
}

pub(super) fn draw_faults(dice: &mut Dice) -> Faults {
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

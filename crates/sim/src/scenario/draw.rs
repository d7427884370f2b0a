//! Draws the parts of a scenario.

use std::time::Duration;

use super::*;

pub(super) fn node_count(rng: &mut Rng) -> usize {
    match rng.below(100) {
        0..60 => rng.within(2..5) as usize,
        60..90 => rng.within(5..12) as usize,
        90..98 => rng.within(12..24) as usize,
        _ => rng.within(24..51) as usize,
    }
}

pub(super) fn liar_count(rng: &mut Rng, nodes: usize) -> usize {
    if rng.chance(40) { 0 } else { rng.within(1..3 + nodes as u64 / 3) as usize }
}

pub(super) fn draw_layout(rng: &mut Rng, nodes: u64) -> Layout {
    let budget = (MAX_VOLUME / nodes).max(64 * 1024);
    let piece_length = match rng.below(100) {
        0..10 => rng.within(1..5000) as u32,
        10..25 => (rng.within(1..9) * 1000 + rng.below(BLOCK)) as u32,
        25..90 => 1 << rng.within(14..18),
        90..96 => 1 << rng.within(18..20),
        _ if nodes < 4 => rng.within((2 << 20) + 1..3 << 20) as u32,
        _ => 1 << 18,
    };
    // Bounds the number of pieces, or bookkeeping would dominate.
    let most = budget.min(u64::from(piece_length) * 200).max(u64::from(piece_length) + 1);
    let total = rng.within(1..most);
    let files = match rng.below(100) {
        0..40 => vec![(String::new(), total)],
        40..85 => cut_files(rng, total, 12),
        85..97 => cut_files(rng, total, 100),
        _ if nodes < 4 => cut_files(rng, total, 1500),
        _ => cut_files(rng, total, 30),
    };
    let http = "http://tracker.sim/announce".to_owned();
    let udp = "udp://tracker.sim:6969".to_owned();
    let trackers = match rng.below(4) {
        0 => vec![vec![http]],
        1 => vec![vec![udp]],
        2 => vec![vec![http, udp]],
        _ => vec![vec![udp], vec![http]],
    };
    let zeros = if rng.chance(20) { 30 } else { 0 };
    Layout { files, piece_length, trackers, zeros }
}

/// Draws lengths of files, some of them 0, that add up to `total`.
pub(super) fn cut_files(rng: &mut Rng, total: u64, most: u64) -> Vec<(String, u64)> {
    let count = rng.within(2..most + 2);
    let mut cuts: Vec<u64> = (1..count).map(|_| rng.below(total + 1)).collect();
    cuts.extend([0, total]);
    cuts.sort_unstable();
    let lengths = cuts.windows(2).map(|pair| pair[1] - pair[0]);
    lengths.enumerate().map(|(at, length)| (format!("d{}/f{at}", at % 5), length)).collect()
}

/// Gives one or two files the name of another file in upper case; false if there is only one file.
pub(super) fn fold_names(rng: &mut Rng, layout: &mut Layout) -> bool {
    let count = layout.files.len() as u64;
    if count < 2 {
        return false;
    }
    for _ in 0..rng.within(1..3) {
        let (one, other) = (rng.below(count) as usize, rng.below(count) as usize);
        let name = layout.files[one].0.clone();
        let folded = match rng.chance(80) {
            true => name.replace('f', "F"),
            false => name.replace('d', "D"),
        };
        let is_shared = |name: &str| {
            let same = |(other, _): &&(String, u64)| other.eq_ignore_ascii_case(name);
            layout.files.iter().filter(same).count() > 1
        };
        if one != other && !is_shared(&name) && !is_shared(&layout.files[other].0) {
            layout.files[other].0 = folded;
        }
    }
    true
}

/// Gives some of the nodes that start with nothing a disk that folds names.
pub(super) fn draw_folding(rng: &mut Rng, nodes: &mut [NodePlan]) {
    for node in nodes.iter_mut().filter(|node| node.start == Start::Nothing) {
        if rng.chance(60) {
            node.folds = true;
            node.unrelated.clear();
        }
    }
}

pub(super) fn draw_node(rng: &mut Rng, at: usize, count: usize, layout: &Layout) -> NodePlan {
    let start = match (at, rng.below(10)) {
        (0, _) => Start::Everything,
        (_, 0) => Start::Everything,
        (_, 1 | 2) => Start::Some(rng.within(5..95) as u32),
        _ => Start::Nothing,
    };
    let rate = |rng: &mut Rng| rng.chance(15).then(|| rng.within(20_000..2_000_000));
    let least = 2 * u64::from(layout.piece_length).min(2 << 20);
    let others: Vec<usize> = (0..count).filter(|other| *other != at).collect();
    let named = if rng.chance(40) { rng.within(1..4) } else { 0 };
    let wants = draw_wants(rng, at, start, layout.files.len());
    NodePlan {
        unrelated: draw_unrelated(rng, start, &wants, &layout.files),
        protected: at == 0,
        links: draw_links(rng, start, &layout.files),
        from: if at == 0 || rng.chance(50) { Duration::ZERO } else { rng.millis(0..20_000) },
        span_memory: rng.within(least.max(256 << 10)..(8 << 20).max(least + 1)) as usize,
        max_connections: if rng.chance(10) { rng.within(4..12) as usize } else { 200 },
        max_down: rate(rng),
        max_up: rate(rng),
        preallocate: rng.chance(15),
        peers: (0..named).filter_map(|_| rng.pick(&others).copied()).collect(),
        job_time: *rng.pick(&[100, 1_000, 5_000, 200_000]).unwrap_or(&100),
        ..NodePlan::new(start, wants)
    }
}

/// Draws what a node wants. The first node has pieces that others may lose, so it is seed-only or
/// has everything.
pub(super) fn draw_wants(rng: &mut Rng, at: usize, start: Start, files: usize) -> Vec<Want> {
    let first = match at {
        0 if rng.chance(10) => Want::SeedOnly,
        0 => Want::All,
        _ if start != Start::Nothing && rng.chance(8) => Want::SeedOnly,
        // Not played yet: the user's own files, some of them wrong, beside unwanted ones.
        _ if matches!(start, Start::Some(_)) => Want::All,
        _ => draw_want(rng, files),
    };
    let changes = at != 0 && !matches!(start, Start::Some(_)) && rng.chance(40);
    let others = if changes { rng.within(1..4) } else { 0 };
    let others: Vec<Want> = (0..others)
        .map(|_| if rng.chance(20) { Want::SeedOnly } else { draw_want(rng, files) })
        .collect();
    [vec![first], others].concat()
}

pub(super) fn draw_want(rng: &mut Rng, files: usize) -> Want {
    if files < 2 || rng.chance(50) {
        return Want::All;
    }
    let share = *rng.pick(&[10, 50, 90]).unwrap_or(&50);
    let mut wanted: Vec<bool> = (0..files).map(|_| rng.chance(share)).collect();
    wanted[rng.below(files as u64) as usize] = true;
    Want::Files(wanted)
}

pub(super) fn draw_unrelated(
    rng: &mut Rng,
    start: Start,
    wants: &[Want],
    files: &[(String, u64)],
) -> Vec<usize> {
    if start != Start::Nothing || rng.chance(50) {
        return Vec::new();
    }
    let never = |file: &usize| !wants.iter().any(|want| want.has(*file)) && files[*file].1 > 0;
    (0..files.len()).filter(never).filter(|_| rng.chance(20)).collect()
}

/// Makes some files links, in some of the nodes that have files.
pub(super) fn draw_links(rng: &mut Rng, start: Start, files: &[(String, u64)]) -> Vec<usize> {
    if start == Start::Nothing || !rng.chance(LINKED) {
        return Vec::new();
    }
    let with_bytes = |file: &usize| files[*file].1 > 0;
    (0..files.len()).filter(with_bytes).filter(|_| rng.chance(30)).collect()
}

/// Gives some users a magnet link instead of the torrent. The first node has the torrent, and so
/// have those of a rival.
pub(super) fn draw_by_link(rng: &mut Rng, nodes: &mut [NodePlan]) {
    for node in nodes.iter_mut().skip(1).filter(|node| !node.rival) {
        node.by_link = rng.chance(60);
    }
}

/// Makes files too long in some nodes, whose users allow them to be overwritten.
pub(super) fn draw_long_files(rng: &mut Rng, nodes: &mut [NodePlan], files: &[(String, u64)]) {
    for node in nodes.iter_mut().filter(|node| !node.protected && !node.folds) {
        if !rng.chance(LONG) {
            continue;
        }
        node.overwrite = true;
        let files = (0..files.len()).filter(|file| !node.unrelated.contains(file));
        node.long = files.filter(|_| rng.chance(40)).map(|file| (file, 0)).collect();
        node.long.iter_mut().for_each(|(_, by)| *by = rng.within(1..5000));
    }
}

/// Ends some processes while they start, where files are created, cut and filled.
pub(super) fn draw_early_ends(rng: &mut Rng, nodes: &mut [NodePlan]) {
    let machines: Vec<bool> = (0..nodes.len()).map(|at| has_own_state(nodes, at)).collect();
    for (node, has_own_state) in nodes.iter_mut().zip(machines) {
        let share = if node.wants.len() > 1 || !node.long.is_empty() { 50 } else { 5 };
        if has_own_state || !rng.chance(share) {
            continue;
        }
        node.ends_early = Some(EarlyEnd {
            launch: rng.within(1..2 + node.wants.len().max(2) as u64) as u32,
            how: if rng.chance(70) { Crash::PowerCut } else { Crash::Killed },
            operation: rng.within(1..30),
            back_after: rng.millis(100..20_000),
        });
    }
}

pub(super) fn draw_network(rng: &mut Rng, calm: bool) -> NetworkPlan {
    let slow = rng.within(20_000..500_000);
    NetworkPlan {
        max_latency: *rng.pick(&[1, 20, 100, 800]).unwrap_or(&1),
        rates: (slow, slow + rng.below(5_000_000)),
        capacity: rng.within(2_000..300_000) as usize,
        lost_connects: if calm { 0 } else { *rng.pick(&[0, 0, 10, 40]).unwrap_or(&0) },
        portion: *rng.pick(&[700, 3_000, 40_000, 300_000]).unwrap_or(&3_000),
    }
}

pub(super) fn draw_trackers(rng: &mut Rng, calm: bool) -> TrackerPlan {
    let trouble = !calm && rng.chance(40);
    let some = |rng: &mut Rng, most| if trouble { rng.below(most) } else { 0 };
    TrackerPlan {
        down_until: Duration::from_millis(some(rng, 90_000)),
        failing: some(rng, 60) as u32,
        rubbish: some(rng, 40) as u32,
        interval: rng.within(60..1800) as u32,
        faulty_until: Duration::from_secs(120),
        returns_dead_peers: trouble,
    }
}

pub(super) fn draw_incidents(
    rng: &mut Rng,
    nodes: &[NodePlan],
) -> Vec<(Duration, usize, Incident)> {
    let count = nodes.len() as u64;
    let number = if rng.chance(30) { 0 } else { rng.within(1..4 + count / 2) };
    let mut incidents: Vec<_> = (0..number)
        .map(|_| {
            let at = rng.millis(0..60_000);
            let node = rng.below(count) as usize;
            let mut incident = draw_incident(rng);
            // A failed sync loses pieces, so the syncs of the protected node work: otherwise all
            // nodes could lose a piece. And only one of two processes on a machine learns of a
            // failed sync.
            let is_shared = |at: usize| nodes[at].machine.is_some() || is_host(nodes, at);
            if let Incident::Disk { faults, .. } = &mut incident
                && (nodes[node].protected || is_shared(node))
            {
                faults.sync = 0.0;
            }
            (at, node, incident)
        })
        .filter(|(_, node, incident)| is_fair(nodes, *node, incident))
        .collect();
    // Restart nodes whose selection changes.
    for (node, plan) in nodes.iter().enumerate().filter(|(_, plan)| plan.wants.len() > 1) {
        if rng.chance(if plan.ends_early.is_some() { 90 } else { 50 }) {
            let back_after = rng.millis(100..30_000);
            incidents.push((rng.millis(0..60_000), node, Incident::Leaves { back_after }));
        }
    }
    incidents.sort_by_key(|(at, node, _)| (*at, *node));
    incidents
}

/// Whether another node is on the machine of this one.
pub(super) fn is_host(nodes: &[NodePlan], node: usize) -> bool {
    nodes.iter().any(|other| other.machine == Some(node))
}

/// Whether an incident may happen to a node. Two torrents with state folders of their own are
/// protected from each other only by the locks of open files.
pub(super) fn is_fair(nodes: &[NodePlan], node: usize, incident: &Incident) -> bool {
    !has_own_state(nodes, node)
        || !matches!(incident, Incident::Dies { .. } | Incident::Disk { .. })
}

/// Whether a node on this one's machine has a state folder of its own.
pub(super) fn has_own_state(nodes: &[NodePlan], node: usize) -> bool {
    let on_machine = |(at, other): (usize, &NodePlan)| {
        at == node || other.machine == Some(node) || nodes[node].machine == Some(at)
    };
    let mut machine = nodes.iter().enumerate().filter(|other| on_machine(*other));
    machine.any(|(_, other)| other.state != "/state")
}

pub(super) fn draw_incident(rng: &mut Rng) -> Incident {
    let lasts = rng.millis(100..30_000);
    match rng.below(100) {
        0..40 => Incident::Dies {
            how: if rng.chance(60) { Crash::PowerCut } else { Crash::Killed },
            operation: rng.chance(70).then(|| rng.within(1..100)),
            back_after: lasts,
        },
        40..50 => Incident::Leaves { back_after: lasts },
        50..75 => Incident::Disk { faults: draw_faults(rng), lasts },
        75..88 => Incident::Cut { notified: rng.chance(70) },
        _ => Incident::Stalls { lasts },
    }
}

pub(super) fn draw_faults(rng: &mut Rng) -> Faults {
    let share = *rng.pick(&[0.01, 0.1, 1.0]).unwrap_or(&0.1);
    let none = Faults { short: if rng.chance(50) { 0.3 } else { 0.0 }, ..Faults::default() };
    match rng.below(6) {
        0 => Faults { full: true, ..none },
        1 => Faults { read: share, ..none },
        2 => Faults { write: share, ..none },
        3 | 4 => Faults { sync: share, ..none },
        _ => Faults { open: share, ..none },
    }
}

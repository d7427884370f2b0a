//! The second torrent of a scenario, which wants a file of the first.

use std::time::Duration;

use super::draw::draw_node;
use super::*;

/// Draws a torrent that wants a file at the path of one of the first torrent's, a node that has it,
/// and a node that wants it, on the machine of a node of the first torrent.
pub(super) fn draw_rival(
    rng: &mut Rng,
    layout: &mut Layout,
    nodes: &mut Vec<NodePlan>,
) -> Option<Rival> {
    let with_bytes = |(_, (_, length)): &(usize, &(String, u64))| *length > 0;
    let files: Vec<usize> =
        layout.files.iter().enumerate().filter(with_bytes).map(|(file, _)| file).collect();
    let file_of_first = *rng.pick(&files)?;
    let is_host = |node: &usize| {
        let node = &nodes[*node];
        !node.folds && node.links.is_empty() && node.long.is_empty()
    };
    let hosts: Vec<usize> = (1..nodes.len()).filter(is_host).collect();
    let host = *rng.pick(&hosts)?;
    let same = rng.chance(35);
    let apart = rng.chance(20);
    if apart || !same {
        // Zeros in a file that the other torrent has just created would verify in both.
        layout.zeros = 0;
    }
    let (rival, file) = draw_rival_layout(rng, layout, file_of_first, same);
    let (length, length_of_first) = (rival.files[file].1, layout.files[file_of_first].1);
    let number = nodes.len();
    let plan = |rng: &mut Rng, at: usize| NodePlan {
        rival: true,
        peers: vec![number + 1 - (at - number)],
        ..draw_node(rng, at, number + 2, &rival)
    };
    let seeder = NodePlan {
        start: Start::Everything,
        wants: vec![if rng.chance(30) { Want::SeedOnly } else { Want::All }],
        unrelated: Vec::new(),
        protected: true,
        from: Duration::ZERO,
        ..plan(rng, number)
    };
    let wants = draw_rival_wants(rng, &rival, file);
    if rng.chance(60) {
        nodes[host].unrelated.clear();
        nodes[host].start = Start::Nothing;
    }
    // The first torrent has no claim on files that it only reads.
    let overwrite = !apart && nodes[host].start == Start::Nothing && rng.chance(30);
    nodes[host].lockless = !apart && rng.chance(40);
    let contender = NodePlan {
        start: Start::Nothing,
        wants,
        unrelated: Vec::new(),
        links: Vec::new(),
        machine: Some(host),
        same_process: !apart && rng.chance(50),
        state: if apart { "/state2" } else { "/state" },
        overwrite,
        preallocate: rng.chance(30),
        ..plan(rng, number + 1)
    };
    let is_blank = nodes[host].start == Start::Nothing && rng.chance(50);
    let blank = is_blank.then(|| if rng.chance(50) { 0 } else { length.min(length_of_first) });
    let (from, job_time) = (nodes[host].from, nodes[host].job_time);
    nodes.extend([seeder, contender]);
    if rng.chance(60) {
        // One command starts both.
        let contender = &mut nodes[number + 1];
        (contender.from, contender.job_time) = (from, job_time);
        contender.same_process &= !is_blank;
    }
    Some(Rival { layout: rival, file, file_of_first, same, blank })
}

/// Draws the rival's files, and which of them has the path of `file_of_first` in the first torrent.
fn draw_rival_layout(
    rng: &mut Rng,
    layout: &Layout,
    file_of_first: usize,
    same: bool,
) -> (Layout, usize) {
    let (path, length_of_first) = layout.files[file_of_first].clone();
    let length = match same || rng.chance(85) {
        true => length_of_first,
        false => rng.within(1..2 * length_of_first + 1),
    };
    let mut files = vec![(path.clone(), length)];
    let others = if path.is_empty() { 0 } else { rng.below(4) };
    files.extend((0..others).map(|at| (format!("r/{at}"), rng.below(50_000))));
    let last = files.len() - 1;
    let file = rng.below(files.len() as u64) as usize;
    files.swap(0, file.min(last));
    let mut rival = Layout { files, ..layout.clone() };
    // Otherwise it might be the same torrent.
    let piece_length = rival.piece_length;
    if rng.chance(60) {
        let least = (rival.total() / 200).max(1) as u32;
        rival.piece_length = least.max(1 << rng.within(13..18));
    }
    if rival.piece_length == piece_length && rival.files.len() == 1 {
        rival.piece_length += 1;
    }
    (rival, file)
}

fn draw_rival_wants(rng: &mut Rng, rival: &Layout, file: usize) -> Vec<Want> {
    match rng.below(10) {
        0 => vec![Want::SeedOnly],
        1 | 2 if rival.files.len() > 1 => {
            vec![Want::Files((0..rival.files.len()).map(|at| at != file).collect()), Want::All]
        }
        _ => vec![Want::All],
    }
}

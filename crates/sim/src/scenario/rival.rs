//! A second torrent that wants a file of the first.

use std::time::Duration;

use super::draw::draw_node;
use super::*;

/// A torrent that wants a file of the path of one of the first torrent's, a node that has it, and
/// one that wants it, on the machine of a node of the first torrent.
pub(super) fn draw_rival(
    dice: &mut Dice,
    layout: &mut Layout,
    nodes: &mut Vec<NodePlan>,
) -> Option<Rival> {
    let with_bytes = |(_, (_, length)): &(usize, &(String, u64))| *length > 0;
    let files: Vec<usize> =
        layout.files.iter().enumerate().filter(with_bytes).map(|(file, _)| file).collect();
    let file_of_first = *dice.pick(&files)?;
    let is_host = |node: &usize| {
        let node = &nodes[*node];
        !node.folds && node.links.is_empty() && node.long.is_empty()
    };
    let hosts: Vec<usize> = (1..nodes.len()).filter(is_host).collect();
    let host = *dice.pick(&hosts)?;
    let same = dice.chance(35);
    let apart = dice.chance(20);
    if apart || !same {
        // What is zero in a file that the other has just made would be good for both.
        layout.zeros = 0;
    }
    let (rival, file) = draw_rival_layout(dice, layout, file_of_first, same);
    let (length, length_of_first) = (rival.files[file].1, layout.files[file_of_first].1);
    let number = nodes.len();
    let plan = |dice: &mut Dice, at: usize| NodePlan {
        rival: true,
        peers: vec![number + 1 - (at - number)],
        named_liars: 0,
        ..draw_node(dice, at, number + 2, &rival)
    };
    let source = NodePlan {
        start: Start::Everything,
        wants: vec![if dice.chance(30) { Want::ToServe } else { Want::All }],
        strangers: Vec::new(),
        source: true,
        from: Duration::ZERO,
        ..plan(dice, number)
    };
    let wants = draw_rival_wants(dice, &rival, file);
    if dice.chance(60) {
        nodes[host].strangers.clear();
        nodes[host].start = Start::Nothing;
    }
    // What the first torrent only reads it has no claim on.
    let overwrite = !apart && nodes[host].start == Start::Nothing && dice.chance(30);
    nodes[host].lockless = !apart && dice.chance(40);
    let contender = NodePlan {
        start: Start::Nothing,
        wants,
        strangers: Vec::new(),
        links: Vec::new(),
        machine: Some(host),
        same_process: !apart && dice.chance(50),
        state: if apart { "/state2" } else { "/state" },
        overwrite,
        preallocate: dice.chance(30),
        ..plan(dice, number + 1)
    };
    let is_blank = nodes[host].start == Start::Nothing && dice.chance(50);
    let blank = is_blank.then(|| if dice.chance(50) { 0 } else { length.min(length_of_first) });
    let (from, job_time) = (nodes[host].from, nodes[host].job_time);
    nodes.extend([source, contender]);
    if dice.chance(60) {
        // Both are started by one command.
        let contender = &mut nodes[number + 1];
        (contender.from, contender.job_time) = (from, job_time);
        contender.same_process &= !is_blank;
    }
    Some(Rival { layout: rival, file, file_of_first, same, blank })
}

/// The files of a rival, and which of them has the path of `file_of_first` in the first torrent.
fn draw_rival_layout(
    dice: &mut Dice,
    layout: &Layout,
    file_of_first: usize,
    same: bool,
) -> (Layout, usize) {
    let (path, length_of_first) = layout.files[file_of_first].clone();
    let length = match same || dice.chance(85) {
        true => length_of_first,
        false => dice.within(1..2 * length_of_first + 1),
    };
    let mut files = vec![(path.clone(), length)];
    let others = if path.is_empty() { 0 } else { dice.below(4) };
    files.extend((0..others).map(|at| (format!("r/{at}"), dice.below(50_000))));
    let last = files.len() - 1;
    let file = dice.below(files.len() as u64) as usize;
    files.swap(0, file.min(last));
    let mut rival = Layout { files, ..layout.clone() };
    // Else it might be the same torrent.
    let piece_length = rival.piece_length;
    if dice.chance(60) {
        let least = (rival.total() / 200).max(1) as u32;
        rival.piece_length = least.max(1 << dice.within(13..18));
    }
    if rival.piece_length == piece_length && rival.files.len() == 1 {
        rival.piece_length += 1;
    }
    (rival, file)
}

fn draw_rival_wants(dice: &mut Dice, rival: &Layout, file: usize) -> Vec<Want> {
    match dice.below(10) {
        0 => vec![Want::ToServe],
        1 | 2 if rival.files.len() > 1 => {
            vec![Want::Files((0..rival.files.len()).map(|at| at != file).collect()), Want::All]
        }
        _ => vec![Want::All],
    }
}

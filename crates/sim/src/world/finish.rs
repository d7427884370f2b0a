//! The end of a run: everyone is told to stop, and what is left on the disks is looked at.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use piece_store::{Handles, OpenSpec, Store};

use super::World;
use crate::node::Node;
use crate::payload::FOLDER;
use crate::scenario::Want;
use crate::watch::Broken;

/// How long a stop may take: jobs, a sync, and the trackers' farewell.
const STOP_TIME: Duration = Duration::from_secs(60);
/// Of a calm run, how many percent of the blocks may come twice: what endgame asks of several peers
/// at once, and little swarms are mostly endgame.
const TWICE: u64 = 50;

impl World {
    /// Stops every node, and compares what is left with what must be.
    pub(super) fn close(&mut self) -> Result<(), Broken> {
        self.check_waste()?;
        self.closing = true;
        let now = self.now;
        for node in 0..self.nodes.len() {
            self.nodes[node].disk().heal();
            if let Some(process) = &mut self.nodes[node].process {
                process.engine.stop_all(now);
            }
            self.settle(node)?;
        }
        while !self.nodes.iter().all(is_idle) {
            self.step()?;
            if self.now > now + STOP_TIME {
                return Err("a stop takes more than a minute".to_owned());
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].process = None;
            self.check_files(node)?;
        }
        for node in self.nodes.iter().filter(|node| !node.gave_way) {
            self.check_disk(node)?;
        }
        Ok(())
    }

    /// Where nobody lies and nothing fails, little comes twice.
    fn check_waste(&self) -> Result<(), Broken> {
        if !self.scenario.is_calm() {
            return Ok(());
        }
        for node in &self.nodes {
            let (all, twice) = (node.watch.blocks, node.watch.blocks_twice);
            if twice * 100 > all * TWICE + 3200 {
                return Err(format!("{}: {twice} of {all} blocks came twice", node.name));
            }
        }
        Ok(())
    }

    /// Everything is on the disk, byte for byte, synced, and the next start knows it.
    fn check_disk(&self, node: &Node) -> Result<(), Broken> {
        let wanted = self.wanted(node).into_iter();
        let missing = self.missing_of(node);
        let reachable = wanted.filter(|piece| Some(*piece) != missing);
        let expected: BTreeSet<u32> = reachable.chain(node.had.iter().copied()).collect();
        let truth = node.truth();
        if let Some(piece) = expected.iter().find(|piece| !truth.shows(**piece)) {
            return Err(format!("{}: piece {piece} differs at the end", node.name));
        }
        if let Some(piece) = expected.iter().find(|piece| !truth.keeps(**piece)) {
            return Err(format!("{}: piece {piece} is not durable at the end", node.name));
        }
        if self.missing_of(node).is_none()
            && let Some(file) = truth.wrong_file()
        {
            return Err(format!("{}: file {file} is wrong at the end", node.name));
        }
        let mut spec = OpenSpec::new(Arc::clone(&node.site.payload.metainfo), FOLDER);
        match node.want() {
            Want::All => {}
            Want::Files(files) => spec.selected = Some(files.clone()),
            Want::ToServe => spec.read_only = true,
        }
        spec.state_dir = Some(node.site.state.into());
        let (_store, opened) =
            Store::open(Arc::clone(&node.site.disk), Arc::new(Handles::default()), &spec)
                .map_err(|error| format!("{}: cannot be opened again: {error}", node.name))?;
        let have: BTreeSet<u32> = opened.have.iter().collect();
        let mut missing = expected.difference(&have).copied();
        // A seed-only torrent imports nothing: what may be in two places is verified at each start.
        let is_verified = |piece| opened.to_verify.iter().any(|range| range.contains(&piece));
        let may_lack = |piece| {
            let may_be_import = *node.want() == Want::ToServe && is_verified(piece);
            may_be_import || self.may_be_rewritten(node, piece)
        };
        match have.is_subset(&expected) && missing.all(may_lack) {
            true => Ok(()),
            false => Err(format!(
                "{}: after a clean stop the next start trusts {} of {} pieces, not {:?}",
                node.name,
                have.len(),
                expected.len(),
                expected.difference(&have).collect::<Vec<_>>()
            )),
        }
    }

    /// Whether the other torrent on the machine may have written the same bytes to a file of the
    /// piece: one with a state folder of its own does not know that the file has an owner.
    fn may_be_rewritten(&self, node: &Node, piece: u32) -> bool {
        let (Some(mate), Some(file)) = (node.mate, node.contested) else { return false };
        let is_apart = self.nodes[mate].site.state != node.site.state;
        is_apart && node.site.payload.pieces_in(file).contains(&piece)
    }
}

fn is_idle(node: &Node) -> bool {
    node.process.as_ref().is_none_or(|process| process.engine.is_idle())
}

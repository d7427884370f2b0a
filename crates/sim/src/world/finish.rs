//! The end of a simulation: all nodes are stopped, and their disks are checked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use piece_store::{OpenSpec, SharedDisk, Store};

use super::World;
use crate::node::Node;
use crate::payload::FOLDER;
use crate::scenario::Want;
use crate::watch::Broken;

/// How long a stop may take: jobs, a sync, and the last announces.
const STOP_TIME: Duration = Duration::from_secs(60);
/// The share of the blocks that may come twice in a calm simulation, in percent. In endgame, blocks
/// are requested of several peers, and small swarms are mostly endgame.
const TWICE: u64 = 50;

impl World {
    /// Stops every node and checks what is on the disks.
    pub(super) fn close(&mut self) -> Result<(), Broken> {
        self.check_waste()?;
        self.closing = true;
        let now = self.now;
        for node in 0..self.nodes.len() {
            self.nodes[node].disk().end_faults();
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

    /// In a calm simulation few blocks come twice.
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

    /// Checks that everything is on the disk, byte for byte and synced, and the next start trusts
    /// it.
    fn check_disk(&self, node: &Node) -> Result<(), Broken> {
        let wanted = self.wanted(node).into_iter();
        let missing = self.missing_of(node);
        let reachable = wanted.filter(|piece| Some(*piece) != missing);
        let expected: BTreeSet<u32> = reachable.chain(node.have.iter().copied()).collect();
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
            Want::SeedOnly => spec.seed_only = true,
        }
        spec.state_dir = Some(node.site.state.into());
        let shared = Arc::new(SharedDisk::new(Arc::clone(&node.site.disk)));
        let (_store, opened) = Store::open(shared, &spec)
            .map_err(|error| format!("{}: cannot be opened again: {error}", node.name))?;
        let have: BTreeSet<u32> = opened.have.iter().collect();
        let mut missing = expected.difference(&have).copied();
        // A seed-only torrent imports nothing, so each start verifies pieces to import.
        let is_verified = |piece| opened.to_verify.iter().any(|range| range.contains(&piece));
        let may_lack = |piece| {
            let may_be_import = *node.want() == Want::SeedOnly && is_verified(piece);
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

    /// Whether the mate may have written the same bytes to a file of the piece: with a state folder
    /// of its own it does not know that the file has an owner.
    fn may_be_rewritten(&self, node: &Node, piece: u32) -> bool {
        let (Some(mate), Some(file)) = (node.mate, node.contested) else { return false };
        let has_own_state = self.nodes[mate].site.state != node.site.state;
        has_own_state && node.site.payload.pieces_in(file).contains(&piece)
    }
}

fn is_idle(node: &Node) -> bool {
    node.process.as_ref().is_none_or(|process| process.engine.is_idle())
}

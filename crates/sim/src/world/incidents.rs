//! The incidents of a scenario, and what other programs do to files while a node is down.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Event, World};
use crate::disk::Faults;
use crate::network::Party;
use crate::payload::FileSlice;
use crate::scenario::{Crash, Incident};
use crate::watch::Broken;

/// How often another program changes a byte of a file, removes one, or appends to one where it may,
/// in percent.
const CHANGES: u32 = 50;
const REMOVES: u32 = 15;
const APPENDS: u32 = 40;

impl World {
    pub(super) fn incident(&mut self, index: usize) -> Result<(), Broken> {
        self.incidents_left -= 1;
        let (_, node, incident) = self.scenario.incidents[index];
        self.note(node, "incident", [index as u64, 0], || format!("{incident:?}"));
        match incident {
            Incident::Dies { how, operation, back_after } => {
                for node in self.machine(node) {
                    self.nodes[node].back_at = self.now + back_after;
                }
                self.die(node, how, operation)?;
            }
            Incident::Leaves { back_after } => {
                self.nodes[node].back_at = self.now + back_after;
                self.leave(node)?;
            }
            Incident::Disk { faults, lasts } => {
                let until = self.now + lasts;
                self.nodes[node].disk().faults = faults;
                for node in self.machine(node) {
                    self.nodes[node].faulty_until = until;
                }
                self.at(until, Event::RepairDisk(node));
            }
            Incident::Cut { notified } => self.cut(node, notified)?,
            Incident::Stalls { lasts } => self.stall(node, lasts),
        }
        Ok(())
    }

    /// Ends the process now, or during the given write or sync of its disk from now.
    pub(super) fn die(
        &mut self,
        node: usize,
        how: Crash,
        operation: Option<u64>,
    ) -> Result<(), Broken> {
        let Some(count) = operation else { return self.crash(node, how) };
        for node in self.machine(node) {
            self.nodes[node].dies_how = how;
        }
        self.nodes[node].disk().dies_in = Some(count);
        Ok(())
    }

    /// Ends all processes of the machine now. They start again at the scenario's time.
    pub(super) fn crash(&mut self, node: usize, how: Crash) -> Result<(), Broken> {
        self.note(node, "crashes", [0; 2], || format!("{how:?}"));
        let machine = self.machine(node);
        for node in &machine {
            if self.nodes[*node].process.take().is_some() {
                self.nodes[*node].leaving = false;
                self.check_files(*node)?;
            }
        }
        match how {
            Crash::Killed => self.nodes[node].disk().revive(),
            Crash::PowerCut => self.nodes[node].disk().cut_power(),
        }
        let notified = how == Crash::Killed || self.rng.chance(50);
        for node in machine {
            let this = &mut self.nodes[node];
            if how == Crash::PowerCut {
                this.have = this.durable.clone();
            }
            self.cut(node, notified)?;
            if self.nodes[node].launch > 0 {
                self.at(self.nodes[node].back_at, Event::Start(node));
            }
        }
        Ok(())
    }

    /// Checks at the end of a process that the only files written to are those that it or its mate
    /// may write to.
    pub(super) fn check_files(&self, node: usize) -> Result<(), Broken> {
        let mate = self.nodes[node].mate.map(|mate| &self.nodes[mate]);
        let may_write = |path: &Path| {
            let by_mate = || mate.is_some_and(|mate| mate.may_have_written(path));
            self.nodes[node].may_write(path) || by_mate()
        };
        let changed = self.nodes[node].changed_files();
        let wrong = changed.into_iter().find(|(path, before, after)| {
            !may_write(path) || self.nodes[node].is_cut_unwanted(path, *before, *after)
        });
        wrong.map_or(Ok(()), |(path, before, after)| {
            let name = &self.nodes[node].name;
            Err(format!("{name}: {path:?} was {before:?} and is {after:?}"))
        })
    }

    /// Breaks all connections. If the ends are not notified, a process that lives on sees only
    /// silence.
    fn cut(&mut self, node: usize, notified: bool) -> Result<(), Broken> {
        let now = self.now;
        for at in self.network.ends_of(Party::Node(node)) {
            let Some(wire) = self.network.get_mut(at.0) else { continue };
            wire.dead |= !notified;
            let link = wire.ends[at.1].link;
            let process = self.nodes[node].process.as_mut();
            if !notified && process.is_some() {
                continue;
            }
            if let (Some(process), Some(link)) = (process, link) {
                process.wires.remove(&link);
                process.engine.handle_closed(now, link, Some("connection reset by peer"));
            }
            self.close_end(at, true);
        }
        self.settle(node)
    }

    fn stall(&mut self, node: usize, lasts: Duration) {
        let until = self.now + lasts;
        for at in self.network.ends_of(Party::Node(node)) {
            if let Some(wire) = self.network.get_mut(at.0) {
                wire.pipes.iter_mut().for_each(|pipe| pipe.stall(until));
            }
        }
    }

    /// The user shuts the process down cleanly.
    fn leave(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.now;
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(()) };
        this.leaving = true;
        process.engine.stop_all(now);
        self.settle(node)
    }

    /// Ends a process that is shutting down once it is idle.
    pub(super) fn leave_if_idle(&mut self, node: usize) -> Result<(), Broken> {
        let this = &mut self.nodes[node];
        let idle = this.process.as_ref().is_some_and(|process| process.engine.is_idle());
        if !this.leaving || !idle || self.closing {
            return Ok(());
        }
        this.process = None;
        this.leaving = false;
        self.check_files(node)?;
        self.note(node, "left", [0; 2], String::new);
        self.at(self.nodes[node].back_at, Event::Start(node));
        self.cut(node, true)
    }

    /// While nothing runs on the machine, another program may change or remove a file. A protected
    /// node is spared.
    pub(super) fn change_files(&mut self, node: usize) {
        if self.nodes[node].plan.protected || self.nodes[node].mate.is_some() {
            return;
        }
        // With one file removed, nothing in another one may verify: then that one is unrelated.
        if self.nodes[node].launch > 0 && !self.nodes[node].doubtful && self.rng.chance(REMOVES) {
            self.remove_a_file(node);
        }
        if self.nodes[node].launch > 0
            && self.nodes[node].plan.overwrite
            && self.rng.chance(APPENDS)
        {
            self.append_to_a_file(node);
        }
        if self.nodes[node].closed && self.rng.chance(CHANGES) {
            self.change_a_byte(node);
        }
    }

    /// Changes a byte of a file with bytes of more than one piece. The store notices only after a
    /// clean shutdown.
    fn change_a_byte(&mut self, node: usize) {
        let have: Vec<u32> = self.nodes[node].have.iter().copied().collect();
        let payload = Arc::clone(&self.nodes[node].site.payload);
        let slices = |piece: u32| {
            let piece = payload.piece(piece);
            piece.map(|piece| payload.slices(piece)).unwrap_or_default()
        };
        let Some(piece) = self.rng.pick(&have).copied() else { return };
        let Some(FileSlice { file, at, .. }) = self.rng.pick(&slices(piece)).cloned() else {
            return;
        };
        let Some(path) = self.nodes[node].site.path(file).map(Path::to_owned) else { return };
        // A piece of zeros does not show whose the file is.
        let others = have.iter().filter(|other| **other != piece && !payload.is_zero(**other));
        let shared = others.flat_map(|other| slices(*other)).any(|other| other.file == file);
        if !shared || !self.nodes[node].is_in_place(file, &path) {
            return;
        }
        let what = format!("byte {at} of {path:?}, in piece {piece}");
        let this = &mut self.nodes[node];
        this.disk().edit_byte(&path, at);
        this.doubtful = true;
        this.lose(&(piece..piece + 1));
        self.note(node, "edited", [piece.into(), at], || what);
    }

    /// Appends to a file of a node that allows files to be overwritten. If the file is no longer
    /// wanted, it is no longer the torrent's.
    fn append_to_a_file(&mut self, node: usize) {
        let this = &self.nodes[node];
        let next = this.plan.want(this.launch + 1);
        let (wanted, others): (Vec<usize>, Vec<usize>) =
            (0..this.site.payload.files().count()).partition(|file| next.has(*file));
        let files = if others.is_empty() || self.rng.chance(50) { wanted } else { others };
        let Some(file) = self.rng.pick(&files).copied() else { return };
        let tail: Vec<u8> =
            (0..self.rng.within(1..3000)).map(|_| self.rng.number() as u8).collect();
        let this = &mut self.nodes[node];
        let Some(path) = this.site.path(file).map(Path::to_owned) else { return };
        if !this.is_in_place(file, &path) || this.plan.links.contains(&file) {
            return;
        }
        let length = this.site.payload.file(file).len() as u64;
        if this.disk().length(&path).is_none_or(|got| got < length) {
            return;
        }
        this.disk().grow(&path, &tail);
        if !this.plan.want(this.launch + 1).has(file) {
            this.lose(&this.site.payload.pieces_in(file));
        }
        self.note(node, "grown", [file as u64, tail.len() as u64], || format!("{path:?}"));
    }

    /// Removes a file; its pieces are lost.
    fn remove_a_file(&mut self, node: usize) {
        let count = self.nodes[node].site.payload.files().count() as u64;
        let file = self.rng.below(count) as usize;
        let this = &mut self.nodes[node];
        let Some(path) = this.site.path(file).map(Path::to_owned) else { return };
        if this.is_in_place(file, &path) {
            this.lose(&this.site.payload.pieces_in(file));
        }
        this.disk().remove_file(&path);
        self.note(node, "removed", [file as u64, 0], || format!("{path:?}"));
    }

    pub(super) fn repair_disk(&mut self, node: usize) {
        self.note(node, "repaired", [0; 2], String::new);
        if self.nodes[node].faulty_until <= self.now {
            self.nodes[node].disk().faults = Faults::default();
        }
    }
}

//! The mishaps of a scenario: what happens to machines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Event, World};
use crate::disk::Faults;
use crate::network::Party;
use crate::payload::Place;
use crate::scenario::{Crash, Mishap};
use crate::watch::Broken;

/// How often another program or the user changes, removes or extends a file, in percent.
const CHANGES: u32 = 50;
const REMOVES: u32 = 15;
const GROWS: u32 = 40;

impl World {
    pub(super) fn mishap(&mut self, index: usize) -> Result<(), Broken> {
        self.mishaps_left -= 1;
        let (_, node, mishap) = self.scenario.mishaps[index];
        self.note(node, "mishap", [index as u64, 0], || format!("{mishap:?}"));
        match mishap {
            Mishap::Dies { how, operation, back_after } => {
                for node in self.machine(node) {
                    self.nodes[node].back_at = self.now + back_after;
                }
                self.die(node, how, operation)?;
            }
            Mishap::Leaves { back_after } => {
                self.nodes[node].back_at = self.now + back_after;
                self.leave(node)?;
            }
            Mishap::Disk { faults, lasts } => {
                let until = self.now + lasts;
                self.nodes[node].disk().set_faults(faults);
                for node in self.machine(node) {
                    self.nodes[node].ill_until = until;
                }
                self.at(until, Event::Heal(node));
            }
            Mishap::Cut { noticed } => self.cut(node, noticed)?,
            Mishap::Stalls { lasts } => self.stall(node, lasts),
        }
        Ok(())
    }

    /// Kills the process now, or after this many more operations of its disk.
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
        self.nodes[node].disk().die_after(count);
        Ok(())
    }

    /// Ends all processes of the machine now. They start again when the scenario says so.
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
            Crash::Killed => self.nodes[node].disk().kill(),
            Crash::PowerCut => self.nodes[node].disk().cut_power(),
        }
        let noticed = how == Crash::Killed || self.rng.chance(50);
        for node in machine {
            let this = &mut self.nodes[node];
            if how == Crash::PowerCut {
                this.have = this.durable.clone();
            }
            self.cut(node, noticed)?;
            if self.nodes[node].life > 0 {
                self.at(self.nodes[node].back_at, Event::Start(node));
            }
        }
        Ok(())
    }

    /// Checks, after a process ended, that only files were written that a process on the machine
    /// may write.
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

    /// Ends the connections of a node. Unless that is `noticed`, a running process only sees
    /// silence.
    fn cut(&mut self, node: usize, noticed: bool) -> Result<(), Broken> {
        let now = self.now;
        for at in self.network.ends_of(Party::Node(node)) {
            let Some(wire) = self.network.get_mut(at.0) else { continue };
            wire.dead |= !noticed;
            let link = wire.ends[at.1].link;
            let process = self.nodes[node].process.as_mut();
            if !noticed && process.is_some() {
                continue;
            }
            if let (Some(process), Some(link)) = (process, link) {
                process.wires.remove(&link);
                process.core.handle_closed(now, link, Some("connection reset by peer"));
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
        process.core.stop_all(now);
        self.settle(node)
    }

    /// Ends a process that the user has stopped, once it is idle.
    pub(super) fn leave_if_idle(&mut self, node: usize) -> Result<(), Broken> {
        let this = &mut self.nodes[node];
        let idle = this.process.as_ref().is_some_and(|process| process.core.is_idle());
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

    /// May change or remove a file while no process is on the machine. Skips a node on whose pieces
    /// others depend.
    pub(super) fn change_files(&mut self, node: usize) {
        if self.nodes[node].plan.source || self.nodes[node].mate.is_some() {
            return;
        }
        // Once a file is removed, another may have no good piece left. Then that one is unrelated.
        if self.nodes[node].life > 0 && !self.nodes[node].doubtful && self.rng.chance(REMOVES) {
            self.remove_a_file(node);
        }
        if self.nodes[node].life > 0 && self.nodes[node].plan.overwrite && self.rng.chance(GROWS) {
            self.grow_a_file(node);
        }
        if self.nodes[node].closed && self.rng.chance(CHANGES) {
            self.change_a_byte(node);
        }
    }

    /// Changes a byte of a file with several pieces. The store notices that only after a clean
    /// shutdown.
    fn change_a_byte(&mut self, node: usize) {
        let have: Vec<u32> = self.nodes[node].have.iter().copied().collect();
        let payload = Arc::clone(&self.nodes[node].site.payload);
        let places = |piece: u32| {
            let piece = payload.piece(piece);
            piece.map(|piece| payload.places(piece)).unwrap_or_default()
        };
        let Some(piece) = self.rng.pick(&have).copied() else { return };
        let Some(Place { file, at, .. }) = self.rng.pick(&places(piece)).cloned() else {
            return;
        };
        let Some(path) = self.nodes[node].site.path(file).map(Path::to_owned) else { return };
        // A piece of zeros does not show whose file it is.
        let others = have.iter().filter(|other| **other != piece && !payload.is_zero(**other));
        let shared = others.flat_map(|other| places(*other)).any(|other| other.file == file);
        if !shared || !self.nodes[node].is_in_place(file, &path) {
            return;
        }
        let what = format!("byte {at} of {path:?}, in piece {piece}");
        let this = &mut self.nodes[node];
        this.disk().change_byte(&path, at);
        this.doubtful = true;
        this.have.remove(&piece);
        this.durable.remove(&piece);
        self.note(node, "meddled", [piece.into(), at], || what);
    }

    /// Extends a file of a node whose user allows overwriting. An unselected file is not the
    /// torrent's any more.
    fn grow_a_file(&mut self, node: usize) {
        let this = &self.nodes[node];
        let next = this.plan.want(this.life + 1);
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
        if !this.plan.want(this.life + 1).has(file) {
            let lost = this.site.payload.pieces_in(file);
            this.have.retain(|piece| !lost.contains(piece));
            this.durable.retain(|piece| !lost.contains(piece));
        }
        self.note(node, "grown", [file as u64, tail.len() as u64], || format!("{path:?}"));
    }

    /// Removes a file and the pieces in it.
    fn remove_a_file(&mut self, node: usize) {
        let count = self.nodes[node].site.payload.files().count() as u64;
        let file = self.rng.below(count) as usize;
        let this = &mut self.nodes[node];
        let Some(path) = this.site.path(file).map(Path::to_owned) else { return };
        if this.is_in_place(file, &path) {
            let lost = this.site.payload.pieces_in(file);
            this.have.retain(|piece| !lost.contains(piece));
            this.durable.retain(|piece| !lost.contains(piece));
        }
        this.disk().lose(&path);
        self.note(node, "removed", [file as u64, 0], || format!("{path:?}"));
    }

    pub(super) fn heal(&mut self, node: usize) {
        self.note(node, "heals", [0; 2], String::new);
        if self.nodes[node].ill_until <= self.now {
            self.nodes[node].disk().set_faults(Faults::default());
        }
    }
}

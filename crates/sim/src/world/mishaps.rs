//! What the scenario does to machines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Event, World};
use crate::disk::Faults;
use crate::network::Party;
use crate::payload::Place;
use crate::scenario::{Crash, Mishap};
use crate::watch::Broken;

/// In how many percent of the cases somebody does who can.
const MEDDLES: u32 = 50;
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
            Mishap::Cut { told } => self.cut(node, told)?,
            Mishap::Stalls { lasts } => self.stall(node, lasts),
        }
        Ok(())
    }

    /// The process dies now, or when its disk has done so many operations more.
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

    /// All processes of the machine are gone, now. They are back at the time the scenario says.
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
        let told = how == Crash::Killed || self.dice.chance(50);
        for node in machine {
            let this = &mut self.nodes[node];
            if how == Crash::PowerCut {
                this.had = this.durable.clone();
            }
            self.cut(node, told)?;
            if self.nodes[node].life > 0 {
                self.at(self.nodes[node].back_at, Event::Start(node));
            }
        }
        Ok(())
    }

    /// A process ended, one way or the other: no file was written to but those that it or another
    /// one on the machine may write to.
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

    /// Connections end. If nobody is told, a process that lives on sees only silence, too.
    fn cut(&mut self, node: usize, told: bool) -> Result<(), Broken> {
        let now = self.now;
        for at in self.network.ends_of(Party::Node(node)) {
            let Some(wire) = self.network.get_mut(at.0) else { continue };
            wire.dead |= !told;
            let link = wire.ends[at.1].link;
            let process = self.nodes[node].process.as_mut();
            if !told && process.is_some() {
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

    /// The user ends the process in good order.
    fn leave(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.now;
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(()) };
        this.leaving = true;
        process.engine.stop_all(now);
        self.settle(node)
    }

    /// A process that was told to end does so when it has nothing more to do.
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

    /// While nothing runs on the machine, somebody may change or remove a file. A node that has
    /// what others may lose is left alone.
    pub(super) fn meddle(&mut self, node: usize) {
        if self.nodes[node].plan.source || self.nodes[node].mate.is_some() {
            return;
        }
        // With a file removed, nothing in another may verify any more: then that is a stranger's.
        if self.nodes[node].life > 0 && !self.nodes[node].doubtful && self.dice.chance(REMOVES) {
            self.remove_a_file(node);
        }
        if self.nodes[node].life > 0 && self.nodes[node].plan.overwrite && self.dice.chance(GROWS) {
            self.grow_a_file(node);
        }
        if self.nodes[node].closed && self.dice.chance(MEDDLES) {
            self.change_a_byte(node);
        }
    }

    /// Of a file in which there is more than one piece. The store sees that only if its last
    /// process ended in good order.
    fn change_a_byte(&mut self, node: usize) {
        let had: Vec<u32> = self.nodes[node].had.iter().copied().collect();
        let payload = Arc::clone(&self.nodes[node].site.payload);
        let places = |piece: u32| {
            let piece = payload.piece(piece);
            piece.map(|piece| payload.places(piece)).unwrap_or_default()
        };
        let Some(piece) = self.dice.pick(&had).copied() else { return };
        let Some(Place { file, at, .. }) = self.dice.pick(&places(piece)).cloned() else {
            return;
        };
        let Some(path) = self.nodes[node].site.path(file).map(Path::to_owned) else { return };
        // A piece of zeros says nothing of whose file it is.
        let others = had.iter().filter(|other| **other != piece && !payload.is_zero(**other));
        let shared = others.flat_map(|other| places(*other)).any(|other| other.file == file);
        if !shared || !self.nodes[node].is_in_place(file, &path) {
            return;
        }
        let what = format!("byte {at} of {path:?}, in piece {piece}");
        let this = &mut self.nodes[node];
        this.disk().meddle(&path, at);
        this.doubtful = true;
        this.had.remove(&piece);
        this.durable.remove(&piece);
        self.note(node, "meddled", [piece.into(), at], || what);
    }

    /// Of a node whose user lets files be written over. If it is not wanted any more, it is not the
    /// torrent's.
    fn grow_a_file(&mut self, node: usize) {
        let this = &self.nodes[node];
        let next = this.plan.want(this.life + 1);
        let (wanted, others): (Vec<usize>, Vec<usize>) =
            (0..this.site.payload.files().count()).partition(|file| next.has(*file));
        let files = if others.is_empty() || self.dice.chance(50) { wanted } else { others };
        let Some(file) = self.dice.pick(&files).copied() else { return };
        let tail: Vec<u8> =
            (0..self.dice.within(1..3000)).map(|_| self.dice.number() as u8).collect();
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
            this.had.retain(|piece| !lost.contains(piece));
            this.durable.retain(|piece| !lost.contains(piece));
        }
        self.note(node, "grown", [file as u64, tail.len() as u64], || format!("{path:?}"));
    }

    /// With a file goes what was in it.
    fn remove_a_file(&mut self, node: usize) {
        let count = self.nodes[node].site.payload.files().count() as u64;
        let file = self.dice.below(count) as usize;
        let this = &mut self.nodes[node];
        let Some(path) = this.site.path(file).map(Path::to_owned) else { return };
        if this.is_in_place(file, &path) {
            let lost = this.site.payload.pieces_in(file);
            this.had.retain(|piece| !lost.contains(piece));
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

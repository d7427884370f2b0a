//! The store's jobs: done at some time, answered some time later, and what they promise is checked
//! against the disk.

use std::collections::BTreeSet;
use std::time::Duration;

use piece_store::{Done, Outcome};

use super::{Event, World};
use crate::disk::SimFile;
use crate::watch::{Broken, Truth, Watch};

impl World {
    /// The torrent is opened, for the first time or again.
    pub(super) fn begin_opening(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.found.clear();
        this.started = false;
        this.closed = false;
        this.sync_failed = false;
        let wanted = self.payload.wanted(this.want());
        this.watch = Watch::new(wanted, self.trace.is_readable());
    }

    pub(super) fn do_job(&mut self, node: usize, life: u32, job: u64) -> Result<(), Broken> {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let Some(asked) = process.jobs.remove(&job) else { return Ok(()) };
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(()) };
        let done = process.torrents.handle_job(asked, None, &mut this.scratch);
        self.note(node, "stored", [job, self.nodes[node].disk.operations()], || name_of(&done));
        if self.nodes[node].disk.is_dead() {
            return self.crash(node, self.nodes[node].dies_how);
        }
        self.check_done(node, &done)
            .map_err(|broken| format!("{}: {broken}", self.nodes[node].name))?;
        let this = &mut self.nodes[node];
        let time = Duration::from_micros(this.dice.below(this.plan.job_time + 1));
        if let Some(process) = &mut this.process {
            process.answers.insert(job, done);
        }
        self.after(time, Event::Answer { node, life, job });
        Ok(())
    }

    pub(super) fn answer_job(&mut self, node: usize, life: u32, job: u64) -> Result<(), Broken> {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let Some(done) = process.answers.remove(&job) else { return Ok(()) };
        let lost = match &done {
            Done::Synced { lost, .. } => lost.clone(),
            _ => Vec::new(),
        };
        process.core.handle_done(now, done);
        lost.iter().for_each(|piece| self.nodes[node].watch.lose(*piece));
        self.settle(node)
    }

    /// Holds the store to its word.
    fn check_done(&mut self, node: usize, done: &Done<SimFile>) -> Result<(), Broken> {
        let this = &mut self.nodes[node];
        let want = this.plan.want(this.life);
        let truth = Truth { payload: &self.payload, disk: &this.disk, want };
        match done {
            Done::Opened { result: Ok(opened), .. } => {
                this.found = opened.have.iter().collect();
                this.safe = this.durable.intersection(&this.found).copied().collect();
                // What is to be verified first is still promised.
                this.had = this.found.union(&this.promised).copied().collect();
                let lie = opened.have.iter().find(|piece| !truth.shows(*piece));
                lie.map_or(Ok(()), |piece| {
                    Err(format!("the journal trusts piece {piece}, which is not on the disk"))
                })
            }
            Done::Checked { good, .. } => {
                let lie = good.iter().find(|piece| !truth.shows(**piece)).copied();
                this.found.extend(good);
                this.had.extend(good);
                lie.map_or(Ok(()), |piece| Err(format!("piece {piece} was verified, but is wrong")))
            }
            Done::Committed { piece, outcome: Outcome::Verified { .. }, .. } => {
                let piece = piece.get();
                if !this.had.insert(piece) {
                    return Err(format!("piece {piece} was fetched although it was had"));
                }
                match truth.shows(piece) {
                    true => Ok(()),
                    false => Err(format!("piece {piece} is had, but not on the disk")),
                }
            }
            // What a check that was broken off did not look at is neither.
            Done::Closed { result: Ok(()), .. } if !this.started => Ok(()),
            Done::Synced { result: Ok(()), .. } | Done::Closed { result: Ok(()), .. } => {
                this.durable = this.had.clone();
                this.safe = this.had.clone();
                this.closed = matches!(done, Done::Closed { .. }) && !this.sync_failed;
                let lie = this.had.iter().find(|piece| !truth.keeps(**piece));
                lie.map_or(Ok(()), |piece| {
                    Err(format!("piece {piece} was synced, but is not durable"))
                })
            }
            Done::Synced { result: Err(_), lost, .. } => {
                this.sync_failed = true;
                // Among them may be what was durable once, and was verified anew since.
                for piece in lost {
                    this.had.remove(piece);
                    this.durable.remove(piece);
                }
                Ok(())
            }
            Done::Closed { result: Err(_), .. } => {
                // What the last sync was to make durable may be lost with it.
                this.durable = this.safe.clone();
                this.had = this.durable.clone();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The transfer begins: everything that was promised was found again.
    pub(super) fn check_start(&mut self, node: usize) -> Result<(), Broken> {
        let this = &mut self.nodes[node];
        (this.started, this.doubtful) = (true, false);
        let missing: BTreeSet<u32> = this.promised.difference(&this.found).copied().collect();
        if !missing.is_empty() {
            return Err(format!("{}: had pieces {missing:?}, and lost them", this.name));
        }
        for piece in this.found.clone() {
            this.watch.gain(piece);
        }
        Ok(())
    }

    /// Everything is there, and would be after a power cut.
    pub(super) fn check_completed(&mut self, node: usize) -> Result<(), Broken> {
        self.nodes[node].completed = true;
        let this = &self.nodes[node];
        let truth = this.truth(&self.payload);
        let lie = self.wanted(this).into_iter().find(|piece| !truth.keeps(*piece));
        lie.map_or(Ok(()), |piece| {
            Err(format!("{}: complete, but piece {piece} is not durable", this.name))
        })
    }
}

/// An answer in a few words.
fn name_of(done: &Done<SimFile>) -> String {
    match done {
        Done::Opened { result: Ok(opened), .. } => format!(
            "opened: {} pieces trusted, {} ranges to verify",
            opened.have.count(),
            opened.to_verify.len()
        ),
        Done::Opened { result: Err(error), .. } => format!("not opened: {error}"),
        Done::Checked { pieces, good, error, .. } => {
            format!("checked {pieces:?}: {} good, {error:?}", good.len())
        }
        Done::CheckFinished { result, .. } => format!("check finished: {result:?}"),
        Done::Committed { piece, outcome, .. } => match outcome {
            Outcome::Verified { .. } => format!("piece {} had", piece.get()),
            Outcome::Mismatch { .. } => format!("piece {} is wrong", piece.get()),
            failed => format!("piece {}: {failed:?}", piece.get()),
        },
        Done::Staged { piece, span_index, result, .. } => {
            format!("span {span_index} of piece {} staged: {result:?}", piece.get())
        }
        Done::Ready { piece, range, result, .. } => {
            let failed = result.as_ref().err();
            format!("bytes {range:?} of piece {} resident, {failed:?}", piece.get())
        }
        Done::Synced { result, lost, .. } => format!("synced: {result:?}, lost {lost:?}"),
        Done::Closed { result, .. } => format!("closed: {result:?}"),
        _ => "something else".to_owned(),
    }
}

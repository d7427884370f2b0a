//! The store's jobs. Each is done at some time and answered some time later; what the answer
//! promises is checked against the disk.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use piece_store::{CommitResult, Done, Job, Torrents};

use super::{Event, Input, ProcessId, World};
use crate::disk::{SimDisk, SimFile};
use crate::node::{Node, handle_job};
use crate::scenario::Want;
use crate::site::Truth;
use crate::watch::{Broken, Watch};

/// How often another process on the machine does a job in the middle of one, in percent.
const INTERRUPTED: u32 = 30;
/// The same for the end of a check, which settles whose the files are.
const END_INTERRUPTED: u32 = 80;

/// A job that the mate's process does in the middle of one.
struct Other {
    node: usize,
    job: u64,
    done: Arc<Mutex<Option<Done<SimFile>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Resets what is known of the torrent when it is opened, for the first time or again.
    pub(super) fn begin_opening(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.found.clear();
        this.started = false;
        this.closed = false;
        this.sync_failed = false;
        let wanted = this.site.payload.wanted(this.want());
        this.watch = Watch::new(wanted, self.trace.is_readable());
    }

    pub(super) fn do_job(&mut self, id: ProcessId, job: u64) -> Result<(), Broken> {
        let node = id.node;
        let Some(process) = self.process(id) else { return Ok(()) };
        let Some(asked) = process.jobs.remove(&job) else { return Ok(()) };
        let (torrents, key_offset) = (Arc::clone(&process.torrents), process.key_offset);
        let other = self.interrupt(node, &torrents, &asked);
        let this = &mut self.nodes[node];
        let done = handle_job(&torrents, key_offset, asked, &mut this.scratch);
        this.site.disk.end_interruption();
        drop(torrents);
        let others = other.and_then(|other| {
            let done = lock(&other.done).take()?;
            Some((other.node, other.job, done))
        });
        let all = others.into_iter().chain([(node, job, done)]);
        for (node, job, done) in all {
            let operations = self.nodes[node].disk().operations;
            self.note(node, "stored", [job, operations], || name_of(&done));
            if self.nodes[node].disk().dead {
                return self.crash(node, self.nodes[node].dies_how);
            }
            self.did_job(node, job, done)?;
        }
        Ok(())
    }

    /// Makes the mate's process do one of its jobs in the middle of `asked`.
    fn interrupt(
        &mut self,
        node: usize,
        torrents: &Arc<Torrents<SimDisk>>,
        asked: &Job,
    ) -> Option<Other> {
        let mate = self.nodes[node].mate?;
        let process = self.nodes[mate].process.as_mut()?;
        if Arc::ptr_eq(&process.torrents, torrents) || process.jobs.is_empty() {
            return None;
        }
        let (torrents, key_offset) = (Arc::clone(&process.torrents), process.key_offset);
        let is_end = matches!(asked, Job::FinishCheck { .. });
        let rng = &mut self.nodes[node].rng;
        if !rng.chance(if is_end { END_INTERRUPTED } else { INTERRUPTED }) {
            return None;
        }
        let after = rng.within(1..30);
        let (job, asked) = self.nodes[mate].process.as_mut()?.jobs.pop_first()?;
        let done = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&done);
        let work = Box::new(move || {
            let mut scratch = Torrents::<SimDisk>::scratch();
            *lock(&slot) = Some(handle_job(&torrents, key_offset, asked, &mut scratch));
        });
        self.nodes[node].site.disk.interrupt(after, work);
        Some(Other { node: mate, job, done })
    }

    fn did_job(&mut self, node: usize, job: u64, done: Done<SimFile>) -> Result<(), Broken> {
        self.check_done(node, &done)
            .map_err(|broken| format!("{}: {broken}", self.nodes[node].name))?;
        let this = &mut self.nodes[node];
        let time = Duration::from_micros(this.rng.below(this.plan.job_time + 1));
        if let Some(process) = &mut this.process {
            process.answers.insert(job, done);
        }
        self.after(time, Event::Process(self.id_of(node), Input::Answer(job)));
        Ok(())
    }

    pub(super) fn answer_job(&mut self, id: ProcessId, job: u64) -> Result<(), Broken> {
        let (now, node) = (self.now, id.node);
        let Some(process) = self.process(id) else { return Ok(()) };
        let Some(done) = process.answers.remove(&job) else { return Ok(()) };
        let lost = if let Done::Synced { lost, .. } = &done { lost.clone() } else { Vec::new() };
        process.engine.handle_done(now, done);
        lost.iter().for_each(|piece| self.nodes[node].watch.lose(*piece));
        self.settle(node)
    }

    /// Checks an answer of the store against the disk.
    fn check_done(&mut self, node: usize, done: &Done<SimFile>) -> Result<(), Broken> {
        let this = &mut self.nodes[node];
        let want = this.plan.want(this.launch);
        let truth = Truth { site: &this.site, want };
        match done {
            Done::Opened { result: Ok(opened), .. } => {
                this.found = opened.have.iter().collect();
                this.safe = this.durable.intersection(&this.found).copied().collect();
                // Pieces that are still to be verified stay promised.
                this.have = this.found.union(&this.promised).copied().collect();
                let lie = opened.have.iter().find(|piece| !truth.shows(*piece));
                refuse(lie, |piece| {
                    format!("the journal trusts piece {piece}, which is not on the disk")
                })
            }
            Done::Checked { good, .. } => {
                let lie = good.iter().find(|piece| !truth.shows(**piece)).copied();
                this.found.extend(good);
                this.have.extend(good);
                refuse(lie, |piece| format!("piece {piece} was verified, but is wrong"))
            }
            Done::CheckFinished { result: Ok(have), .. } => {
                this.found = have.iter().collect();
                this.have = this.found.clone();
                this.durable = this.durable.intersection(&this.found).copied().collect();
                this.safe = this.safe.intersection(&this.found).copied().collect();
                let lie = this.found.iter().copied().find(|piece| !truth.shows(*piece));
                refuse(lie, |piece| {
                    format!("we have piece {piece} after the check, but it is not on the disk")
                })
            }
            Done::Committed { piece, result: CommitResult::Verified { .. }, .. } => {
                let piece = piece.get();
                if !this.have.insert(piece) {
                    return Err(format!("piece {piece} was downloaded twice"));
                }
                let lie = Some(piece).filter(|piece| !truth.shows(*piece));
                refuse(lie, |piece| format!("piece {piece} was verified, but is not on the disk"))
            }
            Done::Synced { .. } | Done::Closed { .. } => check_synced(this, done),
            Done::InfoChecked { .. }
            | Done::Opened { result: Err(_), .. }
            | Done::CheckFinished { result: Err(_), .. }
            | Done::Committed { .. }
            | Done::Staged { .. }
            | Done::Ready { .. } => Ok(()),
        }
    }

    /// The transfer starts: every promised piece must have been found again.
    pub(super) fn check_start(&mut self, node: usize) -> Result<(), Broken> {
        let this = &mut self.nodes[node];
        let was_doubtful = std::mem::take(&mut this.doubtful);
        this.started = true;
        let mut missing: BTreeSet<u32> = this.promised.difference(&this.found).copied().collect();
        // The user allowed the mate to overwrite the file that both want.
        let this = &self.nodes[node];
        if this.mate.is_some_and(|mate| self.nodes[mate].plan.overwrite) {
            let truth = this.truth();
            let of_file = this.contested.map(|file| this.site.payload.pieces_in(file));
            let is_gone = |piece| {
                of_file.as_ref().is_some_and(|of| of.contains(&piece)) && !truth.shows(piece)
            };
            missing.retain(|piece| !is_gone(*piece));
        }
        // An unwanted file that another program made too long is unrelated.
        let truth = self.nodes[node].truth();
        missing.retain(|piece| !truth.has_long_unwanted(*piece));
        // A piece of zeros does not show that a file is the torrent's.
        let payload = &self.nodes[node].site.payload;
        missing.retain(|piece| !was_doubtful || !payload.is_zero(*piece));
        // An unwanted link is left alone once something in it would have to be written.
        let links = &self.nodes[node].plan.links;
        let is_left = |link: &&usize| !self.nodes[node].want().has(**link);
        for link in links.iter().filter(is_left) {
            let pieces = self.nodes[node].site.payload.pieces_in(*link);
            missing.retain(|piece| !pieces.contains(piece));
        }
        // A seed-only torrent imports nothing from the parts file. The next start that downloads
        // finds pieces to import again.
        let this = &self.nodes[node];
        let is_to_import = |piece: &u32| *this.want() == Want::SeedOnly && truth.shows(*piece);
        let to_import: Vec<u32> = missing.extract_if(.., is_to_import).collect();
        let this = &mut self.nodes[node];
        if !missing.is_empty() {
            return Err(format!("{}: pieces {missing:?} are lost", this.name));
        }
        this.have.extend(to_import);
        for piece in this.found.clone() {
            this.watch.gain(piece);
        }
        Ok(())
    }

    /// Checks that every wanted file is complete, and would be after a power cut.
    pub(super) fn check_completed(&mut self, node: usize) -> Result<(), Broken> {
        self.nodes[node].completed = true;
        let this = &self.nodes[node];
        let truth = this.truth();
        if let Some(file) = truth.wrong_file() {
            return Err(format!("{}: complete, but file {file} is wrong", this.name));
        }
        let lie = self.wanted(this).into_iter().find(|piece| !truth.keeps(*piece));
        lie.map_or(Ok(()), |piece| {
            Err(format!("{}: complete, but piece {piece} is not durable", this.name))
        })
    }
}

/// Describes an answer.
fn name_of(done: &Done<SimFile>) -> String {
    match done {
        Done::InfoChecked { result, .. } => {
            format!("metadata checked: {:?}", result.as_ref().map(|_| ()))
        }
        Done::Opened { result: Ok(opened), .. } => format!(
            "opened: {:?} trusted, {:?} to be verified",
            opened.have.iter().collect::<Vec<u32>>(),
            opened.to_verify
        ),
        Done::Opened { result: Err(error), .. } => format!("not opened: {error}"),
        Done::Checked { pieces, good, error, .. } => {
            format!("checked {pieces:?}: {good:?} good, {error:?}")
        }
        Done::CheckFinished { result: Ok(have), .. } => {
            format!("check finished: have {:?}", have.iter().collect::<Vec<u32>>())
        }
        Done::CheckFinished { result: Err(error), .. } => format!("check finished: {error:?}"),
        Done::Committed { piece, result, .. } => match result {
            CommitResult::Verified { .. } => format!("piece {} verified", piece.get()),
            CommitResult::Mismatch { .. } => format!("piece {} is wrong", piece.get()),
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
    }
}

/// Checks the answer to a sync, or to a close, which is the last sync.
fn check_synced(node: &mut Node, done: &Done<SimFile>) -> Result<(), Broken> {
    match done {
        // Pieces that an interrupted check did not reach are neither verified nor lost.
        Done::Closed { result: Ok(()), .. } if !node.started => {}
        Done::Synced { result: Ok(()), .. } | Done::Closed { result: Ok(()), .. } => {
            node.durable = node.have.clone();
            node.safe = node.have.clone();
            node.closed = matches!(done, Done::Closed { .. }) && !node.sync_failed;
            let truth = node.truth();
            let lie = node.have.iter().find(|piece| !truth.keeps(**piece));
            return refuse(lie.copied(), |piece| {
                format!("piece {piece} was synced, but is not durable")
            });
        }
        Done::Synced { result: Err(_), lost, .. } => {
            node.sync_failed = true;
            // Some may have been durable once and verified again since.
            for piece in lost {
                node.have.remove(piece);
                node.durable.remove(piece);
            }
        }
        Done::Closed { result: Err(_), .. } => {
            // The last sync covered pieces that may be lost with it.
            node.durable = node.safe.clone();
            node.have = node.durable.clone();
        }
        _ => {}
    }
    Ok(())
}

/// Fails if there is a piece about which the store is wrong.
fn refuse(lie: Option<u32>, what: impl FnOnce(u32) -> String) -> Result<(), Broken> {
    lie.map_or(Ok(()), |piece| Err(what(piece)))
}

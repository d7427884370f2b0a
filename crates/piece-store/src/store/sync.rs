//! From verified to durable, and the clean shutdown.
//!
//! *When* to sync is the session's decision. *What* is decided here: the dirty files, the folders
//! with new names, then the record. It is synced without the lock, so pieces are committed
//! meanwhile; they belong to the next sync.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bt_types::PieceIndex;

use super::Store;
use super::changed::KnownFile;
use super::journal::Journal;
use super::layout::Place;
use super::ledger::{Dirty, Ledger, Touched};
use super::record::{ClosedFile, Expected, Record, to_ranges};
use crate::{Disk, HeldSpan, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Makes what is had now durable, and records it so.
    ///
    /// # Errors
    /// A sync failed. With the error come the pieces that are no longer had: all that were not
    /// durable. The failed sync is not tried again: the system may have forgotten what it could not
    /// write, and would say that all is well.
    pub fn sync(&self) -> Result<(), (StoreError, Vec<u32>)> {
        let (Dirty { touched, folders }, pieces) = self.plan_sync();
        let slots: Vec<u32> = touched.slots().collect();
        if let Err(error) = self.sync_dirty(touched, &folders) {
            return Err((error, self.lose_undurable(folders)));
        }
        // From here on the data is safe: an error costs the record, not the pieces.
        let finished = self.finish_single().and_then(|()| self.record_durable(&pieces));
        let checked = finished.and_then(|()| self.check_names(&self.stat_known(slots)?));
        checked.map_err(|error| (error, Vec::new()))
    }

    /// Takes what must be synced, and the pieces that are durable then, ascending.
    fn plan_sync(&self) -> (Dirty<D::File>, Vec<u32>) {
        let mut ledger = self.ledger();
        let dirty = ledger.dirty.take();
        let have = ledger.have.iter().filter_map(|piece| self.layout.geometry.piece(piece));
        let pieces =
            have.filter(|piece| !ledger.durable.contains(*piece)).map(PieceIndex::get).collect();
        (dirty, pieces)
    }

    /// Syncs files, then the folders with new names. If some files are not open, the whole file
    /// system is synced instead.
    fn sync_dirty(
        &self,
        touched: Touched<D::File>,
        folders: &BTreeSet<PathBuf>,
    ) -> Result<(), StoreError> {
        let whole = touched.has_closed();
        let with_parts = whole || touched.contains(self.layout.parts_slot());
        // Closed one after another: what follows may have to open something.
        for (slot, file) in touched {
            if let (Some(file), false) = (file, whole || self.is_parts(slot)) {
                let synced = self.disk.sync_file(&file.file);
                let place = self.place_of(slot);
                synced.map_err(|error| self.place_error(Operation::Sync, place, &error))?;
            }
        }
        if with_parts {
            self.sync_parts()?;
        }
        if whole {
            let synced = self.disk.sync_file_system(&self.folder);
            return synced.map_err(|error| self.error(Operation::Sync, Path::new(""), &error));
        }
        for folder in inner_first(folders) {
            match self.make_room(|| self.disk.sync_folder(&self.folder, folder)) {
                // Somebody removed it, and with it the names: no sync failed, and who looks for the
                // names says so.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| self.error(Operation::Sync, folder, &error))?,
            }
        }
        Ok(())
    }

    pub(super) fn place_of(&self, slot: u32) -> Place {
        if self.is_parts(slot) { Place::Parts } else { Place::File(slot as usize) }
    }

    fn is_parts(&self, slot: u32) -> bool {
        slot == self.layout.parts_slot()
    }

    /// After a failed sync: everything not durable is no longer had, nor is what is being written
    /// at this moment. Answers the pieces. The names in `folders` are still to be synced: what is
    /// had from now on may lie in files that are open already.
    fn lose_undurable(&self, folders: BTreeSet<PathBuf>) -> Vec<u32> {
        let mut ledger = self.ledger();
        ledger.epoch += 1;
        // Names that were made since the sync began are not synced either.
        let mut names = ledger.dirty.take().folders;
        names.extend(folders);
        if !names.is_empty() {
            ledger.dirty.folders = names;
        }
        ledger.staged.give_up();
        let geometry = &self.layout.geometry;
        let claimed = ledger.claimed.iter().filter_map(|piece| geometry.piece(piece));
        let doubtful: Vec<u32> =
            claimed.filter(|piece| !ledger.durable.contains(*piece)).map(PieceIndex::get).collect();
        let (lost, recorded) = ledger.lose(&doubtful);
        let recorded = recorded.or_else(|_| {
            // Until it says so, it must take nothing else.
            ledger.journal.iter_mut().for_each(Journal::distrust);
            ledger.rewrite()
        });
        if let Err(error) = recorded {
            log::warn!("cannot record what a failed sync may have lost: {error}");
        }
        lost
    }

    /// Gives the file of a single piece its name, once the piece is had and synced.
    fn finish_single(&self) -> Result<(), StoreError> {
        let Some(single) = &self.single else { return Ok(()) };
        let complete = self.ledger().have.count() == self.layout.wanted.count();
        if !complete || single.finished.load(Ordering::Relaxed) {
            return Ok(());
        }
        let renamed = self.disk.rename(&self.folder, &single.temporary, &single.output);
        renamed.map_err(|error| self.error(Operation::Rename, &single.output, &error))?;
        single.finished.store(true, Ordering::Relaxed);
        let synced = self.disk.sync_folder(&self.folder, Path::new(""));
        synced.map_err(|error| self.error(Operation::Sync, Path::new(""), &error))
    }

    /// Records `pieces` as durable; they are only once the record itself is on the disk.
    fn record_durable(&self, pieces: &[u32]) -> Result<(), StoreError> {
        if pieces.is_empty() {
            return Ok(());
        }
        let mut ledger = self.ledger();
        let kept: Vec<u32> = self.still_had(&ledger.have, pieces);
        ledger.append(&[Record::Durable(to_ranges(kept.iter().copied()))])?;
        self.end_imports(&mut ledger)?;
        let file = ledger.journal.as_ref().and_then(Journal::unsynced);
        drop(ledger);
        self.sync_journal(file)?;
        let mut ledger = self.ledger();
        for piece in self.still_had(&ledger.have, &kept) {
            self.layout.geometry.piece(piece).map(|piece| ledger.durable.insert(piece));
        }
        if ledger.journal.as_ref().is_some_and(Journal::wants_rewrite) {
            ledger.rewrite()?;
        }
        Ok(())
    }

    /// What was imported is durable in its own place from now on.
    fn end_imports(&self, ledger: &mut Ledger<D>) -> Result<(), StoreError> {
        if !ledger.checked {
            return Ok(());
        }
        let in_parts = ledger.pending.in_parts.iter().cloned().flatten();
        let is_missing = |piece| ledger.claimed.contains(piece) && !ledger.have.contains(piece);
        let is_left = |slot: &u32| {
            self.layout.slots.get(*slot as usize).is_some_and(|slot| {
                // A seed-only torrent copies nothing.
                !slot.in_place() || self.layout.pieces_touching(slot).any(is_missing)
            })
        };
        let left = to_ranges(in_parts.filter(is_left));
        ledger.record_in_parts(left)
    }

    /// Those of `pieces` that are had: a check may have found one bad meanwhile.
    fn still_had(&self, have: &bt_types::Bitfield, pieces: &[u32]) -> Vec<u32> {
        let had = |piece: &u32| {
            self.layout.geometry.piece(*piece).is_some_and(|piece| have.contains(piece))
        };
        pieces.iter().copied().filter(had).collect()
    }

    /// Ends the run: stages what is unfinished, syncs, records the end. `uploaded` and `downloaded`
    /// are the totals of all runs, in bytes. Afterwards nothing can be written.
    ///
    /// # Errors
    /// The first thing that failed. The next start then does as after a crash.
    pub fn close(
        &self,
        uploaded: u64,
        downloaded: u64,
        unfinished: &[HeldSpan],
    ) -> Result<(), StoreError> {
        let staged = self.stage_all(unfinished);
        let synced = self.sync().map_err(|(error, _)| error);
        let named = self.remove_unfinished_single();
        let mut ledger = self.ledger();
        let recorded =
            ledger.as_closed && (ledger.uploaded, ledger.downloaded) == (uploaded, downloaded);
        (ledger.uploaded, ledger.downloaded) = (uploaded, downloaded);
        // What a failed sync left on the disk may change yet: that is no state to recognise files
        // by.
        let is_clean = ledger.checked && ledger.claimed == ledger.have && ledger.epoch == 0;
        drop(ledger);
        self.handles.forget(self.number);
        let recorded = match synced {
            Ok(()) if recorded => Ok(()),
            Ok(()) => self.record_end(is_clean),
            Err(error) => Err(error),
        };
        let mut ledger = self.ledger();
        ledger.closed = true;
        // With it goes the lock.
        ledger.journal = None;
        staged.and(recorded).and(named)
    }

    /// Stages the spans if the next start can make use of them.
    fn stage_all(&self, unfinished: &[HeldSpan]) -> Result<(), StoreError> {
        let useful = !self.read_only && self.ledger().journal.is_some();
        for held in unfinished.iter().filter(|held| useful && held.blocks != 0) {
            self.stage(held.piece, held.attempt, held.span_index, &held.span, held.blocks)?;
        }
        Ok(())
    }

    fn record_end(&self, is_clean: bool) -> Result<(), StoreError> {
        let slots: Vec<u32> = self.ledger().files.iter().map(|file| file.slot).collect();
        let found = self.stat_known(slots)?;
        let mut ledger = self.ledger();
        let (uploaded, downloaded) = (ledger.uploaded, ledger.downloaded);
        if is_clean {
            let files = closed_files(&found, self.stable_ids);
            let mut records: Vec<Record> = ledger.unfinished_records();
            // What was not made until now is nobody's.
            if !self.read_only && !ledger.pending.expected.slots.is_empty() {
                records.push(Record::Expected(Expected::default()));
            }
            records.push(Record::Closed { uploaded, downloaded, files });
            ledger.append(&records)?;
        } else {
            // The check was not finished, or a sync failed: only the totals are worth keeping.
            ledger.append(&[Record::Open { uploaded, downloaded }])?;
        }
        let file = ledger.journal.as_ref().and_then(Journal::unsynced);
        drop(ledger);
        self.sync_journal(file)?;
        self.check_names(&found)
    }

    /// Syncs the journal's file, as it was when [`Journal::unsynced`] gave it. One whose sync
    /// failed is replaced: its next sync would prove nothing.
    pub(super) fn sync_journal(
        &self,
        unsynced: Option<(Arc<D::File>, u64)>,
    ) -> Result<(), StoreError> {
        let Some((file, length)) = unsynced else { return Ok(()) };
        let synced = self.disk.sync_file(&file);
        let mut ledger = self.ledger();
        let Some(journal) = &mut ledger.journal else { return Ok(()) };
        if let Err(error) = synced {
            let error = journal.sync_error(&error);
            journal.distrust();
            return ledger.rewrite().and(Err(error));
        }
        journal.handle_synced(length);
        Ok(())
    }

    /// Removes the file of a single piece that did not become complete.
    fn remove_unfinished_single(&self) -> Result<(), StoreError> {
        match &self.single {
            Some(single) if !single.finished.load(Ordering::Relaxed) => {
                let removed = self.disk.remove(&self.folder, &single.temporary);
                removed.map_err(|error| self.error(Operation::Remove, &single.temporary, &error))
            }
            _ => Ok(()),
        }
    }
}

/// What the torrent's files look like. One that somebody put in the place of ours is left out:
/// nothing is known of what is in it.
fn closed_files(found: &[KnownFile], stable_ids: bool) -> Vec<ClosedFile> {
    let ours = found.iter().filter_map(|file| Some((file.slot, file.found?, file.id)));
    ours.filter(|(_, stat, id)| stat.id.is(*id) || !stable_ids)
        .map(|(slot, stat, _)| ClosedFile {
            slot,
            length: stat.length,
            modified: stat.modified,
            id: stable_ids.then_some(stat.id),
        })
        .collect()
}

/// Folders from the deepest to the outermost.
fn inner_first(folders: &BTreeSet<PathBuf>) -> Vec<&PathBuf> {
    let mut folders: Vec<&PathBuf> = folders.iter().collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    folders
}

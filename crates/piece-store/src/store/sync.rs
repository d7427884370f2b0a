//! Makes verified pieces durable, and shuts a torrent down cleanly.
//!
//! The session decides when to sync. This module decides what: the dirty files, the folders with
//! new names, then the record. The ledger is not locked during a sync, so pieces are committed
//! meanwhile. They belong to the next sync.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bt_types::{Bitfield, PieceIndex};

use super::Store;
use super::changed::KnownFile;
use super::dirty::{Dirty, Touched};
use super::journal::Journal;
use super::ledger::Phase;
use super::record::{ClosedFile, Expected, Record, to_ranges};
use crate::{Disk, HeldSpan, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Makes the pieces that we have durable, and records that.
    ///
    /// # Errors
    /// A sync failed. With the error come the pieces that are missing now: all that were not
    /// durable. The sync is not tried again, because the system may have dropped what it could not
    /// write, and would report success.
    pub fn sync(&self) -> Result<(), (StoreError, Vec<u32>)> {
        let (Dirty { touched, folders }, pieces) = self.plan_sync();
        let slots: Vec<u32> = touched.slots().collect();
        if let Err(error) = self.sync_dirty(touched, &folders) {
            return Err((error, self.lose_undurable(folders)));
        }
        // From here on the data is safe. An error costs the record, not the pieces.
        let finished = self.finish_single().and_then(|()| self.record_durable(&pieces));
        let checked = finished.and_then(|()| self.check_names(&self.stat_known(slots)?));
        checked.map_err(|error| (error, Vec::new()))
    }

    /// Takes what must be synced, and the pieces that are durable afterwards, ascending.
    fn plan_sync(&self) -> (Dirty<D::File>, Vec<u32>) {
        let mut ledger = self.ledger();
        let dirty = ledger.take_dirty();
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
        // Each file is closed after its sync, because the steps below may have to open files.
        for (slot, file) in touched.into_files() {
            if let (Some(file), false) = (file, whole || slot == self.layout.parts_slot()) {
                let synced = self.disk().sync_file(&file.file);
                let location = self.layout.location(slot);
                synced.map_err(|error| self.location_error(Operation::Sync, location, &error))?;
            }
        }
        if with_parts {
            self.sync_parts()?;
        }
        if whole {
            let synced = self.disk().sync_file_system(&self.folder);
            return synced
                .map_err(|error| self.layout.error(Operation::Sync, Path::new(""), &error));
        }
        for folder in inner_first(folders) {
            match self.make_room(|| self.disk().sync_folder(&self.folder, folder)) {
                // Another program removed the folder and the names in it. No sync failed, and the
                // check of the names reports it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.layout.error(Operation::Sync, folder, &error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// After a failed sync: records everything that is not durable as missing, and discards what is
    /// being written at this moment. Returns the lost pieces. For `folders` see
    /// [`Ledger::fail_sync`](super::ledger::Ledger::fail_sync).
    fn lose_undurable(&self, folders: BTreeSet<PathBuf>) -> Vec<u32> {
        let mut ledger = self.ledger();
        ledger.fail_sync(folders);
        let geometry = &self.layout.geometry;
        let claimed = ledger.claimed.iter().filter_map(|piece| geometry.piece(piece));
        let doubtful: Vec<u32> =
            claimed.filter(|piece| !ledger.durable.contains(*piece)).map(PieceIndex::get).collect();
        let (lost, recorded) = ledger.lose(&doubtful);
        let recorded = recorded.or_else(|_| {
            // The journal must take no other record before this one.
            ledger.journal.iter_mut().for_each(Journal::distrust);
            ledger.rewrite()
        });
        if let Err(error) = recorded {
            log::warn!("cannot record what a failed sync may have lost: {error}");
        }
        lost
    }

    /// Gives the file of a single piece its final name, once the piece is synced.
    fn finish_single(&self) -> Result<(), StoreError> {
        let Some(single) = &self.single else { return Ok(()) };
        let complete = self.ledger().have.count() == self.layout.wanted.count();
        if !complete || single.finished.load(Ordering::Relaxed) {
            return Ok(());
        }
        let renamed = self.disk().rename(&self.folder, &single.temporary, &single.output);
        renamed.map_err(|error| self.layout.error(Operation::Rename, &single.output, &error))?;
        single.finished.store(true, Ordering::Relaxed);
        let synced = self.disk().sync_folder(&self.folder, Path::new(""));
        synced.map_err(|error| self.layout.error(Operation::Sync, Path::new(""), &error))
    }

    /// Records `pieces` as durable. They are durable once the record itself is on the disk.
    fn record_durable(&self, pieces: &[u32]) -> Result<(), StoreError> {
        if pieces.is_empty() {
            return Ok(());
        }
        let mut ledger = self.ledger();
        let synced: Vec<u32> = self.still_complete(&ledger.have, pieces);
        ledger.append(&[Record::Durable(to_ranges(synced.iter().copied()))])?;
        self.end_imports(&mut ledger)?;
        drop(ledger);
        self.sync_records()?;
        let mut ledger = self.ledger();
        for piece in self.still_complete(&ledger.have, &synced) {
            self.layout.geometry.piece(piece).map(|piece| ledger.durable.insert(piece));
        }
        if ledger.journal.as_ref().is_some_and(Journal::wants_rewrite) {
            ledger.rewrite()?;
        }
        Ok(())
    }

    /// Returns those of `pieces` that we still have: a check may have found one bad meanwhile.
    fn still_complete(&self, have: &Bitfield, pieces: &[u32]) -> Vec<u32> {
        let is_complete = |piece: &u32| {
            self.layout.geometry.piece(*piece).is_some_and(|piece| have.contains(piece))
        };
        pieces.iter().copied().filter(is_complete).collect()
    }

    /// Ends the launch: stages unfinished blocks, syncs, and records the end. `uploaded` and
    /// `downloaded` are the totals of all launches, in bytes. Afterwards nothing can be written.
    ///
    /// # Errors
    /// The first step that failed. The next start then works as after a crash.
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
        // After a failed sync the files may still change, so they could not be recognised by their
        // length and time.
        let is_checked = !matches!(ledger.phase, Phase::Checking(_));
        let is_clean = is_checked && ledger.claimed == ledger.have && ledger.failed_syncs == 0;
        drop(ledger);
        self.shared.files.close_store(self.number);
        let recorded = match synced {
            Ok(()) if recorded => Ok(()),
            Ok(()) => self.record_end(is_clean),
            Err(error) => Err(error),
        };
        let mut ledger = self.ledger();
        ledger.phase = Phase::Closed;
        // This unlocks the torrent.
        ledger.journal = None;
        staged.and(recorded).and(named)
    }

    /// Stages the spans if the next start can use them.
    fn stage_all(&self, unfinished: &[HeldSpan]) -> Result<(), StoreError> {
        let useful = !self.seed_only && self.ledger().journal.is_some();
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
            // Files that were not created by now are no longer expected.
            if !self.seed_only && ledger.expected().is_some() {
                records.push(Record::Expected(Expected::default()));
            }
            records.push(Record::Closed { uploaded, downloaded, files });
            ledger.append(&records)?;
        } else {
            // The check was not finished, or a sync failed. Only the totals are valid.
            ledger.append(&[Record::Open { uploaded, downloaded }])?;
        }
        drop(ledger);
        self.sync_records()?;
        self.check_names(&found)
    }

    /// Syncs the journal's file. Replaces it if the sync fails, because its next sync would prove
    /// nothing.
    pub(super) fn sync_records(&self) -> Result<(), StoreError> {
        let unsynced = self.ledger().journal.as_ref().and_then(Journal::unsynced);
        let Some((file, length)) = unsynced else { return Ok(()) };
        let synced = self.disk().sync_file(&file);
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

    /// Removes the file of a single piece that is not complete.
    fn remove_unfinished_single(&self) -> Result<(), StoreError> {
        let Some(single) = &self.single else { return Ok(()) };
        if single.finished.load(Ordering::Relaxed) {
            return Ok(());
        }
        let removed = self.disk().remove(&self.folder, &single.temporary);
        removed.map_err(|error| self.layout.error(Operation::Remove, &single.temporary, &error))
    }
}

/// Returns the torrent's files as they are. Leaves out a file that replaced ours, because its
/// contents are unknown.
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

/// Returns the folders from the deepest to the outermost.
fn inner_first(folders: &BTreeSet<PathBuf>) -> Vec<&PathBuf> {
    let mut folders: Vec<&PathBuf> = folders.iter().collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    folders
}

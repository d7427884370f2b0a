//! Comparing what is on disk with the hashes, and telling whose files they are.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

use bt_types::PieceIndex;

use super::files::is_zero;
use super::journal::Journal;
use super::layout::{Place, Slot};
use super::ledger::Touched;
use super::record::{Awaited, Record, to_ranges};
use super::{STRIP_LENGTH, Store, changed};
use crate::hashing::{Source, hash_pieces, hole_length};
use crate::{Access, Disk, Operation, Stat, StoreError, Unrelated};

/// A file that is not kept apart: the number of its slot, and what it is if it is there.
type InPlace<'a> = (u32, &'a Slot, Option<Stat>);

impl<D: Disk> Store<D> {
    /// Compares pieces on disk with their hashes. Good ones are had from then on, others are not. Answers
    /// the good ones, ascending, and why others were not looked at, if so: a piece that can't be read
    /// is neither, and of those after it only some are looked at. `scratch` is [`STRIP_LENGTH`] long.
    pub fn verify(&self, pieces: Range<u32>, scratch: &mut [u8]) -> (Vec<u32>, Option<StoreError>) {
        let (geometry, info) = (self.layout.geometry, self.metainfo.info());
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let compare = |piece: PieceIndex, digest| match digest == Some(info.piece_hash(piece)) {
            true => good.push(piece.get()),
            false => bad.push(piece.get()),
        };
        let mut source = self;
        let hashed =
            hash_pieces(&geometry, pieces, &self.zero_piece, &mut source, scratch, compare);
        good.sort_unstable();
        match self.record_check(&good, &bad) {
            Ok(lost) => (good, hashed.err().or(lost.err())),
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    /// Records what was found. A first error: nothing is had; a second: what was lost is not recorded.
    fn record_check(
        &self,
        good: &[u32],
        bad: &[u32],
    ) -> Result<Result<(), StoreError>, StoreError> {
        let geometry = &self.layout.geometry;
        let mut touched = Touched::new();
        let noted = to_ranges(good.iter().copied())
            .into_iter()
            .try_for_each(|pieces| self.touch_files(pieces, &mut touched));
        let mut ledger = self.ledger();
        // A run before may have made the files and been killed before it synced their names.
        touched.slots().for_each(|slot| ledger.dirty.name(self.slot_path(slot)));
        let recorded = noted.and_then(|()| ledger.written(geometry, good, touched));
        let (_, lost) = ledger.lose(geometry, bad);
        recorded.map(|()| lost)
    }

    /// Ends the check, after everything was verified without an error: stops if a file is unrelated,
    /// else makes the torrent ready to be written.
    ///
    /// # Errors
    /// [`StoreError::UnrelatedFile`]; the disk fails.
    pub fn finish_check(&self) -> Result<(), StoreError> {
        if self.ledger().checked {
            return Ok(());
        }
        let found = self.stat_in_place()?;
        for (number, slot, stat) in &found {
            match slot.selected && !self.read_only {
                true if self.overwrite => {}
                true => self.check_related(*number, slot, *stat)?,
                false => self.let_alone(*number, slot, *stat),
            }
        }
        for (number, slot, stat) in found.iter().filter(|(_, slot, _)| slot.in_place()) {
            self.check_unchanged(*number, slot, *stat)?;
        }
        if !self.read_only {
            self.make_files()?;
        }
        self.own_files(found)?;
        self.ledger().end_check();
        Ok(())
    }

    /// The files of the layout that are not kept apart: numbers, and what they are if they are there.
    fn stat_in_place(&self) -> Result<Vec<InPlace<'_>>, StoreError> {
        let slots = (0u32..).zip(&self.layout.slots).filter(|(_, slot)| slot.in_place());
        slots.map(|(number, slot)| Ok((number, slot, self.stat_path(&slot.path)?))).collect()
    }

    /// Refuses a file that somebody removed, replaced, cut or put there since it was looked at first: some of
    /// its pieces may be had, and it was not verified.
    fn check_unchanged(
        &self,
        number: u32,
        slot: &Slot,
        stat: Option<Stat>,
    ) -> Result<(), StoreError> {
        let known = self.as_numbered(self.ledger().known(number), stat);
        let length = slot.known_length.load(Ordering::Relaxed);
        let unchanged = changed::compare(known, length, stat).and_then(|()| match stat {
            Some(stat) if length == 0 && !self.overwrite => changed::check_identity(known, &stat),
            _ => Ok(()),
        });
        unchanged.map_err(|error| self.error(Operation::Stat, &slot.path, &error))
    }

    /// Refuses a wanted file that was there before and is something else.
    fn check_related(
        &self,
        number: u32,
        slot: &Slot,
        stat: Option<Stat>,
    ) -> Result<(), StoreError> {
        match self.unrelated(number, slot, stat)? {
            Some(reason) => {
                Err(StoreError::UnrelatedFile { path: self.folder_path.join(&slot.path), reason })
            }
            None => Ok(()),
        }
    }

    fn unrelated(
        &self,
        number: u32,
        slot: &Slot,
        stat: Option<Stat>,
    ) -> Result<Option<Unrelated>, StoreError> {
        let Some(stat) = stat.filter(|_| self.single.is_none()) else { return Ok(None) };
        let suspect = {
            let ledger = self.ledger();
            let ours = ledger.made(number, stat.id);
            let verified = match self.layout.contains_a_piece(slot) {
                true => self.layout.pieces_touching(slot).any(|piece| ledger.have.contains(piece)),
                false => !ledger.have.is_empty(),
            };
            !ours && !verified
        };
        if stat.length <= slot.length && !suspect {
            return Ok(None);
        }
        if !self.has_data(&slot.path)? {
            return Ok(None);
        }
        if stat.length > slot.length {
            return Ok(Some(Unrelated::TooLong { expected: slot.length, got: stat.length }));
        }
        Ok(Some(Unrelated::NothingVerifies))
    }

    /// Lets a file alone that is not to be made, unless it is one of ours or something in it verified: what
    /// is needed of it is kept in the parts file.
    fn let_alone(&self, number: u32, slot: &Slot, stat: Option<Stat>) {
        let ledger = self.ledger();
        let ours = stat.is_some_and(|stat| ledger.owned_as(number) == Ok(stat.id));
        let verified = self.layout.pieces_touching(slot).any(|piece| ledger.have.contains(piece));
        slot.keep_in_parts(!ours && !verified);
    }

    /// Whether a file has any byte that is not zero.
    fn has_data(&self, path: &Path) -> Result<bool, StoreError> {
        let failed = |error| self.error(Operation::Read, path, &error);
        let open = || self.disk.open(&self.folder, path, Access::Read);
        let file = self.make_room(open).map_err(failed)?;
        let mut strip = vec![0; STRIP_LENGTH];
        let mut at = 0;
        while let Some(data) = self.disk.next_data(&file, at).map_err(failed)? {
            let count = self.disk.read_at(&file, &mut strip, data).map_err(failed)?;
            if count == 0 {
                break;
            }
            if !is_zero(strip.get(..count).unwrap_or_default()) {
                return Ok(true);
            }
            at = data + count as u64;
        }
        Ok(false)
    }

    /// Makes the wanted files that have no bytes and, if asked for, reserves room for the others.
    fn make_files(&self) -> Result<(), StoreError> {
        let wanted = self.layout.slots.iter().enumerate().filter(|(_, slot)| slot.selected);
        for (index, slot) in wanted {
            if slot.length == 0 {
                self.writable(Place::File(index))?;
            } else if self.preallocate {
                let file = self.writable(Place::File(index))?;
                let allocated = self.disk.allocate(&file, slot.length);
                allocated.map_err(|error| self.error(Operation::Allocate, &slot.path, &error))?;
            }
        }
        Ok(())
    }

    /// Records that the files that are there now are the torrent's, for they were checked, and that those
    /// that are not there are ours to make. This must be on the disk before their data is: else a
    /// power cut would make strangers of them.
    fn own_files(&self, found: Vec<InPlace<'_>>) -> Result<(), StoreError> {
        let mut missing = Vec::new();
        for (number, slot, stat) in found.into_iter().filter(|(_, slot, _)| slot.in_place()) {
            // Some were made since.
            let made = stat.is_none() && self.ledger().owned_as(number).is_ok();
            match if made { self.stat_path(&slot.path)? } else { stat } {
                Some(stat) => {
                    self.ledger().own(number, stat.id)?;
                    slot.note_length(Some(stat));
                }
                None => missing.push(number),
            }
        }
        self.own_parts()?;
        // Who only serves makes none, and forgets none that a run before may have made.
        let awaited = match self.read_only {
            true => self.ledger().unowned.awaited.clone(),
            false => Awaited::new(self.disk.boot(), to_ranges(missing)),
        };
        self.await_files(awaited)
    }

    /// The same of the parts file, unless somebody removed or replaced it since the check began: what it has
    /// may be had.
    fn own_parts(&self) -> Result<(), StoreError> {
        if !self.parts.have_a_name() {
            return Ok(());
        }
        let (slot, stat) = (self.layout.parts_slot(), self.stat_parts()?);
        let known = self.as_numbered(self.ledger().owned_as(slot).ok(), stat);
        let same = changed::compare(known, 0, stat);
        same.map_err(|error| self.place_error(Operation::Stat, Place::Parts, &error))?;
        stat.map_or(Ok(()), |stat| self.ledger().own(slot, stat.id))
    }

    fn await_files(&self, awaited: Awaited) -> Result<(), StoreError> {
        let mut ledger = self.ledger();
        if awaited != ledger.unowned.awaited {
            ledger.append(&[Record::Awaited(awaited.clone())])?;
            ledger.unowned.awaited = awaited;
        }
        if !ledger.unowned.changed.is_empty() {
            ledger.append(&[Record::Changed(Vec::new())])?;
            ledger.unowned.changed.clear();
        }
        let file = ledger.journal.as_ref().and_then(Journal::unsynced);
        drop(ledger);
        self.sync_journal(file)
    }
}

impl<D: Disk> Source for &Store<D> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        self.read_torrent(offset, buffer)
    }

    fn zeros(&mut self, offset: u64) -> Result<u64, StoreError> {
        let left = self.layout.geometry.total().saturating_sub(offset);
        let Some(range) = self.layout.ranges(offset, left).next() else { return Ok(0) };
        if range.place == Place::Zeros {
            return Ok(range.length);
        }
        let Some(file) = self.readable(range.place)? else { return Ok(0) };
        let hole = hole_length(&*self.disk, &file, range.offset, range.length);
        hole.map_err(|error| self.place_error(Operation::Read, range.place, &error))
    }

    fn prefetch(&mut self, offset: u64, length: u64) {
        for range in self.layout.ranges(offset, length) {
            // What can't be opened will be told by the read.
            if let (Place::File(_), Ok(Some(file))) = (range.place, self.readable(range.place)) {
                self.disk.prefetch(&file, range.offset, range.length);
            }
        }
    }
}

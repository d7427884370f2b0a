//! Comparing what is on disk with the hashes, and telling whose files they are.

use std::ops::Range;
use std::path::Path;

use bt_types::PieceIndex;
use piece_hash::{Hasher, sha1};

use super::files::is_zero;
use super::journal::Journal;
use super::layout::{Place, Slot};
use super::ledger::Touched;
use super::record::{Record, to_ranges};
use super::{STRIP_LENGTH, Store};
use crate::{Access, Disk, Operation, StoreError, Unrelated};

impl<D: Disk> Store<D> {
    /// Compares pieces on disk with their hashes. Good ones are had from then on, others are not. Answers
    /// the good ones, ascending, and why the rest was not looked at, if so. `scratch` is
    /// [`STRIP_LENGTH`] long.
    pub fn verify(&self, pieces: Range<u32>, scratch: &mut [u8]) -> (Vec<u32>, Option<StoreError>) {
        let geometry = self.layout.geometry;
        let (mut good, mut bad, mut touched) = (Vec::new(), Vec::new(), Touched::new());
        let mut error = None;
        for piece in (pieces.start..pieces.end.min(geometry.piece_count()))
            .filter_map(|index| geometry.piece(index))
        {
            match self.verify_piece(piece, scratch, &mut touched) {
                Ok(true) => good.push(piece.get()),
                Ok(false) => bad.push(piece.get()),
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            }
        }
        let mut ledger = self.ledger();
        let recorded = ledger.written(&geometry, &good, touched);
        let (_, lost) = ledger.lose(&geometry, &bad);
        if let Err(failed) = recorded {
            return (Vec::new(), Some(failed));
        }
        (good, error.or(lost.err()))
    }

    /// Whether a piece is good; if so, its files are noted in `touched`.
    fn verify_piece(
        &self,
        piece: PieceIndex,
        scratch: &mut [u8],
        touched: &mut Touched<D::File>,
    ) -> Result<bool, StoreError> {
        let good = self.matches(piece, scratch)?;
        if good {
            self.touch_files(piece, touched)?;
        }
        Ok(good)
    }

    /// Whether the bytes on disk have the hash of `piece`.
    fn matches(&self, piece: PieceIndex, scratch: &mut [u8]) -> Result<bool, StoreError> {
        let expected = self.metainfo.info().piece_hash(piece);
        let length = self.layout.geometry.length_of(piece);
        if self.is_hole(piece)? {
            return Ok(self.zero_hash(length) == expected);
        }
        self.prefetch(piece)?;
        let mut hasher = Hasher::new();
        let (mut at, mut left) = (self.layout.geometry.offset_of(piece), length as usize);
        while left > 0 {
            let strip = scratch.get_mut(..left.min(STRIP_LENGTH)).unwrap_or_default();
            if strip.is_empty() || !self.read_torrent(at, strip)? {
                return Ok(false);
            }
            hasher.update(strip);
            at += strip.len() as u64;
            left -= strip.len();
        }
        Ok(length > 0 && hasher.finish() == expected)
    }

    /// Whether every byte of a piece is in a hole: there, and zero.
    fn is_hole(&self, piece: PieceIndex) -> Result<bool, StoreError> {
        let mut ranges = 0;
        for range in self.layout.piece_ranges(piece) {
            ranges += 1;
            if range.place == Place::Zeros {
                continue;
            }
            let Some(file) = self.readable(range.place)? else { return Ok(false) };
            let failed = |error| self.place_error(Operation::Read, range.place, &error);
            let end = range.offset + range.length;
            let data = self.disk.next_data(&file, range.offset).map_err(failed)?;
            if data.is_some_and(|data| data < end) {
                return Ok(false);
            }
            if self.disk.file_stat(&file).map_err(failed)?.length < end {
                return Ok(false);
            }
        }
        Ok(ranges > 0)
    }

    /// The hash of `length` zeros: computed once for a full piece.
    fn zero_hash(&self, length: u32) -> bt_types::Sha1Digest {
        let compute = || {
            let strip = vec![0; STRIP_LENGTH];
            let mut hasher = Hasher::new();
            let mut left = length as usize;
            while left > 0 {
                let part = strip.get(..left.min(STRIP_LENGTH)).unwrap_or_default();
                hasher.update(part);
                left -= part.len();
            }
            hasher.finish()
        };
        match length {
            0 => sha1(&[]),
            _ if length == self.layout.geometry.piece_length() => {
                *self.zero_piece.get_or_init(compute)
            }
            _ => compute(),
        }
    }

    fn prefetch(&self, piece: PieceIndex) -> Result<(), StoreError> {
        for range in self.layout.piece_ranges(piece) {
            if let (Place::File(_), Some(file)) = (range.place, self.readable(range.place)?) {
                self.disk.prefetch(&file, range.offset, range.length);
            }
        }
        Ok(())
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
        if !self.read_only {
            if !self.overwrite {
                let mut slots =
                    (0u32..).zip(&self.layout.slots).filter(|(_, slot)| slot.in_place());
                slots.try_for_each(|(number, slot)| self.check_related(number, slot))?;
            }
            self.make_files()?;
        }
        self.own_files()?;
        self.ledger().checked = true;
        Ok(())
    }

    /// Refuses a file that was there before and is something else. One that is not wanted is let
    /// alone: what is needed of it is kept in the parts file.
    fn check_related(&self, number: u32, slot: &Slot) -> Result<(), StoreError> {
        let Some(reason) = self.unrelated(number, slot)? else { return Ok(()) };
        if !slot.selected && reason == Unrelated::NothingVerifies {
            slot.keep_in_parts(true);
            return Ok(());
        }
        Err(StoreError::UnrelatedFile { path: self.folder_path.join(&slot.path), reason })
    }

    fn unrelated(&self, number: u32, slot: &Slot) -> Result<Option<Unrelated>, StoreError> {
        let stat = self.disk.stat(&self.folder, &slot.path);
        let stat = stat.map_err(|error| self.error(Operation::Stat, &slot.path, &error))?;
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

    /// Whether a file has any byte that is not zero.
    fn has_data(&self, path: &Path) -> Result<bool, StoreError> {
        let failed = |error| self.error(Operation::Read, path, &error);
        let file = self.disk.open(&self.folder, path, Access::Read).map_err(failed)?;
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
    fn own_files(&self) -> Result<(), StoreError> {
        let mut missing = Vec::new();
        for (number, slot) in (0u32..).zip(&self.layout.slots).filter(|(_, slot)| slot.in_place()) {
            let stat = self.disk.stat(&self.folder, &slot.path);
            let stat = stat.map_err(|error| self.error(Operation::Stat, &slot.path, &error))?;
            match stat {
                Some(stat) => self.ledger().own(number, stat.id)?,
                None => missing.push(number),
            }
        }
        if let Some(stat) = self.stat_parts()? {
            self.ledger().own(self.layout.parts_slot(), stat.id)?;
        }
        self.await_files(to_ranges(missing))
    }

    fn await_files(&self, slots: Vec<Range<u32>>) -> Result<(), StoreError> {
        let mut ledger = self.ledger();
        if slots != ledger.awaited {
            ledger.append(&[Record::Awaited(slots.clone())])?;
            ledger.awaited = slots;
        }
        let file = ledger.journal.as_ref().and_then(Journal::unsynced);
        drop(ledger);
        self.sync_journal(file)
    }
}

//! Reading and writing ranges of the torrent, in whichever files they are.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bt_types::PieceIndex;

use super::claims::Claim;
use super::dirty::Touched;
use super::layout::{Location, Segment, Slot};
use super::owner::Hold;
use super::resume::TorrentFile;
use super::{Store, changed};
use crate::{Access, Disk, FileId, Lock, Operation, StoreError};

/// The most buffers in one write. Systems accept 1024 at most.
const MAX_BUFFERS: usize = 512;

impl<D: Disk> Store<D> {
    /// Reads the bytes at `offset` of the torrent. Returns `false` if a file is missing or too
    /// short.
    pub(super) fn read_torrent(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        let mut rest = buffer;
        for segment in self.layout.segments(offset, rest.len() as u64) {
            let (bytes, after) = rest.split_at_mut(segment.length as usize);
            rest = after;
            if !self.read_segment(&segment, bytes)? {
                return Ok(false);
            }
        }
        Ok(rest.is_empty())
    }

    fn read_segment(&self, segment: &Segment, buffer: &mut [u8]) -> Result<bool, StoreError> {
        if segment.location == Location::Zeros {
            buffer.fill(0);
            return Ok(true);
        }
        let Some(file) = self.readable(segment.location)? else { return Ok(false) };
        let mut done = 0;
        while done < buffer.len() {
            match self.disk().read_at(&file, &mut buffer[done..], segment.offset + done as u64) {
                Ok(0) => return Ok(false),
                Ok(count) => done += count,
                Err(error) => {
                    return Err(self.location_error(Operation::Read, segment.location, &error));
                }
            }
        }
        Ok(true)
    }

    /// Writes `buffers`, one after another, at `offset` of the torrent. Adds the files to
    /// `touched`.
    pub(super) fn write_torrent(
        &self,
        piece: PieceIndex,
        offset: u64,
        buffers: &[&[u8]],
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let mut rest = Unwritten::new(buffers);
        let length = rest.length();
        for segment in self.layout.segments(offset, length) {
            if segment.location == Location::Zeros {
                if !rest.take_zeros(segment.length) {
                    return Err(StoreError::Padding { piece: piece.get() });
                }
                continue;
            }
            let slot = self.layout.slot_at(segment.location);
            let lock = self.shared.files.write_lock((self.number, slot));
            let file = self.writable(segment.location)?;
            let written = self.write_segment(&file, &segment, &mut rest);
            drop(lock);
            touched.push(slot, self.shared.files.hold_unsynced(file));
            written?;
        }
        Ok(())
    }

    pub(super) fn write_segment(
        &self,
        file: &D::File,
        segment: &Segment,
        rest: &mut Unwritten<'_>,
    ) -> Result<(), StoreError> {
        self.check_length(segment.location, file)?;
        let failed = |error| self.location_error(Operation::Write, segment.location, &error);
        let mut done = 0;
        while done < segment.length {
            let slices = rest.peek(segment.length - done);
            match self.disk().write_at(file, &slices, segment.offset + done) {
                Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    rest.advance(count);
                    done += count as u64;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.note_length(segment);
        Ok(())
    }

    /// Returns the open file at a location, to be read; `None` if it is missing.
    pub(super) fn readable(&self, location: Location) -> Result<Option<Arc<D::File>>, StoreError> {
        match location {
            Location::Zeros => self.zeros().map(Some),
            Location::Parts => self.parts_file(false),
            Location::File(slot) => match &self.single {
                Some(single) => Ok(Some(Arc::clone(&single.file))),
                None => self.slot_file(slot),
            },
        }
    }

    fn slot_file(&self, slot: u32) -> Result<Option<Arc<D::File>>, StoreError> {
        let key = (self.number, slot);
        if let Some(file) = self.shared.files.get(key, false) {
            return Ok(Some(file));
        }
        match self.open_slot(slot, Access::Read) {
            Ok(file) => {
                let file = Arc::new(file);
                self.shared.files.insert(key, Arc::clone(&file), false);
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.slot_error(Operation::Open, slot, &error)),
        }
    }

    /// Returns the open file at a location, to be written. Creates it if it is missing.
    pub(super) fn writable(&self, location: Location) -> Result<Arc<D::File>, StoreError> {
        match location {
            Location::Zeros => self.zeros(),
            Location::Parts => {
                let made = self.parts_file(true)?;
                made.ok_or_else(|| {
                    self.location_error(
                        Operation::Create,
                        location,
                        &io::ErrorKind::NotFound.into(),
                    )
                })
            }
            Location::File(slot) => match &self.single {
                Some(single) => Ok(Arc::clone(&single.file)),
                None => self.writable_slot(slot),
            },
        }
    }

    fn writable_slot(&self, slot: u32) -> Result<Arc<D::File>, StoreError> {
        if let Some(file) = self.shared.files.get((self.number, slot), true) {
            return Ok(file);
        }
        let known = self.ledger().file(slot);
        match known {
            None => self.create(slot),
            Some(file) if file.hold == Hold::Ours => self.reopen(slot, file.id),
            // It was complete, and a piece of it was lost since then.
            Some(_) => {
                let given_up = self.adopt_files(&[slot])?;
                // An unselected file that is not ours now stays untouched.
                match given_up.is_empty() || self.layout.slot(slot).selected {
                    true => self.writable_slot(slot),
                    false => Err(self.in_use(slot)?),
                }
            }
        }
    }

    /// Creates the file of a slot. If the file system folds names and another entry has this one,
    /// the slot gets a numbered path.
    fn create(&self, slot: u32) -> Result<Arc<D::File>, StoreError> {
        let created = match self.open_slot(slot, Access::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.rename_folded(slot)?;
                self.open_slot(slot, Access::CreateNew)
            }
            created => created,
        };
        let file = created.map_err(|error| self.slot_error(Operation::Create, slot, &error))?;
        match self.lock_slot(slot, &file)? {
            Lock::Unsupported => {
                // Another torrent may have adopted it before we recorded that it is ours.
                let file = self.use_file(slot, file, Hold::Adopting)?;
                if self.take(&[slot])?.is_empty() { Ok(file) } else { self.create(slot) }
            }
            Lock::Taken | Lock::Busy => self.use_file(slot, file, Hold::Ours),
        }
    }

    /// Opens a file that is ours, if it is still the same. Creates it again if it is gone.
    fn reopen(&self, slot: u32, known: FileId) -> Result<Arc<D::File>, StoreError> {
        let file = match self.open_slot(slot, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.create(slot),
            opened => opened.map_err(|error| self.slot_error(Operation::Open, slot, &error))?,
        };
        let stat = self.disk().file_stat(&file);
        let stat = stat.map_err(|error| self.slot_error(Operation::Stat, slot, &error))?;
        let known = self.present_id(Some(known), Some(stat));
        let same = changed::check_identity(known, &stat);
        same.map_err(|error| self.slot_error(Operation::Open, slot, &error))?;
        self.lock_slot(slot, &file)?;
        self.use_file(slot, file, Hold::Ours)
    }

    /// Locks a file that is to be written, where the file system has locks.
    pub(super) fn lock_slot(&self, slot: u32, file: &D::File) -> Result<Lock, StoreError> {
        let lock = self.disk().try_lock(file);
        match lock.map_err(|error| self.slot_error(Operation::Lock, slot, &error))? {
            Lock::Busy => Err(self.in_use(slot)?),
            lock => Ok(lock),
        }
    }

    /// Records a file that is to be written, and keeps it open.
    pub(super) fn use_file(
        &self,
        slot: u32,
        file: D::File,
        hold: Hold,
    ) -> Result<Arc<D::File>, StoreError> {
        let stat = self.disk().file_stat(&file);
        let stat = stat.map_err(|error| self.slot_error(Operation::Stat, slot, &error))?;
        let mut ledger = self.ledger();
        ledger.start_journal()?;
        // The name of an existing file may be new too: a launch that was killed may have made it.
        ledger.add_name(self.layout.path(slot));
        ledger.record_file(TorrentFile { slot, hold, id: stat.id })?;
        drop(ledger);
        let file = Arc::new(file);
        self.shared.files.insert((self.number, slot), Arc::clone(&file), true);
        Ok(file)
    }

    /// Returns the error for a file that is locked by another store.
    fn in_use(&self, slot: u32) -> Result<StoreError, StoreError> {
        let path = self.layout.full_path(slot);
        let by = match self.stat_path(self.layout.path(slot))? {
            Some(stat) => self.claim_on(slot, stat.id)?,
            None => None,
        };
        let by = by.map_or_else(|| "another download".to_owned(), |claim| claim.to_string());
        Ok(StoreError::Claimed { path, by, in_use: true })
    }

    /// Gives a slot a numbered path if another entry's file has its name.
    fn rename_folded(&self, slot: u32) -> Result<(), StoreError> {
        let entry = self.layout.slot(slot);
        let Some(stat) = self.stat_path(entry.path())? else { return Ok(()) };
        let path = self.layout.full_path(slot);
        match self.claim_on(slot, stat.id)? {
            Some(Claim::Entry) => self.give_number(entry),
            Some(claim) => Err(claim.refusal(path)),
            // Another download locks a file just after it has created it, while it is empty.
            None if stat.length == 0 || self.is_locked(slot) => {
                let by = "another download".to_owned();
                Err(StoreError::Claimed { path, by, in_use: true })
            }
            None => {
                let error = changed::put_there();
                Err(self.slot_error(Operation::Create, slot, &error))
            }
        }
    }

    /// Whether another store writes to the file that has the name of a slot.
    fn is_locked(&self, slot: u32) -> bool {
        let file = self.open_slot(slot, Access::Write);
        file.and_then(|file| self.disk().try_lock(&file)).is_ok_and(|lock| lock == Lock::Busy)
    }

    /// Gives a slot the first numbered path that is free.
    pub(super) fn give_number(&self, slot: &Slot) -> Result<(), StoreError> {
        for path in (2..).map(|number| slot.numbered_path(number, self.layout.naming)) {
            if self.stat_path(&path)?.is_none() {
                slot.rename(&path);
                break;
            }
        }
        Ok(())
    }
}

/// Buffers that remain to be written, the first of them from `skip` on.
pub(super) struct Unwritten<'a> {
    buffers: &'a [&'a [u8]],
    skip: usize,
}

impl<'a> Unwritten<'a> {
    pub(super) fn new(buffers: &'a [&'a [u8]]) -> Self {
        Self { buffers, skip: 0 }
    }

    fn length(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.len() as u64).sum()
    }

    /// Returns the next bytes, at most `length`, in at most [`MAX_BUFFERS`] buffers.
    fn peek(&self, length: u64) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.buffers.len().min(MAX_BUFFERS));
        let (mut left, mut skip) = (usize::try_from(length).unwrap_or(usize::MAX), self.skip);
        for buffer in self.buffers.iter().take(MAX_BUFFERS) {
            let bytes = &buffer[skip..];
            let bytes = &bytes[..left.min(bytes.len())];
            skip = 0;
            slices.push(IoSlice::new(bytes));
            left -= bytes.len();
            if left == 0 {
                break;
            }
        }
        slices
    }

    /// Skips `count` bytes.
    fn advance(&mut self, count: usize) {
        self.skip += count;
        while let Some((first, rest)) = self.buffers.split_first()
            && first.len() <= self.skip
        {
            self.skip -= first.len();
            self.buffers = rest;
        }
    }

    /// Skips `length` bytes. Returns whether all of them are zero.
    fn take_zeros(&mut self, mut length: u64) -> bool {
        while length > 0 {
            let slices = self.peek(length);
            let count: usize = slices.iter().map(|slice| slice.len()).sum();
            if count == 0 || !slices.iter().all(|slice| is_zero(slice)) {
                return false;
            }
            self.advance(count);
            length -= count as u64;
        }
        true
    }
}

/// Whether all bytes are zero, compared one page at a time.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const PAGE: [u8; 4096] = [0; 4096];
    bytes.chunks(PAGE.len()).all(|chunk| *chunk == PAGE[..chunk.len()])
}

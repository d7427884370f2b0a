//! Reading and writing ranges of the torrent, whichever files they are in.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::PieceIndex;

use super::claims::Claim;
use super::layout::{Place, PlacedRange, Slot};
use super::ledger::Touched;
use super::owner::Hold;
use super::resume::TorrentFile;
use super::{Store, changed};
use crate::{Access, Disk, FileId, Lock, Operation, Stat, StoreError};

/// The most buffers given to one write: systems take 1024 at most.
const MAX_PARTS: usize = 512;

impl<D: Disk> Store<D> {
    /// Reads the bytes at `offset` of the torrent; `false` if a file is missing or too short.
    pub(super) fn read_torrent(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        let mut rest = buffer;
        for range in self.layout.ranges(offset, rest.len() as u64) {
            let (part, after) = rest.split_at_mut(range.length as usize);
            rest = after;
            if !self.read_range(&range, part)? {
                return Ok(false);
            }
        }
        Ok(rest.is_empty())
    }

    fn read_range(&self, range: &PlacedRange, buffer: &mut [u8]) -> Result<bool, StoreError> {
        if range.place == Place::Zeros {
            buffer.fill(0);
            return Ok(true);
        }
        let Some(file) = self.readable(range.place)? else { return Ok(false) };
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.disk.read_at(&file, rest, range.offset + done as u64) {
                Ok(0) => return Ok(false),
                Ok(count) => done += count,
                Err(error) => return Err(self.place_error(Operation::Read, range.place, &error)),
            }
        }
        Ok(true)
    }

    /// Writes `parts`, one after another, at `offset` of the torrent. Notes the files in `touched`.
    pub(super) fn write_torrent(
        &self,
        piece: PieceIndex,
        offset: u64,
        parts: &[&[u8]],
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let mut parts = Parts { parts, skip: 0 };
        let length = parts.length();
        for range in self.layout.ranges(offset, length) {
            if range.place == Place::Zeros {
                if !parts.take_zeros(range.length) {
                    return Err(StoreError::Padding { piece: piece.get() });
                }
                continue;
            }
            let slot = self.slot_number(range.place);
            let turn = self.handles.write_turn((self.number, slot as usize));
            let file = self.writable(range.place)?;
            let written = self.write_range(&file, &range, &mut parts);
            drop(turn);
            touched.push(slot, self.handles.keep(file));
            written?;
        }
        Ok(())
    }

    fn write_range(
        &self,
        file: &D::File,
        range: &PlacedRange,
        parts: &mut Parts<'_>,
    ) -> Result<(), StoreError> {
        self.check_length(range.place, file)?;
        let failed = |error| self.place_error(Operation::Write, range.place, &error);
        let mut done = 0;
        while done < range.length {
            let slices = parts.peek(range.length - done);
            match self.disk.write_at(file, &slices, range.offset + done) {
                Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    parts.advance(count);
                    done += count as u64;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.note_length(range);
        Ok(())
    }

    /// The open file of a place, to be read; `None` if it is not there.
    pub(super) fn readable(&self, place: Place) -> Result<Option<Arc<D::File>>, StoreError> {
        match place {
            Place::Zeros => self.zeros().map(Some),
            Place::Parts => self.parts_file(false),
            Place::File(slot) => match &self.single {
                Some(single) => Ok(Some(Arc::clone(&single.file))),
                None => self.slot_file(slot),
            },
        }
    }

    fn slot_file(&self, slot: usize) -> Result<Option<Arc<D::File>>, StoreError> {
        let key = (self.number, slot);
        if let Some(file) = self.handles.get(key, false) {
            return Ok(Some(file));
        }
        match self.open_slot(slot as u32, Access::Read) {
            Ok(file) => {
                let file = Arc::new(file);
                self.handles.insert(key, Arc::clone(&file), false);
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.place_error(Operation::Open, Place::File(slot), &error)),
        }
    }

    /// The open file of a place, to be written; made if it is not there.
    pub(super) fn writable(&self, place: Place) -> Result<Arc<D::File>, StoreError> {
        match place {
            Place::Zeros => self.zeros(),
            Place::Parts => {
                let made = self.parts_file(true)?;
                made.ok_or_else(|| {
                    self.place_error(Operation::Create, place, &io::ErrorKind::NotFound.into())
                })
            }
            Place::File(slot) => match &self.single {
                Some(single) => Ok(Arc::clone(&single.file)),
                None => self.writable_slot(slot),
            },
        }
    }

    fn writable_slot(&self, slot: usize) -> Result<Arc<D::File>, StoreError> {
        if let Some(file) = self.handles.get((self.number, slot), true) {
            return Ok(file);
        }
        let known = self.ledger().file(slot as u32);
        match known {
            None => self.create(slot as u32),
            Some(file) if file.hold == Hold::Ours => self.reopen(slot as u32, file.id),
            // It was complete, and a piece of it was lost since.
            Some(_) => {
                let given_up = self.adopt_files(&[slot as u32])?;
                // An unselected file that is not ours now stays as it is.
                match given_up.is_empty() || self.is_selected(slot as u32) {
                    true => self.writable_slot(slot),
                    false => Err(self.in_use(slot as u32)?),
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
                // Others may have adopted it before we recorded that it is ours.
                let file = self.use_file(slot, file, Hold::Adopting)?;
                if self.take(&[slot])?.is_empty() { Ok(file) } else { self.create(slot) }
            }
            _ => self.use_file(slot, file, Hold::Ours),
        }
    }

    /// Opens a file that is ours, and is still the same; creates it again if it is gone.
    fn reopen(&self, slot: u32, known: FileId) -> Result<Arc<D::File>, StoreError> {
        let file = match self.open_slot(slot, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.create(slot),
            opened => opened.map_err(|error| self.slot_error(Operation::Open, slot, &error))?,
        };
        let stat = self.disk.file_stat(&file);
        let stat = stat.map_err(|error| self.slot_error(Operation::Stat, slot, &error))?;
        let known = self.as_numbered(Some(known), Some(stat));
        let same = changed::check_identity(known, &stat);
        same.map_err(|error| self.slot_error(Operation::Open, slot, &error))?;
        self.lock_slot(slot, &file)?;
        self.use_file(slot, file, Hold::Ours)
    }

    /// Locks a file that is to be written, where the file system has locks.
    pub(super) fn lock_slot(&self, slot: u32, file: &D::File) -> Result<Lock, StoreError> {
        let lock = self.disk.try_lock(file);
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
        let stat = self.disk.file_stat(&file);
        let stat = stat.map_err(|error| self.slot_error(Operation::Stat, slot, &error))?;
        let mut ledger = self.ledger();
        ledger.begin_journal()?;
        // Also of a file that was there: a run before may have made it and been killed.
        ledger.dirty.name(self.layout.path(slot));
        ledger.record_file(TorrentFile { slot, hold, id: stat.id })?;
        drop(ledger);
        let file = Arc::new(file);
        self.handles.insert((self.number, slot as usize), Arc::clone(&file), true);
        Ok(file)
    }

    /// Returns the error for a file that is locked by another store.
    fn in_use(&self, slot: u32) -> Result<StoreError, StoreError> {
        let path = self.full_path(slot);
        let by = match self.stat_path(self.layout.path(slot))? {
            Some(stat) => self.claim_on(slot, stat.id)?,
            None => None,
        };
        let by = by.map_or_else(|| "another download".to_owned(), |claim| claim.to_string());
        Ok(StoreError::Claimed { path, by, in_use: true })
    }

    /// Gives a slot a numbered path if another entry's file has its name.
    fn rename_folded(&self, slot: u32) -> Result<(), StoreError> {
        let Some(entry) = self.layout.slots.get(slot as usize) else { return Ok(()) };
        let Some(stat) = self.stat_path(entry.path())? else { return Ok(()) };
        let path = self.full_path(slot);
        match self.claim_on(slot, stat.id)? {
            Some(Claim::Entry) => self.give_number(entry),
            Some(claim) => Err(claim.refusal(path)),
            None if self.is_locked(slot) => {
                let by = "another download".to_owned();
                Err(StoreError::Claimed { path, by, in_use: true })
            }
            None => {
                let error = changed::put_there();
                Err(self.slot_error(Operation::Create, slot, &error))
            }
        }
    }

    /// Whether somebody else writes to the file that has the name of a slot.
    fn is_locked(&self, slot: u32) -> bool {
        let file = self.open_slot(slot, Access::Write);
        file.and_then(|file| self.disk.try_lock(&file)).is_ok_and(|lock| lock == Lock::Busy)
    }

    /// Gives a slot the first numbered path that nothing has.
    pub(super) fn give_number(&self, slot: &Slot) -> Result<(), StoreError> {
        for path in (2..).map(|number| slot.numbered_path(number, self.layout.naming)) {
            if self.stat_path(&path)?.is_none() {
                slot.rename(&path);
                break;
            }
        }
        Ok(())
    }

    pub(super) fn open_slot(&self, slot: u32, access: Access) -> io::Result<D::File> {
        self.make_room(|| self.disk.open(&self.folder, self.layout.path(slot), access))
    }

    pub(super) fn slot_error(
        &self,
        operation: Operation,
        slot: u32,
        error: &io::Error,
    ) -> StoreError {
        self.error(operation, self.layout.path(slot), error)
    }

    /// The path of a slot, for people.
    pub(super) fn full_path(&self, slot: u32) -> PathBuf {
        self.layout.folder_path.join(self.layout.path(slot))
    }

    /// Copies a range of a file from the parts file, as far as that has it.
    pub(super) fn copy_from_parts(
        &self,
        range: &PlacedRange,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let Place::File(index) = range.place else { return Ok(()) };
        let (Some(parts), Some(slot)) = (self.parts_file(false)?, self.layout.slots.get(index))
        else {
            return Ok(());
        };
        let file = self.writable(range.place)?;
        let mut touched = Touched::new();
        touched.push(index as u32, self.handles.keep(Arc::clone(&file)));
        let mut done = 0;
        while done < range.length {
            let length = (range.length - done).min(buffer.len() as u64) as usize;
            let strip = &mut buffer[..length];
            let read = self.disk.read_at(&parts, strip, slot.offset + range.offset + done);
            let read =
                read.map_err(|error| self.place_error(Operation::Read, Place::Parts, &error))?;
            if read == 0 {
                break;
            }
            let part = PlacedRange { offset: range.offset + done, length: read as u64, ..*range };
            self.write_range(&file, &part, &mut Parts { parts: &[&strip[..read]], skip: 0 })?;
            done += read as u64;
        }
        self.ledger().written(&[], touched)
    }

    /// Opens by `open`. While the process has too many files open, closes half of them and tries
    /// again. Files that wait for a sync are closed too; the whole file system is synced
    /// instead of them.
    pub(super) fn make_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if self.disk.is_out_of_handles(&error) => {
                self.ledger().dirty.touched.let_go(self.layout.parts_slot());
                self.handles.make_room(&*self.disk, open)
            }
            opened => opened,
        }
    }

    /// What `path` below the download folder names.
    pub(super) fn stat_path(&self, path: &Path) -> Result<Option<Stat>, StoreError> {
        let stat = self.make_room(|| self.disk.stat(&self.folder, path));
        stat.map_err(|error| self.error(Operation::Stat, path, &error))
    }

    /// Under which number a place stands in the journal.
    pub(super) fn slot_number(&self, place: Place) -> u32 {
        match place {
            Place::File(slot) => slot as u32,
            Place::Parts | Place::Zeros => self.layout.parts_slot(),
        }
    }

    /// The path of a place, for people.
    pub(super) fn place_path(&self, place: Place) -> PathBuf {
        match place {
            Place::File(slot) => self.full_path(slot as u32),
            Place::Parts | Place::Zeros => self.parts.path(&self.layout.folder_path),
        }
    }

    pub(super) fn place_error(
        &self,
        operation: Operation,
        place: Place,
        error: &io::Error,
    ) -> StoreError {
        StoreError::disk(operation, &self.place_path(place), error)
    }
}

/// Buffers that are written one after another, the first from `skip` on.
struct Parts<'a> {
    parts: &'a [&'a [u8]],
    skip: usize,
}

impl<'a> Parts<'a> {
    fn length(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// The next at most `length` bytes, in at most [`MAX_PARTS`] buffers.
    fn peek(&self, length: u64) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.parts.len().min(MAX_PARTS));
        let (mut left, mut skip) = (usize::try_from(length).unwrap_or(usize::MAX), self.skip);
        for part in self.parts.iter().take(MAX_PARTS) {
            let part = part.get(skip..).unwrap_or_default();
            skip = 0;
            slices.push(IoSlice::new(part.get(..left).unwrap_or(part)));
            left = left.saturating_sub(part.len());
            if left == 0 {
                break;
            }
        }
        slices
    }

    /// Passes over `count` bytes.
    fn advance(&mut self, count: usize) {
        self.skip += count;
        while let Some(first) = self.parts.first().filter(|first| first.len() <= self.skip) {
            self.skip -= first.len();
            self.parts = self.parts.get(1..).unwrap_or_default();
        }
    }

    /// Passes over `length` bytes; says whether all were zero.
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

/// Whether there is nothing but zeros, compared a page at a time.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const PAGE: [u8; 4096] = [0; 4096];
    bytes.chunks(PAGE.len()).all(|chunk| PAGE.get(..chunk.len()) == Some(chunk))
}

//! A disk in memory. It forgets unsynced changes when its power is cut, fails as its [`Faults`]
//! say, and can die in the middle of an operation.
//!
//! Every file has two contents: the one that the system shows, and the durable one. Between them
//! are the changes that were not synced. A power cut keeps any subset of them, in any order, some
//! of them torn at a sector. Creating, renaming and removing a file are such changes too. A sync
//! that fails drops the changes without making them durable, as Linux does: no later sync brings
//! them back.

mod state;

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use piece_store::{Access, Disk, Kind, Lock, Stat};

use crate::rng::Rng;
use state::Operation;
pub(crate) use state::{Faults, State};

/// The smallest hole, in bytes.
const PAGE: u64 = 4096;

/// The disk of one machine.
#[derive(Debug)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    interruption: Mutex<Option<Interruption>>,
}

/// Work that another process does between two calls of the store.
struct Interruption {
    /// How many calls of the store come before it.
    after: u64,
    work: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} calls", self.after)
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    /// Identifies the open file: locks belong to it.
    number: u64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.state).unlock(self.inode, self.number);
    }
}

impl SimFile {
    /// Returns bytes as a sender reads them: without a fault.
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let state = lock(&self.state);
        let bytes = state.shown(self.inode);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        rest[..rest.len().min(length)].to_vec()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDisk {
    /// An empty disk with the folders `/data`, `/state` and `/state2`.
    pub(crate) fn new(rng: Rng) -> Self {
        let state = Arc::new(Mutex::new(State::new(rng)));
        Self { state, interruption: Mutex::default() }
    }

    /// Does `work` after `after` calls of the store.
    pub(crate) fn interrupt(&self, after: u64, work: Box<dyn FnOnce() + Send>) {
        *self.interruption() = Some(Interruption { after, work });
    }

    /// Does the work of [`interrupt`](Self::interrupt) now, unless it was done.
    pub(crate) fn end_interruption(&self) {
        let work = self.interruption().take();
        work.into_iter().for_each(|interruption| (interruption.work)());
    }

    fn interruption(&self) -> MutexGuard<'_, Option<Interruption>> {
        self.interruption.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a call of the store.
    fn start_call(&self) -> MutexGuard<'_, State> {
        let mut interruption = self.interruption();
        let is_due = interruption.as_mut().is_some_and(|next| {
            next.after = next.after.saturating_sub(1);
            next.after == 0
        });
        let due = if is_due { interruption.take() } else { None };
        drop(interruption);
        due.into_iter().for_each(|due| (due.work)());
        self.state()
    }

    /// Returns the state, which nobody else uses meanwhile.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn handle(&self, state: &mut State, inode: u64) -> SimFile {
        let number = state.next_handle();
        SimFile { state: Arc::clone(&self.state), inode, number }
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Folder = PathBuf;

    fn folder(&self, path: &Path, _create: bool) -> io::Result<(PathBuf, PathBuf)> {
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        match state.is_folder(path) {
            true => Ok((path.to_owned(), path.to_owned())),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, folder: &PathBuf, path: &Path, access: Access) -> io::Result<SimFile> {
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        let path = folder.join(path);
        let inode = match state.leads(&path) {
            Some(_) if access == Access::CreateNew => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Some(leads) if leads.linked && access != Access::Read => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Some(leads) => leads.inode.ok_or(io::ErrorKind::NotFound)?,
            None if state.is_folder(&path) => return Err(io::ErrorKind::IsADirectory.into()),
            None if !matches!(access, Access::Read | Access::Write) => state.create(&path)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(self.handle(&mut state, inode))
    }

    fn temporary(&self, _: &PathBuf) -> io::Result<SimFile> {
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        let inode = state.new_inode();
        Ok(self.handle(&mut state, inode))
    }

    fn zeros(&self, length: u64) -> io::Result<SimFile> {
        let mut state = self.start_call();
        let inode = state.new_inode();
        state.set_length(inode, length);
        Ok(self.handle(&mut state, inode))
    }

    fn stat(&self, folder: &PathBuf, path: &Path) -> io::Result<Option<Stat>> {
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        let path = folder.join(path);
        if state.is_folder(&path) {
            return Ok(Some(Stat { kind: Kind::Folder, ..state.stat(0) }));
        }
        Ok(state.stat_at(&path))
    }

    fn file_stat(&self, file: &SimFile) -> io::Result<Stat> {
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        Ok(state.stat(file.inode))
    }

    fn list(&self, folder: &PathBuf) -> io::Result<Vec<PathBuf>> {
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        Ok(state.names_in(folder))
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.start_call();
        state.begin(Operation::Read)?;
        let most = state.part_of(buffer.len());
        let rest = state.shown(file.inode).get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(most);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, file: &SimFile, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.start_call();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        state.write(file.inode, offset, bytes)
    }

    fn append(&self, file: &SimFile, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.start_call();
        let offset = state.shown(file.inode).len() as u64;
        // A system cuts an append short only if its disk is full.
        state.write_whole(file.inode, offset, bytes.to_vec())
    }

    fn set_length(&self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut state = self.start_call();
        state.begin(Operation::Write)?;
        state.set_length(file.inode, length);
        Ok(())
    }

    fn sync_file(&self, file: &SimFile) -> io::Result<()> {
        self.start_call().sync_file(file.inode)
    }

    fn sync_folder(&self, folder: &PathBuf, path: &Path) -> io::Result<()> {
        self.start_call().sync_folder(&folder.join(path))
    }

    fn sync_file_system(&self, folder: &PathBuf) -> io::Result<()> {
        // Each folder of the root is a file system of its own.
        self.start_call().sync_below(folder)
    }

    fn rename(&self, folder: &PathBuf, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.start_call();
        state.begin(Operation::Write)?;
        state.rename(&folder.join(from), &folder.join(to))
    }

    fn remove(&self, folder: &PathBuf, path: &Path) -> io::Result<()> {
        let mut state = self.start_call();
        state.begin(Operation::Write)?;
        state.remove(&folder.join(path))
    }

    fn try_lock(&self, file: &SimFile) -> io::Result<Lock> {
        Ok(self.start_call().lock(file.inode, file.number))
    }

    fn lock_range(&self, file: &SimFile, range: &Range<u64>) -> io::Result<bool> {
        Ok(self.start_call().lock_range(file.inode, file.number, range))
    }

    fn range_holder(&self, file: &SimFile, range: &Range<u64>) -> io::Result<Option<Range<u64>>> {
        Ok(self.start_call().range_holder(file.inode, file.number, range))
    }

    fn unlock_range(&self, file: &SimFile, range: &Range<u64>) -> io::Result<()> {
        self.start_call().unlock_range(file.inode, file.number, range);
        Ok(())
    }

    fn next_data(&self, file: &SimFile, offset: u64) -> io::Result<Option<u64>> {
        // Pages of zeros are holes.
        let mut state = self.start_call();
        state.begin(Operation::Open)?;
        let rest = state.shown(file.inode).get(offset as usize..).unwrap_or_default();
        let data = rest.iter().position(|byte| *byte != 0);
        Ok(data.map(|data| offset.max((offset + data as u64) / PAGE * PAGE)))
    }

    fn allocate(&self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut state = self.start_call();
        state.begin(Operation::Write)?;
        let length = length.max(state.shown(file.inode).len() as u64);
        state.set_length(file.inode, length);
        Ok(())
    }

    fn file_system(&self, _: &PathBuf) -> io::Result<(u64, Option<u64>)> {
        Ok((1, None))
    }

    fn boot(&self) -> u128 {
        self.start_call().boots.into()
    }

    fn process_id(&self) -> u32 {
        4711
    }
}

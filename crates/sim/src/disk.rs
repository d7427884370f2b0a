//! A disk in memory that loses unsynced changes in a power cut, fails on demand, and can die in the
//! middle of an operation.
//!
//! Every file has two contents: the one that the system shows, and the one on the platter. They
//! differ by the unsynced changes. A power cut keeps any subset of these, in any order, some of
//! them torn at a sector. Names of files and folders are such changes too. A failed sync drops the
//! changes without making them durable, as on Linux: no later sync brings them back.

mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use piece_store::{Access, Disk, Kind, Lock, Stat};

use crate::rng::Rng;
pub(crate) use state::Faults;
use state::{Operation, State};

const EMFILE: i32 = 24;
/// The shortest hole, in bytes.
const PAGE: u64 = 4096;

/// The disk of one machine.
#[derive(Debug)]
pub(crate) struct SimDisk {
    state: Arc<Mutex<State>>,
    interruption: Mutex<Option<Interruption>>,
}

/// Work of another process in the middle of a job.
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
    /// The number of the open file, which holds locks.
    number: u64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.state).unlock(self.inode, self.number);
    }
}

impl SimFile {
    /// Reads for a sender. Never waits or fails.
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

    /// Does `work` after this many calls of the store, between two of them.
    pub(crate) fn interrupt(&self, after: u64, work: Box<dyn FnOnce() + Send>) {
        *self.interruption() = Some(Interruption { after, work });
    }

    /// Does that work now, if it is not done yet.
    pub(crate) fn end_interruption(&self) {
        let work = self.interruption().take();
        work.into_iter().for_each(|interruption| (interruption.work)());
    }

    fn interruption(&self) -> MutexGuard<'_, Option<Interruption>> {
        self.interruption.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of the store begins.
    fn turn(&self) -> MutexGuard<'_, State> {
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

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Creates a file as if it had always been there.
    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.state().put(path, bytes);
    }

    /// Creates a symbolic link as if it had always been there.
    pub(crate) fn put_link(&self, path: &Path, target: &Path) {
        self.state().put_link(path, target);
    }

    /// From now on, names that differ only in case are one.
    pub(crate) fn fold_names(&self) {
        self.state().folds = true;
    }

    /// From now on, every lock of a file is granted, as on file systems without locks.
    pub(crate) fn give_all_locks(&self) {
        self.state().lockless = true;
    }

    /// Another program appends to a file, and syncs it.
    pub(crate) fn grow(&self, path: &Path, bytes: &[u8]) {
        self.state().grow(path, bytes);
    }

    /// The path that a file created under `path` gets.
    pub(crate) fn kept_as(&self, path: &Path) -> PathBuf {
        self.state().key(path)
    }

    /// Another program changes a byte of a file, and syncs it.
    pub(crate) fn change_byte(&self, path: &Path, at: u64) {
        self.state().change_byte(path, at);
    }

    /// Another program removes a file, and syncs that.
    pub(crate) fn lose(&self, path: &Path) {
        self.state().lose(path);
    }

    /// The metadata of every file, to check later whether it was written to.
    pub(crate) fn stamps(&self) -> BTreeMap<PathBuf, Stat> {
        self.state().stamps()
    }

    /// Sets the failures from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The number of operations that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.state().failures
    }

    /// The number of operations.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The disk dies during the `count`-th write or sync from now, counted from 1.
    pub(crate) fn die_after(&self, count: u64) {
        self.state().dies_in = Some(count);
    }

    /// Ends all failures.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.faults, state.dies_in) = (Faults::default(), None);
    }

    /// Whether it died. Nothing done since then counts.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Ends the process that used it. The system keeps running.
    pub(crate) fn kill(&self) {
        self.state().revive();
    }

    /// Cuts the power and restores it.
    pub(crate) fn cut_power(&self) {
        self.state().cut_power();
    }

    /// Whether the file has these bytes at `offset`.
    pub(crate) fn shows(&self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        let state = self.state();
        state.file_at(path).is_some_and(|inode| has(state.shown(inode), offset, bytes))
    }

    /// Whether the file would have the bytes after a power cut that no unsynced change survives.
    pub(crate) fn keeps(&self, path: &Path, offset: u64, bytes: &[u8]) -> bool {
        let state = self.state();
        state.durable_file_at(path).is_some_and(|inode| has(state.durable(inode), offset, bytes))
    }

    /// Whether the file has exactly these bytes, and would have them after a power cut. An empty
    /// file may be missing then.
    pub(crate) fn keeps_whole(&self, path: &Path, bytes: &[u8]) -> bool {
        let state = self.state();
        let shown = state.file_at(path).is_some_and(|inode| state.shown(inode) == bytes);
        let is_empty = bytes.is_empty();
        let kept =
            || state.durable_file_at(path).is_some_and(|inode| state.durable(inode) == bytes);
        shown && (is_empty || kept())
    }

    /// The contents of the file.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.file_at(path).map(|inode| state.shown(inode).to_vec()).unwrap_or_default()
    }

    /// The length of the file, if there is one.
    pub(crate) fn length(&self, path: &Path) -> Option<u64> {
        let state = self.state();
        state.file_at(path).map(|inode| state.shown(inode).len() as u64)
    }

    fn handle(&self, state: &mut State, inode: u64) -> SimFile {
        let number = state.next_handle();
        SimFile { state: Arc::clone(&self.state), inode, number }
    }
}

fn has(content: &[u8], offset: u64, bytes: &[u8]) -> bool {
    content.get(offset as usize..).is_some_and(|rest| rest.starts_with(bytes))
}

impl Disk for SimDisk {
    type File = SimFile;
    type Folder = PathBuf;

    fn folder(&self, path: &Path, _create: bool) -> io::Result<(PathBuf, PathBuf)> {
        let mut state = self.turn();
        state.begin(Operation::Open)?;
        match state.is_folder(path) {
            true => Ok((path.to_owned(), path.to_owned())),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, folder: &PathBuf, path: &Path, access: Access) -> io::Result<SimFile> {
        let mut state = self.turn();
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
        let mut state = self.turn();
        state.begin(Operation::Open)?;
        let inode = state.new_inode();
        Ok(self.handle(&mut state, inode))
    }

    fn zeros(&self, length: u64) -> io::Result<SimFile> {
        let mut state = self.turn();
        let inode = state.new_inode();
        state.set_length(inode, length);
        Ok(self.handle(&mut state, inode))
    }

    fn stat(&self, folder: &PathBuf, path: &Path) -> io::Result<Option<Stat>> {
        let mut state = self.turn();
        state.begin(Operation::Open)?;
        let path = folder.join(path);
        if state.is_folder(&path) {
            return Ok(Some(Stat { kind: Kind::Folder, ..state.stat(0) }));
        }
        Ok(state.stat_at(&path))
    }

    fn file_stat(&self, file: &SimFile) -> io::Result<Stat> {
        let mut state = self.turn();
        state.begin(Operation::Open)?;
        Ok(state.stat(file.inode))
    }

    fn list(&self, folder: &PathBuf) -> io::Result<Vec<PathBuf>> {
        let mut state = self.turn();
        state.begin(Operation::Open)?;
        Ok(state.names_in(folder))
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.turn();
        state.begin(Operation::Read)?;
        let most = state.part_of(buffer.len());
        let rest = state.shown(file.inode).get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(most);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, file: &SimFile, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.turn();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        state.write(file.inode, offset, bytes)
    }

    fn append(&self, file: &SimFile, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.turn();
        let offset = state.shown(file.inode).len() as u64;
        // Systems cut an append short only if the disk is full.
        state.write_whole(file.inode, offset, bytes.to_vec())
    }

    fn set_length(&self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut state = self.turn();
        state.begin(Operation::Write)?;
        state.set_length(file.inode, length);
        Ok(())
    }

    fn sync_file(&self, file: &SimFile) -> io::Result<()> {
        self.turn().sync_file(file.inode)
    }

    fn sync_folder(&self, folder: &PathBuf, path: &Path) -> io::Result<()> {
        self.turn().sync_folder(&folder.join(path))
    }

    fn sync_file_system(&self, folder: &PathBuf) -> io::Result<()> {
        // Each folder of the root is a file system of its own.
        self.turn().sync_below(folder)
    }

    fn rename(&self, folder: &PathBuf, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.turn();
        state.begin(Operation::Write)?;
        state.rename(&folder.join(from), &folder.join(to))
    }

    fn remove(&self, folder: &PathBuf, path: &Path) -> io::Result<()> {
        let mut state = self.turn();
        state.begin(Operation::Write)?;
        state.remove(&folder.join(path))
    }

    fn try_lock(&self, file: &SimFile) -> io::Result<Lock> {
        Ok(self.turn().lock(file.inode, file.number))
    }

    fn lock_range(&self, file: &SimFile, range: &Range<u64>) -> io::Result<bool> {
        Ok(self.turn().lock_range(file.inode, file.number, range))
    }

    fn range_holder(&self, file: &SimFile, range: &Range<u64>) -> io::Result<Option<Range<u64>>> {
        Ok(self.turn().range_holder(file.inode, file.number, range))
    }

    fn unlock_range(&self, file: &SimFile, range: &Range<u64>) -> io::Result<()> {
        self.turn().unlock_range(file.inode, file.number, range);
        Ok(())
    }

    fn next_data(&self, file: &SimFile, offset: u64) -> io::Result<Option<u64>> {
        // Pages of zeros are holes.
        let mut state = self.turn();
        state.begin(Operation::Open)?;
        let rest = state.shown(file.inode).get(offset as usize..).unwrap_or_default();
        let data = rest.iter().position(|byte| *byte != 0);
        Ok(data.map(|data| offset.max((offset + data as u64) / PAGE * PAGE)))
    }

    fn allocate(&self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut state = self.turn();
        state.begin(Operation::Write)?;
        let length = length.max(state.shown(file.inode).len() as u64);
        state.set_length(file.inode, length);
        Ok(())
    }

    fn prefetch(&self, _: &SimFile, _: u64, _: u64) {}

    fn file_system(&self, _: &PathBuf) -> io::Result<(u64, Option<u64>)> {
        Ok((1, None))
    }

    fn is_out_of_handles(&self, error: &io::Error) -> bool {
        error.raw_os_error() == Some(EMFILE)
    }

    fn boot(&self) -> u128 {
        self.turn().boots.into()
    }

    fn process_id(&self) -> u32 {
        4711
    }
}

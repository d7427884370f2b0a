//! A disk in memory that fails on demand, and whose power can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use metainfo::Naming;
use piece_store::{Access, Disk, FileId, Kind, Lock, Stat};

/// The shortest hole, in bytes.
const PAGE: u64 = 4096;
/// Error numbers of the operating system.
const EINVAL: i32 = 22;
const ENAMETOOLONG: i32 = 36;
const EILSEQ: i32 = 84;

/// The disk.
#[derive(Debug, Default)]
pub struct MemDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemFile>>>,
    folders: Mutex<BTreeSet<PathBuf>>,
    faults: Mutex<Vec<Fault>>,
    clock: Mutex<i64>,
    read: AtomicU64,
    handles: AtomicU64,
    open: Arc<AtomicUsize>,
    /// Whether a failed sync forgets what it was to sync.
    forgets: bool,
    /// How many files may be open; 0 for any number.
    max_open: AtomicUsize,
    power_cuts: AtomicU64,
    /// Whether closed files get new inode numbers.
    renumbers: bool,
    /// Called in the next sync of a file, before it may fail.
    in_sync: Mutex<Option<Hook>>,
    /// Called when a file is locked next.
    in_lock: Mutex<Option<Hook>>,
    /// The folders that were synced.
    synced_folders: Mutex<Vec<PathBuf>>,
    /// Whether names that differ only in the case of letters are one name.
    folds: bool,
    /// Whether files have a time of birth.
    knows_births: bool,
    /// Whether files can't be locked.
    lockless: bool,
    /// The names that it refuses.
    refused: Refused,
}

/// Names that no file can have.
#[derive(Debug, Default)]
struct Refused {
    characters: &'static str,
    /// The longest element, in bytes; 0 for any length.
    max_length: usize,
}

struct Hook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// The contents of a file, shared by all open files.
#[derive(Debug)]
pub struct MemFile {
    path: PathBuf,
    inode: AtomicU64,
    born: u64,
    opened: AtomicUsize,
    content: Mutex<Content>,
    locked: AtomicBool,
    /// The locked ranges, by open file.
    ranges: Mutex<Vec<(u64, Range<u64>)>>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// What the next sync has to write.
    dirty: Vec<Range<usize>>,
    modified: i64,
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
        self.dirty.push(offset..end);
    }

    fn sync(&mut self) {
        self.synced.resize(self.bytes.len(), 0);
        for range in std::mem::take(&mut self.dirty) {
            let range = range.start.min(self.bytes.len())..range.end.min(self.bytes.len());
            self.synced[range.clone()].copy_from_slice(&self.bytes[range]);
        }
    }

    fn fail_sync(&mut self, disk: &MemDisk) {
        if disk.forgets {
            self.dirty.clear();
        }
    }
}

/// An open file.
#[derive(Debug)]
pub struct MemHandle {
    file: Arc<MemFile>,
    /// The number of the open file.
    number: u64,
    holds_lock: AtomicBool,
    open: Arc<AtomicUsize>,
}

impl Drop for MemHandle {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.file.opened.fetch_sub(1, Ordering::Relaxed);
        self.file.ranges.lock().unwrap().retain(|(holder, _)| *holder != self.number);
        if *self.holds_lock.get_mut() {
            self.file.locked.store(false, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Fault {
    operation: &'static str,
    path: String,
    /// Error number of the operating system; 0 cuts the write short.
    code: i32,
    times: usize,
    /// How many operations succeed before it fails.
    skip: usize,
}

impl MemDisk {
    /// A disk on which a failed sync forgets what it was to sync, as on Linux: the bytes can still
    /// be read, the next sync succeeds, and a power cut removes them.
    pub fn forgetful() -> Self {
        Self { forgets: true, ..Self::default() }
    }

    /// Lets the next `times` operations of this kind fail on a path that ends with `path`.
    pub fn fail(&self, operation: &'static str, path: &str, code: i32, times: usize) {
        let fault = Fault { operation, path: path.to_owned(), code, times, skip: 0 };
        self.faults.lock().unwrap().push(fault);
    }

    /// Like [`Self::fail`], once, after `skip` operations.
    pub fn fail_later(&self, operation: &'static str, path: &str, code: i32, skip: usize) {
        let fault = Fault { operation, path: path.to_owned(), code, times: 1, skip };
        self.faults.lock().unwrap().push(fault);
    }

    /// Clears all failures.
    pub fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Limits how many files can be open at a time.
    pub fn limit_open(&self, count: usize) {
        self.max_open.store(count, Ordering::Relaxed);
    }

    /// The total of bytes read.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn fault(&self, operation: &'static str, path: &Path) -> Option<i32> {
        let mut faults = self.faults.lock().unwrap();
        let text = path.to_string_lossy().into_owned();
        let fault = faults.iter_mut().find(|fault| {
            fault.operation == operation && text.ends_with(&fault.path) && fault.times > 0
        })?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.code)
    }

    fn check(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        self.fault(operation, path).map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    /// Drops everything unsynced.
    pub fn cut_power(&self) {
        self.power_cuts.fetch_add(1, Ordering::Relaxed);
        for file in self.files.lock().unwrap().values() {
            let mut content = file.content.lock().unwrap();
            content.bytes = content.synced.clone();
            content.dirty.clear();
            file.locked.store(false, Ordering::Relaxed);
            file.ranges.lock().unwrap().clear();
        }
    }

    /// A disk that gives closed files new inode numbers, like vfat.
    pub fn renumbering() -> Self {
        Self { renumbers: true, ..Self::forgetful() }
    }

    /// A disk on which names that differ only in the case of letters are one name.
    pub fn folding() -> Self {
        Self { folds: true, ..Self::forgetful() }
    }

    /// A disk whose files can't be locked.
    pub fn lockless() -> Self {
        Self { lockless: true, ..Self::forgetful() }
    }

    /// A disk whose files have a time of birth.
    pub fn with_births() -> Self {
        Self { knows_births: true, ..Self::forgetful() }
    }

    /// A disk that refuses names with one of `characters` (EINVAL) and, unless it is 0, names of
    /// more than `max_length` bytes (ENAMETOOLONG).
    pub fn refusing(characters: &'static str, max_length: usize) -> Self {
        Self { refused: Refused { characters, max_length }, ..Self::forgetful() }
    }

    /// The number of the file whose path ends with `path`.
    pub fn inode(&self, path: &str) -> u64 {
        self.find(path).inode.load(Ordering::Relaxed)
    }

    /// Whether there is a file of exactly this path, as it is spelled.
    pub fn has(&self, path: &str) -> bool {
        self.files.lock().unwrap().contains_key(Path::new(path))
    }

    /// The path, as it is spelled on the disk.
    fn spelled(&self, files: &BTreeMap<PathBuf, Arc<MemFile>>, path: PathBuf) -> PathBuf {
        if !self.folds || files.contains_key(&path) {
            return path;
        }
        let same = |name: &&PathBuf| {
            name.to_string_lossy().to_lowercase() == path.to_string_lossy().to_lowercase()
        };
        files.keys().find(same).cloned().unwrap_or(path)
    }

    /// Fails for a name that is too long or, if it is to be made, has a bad character.
    fn check_name(&self, path: &Path, makes: bool) -> io::Result<()> {
        let refused = &self.refused;
        let is_long =
            |name: &std::ffi::OsStr| refused.max_length > 0 && name.len() > refused.max_length;
        let has_bad = |name: &std::ffi::OsStr| {
            name.to_string_lossy().contains(|one| refused.characters.contains(one))
        };
        if path.iter().any(is_long) {
            return Err(io::Error::from_raw_os_error(ENAMETOOLONG));
        }
        if makes && path.iter().any(has_bad) {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        Ok(())
    }

    /// Gives closed files other inode numbers.
    pub fn forget_inodes(&self) {
        for file in self.files.lock().unwrap().values() {
            if file.opened.load(Ordering::Relaxed) == 0 {
                file.inode.store(self.tick() as u64 + 1_000_000, Ordering::Relaxed);
            }
        }
    }

    /// Calls `action` in the next sync of a file, before it may fail.
    pub fn in_next_sync(&self, hook: impl FnOnce() + Send + 'static) {
        *self.in_sync.lock().unwrap() = Some(Hook(Box::new(hook)));
    }

    /// Calls `action` before the next lock of a file.
    pub fn in_next_lock(&self, hook: impl FnOnce() + Send + 'static) {
        *self.in_lock.lock().unwrap() = Some(Hook(Box::new(hook)));
    }

    /// The folders that were synced since the last call.
    pub fn synced_folders(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.synced_folders.lock().unwrap())
    }

    /// Writes the file whose path ends with `path` back to the disk, as the system may.
    pub fn write_back(&self, path: &str) {
        let file = self.find(path);
        file.content.lock().unwrap().sync();
    }

    /// The bytes of the file whose path ends with `path`.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        self.find(path).content.lock().unwrap().bytes.clone()
    }

    /// Replaces the bytes of the file whose path ends with `path`.
    pub fn set_bytes(&self, path: &str, bytes: &[u8]) {
        let file = self.find(path);
        let mut content = file.content.lock().unwrap();
        content.bytes.clear();
        content.write(0, bytes);
    }

    /// Every file with its path and its bytes.
    pub fn files(&self) -> Vec<(PathBuf, Stat, Vec<u8>)> {
        let files = self.files.lock().unwrap();
        let bytes = |file: &MemFile| file.content.lock().unwrap().bytes.clone();
        files.iter().map(|(path, file)| (path.clone(), stat(file), bytes(file))).collect()
    }

    /// Makes a folder.
    pub fn put_folder(&self, path: &Path) {
        self.folders.lock().unwrap().insert(path.to_owned());
    }

    /// Creates or replaces a file, all of it synced.
    pub fn put_as(&self, path: &Path, inode: u64, modified: i64, bytes: &[u8]) {
        let file = self.make(path);
        file.inode.store(inode, Ordering::Relaxed);
        let (bytes, synced) = (bytes.to_vec(), bytes.to_vec());
        *file.content.lock().unwrap() = Content { bytes, synced, dirty: Vec::new(), modified };
        self.files.lock().unwrap().insert(path.to_owned(), file);
    }

    /// Sets how many times the power was cut, and the clock, which also numbers new files.
    pub fn set_counters(&self, power_cuts: u64, clock: i64) {
        self.power_cuts.store(power_cuts, Ordering::Relaxed);
        *self.clock.lock().unwrap() = clock;
    }

    /// Kills the process: closes its files and releases their locks. The caller must forget its
    /// stores, not drop them.
    pub fn kill(&self) {
        for file in self.files.lock().unwrap().values() {
            file.locked.store(false, Ordering::Relaxed);
            file.ranges.lock().unwrap().clear();
            file.opened.store(0, Ordering::Relaxed);
        }
    }

    fn find(&self, path: &str) -> Arc<MemFile> {
        let files = self.files.lock().unwrap();
        let found = files.iter().find(|(name, _)| name.to_string_lossy().ends_with(path));
        Arc::clone(found.unwrap().1)
    }

    fn tick(&self) -> i64 {
        let mut clock = self.clock.lock().unwrap();
        *clock += 1;
        *clock
    }

    fn handle(&self, file: Arc<MemFile>) -> io::Result<MemHandle> {
        file.opened.fetch_add(1, Ordering::Relaxed);
        let handle = MemHandle {
            number: self.handles.fetch_add(1, Ordering::Relaxed),
            file,
            holds_lock: AtomicBool::new(false),
            open: Arc::clone(&self.open),
        };
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        match self.max_open.load(Ordering::Relaxed) {
            0 => Ok(handle),
            most if open <= most => Ok(handle),
            _ => Err(io::Error::from_raw_os_error(24)),
        }
    }

    fn make(&self, path: &Path) -> Arc<MemFile> {
        Arc::new(MemFile {
            path: path.to_owned(),
            inode: AtomicU64::new(self.tick() as u64),
            born: if self.knows_births { self.tick() as u64 } else { 0 },
            opened: AtomicUsize::new(0),
            content: Mutex::default(),
            locked: AtomicBool::new(false),
            ranges: Mutex::default(),
        })
    }
}

fn stat(file: &MemFile) -> Stat {
    let content = file.content.lock().unwrap();
    Stat {
        kind: Kind::File,
        linked: false,
        id: FileId { device: 1, inode: file.inode.load(Ordering::Relaxed), born: file.born },
        length: content.bytes.len() as u64,
        modified: (content.modified, 0),
    }
}

impl Disk for MemDisk {
    type File = MemHandle;
    type Folder = PathBuf;

    fn folder(&self, path: &Path, create: bool) -> io::Result<(PathBuf, PathBuf)> {
        self.check("folder", path)?;
        let mut folders = self.folders.lock().unwrap();
        if create {
            folders.insert(path.to_owned());
        }
        match folders.contains(path) {
            true => Ok((path.to_owned(), path.to_owned())),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, folder: &PathBuf, path: &Path, access: Access) -> io::Result<MemHandle> {
        self.check_name(path, !matches!(access, Access::Read | Access::Write))?;
        let path = folder.join(path);
        self.check("open", &path)?;
        let mut files = self.files.lock().unwrap();
        let path = self.spelled(&files, path);
        match files.get(&path) {
            Some(_) if access == Access::CreateNew => Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => self.handle(Arc::clone(file)),
            None if !matches!(access, Access::Read | Access::Write) => {
                let file = self.make(&path);
                let handle = self.handle(Arc::clone(&file))?;
                files.insert(path, file);
                Ok(handle)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn temporary(&self, folder: &PathBuf) -> io::Result<MemHandle> {
        self.handle(self.make(folder))
    }

    fn zeros(&self, length: u64) -> io::Result<MemHandle> {
        let file = self.make(Path::new("zeros"));
        file.content.lock().unwrap().bytes = vec![0; length as usize];
        self.handle(file)
    }

    fn stat(&self, folder: &PathBuf, path: &Path) -> io::Result<Option<Stat>> {
        self.check_name(path, false)?;
        self.check("stat", &folder.join(path))?;
        let files = self.files.lock().unwrap();
        Ok(files.get(&self.spelled(&files, folder.join(path))).map(|file| stat(file)))
    }

    fn file_stat(&self, file: &MemHandle) -> io::Result<Stat> {
        Ok(stat(&file.file))
    }

    fn list(&self, folder: &PathBuf) -> io::Result<Vec<PathBuf>> {
        let files = self.files.lock().unwrap();
        let inside = files.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.filter_map(|path| path.file_name()).map(PathBuf::from).collect())
    }

    fn read_at(&self, file: &MemHandle, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check("read", &file.file.path)?;
        let content = file.file.content.lock().unwrap();
        let rest = content.bytes.get(offset as usize..).unwrap_or_default();
        // Short reads are legal: at most 100 kB.
        let count = rest.len().min(buffer.len()).min(100_000);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, file: &MemHandle, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.check("write", &file.file.path)?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        // Short writes are legal: at most 70 kB.
        bytes.truncate(70_000);
        let mut content = file.file.content.lock().unwrap();
        content.write(offset as usize, &bytes);
        content.modified = self.tick();
        Ok(bytes.len())
    }

    fn append(&self, file: &MemHandle, bytes: &[u8]) -> io::Result<usize> {
        let mut content = file.file.content.lock().unwrap();
        let count = match self.fault("append", &file.file.path) {
            // Disk full in the middle of the record.
            Some(0) => bytes.len() / 2,
            Some(code) => return Err(io::Error::from_raw_os_error(code)),
            None => bytes.len(),
        };
        let end = content.bytes.len();
        content.write(end, &bytes[..count]);
        content.modified = self.tick();
        Ok(count)
    }

    fn set_length(&self, file: &MemHandle, length: u64) -> io::Result<()> {
        let mut content = file.file.content.lock().unwrap();
        let before = content.bytes.len();
        content.bytes.resize(length as usize, 0);
        // If it grows again, there are zeros.
        content.dirty.push(length as usize..before.max(length as usize));
        Ok(())
    }

    fn sync_file(&self, file: &MemHandle) -> io::Result<()> {
        let hook = self.in_sync.lock().unwrap().take();
        hook.into_iter().for_each(|hook| (hook.0)());
        let synced = self.check("sync", &file.file.path);
        let mut content = file.file.content.lock().unwrap();
        match synced {
            Ok(()) => content.sync(),
            Err(_) => content.fail_sync(self),
        }
        synced
    }

    fn sync_folder(&self, folder: &PathBuf, path: &Path) -> io::Result<()> {
        self.synced_folders.lock().unwrap().push(path.to_owned());
        self.check("sync folder", &folder.join(path))
    }

    fn sync_file_system(&self, folder: &PathBuf) -> io::Result<()> {
        let synced = self.check("sync all", folder);
        // Each folder that is opened by a user's path is on a file system of its own.
        let files = self.files.lock().unwrap();
        for (_, file) in files.iter().filter(|(path, _)| path.starts_with(folder)) {
            let mut content = file.content.lock().unwrap();
            match synced {
                Ok(()) => content.sync(),
                Err(_) => content.fail_sync(self),
            }
        }
        synced
    }

    fn rename(&self, folder: &PathBuf, from: &Path, to: &Path) -> io::Result<()> {
        self.check("rename", &folder.join(to))?;
        let mut files = self.files.lock().unwrap();
        let (from, to) = (self.spelled(&files, folder.join(from)), folder.join(to));
        let file = files.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to, file);
        Ok(())
    }

    fn remove(&self, folder: &PathBuf, path: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let path = self.spelled(&files, folder.join(path));
        let removed = files.remove(&path);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn try_lock(&self, file: &MemHandle) -> io::Result<Lock> {
        let hook = self.in_lock.lock().unwrap().take();
        hook.into_iter().for_each(|hook| (hook.0)());
        if self.fault("lock", &file.file.path).is_some() {
            return Ok(Lock::Busy);
        }
        if self.lockless {
            return Ok(Lock::Unsupported);
        }
        let free = !file.file.locked.swap(true, Ordering::Relaxed);
        file.holds_lock.fetch_or(free, Ordering::Relaxed);
        Ok(if free { Lock::Taken } else { Lock::Busy })
    }

    fn lock_range(&self, file: &MemHandle, range: &Range<u64>) -> io::Result<bool> {
        let is_free = self.range_holder(file, range)?.is_none();
        if is_free {
            file.file.ranges.lock().unwrap().push((file.number, range.clone()));
        }
        Ok(is_free)
    }

    fn range_holder(&self, file: &MemHandle, range: &Range<u64>) -> io::Result<Option<Range<u64>>> {
        let ranges = file.file.ranges.lock().unwrap();
        let other = |(holder, held): &&(u64, Range<u64>)| {
            *holder != file.number && held.start < range.end && range.start < held.end
        };
        Ok(ranges.iter().find(other).map(|(_, held)| held.clone()))
    }

    fn unlock_range(&self, file: &MemHandle, range: &Range<u64>) -> io::Result<()> {
        file.file.ranges.lock().unwrap().retain(|held| *held != (file.number, range.clone()));
        Ok(())
    }

    fn next_data(&self, file: &MemHandle, offset: u64) -> io::Result<Option<u64>> {
        // Pages of zeros are holes.
        let content = file.file.content.lock().unwrap();
        let rest = content.bytes.get(offset as usize..).unwrap_or_default();
        let data = rest.iter().position(|byte| *byte != 0);
        Ok(data.map(|data| offset.max((offset + data as u64) / PAGE * PAGE)))
    }

    fn allocate(&self, file: &MemHandle, length: u64) -> io::Result<()> {
        self.check("allocate", &file.file.path)?;
        let mut content = file.file.content.lock().unwrap();
        let length = content.bytes.len().max(length as usize);
        content.bytes.resize(length, 0);
        Ok(())
    }

    fn file_system(&self, _: &PathBuf) -> io::Result<(u64, Option<u64>)> {
        Ok((1, None))
    }

    fn has_stable_ids(&self, _: &PathBuf) -> bool {
        !self.renumbers
    }

    fn naming_after(&self, error: &io::Error) -> Option<Naming> {
        match error.raw_os_error()? {
            ENAMETOOLONG => Some(Naming::Short),
            EINVAL | EILSEQ => Some(Naming::Windows),
            _ => None,
        }
    }

    fn boot(&self) -> u128 {
        u128::from(self.power_cuts.load(Ordering::Relaxed)) + 1
    }

    fn process_id(&self) -> u32 {
        4711
    }
}

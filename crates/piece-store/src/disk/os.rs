//! The real disk, through the operating system.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // This is the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Access, Disk, FileId, Kind, Stat, not_a_file, read_through};

/// An open file of the real disk.
pub type OsFile = File;

/// Files and folders as the operating system gives them.
#[derive(Debug, Default)]
pub struct OsDisk {
    /// The open folders by their canonical paths: most torrents are in the same one.
    folders: Mutex<BTreeMap<PathBuf, Weak<SharedFolder>>>,
    /// Where pages go that are only to be resident; `None` where there is no such device.
    null: OnceLock<Option<File>>,
    boot: OnceLock<u128>,
}

/// An open folder, maybe shared with others who opened it.
#[derive(Debug)]
pub struct OsFolder {
    shared: Arc<SharedFolder>,
    /// How many failed syncs of the shared one its owner knows of.
    known_failures: AtomicU64,
}

/// What those who opened the same folder share.
///
/// The system tells of a failed sync once for each time the folder was opened. To be told nothing would
/// prove nothing for those who share it, so the failures are counted, and each hears of each.
#[derive(Debug)]
struct SharedFolder {
    descriptor: OwnedFd,
    /// How many syncs failed.
    failures: AtomicU64,
    /// Held during a sync, until its failure is counted.
    turn: Mutex<()>,
}

impl OsFolder {
    fn new(shared: Arc<SharedFolder>) -> Self {
        let known_failures = AtomicU64::new(shared.failures.load(Ordering::Acquire));
        Self { shared, known_failures }
    }

    fn descriptor(&self) -> &OwnedFd {
        &self.shared.descriptor
    }

    /// Syncs, by `sync`, what is in the folder. Fails also if another's sync has failed since this was
    /// opened, or since the last that this one was told of.
    fn sync(&self, sync: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = sync();
        if synced.is_err() {
            shared.failures.fetch_add(1, Ordering::AcqRel);
        }
        let failures = shared.failures.load(Ordering::Acquire);
        let known = self.known_failures.swap(failures, Ordering::AcqRel);
        synced?;
        if known == failures { Ok(()) } else { Err(Errno::IO.into()) }
    }
}

impl OsDisk {
    /// The disk of this machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// The folder at `path`, if somebody has it open and it still is that one.
    fn shared(&self, path: &Path) -> Option<Arc<SharedFolder>> {
        let folder = self.folders().get(path)?.upgrade()?;
        let open = rustix::fs::fstat(&folder.descriptor).ok()?;
        let named = rustix::fs::stat(path).ok()?;
        (stat_of(&open).id == stat_of(&named).id).then_some(folder)
    }

    fn share(&self, path: &Path, folder: &Arc<SharedFolder>) {
        let mut folders = self.folders();
        // Those that were closed are forgotten each time the table has doubled.
        if folders.len().is_power_of_two() {
            folders.retain(|_, folder| folder.strong_count() > 0);
        }
        folders.insert(path.to_owned(), Arc::downgrade(folder));
    }

    fn folders(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Weak<SharedFolder>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for OsDisk {
    type File = OsFile;
    type Folder = OsFolder;

    fn folder(&self, path: &Path, create: bool) -> io::Result<(OsFolder, PathBuf)> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let canonical = match std::fs::canonicalize(path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => make_folders(path)?,
            found => found?,
        };
        if let Some(folder) = self.shared(&canonical) {
            return Ok((OsFolder::new(folder), canonical));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = retry(|| rustix::fs::open(&canonical, flags, Mode::empty()))?;
        let (failures, turn) = (AtomicU64::new(0), Mutex::default());
        let folder = Arc::new(SharedFolder { descriptor, failures, turn });
        self.share(&canonical, &folder);
        Ok((OsFolder::new(folder), canonical))
    }

    fn open(&self, folder: &OsFolder, path: &Path, access: Access) -> io::Result<File> {
        let creates = matches!(access, Access::Create | Access::Append);
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::Create => OFlags::RDWR | OFlags::CREATE,
            Access::Append => OFlags::RDWR | OFlags::CREATE | OFlags::APPEND,
        };
        // Without NONBLOCK, a pipe of that name would stop the thread.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = if creates { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        let file = match open_at_once(folder, path, flags, mode) {
            Some(opened) => opened?,
            None => below(folder, path, creates, |parent, name| {
                retry(|| rustix::fs::openat(parent, name, flags, mode))
                    .map_err(|error| explain_link(error, parent, name))
            })?,
        };
        let file = File::from(file);
        match self.file_stat(&file)?.kind {
            Kind::File => Ok(file),
            Kind::Folder => Err(io::ErrorKind::IsADirectory.into()),
            Kind::Other => Err(not_a_file()),
        }
    }

    #[cfg(target_os = "linux")]
    fn temporary(&self, folder: &OsFolder) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(folder.descriptor(), ".", flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => unlinked(folder),
            opened => Ok(File::from(opened?)),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn temporary(&self, folder: &OsFolder) -> io::Result<File> {
        unlinked(folder)
    }

    #[cfg(target_os = "linux")]
    fn zeros(&self, length: u64) -> io::Result<File> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("zeros", flags)?);
        file.set_len(length)?;
        Ok(file)
    }

    #[cfg(not(target_os = "linux"))]
    fn zeros(&self, length: u64) -> io::Result<File> {
        let (folder, _) = self.folder(&std::env::temp_dir(), false)?;
        let file = unlinked(&folder)?;
        file.set_len(length)?;
        Ok(file)
    }

    fn stat(&self, folder: &OsFolder, path: &Path) -> io::Result<Option<Stat>> {
        let found = below(folder, path, false, |parent, name| {
            Ok(rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
        });
        match found {
            Ok(stat) => Ok(Some(stat_of(&stat))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn file_stat(&self, file: &File) -> io::Result<Stat> {
        Ok(stat_of(&rustix::fs::fstat(file)?))
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        retry(|| rustix::io::pread(file, &mut *buffer, offset))
    }

    #[cfg(target_os = "linux")]
    fn make_resident(
        &self,
        file: &File,
        offset: u64,
        length: u64,
        scratch: &mut [u8],
    ) -> io::Result<u64> {
        let null = self.null.get_or_init(|| device(Path::new("/dev/null")));
        let passed = null.as_ref().map(|null| pass_through(file, offset, length, null));
        match passed {
            // Not every file system can.
            None | Some(Err(Errno::INVAL)) => read_through(self, file, offset, length, scratch),
            Some(passed) => Ok(passed?),
        }
    }

    fn write_at(&self, file: &File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        retry(|| rustix::io::pwritev(file, parts, offset))
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        retry(|| rustix::io::write(file, bytes))
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        retry(|| rustix::fs::ftruncate(file, length))
    }

    #[cfg(target_os = "linux")]
    fn sync_file(&self, file: &File) -> io::Result<()> {
        // Not repeated when interrupted: an error may be told only once.
        Ok(rustix::fs::fdatasync(file)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &OsFolder, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return folder.sync(|| rustix::fs::fsync(folder.descriptor()));
        }
        let inner = below(folder, path, false, open_folder)?;
        folder.sync(|| rustix::fs::fsync(inner))
    }

    #[cfg(target_os = "linux")]
    fn sync_file_system(&self, folder: &OsFolder) -> io::Result<()> {
        folder.sync(|| rustix::fs::syncfs(folder.descriptor()))
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_file_system(&self, _: &OsFolder) -> io::Result<()> {
        rustix::fs::sync();
        Ok(())
    }

    fn rename(&self, folder: &OsFolder, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(folder.descriptor(), from, folder.descriptor(), to)?)
    }

    fn remove(&self, folder: &OsFolder, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder.descriptor(), path, AtFlags::empty())?)
    }

    fn try_lock(&self, file: &File) -> io::Result<bool> {
        match retry(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Who holds it may need this core to let it go.
                std::thread::yield_now();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn next_data(&self, file: &File, offset: u64) -> io::Result<Option<u64>> {
        // Moves the file's own position, which nobody uses: every read and write says where.
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(next) => Ok(Some(next)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        match retry(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length)) {
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn prefetch(&self, _: &File, _: u64, _: u64) {}

    #[cfg(target_os = "linux")]
    fn prefetch(&self, file: &File, offset: u64, length: u64) {
        let length = std::num::NonZeroU64::new(length);
        // A hint: where it is not known, reading works without.
        let _ = rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::WillNeed);
    }

    fn file_system(&self, folder: &OsFolder) -> io::Result<(u64, Option<u64>)> {
        let device = stat_of(&rustix::fs::fstat(folder.descriptor())?).id.device;
        let free = rustix::fs::fstatvfs(folder.descriptor()).ok();
        Ok((device, free.map(|free| free.f_bavail.saturating_mul(free.f_frsize))))
    }

    fn is_out_of_handles(&self, error: &io::Error) -> bool {
        let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|code| codes.contains(&code))
    }

    #[cfg(target_os = "linux")]
    fn ids_last(&self, folder: &OsFolder) -> bool {
        // FAT, exFAT, what comes from a program (FUSE), SMB of both ages, a host's folder (vboxsf).
        const NUMBERED_ANEW: [u32; 6] =
            [0x4d44, 0x2011_bab0, 0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x786f_4256];
        let system = rustix::fs::fstatfs(folder.descriptor());
        system.is_ok_and(|system| !NUMBERED_ANEW.contains(&(system.f_type as u32)))
    }

    fn boot(&self) -> u128 {
        *self.boot.get_or_init(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or(0)
        })
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }
}

/// The device at `path`, to be written. In a broken container `/dev/null` may be a plain file, which
/// would take all that is sent.
#[cfg(target_os = "linux")]
fn device(path: &Path) -> Option<File> {
    let file = File::options().write(true).open(path).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice).then_some(file)
}

/// Has the pages of a range looked up, and read from the device where they are missing, without a
/// byte being copied; answers how many bytes of the range there are.
#[cfg(target_os = "linux")]
fn pass_through(file: &File, offset: u64, length: u64, null: &File) -> rustix::io::Result<u64> {
    let mut at = offset;
    let end = offset + length;
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        match rustix::fs::sendfile(null, file, Some(&mut at), rest) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at - offset)
}

/// Makes a folder and those missing above it, and syncs their names: nothing else does.
fn make_folders(path: &Path) -> io::Result<PathBuf> {
    let missing = path.ancestors().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(path)?;
    let canonical = std::fs::canonicalize(path)?;
    for parent in canonical.ancestors().skip(1).take(missing) {
        // A folder that can't be read can't be synced either.
        if let Ok(parent) = File::open(parent) {
            parent.sync_all()?;
        }
    }
    Ok(canonical)
}

/// Opens `path` in one step, where the system itself refuses symbolic links on the way. `None`: it
/// must be walked, to make folders, to say what is wrong, or because the system can't do this.
#[cfg(target_os = "linux")]
fn open_at_once(
    folder: &OsFolder,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Option<io::Result<OwnedFd>> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    match retry(|| rustix::fs::openat2(folder.descriptor(), path, flags, mode, resolve)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && mode.is_empty() => {
            Some(Err(error))
        }
        opened => opened.ok().map(Ok),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_at_once(_: &OsFolder, _: &Path, _: OFlags, _: Mode) -> Option<io::Result<OwnedFd>> {
    None
}

/// Does `work` in the folder that holds the last component of `path`, walking there from `folder`
/// without following a symbolic link; with `create`, missing folders are made on the way.
fn below<T>(
    folder: &OsFolder,
    path: &Path,
    create: bool,
    work: impl FnOnce(&OwnedFd, &Path) -> io::Result<T>,
) -> io::Result<T> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(invalid());
    }
    let name = path.file_name().map(Path::new).ok_or_else(invalid)?;
    let mut parent: Option<OwnedFd> = None;
    for part in path.parent().into_iter().flat_map(Path::iter) {
        let outer = parent.as_ref().unwrap_or(folder.descriptor());
        parent = Some(step(outer, Path::new(part), create)?);
    }
    work(parent.as_ref().unwrap_or(folder.descriptor()), name)
}

/// Opens the folder `name` in `parent`.
fn step(parent: &OwnedFd, name: &Path, create: bool) -> io::Result<OwnedFd> {
    match open_folder(parent, name) {
        Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => open_folder(parent, name),
                Err(error) => Err(error.into()),
            }
        }
        result => result,
    }
}

fn open_folder(parent: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = retry(|| rustix::fs::openat(parent, name, flags, Mode::empty()));
    opened.map_err(|error| explain_link(error, parent, name))
}

/// Says so where it is a symbolic link that stood in the way.
fn explain_link(error: io::Error, parent: &OwnedFd, name: &Path) -> io::Error {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    match stat.map(|stat| stat_of(&stat).kind) {
        Ok(Kind::Other) => not_a_file(),
        _ => error,
    }
}

/// A file whose name is removed as soon as it is open.
fn unlinked(folder: &OsFolder) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    for number in 0..u16::MAX {
        let name = format!(".{}-{number}.parts", std::process::id());
        match rustix::fs::openat(folder.descriptor(), &name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            opened => {
                let file = File::from(opened?);
                rustix::fs::unlinkat(folder.descriptor(), &name, AtFlags::empty())?;
                return Ok(file);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[allow(clippy::unnecessary_cast)] // The fields differ in type between systems.
fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    };
    Stat {
        kind,
        id: FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64 },
        length: stat.st_size.max(0) as u64,
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
    }
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_is_no_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(device(file.path()).is_none());
        assert!(device(Path::new("/dev/null")).is_some());
        assert!(device(Path::new("/dev/there is none")).is_none());
    }

    #[test]
    fn a_failed_sync_is_told_to_all_who_share_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let disk = OsDisk::new();
        let open = || disk.folder(root.path(), false).unwrap().0;
        let (first, second) = (open(), open());
        assert!(Arc::ptr_eq(&first.shared, &second.shared));
        // The system tells the first who asks, and all is well for whoever asks then.
        assert!(first.sync(|| Err(Errno::NOSPC)).is_err());
        let later = open();
        assert_eq!(second.sync(|| Ok(())).unwrap_err().raw_os_error(), Some(5));
        for folder in [first, second, later] {
            assert!(disk.sync_folder(&folder, Path::new("")).is_ok(), "it was told, or came later");
        }
    }
}

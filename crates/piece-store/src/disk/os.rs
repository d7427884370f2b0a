//! The disk of the operating system.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // This is the disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use metainfo::Naming;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

mod folder;
mod walk;

pub use self::folder::OsFolder;
use self::folder::SharedFolder;
use self::walk::{
    Links, Walk, absent_as_none, below, explain_link, is_link, new_stat, open_at_once, open_folder,
    stat_at, stat_open,
};
use super::{Access, Disk, FileId, Kind, Lock, Stat, not_a_file, read_through};

/// An open file of the real disk.
pub type OsFile = File;

/// The disk of the operating system.
#[derive(Debug, Default)]
pub struct OsDisk {
    /// The open folders by canonical path. Most torrents are in the same one.
    folders: Mutex<BTreeMap<PathBuf, Weak<SharedFolder>>>,
    /// `/dev/null`, to which pages are sent to make them resident; `None` if there is no such
    /// device.
    null: OnceLock<Option<File>>,
    boot: OnceLock<u128>,
}

impl OsDisk {
    /// The disk of this machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the open folder at `path`, if there is one and the path still leads to it.
    fn shared(&self, path: &Path) -> Option<Arc<SharedFolder>> {
        let folder = self.folders().get(path)?.upgrade()?;
        let open = stat_open(&folder.descriptor).ok()?;
        let named = stat_at(rustix::fs::CWD, path, AtFlags::empty()).ok()?;
        (open.id == named.id).then_some(folder)
    }

    fn share(&self, path: &Path, folder: &Arc<SharedFolder>) {
        let mut folders = self.folders();
        // Closed folders are dropped each time the table has doubled.
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
        let folder = Arc::new(SharedFolder::new(descriptor));
        self.share(&canonical, &folder);
        Ok((OsFolder::new(folder), canonical))
    }

    fn open(&self, folder: &OsFolder, path: &Path, access: Access) -> io::Result<File> {
        let creates = !matches!(access, Access::Read | Access::Write);
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::Create => OFlags::RDWR | OFlags::CREATE,
            Access::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Access::Append => OFlags::RDWR | OFlags::CREATE | OFlags::APPEND,
        };
        // Without NONBLOCK, a pipe of that name would block the thread.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = if creates { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        let walk = |links, flags| {
            let walk = Walk { create: creates, links };
            below(folder, path, walk, |parent, name| {
                retry(|| rustix::fs::openat(parent, name, flags, mode))
                    .map_err(|error| explain_link(error, parent, name))
            })
        };
        let file = match open_at_once(folder, path, flags, mode) {
            Some(opened) => opened?,
            None => match walk(Links::Refused, flags) {
                Err(error) if is_link(&error) && access == Access::Read => {
                    walk(Links::Followed, flags - OFlags::NOFOLLOW)?
                }
                opened => opened?,
            },
        };
        let file = File::from(file);
        match self.file_stat(&file)?.kind {
            Kind::File => Ok(file),
            Kind::Folder => Err(io::ErrorKind::IsADirectory.into()),
            Kind::Other => Err(not_a_file()),
        }
    }

    fn temporary(&self, folder: &OsFolder) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(folder.descriptor(), ".", flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => unlinked(folder),
            opened => Ok(File::from(opened?)),
        }
    }

    fn zeros(&self, length: u64) -> io::Result<File> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("zeros", flags)?);
        file.set_len(length)?;
        Ok(file)
    }

    fn stat(&self, folder: &OsFolder, path: &Path) -> io::Result<Option<Stat>> {
        let look = |links, flags| {
            let walk = Walk { create: false, links };
            below(folder, path, walk, |parent, name| stat_at(parent, name, flags))
        };
        let found = match look(Links::Refused, AtFlags::SYMLINK_NOFOLLOW) {
            // A folder on the way is a link.
            Err(error) if is_link(&error) => look(Links::Followed, AtFlags::empty()),
            Ok(stat) if stat.linked => look(Links::Followed, AtFlags::empty()),
            found => return absent_as_none(found),
        };
        let leads_nowhere = |error: &io::Error| {
            let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
            kinds.contains(&error.kind()) || has_code(error, &[Errno::LOOP])
        };
        let nowhere =
            new_stat(FileType::Symlink, FileId { device: 0, inode: 0, born: 0 }, 0, (0, 0));
        let stat = match found {
            Err(error) if leads_nowhere(&error) => nowhere,
            found => found?,
        };
        Ok(Some(Stat { linked: true, ..stat }))
    }

    fn file_stat(&self, file: &File) -> io::Result<Stat> {
        stat_open(file)
    }

    fn list(&self, folder: &OsFolder) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder.descriptor())? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            names.extend((name != "." && name != "..").then_some(PathBuf::from(name)));
        }
        Ok(names)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        retry(|| rustix::io::pread(file, &mut *buffer, offset))
    }

    fn make_resident(
        &self,
        file: &File,
        offset: u64,
        length: u64,
        scratch: &mut [u8],
    ) -> io::Result<u64> {
        let null = self.null.get_or_init(|| device(Path::new("/dev/null")));
        let loaded = null.as_ref().map(|null| load_pages(file, offset, length, null));
        match loaded {
            // Not every file system supports this.
            None | Some(Err(Errno::INVAL)) => read_through(self, file, offset, length, scratch),
            Some(loaded) => Ok(loaded?),
        }
    }

    fn write_at(&self, file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        retry(|| rustix::io::pwritev(file, buffers, offset))
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        retry(|| rustix::io::write(file, bytes))
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        retry(|| rustix::fs::ftruncate(file, length))
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        // Not repeated when interrupted: the system may report an error only once.
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn sync_folder(&self, folder: &OsFolder, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return folder.sync(|| rustix::fs::fsync(folder.descriptor()));
        }
        // Complete files may be behind a symbolic link.
        let walk = Walk { create: false, links: Links::Followed };
        let inner =
            below(folder, path, walk, |parent, name| open_folder(parent, name, walk.links))?;
        folder.sync(|| rustix::fs::fsync(inner))
    }

    fn sync_file_system(&self, folder: &OsFolder) -> io::Result<()> {
        folder.sync(|| rustix::fs::syncfs(folder.descriptor()))
    }

    fn rename(&self, folder: &OsFolder, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(folder.descriptor(), from, folder.descriptor(), to)?)
    }

    fn remove(&self, folder: &OsFolder, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder.descriptor(), path, AtFlags::empty())?)
    }

    fn try_lock(&self, file: &File) -> io::Result<Lock> {
        match retry(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(Lock::Taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Lock::Busy),
            Err(error) if has_no_locks(&error) => Ok(Lock::Unsupported),
            Err(error) => Err(error),
        }
    }

    fn lock_range(&self, file: &File, range: &Range<u64>) -> io::Result<bool> {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range_lock(libc::F_WRLCK, range))) {
            Ok(_) => Ok(true),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
            Err(error) if has_no_locks(&error.into()) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn range_holder(&self, file: &File, range: &Range<u64>) -> io::Result<Option<Range<u64>>> {
        let mut held = range_lock(libc::F_WRLCK, range);
        match fcntl(file, FcntlArg::F_OFD_GETLK(&mut held)) {
            Err(error) if has_no_locks(&error.into()) => return Ok(None),
            found => found?,
        };
        let start = held.l_start.cast_unsigned();
        let held = (held.l_type != libc::F_UNLCK as libc::c_short).then_some(held);
        Ok(held.map(|held| start..start.saturating_add(held.l_len.cast_unsigned())))
    }

    fn unlock_range(&self, file: &File, range: &Range<u64>) -> io::Result<()> {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range_lock(libc::F_UNLCK, range))) {
            Err(error) if !has_no_locks(&error.into()) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn next_data(&self, file: &File, offset: u64) -> io::Result<Option<u64>> {
        // Moves the file's own position, which is not used: every read and write names an offset.
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(next) => Ok(Some(next)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        match retry(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length)) {
            Err(error) if has_code(&error, &[Errno::OPNOTSUPP]) => Ok(()),
            result => result,
        }
    }

    fn prefetch(&self, file: &File, offset: u64, length: u64) {
        let length = std::num::NonZeroU64::new(length);
        // A hint. Reading works without it.
        let _ = rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::WillNeed);
    }

    fn file_system(&self, folder: &OsFolder) -> io::Result<(u64, Option<u64>)> {
        let device = stat_open(folder.descriptor())?.id.device;
        let free = rustix::fs::fstatvfs(folder.descriptor()).ok();
        Ok((device, free.map(|free| free.f_bavail.saturating_mul(free.f_frsize))))
    }

    fn has_stable_ids(&self, folder: &OsFolder) -> bool {
        file_system_type(folder).is_some_and(|kind| kind != FUSE && !WINDOWS_NAMES.contains(&kind))
    }

    fn naming(&self, folder: &OsFolder) -> Naming {
        match file_system_type(folder) {
            Some(kind) if kind == NTFS || WINDOWS_NAMES.contains(&kind) => Naming::Windows,
            _ => Naming::Unix,
        }
    }

    fn naming_after(&self, error: &io::Error) -> Option<Naming> {
        match has_code(error, &[Errno::NAMETOOLONG]) {
            true => Some(Naming::Short),
            false => has_code(error, &[Errno::INVAL, Errno::ILSEQ]).then_some(Naming::Windows),
        }
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

/// File systems in user space.
const FUSE: u32 = 0x6573_5546;
/// The kernel's own driver for NTFS.
const NTFS: u32 = 0x7366_746e;
/// FAT, exFAT, SMB 1 and 2, shared folders of VirtualBox (vboxsf).
const WINDOWS_NAMES: [u32; 5] = [0x4d44, 0x2011_bab0, 0xff53_4d42, 0xfe53_4d42, 0x786f_4256];

fn file_system_type(folder: &OsFolder) -> Option<u32> {
    rustix::fs::fstatfs(folder.descriptor()).ok().map(|system| system.f_type as u32)
}

/// Whether an error says that the file system has no advisory locks.
fn has_no_locks(error: &io::Error) -> bool {
    has_code(error, &[Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL])
}

fn has_code(error: &io::Error, codes: &[Errno]) -> bool {
    codes.iter().any(|code| Some(code.raw_os_error()) == error.raw_os_error())
}

fn range_lock(kind: i32, range: &Range<u64>) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: range.start.cast_signed(),
        l_len: (range.end - range.start).cast_signed(),
        l_pid: 0,
    }
}

/// Opens the device at `path` for writing. In a broken container `/dev/null` may be a plain file,
/// which would store everything.
fn device(path: &Path) -> Option<File> {
    let file = File::options().write(true).open(path).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice).then_some(file)
}

/// Makes the system load the pages of a range without copying a byte. Returns how many bytes of the
/// range the file has.
fn load_pages(file: &File, offset: u64, length: u64, null: &File) -> rustix::io::Result<u64> {
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

/// Creates a folder and those missing above it, and syncs their names, which nothing else does.
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

/// Creates a file and removes its name at once.
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

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_file_is_no_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(device(file.path()).is_none());
        assert!(device(Path::new("/dev/null")).is_some());
        assert!(device(Path::new("/dev/there is none")).is_none());
    }

    #[test]
    fn failed_sync_reaches_all_sharers() {
        let root = tempfile::tempdir().unwrap();
        let disk = OsDisk::new();
        let open = || disk.folder(root.path(), false).unwrap().0;
        let (first, second) = (open(), open());
        assert!(Arc::ptr_eq(&first.shared, &second.shared));
        // The system reports the error to the first caller only.
        assert!(first.sync(|| Err(Errno::NOSPC)).is_err());
        let later = open();
        assert_eq!(second.sync(|| Ok(())).unwrap_err().raw_os_error(), Some(5));
        for folder in [first, second, later] {
            assert!(
                disk.sync_folder(&folder, Path::new("")).is_ok(),
                "the failure was reported, or was before it opened"
            );
        }
    }
}

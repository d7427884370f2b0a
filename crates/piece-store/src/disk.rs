//! What the store needs from a disk. [`OsDisk`] is the real one. Tests and simulations have others.
//!
//! There are two kinds of paths. A folder is opened once by the path that the user gave, following
//! symbolic links. Every other path is relative to such a folder. Reading follows symbolic links
//! below the folder; nothing is ever created or written through one.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use metainfo::Naming;

mod os;

pub use os::{OsDisk, OsFile, OsFolder};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read an existing file, also through symbolic links.
    Read,
    /// To read and write an existing file.
    Write,
    /// To read and write a file. Creates it, with the folders above it, if it is missing. Never
    /// truncates it.
    Create,
    /// To read and write a new file. Creates it, with the folders above it. Fails with
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken.
    CreateNew,
    /// To read, and to write only at the end. Creates the file if it is missing.
    Append,
}

/// The result of an attempt to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// The lock is ours until the file is closed.
    Taken,
    /// The file is open and locked elsewhere, in this process or another.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// What kind of thing a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A socket, a device, or a dangling symbolic link.
    Other,
}

/// Identifies a file on a file system, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The file on it. A file system uses the number of a removed file again.
    pub inode: u64,
    /// When the file was created, in nanoseconds since 1970, which distinguishes it from an earlier
    /// file with the same number; 0 if unknown.
    pub born: u64,
}

impl FileId {
    /// Returns the id of the file that `metadata` describes, without its time of birth.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), born: 0 }
    }

    /// Whether both are the same file. An unknown time of birth equals any other.
    pub fn is(self, other: Self) -> bool {
        let same_birth = self.born == other.born || self.born == 0 || other.born == 0;
        (self.device, self.inode) == (other.device, other.inode) && same_birth
    }
}

/// The metadata of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The kind of the file, or of the target of a symbolic link.
    pub kind: Kind,
    /// Whether a symbolic link leads to it.
    pub linked: bool,
    /// The id of the file.
    pub id: FileId,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
}

/// A disk. Every call may block. Several threads call at once.
///
/// Paths named `path` are relative and have normal components only. An empty path is the folder
/// itself.
///
/// # Errors
/// Every method fails with the errors of the system. Some methods document further errors.
#[expect(clippy::missing_errors_doc, reason = "they are the same for every method")]
pub trait Disk: Debug + Send + Sync {
    /// An open file. Closed on drop.
    type File: Debug + Send + Sync + 'static;
    /// An open folder. Closed on drop.
    type Folder: Debug + Send + Sync;

    /// Opens a folder by the user's path. If `create`, creates it and the folders above it if they
    /// are missing. Also returns its canonical path.
    fn folder(&self, path: &Path, create: bool) -> io::Result<(Self::Folder, PathBuf)>;

    /// Opens the file `path` below `folder`.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::Unsupported`] if `path` is neither a file nor a
    /// folder, or if a part of it is a symbolic link and `access` is not [`Access::Read`].
    fn open(&self, folder: &Self::Folder, path: &Path, access: Access) -> io::Result<Self::File>;

    /// Creates a file without a name below `folder`. It is gone when it is closed.
    fn temporary(&self, folder: &Self::Folder) -> io::Result<Self::File>;

    /// Opens a file that reads as `length` zeros.
    fn zeros(&self, length: u64) -> io::Result<Self::File>;

    /// Returns the metadata of `path` below `folder`, or of the target of a symbolic link of that
    /// name; `None` if nothing has the name.
    ///
    /// # Errors
    /// Those of the system, as for [`Disk::open`].
    fn stat(&self, folder: &Self::Folder, path: &Path) -> io::Result<Option<Stat>>;

    /// Returns the metadata of an open file.
    fn file_stat(&self, file: &Self::File) -> io::Result<Stat>;

    /// Returns the names of everything in a folder, in any order.
    fn list(&self, folder: &Self::Folder) -> io::Result<Vec<PathBuf>>;

    /// Reads once at `offset`. Returns the number of bytes, 0 at the end of the file.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Waits until the system holds a range in memory. Returns how many bytes of it the file has. A
    /// disk that can only read does so, into `scratch`, which must not be empty.
    fn make_resident(
        &self,
        file: &Self::File,
        offset: u64,
        length: u64,
        scratch: &mut [u8],
    ) -> io::Result<u64> {
        read_through(self, file, offset, length, scratch)
    }

    /// Writes once at `offset`, from several buffers in order. Returns how many bytes were written.
    fn write_at(
        &self,
        file: &Self::File,
        buffers: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize>;

    /// Writes once at the end of a file opened with [`Access::Append`]. Returns how many bytes were
    /// written.
    fn append(&self, file: &Self::File, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts or extends a file: one of the store's own, or a payload file that is too long and that
    /// the user allowed to be overwritten.
    fn set_length(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Waits until the data of `file`, and its length, are on the disk.
    ///
    /// # Errors
    /// Those of the system. Unsynced data may be lost, and later calls may not report it.
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;

    /// Waits until the names in the folder `path` below `folder` are on the disk.
    fn sync_folder(&self, folder: &Self::Folder, path: &Path) -> io::Result<()>;

    /// Waits until everything written to the file system of `folder` is on the disk.
    fn sync_file_system(&self, folder: &Self::Folder) -> io::Result<()>;

    /// Renames `from` to `to`, replacing any file of that name. Both are below `folder`.
    fn rename(&self, folder: &Self::Folder, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file `path` below `folder`.
    fn remove(&self, folder: &Self::Folder, path: &Path) -> io::Result<()>;

    /// Takes the advisory lock of a file until the file is closed.
    fn try_lock(&self, file: &Self::File) -> io::Result<Lock>;

    /// Takes the advisory lock of a range of a file until the file is closed or the range is
    /// unlocked. Returns `false` if another open file has locked an overlapping range. Ranges
    /// locked by the same open file do not conflict. Independent of [`Disk::try_lock`].
    fn lock_range(&self, file: &Self::File, range: &Range<u64>) -> io::Result<bool>;

    /// Returns a range that overlaps this one and that another open file has locked.
    fn range_holder(&self, file: &Self::File, range: &Range<u64>)
    -> io::Result<Option<Range<u64>>>;

    /// Unlocks a range.
    fn unlock_range(&self, file: &Self::File, range: &Range<u64>) -> io::Result<()>;

    /// Returns the offset of the next data at or after `offset`; `None` if only a hole or the end
    /// follows. A disk without holes returns `offset`.
    fn next_data(&self, file: &Self::File, offset: u64) -> io::Result<Option<u64>>;

    /// Reserves space for `length` bytes and makes the file at least that long. Does nothing on a
    /// disk that can't.
    fn allocate(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Hints that a range will be read soon.
    fn prefetch(&self, _file: &Self::File, _offset: u64, _length: u64) {}

    /// Returns the file system of `folder`, and the bytes free on it if known.
    fn file_system(&self, folder: &Self::Folder) -> io::Result<(u64, Option<u64>)>;

    /// Whether a file in this folder keeps its [`FileId`] while it is closed. False on FAT, exFAT,
    /// FUSE and SMB.
    fn has_stable_ids(&self, _: &Self::Folder) -> bool {
        true
    }

    /// Returns the naming of files in this folder: [`Naming::Unix`] unless its file system is known
    /// to refuse some of those names.
    fn naming(&self, _: &Self::Folder) -> Naming {
        Naming::Unix
    }

    /// Returns the naming to try instead, if a file could not be created because of its name.
    fn naming_after(&self, _: &io::Error) -> Option<Naming> {
        None
    }

    /// Returns a number that differs after each start of the system; 0 if unknown.
    fn boot(&self) -> u128;

    /// Returns the number that names this process as the holder of a lock.
    fn process_id(&self) -> u32;
}

/// The error for a path that is neither a file nor a folder.
pub(crate) fn not_a_file() -> io::Error {
    let message = "it is a symbolic link or a special file, which is never written to";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Makes a range resident by reading it into `scratch`, again and again.
fn read_through<D: Disk + ?Sized>(
    disk: &D,
    file: &D::File,
    offset: u64,
    length: u64,
    scratch: &mut [u8],
) -> io::Result<u64> {
    let mut done = 0;
    while done < length {
        let step = scratch.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        match disk.read_at(file, &mut scratch[..step], offset + done)? {
            0 => break,
            count => done += count as u64,
        }
    }
    Ok(done)
}

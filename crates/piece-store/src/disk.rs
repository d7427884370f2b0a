//! What the store needs of a disk. [`OsDisk`] is the real one; tests and simulations bring others.
//!
//! Paths come in two kinds. A folder is opened once by the path its user gave, following symbolic
//! links. Everything else is a relative path below such a folder. Reading follows the links that
//! its user put there; nothing is ever created or written through one.

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
    /// To read and write a file, made with the folders above it if it is missing. Never truncated.
    Create,
    /// To read and write a new file, made with the folders above it. Fails with
    /// [`io::ErrorKind::AlreadyExists`] if something has the name.
    CreateNew,
    /// To read, and to write only at the end; made if missing.
    Append,
}

/// What came of an attempt to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It is ours until the file is closed.
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
    /// A socket, a device, a symbolic link that leads nowhere.
    Other,
}

/// Which file on which file system, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The file on it. A file system uses the number of a removed file again.
    pub inode: u64,
    /// When the file was made, in nanoseconds since 1970, which tells it from an earlier file of
    /// the same number; 0 if that is not known.
    pub born: u64,
}

impl FileId {
    /// The file that `metadata` describes, without its birth.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), born: 0 }
    }

    /// Whether both are the same file, as far as is known.
    pub fn is(self, other: Self) -> bool {
        let same_birth = self.born == other.born || self.born == 0 || other.born == 0;
        (self.device, self.inode) == (other.device, other.inode) && same_birth
    }
}

/// What a disk says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is. For a symbolic link, what it leads to.
    pub kind: Kind,
    /// Whether a symbolic link leads to it.
    pub linked: bool,
    /// Which it is.
    pub id: FileId,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
}

/// A disk. Every call may block; several threads call at once.
///
/// Paths named `path` are relative, with normal components only; an empty one is the folder itself.
///
/// # Errors
/// Every method fails with the errors of the system. Some say what else their errors mean.
#[expect(clippy::missing_errors_doc, reason = "they are the same for every method")]
pub trait Disk: Debug + Send + Sync {
    /// An open file. Closed on drop.
    type File: Debug + Send + Sync + 'static;
    /// An open folder. Closed on drop.
    type Folder: Debug + Send + Sync;

    /// Opens a folder by its user's path, made with those above it if it is missing and `create`.
    /// Answers also its canonical path.
    fn folder(&self, path: &Path, create: bool) -> io::Result<(Self::Folder, PathBuf)>;

    /// Opens the file `path` below `folder`.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::Unsupported`] where the last part is neither a file
    /// nor a folder, or a part of the path is a symbolic link and `access` is not [`Access::Read`].
    fn open(&self, folder: &Self::Folder, path: &Path, access: Access) -> io::Result<Self::File>;

    /// Makes a file without a name below `folder`, gone when it is closed.
    fn temporary(&self, folder: &Self::Folder) -> io::Result<Self::File>;

    /// A file that reads as `length` zeros.
    fn zeros(&self, length: u64) -> io::Result<Self::File>;

    /// What `path` below `folder` names, or what a symbolic link of that name leads to; `None` if
    /// nothing has the name.
    ///
    /// # Errors
    /// Those of the system, as for [`Disk::open`].
    fn stat(&self, folder: &Self::Folder, path: &Path) -> io::Result<Option<Stat>>;

    /// What an open file is.
    fn file_stat(&self, file: &Self::File) -> io::Result<Stat>;

    /// The names of everything in a folder, in any order.
    fn list(&self, folder: &Self::Folder) -> io::Result<Vec<PathBuf>>;

    /// Reads once at `offset`; 0 at the end of the file.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Has the system hold a range in memory, however long that takes; answers how many bytes of it
    /// the file has. A disk that can only read does so, into `scratch`, which must not be empty.
    fn make_resident(
        &self,
        file: &Self::File,
        offset: u64,
        length: u64,
        scratch: &mut [u8],
    ) -> io::Result<u64> {
        read_through(self, file, offset, length, scratch)
    }

    /// Writes once at `offset`, from many buffers in order; answers how many bytes were written.
    fn write_at(&self, file: &Self::File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Writes once at the end of a file opened with [`Access::Append`].
    fn append(&self, file: &Self::File, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts or extends a file: one of the store's own, or a payload file that is longer than it
    /// should be and that its user allowed to be overwritten.
    fn set_length(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Waits until the data of `file`, and its length, are on the disk.
    ///
    /// # Errors
    /// Those of the system. What was not synced may be lost, and later calls may not say so.
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;

    /// Waits until the names in the folder `path` below `folder` are on the disk.
    fn sync_folder(&self, folder: &Self::Folder, path: &Path) -> io::Result<()>;

    /// Waits until everything written to the file system of `folder` is on the disk.
    fn sync_file_system(&self, folder: &Self::Folder) -> io::Result<()>;

    /// Gives `from` the name `to`, replacing what had it. Both below `folder`.
    fn rename(&self, folder: &Self::Folder, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file `path` below `folder`.
    fn remove(&self, folder: &Self::Folder, path: &Path) -> io::Result<()>;

    /// Takes the advisory lock of a file, held until the file is closed.
    fn try_lock(&self, file: &Self::File) -> io::Result<Lock>;

    /// Takes the advisory lock of a range of a file, held until the file is closed or the range is
    /// unlocked; `false` if another open file has locked a range that overlaps. Ranges that the
    /// same open file holds do not conflict. Has nothing to do with [`Disk::try_lock`].
    fn lock_range(&self, file: &Self::File, range: &Range<u64>) -> io::Result<bool>;

    /// A range that another open file has locked and that overlaps this one.
    fn range_holder(&self, file: &Self::File, range: &Range<u64>)
    -> io::Result<Option<Range<u64>>>;

    /// Gives the lock of a range back.
    fn unlock_range(&self, file: &Self::File, range: &Range<u64>) -> io::Result<()>;

    /// Where, from `offset` on, the file has data next; `None` if only a hole or the end follows.
    /// A disk that does not know holes answers `offset`.
    fn next_data(&self, file: &Self::File, offset: u64) -> io::Result<Option<u64>>;

    /// Reserves room for `length` bytes and makes the file at least that long. A disk that can't
    /// does nothing.
    fn allocate(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Says that a range will be read soon. A hint: it can't fail.
    fn prefetch(&self, file: &Self::File, offset: u64, length: u64);

    /// The file system of `folder`, and the bytes free on it if it says so.
    fn file_system(&self, folder: &Self::Folder) -> io::Result<(u64, Option<u64>)>;

    /// Whether an open failed because the process has too many files open: worth another try after
    /// some were closed.
    fn is_out_of_handles(&self, error: &io::Error) -> bool;

    /// Whether a file in this folder keeps its [`FileId`] also while nobody has it open. False on
    /// FAT, exFAT, FUSE and SMB.
    fn has_stable_ids(&self, _: &Self::Folder) -> bool {
        true
    }

    /// Which names files get in this folder: [`Naming::Unix`] unless its file system is known to
    /// refuse some of them.
    fn naming(&self, _: &Self::Folder) -> Naming {
        Naming::Unix
    }

    /// Which names to try instead, if a file could not be made because of its name.
    fn naming_after(&self, _: &io::Error) -> Option<Naming> {
        None
    }

    /// A number that is another after each start of the system; 0 if that is not known.
    fn boot(&self) -> u128;

    /// The number by which a lock's holder is named to others.
    fn process_id(&self) -> u32;
}

/// The error for what is neither a file nor a folder.
pub(crate) fn not_a_file() -> io::Error {
    let message = "it is a symbolic link or a special file, which is never written to";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Makes a range resident by reading it, a part after another into `scratch`.
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

//! What can go wrong between pieces and the disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What the store was doing when the disk failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening or making a folder.
    OpenFolder,
    /// Opening an existing file.
    Open,
    /// Making a file, and the folders above it.
    Create,
    /// Reading a file's length and time.
    Stat,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Reserving disk space ahead of the download.
    Allocate,
    /// Waiting until data is on the disk.
    Sync,
    /// Taking the advisory lock.
    Lock,
    /// Giving a finished file its name.
    Rename,
    /// Removing a temporary file.
    Remove,
    /// Listing a folder.
    List,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenFolder => "open folder",
            Self::Open => "open",
            Self::Create => "create",
            Self::Stat => "access",
            Self::Read => "read",
            Self::Write => "write",
            Self::Allocate => "reserve space for",
            Self::Sync => "sync",
            Self::Lock => "lock",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::List => "list",
        })
    }
}

/// Why an existing file is not taken for a part of the torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrelated {
    /// Occurs when the file is longer than the torrent says.
    #[error("expected at most {expected} bytes, got {got}")]
    TooLong {
        /// Its length in the torrent.
        expected: u64,
        /// Its length on the disk.
        got: u64,
    },
    /// Occurs when the file has data and none of its pieces verifies.
    #[error("nothing in it belongs to the torrent")]
    NothingVerifies,
}

/// An operation on a torrent's data failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Occurs when the operating system refuses an operation on a file or folder.
    #[error("cannot {operation} {}: {message}{}", path.display(), hint(*kind, *code))]
    Disk {
        /// What was tried.
        operation: Operation,
        /// On which file or folder.
        path: PathBuf,
        /// The kind of the failure.
        kind: io::ErrorKind,
        /// The number the operating system gave.
        code: Option<i32>,
        /// The system's message.
        message: String,
    },
    /// Occurs when another process, or this one, has the same torrent open in the same folder.
    #[error("{} is in use by {}; stop it first, or choose another folder", path.display(), holder(*pid))]
    InUse {
        /// The folder, or the file of [`crate::StoreLayout::SinglePiece`].
        path: PathBuf,
        /// The process that has it open, if known.
        pid: Option<u32>,
    },
    /// Occurs when an unrelated file has the name of a wanted one.
    #[error(
        "{} is not this torrent's file: {reason}; move it away, choose another folder, or allow it to be overwritten",
        path.display()
    )]
    UnrelatedFile {
        /// The file.
        path: PathBuf,
        /// Why it is unrelated.
        reason: Unrelated,
    },
    /// Occurs when a file is to be written that another torrent writes to.
    #[error("{} belongs to {by}; {}", path.display(), way_out(*in_use))]
    Claimed {
        /// The file.
        path: PathBuf,
        /// The owner, described for the user.
        by: String,
        /// Whether the owner is in use. If so, the file can't be overwritten.
        in_use: bool,
    },
    /// Occurs when a file is to be written that a symbolic link leads to.
    #[error(
        "{} is a symbolic link to a file that is not complete; put a copy in its place, or move the link away",
        path.display()
    )]
    Linked {
        /// The link, or the path through one.
        path: PathBuf,
    },
    /// Occurs when a job names a torrent that was not opened, or is already closed.
    #[error("the torrent is not open")]
    NotOpen,
    /// Occurs when a torrent is to be written before its check is finished.
    #[error("the torrent's check is not finished")]
    NotChecked,
    /// Occurs when a seed-only torrent is to be written.
    #[error("the torrent was opened for seeding only")]
    SeedOnly,
    /// Occurs when a missing piece is to be read.
    #[error("piece {piece} is missing")]
    Missing {
        /// The piece.
        piece: u32,
    },
    /// Occurs when blocks of a verified piece are to be written.
    #[error("piece {piece} is already complete")]
    AlreadyComplete {
        /// The piece.
        piece: u32,
    },
    /// Occurs when a job's spans are not those of the piece.
    #[error("expected the spans of piece {piece}, {expected} bytes, got {got}")]
    Spans {
        /// The piece.
        piece: u32,
        /// How many bytes they should have.
        expected: u64,
        /// How many they had.
        got: u64,
    },
    /// Occurs when a piece has data in padding, which is not stored (BEP 47).
    #[error("expected the padding in piece {piece} to be zero")]
    Padding {
        /// The piece.
        piece: u32,
    },
    /// Occurs when a sync failed while a piece was being written. The piece may not be on disk.
    #[error("piece {piece} was being written when a sync of its torrent failed")]
    SyncFailed {
        /// The piece.
        piece: u32,
    },
}

impl StoreError {
    /// The error of `operation` on `path`.
    pub fn disk(operation: Operation, path: &Path, error: &io::Error) -> Self {
        let message = match error.raw_os_error() {
            // Without the "(os error 28)" that only repeats the code.
            Some(code) => error.to_string().replace(&format!(" (os error {code})"), ""),
            None => error.to_string(),
        };
        let (kind, code) = (error.kind(), error.raw_os_error());
        Self::Disk { operation, path: path.to_owned(), kind, code, message: lower(&message) }
    }

    /// Whether the message ends with the advice to choose another folder, so that a program can
    /// name its flag for that.
    pub fn advises_other_folder(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Disk { kind, .. } => matches!(
                kind,
                Kind::PermissionDenied
                    | Kind::ReadOnlyFilesystem
                    | Kind::NotADirectory
                    | Kind::IsADirectory
                    | Kind::AlreadyExists
                    | Kind::Unsupported
            ),
            Self::InUse { .. } | Self::Claimed { in_use: true, .. } => true,
            Self::Claimed { in_use: false, .. }
            | Self::UnrelatedFile { .. }
            | Self::Linked { .. }
            | Self::NotOpen
            | Self::NotChecked
            | Self::SeedOnly
            | Self::Missing { .. }
            | Self::AlreadyComplete { .. }
            | Self::Spans { .. }
            | Self::Padding { .. }
            | Self::SyncFailed { .. } => false,
        }
    }
}

/// What the user can do about it.
fn hint(kind: io::ErrorKind, code: Option<i32>) -> &'static str {
    use io::ErrorKind as Kind;
    if is_out_of_descriptors(code) {
        return "; raise the limit of open files (ulimit -n), then run it again";
    }
    match kind {
        Kind::StorageFull | Kind::QuotaExceeded => "; free some space, then run it again",
        Kind::PermissionDenied => "; change its permissions, or choose another folder",
        Kind::ReadOnlyFilesystem => "; choose another folder",
        Kind::NotADirectory | Kind::IsADirectory | Kind::AlreadyExists => {
            "; a file, folder or link is in the way: move it, or choose another folder"
        }
        Kind::NotFound => "; check the path",
        Kind::ResourceBusy => "; run it again to check what is left",
        Kind::FileTooLarge => "; the file system cannot hold a file of this length",
        Kind::UnexpectedEof => "; it is shorter than before: verify the torrent",
        Kind::Unsupported => "; move it away, or choose another folder",
        Kind::InvalidInput => "; the file system does not support this",
        _ => "; check the disk, then run it again",
    }
}

/// Whether `code`, the [`io::Error::raw_os_error`] of an error, says that the process or the system
/// has too many files open.
///
/// ```
/// let error = std::io::Error::from_raw_os_error(24);
/// assert!(piece_store::is_out_of_descriptors(error.raw_os_error()));
/// ```
pub fn is_out_of_descriptors(code: Option<i32>) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    code.is_some_and(|code| codes.contains(&code))
}

/// What the user can do about a file that another torrent owns.
fn way_out(in_use: bool) -> &'static str {
    match in_use {
        true => "stop it, or choose another folder",
        false => "choose another folder, move the file away, or allow it to be overwritten",
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Returns `text` with a lower-case first letter, for the middle of a sentence.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_advice_ends_the_message() {
        let path = || PathBuf::from("p");
        let disk =
            |errno: Errno| StoreError::disk(Operation::Open, &path(), &io::Error::from(errno));
        let claimed =
            |in_use| StoreError::Claimed { path: path(), by: "another torrent".to_owned(), in_use };
        let refused = [Errno::ACCESS, Errno::ROFS, Errno::NOTDIR, Errno::EXIST, Errno::NOTSUP];
        for error in refused.map(disk) {
            assert!(error.advises_other_folder(), "{error}");
        }
        for error in [Errno::MFILE, Errno::NOSPC, Errno::NOENT, Errno::IO].map(disk) {
            assert!(!error.advises_other_folder(), "{error}");
        }
        assert!(StoreError::InUse { path: path(), pid: None }.advises_other_folder());
        assert!(claimed(true).advises_other_folder() && !claimed(false).advises_other_folder());
    }
}

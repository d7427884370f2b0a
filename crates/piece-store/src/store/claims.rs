//! Finds which other torrent claims a file, by reading the journals in the state folder.
//!
//! A claim is a record in a journal that a file is that torrent's own to write. It lasts as long as
//! the journal, and only while the recorded path leads to the recorded file. A store records its
//! own claim before it looks for others. So of two that want the same file at the same time, at
//! least one sees the other.
//!
//! A torrent that only reads a file has no claim. While it is open, nobody else may write more to
//! the file than pieces that this shares with other files.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::history::{self, Claims};
use super::journal::{self, JournalAt};
use super::lock::StateFolder;
use super::owner::Hold;
use crate::{Disk, FileId, Operation, StoreError};

/// The owner of a claim on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// Another entry of the same torrent.
    Entry,
    /// Another torrent.
    Torrent {
        /// Its name and info-hash, for people.
        torrent: String,
        /// Whether it is open in this process or another.
        in_use: bool,
    },
}

impl Claim {
    /// The error for a file at `path` that somebody with this claim has.
    pub(super) fn refusal(&self, path: PathBuf) -> StoreError {
        let in_use = !matches!(self, Self::Torrent { in_use: false, .. });
        StoreError::Claimed { path, by: self.to_string(), in_use }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry => f.write_str("another entry of this torrent"),
            Self::Torrent { torrent, in_use: true } => write!(f, "{torrent}, which is in use"),
            Self::Torrent { torrent, .. } => f.write_str(torrent),
        }
    }
}

/// What the journals of all other torrents in a state folder say.
#[derive(Debug)]
pub(super) struct OtherClaims<'a, D: Disk> {
    state: StateFolder<'a, D>,
    journals: Vec<Claims>,
}

/// A file that somebody may have a claim on.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: FileId,
    /// Its path, absolute.
    pub(super) path: PathBuf,
    /// Whether file ids are stable there. If not, paths are compared.
    pub(super) stable: bool,
    /// Whether more than the pieces that it shares with other files will be written. That would
    /// change what a torrent reads that has all of the file.
    pub(super) changes: bool,
}

impl<'a, D: Disk> OtherClaims<'a, D> {
    /// Reads all journals but that at `own`. A file that is no journal claims nothing.
    ///
    /// # Errors
    /// The folder or a journal can't be read: it may claim anything.
    pub(super) fn load(state: StateFolder<'a, D>, own: &JournalAt<D>) -> Result<Self, StoreError> {
        let own = own.file_name(journal::EXTENSION);
        let failed =
            |name: &Path, error| StoreError::disk(Operation::Read, &state.path.join(name), &error);
        let listed = state.disk.list(state.folder).map_err(|error| failed(Path::new(""), error))?;
        let is_other = |name: &PathBuf| {
            *name != own && name.extension().is_some_and(|end| end == journal::EXTENSION)
        };
        let mut journals = Vec::new();
        for name in listed.into_iter().filter(is_other) {
            let bytes = journal::read(state.disk, state.handles, state.folder, &name);
            let bytes = bytes.map_err(|error| failed(&name, error))?;
            journals.extend(bytes.and_then(|(bytes, _)| history::claims_in(&bytes)));
        }
        Ok(Self { state, journals })
    }

    /// Returns a claim on the file, that of a torrent in use if there is one.
    ///
    /// # Errors
    /// A claimed path or a lock cannot be examined.
    pub(super) fn find(&self, file: &Wanted) -> Result<Option<Claim>, StoreError> {
        let mut idle = None;
        for journal in &self.journals {
            let Some(is_writer) = self.use_of(journal, file)? else { continue };
            let in_use = self.state.is_in_use(journal.name)?;
            let name = journal.name.info_hash();
            let torrent = format!("the torrent \"{}\" ({name})", journal.torrent);
            match in_use {
                true if is_writer || file.changes => {
                    return Ok(Some(Claim::Torrent { torrent, in_use }));
                }
                false if is_writer => idle = Some(Claim::Torrent { torrent, in_use }),
                _ => {}
            }
        }
        Ok(idle)
    }

    /// Whether the torrent of a journal writes the file; `None` if it does not even read it.
    fn use_of(&self, journal: &Claims, file: &Wanted) -> Result<Option<bool>, StoreError> {
        let mut found = None;
        for recorded in &journal.files {
            let path = &recorded.path;
            let is_same = match file.stable {
                true => recorded.id.is(file.id) && self.leads_to(&journal.folder, path, file.id)?,
                false => journal.folder.join(path) == file.path,
            };
            if is_same {
                found = Some(found.unwrap_or(false) || recorded.hold != Hold::Read);
            }
        }
        Ok(found)
    }

    /// Whether a recorded path still leads to the file.
    fn leads_to(&self, folder: &Path, path: &Path, id: FileId) -> Result<bool, StoreError> {
        let (disk, handles) = (self.state.disk, self.state.handles);
        let stat = handles.make_room(disk, || {
            let (folder, _) = disk.folder(folder, false)?;
            disk.stat(&folder, path)
        });
        match stat {
            Ok(stat) => Ok(stat.is_some_and(|stat| stat.id.is(id))),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(StoreError::disk(Operation::Stat, &folder.join(path), &error)),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

//! Finds the other torrents that claim a file, by reading the journals in the state folder.
//!
//! A claim is a record in a journal that a file is that torrent's own to write. It lasts as long as
//! the journal, and only while the recorded path leads to the recorded file. A store records its
//! own claim before it looks for others. If two stores want the same file at the same time, at
//! least one of them sees the other's claim.
//!
//! A torrent that only reads a file has no claim. While it is open, other torrents may write to the
//! file only pieces that this file shares with other files.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::history::{self, JournalClaims};
use super::journal::{self, JournalLocation};
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
    /// The error for a file at `path` with this claim on it.
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
    journals: Vec<JournalClaims>,
}

/// A file that another torrent may have a claim on.
#[derive(Debug)]
pub(super) struct ClaimQuery {
    pub(super) id: FileId,
    /// Its path, absolute.
    pub(super) path: PathBuf,
    /// Whether file ids are stable on its file system. If not, paths are compared.
    pub(super) stable: bool,
    /// Whether pieces will be written that are not shared with other files. That would change the
    /// file for a torrent that has all of it.
    pub(super) changes: bool,
}

impl<'a, D: Disk> OtherClaims<'a, D> {
    /// Reads all journals except `own`. Files that are no journals claim nothing.
    ///
    /// # Errors
    /// The folder or a journal can't be read: the journal may claim any file.
    pub(super) fn load(
        state: StateFolder<'a, D>,
        own: &JournalLocation<D>,
    ) -> Result<Self, StoreError> {
        let own = own.file_name(journal::EXTENSION);
        let failed =
            |name: &Path, error| StoreError::disk(Operation::Read, &state.path.join(name), &error);
        let listed =
            state.shared.disk.list(state.folder).map_err(|error| failed(Path::new(""), error))?;
        let is_other = |name: &PathBuf| {
            *name != own && name.extension().is_some_and(|end| end == journal::EXTENSION)
        };
        let mut journals = Vec::new();
        for name in listed.into_iter().filter(is_other) {
            let bytes = journal::read(state.shared, state.folder, &name);
            let bytes = bytes.map_err(|error| failed(&name, error))?;
            journals.extend(bytes.and_then(|(bytes, _)| history::claims_in(&bytes)));
        }
        Ok(Self { state, journals })
    }

    /// Returns a claim on the file, preferably that of a torrent in use.
    ///
    /// # Errors
    /// A claimed path or a lock cannot be examined.
    pub(super) fn find(&self, file: &ClaimQuery) -> Result<Option<Claim>, StoreError> {
        let mut idle = None;
        for journal in &self.journals {
            let Some(is_writer) = self.use_of(journal, file)? else { continue };
            let in_use = self.state.is_in_use(journal.name)?;
            let name = journal.name.info_hash();
            let torrent = format!("the torrent \"{}\" ({name})", journal.torrent);
            if in_use && (is_writer || file.changes) {
                return Ok(Some(Claim::Torrent { torrent, in_use }));
            }
            if !in_use && is_writer {
                idle = Some(Claim::Torrent { torrent, in_use });
            }
        }
        Ok(idle)
    }

    /// Whether the torrent of a journal writes the file; `None` if it does not use it.
    fn use_of(
        &self,
        journal: &JournalClaims,
        file: &ClaimQuery,
    ) -> Result<Option<bool>, StoreError> {
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
        let shared = self.state.shared;
        let stat = shared.make_room(|| {
            let (folder, _) = shared.disk.folder(folder, false)?;
            shared.disk.stat(&folder, path)
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

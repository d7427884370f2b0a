//! Which other torrent writes to a file, as the journals beside our own say.
//!
//! A claim is a record in a journal that a file is that torrent's own to write. It lasts as long as
//! the journal, and only while the recorded path leads to the recorded file. Whoever wants to adopt a
//! file records its own claim first and looks for others then. So of two that want the same file at the
//! same time, at least one sees the other.

use std::fmt;
use std::path::{Path, PathBuf};

use super::history::{self, Claims};
use super::journal::{self, JournalAt};
use super::lock::StateFolder;
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

/// The claims of all other torrents in a state folder.
#[derive(Debug)]
pub(super) struct OtherClaims<'a, D: Disk> {
    state: StateFolder<'a, D>,
    journals: Vec<Claims>,
}

/// A file that somebody may have a claim on.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) id: FileId,
    /// Its path, absolute.
    pub(super) path: &'a Path,
    /// Whether ids last where it is: else only the path tells.
    pub(super) stable: bool,
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
            journals.extend(bytes.and_then(|bytes| history::claims_in(&bytes)));
        }
        Ok(Self { state, journals })
    }

    /// Who else has a claim on the file.
    pub(super) fn find(&self, file: &Wanted<'_>) -> Result<Option<Claim>, StoreError> {
        let claims = |journal: &&Claims| {
            journal.files.iter().any(|(path, id)| self.leads_to(&journal.folder, path, *id, file))
        };
        let Some(journal) = self.journals.iter().find(claims) else { return Ok(None) };
        let in_use = self.state.is_in_use(journal.name)?;
        let torrent = format!("the torrent \"{}\" ({})", journal.torrent, journal.name.info_hash());
        Ok(Some(Claim::Torrent { torrent, in_use }))
    }

    /// Whether a recorded file is the wanted one, and its path still leads to it.
    fn leads_to(&self, folder: &Path, path: &Path, id: FileId, file: &Wanted<'_>) -> bool {
        if !file.stable {
            return folder.join(path) == file.path;
        }
        let is_there = || {
            let (folder, _) = self.state.disk.folder(folder, false).ok()?;
            self.state.disk.stat(&folder, path).ok()?
        };
        id.is(file.id) && is_there().is_some_and(|stat| stat.id.is(file.id))
    }
}

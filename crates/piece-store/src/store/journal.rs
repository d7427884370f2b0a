//! The journal's file: one for each torrent and save path, in the user's state folder.
//!
//! Beside `NAME.journal` is `NAME.parts`, the parts file. While the journal is open, the torrent is
//! [locked](super::lock).
//!
//! The file is closed while everything in it is synced, so that an idle torrent has none open.
//!
//! A record is one write at the end of the file. If the write is cut short, the file is cut back
//! before the next record, so that no good record ever follows a torn one. Each launch replaces the
//! file before it changes anything, and whenever the file has grown to twice the length that it
//! needs: a new file is written, synced and renamed, and its folder is synced. A launch that
//! changes nothing leaves the file as the last one closed it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{Geometry, InfoHashV1};

use super::history::History;
use super::lock::StateFolder;
use super::record::{HEADER_LENGTH, Header, Record};
use super::shared::SharedDisk;
use crate::{Access, Disk, Kind, Operation, Stat, StoreError};

/// The extension of a journal's name.
pub(super) const EXTENSION: &str = "journal";
/// A longer file is not our journal and is not read, in bytes.
const MAX_JOURNAL_LENGTH: u64 = 256 << 20;
/// A shorter journal is not rewritten, in bytes.
const MIN_REWRITE_LENGTH: u64 = 64 * 1024;

/// An open journal. It holds the lock of the torrent.
#[derive(Debug)]
pub(super) struct Journal<D: Disk> {
    shared: Arc<SharedDisk<D>>,
    at: Arc<JournalLocation<D>>,
    /// Open from the first unsynced record until the sync.
    file: Option<Arc<D::File>>,
    /// Whether the file on the disk is what was written, as far as we know.
    trusted: bool,
    /// How long the file is, good records only.
    length: u64,
    /// How long it was when it was last rewritten.
    rewritten_length: u64,
    /// Whether a failed write may have left bytes after the good records.
    damaged: bool,
}

/// Where a torrent's journal is, and the files beside it.
#[derive(Debug)]
pub(super) struct JournalLocation<D: Disk> {
    pub(super) folder: D::Folder,
    /// The canonical path of the folder.
    pub(super) folder_path: Arc<Path>,
    header: Header,
}

impl<D: Disk> JournalLocation<D> {
    /// Opens the state folder of the journal of `key`. If it is missing, it is made if `create`.
    pub(super) fn open(
        shared: &SharedDisk<D>,
        state_dir: &Path,
        key: &JournalKey<'_>,
        create: bool,
    ) -> Result<Self, StoreError> {
        let folder = shared.make_room(|| shared.disk.folder(state_dir, create));
        let (folder, folder_path) =
            folder.map_err(|error| StoreError::disk(Operation::OpenFolder, state_dir, &error))?;
        let path = piece_hash::sha1(key.save_path.as_os_str().as_encoded_bytes());
        let header = Header { info_hash: key.info_hash, path, pieces: key.geometry.piece_count() };
        Ok(Self { folder, folder_path: shared.share_path(&folder_path), header })
    }

    pub(super) fn file_name(&self, extension: &str) -> PathBuf {
        PathBuf::from(format!("{}.{extension}", self.header.name()))
    }

    /// The folder that it is in.
    pub(super) fn state<'a>(&'a self, shared: &'a SharedDisk<D>) -> StateFolder<'a, D> {
        StateFolder { shared, folder: &self.folder, path: &self.folder_path }
    }

    /// Reads the journal. Returns what it says and how many bytes of it are good, or `None` if
    /// there is none.
    pub(super) fn history(
        &self,
        shared: &SharedDisk<D>,
        geometry: &Geometry,
    ) -> Result<Option<(History, usize)>, StoreError> {
        let name = self.file_name(EXTENSION);
        let bytes = read(shared, &self.folder, &name).map_err(|error| {
            StoreError::disk(Operation::Read, &self.folder_path.join(&name), &error)
        })?;
        let Some((bytes, stat)) = bytes else { return Ok(None) };
        let mut replayed = History::replay(&bytes, &self.header, geometry);
        replayed.iter_mut().for_each(|(history, _)| history.modified = stat.modified);
        Ok(replayed)
    }
}

/// Returns the bytes of the journal `name` and its `Stat`, or `None` unless it is a file of a
/// length that a journal can have.
pub(super) fn read<D: Disk>(
    shared: &SharedDisk<D>,
    folder: &D::Folder,
    name: &Path,
) -> std::io::Result<Option<(Vec<u8>, Stat)>> {
    let disk = &shared.disk;
    let is_file = disk.stat(folder, name)?.is_some_and(|stat| stat.kind == Kind::File);
    let file = match shared.open(folder, name, Access::Read) {
        _ if !is_file => return Ok(None),
        // Another program removed it since.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let stat = disk.file_stat(&file)?;
    if !(HEADER_LENGTH as u64..=MAX_JOURNAL_LENGTH).contains(&stat.length) {
        return Ok(None);
    }
    let mut bytes = vec![0; stat.length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match disk.read_at(&file, &mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(Some((bytes, stat)))
}

/// Which journal it is.
#[derive(Debug, Clone)]
pub(super) struct JournalKey<'a> {
    pub(super) info_hash: InfoHashV1,
    /// The canonical path of the download folder.
    pub(super) save_path: &'a Path,
    pub(super) geometry: Geometry,
}

impl<D: Disk> Journal<D> {
    /// Locks the torrent and reads the history. Records can be appended only after the first
    /// [`Self::rewrite`].
    pub(super) fn open(
        shared: Arc<SharedDisk<D>>,
        at: JournalLocation<D>,
        save_path: &Path,
        geometry: &Geometry,
    ) -> Result<(Self, History), StoreError> {
        at.state(&shared).lock(at.header.name(), save_path)?;
        let mut journal = Self {
            at: Arc::new(at),
            file: None,
            trusted: false,
            length: 0,
            rewritten_length: 0,
            damaged: true,
            shared,
        };
        let history = journal.at.history(&journal.shared, geometry)?;
        let (history, length) = history.unwrap_or((History::new(geometry.piece_count()), 0));
        journal.length = length as u64;
        Ok((journal, history))
    }

    /// Appends records to the journal as the last launch left it, and syncs them.
    pub(super) fn amend(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.trusted = true;
        self.append(records)?;
        let synced = self.file.take().map_or(Ok(()), |file| self.shared.disk.sync_file(&file));
        synced.map_err(|error| self.sync_error(&error))
    }

    /// Appends records with one write. They survive the end of the process, not a power cut.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(self.length, &mut bytes));
        let name = self.at.file_name(EXTENSION);
        let file = self.opened(&name)?;
        self.mend(&name)?;
        let appended = self.append_all(&file, &bytes);
        self.damaged = appended.is_err();
        appended.map_err(|error| self.error(Operation::Write, &name, &error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Writes all `bytes` at once. The disk is full if it takes fewer.
    fn append_all(&self, file: &D::File, bytes: &[u8]) -> std::io::Result<()> {
        match self.shared.disk.append(file, bytes)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(std::io::ErrorKind::StorageFull.into()),
        }
    }

    /// The file, opened if it was closed.
    fn opened(&mut self, name: &Path) -> Result<Arc<D::File>, StoreError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        if !self.trusted {
            let error = std::io::Error::other("it must be replaced first, and that failed");
            return Err(self.error(Operation::Write, name, &error));
        }
        let opened = self.open_file(name, Access::Append);
        let file = Arc::new(opened.map_err(|error| self.error(Operation::Open, name, &error))?);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn open_file(&self, name: &Path, access: Access) -> std::io::Result<D::File> {
        self.shared.open(&self.at.folder, name, access)
    }

    /// Cuts off what a failed write may have left.
    fn mend(&self, name: &Path) -> Result<(), StoreError> {
        if let (true, Some(file)) = (self.damaged, &self.file) {
            let cut = self.shared.disk.set_length(file, self.length);
            cut.map_err(|error| self.error(Operation::Write, name, &error))?;
        }
        Ok(())
    }

    /// Returns the file and its present length, so that it can be synced while others append;
    /// `None` if everything is synced.
    pub(super) fn unsynced(&self) -> Option<(Arc<D::File>, u64)> {
        self.file.clone().map(|file| (file, self.length))
    }

    /// Records that the file is synced up to `length`. Closes it if that is all of it.
    pub(super) fn handle_synced(&mut self, length: u64) {
        if self.length == length && !self.damaged {
            self.file = None;
        }
    }

    /// Records that the file must be replaced. A sync of it failed, and later ones prove nothing.
    pub(super) fn distrust(&mut self) {
        self.rewritten_length = 0;
        self.file = None;
        self.trusted = false;
    }

    /// Whether the file is twice as long as it needs to be, or is not trusted.
    pub(super) fn wants_rewrite(&self) -> bool {
        !self.trusted || self.length > MIN_REWRITE_LENGTH.max(2 * self.rewritten_length)
    }

    /// Replaces the file with one that has only `records`, and syncs it.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let new = self.at.file_name("journal.new");
        let length = self.write_new(&new, records)?;
        // If the rest fails, either of the two may have the name after a power cut.
        self.distrust();
        self.rename_new(&new)?;
        self.trusted = true;
        self.length = length;
        self.rewritten_length = length;
        self.damaged = false;
        Ok(())
    }

    /// Makes, writes and syncs the file `new`. Returns its length.
    fn write_new(&self, new: &Path, records: &[Record]) -> Result<u64, StoreError> {
        let failed = |operation, error| self.error(operation, new, &error);
        let mut bytes = self.at.header.encode();
        records.iter().for_each(|record| record.encode(0, &mut bytes));
        let file = self.open_file(new, Access::Append);
        let file = file.map_err(|error| failed(Operation::Create, error))?;
        let write = || {
            self.shared.disk.set_length(&file, 0)?;
            self.append_all(&file, &bytes)
        };
        write().map_err(|error| failed(Operation::Write, error))?;
        self.shared.disk.sync_file(&file).map_err(|error| failed(Operation::Sync, error))?;
        Ok(bytes.len() as u64)
    }

    /// Gives the file `new` the journal's name.
    fn rename_new(&self, new: &Path) -> Result<(), StoreError> {
        let failed = |operation, error| self.error(operation, new, &error);
        let rename = self.shared.disk.rename(&self.at.folder, new, &self.at.file_name(EXTENSION));
        rename.map_err(|error| failed(Operation::Rename, error))?;
        let folder = self.shared.disk.sync_folder(&self.at.folder, Path::new(""));
        folder.map_err(|error| failed(Operation::Sync, error))
    }

    /// Where the journal and the parts file are.
    pub(super) fn at(&self) -> Arc<JournalLocation<D>> {
        Arc::clone(&self.at)
    }

    /// The error of a failed sync.
    pub(super) fn sync_error(&self, error: &std::io::Error) -> StoreError {
        self.error(Operation::Sync, &self.at.file_name(EXTENSION), error)
    }

    fn error(&self, operation: Operation, name: &Path, error: &std::io::Error) -> StoreError {
        StoreError::disk(operation, &self.at.folder_path.join(name), error)
    }
}

impl<D: Disk> Drop for Journal<D> {
    fn drop(&mut self) {
        self.file = None;
        self.at.state(&self.shared).unlock(self.at.header.name());
    }
}

//! The journal's file: one for each torrent and save path, in the user's state directory.
//!
//! Beside `NAME.journal` is `NAME.parts`, which has what boundary pieces need of unselected files.
//! As long as the journal is open, the torrent is [locked](super::lock).
//!
//! The file is closed while everything in it is synced, so that an idle torrent has none open.
//!
//! A record is one write at the end of the file. If it is cut short, the file is cut back before
//! the next, so that no good record ever follows a torn one. Each run replaces the file before it
//! changes anything, and each time it has grown to twice what it need be: a new one is written,
//! synced, renamed, and its folder synced. So a run that changes nothing leaves it as the last one
//! closed it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{Geometry, InfoHashV1};

use super::handles::Handles;
use super::history::History;
use super::lock::StateFolder;
use super::record::{HEADER_LENGTH, Header, Record};
use crate::{Access, Disk, Kind, Operation, Stat, StoreError};

/// The extension of a journal's name.
pub(super) const EXTENSION: &str = "journal";
/// A journal longer than this is not read: it is not ours.
const MAX_JOURNAL_LENGTH: u64 = 256 << 20;
/// A journal shorter than this is not worth rewriting.
const MIN_REWRITE_LENGTH: u64 = 64 * 1024;

/// An open journal. The torrent is ours as long as it lives.
#[derive(Debug)]
pub(super) struct Journal<D: Disk> {
    disk: Arc<D>,
    /// With them is the torrent's lock.
    handles: Arc<Handles<D::File>>,
    at: Arc<JournalAt<D>>,
    /// Open from the first record that is not synced to the sync.
    file: Option<Arc<D::File>>,
    /// Whether the file on the disk is what was written, as far as is known.
    trusted: bool,
    /// How long the file is, good records only.
    length: u64,
    /// How long it was when it was last rewritten.
    least: u64,
    /// Whether it must be rewritten before it can be trusted with a record.
    damaged: bool,
}

/// Where a torrent's journal is, and the files beside it.
#[derive(Debug)]
pub(super) struct JournalAt<D: Disk> {
    pub(super) folder: D::Folder,
    /// The canonical path of the folder.
    pub(super) folder_path: Arc<Path>,
    header: Header,
}

impl<D: Disk> JournalAt<D> {
    /// The place of the journal of `key`; the state folder is made if it is missing and `create`.
    pub(super) fn open(
        disk: &D,
        handles: &Handles<D::File>,
        state_dir: &Path,
        key: &JournalKey<'_>,
        create: bool,
    ) -> Result<Self, StoreError> {
        let folder = handles.make_room(disk, || disk.folder(state_dir, create));
        let (folder, folder_path) =
            folder.map_err(|error| StoreError::disk(Operation::OpenFolder, state_dir, &error))?;
        let path = piece_hash::sha1(key.save_path.as_os_str().as_encoded_bytes());
        let header = Header { info_hash: key.info_hash, path, pieces: key.geometry.piece_count() };
        Ok(Self { folder, folder_path: handles.share(&folder_path), header })
    }

    pub(super) fn file_name(&self, extension: &str) -> PathBuf {
        PathBuf::from(format!("{}.{extension}", self.header.name()))
    }

    /// The folder that it is in.
    pub(super) fn state<'a>(
        &'a self,
        disk: &'a D,
        handles: &'a Handles<D::File>,
    ) -> StateFolder<'a, D> {
        StateFolder { disk, handles, folder: &self.folder, path: &self.folder_path }
    }

    /// What the journal says, and how many bytes of it are good; `None` if there is none.
    pub(super) fn history(
        &self,
        disk: &D,
        handles: &Handles<D::File>,
        geometry: &Geometry,
    ) -> Result<Option<(History, usize)>, StoreError> {
        let name = self.file_name(EXTENSION);
        let bytes = read(disk, handles, &self.folder, &name).map_err(|error| {
            StoreError::disk(Operation::Read, &self.folder_path.join(&name), &error)
        })?;
        let Some((bytes, stat)) = bytes else { return Ok(None) };
        let mut replayed = History::replay(&bytes, &self.header, geometry);
        replayed.iter_mut().for_each(|(history, _)| history.modified = stat.modified);
        Ok(replayed)
    }
}

/// All of the journal `name`, and its `Stat`, if there is one of a length that makes sense.
pub(super) fn read<D: Disk>(
    disk: &D,
    handles: &Handles<D::File>,
    folder: &D::Folder,
    name: &Path,
) -> std::io::Result<Option<(Vec<u8>, Stat)>> {
    let is_file = disk.stat(folder, name)?.is_some_and(|stat| stat.kind == Kind::File);
    let file = match handles.make_room(disk, || disk.open(folder, name, Access::Read)) {
        _ if !is_file => return Ok(None),
        // Somebody removed it since.
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
    /// Takes the torrent and reads the history. The journal can be appended to only after the first
    /// [`Self::rewrite`].
    pub(super) fn take(
        disk: Arc<D>,
        handles: Arc<Handles<D::File>>,
        at: JournalAt<D>,
        save_path: &Path,
        geometry: &Geometry,
    ) -> Result<(Self, History), StoreError> {
        at.state(&*disk, &handles).take(at.header.name(), save_path)?;
        let mut journal = Self {
            at: Arc::new(at),
            file: None,
            trusted: false,
            length: 0,
            least: 0,
            damaged: true,
            handles,
            disk,
        };
        let history = journal.at.history(&*journal.disk, &journal.handles, geometry)?;
        let (history, length) = history.unwrap_or((History::new(geometry.piece_count()), 0));
        journal.length = length as u64;
        Ok((journal, history))
    }

    /// Appends records, and syncs them, to the journal as the last launch left it.
    pub(super) fn amend(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.trusted = true;
        self.append(records)?;
        let synced = self.file.take().map_or(Ok(()), |file| self.disk.sync_file(&file));
        synced.map_err(|error| self.sync_error(&error))
    }

    /// Appends records with one write. They survive the end of the process, not a power cut.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(self.length, &mut bytes));
        let name = self.at.file_name(EXTENSION);
        let file = self.opened(&name)?;
        self.mend(&name)?;
        match self.disk.append(&file, &bytes) {
            Ok(count) if count == bytes.len() => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Ok(_) => {
                self.damaged = true;
                let short = std::io::ErrorKind::StorageFull.into();
                Err(self.error(Operation::Write, &name, &short))
            }
            Err(error) => {
                self.damaged = true;
                Err(self.error(Operation::Write, &name, &error))
            }
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
        self.handles.make_room(&*self.disk, || self.disk.open(&self.at.folder, name, access))
    }

    /// Cuts off what a failed write may have left.
    fn mend(&mut self, name: &Path) -> Result<(), StoreError> {
        if let (true, Some(file)) = (self.damaged, &self.file) {
            let cut = self.disk.set_length(file, self.length);
            cut.map_err(|error| self.error(Operation::Write, name, &error))?;
            self.damaged = false;
        }
        Ok(())
    }

    /// The file, to be synced without holding up those who append, and how long it is now; `None`
    /// if everything is synced.
    pub(super) fn unsynced(&self) -> Option<(Arc<D::File>, u64)> {
        self.file.clone().map(|file| (file, self.length))
    }

    /// The file is synced up to `length`. Closes it if that is all of it.
    pub(super) fn handle_synced(&mut self, length: u64) {
        if self.length == length && !self.damaged {
            self.file = None;
        }
    }

    /// Says that the file must be replaced: a sync of it failed, and later ones prove nothing.
    pub(super) fn distrust(&mut self) {
        self.least = 0;
        self.file = None;
        self.trusted = false;
    }

    /// Whether the file is twice as long as it need be, or not to be trusted.
    pub(super) fn wants_rewrite(&self) -> bool {
        !self.trusted || self.length > MIN_REWRITE_LENGTH.max(2 * self.least)
    }

    /// Replaces the file by one that has only `records`, and syncs it.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let new = self.at.file_name("journal.new");
        let length = self.write_new(&new, records)?;
        // If the rest fails, it is not known which of the two has the name after a power cut.
        self.distrust();
        self.rename_new(&new)?;
        self.trusted = true;
        self.length = length;
        self.least = length;
        self.damaged = false;
        Ok(())
    }

    /// Makes, writes and syncs the file `new`; answers how long it is.
    fn write_new(&self, new: &Path, records: &[Record]) -> Result<u64, StoreError> {
        let failed = |operation, error| self.error(operation, new, &error);
        let mut bytes = self.at.header.encode();
        records.iter().for_each(|record| record.encode(0, &mut bytes));
        let file = self.open_file(new, Access::Append);
        let file = file.map_err(|error| failed(Operation::Create, error))?;
        let write = || {
            self.disk.set_length(&file, 0)?;
            match self.disk.append(&file, &bytes)? {
                count if count == bytes.len() => Ok(()),
                _ => Err(std::io::ErrorKind::StorageFull.into()),
            }
        };
        write().map_err(|error| failed(Operation::Write, error))?;
        self.disk.sync_file(&file).map_err(|error| failed(Operation::Sync, error))?;
        Ok(bytes.len() as u64)
    }

    /// Gives the file `new` the journal's name.
    fn rename_new(&self, new: &Path) -> Result<(), StoreError> {
        let failed = |operation, error| self.error(operation, new, &error);
        let rename = self.disk.rename(&self.at.folder, new, &self.at.file_name(EXTENSION));
        rename.map_err(|error| failed(Operation::Rename, error))?;
        let folder = self.disk.sync_folder(&self.at.folder, Path::new(""));
        folder.map_err(|error| failed(Operation::Sync, error))
    }

    /// Where it is, and the parts file.
    pub(super) fn at(&self) -> Arc<JournalAt<D>> {
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
        self.at.state(&*self.disk, &self.handles).give_back(self.at.header.name());
    }
}

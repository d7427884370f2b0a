//! Files on disk that are not files of the torrent: the parts file, the file of zeros, and the file
//! of a single piece.
//!
//! The parts file has the boundary bytes of unselected files, at the same offsets as in the
//! torrent. The rest of it is a hole. So its layout does not depend on which files are selected.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Store;
use super::journal::JournalLocation;
use super::layout::{Layout, Location};
use super::owner::Hold;
use super::resume::TorrentFile;
use crate::{Access, Disk, Lock, OpenSpec, Operation, SPAN_LENGTH, Stat, StoreError, StoreLayout};

/// The length of the file of zeros in bytes. Longer padding is served by reading it several times.
pub(super) const ZEROS_LENGTH: u64 = SPAN_LENGTH as u64;

/// The extension of the parts file.
const EXTENSION: &str = "parts";

/// The parts file and the file of zeros, opened when they are first needed.
#[derive(Debug)]
pub(super) struct PartsFile<D: Disk> {
    /// Beside the journal. Without a journal, it is a file without a name in the download folder.
    at: Option<Arc<JournalLocation<D>>>,
    file: Mutex<Option<Arc<D::File>>>,
    /// Whether its name was synced in this launch.
    name_synced: AtomicBool,
    zeros: Mutex<Option<Arc<D::File>>>,
}

impl<D: Disk> PartsFile<D> {
    pub(super) fn new(at: Option<Arc<JournalLocation<D>>>) -> Self {
        let name_synced = AtomicBool::new(false);
        Self { at, file: Mutex::default(), name_synced, zeros: Mutex::default() }
    }

    /// Whether the parts file has a name.
    pub(super) fn has_name(&self) -> bool {
        self.at.is_some()
    }

    /// Where the journal and the parts file are.
    pub(super) fn journal_location(&self) -> Option<&JournalLocation<D>> {
        self.at.as_deref()
    }

    /// Returns its `Stat`, or `None` if it is missing or has no name.
    pub(super) fn stat(&self, disk: &D) -> std::io::Result<Option<Stat>> {
        match &self.at {
            Some(at) => disk.stat(&at.folder, &at.file_name(EXTENSION)),
            None => Ok(None),
        }
    }

    /// Its path, for messages.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        match &self.at {
            Some(at) => at.folder_path.join(at.file_name(EXTENSION)),
            None => folder.to_owned(),
        }
    }
}

/// The file of [`StoreLayout::SinglePiece`], locked while it is open.
#[derive(Debug)]
pub(super) struct SingleFile<F> {
    pub(super) file: Arc<F>,
    /// Its name until it is finished.
    pub(super) temporary: PathBuf,
    /// Its final name.
    pub(super) output: PathBuf,
    /// Whether it has its final name.
    pub(super) finished: AtomicBool,
}

/// Creates, locks and empties the temporary file of a single piece.
pub(super) fn open_single<D: Disk>(
    disk: &D,
    folder: &D::Folder,
    spec: &OpenSpec,
    layout: &Layout,
) -> Result<Option<SingleFile<D::File>>, StoreError> {
    let (StoreLayout::SinglePiece { output, .. }, Some(slot)) =
        (&spec.layout, layout.slots.first())
    else {
        return Ok(None);
    };
    let folder_path = &layout.folder_path;
    let path = folder_path.join(slot.path());
    let failed = |error| StoreError::disk(Operation::Create, &path, &error);
    let name = output.file_name().map(PathBuf::from);
    let name = name.ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?;
    let file = disk.open(folder, slot.path(), Access::Create).map_err(failed)?;
    // Another process may have renamed it since we opened it. Then the lock is free, and the file
    // is a finished one.
    let is_ours = disk.try_lock(&file).map_err(failed)? != Lock::Busy && {
        let named = disk.stat(folder, slot.path()).map_err(failed)?;
        named.map(|stat| stat.id) == Some(disk.file_stat(&file).map_err(failed)?.id)
    };
    if !is_ours {
        return Err(StoreError::InUse { path: folder_path.join(name), pid: None });
    }
    disk.set_length(&file, 0).map_err(failed)?;
    let finished = AtomicBool::new(false);
    let file = Arc::new(file);
    Ok(Some(SingleFile { file, temporary: slot.path().to_path_buf(), output: name, finished }))
}

impl<D: Disk> Store<D> {
    /// Returns the open parts file, or `None` if it is missing and `make` is not set.
    pub(super) fn parts_file(&self, make: bool) -> Result<Option<Arc<D::File>>, StoreError> {
        let mut open = lock(&self.parts.file);
        if open.is_some() {
            return Ok(open.clone());
        }
        let make = make && !self.seed_only;
        let access = if make { Access::Create } else { Access::Write };
        let opened = match &self.parts.at {
            Some(at) => {
                self.make_room(|| self.disk().open(&at.folder, &at.file_name(EXTENSION), access))
            }
            None if make => self.make_room(|| self.disk().temporary(&self.folder)),
            None => return Ok(None),
        };
        let failed = |error| self.location_error(Operation::Open, Location::Parts, &error);
        let file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => Arc::new(opened.map_err(failed)?),
        };
        if make {
            let stat = self.disk().file_stat(&file).map_err(failed)?;
            let slot = self.layout.parts_slot();
            self.ledger().record_file(TorrentFile { slot, hold: Hold::Ours, id: stat.id })?;
        }
        *open = Some(Arc::clone(&file));
        drop(open);
        Ok(Some(file))
    }

    /// Syncs the parts file, which may be on another file system than the torrent's files, and its
    /// name, because a launch that was killed may have made the file. A parts file without a name
    /// needs no sync.
    pub(super) fn sync_parts(&self) -> Result<(), StoreError> {
        let file = lock(&self.parts.file).clone();
        let (Some(at), Some(file)) = (&self.parts.at, file) else { return Ok(()) };
        let failed = |error| self.location_error(Operation::Sync, Location::Parts, &error);
        self.disk().sync_file(&file).map_err(failed)?;
        if !self.parts.name_synced.load(Ordering::Relaxed) {
            let synced = self.make_room(|| self.disk().sync_folder(&at.folder, Path::new("")));
            synced.map_err(failed)?;
            self.parts.name_synced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns the `Stat` of the parts file, or `None` if it is missing.
    pub(super) fn stat_parts(&self) -> Result<Option<Stat>, StoreError> {
        let stat = self.make_room(|| self.parts.stat(self.disk()));
        stat.map_err(|error| self.location_error(Operation::Stat, Location::Parts, &error))
    }

    /// Returns the file of zeros, [`ZEROS_LENGTH`] long.
    pub(super) fn zeros(&self) -> Result<Arc<D::File>, StoreError> {
        let mut open = lock(&self.parts.zeros);
        if let Some(file) = &*open {
            return Ok(Arc::clone(file));
        }
        let made = self.make_room(|| self.disk().zeros(ZEROS_LENGTH));
        let failed = |error| self.location_error(Operation::Create, Location::Zeros, &error);
        let file = Arc::new(made.map_err(failed)?);
        *open = Some(Arc::clone(&file));
        Ok(file)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

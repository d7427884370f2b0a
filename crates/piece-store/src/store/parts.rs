//! Files of the layout that are not files of the torrent: the parts file, zeros, and the one file
//! of a single piece.
//!
//! The parts file keeps what boundary pieces need of files that are not wanted, at the same offsets
//! as in the torrent; the rest of it is a hole. So it means the same whichever files are selected.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Store;
use super::journal::JournalAt;
use super::layout::{Layout, Place};
use super::owner::Hold;
use super::resume::TorrentFile;
use crate::{Access, Disk, Lock, OpenSpec, Operation, SPAN_LENGTH, Stat, StoreError, StoreLayout};

/// How long the file of zeros is: padding is served from it, a longer one from its begin again.
pub(super) const ZEROS_LENGTH: u64 = SPAN_LENGTH as u64;

/// The extension of the parts file.
const EXTENSION: &str = "parts";

/// The parts file and the zeros, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Parts<D: Disk> {
    /// Beside the journal; without one, a file without a name in the download folder.
    at: Option<Arc<JournalAt<D>>>,
    file: Mutex<Option<Arc<D::File>>>,
    /// Whether its name was synced in this run.
    named: AtomicBool,
    zeros: Mutex<Option<Arc<D::File>>>,
}

impl<D: Disk> Parts<D> {
    pub(super) fn new(at: Option<Arc<JournalAt<D>>>) -> Self {
        let named = AtomicBool::new(false);
        Self { at, file: Mutex::default(), named, zeros: Mutex::default() }
    }

    /// Whether the parts file has a name.
    pub(super) fn have_a_name(&self) -> bool {
        self.at.is_some()
    }

    /// Where the journal is that the parts file is beside.
    pub(super) fn journal_at(&self) -> Option<&JournalAt<D>> {
        self.at.as_deref()
    }

    /// Its path, for people.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        match &self.at {
            Some(at) => at.folder_path.join(at.file_name(EXTENSION)),
            None => folder.to_owned(),
        }
    }
}

/// The file of [`StoreLayout::SinglePiece`], locked as long as it is open.
#[derive(Debug)]
pub(super) struct SingleFile<F> {
    pub(super) file: Arc<F>,
    /// The name it has until it is finished.
    pub(super) temporary: PathBuf,
    /// The name it gets.
    pub(super) output: PathBuf,
    /// Whether it has it.
    pub(super) finished: AtomicBool,
}

/// Makes, locks and empties the temporary file of a single piece.
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
    // Whoever had it may have given it its name since it was opened: then the lock is free, and the
    // file is a finished one.
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
    /// The parts file; `None` if it is not there and is not to be made.
    pub(super) fn parts_file(&self, make: bool) -> Result<Option<Arc<D::File>>, StoreError> {
        let mut open = lock(&self.parts.file);
        if open.is_some() {
            return Ok(open.clone());
        }
        let make = make && !self.read_only;
        let access = if make { Access::Create } else { Access::Write };
        let opened = match &self.parts.at {
            Some(at) => {
                self.make_room(|| self.disk.open(&at.folder, &at.file_name(EXTENSION), access))
            }
            None if make => self.make_room(|| self.disk.temporary(&self.folder)),
            None => return Ok(None),
        };
        let failed = |error| self.place_error(Operation::Open, Place::Parts, &error);
        let file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => Arc::new(opened.map_err(failed)?),
        };
        if make {
            let stat = self.disk.file_stat(&file).map_err(failed)?;
            let slot = self.layout.parts_slot();
            self.ledger().record_file(TorrentFile { slot, hold: Hold::Ours, id: stat.id })?;
        }
        *open = Some(Arc::clone(&file));
        drop(open);
        Ok(Some(file))
    }

    /// Syncs the parts file, which may be on another file system than those of the torrent, and its
    /// name: a run before may have made it and been killed. One without a name is not kept anyway.
    pub(super) fn sync_parts(&self) -> Result<(), StoreError> {
        let file = lock(&self.parts.file).clone();
        let (Some(at), Some(file)) = (&self.parts.at, file) else { return Ok(()) };
        let failed = |error| self.place_error(Operation::Sync, Place::Parts, &error);
        self.disk.sync_file(&file).map_err(failed)?;
        if !self.parts.named.load(Ordering::Relaxed) {
            let synced = self.make_room(|| self.disk.sync_folder(&at.folder, Path::new("")));
            synced.map_err(failed)?;
            self.parts.named.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What the parts file is, if it is there.
    pub(super) fn stat_parts(&self) -> Result<Option<Stat>, StoreError> {
        let Some(at) = &self.parts.at else { return Ok(None) };
        let stat = self.make_room(|| self.disk.stat(&at.folder, &at.file_name(EXTENSION)));
        stat.map_err(|error| self.place_error(Operation::Stat, Place::Parts, &error))
    }

    /// A file of zeros, [`ZEROS_LENGTH`] long.
    pub(super) fn zeros(&self) -> Result<Arc<D::File>, StoreError> {
        let mut open = lock(&self.parts.zeros);
        if let Some(file) = &*open {
            return Ok(Arc::clone(file));
        }
        let made = self.make_room(|| self.disk.zeros(ZEROS_LENGTH));
        let failed = |error| self.place_error(Operation::Create, Place::Zeros, &error);
        let file = Arc::new(made.map_err(failed)?);
        *open = Some(Arc::clone(&file));
        Ok(file)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

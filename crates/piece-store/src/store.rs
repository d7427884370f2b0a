//! One torrent's data on a disk: the work without the threads.
//!
//! Several workers share a [`Store`]. Two locks matter: that of the table of [open
//! files](open_files) and that of the [ledger]. Neither is held while payload is read, hashed or
//! written. Lock order: parts file, then ledger. A worker that writes to a file holds its [write
//! lock](open_files::OpenFiles::write_lock).
//!
//! Invariants:
//! - We have a piece only after its hash matched, its bytes were written and the journal has its
//!   `Written` record, in this order.
//! - No range of a piece that we have is ever written.
//! - A payload file is written only if it is [ours](owner). It is cut only if it is too long and
//!   the user allowed it to be overwritten.
//! - A failed sync proves nothing: the pieces that it was to make durable are missing afterwards.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bt_types::{Bitfield, Geometry, Sha1Digest};

use crate::{Access, Disk, Operation, SPAN_LENGTH, Stat, StoreError, is_out_of_descriptors};

mod adopt;
mod changed;
mod check;
mod claims;
mod commit;
mod correct;
mod dirty;
mod files;
mod history;
mod import;
mod journal;
mod layout;
mod ledger;
mod lock;
mod names;
mod open;
mod open_files;
mod owner;
mod parts;
mod read;
mod record;
mod resume;
mod settle;
mod shared;
mod stage;
mod staged;
mod sync;

pub(crate) use commit::hash_in_lanes;
#[cfg(any(test, feature = "fuzz"))]
pub use record::fuzz;
pub use shared::SharedDisk;

use layout::{Layout, Location};
use ledger::Ledger;
use parts::{PartsFile, SingleFile};

/// The length of a worker's scratch buffer, in bytes: how much is read at once to be hashed.
pub const STRIP_LENGTH: usize = SPAN_LENGTH as usize;

/// The data of one open torrent.
#[derive(Debug)]
pub struct Store<D: Disk> {
    shared: Arc<SharedDisk<D>>,
    /// The number under which its files are in the table.
    number: u64,
    layout: Arc<Layout>,
    folder: D::Folder,
    parts: PartsFile<D>,
    single: Option<Box<SingleFile<D::File>>>,
    preallocate: bool,
    overwrite: bool,
    seed_only: bool,
    /// See [`Disk::has_stable_ids`]: of its files and of the parts file.
    stable_ids: bool,
    /// The hash of a piece of zeros, computed when first needed.
    zero_piece: OnceLock<Sha1Digest>,
    ledger: Mutex<Ledger<D>>,
    /// Notified when a staged span has been hashed, or will not be.
    hashed: Condvar,
}

impl<D: Disk> Store<D> {
    /// The torrent's geometry.
    pub fn geometry(&self) -> Geometry {
        self.layout.geometry
    }

    /// The pieces that we have now.
    pub fn have(&self) -> Bitfield {
        self.ledger().have.clone()
    }

    /// The pieces that are durable now: we have them even after a power cut.
    pub fn durable(&self) -> Bitfield {
        self.ledger().durable.clone()
    }

    /// The paths of the files below the folder, in the torrent's order.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.layout.slots.iter().map(|slot| slot.path().to_owned()).collect()
    }

    fn disk(&self) -> &D {
        &self.shared.disk
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<D>> {
        // A worker that panicked leaves the ledger as it was before or after one record.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens by `open`. While the process has too many files open, closes half of them and tries
    /// again. Files that wait for a sync are closed too. The whole file system is synced instead of
    /// them.
    fn make_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if is_out_of_descriptors(error.raw_os_error()) => {
                self.ledger().close_touched();
                self.shared.make_room(open)
            }
            opened => opened,
        }
    }

    fn open_slot(&self, slot: u32, access: Access) -> io::Result<D::File> {
        self.make_room(|| self.disk().open(&self.folder, self.layout.path(slot), access))
    }

    /// What `path` below the download folder names.
    fn stat_path(&self, path: &Path) -> Result<Option<Stat>, StoreError> {
        let stat = self.make_room(|| self.disk().stat(&self.folder, path));
        stat.map_err(|error| self.layout.error(Operation::Stat, path, &error))
    }

    fn slot_error(&self, operation: Operation, slot: u32, error: &io::Error) -> StoreError {
        self.layout.error(operation, self.layout.path(slot), error)
    }

    fn location_error(
        &self,
        operation: Operation,
        location: Location,
        error: &io::Error,
    ) -> StoreError {
        let path = match location {
            Location::File(slot) => self.layout.full_path(slot),
            Location::Parts | Location::Zeros => self.parts.path(&self.layout.folder_path),
        };
        StoreError::disk(operation, &path, error)
    }
}

impl<D: Disk> Drop for Store<D> {
    fn drop(&mut self) {
        self.shared.files.close_store(self.number);
    }
}

//! Open folders, and what those who opened the same one share.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

/// An open folder, maybe shared with others who opened it.
#[derive(Debug)]
pub struct OsFolder {
    pub(super) shared: Arc<SharedFolder>,
    /// How many failed syncs of the shared one its owner knows of.
    known_failures: AtomicU64,
}

/// What those who opened the same folder share.
///
/// The system tells of a failed sync once for each time the folder was opened. To be told nothing
/// would prove nothing for those who share it, so the failures are counted, and each hears of each.
#[derive(Debug)]
pub(super) struct SharedFolder {
    pub(super) descriptor: OwnedFd,
    /// How many syncs failed.
    failures: AtomicU64,
    /// Held during a sync, until its failure is counted.
    turn: Mutex<()>,
}

impl SharedFolder {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, failures: AtomicU64::new(0), turn: Mutex::default() }
    }
}

impl OsFolder {
    pub(super) fn new(shared: Arc<SharedFolder>) -> Self {
        let known_failures = AtomicU64::new(shared.failures.load(Ordering::Acquire));
        Self { shared, known_failures }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.shared.descriptor
    }

    /// Syncs, by `sync`, what is in the folder. Fails also if another's sync has failed since this
    /// was opened, or since the last that this one was told of.
    pub(super) fn sync(&self, sync: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = sync();
        if synced.is_err() {
            shared.failures.fetch_add(1, Ordering::AcqRel);
        }
        let failures = shared.failures.load(Ordering::Acquire);
        let known = self.known_failures.swap(failures, Ordering::AcqRel);
        synced?;
        if known == failures { Ok(()) } else { Err(Errno::IO.into()) }
    }
}

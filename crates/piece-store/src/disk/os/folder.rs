//! Open folders, and the state that several owners of the same folder share.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

/// An open folder, shared with its other owners.
#[derive(Debug)]
pub struct OsFolder {
    pub(super) shared: Arc<SharedFolder>,
    /// How many failed syncs of the shared folder were reported to this owner.
    known_failures: AtomicU64,
}

/// The state that all owners of the same folder share.
///
/// The system reports a failed sync once per open descriptor. Owners share one descriptor, so a
/// later success would prove nothing to them. Failures are counted, and each is reported to every
/// owner.
#[derive(Debug)]
pub(super) struct SharedFolder {
    pub(super) descriptor: OwnedFd,
    /// How many syncs failed.
    failures: AtomicU64,
    /// Locked during a sync, until its failure is counted.
    syncing: Mutex<()>,
}

impl SharedFolder {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, failures: AtomicU64::new(0), syncing: Mutex::default() }
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

    /// Syncs the folder by calling `sync`. Also fails if another owner's sync has failed that was
    /// not reported to this owner yet.
    pub(super) fn sync(&self, sync: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
        let shared = &self.shared;
        let _syncing = shared.syncing.lock().unwrap_or_else(PoisonError::into_inner);
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

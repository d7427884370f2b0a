//! The disk is full, failing or read-only, or the store refuses a file: the torrent is stopped with
//! an error for the user. The others go on.

use piece_store::{StoreError, TorrentKey};

use super::Engine;
use crate::event::{ErrorClass, StopReason, TorrentError};

impl<F> Engine<F> {
    /// Stops a torrent because of an error.
    pub(super) fn fail(&mut self, key: TorrentKey, error: &StoreError) {
        self.begin_stop(key, StopReason::Failed(torrent_error(error)));
    }
}

/// Returns the error for the user.
pub(super) fn torrent_error(error: &StoreError) -> TorrentError {
    let class = match error {
        StoreError::InUse { .. } | StoreError::Claimed { in_use: true, .. } => ErrorClass::InUse,
        StoreError::Disk { .. } | StoreError::Linked { .. } | StoreError::SeedOnly => {
            ErrorClass::Disk
        }
        StoreError::UnrelatedFile { .. } | StoreError::Claimed { .. } => ErrorClass::UnrelatedFile,
        _ => ErrorClass::Internal,
    };
    let advises_other_folder = error.advises_other_folder();
    TorrentError { class, message: error.to_string(), advises_other_folder }
}

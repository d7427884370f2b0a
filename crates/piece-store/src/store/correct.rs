//! Verifying a torrent that is not open, and correcting its journal.

use std::sync::Arc;

use super::Store;
use super::history::History;
use super::journal::Journal;
use super::layout::{Location, Segment};
use super::open::{open_folder, recorded_history};
use super::record::{Record, to_ranges};
use super::shared::SharedDisk;
use crate::{Disk, OpenSpec, StoreError};

/// What the journal of a torrent said that is not open; `None` if there is no journal.
#[derive(Debug)]
pub(crate) struct Recorded(Result<Option<History>, StoreError>);

impl<D: Disk> Store<D> {
    /// Opens a torrent's data without its journal, to compare it with its hashes. Also returns what
    /// the journal says. Only the names of the files are taken from it, if it can be read.
    pub(crate) fn open_to_verify(
        shared: Arc<SharedDisk<D>>,
        spec: &OpenSpec,
    ) -> Result<(Self, Recorded), StoreError> {
        let folder = open_folder(&shared, spec)?;
        let recorded = recorded_history(&shared, spec, &folder.1);
        let history = match &recorded {
            Ok(Some((_, history))) => history.clone().into_names(),
            Ok(None) | Err(_) => History::new(spec.metainfo.info().geometry().piece_count()),
        };
        let (store, _) = Self::open_in(shared, spec, folder, None, history)?;
        let recorded = recorded.map(|recorded| recorded.map(|(_, history)| history));
        Ok((store, Recorded(recorded)))
    }

    /// Records that pieces differ from their hashes, in the journal of this torrent and folder, if
    /// it said otherwise when they were opened. Returns whether it did.
    pub(crate) fn record_different(
        &self,
        spec: &OpenSpec,
        recorded: Recorded,
        different: &[u32],
    ) -> Result<bool, StoreError> {
        if different.is_empty() {
            return Ok(false);
        }
        let Some(history) = recorded.0? else { return Ok(false) };
        let mut lost = self.recorded_among(different.to_vec(), history);
        let save_path = &self.layout.folder_path;
        if !lost.is_empty()
            && let Some((at, _)) = recorded_history(&self.shared, spec, save_path)?
        {
            let shared = Arc::clone(&self.shared);
            let (mut journal, history) =
                Journal::open(shared, at, save_path, &self.layout.geometry)?;
            lost = self.recorded_among(lost, history);
            if !lost.is_empty() {
                journal.amend(&[Record::Lost(to_ranges(lost.iter().copied()))])?;
            }
        }
        Ok(!lost.is_empty())
    }

    /// Returns those of some pieces that a journal says were written to files. `compare` does not
    /// read the parts file.
    fn recorded_among(&self, mut pieces: Vec<u32>, mut history: History) -> Vec<u32> {
        history.find_old_parts(self.layout.parts_slot());
        let is_in_parts = |segment: Segment| match segment.location {
            Location::File(slot) => history.is_in_parts(slot),
            Location::Parts | Location::Zeros => false,
        };
        let is_written = |piece: &u32| {
            self.layout.geometry.piece(*piece).is_some_and(|piece| {
                history.written.contains(piece)
                    && !self.layout.piece_segments(piece).any(is_in_parts)
            })
        };
        pieces.retain(is_written);
        pieces
    }
}

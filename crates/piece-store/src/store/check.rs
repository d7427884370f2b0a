//! Compares the pieces on disk with their hashes.

use std::ops::Range;

use bt_types::PieceIndex;

use super::Store;
use super::dirty::Touched;
use super::layout::{Location, Segment};
use super::record::to_ranges;
use crate::hashing::{PieceData, hash_pieces, hole_length};
use crate::{Disk, Operation, StoreError};

/// The pieces that [`Store::verify`] compared, each list ascending.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// Their hashes match.
    pub(crate) good: Vec<u32>,
    /// Their bytes are present and wrong.
    pub(crate) different: Vec<u32>,
    /// Some of their bytes are missing.
    pub(crate) absent: Vec<u32>,
}

impl<D: Disk> Store<D> {
    /// Compares pieces on disk with their hashes and records which are good. Returns the good ones,
    /// ascending, and the error if a piece can't be read. That piece is neither good nor bad, and
    /// only some of the pieces after it are compared. `scratch` is
    /// [`STRIP_LENGTH`](super::STRIP_LENGTH) long.
    pub fn verify(&self, pieces: Range<u32>, scratch: &mut [u8]) -> (Vec<u32>, Option<StoreError>) {
        let (found, error) = self.compare(pieces, scratch);
        let mut bad = [found.different, found.absent].concat();
        // A piece that is to be imported is not lost: the parts file has its bytes.
        bad.retain(|piece| !self.ledger().is_import(*piece));
        match self.record_check(&found.good, &bad) {
            Ok(lost) => (found.good, error.or(lost.err())),
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    /// Compares pieces like [`Self::verify`], and records nothing.
    pub(crate) fn compare(
        &self,
        pieces: Range<u32>,
        scratch: &mut [u8],
    ) -> (Verified, Option<StoreError>) {
        let (geometry, info) = (self.layout.geometry, self.layout.metainfo.info());
        let mut verified = Verified::default();
        let compare = |piece: PieceIndex, digest| {
            let list = match digest {
                Some(digest) if digest == info.piece_hash(piece) => &mut verified.good,
                Some(_) => &mut verified.different,
                None => &mut verified.absent,
            };
            list.push(piece.get());
        };
        let mut data = self;
        let hashed = hash_pieces(&geometry, pieces, &self.zero_piece, &mut data, scratch, compare);
        verified.good.sort_unstable();
        (verified, hashed.err())
    }

    /// Records good and bad pieces. The outer error says that no good piece was recorded, the inner
    /// one that the bad pieces were not recorded as lost.
    fn record_check(
        &self,
        good: &[u32],
        bad: &[u32],
    ) -> Result<Result<(), StoreError>, StoreError> {
        let mut touched = Touched::new();
        let noted = to_ranges(good.iter().copied())
            .into_iter()
            .try_for_each(|pieces| self.touch_files(pieces, &mut touched));
        let mut ledger = self.ledger();
        // An earlier launch may have made the files and been killed before it synced their names.
        touched.slots().for_each(|slot| ledger.add_name(self.layout.path(slot)));
        let recorded = noted.and_then(|()| ledger.written(good, touched));
        let (_, lost) = ledger.lose(bad);
        recorded.map(|()| lost)
    }
}

impl<D: Disk> PieceData for &Store<D> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        self.read_torrent(offset, buffer)
    }

    fn zeros(&mut self, offset: u64) -> Result<u64, StoreError> {
        let left = self.layout.geometry.total().saturating_sub(offset);
        let Some(segment) = self.layout.segments(offset, left).next() else { return Ok(0) };
        if segment.location == Location::Zeros {
            return Ok(segment.length);
        }
        let Some(file) = self.readable(segment.location)? else { return Ok(0) };
        let hole = hole_length(self.disk(), &file, segment.offset, segment.length);
        hole.map_err(|error| self.location_error(Operation::Read, segment.location, &error))
    }

    fn prefetch(&mut self, offset: u64, length: u64) {
        for Segment { location, offset, length } in self.layout.segments(offset, length) {
            // If a file can't be opened, the read reports it.
            if let (Location::File(_), Ok(Some(file))) = (location, self.readable(location)) {
                self.disk().prefetch(&file, offset, length);
            }
        }
    }
}

//! What is had, on its way to a peer.

use std::io;
use std::ops::Range;

use bt_types::PieceIndex;

use super::Store;
use super::layout::{Place, PlacedRange};
use super::parts::ZEROS_LENGTH;
use crate::{Disk, Extent, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Makes a range of a piece that is had resident, and says where it is. The range is in bytes
    /// from the begin of the piece; what lies past its end is left out.
    ///
    /// # Errors
    /// The disk fails; the piece is not had; the file is gone or shorter than before.
    pub fn read(
        &self,
        piece: PieceIndex,
        range: Range<u32>,
        scratch: &mut [u8],
    ) -> Result<Vec<Extent<D::File>>, StoreError> {
        if !self.ledger().have.contains(piece) {
            return Err(StoreError::NotHad { piece: piece.get() });
        }
        let geometry = self.layout.geometry;
        let end = range.end.min(geometry.length_of(piece));
        let offset = geometry.offset_of(piece) + u64::from(range.start);
        let ranges = self.layout.ranges(offset, end.saturating_sub(range.start).into());
        ranges.flat_map(extents_of).map(|range| self.read_extent(&range, scratch)).collect()
    }

    fn read_extent(
        &self,
        range: &PlacedRange,
        scratch: &mut [u8],
    ) -> Result<Extent<D::File>, StoreError> {
        let failed = |error| self.place_error(Operation::Read, range.place, &error);
        let short = || failed(io::ErrorKind::UnexpectedEof.into());
        let file = self.readable(range.place)?.ok_or_else(short)?;
        // Zeros take no room on any disk.
        if range.place != Place::Zeros {
            let resident = self.disk.make_resident(&file, range.offset, range.length, scratch);
            if resident.map_err(failed)? < range.length {
                return Err(short());
            }
        }
        Ok(Extent { file, offset: range.offset, length: range.length as u32 })
    }
}

/// The range as there are bytes for it: zeros are no more than [`ZEROS_LENGTH`] at a time.
fn extents_of(range: PlacedRange) -> impl Iterator<Item = PlacedRange> {
    let most = match range.place {
        Place::Zeros => ZEROS_LENGTH,
        _ => range.length.max(1),
    };
    // Every one begins where the range does: a file is one extent, and zeros are the same anywhere.
    (0..range.length)
        .step_by(most as usize)
        .map(move |at| PlacedRange { length: most.min(range.length - at), ..range })
}

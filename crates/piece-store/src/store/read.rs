//! Makes verified pieces resident, to be sent to peers.

use std::io;
use std::ops::Range;

use bt_types::PieceIndex;

use super::Store;
use super::layout::{Location, Segment};
use super::parts::ZEROS_LENGTH;
use crate::{Disk, Extent, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Makes a range of a verified piece resident. Returns the extents with its bytes. The range is
    /// in bytes from the start of the piece. Bytes past the end of the piece are left out.
    ///
    /// # Errors
    /// The disk fails; the piece is missing; the file is gone or shorter than before.
    pub fn read(
        &self,
        piece: PieceIndex,
        range: Range<u32>,
        scratch: &mut [u8],
    ) -> Result<Vec<Extent<D::File>>, StoreError> {
        if !self.ledger().have.contains(piece) {
            return Err(StoreError::Missing { piece: piece.get() });
        }
        let geometry = self.layout.geometry;
        let end = range.end.min(geometry.length_of(piece));
        let offset = geometry.offset_of(piece) + u64::from(range.start);
        let segments = self.layout.segments(offset, end.saturating_sub(range.start).into());
        let extents = segments.flat_map(split_zeros);
        extents.map(|segment| self.read_extent(&segment, scratch)).collect()
    }

    fn read_extent(
        &self,
        segment: &Segment,
        scratch: &mut [u8],
    ) -> Result<Extent<D::File>, StoreError> {
        let failed = |error| self.location_error(Operation::Read, segment.location, &error);
        let short = || failed(io::ErrorKind::UnexpectedEof.into());
        let file = self.readable(segment.location)?.ok_or_else(short)?;
        // Zeros are on no disk.
        if segment.location != Location::Zeros {
            let resident =
                self.disk().make_resident(&file, segment.offset, segment.length, scratch);
            if resident.map_err(failed)? < segment.length {
                return Err(short());
            }
        }
        Ok(Extent { file, offset: segment.offset, length: segment.length as u32 })
    }
}

/// Splits zeros into segments of [`ZEROS_LENGTH`] at most. Returns any other segment whole.
fn split_zeros(segment: Segment) -> impl Iterator<Item = Segment> {
    let most = match segment.location {
        Location::Zeros => ZEROS_LENGTH,
        Location::File(_) | Location::Parts => segment.length.max(1),
    };
    // All start at the same offset: zeros are the same anywhere.
    (0..segment.length)
        .step_by(most as usize)
        .map(move |at| Segment { length: most.min(segment.length - at), ..segment })
}

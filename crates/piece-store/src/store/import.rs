//! Imports boundary bytes from the parts file into files that are selected now.

use std::sync::Arc;

use bt_types::PieceIndex;

use super::dirty::Touched;
use super::files::Unwritten;
use super::layout::{Location, Segment};
use super::ledger::{Ledger, Phase};
use super::record::{in_ranges, to_ranges};
use super::{STRIP_LENGTH, Store};
use crate::{Disk, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Copies bytes from the parts file to files that are selected now, then verifies and records
    /// those pieces like any other. The parts file keeps its copy.
    pub(super) fn import(&self) -> Result<(), StoreError> {
        let imports = self.ledger().take_imports();
        let mut scratch = vec![0; if imports.is_empty() { 0 } else { STRIP_LENGTH }];
        let in_parts = self.ledger().in_parts().to_vec();
        let is_imported = |segment: &Segment| match segment.location {
            Location::File(slot) => in_ranges(&in_parts, slot),
            Location::Parts | Location::Zeros => false,
        };
        // The others are good in their files: an earlier launch has copied them.
        let is_missing = |piece: &PieceIndex| !self.ledger().have.contains(*piece);
        let imports = imports.into_iter().filter_map(|piece| self.layout.geometry.piece(piece));
        for piece in imports.filter(is_missing) {
            let segments = self.layout.piece_segments(piece).filter(is_imported);
            let (present, absent): (Vec<_>, Vec<_>) = segments.partition(|segment| {
                let length = self.known_length(segment.location).unwrap_or(0);
                segment.offset + segment.length <= length
            });
            absent.iter().try_for_each(|segment| self.copy_from_parts(segment, &mut scratch))?;
            // The file may have newer bytes than the parts file. They stay if the piece verifies.
            let pieces = piece.get()..piece.get() + 1;
            let (found, _) = self.compare(pieces.clone(), &mut scratch);
            if found.good.is_empty() {
                present
                    .iter()
                    .try_for_each(|segment| self.copy_from_parts(segment, &mut scratch))?;
            }
            let (_, error) = self.verify(pieces, &mut scratch);
            error.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Copies a segment of a file from the parts file, as far as the parts file has it.
    fn copy_from_parts(&self, segment: &Segment, buffer: &mut [u8]) -> Result<(), StoreError> {
        let Location::File(number) = segment.location else { return Ok(()) };
        let Some(parts) = self.parts_file(false)? else { return Ok(()) };
        let slot = self.layout.slot(number);
        let file = self.writable(segment.location)?;
        let mut touched = Touched::new();
        touched.push(number, self.shared.files.hold_unsynced(Arc::clone(&file)));
        let mut done = 0;
        while done < segment.length {
            let length = (segment.length - done).min(buffer.len() as u64) as usize;
            let strip = &mut buffer[..length];
            let read = self.disk().read_at(&parts, strip, slot.offset + segment.offset + done);
            let read = read
                .map_err(|error| self.location_error(Operation::Read, Location::Parts, &error))?;
            if read == 0 {
                break;
            }
            let copied = Segment { offset: segment.offset + done, length: read as u64, ..*segment };
            let buffers = [&strip[..read]];
            self.write_segment(&file, &copied, &mut Unwritten::new(&buffers))?;
            done += read as u64;
        }
        self.ledger().written(&[], touched)
    }

    /// Records which slots no longer need the parts file: their pieces are durable in their files.
    pub(super) fn end_imports(&self, ledger: &mut Ledger<D>) -> Result<(), StoreError> {
        if matches!(ledger.phase, Phase::Checking(_)) {
            return Ok(());
        }
        let in_parts = ledger.in_parts().iter().cloned().flatten();
        let is_missing = |piece| ledger.claimed.contains(piece) && !ledger.have.contains(piece);
        let is_left = |number: &u32| {
            let slot = self.layout.slot(*number);
            // A seed-only torrent copies nothing.
            !slot.has_own_file() || self.layout.pieces_touching(slot).any(is_missing)
        };
        let left = to_ranges(in_parts.filter(is_left));
        ledger.record_in_parts(left)
    }
}

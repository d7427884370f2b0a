//! From blocks to pieces: hashing and committing.

use std::ops::Range;

use bt_types::{BLOCK_LENGTH, PieceIndex, Sha1Digest};
use piece_hash::{Hasher, Lanes, sha1};

use super::Store;
use super::layout::Place;
use super::ledger::{Began, Staged, Touched};
use crate::{
    CommitResult, Disk, Operation, SPAN_LENGTH, Span, StoreError, full_mask, span_count,
    span_length,
};

impl<D: Disk> Store<D> {
    /// Hashes a complete piece and, if it is good, writes it and records it as had. See
    /// [`crate::Job::Commit`] for `spans`. `hashed` is the digest of all of them, if it is known
    /// already. `scratch` is [`super::STRIP_LENGTH`] long.
    ///
    /// Buffers of spans that were partly staged are filled in from the disk.
    pub fn commit(
        &self,
        piece: PieceIndex,
        attempt: u32,
        spans: &mut [Option<Span>],
        hashed: Option<Sha1Digest>,
        digests: bool,
        scratch: &mut [u8],
    ) -> CommitResult {
        let committed = self.try_commit(piece, attempt, spans, hashed, digests, scratch);
        committed.unwrap_or_else(CommitResult::Failed)
    }

    fn try_commit(
        &self,
        piece: PieceIndex,
        attempt: u32,
        spans: &mut [Option<Span>],
        hashed: Option<Sha1Digest>,
        digests: bool,
        scratch: &mut [u8],
    ) -> Result<CommitResult, StoreError> {
        let began = self.begin(piece, attempt)?;
        self.check_spans(piece, spans, began.staged.as_ref())?;
        self.fill_staged(piece, spans, began.staged.as_ref())?;
        // What was staged is not in the buffers that were hashed.
        let digest = match hashed.filter(|_| began.staged.is_none()) {
            Some(digest) => digest,
            None => self.hash_spans(piece, spans, began.staged.as_ref(), scratch)?,
        };
        if digest != self.layout.metainfo.info().piece_hash(piece) {
            let digests = self.block_digests(piece, spans, scratch)?;
            self.ledger().staged.remove(&piece.get());
            return Ok(CommitResult::Mismatch { digests });
        }
        let digests = match digests {
            true => Some(self.block_digests(piece, spans, scratch)?),
            false => None,
        };
        // What is had is never written: whoever sent it again sent the same.
        if !began.had {
            let mut touched = Touched::new();
            if began.staged.is_some() {
                // A sync between staging and now may have failed unseen by this piece.
                self.touch_files(piece.get()..piece.get() + 1, &mut touched)?;
            }
            let written = self.write_spans(piece, spans, &mut touched);
            self.record_commit(piece, &began, touched, written)?;
        }
        Ok(CommitResult::Verified { digests })
    }

    pub(super) fn begin(&self, piece: PieceIndex, attempt: u32) -> Result<Began, StoreError> {
        if self.read_only {
            return Err(StoreError::ReadOnly);
        }
        self.ledger().begin(piece, attempt)
    }

    /// The spans must be those of the piece: each there in full length, or staged whole.
    fn check_spans(
        &self,
        piece: PieceIndex,
        spans: &[Option<Span>],
        staged: Option<&Staged>,
    ) -> Result<(), StoreError> {
        let geometry = &self.layout.geometry;
        let count = span_count(geometry, piece) as usize;
        let good = (0u32..).zip(spans).filter(|(index, span)| {
            let length = span_length(geometry, piece, *index);
            match span {
                Some(span) => span.len() == length as usize,
                None => {
                    staged.map_or(0, |staged| staged.mask(*index as usize)) == full_mask(length)
                }
            }
        });
        let sum = good.map(|(index, _)| u64::from(span_length(geometry, piece, index))).sum();
        let expected = u64::from(geometry.length_of(piece));
        if spans.len() != count || sum != expected {
            return Err(StoreError::Spans { piece: piece.get(), expected, got: sum });
        }
        Ok(())
    }

    /// Reads blocks that were staged into the buffers of their spans.
    fn fill_staged(
        &self,
        piece: PieceIndex,
        spans: &mut [Option<Span>],
        staged: Option<&Staged>,
    ) -> Result<(), StoreError> {
        let Some(staged) = staged else { return Ok(()) };
        for (index, span) in spans.iter_mut().enumerate() {
            let (Some(span), mask) = (span, staged.mask(index)) else { continue };
            let offset = self.span_offset(piece, index);
            for (bit, block) in span.chunks_mut(BLOCK_LENGTH as usize).enumerate() {
                if mask >> bit & 1 == 1 {
                    self.read_back(offset + bit as u64 * u64::from(BLOCK_LENGTH), block)?;
                }
            }
        }
        Ok(())
    }

    /// Reads bytes that must be there.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        if self.read_torrent(offset, buffer)? {
            return Ok(());
        }
        let place = self.layout.ranges(offset, 1).next().map_or(Place::Zeros, |range| range.place);
        let short = std::io::ErrorKind::UnexpectedEof.into();
        Err(self.place_error(Operation::Read, place, &short))
    }

    /// The digest of the piece: what was hashed when it was staged, then the spans in order.
    fn hash_spans(
        &self,
        piece: PieceIndex,
        spans: &[Option<Span>],
        staged: Option<&Staged>,
        scratch: &mut [u8],
    ) -> Result<Sha1Digest, StoreError> {
        let hashed = staged.and_then(|staged| staged.hashed.clone());
        let (first, mut hasher) = hashed.unwrap_or_else(|| (0, Hasher::new()));
        for index in first as usize..spans.len() {
            hasher.update(self.span_bytes(piece, spans, index, scratch)?);
        }
        Ok(hasher.finish())
    }

    /// The digest of each block.
    fn block_digests(
        &self,
        piece: PieceIndex,
        spans: &[Option<Span>],
        scratch: &mut [u8],
    ) -> Result<Vec<Sha1Digest>, StoreError> {
        let mut digests = Vec::with_capacity(self.layout.geometry.block_count(piece) as usize);
        for index in 0..spans.len() {
            let bytes = self.span_bytes(piece, spans, index, scratch)?;
            digests.extend(bytes.chunks(BLOCK_LENGTH as usize).map(sha1));
        }
        Ok(digests)
    }

    /// The bytes of a span: its buffer's, or read back into `scratch`.
    fn span_bytes<'a>(
        &self,
        piece: PieceIndex,
        spans: &'a [Option<Span>],
        index: usize,
        scratch: &'a mut [u8],
    ) -> Result<&'a [u8], StoreError> {
        if let Some(Some(span)) = spans.get(index) {
            return Ok(span);
        }
        let length = span_length(&self.layout.geometry, piece, index as u32) as usize;
        let bytes = scratch.get_mut(..length).unwrap_or_default();
        self.read_back(self.span_offset(piece, index), bytes)?;
        Ok(bytes)
    }

    pub(super) fn span_offset(&self, piece: PieceIndex, index: usize) -> u64 {
        self.layout.geometry.offset_of(piece) + index as u64 * u64::from(SPAN_LENGTH)
    }

    /// Notes the open files of all bytes of some pieces.
    pub(super) fn touch_files(
        &self,
        pieces: Range<u32>,
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let ranges = self.layout.pieces_ranges(pieces);
        for range in ranges.filter(|range| range.place != Place::Zeros) {
            let slot = self.slot_number(range.place);
            let is_kept = !touched.is_full() || touched.contains(slot);
            let file = if is_kept { self.readable(range.place)? } else { None };
            touched.push(slot, file.and_then(|file| self.handles.keep(file)));
        }
        Ok(())
    }

    /// Writes the spans at hand, neighbours together.
    fn write_spans(
        &self,
        piece: PieceIndex,
        spans: &[Option<Span>],
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let mut index = 0;
        for run in spans.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let parts: Vec<&[u8]> = run.iter().flatten().map(|span| &span[..]).collect();
            if !parts.is_empty() {
                self.write_torrent(piece, self.span_offset(piece, index), &parts, touched)?;
            }
            index += run.len();
        }
        Ok(())
    }

    fn record_commit(
        &self,
        piece: PieceIndex,
        began: &Began,
        touched: Touched<D::File>,
        written: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut ledger = self.ledger();
        let confirmed = written.and_then(|()| ledger.confirm(piece, began.epoch));
        let pieces = [piece.get()];
        let pieces = if confirmed.is_ok() { &pieces[..] } else { &[] };
        // Even of a failure the files are noted: something may have been written.
        ledger.written(pieces, touched)?;
        confirmed
    }
}

/// The digest of each piece whose spans are all there, hashed side by side: faster than one after
/// another.
pub(crate) fn hash_side_by_side(pieces: &[&[Option<Span>]]) -> Vec<Sha1Digest> {
    let mut lanes = Lanes::new(pieces.len());
    let longest = pieces.iter().map(|spans| spans.len()).max().unwrap_or(0);
    for index in 0..longest {
        let strips: Vec<&[u8]> = pieces.iter().map(|spans| strip(spans, index)).collect();
        lanes.update(&strips);
    }
    lanes.finish()
}

fn strip(spans: &[Option<Span>], index: usize) -> &[u8] {
    spans.get(index).and_then(Option::as_deref).unwrap_or_default()
}

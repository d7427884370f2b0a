//! Commits pieces: hashes their blocks, writes them, and records them.

use std::ops::Range;

use bt_types::{BLOCK_LENGTH, PieceIndex, Sha1Digest};
use piece_hash::{Hasher, Lanes, sha1};

use super::Store;
use super::dirty::Touched;
use super::layout::{Location, Segment};
use super::ledger::WriteStart;
use super::staged::Staged;
use crate::{
    CommitResult, Disk, Operation, SPAN_LENGTH, Span, StoreError, full_mask, span_count,
    span_length,
};

impl<D: Disk> Store<D> {
    /// Hashes a complete piece and, if it is good, writes and records it. See
    /// [`crate::Job::Commit`] for `spans` and `digests`. `hashed` is the digest of all spans, if it
    /// is known already. `scratch` is [`super::STRIP_LENGTH`] long.
    ///
    /// Fills the buffers of partly staged spans from the disk.
    ///
    /// # Errors
    /// The disk fails; the spans are not those of the piece; nothing may be written.
    pub fn commit(
        &self,
        piece: PieceIndex,
        attempt: u32,
        spans: &mut [Option<Span>],
        hashed: Option<Sha1Digest>,
        digests: bool,
        scratch: &mut [u8],
    ) -> Result<CommitResult, StoreError> {
        let start = self.start_write(piece, attempt)?;
        self.check_spans(piece, spans, start.staged.as_ref())?;
        self.fill_staged(piece, spans, start.staged.as_ref())?;
        // Staged blocks were not in the buffers when those were hashed.
        let digest = match hashed.filter(|_| start.staged.is_none()) {
            Some(digest) => digest,
            None => self.hash_spans(piece, spans, start.staged.as_ref(), scratch)?,
        };
        if digest != self.layout.metainfo.info().piece_hash(piece) {
            let digests = self.block_digests(piece, spans, scratch)?;
            self.ledger().forget_staged(piece);
            return Ok(CommitResult::Mismatch { digests });
        }
        let digests = match digests {
            true => Some(self.block_digests(piece, spans, scratch)?),
            false => None,
        };
        // A piece that we have is never written again: these are the same bytes.
        if !start.have {
            let mut touched = Touched::new();
            if start.staged.is_some() {
                // A sync may have failed since the blocks were staged.
                self.touch_files(piece.get()..piece.get() + 1, &mut touched)?;
            }
            let written = self.write_spans(piece, spans, &mut touched);
            self.record_commit(piece, &start, touched, written)?;
        }
        Ok(CommitResult::Verified { digests })
    }

    pub(super) fn start_write(
        &self,
        piece: PieceIndex,
        attempt: u32,
    ) -> Result<WriteStart, StoreError> {
        if self.seed_only {
            return Err(StoreError::SeedOnly);
        }
        self.ledger().start_write(piece, attempt)
    }

    /// Checks that the spans are those of the piece, each in full length or staged whole.
    fn check_spans(
        &self,
        piece: PieceIndex,
        spans: &[Option<Span>],
        staged: Option<&Staged>,
    ) -> Result<(), StoreError> {
        let geometry = &self.layout.geometry;
        let count = span_count(geometry, piece) as usize;
        let good = (0u32..).zip(spans).take(count).filter(|(index, span)| {
            let length = span_length(geometry, piece, *index);
            match (span, staged) {
                (Some(span), _) => span.len() == length as usize,
                (None, Some(staged)) => staged.masks[*index as usize] == full_mask(length),
                (None, None) => false,
            }
        });
        let sum = good.map(|(index, _)| u64::from(span_length(geometry, piece, index))).sum();
        let expected = u64::from(geometry.length_of(piece));
        if spans.len() != count || sum != expected {
            return Err(StoreError::Spans { piece: piece.get(), expected, got: sum });
        }
        Ok(())
    }

    /// Reads staged blocks into the buffers of their spans.
    fn fill_staged(
        &self,
        piece: PieceIndex,
        spans: &mut [Option<Span>],
        staged: Option<&Staged>,
    ) -> Result<(), StoreError> {
        let Some(staged) = staged else { return Ok(()) };
        for (index, span) in spans.iter_mut().enumerate() {
            let (Some(span), mask) = (span, staged.masks[index]) else { continue };
            let offset = self.span_offset(piece, index);
            for (bit, block) in span.chunks_mut(BLOCK_LENGTH as usize).enumerate() {
                if mask >> bit & 1 == 1 {
                    self.read_back(offset + bit as u64 * u64::from(BLOCK_LENGTH), block)?;
                }
            }
        }
        Ok(())
    }

    /// Reads bytes that must be on disk.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        if self.read_torrent(offset, buffer)? {
            return Ok(());
        }
        let segment = self.layout.segments(offset, 1).next();
        let location = segment.map_or(Location::Zeros, |segment| segment.location);
        let short = std::io::ErrorKind::UnexpectedEof.into();
        Err(self.location_error(Operation::Read, location, &short))
    }

    /// Returns the digest of the piece: continues the hash of its staged spans.
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

    /// Returns the digest of each block.
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

    /// Returns the bytes of a span, from its buffer or read back into `scratch`.
    fn span_bytes<'a>(
        &self,
        piece: PieceIndex,
        spans: &'a [Option<Span>],
        index: usize,
        scratch: &'a mut [u8],
    ) -> Result<&'a [u8], StoreError> {
        if let Some(span) = &spans[index] {
            return Ok(span);
        }
        let length = span_length(&self.layout.geometry, piece, index as u32) as usize;
        let bytes = &mut scratch[..length];
        self.read_back(self.span_offset(piece, index), bytes)?;
        Ok(bytes)
    }

    pub(super) fn span_offset(&self, piece: PieceIndex, index: usize) -> u64 {
        self.layout.geometry.offset_of(piece) + index as u64 * u64::from(SPAN_LENGTH)
    }

    /// Adds the files of some pieces to `touched`, held open.
    pub(super) fn touch_files(
        &self,
        pieces: Range<u32>,
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let segments = self.layout.pieces_segments(pieces);
        for Segment { location, .. } in segments.filter(|it| it.location != Location::Zeros) {
            let slot = self.layout.slot_at(location);
            let is_held = !touched.is_full() || touched.contains(slot);
            let file = if is_held { self.readable(location)? } else { None };
            touched.push(slot, file.and_then(|file| self.shared.files.hold_unsynced(file)));
        }
        Ok(())
    }

    /// Writes the spans that are in buffers, neighbours together.
    fn write_spans(
        &self,
        piece: PieceIndex,
        spans: &[Option<Span>],
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let mut index = 0;
        for group in spans.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let buffers: Vec<&[u8]> = group.iter().flatten().map(|span| &span[..]).collect();
            if !buffers.is_empty() {
                self.write_torrent(piece, self.span_offset(piece, index), &buffers, touched)?;
            }
            index += group.len();
        }
        Ok(())
    }

    fn record_commit(
        &self,
        piece: PieceIndex,
        start: &WriteStart,
        touched: Touched<D::File>,
        written: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut ledger = self.ledger();
        let confirmed = written.and_then(|()| ledger.confirm(piece, start.failed_syncs));
        let pieces = [piece.get()];
        let pieces = if confirmed.is_ok() { &pieces[..] } else { &[] };
        // Even after a failure the files are dirty: something may have been written.
        ledger.written(pieces, touched)?;
        confirmed
    }
}

/// Hashes complete pieces in parallel lanes, which is faster than one after another.
pub(crate) fn hash_in_lanes(pieces: &[&[Option<Span>]]) -> Vec<Sha1Digest> {
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

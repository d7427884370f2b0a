//! Stages blocks of an unfinished piece: writes them, and hashes the piece span by span, in order.
//!
//! ```text
//!  worker 0:  write span 0 | hash span 0 | write span 2 | hash span 2
//!  worker 1:                 write span 1 | (wait)  hash span 1 | ..
//! ```
//!
//! Several workers stage spans of one piece at the same time. Each writes first. Then it waits
//! while an earlier span is under way, and hashes its own. If an earlier span is missing, the span
//! is not hashed now. The commit reads it back.

use std::sync::{MutexGuard, PoisonError};

use bt_types::{BLOCK_LENGTH, PieceIndex};
use piece_hash::Hasher;

use super::Store;
use super::dirty::Touched;
use super::ledger::Ledger;
use super::staged::{SpanHash, Staged};
use crate::{Disk, Span, StoreError, full_mask, span_count, span_length};

/// A span that is being staged.
#[derive(Clone, Copy)]
struct StagedSpan<'a> {
    piece: PieceIndex,
    attempt: u32,
    index: u32,
    bytes: &'a Span,
    blocks: u16,
}

impl StagedSpan<'_> {
    fn is_whole(&self) -> bool {
        let whole = full_mask(self.bytes.len() as u32);
        self.blocks & whole == whole
    }
}

impl<D: Disk> Store<D> {
    /// Writes blocks of an unfinished piece to its files, unless a later attempt has started. See
    /// [`crate::Job::Stage`].
    ///
    /// # Errors
    /// The disk fails; we have the piece; the span has a wrong length.
    pub fn stage(
        &self,
        piece: PieceIndex,
        attempt: u32,
        span_index: u32,
        span: &Span,
        blocks: u16,
    ) -> Result<(), StoreError> {
        let start = self.start_write(piece, attempt)?;
        let length = span_length(&self.layout.geometry, piece, span_index);
        if length == 0 || span.len() != length as usize {
            let (expected, got) = (u64::from(length), span.len() as u64);
            return Err(StoreError::Spans { piece: piece.get(), expected, got });
        }
        if start.have {
            return Err(StoreError::AlreadyComplete { piece: piece.get() });
        }
        let span = StagedSpan { piece, attempt, index: span_index, bytes: span, blocks };
        match self.staged(&mut self.ledger(), &span) {
            Some(staged) => staged.start(span_index, blocks),
            // A later attempt has started. Its blocks must not be overwritten.
            None => return Ok(()),
        }
        let staged = self.stage_span(&span, start.failed_syncs);
        self.hash_in_order(&span, staged.is_ok() && span.is_whole());
        staged
    }

    /// Returns what is staged of the piece in the same attempt.
    fn staged<'a>(
        &self,
        ledger: &'a mut Ledger<D>,
        span: &StagedSpan<'_>,
    ) -> Option<&'a mut Staged> {
        let spans = span_count(&self.layout.geometry, span.piece);
        ledger.staged(span.piece, span.attempt, spans)
    }

    fn stage_span(&self, span: &StagedSpan<'_>, failed_syncs: u64) -> Result<(), StoreError> {
        let mut touched = Touched::new();
        let written = self.write_blocks(span, &mut touched);
        let mut ledger = self.ledger();
        let confirmed = written.and_then(|()| ledger.confirm(span.piece, failed_syncs));
        ledger.written(&[], touched)?;
        confirmed?;
        if let Some(staged) = self.staged(&mut ledger, span) {
            staged.masks[span.index as usize] |= span.blocks & full_mask(span.bytes.len() as u32);
        }
        Ok(())
    }

    /// Continues the hash of the piece with this span, if `good` and if the spans before it are
    /// hashed. Afterwards the span is no longer under way.
    fn hash_in_order(&self, span: &StagedSpan<'_>, good: bool) {
        let before = if good { self.wait_for_hash(span) } else { None };
        let hashed = before.map(|mut hasher| {
            hasher.update(span.bytes);
            hasher
        });
        // After a failed sync nothing is staged any more. Then the hash is dropped.
        let mut ledger = self.ledger();
        let staged = ledger.staged_mut(span.piece);
        if let Some(staged) = staged.filter(|staged| staged.attempt == span.attempt) {
            let is_whole = staged.masks[span.index as usize] == full_mask(span.bytes.len() as u32);
            staged.finish(span.index, hashed.filter(|_| is_whole));
        }
        drop(ledger);
        self.hashed.notify_all();
    }

    /// Takes the hash of all spans before this one out of the ledger, once they are hashed; `None`
    /// if they will not be.
    fn wait_for_hash(&self, span: &StagedSpan<'_>) -> Option<Hasher> {
        let mut ledger: MutexGuard<'_, Ledger<D>> = self.ledger();
        loop {
            match self.staged(&mut ledger, span)?.take_hash(span.index) {
                SpanHash::Now(hasher) => return Some(hasher),
                SpanHash::Later => {
                    ledger = self.hashed.wait(ledger).unwrap_or_else(PoisonError::into_inner);
                }
                SpanHash::Never => return None,
            }
        }
    }

    /// Writes the blocks of a span that the mask names, neighbours together.
    fn write_blocks(
        &self,
        &StagedSpan { piece, index, bytes, blocks, .. }: &StagedSpan<'_>,
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let offset = self.span_offset(piece, index as usize);
        let block = BLOCK_LENGTH as usize;
        let valid = |bit: usize| blocks >> bit & 1 == 1;
        let bits: Vec<usize> = (0..bytes.len().div_ceil(block)).filter(|bit| valid(*bit)).collect();
        for neighbours in bits.chunk_by(|a, b| a + 1 == *b) {
            let (first, last) = (neighbours[0], neighbours[neighbours.len() - 1]);
            let range = first * block..((last + 1) * block).min(bytes.len());
            let at = offset + range.start as u64;
            self.write_torrent(piece, at, &[&bytes[range]], touched)?;
        }
        Ok(())
    }
}

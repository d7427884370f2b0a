//! Blocks of an unfinished piece on their way to the disk, and the hash of the piece, which goes on
//! span by span, in order, as they are staged.
//!
//! ```text
//!  worker 0:  write span 0 | hash span 0 | write span 2 | hash span 2
//!  worker 1:                 write span 1 | (turn)  hash span 1 | ..
//! ```
//!
//! Several workers stage spans of one piece at the same time. Each writes first; then it waits for
//! its turn to hash, as long as an earlier span is still under way. A span whose turn does not come
//! that way, because an earlier one is not there yet, is read back at the commit.

use std::sync::{MutexGuard, PoisonError};

use bt_types::{BLOCK_LENGTH, PieceIndex};
use piece_hash::Hasher;

use super::Store;
use super::ledger::{Ledger, Staged, Touched, Turn};
use crate::{Disk, Span, StoreError, full_mask, span_count, span_length};

/// A span that is being staged.
#[derive(Clone, Copy)]
struct Part<'a> {
    piece: PieceIndex,
    attempt: u32,
    index: u32,
    span: &'a Span,
    blocks: u16,
}

impl Part<'_> {
    fn is_whole(&self) -> bool {
        let whole = full_mask(self.span.len() as u32);
        self.blocks & whole == whole
    }
}

impl<D: Disk> Store<D> {
    /// Writes blocks of an unfinished piece to their final place, unless a later attempt has begun.
    /// See [`crate::Job::Stage`].
    ///
    /// # Errors
    /// The disk fails; the piece is had; the span is not as long as it should be.
    pub fn stage(
        &self,
        piece: PieceIndex,
        attempt: u32,
        span_index: u32,
        span: &Span,
        blocks: u16,
    ) -> Result<(), StoreError> {
        let began = self.begin(piece, attempt)?;
        let length = span_length(&self.layout.geometry, piece, span_index);
        if length == 0 || span.len() != length as usize {
            let (expected, got) = (u64::from(length), span.len() as u64);
            return Err(StoreError::Spans { piece: piece.get(), expected, got });
        }
        if began.had {
            return Err(StoreError::Had { piece: piece.get() });
        }
        let part = Part { piece, attempt, index: span_index, span, blocks };
        match self.staged(&mut self.ledger(), &part) {
            Some(staged) => staged.begin(span_index, blocks),
            // A later attempt has begun. Its blocks are not to be written over.
            None => return Ok(()),
        }
        let staged = self.stage_part(&part, began.epoch);
        self.hash_in_turn(&part, staged.is_ok() && part.is_whole());
        staged
    }

    /// What is staged of the piece in the same attempt.
    fn staged<'a>(&self, ledger: &'a mut Ledger<D>, part: &Part<'_>) -> Option<&'a mut Staged> {
        let spans = span_count(&self.layout.geometry, part.piece);
        ledger.staged(part.piece, part.attempt, spans)
    }

    fn stage_part(&self, part: &Part<'_>, epoch: u64) -> Result<(), StoreError> {
        let mut touched = Touched::new();
        let written = self.write_blocks(part, &mut touched);
        let mut ledger = self.ledger();
        let confirmed = written.and_then(|()| ledger.confirm(part.piece, epoch));
        ledger.written(&[], touched)?;
        confirmed?;
        let staged = self.staged(&mut ledger, part);
        if let Some(mask) = staged.and_then(|staged| staged.masks.get_mut(part.index as usize)) {
            *mask |= part.blocks & full_mask(part.span.len() as u32);
        }
        Ok(())
    }

    /// Goes on with the hash of the piece, if `good`, once it is this span's turn; then the span is
    /// no longer under way.
    fn hash_in_turn(&self, part: &Part<'_>, good: bool) {
        let turn = if good { self.await_turn(part) } else { None };
        let hashed = turn.map(|mut hasher| {
            hasher.update(part.span);
            hasher
        });
        // After a failed sync nothing is staged any more: then what was hashed is nobody's.
        let mut ledger = self.ledger();
        let staged = ledger.staged.get_mut(&part.piece.get());
        if let Some(staged) = staged.filter(|staged| staged.attempt == part.attempt) {
            let there = staged.mask(part.index as usize) == full_mask(part.span.len() as u32);
            staged.finish(part.index, hashed.filter(|_| there));
        }
        drop(ledger);
        self.hashed.notify_all();
    }

    /// The hash of all spans before this one, taken out of the ledger; `None` if it does not come.
    fn await_turn(&self, part: &Part<'_>) -> Option<Hasher> {
        let mut ledger: MutexGuard<'_, Ledger<D>> = self.ledger();
        loop {
            match self.staged(&mut ledger, part)?.turn(part.index) {
                Turn::Now(hasher) => return Some(hasher),
                Turn::Later => {
                    ledger = self.hashed.wait(ledger).unwrap_or_else(PoisonError::into_inner);
                }
                Turn::Never => return None,
            }
        }
    }

    /// Writes those blocks of a span that the mask names, neighbours together.
    fn write_blocks(
        &self,
        &Part { piece, index, span, blocks, .. }: &Part<'_>,
        touched: &mut Touched<D::File>,
    ) -> Result<(), StoreError> {
        let offset = self.span_offset(piece, index as usize);
        let block = BLOCK_LENGTH as usize;
        let valid = |bit: usize| blocks >> bit & 1 == 1;
        let bits: Vec<usize> = (0..span.len().div_ceil(block)).filter(|bit| valid(*bit)).collect();
        for run in bits.chunk_by(|a, b| a + 1 == *b) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let range = first * block..((last + 1) * block).min(span.len());
            let at = offset + range.start as u64;
            let part = span.get(range).unwrap_or_default();
            self.write_torrent(piece, at, &[part], touched)?;
        }
        Ok(())
    }
}

//! Memory for payload: how pieces are divided into spans, and the budget that spans reserve from.

use std::ops::Range;

use bt_types::{BLOCK_LENGTH, Geometry, PieceIndex};

/// The length of a span, the unit in which memory for payload is reserved, in bytes. A torrent
/// with shorter pieces has spans of one piece.
pub const SPAN_LENGTH: u32 = 256 * 1024;
/// Pieces up to this length, in bytes, reserve all their spans at once and keep them until they
/// are committed. Longer ones reserve span by span, and give a span back once it is full.
pub const WHOLE_PIECE_LENGTH: u32 = 2 * 1024 * 1024;

/// Memory for payload that all swarms of a session share, in bytes. A swarm reserves; the caller
/// releases when it has its buffers back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanBudget {
    available: usize,
}

impl SpanBudget {
    /// Returns a budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { available: bytes }
    }

    /// Returns how many bytes are not reserved.
    pub fn available(&self) -> usize {
        self.available
    }

    /// Reserves `bytes`, all or nothing; says whether it could.
    pub fn try_reserve(&mut self, bytes: usize) -> bool {
        let rest = self.available.checked_sub(bytes);
        self.available = rest.unwrap_or(self.available);
        rest.is_some()
    }

    /// Gives `bytes` back. Afterwards the caller polls every swarm again that
    /// [`is_starved`](crate::Swarm::is_starved).
    pub fn release(&mut self, bytes: usize) {
        self.available = self.available.saturating_add(bytes);
    }
}

/// How the pieces of a torrent are divided into spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanLayout {
    geometry: Geometry,
}

impl SpanLayout {
    /// Returns the layout of a torrent of this geometry.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry }
    }

    /// Returns how many bytes of the budget one span takes: [`SPAN_LENGTH`], or the piece length
    /// if that is less.
    pub fn span_length(&self) -> u32 {
        self.geometry.piece_length().min(SPAN_LENGTH)
    }

    /// Returns how many spans `piece` has.
    pub fn span_count(&self, piece: PieceIndex) -> u32 {
        self.geometry.length_of(piece).div_ceil(self.span_length())
    }

    /// Returns the span that holds the block at `offset` of its piece.
    pub fn span_of(&self, offset: u32) -> u32 {
        offset / self.span_length()
    }

    /// Returns how many bytes of the budget all spans of `piece` take.
    pub fn cost(&self, piece: PieceIndex) -> usize {
        self.span_count(piece) as usize * self.span_length() as usize
    }

    /// Whether `piece` reserves and keeps all its spans at once.
    pub fn is_whole(&self, piece: PieceIndex) -> bool {
        self.geometry.length_of(piece) <= WHOLE_PIECE_LENGTH
    }

    /// Returns the block numbers of span `span` of `piece`.
    pub fn blocks(&self, piece: PieceIndex, span: u32) -> Range<u32> {
        let per_span = self.span_length().div_ceil(BLOCK_LENGTH);
        let count = self.geometry.block_count(piece);
        (span.saturating_mul(per_span).min(count))..((span + 1).saturating_mul(per_span).min(count))
    }

    /// Returns how many bytes a peer reserves at once that works on its own: a piece, or a span
    /// of a longer one.
    pub(crate) fn unit(&self) -> u32 {
        let length = self.geometry.piece_length();
        if length <= WHOLE_PIECE_LENGTH { length } else { self.span_length() }
    }
}

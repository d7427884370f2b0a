//! The buffers in which payload travels: from the socket, through the channels, to the disk.
//!
//! ```text
//! piece:  | span 0 (256 KiB)            | span 1 (256 KiB)            | span 2 (rest) |
//! span:   | block 0 | block 1 | ...                         block 15 |
//! ```

use bt_types::{BLOCK_LENGTH, Geometry, PieceIndex};

/// The length of every span of a piece but the last, in bytes: 16 blocks.
pub const SPAN_LENGTH: u32 = 256 * 1024;

/// An owned buffer for one span of a piece. It is allocated once and reused.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Span(Vec<u8>);

impl Span {
    /// A buffer of `length` bytes, all zero.
    pub fn new(length: u32) -> Self {
        Self(vec![0; length as usize])
    }

    /// Makes the buffer `length` bytes long, for use with another span. Does not clear its
    /// contents.
    pub fn resize(&mut self, length: u32) {
        self.0.resize(length as usize, 0);
    }
}

impl std::ops::Deref for Span {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for Span {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Span({} bytes)", self.0.len())
    }
}

/// Returns how many spans `piece` has.
pub fn span_count(geometry: &Geometry, piece: PieceIndex) -> u32 {
    geometry.length_of(piece).div_ceil(SPAN_LENGTH)
}

/// Returns the length of span number `span` of `piece`, in bytes; 0 if it has no such span.
pub fn span_length(geometry: &Geometry, piece: PieceIndex, span: u32) -> u32 {
    let length = geometry.length_of(piece);
    let offset = span.checked_mul(SPAN_LENGTH).unwrap_or(length);
    length.saturating_sub(offset).min(SPAN_LENGTH)
}

/// Returns the mask of all blocks of a span of `length` bytes. Bit 0 is the first block.
pub fn full_mask(length: u32) -> u16 {
    let blocks = length.div_ceil(BLOCK_LENGTH).min(u16::BITS);
    ((1u32 << blocks) - 1) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(total: u64, piece_length: u64, piece: u32, lengths: &[u32]) {
        let geometry = Geometry::new(total, piece_length).unwrap();
        let piece = geometry.piece(piece).unwrap();
        let count = span_count(&geometry, piece);
        let got: Vec<u32> = (0..count).map(|span| span_length(&geometry, piece, span)).collect();
        assert_eq!(got, lengths);
        assert_eq!(span_length(&geometry, piece, count), 0);
        assert_eq!(span_length(&geometry, piece, u32::MAX), 0);
    }

    #[test]
    fn spans_cover_a_piece() {
        check(100, 16, 0, &[16]);
        check(100, 16, 6, &[4]);
        check(1 << 20, 1 << 20, 0, &[SPAN_LENGTH; 4]);
        check((1 << 20) + 300_000, 1 << 20, 1, &[SPAN_LENGTH, 300_000 - SPAN_LENGTH]);
    }

    #[test]
    fn masks() {
        for (length, mask) in [(0, 0), (1, 1), (16384, 1), (16385, 3), (SPAN_LENGTH, 0xffff)] {
            assert_eq!(full_mask(length), mask);
        }
    }
}

//! The division of a torrent's data into pieces and blocks (BEP 3).
//!
//! ```text
//! |<------------------------ total ------------------------>|
//! | piece 0        | piece 1        | piece 2        | piece 3|   the last piece may be shorter
//! | b0 | b1 | b2   |                                             blocks of 16 KiB, the last shorter
//! ```
//!
//! Invariant: the [`Geometry`] that made a [`PieceIndex`] or [`BlockRequest`] has checked its
//! range, so no code needs to check it again.

/// The length of a block, in bytes: 16 KiB, which clients ask for with one request.
pub const BLOCK_LENGTH: u32 = 16 * 1024;
/// The largest number of pieces in a torrent.
pub const MAX_PIECE_COUNT: u32 = 1 << 21;
/// The largest piece length, in bytes.
pub const MAX_PIECE_LENGTH: u32 = 1 << 29;
/// The longest range one request may ask for, in bytes.
pub const MAX_REQUEST_LENGTH: u32 = 128 * 1024;

/// The index of a piece that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// Returns the index, counted from 0.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Returns the index for a table with one entry per piece.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A range inside one piece that exists: 1 to [`MAX_REQUEST_LENGTH`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRequest {
    piece: PieceIndex,
    offset: u32,
    length: u32,
}

impl BlockRequest {
    /// Returns the piece that contains the range.
    pub fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Returns where the range starts in the piece, in bytes.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// Returns the length of the range, in bytes.
    pub fn length(self) -> u32 {
        self.length
    }

    /// Returns the index of the block in which the range starts.
    pub fn block(self) -> u32 {
        self.offset / BLOCK_LENGTH
    }
}

/// Why the numbers are not those of a torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Occurs when the piece length is zero or over [`MAX_PIECE_LENGTH`].
    #[error("expected a piece length of 1 to {MAX_PIECE_LENGTH} bytes, got {got}")]
    PieceLength {
        /// The piece length.
        got: u64,
    },
    /// Occurs when there would be more than [`MAX_PIECE_COUNT`] pieces.
    #[error("expected at most {MAX_PIECE_COUNT} pieces, got {got}")]
    TooManyPieces {
        /// The number of pieces.
        got: u64,
    },
}

/// The size of a torrent's data and the length of its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    total: u64,
    piece_length: u32,
    piece_count: u32,
}

impl Geometry {
    /// Makes the geometry of `total` bytes in pieces of `piece_length` bytes.
    ///
    /// # Errors
    /// If the piece length is 0 or over [`MAX_PIECE_LENGTH`], or there are more than
    /// [`MAX_PIECE_COUNT`] pieces.
    pub fn new(total: u64, piece_length: u64) -> Result<Self, GeometryError> {
        if piece_length == 0 || piece_length > u64::from(MAX_PIECE_LENGTH) {
            return Err(GeometryError::PieceLength { got: piece_length });
        }
        let count = total.div_ceil(piece_length);
        if count > u64::from(MAX_PIECE_COUNT) {
            return Err(GeometryError::TooManyPieces { got: count });
        }
        Ok(Self { total, piece_length: piece_length as u32, piece_count: count as u32 })
    }

    /// Returns the size of the data, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the length of every piece but the last, in bytes.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Returns the number of pieces.
    pub fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// Returns piece `index`, if it exists.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.piece_count).then_some(PieceIndex(index))
    }

    /// Returns every piece, in order.
    pub fn pieces(
        &self,
    ) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// Returns the length of `piece`, in bytes: [`Self::piece_length`], except for the last piece.
    pub fn length_of(&self, piece: PieceIndex) -> u32 {
        let rest = self.total.saturating_sub(self.offset_of(piece));
        rest.min(u64::from(self.piece_length)) as u32
    }

    /// Returns where `piece` starts in the data, in bytes.
    pub fn offset_of(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Returns the piece that contains byte `offset` of the data, if there is one.
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        let index = offset / u64::from(self.piece_length);
        (offset < self.total).then_some(PieceIndex(index as u32))
    }

    /// Returns the number of blocks of [`BLOCK_LENGTH`] in `piece`.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.length_of(piece).div_ceil(BLOCK_LENGTH)
    }

    /// Returns block `block` of `piece`, if it exists.
    pub fn block(&self, piece: PieceIndex, block: u32) -> Option<BlockRequest> {
        let length = self.length_of(piece);
        let offset = block.checked_mul(BLOCK_LENGTH).filter(|offset| *offset < length)?;
        Some(BlockRequest { piece, offset, length: BLOCK_LENGTH.min(length - offset) })
    }

    /// Returns the blocks of `piece`, in order.
    pub fn blocks(&self, piece: PieceIndex) -> impl Iterator<Item = BlockRequest> + use<> {
        let geometry = *self;
        (0..self.block_count(piece)).filter_map(move |block| geometry.block(piece, block))
    }

    /// Returns the range of a peer's `index`, `offset` and `length`, if it is inside one existing
    /// piece and 1 to [`MAX_REQUEST_LENGTH`] bytes long.
    pub fn request(&self, index: u32, offset: u32, length: u32) -> Option<BlockRequest> {
        let piece = self.piece(index)?;
        let end = offset.checked_add(length)?;
        let fits = (1..=MAX_REQUEST_LENGTH).contains(&length) && end <= self.length_of(piece);
        fits.then_some(BlockRequest { piece, offset, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(total: u64, piece_length: u64, lengths: &[u32]) {
        let geometry = Geometry::new(total, piece_length).unwrap();
        let got: Vec<u32> = geometry.pieces().map(|piece| geometry.length_of(piece)).collect();
        assert_eq!(got, lengths);
        assert_eq!(geometry.piece(lengths.len() as u32), None);
        for piece in geometry.pieces() {
            let blocks: Vec<BlockRequest> = geometry.blocks(piece).collect();
            let sum: u32 = blocks.iter().map(|block| block.length()).sum();
            assert_eq!(sum, geometry.length_of(piece));
            assert_eq!(blocks.len() as u32, geometry.block_count(piece));
            assert_eq!(geometry.block(piece, blocks.len() as u32), None);
        }
    }

    #[test]
    fn pieces_cover_the_data() {
        check(0, 16, &[]);
        check(1, 16, &[1]);
        check(16, 16, &[16]);
        check(17, 16, &[16, 1]);
        check(100_000, 32 * 1024, &[32 * 1024, 32 * 1024, 32 * 1024, 1696]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let piece_length = |got| Err(GeometryError::PieceLength { got });
        assert_eq!(Geometry::new(1, 0), piece_length(0));
        assert_eq!(Geometry::new(1, (1 << 29) + 1), piece_length((1 << 29) + 1));
        assert_eq!(Geometry::new(u64::MAX, u64::MAX), piece_length(u64::MAX));
        assert_eq!(
            Geometry::new((1 << 21) + 1, 1),
            Err(GeometryError::TooManyPieces { got: (1 << 21) + 1 })
        );
        assert!(Geometry::new(1 << 50, 1 << 29).is_ok());
    }

    #[test]
    fn request_must_be_inside_one_piece() {
        let geometry = Geometry::new(100_000, 32 * 1024).unwrap();
        assert!(geometry.request(3, 0, 1696).is_some());
        for (index, offset, length) in
            [(4, 0, 1), (3, 0, 1697), (3, 1696, 1), (0, 0, 0), (0, u32::MAX, 2), (0, 1, 32 * 1024)]
        {
            assert_eq!(geometry.request(index, offset, length), None);
        }
        let wide = Geometry::new(1 << 20, 1 << 20).unwrap();
        assert!(wide.request(0, 0, MAX_REQUEST_LENGTH).is_some());
        assert!(wide.request(0, 0, MAX_REQUEST_LENGTH + 1).is_none());
    }
}

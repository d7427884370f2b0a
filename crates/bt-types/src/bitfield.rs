//! A set of pieces, in the format of the wire: piece 0 is the highest bit of the first byte (BEP 3,
//! "bitfield"). Invariant: spare bits at the end are zero.

use std::borrow::Cow;
use std::ops::Range;

use crate::PieceIndex;

/// Why received bytes are not a bitfield of this torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitfieldError {
    /// Occurs when there are more or fewer bytes than the pieces need.
    #[error("expected a bitfield of {expected} bytes, got {got}")]
    Length {
        /// The number of bytes that the pieces need.
        expected: usize,
        /// The number of bytes received.
        got: usize,
    },
    /// Occurs when a bit after the last piece is set.
    #[error("expected the spare bits of the bitfield to be zero")]
    SpareBits,
}

/// A set of pieces of one torrent. The empty set and the set of all pieces take no memory for bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitfield {
    /// `None` if the set has no piece or every piece.
    bytes: Option<Box<[u8]>>,
    pieces: u32,
    count: u32,
}

impl Bitfield {
    /// Makes the empty set, for a torrent of `pieces` pieces.
    pub fn new(pieces: u32) -> Self {
        Self { bytes: None, pieces, count: 0 }
    }

    /// Makes the set of all `pieces` pieces.
    pub fn full(pieces: u32) -> Self {
        Self { bytes: None, pieces, count: pieces }
    }

    /// Reads the set from `bytes`, as a peer sent it.
    ///
    /// # Errors
    /// If the length is not what the pieces need, or a spare bit is set.
    pub fn from_bytes(bytes: &[u8], pieces: u32) -> Result<Self, BitfieldError> {
        let expected = Self::byte_length(pieces);
        if bytes.len() != expected {
            return Err(BitfieldError::Length { expected, got: bytes.len() });
        }
        if bytes.last().is_some_and(|last| last & Self::spare_mask(pieces) != 0) {
            return Err(BitfieldError::SpareBits);
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        let mixed = count > 0 && count < pieces;
        Ok(Self { bytes: mixed.then(|| bytes.into()), pieces, count })
    }

    /// Returns the length in bytes of a bitfield of `pieces` pieces on the wire.
    pub fn byte_length(pieces: u32) -> usize {
        pieces.div_ceil(8) as usize
    }

    /// Returns the bits of the last byte on the wire that belong to no piece.
    pub fn spare_mask(pieces: u32) -> u8 {
        match pieces % 8 {
            0 => 0,
            used => 0xff >> used,
        }
    }

    /// Returns whether `piece` is in the set.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        let (byte, mask) = position(piece);
        self.byte(byte) & mask != 0
    }

    /// Adds `piece`. Returns whether it was new.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let new = piece.get() < self.pieces && !self.contains(piece);
        if new {
            self.flip(piece, self.count + 1);
        }
        new
    }

    /// Removes `piece`. Returns whether it was in the set.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let found = self.contains(piece);
        if found {
            self.flip(piece, self.count - 1);
        }
        found
    }

    /// Returns the number of pieces in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of pieces of the torrent.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Returns whether the set has every piece.
    pub fn is_full(&self) -> bool {
        self.count == self.pieces
    }

    /// Returns whether the set has no piece.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the set in the format of the wire.
    pub fn as_bytes(&self) -> Cow<'_, [u8]> {
        match &self.bytes {
            Some(bytes) => Cow::Borrowed(bytes),
            None => (0..Self::byte_length(self.pieces)).map(|byte| self.byte(byte)).collect(),
        }
    }

    /// Returns the indices of the pieces in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.indices(0..Self::byte_length(self.pieces))
    }

    /// Returns the indices of the pieces in the set, starting at `from` rounded down to a multiple
    /// of 8. The indices before that follow at the end. Both groups are ascending.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let length = Self::byte_length(self.pieces);
        let start = (from as usize / 8).min(length);
        self.indices(start..length).chain(self.indices(0..start))
    }

    fn indices(&self, bytes: Range<usize>) -> impl Iterator<Item = u32> + '_ {
        let bytes = bytes.map(|byte| (byte, self.byte(byte)));
        bytes.filter(|(_, bits)| *bits != 0).flat_map(|(byte, bits)| {
            (0..8)
                .filter(move |bit| bits & (0x80 >> bit) != 0)
                .map(move |bit| byte as u32 * 8 + bit)
        })
    }

    fn byte(&self, byte: usize) -> u8 {
        match &self.bytes {
            Some(bytes) => bytes.get(byte).copied().unwrap_or(0),
            None if self.is_empty() => 0,
            None => full_byte(byte, self.pieces),
        }
    }

    /// Adds or removes `piece`, after which the set has `count` pieces.
    fn flip(&mut self, piece: PieceIndex, count: u32) {
        let ((byte, mask), length) = (position(piece), Self::byte_length(self.pieces));
        let mut bytes =
            self.bytes.take().unwrap_or_else(|| (0..length).map(|byte| self.byte(byte)).collect());
        bytes[byte] ^= mask;
        self.count = count;
        // The count alone describes an empty or full set.
        self.bytes = (!self.is_empty() && !self.is_full()).then_some(bytes);
    }
}

fn position(piece: PieceIndex) -> (usize, u8) {
    ((piece.get() / 8) as usize, 0x80 >> (piece.get() % 8))
}

/// Returns byte `byte` of the set of all pieces.
fn full_byte(byte: usize, pieces: u32) -> u8 {
    match Bitfield::byte_length(pieces).checked_sub(byte + 1) {
        None => 0,
        Some(0) => !Bitfield::spare_mask(pieces),
        Some(_) => 0xff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    #[test]
    fn insert_and_remove_count() {
        let geometry = Geometry::new(10, 1).unwrap();
        let mut set = Bitfield::new(10);
        let nine = geometry.piece(9).unwrap();
        assert!(set.insert(nine) && !set.insert(nine));
        assert_eq!((set.count(), &*set.as_bytes()), (1, &[0, 0b0100_0000][..]));
        assert!(set.remove(nine) && !set.remove(nine) && set.is_empty());
        geometry.pieces().for_each(|piece| assert!(set.insert(piece)));
        assert_eq!(set, Bitfield::full(10));
        assert_eq!(set.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn full_set_can_shrink() {
        let geometry = Geometry::new(10, 1).unwrap();
        let mut set = Bitfield::full(10);
        assert_eq!(*set.as_bytes(), [0xff, 0xc0]);
        let nine = geometry.piece(9).unwrap();
        assert!(set.contains(nine) && !set.insert(nine) && set.remove(nine));
        assert_eq!((set.count(), &*set.as_bytes()), (9, &[0xff, 0x80][..]));
        geometry.pieces().for_each(|piece| _ = set.remove(piece));
        assert_eq!(set, Bitfield::new(10));
        assert_eq!(*set.as_bytes(), [0, 0]);
    }

    #[test]
    fn iteration_starts_in_the_middle() {
        let set = Bitfield::from_bytes(&[0x81, 0, 0xc0], 20).unwrap();
        assert_eq!(set.iter_from(9).collect::<Vec<_>>(), [16, 17, 0, 7]);
        assert_eq!(set.iter_from(100).collect::<Vec<_>>(), [0, 7, 16, 17]);
        assert_eq!(Bitfield::full(10).iter_from(8).collect::<Vec<_>>()[..3], [8, 9, 0]);
    }

    #[test]
    fn piece_of_other_torrent_is_ignored() {
        let mut set = Bitfield::new(10);
        let foreign = Geometry::new(20, 1).unwrap().piece(12).unwrap();
        assert!(!set.insert(foreign) && !set.contains(foreign) && !set.remove(foreign));
    }

    #[test]
    fn received_bytes_are_checked() {
        assert_eq!(Bitfield::from_bytes(&[0xff, 0xc0], 10), Ok(Bitfield::full(10)));
        assert_eq!(Bitfield::from_bytes(&[0xff, 0xe0], 10), Err(BitfieldError::SpareBits));
        for bytes in [&[0xff][..], &[0xff, 0xc0, 0]] {
            let error = BitfieldError::Length { expected: 2, got: bytes.len() };
            assert_eq!(Bitfield::from_bytes(bytes, 10), Err(error));
        }
        assert!(Bitfield::from_bytes(&[], 0).unwrap().is_full());
    }
}

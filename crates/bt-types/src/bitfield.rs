//! A set of pieces, laid out as on the wire: piece 0 is the highest bit of the first byte (BEP 3,
//! "bitfield"). Invariant: spare bits at the end are zero.

use crate::PieceIndex;

/// Bytes from outside that are no bitfield of this torrent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitfieldError {
    /// Occurs when there are more or fewer bytes than the pieces need.
    #[error("expected a bitfield of {expected} bytes, got {got}")]
    Length {
        /// How many bytes the pieces need.
        expected: usize,
        /// How many there were.
        got: usize,
    },
    /// Occurs when a bit after the last piece is set.
    #[error("expected the spare bits of the bitfield to be zero")]
    SpareBits,
}

/// A set of the pieces of one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    pieces: u32,
    count: u32,
}

impl Bitfield {
    /// The empty set, for a torrent of `pieces` pieces.
    pub fn new(pieces: u32) -> Self {
        Self { bytes: vec![0; Self::byte_length(pieces)], pieces, count: 0 }
    }

    /// The set of all `pieces` pieces.
    pub fn full(pieces: u32) -> Self {
        let mut bytes = vec![0xff; Self::byte_length(pieces)];
        if let Some(last) = bytes.last_mut() {
            *last &= !spare_mask(pieces);
        }
        Self { bytes, pieces, count: pieces }
    }

    /// The set in `bytes`, as a peer sent it.
    ///
    /// # Errors
    /// Another length than the pieces need; spare bits that are set.
    pub fn from_bytes(bytes: &[u8], pieces: u32) -> Result<Self, BitfieldError> {
        let expected = Self::byte_length(pieces);
        if bytes.len() != expected {
            return Err(BitfieldError::Length { expected, got: bytes.len() });
        }
        if bytes.last().is_some_and(|last| last & spare_mask(pieces) != 0) {
            return Err(BitfieldError::SpareBits);
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self { bytes: bytes.to_vec(), pieces, count })
    }

    /// How many bytes a bitfield of `pieces` pieces has on the wire.
    pub fn byte_length(pieces: u32) -> usize {
        pieces.div_ceil(8) as usize
    }

    /// Whether `piece` is in the set.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        let (byte, mask) = position(piece);
        self.bytes.get(byte).is_some_and(|bits| bits & mask != 0)
    }

    /// Puts `piece` in; says whether it was new.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let (byte, mask) = position(piece);
        let new = piece.get() < self.pieces && self.bytes[byte] & mask == 0;
        if new {
            self.bytes[byte] |= mask;
            self.count += 1;
        }
        new
    }

    /// Takes `piece` out; says whether it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let there = self.contains(piece);
        if there {
            let (byte, mask) = position(piece);
            self.bytes[byte] &= !mask;
            self.count -= 1;
        }
        there
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many pieces the torrent has.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.pieces
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The set as it goes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The numbers of the pieces in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(|(byte, bits)| {
            (0..8)
                .filter(move |bit| bits & (0x80 >> bit) != 0)
                .map(move |bit| byte as u32 * 8 + bit)
        })
    }
}

fn position(piece: PieceIndex) -> (usize, u8) {
    ((piece.get() / 8) as usize, 0x80 >> (piece.get() % 8))
}

/// The bits of the last byte that stand for no piece.
fn spare_mask(pieces: u32) -> u8 {
    match pieces % 8 {
        0 => 0,
        used => 0xff >> used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    #[test]
    fn insert_remove_count() {
        let geometry = Geometry::new(10, 1).unwrap();
        let mut set = Bitfield::new(10);
        let nine = geometry.piece(9).unwrap();
        assert!(set.insert(nine) && !set.insert(nine));
        assert_eq!((set.count(), set.as_bytes()), (1, &[0, 0b0100_0000][..]));
        assert!(set.remove(nine) && !set.remove(nine) && set.is_empty());
        geometry.pieces().for_each(|piece| assert!(set.insert(piece)));
        assert_eq!(set, Bitfield::full(10));
        assert_eq!(set.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_piece_of_another_torrent_is_never_in() {
        let mut set = Bitfield::new(10);
        let stranger = Geometry::new(20, 1).unwrap().piece(12).unwrap();
        assert!(!set.insert(stranger) && !set.contains(stranger) && !set.remove(stranger));
    }

    #[test]
    fn bytes_from_outside() {
        assert_eq!(Bitfield::from_bytes(&[0xff, 0xc0], 10), Ok(Bitfield::full(10)));
        assert_eq!(Bitfield::from_bytes(&[0xff, 0xe0], 10), Err(BitfieldError::SpareBits));
        for bytes in [&[0xff][..], &[0xff, 0xc0, 0]] {
            let error = BitfieldError::Length { expected: 2, got: bytes.len() };
            assert_eq!(Bitfield::from_bytes(bytes, 10), Err(error));
        }
        assert!(Bitfield::from_bytes(&[], 0).unwrap().is_full());
    }
}

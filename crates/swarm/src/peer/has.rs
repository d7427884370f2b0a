//! Which pieces a peer has.

use bt_types::{Bitfield, PieceIndex};

/// The pieces that a peer has.
#[derive(Debug, Clone, Default)]
pub(crate) enum Has {
    /// No piece, as far as the peer said.
    #[default]
    Nothing,
    /// These pieces.
    Some(Bitfield),
    /// Every piece. Such peers are counted as a whole, not piece by piece.
    All,
}

impl Has {
    /// Returns the pieces in `bits`, by the variant that fits.
    pub(crate) fn from_bits(bits: Bitfield) -> Self {
        if bits.is_full() {
            Self::All
        } else if bits.is_empty() {
            Self::Nothing
        } else {
            Self::Some(bits)
        }
    }

    pub(crate) fn contains(&self, piece: PieceIndex) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(bits) => bits.contains(piece),
            Self::All => true,
        }
    }

    /// Whether these are all pieces.
    pub(crate) fn is_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Nothing | Self::Some(_) => false,
        }
    }

    /// Returns how many pieces these are, of a torrent of `pieces`.
    pub(crate) fn count(&self, pieces: u32) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Some(bits) => bits.count(),
            Self::All => pieces,
        }
    }

    /// Adds `piece`; says whether it was new.
    pub(crate) fn insert(&mut self, piece: PieceIndex, pieces: u32) -> bool {
        match self {
            Self::All => false,
            Self::Some(bits) => bits.insert(piece),
            Self::Nothing => {
                *self = Self::Some(Bitfield::new(pieces));
                self.insert(piece, pieces)
            }
        }
    }

    /// Returns the numbers of the pieces, ascending from about `from` on and around. Empty for a
    /// peer that has all pieces or none, which needs no list.
    pub(crate) fn numbers_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let bits = match self {
            Self::Some(bits) => Some(bits),
            Self::Nothing | Self::All => None,
        };
        bits.into_iter().flat_map(move |bits| bits.iter_from(from))
    }
}

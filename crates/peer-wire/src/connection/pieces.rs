//! What is known of the torrent's pieces, and the checks of what the peer says of them.
//!
//! Before the metadata is known, a peer may already send haves and bitfields. They are reported
//! unchecked. What is needed to check them later takes a few bytes: the peer broke a rule if its
//! largest piece does not exist or any bitfield has another length.

use bt_types::{Geometry, MAX_PIECE_COUNT, PieceIndex};

use crate::rule::Rule;

/// What is known of the torrent's pieces.
#[derive(Debug)]
pub(super) enum Pieces {
    /// Nothing, but what the peer says.
    Unknown(Said),
    /// Their number and lengths.
    Known(Geometry),
}

/// What a peer said of pieces before their number was known.
#[derive(Debug)]
pub(super) struct Said {
    /// The largest piece, and the message that named it.
    largest: Option<(u32, u8)>,
    /// The length of the shortest bitfield, in bytes; `u32::MAX` without one.
    shortest: u32,
    /// The length of the longest bitfield, in bytes.
    longest: u32,
}

impl Said {
    const NOTHING: Self = Self { largest: None, shortest: u32::MAX, longest: 0 };
}

impl Pieces {
    /// Nothing is known and nothing was said.
    pub(super) const UNKNOWN: Self = Self::Unknown(Said::NOTHING);

    pub(super) fn geometry(&self) -> Option<Geometry> {
        match self {
            Self::Unknown(_) => None,
            Self::Known(geometry) => Some(*geometry),
        }
    }

    /// Returns how many pieces there are; 0 while that is unknown.
    pub(super) fn count(&self) -> u32 {
        self.geometry().map_or(0, |geometry| geometry.piece_count())
    }

    /// Checks the piece that message `id` names. Returns `None` if it may exist.
    pub(super) fn check(&mut self, id: u8, index: u32) -> Result<Option<PieceIndex>, Rule> {
        match self {
            Self::Known(geometry) => exists(geometry, id, index).map(Some),
            Self::Unknown(_) if index >= MAX_PIECE_COUNT => {
                Err(Rule::NoSuchPiece { id, index, count: MAX_PIECE_COUNT })
            }
            Self::Unknown(said) => {
                said.largest = said.largest.max(Some((index, id)));
                Ok(None)
            }
        }
    }

    /// Checks the length of a bitfield.
    pub(super) fn check_bitfield(&mut self, length: u32) -> Result<(), Rule> {
        match self {
            Self::Known(geometry) => fits(geometry, length),
            Self::Unknown(said) => {
                said.shortest = said.shortest.min(length);
                said.longest = said.longest.max(length);
                Ok(())
            }
        }
    }

    /// Sets the geometry, and checks what the peer said before.
    pub(super) fn learn(&mut self, geometry: Geometry) -> Result<(), Rule> {
        let Self::Unknown(said) = std::mem::replace(self, Self::Known(geometry)) else {
            return Ok(());
        };
        if said.shortest <= said.longest {
            fits(&geometry, said.shortest)?;
            fits(&geometry, said.longest)?;
        }
        said.largest.map_or(Ok(()), |(index, id)| exists(&geometry, id, index).map(drop))
    }
}

fn exists(geometry: &Geometry, id: u8, index: u32) -> Result<PieceIndex, Rule> {
    let count = geometry.piece_count();
    geometry.piece(index).ok_or(Rule::NoSuchPiece { id, index, count })
}

fn fits(geometry: &Geometry, got: u32) -> Result<(), Rule> {
    let expected = geometry.piece_count().div_ceil(8);
    if got == expected { Ok(()) } else { Err(Rule::BitfieldLength { expected, got }) }
}

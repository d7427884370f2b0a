//! Which pieces we have, and which we want.

use bt_types::{Bitfield, Geometry, PieceIndex};

use crate::peer::Has;
use crate::vocabulary::BeginTransferError;

/// The pieces that we have and those that we want.
///
/// Invariant: `missing` and `left` count the wanted pieces that we do not have.
#[derive(Debug)]
pub struct Pieces {
    geometry: Geometry,
    have: Bitfield,
    wanted: Bitfield,
    missing: u32,
    left: u64,
}

impl Pieces {
    pub(crate) fn new(
        geometry: Geometry,
        have: Bitfield,
        wanted: Bitfield,
    ) -> Result<Self, BeginTransferError> {
        let expected = geometry.piece_count();
        for got in [have.pieces(), wanted.pieces()] {
            if got != expected {
                return Err(BeginTransferError::PieceCount { expected, got });
            }
        }
        let mut pieces = Self { geometry, have, wanted, missing: 0, left: 0 };
        pieces.recount();
        Ok(pieces)
    }

    /// Returns how much data there is, in what pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns the pieces that we have: verified and written.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Returns the pieces that we want to have in the end.
    pub fn wanted(&self) -> &Bitfield {
        &self.wanted
    }

    /// Returns how many wanted pieces are missing.
    pub fn missing(&self) -> u32 {
        self.missing
    }

    /// Returns how many bytes the missing wanted pieces have.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether no wanted piece is missing.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Whether pieces of the torrent are missing, none of them wanted (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.is_complete() && !self.have.is_full()
    }

    /// Returns how many bytes of the torrent are missing, wanted or not.
    pub fn torrent_left(&self) -> u64 {
        let count = self.geometry.piece_count();
        let missing = u64::from(count - self.have.count());
        let last = count.checked_sub(1).and_then(|last| self.geometry.piece(last));
        let short = last.filter(|last| !self.have.contains(*last));
        let shorter =
            short.map_or(0, |last| self.geometry.piece_length() - self.geometry.length_of(last));
        missing * u64::from(self.geometry.piece_length()) - u64::from(shorter)
    }

    /// Whether `piece` is wanted and missing.
    pub(crate) fn is_missing(&self, piece: PieceIndex) -> bool {
        self.wanted.contains(piece) && !self.have.contains(piece)
    }

    /// Returns how many of a peer's pieces are wanted and missing.
    pub(crate) fn useful(&self, has: &Has) -> u32 {
        match has {
            Has::Nothing => 0,
            Has::All => self.missing,
            Has::Some(bits) => {
                let (wanted, have) = (self.wanted.as_bytes(), self.have.as_bytes());
                let bits = bits.as_bytes();
                let all = bits.iter().zip(wanted.iter().zip(have.iter()));
                all.map(|(has, (wanted, have))| (has & wanted & !have).count_ones()).sum()
            }
        }
    }

    /// We have `piece` now. Says whether it was wanted and missing.
    pub(super) fn gain(&mut self, piece: PieceIndex) -> bool {
        let counted = self.is_missing(piece);
        if self.have.insert(piece) && counted {
            self.missing -= 1;
            self.left -= u64::from(self.geometry.length_of(piece));
        }
        counted
    }

    /// We do not have `piece` any longer. Says whether we had it and it is wanted.
    pub(super) fn lose(&mut self, piece: PieceIndex) -> bool {
        let counted = self.have.remove(piece) && self.wanted.contains(piece);
        if counted {
            self.missing += 1;
            self.left += u64::from(self.geometry.length_of(piece));
        }
        counted
    }

    pub(super) fn set_wanted(&mut self, wanted: Bitfield) {
        self.wanted = wanted;
        self.recount();
    }

    fn recount(&mut self) {
        (self.missing, self.left) = (0, 0);
        for piece in self.geometry.pieces() {
            if self.is_missing(piece) {
                self.missing += 1;
                self.left += u64::from(self.geometry.length_of(piece));
            }
        }
    }
}

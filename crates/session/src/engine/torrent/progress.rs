//! How much of what is wanted we have.

use bt_types::{Bitfield, PieceIndex};
use metainfo::Info;

/// How much of what is wanted we have, without padding (BEP 47), which is not the user's data.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) pieces: u32,
    pub(super) pieces_total: u32,
    pub(super) bytes: u64,
    pub(super) bytes_total: u64,
    has_padding: bool,
}

impl Progress {
    /// We have nothing, and everything is wanted. Takes time for every file.
    pub(super) fn nothing_of(info: &Info) -> Self {
        let (pieces_total, bytes_total) = (info.geometry().piece_count(), info.content_size());
        let has_padding = bytes_total != info.geometry().total();
        Self { pieces: 0, pieces_total, bytes: 0, bytes_total, has_padding }
    }

    /// Takes time for every file and every piece.
    pub(super) fn of(info: &Info, wanted: &Bitfield, have: &Bitfield) -> Self {
        let mut progress = Self { pieces_total: 0, bytes_total: 0, ..Self::nothing_of(info) };
        for piece in wanted.iter().filter_map(|index| info.geometry().piece(index)) {
            progress.pieces_total += 1;
            progress.bytes_total += progress.data_in(info, piece);
            if have.contains(piece) {
                progress.gain(info, piece);
            }
        }
        progress
    }

    /// Counts a wanted piece that we have now.
    pub(super) fn gain(&mut self, info: &Info, piece: PieceIndex) {
        self.pieces += 1;
        self.bytes += self.data_in(info, piece);
    }

    /// The bytes of `piece` without padding.
    fn data_in(&self, info: &Info, piece: PieceIndex) -> u64 {
        let padding = if self.has_padding { info.padding_in(piece) } else { 0 };
        u64::from(info.geometry().length_of(piece) - padding)
    }
}

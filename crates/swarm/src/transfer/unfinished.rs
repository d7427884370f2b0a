//! The pieces that are being fetched or committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bt_types::PieceIndex;

use super::unfinished_piece::UnfinishedPiece;
use crate::peer::{Asked, PeerTransfer};
use crate::spans::SpanLayout;
use crate::vocabulary::PeerKey;

/// The pieces that are being fetched or committed.
///
/// Invariant: `with_free` lists those that have free blocks and are not being committed.
#[derive(Debug)]
pub(super) struct Unfinished {
    layout: SpanLayout,
    pieces: BTreeMap<PieceIndex, UnfinishedPiece>,
    with_free: BTreeSet<PieceIndex>,
    /// How many spans of all these pieces are in memory. Every fill of a window asks for it.
    reserved: u32,
}

impl Unfinished {
    pub(super) fn new(layout: SpanLayout) -> Self {
        let (pieces, with_free) = (BTreeMap::new(), BTreeSet::new());
        Self { layout, pieces, with_free, reserved: 0 }
    }

    pub(super) fn layout(&self) -> SpanLayout {
        self.layout
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn get(&self, piece: PieceIndex) -> Option<&UnfinishedPiece> {
        self.pieces.get(&piece)
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// Returns the pieces, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.pieces.keys().copied()
    }

    /// Returns the pieces that have free blocks and are not being committed.
    pub(super) fn with_free(&self) -> impl Iterator<Item = (PieceIndex, &UnfinishedPiece)> {
        self.with_free.iter().map(|piece| (*piece, &self.pieces[piece]))
    }

    /// Returns the pieces that are still being fetched.
    pub(super) fn fetching(&self) -> impl Iterator<Item = (PieceIndex, &UnfinishedPiece)> {
        let pieces = self.pieces.iter().map(|(piece, unfinished)| (*piece, unfinished));
        pieces.filter(|(_, unfinished)| !unfinished.committing)
    }

    /// Returns the memory that the pieces hold, in bytes.
    pub(super) fn reserved_bytes(&self) -> u64 {
        u64::from(self.reserved) * u64::from(self.layout.span_length())
    }

    /// Whether `piece` may be asked of no other peer than `key`.
    pub(super) fn is_only_for(&self, piece: PieceIndex, key: PeerKey) -> bool {
        self.get(piece).is_some_and(|unfinished| unfinished.only == Some(key))
    }

    /// Starts `piece`, for `only` one peer if given.
    pub(super) fn start(&mut self, piece: PieceIndex, only: Option<PeerKey>) {
        self.with_free.insert(piece);
        self.pieces.insert(piece, UnfinishedPiece::new(self.layout, piece, only));
    }

    /// Changes a piece, and keeps what is counted over all pieces true. `None` if it is not
    /// unfinished.
    pub(super) fn update<T>(
        &mut self,
        piece: PieceIndex,
        change: impl FnOnce(&mut UnfinishedPiece) -> T,
    ) -> Option<T> {
        let unfinished = self.pieces.get_mut(&piece)?;
        let (reserved, had_free) = (unfinished.reserved(), unfinished.has_free());
        let result = change(unfinished);
        self.reserved = self.reserved - reserved + unfinished.reserved();
        match (had_free, unfinished.has_free()) {
            (false, true) => _ = self.with_free.insert(piece),
            (true, false) => _ = self.with_free.remove(&piece),
            _ => {}
        }
        Some(result)
    }

    /// Removes `piece`.
    pub(super) fn close(&mut self, piece: PieceIndex) -> Option<UnfinishedPiece> {
        let unfinished = self.pieces.remove(&piece)?;
        self.reserved -= unfinished.reserved();
        self.with_free.remove(&piece);
        Some(unfinished)
    }

    /// Returns the first free block of `piece`, only of reserved spans if `reserved_only`.
    pub(super) fn first_free(&mut self, piece: PieceIndex, reserved_only: bool) -> Option<u32> {
        self.pieces.get_mut(&piece)?.first_free(reserved_only)
    }

    /// Returns a free block of the piece that lacks the fewest, of those that pass `eligible`.
    pub(super) fn fewest_missing(
        &mut self,
        reserved_only: bool,
        eligible: impl Fn(PieceIndex, &UnfinishedPiece) -> bool,
    ) -> Option<(PieceIndex, u32)> {
        let mut best = None;
        let mut fewest = u32::MAX;
        for piece in &self.with_free {
            let Some(unfinished) = self.pieces.get_mut(piece) else { continue };
            if unfinished.missing() < fewest
                && eligible(*piece, unfinished)
                && let Some(block) = unfinished.first_free(reserved_only)
            {
                fewest = unfinished.missing();
                best = Some((*piece, block));
            }
        }
        best
    }

    /// `key` does not owe the block any longer.
    pub(super) fn release(&mut self, key: PeerKey, Asked { request, snubbed, .. }: &Asked) {
        self.update(request.piece(), |piece| piece.release(request.block(), key, *snubbed));
    }

    /// The peer works on `piece` from now on, and on no other.
    pub(super) fn join(&mut self, now: Duration, piece: PieceIndex, peer: &mut PeerTransfer) {
        if peer.current.is_some_and(|(current, _)| current == piece) {
            return;
        }
        self.leave(peer);
        if let Some(unfinished) = self.pieces.get_mut(&piece) {
            let rate = peer.down.per_second(now);
            unfinished.rate += rate;
            peer.current = Some((piece, rate));
        }
    }

    /// The peer works on no piece from now on.
    pub(super) fn leave(&mut self, peer: &mut PeerTransfer) {
        let Some((piece, rate)) = peer.current.take() else { return };
        if let Some(unfinished) = self.pieces.get_mut(&piece) {
            unfinished.rate = unfinished.rate.saturating_sub(rate);
        }
    }

    /// Counts the rate that the peer has now where it works.
    pub(super) fn update_rate(&mut self, now: Duration, peer: &mut PeerTransfer) {
        if let Some((piece, counted)) = &mut peer.current
            && let Some(unfinished) = self.pieces.get_mut(piece)
        {
            let rate = peer.down.per_second(now);
            unfinished.rate = unfinished.rate.saturating_sub(*counted) + rate;
            *counted = rate;
        }
    }
}

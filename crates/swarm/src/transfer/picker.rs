//! Which block to ask a peer for.
//!
//! A peer whose share of the memory is small ([`MemoryShares`]) fills pieces together with peers
//! that are as slow. Any other peer goes on with the piece it works on. Then come unfinished pieces
//! that the peers at work would need long for. Then comes a new piece: at random for the first
//! [`RANDOM_FIRST`], so that there is soon something to trade, afterwards a rarest one. Then comes
//! any unfinished piece. While memory is short no piece is started, and only blocks whose span is
//! in memory are asked for.
//!
//! Invariant: the pieces are listed that are wanted, missing and not unfinished.

use std::time::Duration;

use bt_types::{BLOCK_LENGTH, PieceIndex};
use rand::{Rng, RngExt};

use super::blame::Blame;
use super::memory::MemoryShares;
use super::pieces::Pieces;
use super::rarity::Rarity;
use super::unfinished::Unfinished;
use super::unfinished_piece::UnfinishedPiece;
use crate::peer::{Has, PeerTransfer};
use crate::vocabulary::PeerKey;

/// So many pieces are chosen at random before the rarest are.
const RANDOM_FIRST: usize = 4;
/// How often a random piece is drawn before a rarest one is taken instead.
const RANDOM_DRAWS: u32 = 64;
/// An unfinished piece that its peers need longer for, in seconds, is shared with others.
const SHARE_AFTER: u64 = 10;

/// What to do for a peer that may be asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Ask it for this block of an unfinished piece.
    Block(PieceIndex, u32),
    /// Start this piece and choose again.
    Start(PieceIndex),
    /// It has nothing that is needed now.
    Nothing,
}

/// A peer that may be asked for more, and what the choice depends on.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) key: PeerKey,
    pub(super) peer: &'a PeerTransfer,
    pub(super) now: Duration,
    pub(super) shares: MemoryShares,
    /// Whether no memory can be reserved.
    pub(super) short: bool,
    pub(super) pieces: &'a Pieces,
    pub(super) blame: &'a Blame,
}

/// The pieces that may be started, and how many peers have them.
#[derive(Debug)]
pub(super) struct Picker {
    rarity: Rarity,
    /// How many connected peers have everything.
    seeds: u32,
}

impl Picker {
    pub(super) fn new(piece_count: u32) -> Self {
        Self { rarity: Rarity::new(piece_count), seeds: 0 }
    }

    /// Lists `piece` among those that may be started, or not. Says whether that changed.
    pub(super) fn list(&mut self, piece: PieceIndex, startable: bool, rng: &mut impl Rng) -> bool {
        let changed = self.lists(piece) != startable;
        if startable {
            self.rarity.insert(piece.get(), rng);
        } else {
            self.rarity.remove(piece.get());
        }
        changed
    }

    /// Whether `piece` may be started.
    pub(super) fn lists(&self, piece: PieceIndex) -> bool {
        self.rarity.contains(piece.get())
    }

    /// Counts the pieces of a peer that is there now.
    pub(super) fn count_in(&mut self, has: &Has, rng: &mut impl Rng) {
        match has {
            Has::Nothing => {}
            Has::All => self.seeds += 1,
            Has::Some(bits) => bits.iter().for_each(|piece| self.rarity.increment(piece, rng)),
        }
    }

    /// Counts out the pieces of a peer that is there no longer.
    pub(super) fn count_out(&mut self, has: &Has, rng: &mut impl Rng) {
        match has {
            Has::Nothing => {}
            Has::All => self.seeds -= 1,
            Has::Some(bits) => bits.iter().for_each(|piece| self.rarity.decrement(piece, rng)),
        }
    }

    /// Counts one more peer that has `piece`.
    pub(super) fn count_have(&mut self, piece: PieceIndex, rng: &mut impl Rng) {
        self.rarity.increment(piece.get(), rng);
    }

    /// Whether every missing block that a peer has is asked for, or reserved for the only peer
    /// that may be asked.
    pub(super) fn in_endgame(&self, unfinished: &Unfinished) -> bool {
        let startable = if self.seeds > 0 {
            self.rarity.pickable()
        } else {
            self.rarity.pickable_and_counted()
        };
        let is_for_all = |(piece, unfinished): (PieceIndex, &UnfinishedPiece)| {
            unfinished.only.is_none() && self.availability(piece) > 0
        };
        startable == 0 && !unfinished.is_empty() && !unfinished.with_free().any(is_for_all)
    }

    /// Returns how many connected peers have `piece`.
    fn availability(&self, piece: PieceIndex) -> u32 {
        self.seeds + u32::from(self.rarity.count(piece.get()))
    }

    /// Returns what to ask a peer for next, outside the endgame.
    pub(super) fn choose(
        &self,
        asker: &Asker<'_>,
        unfinished: &mut Unfinished,
        rng: &mut impl Rng,
    ) -> Choice {
        let short = asker.short;
        share(asker, unfinished)
            .or_else(|| go_on(asker, unfinished, short))
            .or_else(|| join_others(asker, unfinished, short, is_slow))
            .or_else(|| {
                let piece = if short { None } else { self.new_piece(asker, unfinished.len(), rng) };
                piece.map(Choice::Start)
            })
            .or_else(|| join_others(asker, unfinished, short, |_| true))
            .unwrap_or(Choice::Nothing)
    }

    /// Returns a piece to start, where so many are `unfinished`.
    fn new_piece(
        &self,
        asker: &Asker<'_>,
        unfinished: usize,
        rng: &mut impl Rng,
    ) -> Option<PieceIndex> {
        let Asker { key, peer, pieces, blame, .. } = *asker;
        if peer.fresh == 0 {
            return None;
        }
        let geometry = pieces.geometry();
        let may = |piece: u32| {
            let piece = geometry.piece(piece);
            piece.is_some_and(|piece| peer.may_send(piece) && blame.may_fetch(piece, key, peer))
        };
        let listed = |piece: &u32| self.rarity.contains(*piece) && may(*piece);
        let found = if peer.peer_choking {
            let allowed = peer.allowed_fast.iter().map(|piece| piece.get());
            allowed.filter(listed).min_by_key(|piece| self.rarity.count(*piece))
        } else {
            let suggested = peer.suggested.iter().map(|piece| piece.get()).find(listed);
            let started = pieces.have().count() as usize + unfinished;
            let draws = if started < RANDOM_FIRST { RANDOM_DRAWS } else { 0 };
            let mut draw = || rng.random_range(0..geometry.piece_count());
            let random = suggested.or_else(|| (0..draws).map(|_| draw()).find(listed));
            random.or_else(|| {
                let from = draw();
                // The pieces of a peer that does not have everything are counted.
                let least = usize::from(self.seeds == 0);
                self.rarity.rarest(least, may, peer.has.numbers_from(from))
            })
        };
        found.and_then(|piece| geometry.piece(piece))
    }
}

/// For a peer whose share of the memory holds no piece or span: returns a block for which memory is
/// reserved, where the other peers are no faster than this one.
fn share(asker: &Asker<'_>, unfinished: &mut Unfinished) -> Option<Choice> {
    let rate = asker.peer.down.per_second(asker.now);
    if asker.shares.has_share(rate, unfinished.layout().unit().into()) {
        return None;
    }
    let answer = asker.peer.next_answer(asker.now);
    let as_slow = |piece: &UnfinishedPiece| piece.whole_at(asker.now) >= answer;
    go_on(asker, unfinished, true).or_else(|| join_others(asker, unfinished, true, as_slow))
}

/// Returns a block of the piece that the peer works on.
fn go_on(asker: &Asker<'_>, unfinished: &mut Unfinished, reserved_only: bool) -> Option<Choice> {
    let (piece, _) = asker.peer.current?;
    if !unfinished.get(piece)?.admits(asker.key) || !asker.peer.may_send(piece) {
        return None;
    }
    unfinished.first_free(piece, reserved_only).map(|block| Choice::Block(piece, block))
}

/// Returns a block of the unfinished piece that lacks the fewest, of those that pass `eligible`.
fn join_others(
    asker: &Asker<'_>,
    unfinished: &mut Unfinished,
    reserved_only: bool,
    eligible: impl Fn(&UnfinishedPiece) -> bool,
) -> Option<Choice> {
    let found = unfinished.fewest_missing(reserved_only, |piece, unfinished| {
        unfinished.admits(asker.key) && asker.peer.may_send(piece) && eligible(unfinished)
    });
    found.map(|(piece, block)| Choice::Block(piece, block))
}

/// Whether the peers that work on the piece would need long for its free blocks.
fn is_slow(unfinished: &UnfinishedPiece) -> bool {
    let bytes = u64::from(unfinished.free()) * u64::from(BLOCK_LENGTH);
    bytes > unfinished.rate.saturating_mul(SHARE_AFTER)
}

//! The pieces of the torrent: which are had, which are open, and which block to ask a peer for.
//!
//! A peer whose share of the memory is small ([`MemoryShares`]) fills pieces together with peers that are
//! as slow. Any other goes on with the piece it works on. Then come open pieces that would take
//! long with those who work on them already; then a new piece: at random for the first
//! [`RANDOM_FIRST`] so that there is soon something to trade, afterwards a rarest one; then any
//! open piece. When every missing block is asked for (endgame), a block is asked of a second peer
//! that will send it sooner. While memory is short no piece is opened, and only blocks whose span
//! is in memory are asked for.
//!
//! Invariant: `rarity` lists the pieces that are wanted, not had and not open; `partial` the open
//! ones that have free blocks and are not being committed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bt_types::{BLOCK_LENGTH, Bitfield, Geometry, OnDemand, PieceIndex};
use rand::{Rng, RngExt};

use crate::blame::Blame;
use crate::memory::MemoryShares;
use crate::open::OpenPiece;
use crate::peer::{Has, Peer};
use crate::rarity::Rarity;
use crate::vocabulary::{PeerKey, SpanLayout};

/// So many pieces are chosen at random before the rarest are.
const RANDOM_FIRST: usize = 4;
/// How often a random piece is drawn before a rarest one is taken instead.
const RANDOM_DRAWS: u32 = 64;
/// An open piece that its peers need longer for, in seconds, is shared with others.
const SHARE_AFTER: u64 = 10;

/// What to do for a peer that may be asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Ask it for this block of an open piece.
    Block { piece: PieceIndex, block: u32 },
    /// Open this piece and choose again.
    Open(PieceIndex),
    /// It has nothing that is needed now.
    Nothing,
}

/// A peer that may be asked for more, and what it may take.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) key: PeerKey,
    pub(crate) peer: &'a Peer,
    pub(crate) now: Duration,
    pub(crate) shares: MemoryShares,
    /// Whether no memory can be reserved.
    pub(crate) short: bool,
}

/// The pieces of the torrent.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) geometry: Geometry,
    pub(crate) have: Bitfield,
    pub(crate) wanted: Bitfield,
    /// How many pieces are wanted and not had.
    pub(crate) missing: u32,
    /// How many bytes those have.
    pub(crate) left: u64,
    pub(crate) rarity: Rarity,
    /// How many connected peers have everything.
    pub(crate) seeds: u32,
    pub(crate) open: OnDemand<BTreeMap<PieceIndex, OpenPiece>>,
    pub(crate) partial: OnDemand<BTreeSet<PieceIndex>>,
    /// How many spans of all open pieces are in memory. It is kept here because it is needed at
    /// each fill of a window.
    reserved: u32,
    pub(crate) blame: OnDemand<Blame>,
}

impl Pieces {
    pub(crate) fn new(
        geometry: Geometry,
        have: Bitfield,
        wanted: Bitfield,
        rng: &mut impl Rng,
    ) -> Self {
        let mut pieces = Self {
            geometry,
            have,
            wanted,
            missing: 0,
            left: 0,
            rarity: Rarity::new(geometry.piece_count()),
            seeds: 0,
            open: OnDemand::default(),
            partial: OnDemand::default(),
            reserved: 0,
            blame: OnDemand::default(),
        };
        pieces.recount(rng);
        pieces
    }

    /// How pieces are divided into spans.
    pub(crate) fn layout(&self) -> SpanLayout {
        SpanLayout::new(self.geometry)
    }

    /// The memory that open pieces hold, in bytes.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        u64::from(self.reserved) * u64::from(self.layout().span_length())
    }

    /// Memory for `spans` of an open piece is reserved from now on.
    pub(crate) fn reserve(&mut self, now: Duration, piece: PieceIndex, spans: Range<u32>) {
        if let Some(open) = self.open.get_mut(&piece) {
            let before = open.reserved();
            open.reserve(now, spans);
            self.reserved += open.reserved() - before;
        }
    }

    /// Memory for `span` of an open piece goes back. Says whether the piece is open.
    pub(crate) fn unreserve(&mut self, piece: PieceIndex, span: u32) -> bool {
        let Some(open) = self.open.get_mut(&piece) else { return false };
        let before = open.reserved();
        open.unreserve(span);
        self.reserved -= before - open.reserved();
        true
    }

    /// Counts anew what is missing, after `have` or `wanted` changed as a whole.
    pub(crate) fn recount(&mut self, rng: &mut impl Rng) {
        (self.missing, self.left) = (0, 0);
        for piece in self.geometry.pieces() {
            if self.is_missing(piece) {
                self.missing += 1;
                self.left += u64::from(self.geometry.length_of(piece));
            }
            self.relist(piece, rng);
        }
    }

    /// Whether `piece` is wanted and not had.
    pub(crate) fn is_missing(&self, piece: PieceIndex) -> bool {
        self.wanted.contains(piece) && !self.have.contains(piece)
    }

    /// How many connected peers have `piece`.
    pub(crate) fn availability(&self, piece: PieceIndex) -> u32 {
        self.seeds + u32::from(self.rarity.count(piece.get()))
    }

    /// How many of a peer's pieces are wanted and not had.
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

    /// How many of a peer's pieces may be opened.
    pub(crate) fn fresh(&self, has: &Has) -> u32 {
        let open = self.open.keys().filter(|piece| has.contains(**piece));
        self.useful(has) - open.filter(|piece| self.is_missing(**piece)).count() as u32
    }

    /// A peer with these pieces is there now.
    pub(crate) fn count_in(&mut self, has: &Has, rng: &mut impl Rng) {
        match has {
            Has::Nothing => {}
            Has::All => self.seeds += 1,
            Has::Some(bits) => bits.iter().for_each(|piece| self.rarity.increment(piece, rng)),
        }
    }

    /// A peer with these pieces is there no longer.
    pub(crate) fn count_out(&mut self, has: &Has, rng: &mut impl Rng) {
        match has {
            Has::Nothing => {}
            Has::All => self.seeds -= 1,
            Has::Some(bits) => bits.iter().for_each(|piece| self.rarity.decrement(piece, rng)),
        }
    }

    /// Opens `piece`, for `key` alone if it is under investigation.
    pub(crate) fn open(&mut self, piece: PieceIndex, key: Option<PeerKey>) -> &mut OpenPiece {
        self.rarity.remove(piece.get());
        self.partial.insert(piece);
        let only = key.filter(|_| self.blame.concerns(piece) && self.blame.begin(piece));
        let blocks = self.geometry.block_count(piece);
        let mut open = OpenPiece::new(self.layout(), piece, blocks);
        open.only = only;
        self.open.entry(piece).or_insert(open)
    }

    /// `piece` is open no longer.
    pub(crate) fn close(&mut self, piece: PieceIndex, rng: &mut impl Rng) -> Option<OpenPiece> {
        let open = self.open.remove(&piece);
        self.reserved -= open.as_ref().map_or(0, OpenPiece::reserved);
        self.partial.remove(&piece);
        self.relist(piece, rng);
        open
    }

    /// `piece` is had. Says whether it was wanted and missing.
    pub(crate) fn gained(&mut self, piece: PieceIndex, rng: &mut impl Rng) -> bool {
        let counted = self.is_missing(piece);
        if self.have.insert(piece) && counted {
            self.missing -= 1;
            self.left -= u64::from(self.geometry.length_of(piece));
        }
        self.relist(piece, rng);
        counted
    }

    /// `piece` is had no longer. Says whether it is wanted and was had.
    pub(crate) fn lost(&mut self, piece: PieceIndex, rng: &mut impl Rng) -> bool {
        let counted = self.have.remove(piece) && self.wanted.contains(piece);
        if counted {
            self.missing += 1;
            self.left += u64::from(self.geometry.length_of(piece));
        }
        self.relist(piece, rng);
        counted
    }

    /// Puts an open piece among those with free blocks, or takes it out.
    pub(crate) fn update_partial(&mut self, piece: PieceIndex) {
        let open = self.open.get(&piece);
        if open.is_some_and(|open| open.free() > 0 && !open.committing) {
            self.partial.insert(piece);
        } else {
            self.partial.remove(&piece);
        }
    }

    /// Takes an open piece out of those with free blocks if it has none.
    pub(crate) fn update_partial_if_full(&mut self, piece: PieceIndex) {
        if self.open.get(&piece).is_some_and(|open| open.free() == 0) {
            self.partial.remove(&piece);
        }
    }

    /// Whether every missing block that somebody has is asked for, or left to the only peer that
    /// may be asked.
    pub(crate) fn in_endgame(&self) -> bool {
        let unopened = if self.seeds > 0 {
            self.rarity.pickable()
        } else {
            self.rarity.pickable_and_counted()
        };
        unopened == 0
            && !self.open.is_empty()
            && !self.partial.iter().any(|piece| self.is_for_all(*piece))
    }

    /// Whether anybody may be asked for an open piece, and somebody has it.
    fn is_for_all(&self, piece: PieceIndex) -> bool {
        let open = self.open.get(&piece);
        open.is_some_and(|open| open.only.is_none()) && self.availability(piece) > 0
    }

    /// What to ask a peer for next, but for the endgame.
    pub(crate) fn choose(&mut self, asker: &Asker<'_>, rng: &mut impl Rng) -> Choice {
        let block = self
            .share(asker)
            .or_else(|| self.go_on(asker, asker.short))
            .or_else(|| self.join_others(asker, asker.short, is_slow));
        if let Some(block) = block {
            return block;
        }
        if !asker.short
            && let Some(piece) = self.new_piece(asker.key, asker.peer, rng)
        {
            return Choice::Open(piece);
        }
        self.join_others(asker, asker.short, |_| true).unwrap_or(Choice::Nothing)
    }

    /// For a peer whose share of the memory holds no piece or span: a block for which memory is
    /// reserved, where the others are no faster than this peer.
    fn share(&mut self, asker: &Asker<'_>) -> Option<Choice> {
        let rate = asker.peer.down.per_second(asker.now);
        if asker.shares.has_share(rate, self.layout().unit().into()) {
            return None;
        }
        let answer = asker.peer.next_answer(asker.now);
        self.go_on(asker, true)
            .or_else(|| self.join_others(asker, true, |open| open.whole_at(asker.now) >= answer))
    }

    /// A block of the piece that the peer works on.
    fn go_on(&mut self, asker: &Asker<'_>, reserved_only: bool) -> Option<Choice> {
        let (piece, _) = asker.peer.current?;
        let open = self.open.get_mut(&piece)?;
        if !open.admits(asker.key) || !asker.peer.may_send(piece) {
            return None;
        }
        open.first_free(reserved_only).map(|block| Choice::Block { piece, block })
    }

    /// A block of the open piece that lacks the fewest, of those that pass `eligible`.
    fn join_others(
        &mut self,
        asker: &Asker<'_>,
        reserved_only: bool,
        eligible: impl Fn(&OpenPiece) -> bool,
    ) -> Option<Choice> {
        let mut best = None;
        let mut fewest = u32::MAX;
        for piece in self.partial.iter() {
            let Some(open) = self.open.get_mut(piece) else { continue };
            if open.missing() >= fewest || !open.admits(asker.key) || !asker.peer.may_send(*piece) {
                continue;
            }
            if eligible(open)
                && let Some(block) = open.first_free(reserved_only)
            {
                fewest = open.missing();
                best = Some(Choice::Block { piece: *piece, block });
            }
        }
        best
    }

    /// A piece that is not open.
    fn new_piece(&self, key: PeerKey, peer: &Peer, rng: &mut impl Rng) -> Option<PieceIndex> {
        if peer.fresh == 0 {
            return None;
        }
        let may = |piece: u32| {
            let piece = self.geometry.piece(piece);
            piece
                .is_some_and(|piece| peer.may_send(piece) && self.blame.may_fetch(piece, key, peer))
        };
        let listed = |piece: &u32| self.rarity.contains(*piece) && may(*piece);
        let found = if peer.peer_choking {
            let allowed = peer.allowed_fast.iter().map(|piece| piece.get());
            allowed.filter(listed).min_by_key(|piece| self.rarity.count(*piece))
        } else {
            let suggested = peer.suggested.iter().map(|piece| piece.get()).find(listed);
            let random = suggested.or_else(|| self.random(rng).find(listed));
            random.or_else(|| {
                let from = rng.random_range(0..self.geometry.piece_count());
                // What a peer has that does not have everything is counted.
                let least = usize::from(self.seeds == 0);
                self.rarity.rarest(least, may, peer.has.numbers_from(from))
            })
        };
        found.and_then(|piece| self.geometry.piece(piece))
    }

    /// Pieces drawn at random, while the first few are chosen; none afterwards.
    fn random<'a, R: Rng>(&self, rng: &'a mut R) -> impl Iterator<Item = u32> + use<'a, R> {
        let first = self.have.count() as usize + self.open.len() < RANDOM_FIRST;
        let draws = if first { RANDOM_DRAWS } else { 0 };
        let pieces = self.geometry.piece_count();
        (0..draws).map(move |_| rng.random_range(0..pieces))
    }

    /// Lists `piece` among those that may be opened, or not.
    fn relist(&mut self, piece: PieceIndex, rng: &mut impl Rng) {
        if self.is_missing(piece) && !self.open.contains_key(&piece) {
            self.rarity.insert(piece.get(), rng);
        } else {
            self.rarity.remove(piece.get());
        }
    }
}

/// Whether those who work on the piece would take long for what nobody is asked for yet.
fn is_slow(open: &OpenPiece) -> bool {
    let bytes = u64::from(open.free()) * u64::from(BLOCK_LENGTH);
    bytes > open.rate.saturating_mul(SHARE_AFTER)
}

//! The pieces of one version of the metadata.

use std::time::Duration;

use peer_wire::METADATA_PIECE_LENGTH;
use swarm::PeerKey;

use super::peers::Sender;
use crate::limits::{MAX_ASKED_FOR_PIECE, METADATA_STALL, METADATA_TICK};

/// What an assembly is for: a claimed size, and the only peer that contributes, if the others are
/// not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Track {
    pub(super) size: u32,
    pub(super) only: Option<PeerKey>,
}

impl Track {
    /// Whether a peer that claims a size contributes to this track.
    pub(super) fn is_of(&self, (key, size): (PeerKey, u32)) -> bool {
        self.size == size && self.only.is_none_or(|only| only == key)
    }

    fn piece_count(&self) -> u32 {
        self.size.div_ceil(METADATA_PIECE_LENGTH)
    }

    /// Returns the bytes that an assembly without pieces takes.
    pub(super) fn empty_length(&self) -> usize {
        self.piece_count() as usize * size_of::<Slot>()
    }
}

/// Pieces that may make up the metadata.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Its number, which is not used again.
    pub(super) attempt: u64,
    pub(super) track: Track,
    pieces: Vec<Slot>,
    missing: u32,
    /// Every piece before this one arrived or was requested.
    next: u32,
    /// Who sent each piece, in order, once all arrived.
    pub(super) senders: Vec<Sender>,
    /// When the last piece arrived, or the assembly was opened.
    pub(super) gained_at: Duration,
    opened_at: Duration,
    /// After this time it gives way to a track that waits, however many pieces arrive.
    turn: Duration,
    /// The bytes that count as memory.
    held: usize,
}

/// One piece.
#[derive(Debug, Clone, Default)]
struct Slot {
    bytes: Option<(Vec<u8>, Sender)>,
    /// How many peers it is requested of.
    asked: u8,
}

impl Assembly {
    pub(super) fn new(now: Duration, attempt: u64, track: Track, turn: Duration) -> Self {
        let count = track.piece_count();
        Self {
            attempt,
            track,
            pieces: vec![Slot::default(); count as usize],
            missing: count,
            next: 0,
            senders: Vec::new(),
            gained_at: now,
            opened_at: now,
            turn,
            held: track.empty_length(),
        }
    }

    /// Returns the length of a piece in bytes; 0 if there is no such piece.
    pub(super) fn length_of(&self, piece: u32) -> usize {
        let start = piece.saturating_mul(METADATA_PIECE_LENGTH);
        self.track.size.saturating_sub(start).min(METADATA_PIECE_LENGTH) as usize
    }

    pub(super) fn is_missing(&self, piece: u32) -> bool {
        self.pieces.get(piece as usize).is_some_and(|slot| slot.bytes.is_none()) && self.missing > 0
    }

    pub(super) fn insert(&mut self, now: Duration, piece: u32, bytes: &[u8], sender: Sender) {
        self.pieces[piece as usize].bytes = Some((bytes.to_vec(), sender));
        self.missing -= 1;
        self.gained_at = now;
        self.held += bytes.len();
    }

    /// Returns the next piece to request of a peer that does not owe it: one that nobody is asked
    /// for or, if there is none, one that few are asked for. `None` if nothing is missing.
    pub(super) fn choose(&mut self, now: Duration, owes: impl Fn(u32) -> bool) -> Option<u32> {
        let fresh = |slot: &Slot| slot.bytes.is_none() && slot.asked == 0;
        while self.pieces.get(self.next as usize).is_some_and(|slot| !fresh(slot)) {
            self.next += 1;
        }
        let is_next = |piece: &u32| fresh(&self.pieces[*piece as usize]) && !owes(*piece);
        let next = (self.next..self.track.piece_count()).find(is_next);
        let piece = next.or_else(|| self.least_asked(self.most_asked(now), owes))?;
        self.pieces[piece as usize].asked += 1;
        Some(piece)
    }

    /// Returns how many peers may be asked for a piece: the more, the longer no piece arrived.
    fn most_asked(&self, now: Duration) -> u8 {
        let waited = now.saturating_sub(self.gained_at) + METADATA_TICK / 2;
        let ticks = waited.as_millis() / METADATA_TICK.as_millis();
        u8::try_from(1 + ticks).unwrap_or(u8::MAX).min(MAX_ASKED_FOR_PIECE)
    }

    /// Returns a missing piece that fewer than `most` peers are asked for, and that does not pass
    /// `owes`.
    fn least_asked(&self, most: u8, owes: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.pieces.iter().zip(0..);
        let missing = slots.filter(|(slot, _)| slot.bytes.is_none() && slot.asked < most);
        let left = missing.filter(|(_, piece)| !owes(*piece));
        left.min_by_key(|(slot, _)| slot.asked).map(|(_, piece)| piece)
    }

    /// A request for the piece was answered, rejected or given up.
    pub(super) fn end_request(&mut self, piece: u32) {
        let Some(slot) = self.pieces.get_mut(piece as usize) else { return };
        slot.asked = slot.asked.saturating_sub(1);
        if slot.bytes.is_none() && slot.asked == 0 {
            self.next = self.next.min(piece);
        }
    }

    /// Returns all bytes, once.
    pub(super) fn take_complete(&mut self) -> Option<Vec<u8>> {
        if self.missing > 0 || !self.senders.is_empty() {
            return None;
        }
        let mut info = Vec::with_capacity(self.track.size as usize);
        for (bytes, sender) in self.pieces.iter_mut().filter_map(|slot| slot.bytes.take()) {
            info.extend_from_slice(&bytes);
            self.senders.push(sender);
        }
        Some(info)
    }

    /// Whether it misses pieces, and none arrived for [`METADATA_STALL`].
    pub(super) fn is_stalled(&self, now: Duration) -> bool {
        self.missing > 0 && now.saturating_sub(self.gained_at) >= METADATA_STALL
    }

    /// Whether it gives way to a track that waits.
    pub(super) fn gives_way(&self, now: Duration) -> bool {
        self.is_stalled(now) || self.missing > 0 && self.has_used_turn(now)
    }

    /// Returns how long the next turn of its track is, if it gives way now.
    pub(super) fn next_turn(&self, now: Duration) -> Duration {
        if self.has_used_turn(now) { 2 * self.turn } else { self.turn }
    }

    fn has_used_turn(&self, now: Duration) -> bool {
        now.saturating_sub(self.opened_at) >= self.turn
    }

    /// Returns who sent pieces that differ from those of `info`.
    pub(super) fn senders_of_other(&self, info: &[u8]) -> impl Iterator<Item = Sender> {
        let mut right = info.chunks(METADATA_PIECE_LENGTH as usize);
        let pairs = self.pieces.iter().map(move |slot| (slot.bytes.as_ref(), right.next()));
        pairs.filter_map(|(sent, right)| {
            let (bytes, sender) = sent?;
            (Some(bytes.as_slice()) != right).then_some(*sender)
        })
    }

    /// Returns how many pieces of how many arrived.
    pub(super) fn progress(&self) -> (u32, u32) {
        let count = self.track.piece_count();
        (count - self.missing, count)
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }
}

//! What there is to know of a swarm. Nothing here changes anything.

use bt_types::{Bitfield, PieceIndex};

use super::Swarm;
use crate::memory::MemoryShares;
use crate::vocabulary::{PeerKey, PeerView, SpanBudget, SpanLayout, TrackerView};

impl Swarm {
    /// The memory that there is for pieces, and the rate at which they fill.
    pub(super) fn shares(&self, budget: &SpanBudget) -> MemoryShares {
        let memory = self.pieces.reserved_bytes() + budget.available() as u64;
        MemoryShares { memory, rate: self.down.per_second(self.now) }
    }

    /// How pieces are divided into spans.
    pub fn spans(&self) -> SpanLayout {
        self.pieces.layout()
    }

    /// The pieces that are had.
    pub fn have(&self) -> &Bitfield {
        &self.pieces.have
    }

    /// The pieces that are to be had in the end.
    pub fn wanted(&self) -> &Bitfield {
        &self.pieces.wanted
    }

    /// Whether every wanted piece is had.
    pub fn is_complete(&self) -> bool {
        self.pieces.missing == 0
    }

    /// How many pieces are wanted and not had.
    pub fn missing(&self) -> u32 {
        self.pieces.missing
    }

    /// Bytes of wanted pieces that are not had.
    pub fn left(&self) -> u64 {
        self.pieces.left
    }

    /// Whether more is missing than is wanted, and nothing that is wanted (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.is_complete() && !self.pieces.have.is_full()
    }

    /// Bytes of the torrent that are missing, wanted or not.
    pub fn torrent_left(&self) -> u64 {
        let geometry = self.pieces.geometry;
        let missing = u64::from(geometry.piece_count() - self.pieces.have.count());
        let last = geometry.piece_count().checked_sub(1).and_then(|last| geometry.piece(last));
        let short = last.filter(|last| !self.pieces.have.contains(*last));
        let shorter = short.map_or(0, |last| geometry.piece_length() - geometry.length_of(last));
        missing * u64::from(geometry.piece_length()) - u64::from(shorter)
    }

    /// Payload sent, in bytes.
    pub fn uploaded(&self) -> u64 {
        self.up.total()
    }

    /// Payload received, in bytes, kept or not.
    pub fn downloaded(&self) -> u64 {
        self.down.total()
    }

    /// Payload of blocks that were received whole and not kept, and of pieces that did not match,
    /// in bytes.
    pub fn wasted(&self) -> u64 {
        self.wasted
    }

    /// Payload received, in bytes per second.
    pub fn down_rate(&self) -> u64 {
        self.down.per_second(self.now)
    }

    /// Payload sent, in bytes per second.
    pub fn up_rate(&self) -> u64 {
        self.up.per_second(self.now)
    }

    /// How many peers are connected.
    pub fn peers_connected(&self) -> usize {
        self.peers.len()
    }

    /// How many peers are known: addresses that are not banned, and connected peers that did not
    /// say where they listen.
    pub fn peers_known(&self) -> usize {
        let unlisted = self.peers.values().filter(|peer| peer.listens.is_none()).count();
        self.roster.known() + unlisted
    }

    /// How many addresses were banned for bad data.
    pub fn peers_banned(&self) -> usize {
        self.roster.banned()
    }

    /// The connected peers, in the order of their keys.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        let pieces = self.pieces.geometry.piece_count();
        self.peers.iter().map(move |(key, peer)| peer.view(self.now, *key, pieces))
    }

    /// One connected peer.
    pub fn peer(&self, key: PeerKey) -> Option<PeerView> {
        let pieces = self.pieces.geometry.piece_count();
        self.peers.get(&key).map(|peer| peer.view(self.now, key, pieces))
    }

    /// The trackers, by number.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerView> + '_ {
        self.trackers.views()
    }

    /// Which blocks of a span of an open piece are in, by block number in the piece.
    pub fn blocks_in(&self, piece: PieceIndex, span: u32) -> impl Iterator<Item = u32> + '_ {
        self.pieces.open.get(&piece).into_iter().flat_map(move |open| open.done_in(span))
    }

    /// Whether more could be requested if the budget had room. Then [`Self::poll_output`] is to be
    /// called again after memory was released.
    pub fn is_starved(&self) -> bool {
        self.starved.is_some()
    }
}

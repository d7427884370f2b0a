//! What there is to know of a swarm. Nothing here changes anything.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::PieceIndex;

use crate::spans::SpanBudget;
use crate::swarm::Swarm;
use crate::transfer::{Active, Pieces};
use crate::vocabulary::{DeadEnd, PeerKey, PeerView, Source, TrackerView};

impl Swarm {
    /// Returns the pieces that we have and those that we want; `None` before
    /// [`Self::begin_transfer`].
    pub fn pieces(&self) -> Option<&Pieces> {
        self.transfer.as_ref().map(|transfer| &transfer.pieces)
    }

    /// Whether the transfer has started and no wanted piece is missing.
    pub fn is_complete(&self) -> bool {
        self.pieces().is_some_and(Pieces::is_complete)
    }

    /// Returns how much payload was sent, in bytes.
    pub fn uploaded(&self) -> u64 {
        self.transfer.as_ref().map_or(0, |transfer| transfer.traffic.up.total())
    }

    /// Returns how much payload was received, in bytes, kept or not.
    pub fn downloaded(&self) -> u64 {
        self.transfer.as_ref().map_or(0, |transfer| transfer.traffic.down.total())
    }

    /// Returns how much payload was received and discarded, in bytes: whole blocks that were not
    /// kept, and pieces whose hash did not match.
    pub fn wasted(&self) -> u64 {
        self.transfer.as_ref().map_or(0, |transfer| transfer.traffic.wasted)
    }

    /// Returns the rate at which payload is received, in bytes per second.
    pub fn down_rate(&self) -> u64 {
        self.transfer.as_ref().map_or(0, |transfer| transfer.traffic.down.per_second(self.now))
    }

    /// Returns the rate at which payload is sent, in bytes per second.
    pub fn up_rate(&self) -> u64 {
        self.transfer.as_ref().map_or(0, |transfer| transfer.traffic.up.per_second(self.now))
    }

    /// Returns how many peers are connected.
    pub fn peers_connected(&self) -> usize {
        self.peers.len()
    }

    /// Returns how many peers are known: addresses that are not banned, and connected peers that
    /// did not say where they listen.
    pub fn peers_known(&self) -> usize {
        let unlisted = self.peers.iter().filter(|(_, peer)| peer.listens.is_none()).count();
        self.contacts.addresses.known() + unlisted
    }

    /// Returns how many addresses were banned for bad data.
    pub fn peers_banned(&self) -> usize {
        self.contacts.banned()
    }

    /// Returns where a known address came from.
    pub fn source_of(&self, address: SocketAddr) -> Option<Source> {
        self.contacts.addresses.source_of(address)
    }

    /// Returns why no peer can be expected; `None` while one is connected, waits for its first
    /// attempt, or may come from a tracker.
    pub fn dead_end(&self) -> Option<DeadEnd> {
        if self.peers.is_empty() { self.contacts.dead_end() } else { None }
    }

    /// Returns the connected peers, in the order of their keys.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        let pieces = self.piece_count();
        self.peers.iter().map(move |(key, peer)| peer.view(self.now, key, pieces))
    }

    /// Returns one connected peer.
    pub fn peer(&self, key: PeerKey) -> Option<PeerView> {
        self.peers.get(key).map(|peer| peer.view(self.now, key, self.piece_count()))
    }

    /// Returns when the last announce was made, or the swarm started.
    pub fn announced_at(&self) -> Duration {
        self.contacts.trackers.announced_at
    }

    /// Returns the trackers, by number.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerView> + '_ {
        self.contacts.trackers.views()
    }

    /// Returns which blocks of a span of an unfinished piece are in, by block number in the piece.
    pub fn blocks_in(&self, piece: PieceIndex, span: u32) -> impl Iterator<Item = u32> + '_ {
        self.active().into_iter().flat_map(move |active| active.downloads.blocks_in(piece, span))
    }

    /// Whether more could be requested if the budget had room. If so, the caller calls
    /// [`Self::poll_output`] again after memory was released.
    pub fn is_starved(&self) -> bool {
        self.active().is_some_and(|active| active.downloads.ask_list.is_starved())
    }

    /// Whether the last reservation failed and would fail again: polling the swarm for the sake of
    /// memory would be of no use.
    pub fn is_short(&self, budget: &SpanBudget) -> bool {
        self.active().is_some_and(|active| active.downloads.ask_list.is_short(budget))
    }

    fn active(&self) -> Option<&Active> {
        self.transfer.as_ref()?.active.as_deref()
    }

    pub(crate) fn piece_count(&self) -> u32 {
        self.pieces().map_or(0, |pieces| pieces.geometry().piece_count())
    }
}

//! The swarm itself.
#![allow(unused_variables, clippy::unused_self)]
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceReply, Bitfield, BlockRequest, Geometry, PieceIndex};

use crate::vocabulary::*;

/// The peers of one torrent and everything decided about them.
#[derive(Debug)]
pub struct Swarm {
    config: SwarmConfig,
}

/// What happened.
impl Swarm {
    /// A swarm that has just begun: nobody is known, and the first tracker is to be asked.
    pub fn new(now: Duration, config: SwarmConfig) -> Self {
        Self { config }
    }
    /// Addresses at which peers may be were learned. Returns how many were new and kept.
    pub fn handle_candidates(
        &mut self,
        now: Duration,
        source: Source,
        addresses: &[SocketAddr],
    ) -> usize {
        0
    }
    /// The connection to a candidate did not come about.
    pub fn handle_connect_failed(
        &mut self,
        now: Duration,
        address: SocketAddr,
        failure: ConnectFailure,
    ) {
    }
    /// A peer's handshake is complete. The caller sends it [`Self::have`].
    ///
    /// # Errors
    /// The peer is not taken in, and nothing more is to be reported of it.
    pub fn handle_connected(
        &mut self,
        now: Duration,
        key: PeerKey,
        peer: ConnectedPeer,
    ) -> Result<(), Refusal> {
        Ok(())
    }
    /// A connection ended. Harmless after [`Output::Disconnect`].
    pub fn handle_disconnected(&mut self, now: Duration, key: PeerKey, reason: DisconnectReason) {}
    /// A part of the peer's bitfield came: `bytes` from byte `offset` on.
    pub fn handle_bitfield(
        &mut self,
        now: Duration,
        key: PeerKey,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) {
    }
    /// The peer has every piece (BEP 6).
    pub fn handle_have_all(&mut self, now: Duration, key: PeerKey) {}
    /// The peer has no piece (BEP 6).
    pub fn handle_have_none(&mut self, now: Duration, key: PeerKey) {}
    /// The peer has a new piece.
    pub fn handle_have(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {}
    /// The peer answers no requests from now on.
    pub fn handle_choke(&mut self, now: Duration, key: PeerKey) {}
    /// The peer answers requests from now on.
    pub fn handle_unchoke(&mut self, now: Duration, key: PeerKey) {}
    /// The peer wants our pieces.
    pub fn handle_interested(&mut self, now: Duration, key: PeerKey) {}
    /// The peer wants none of our pieces.
    pub fn handle_not_interested(&mut self, now: Duration, key: PeerKey) {}
    /// The peer asks for a block.
    pub fn handle_request(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {}
    /// The peer takes a request back.
    pub fn handle_cancel(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {}
    /// The peer will not answer a request of ours (BEP 6).
    pub fn handle_reject(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {}
    /// The peer answers requests for this piece even while it chokes us (BEP 6).
    pub fn handle_allowed_fast(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {}
    /// The peer would rather send this piece than others (BEP 6).
    pub fn handle_suggest(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {}
    /// The peer keeps this many requests at most (`reqq` of BEP 10).
    pub fn handle_reqq(&mut self, now: Duration, key: PeerKey, limit: u32) {}
    /// The peer said on which port it listens (`p` of BEP 10).
    pub fn handle_listen_port(&mut self, now: Duration, key: PeerKey, port: u16) {}
    /// A part of a block arrived that begins `offset` bytes into the block: where does it go?
    pub fn place(
        &mut self,
        now: Duration,
        key: PeerKey,
        request: BlockRequest,
        offset: u32,
    ) -> Place {
        Place::Discard
    }
    /// The last part of a block arrived, kept or not.
    pub fn handle_block(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {}
    /// Payload came from the peer, in bytes, kept or not.
    pub fn handle_payload(&mut self, now: Duration, key: PeerKey, bytes: u32) {}
    /// Payload went to the peer, in bytes.
    pub fn handle_sent(&mut self, now: Duration, key: PeerKey, bytes: u32) {}
    /// A committed piece is done with.
    pub fn handle_committed(&mut self, now: Duration, piece: PieceIndex, committed: Committed) {}
    /// A piece that was had is lost again, for example because a sync failed.
    pub fn handle_lost(&mut self, now: Duration, piece: PieceIndex) {}
    /// A tracker answered or did not.
    pub fn handle_announced(
        &mut self,
        now: Duration,
        tracker: TrackerIndex,
        result: Result<&AnnounceReply, AnnounceFailure>,
    ) {
    }
    /// The time of [`Self::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Duration) {}
}

/// What we want.
impl Swarm {
    /// Changes which pieces are to be had in the end.
    pub fn set_wanted(&mut self, now: Duration, wanted: Bitfield) {}
    /// Changes how many interested peers are unchoked at a time.
    pub fn set_upload_slots(&mut self, now: Duration, slots: usize) {}
    /// Changes how many peers may be connected or connecting.
    pub fn set_max_peers(&mut self, now: Duration, peers: usize) {}
    /// Leaves the swarm: disconnects everyone, closes open pieces, announces `stopped`.
    pub fn stop(&mut self, now: Duration) {}
    /// Comes back after [`Self::stop`].
    pub fn start(&mut self, now: Duration) {}
}

/// What the caller must do now.
impl Swarm {
    /// The next thing to do; `None` when there is nothing more.
    pub fn poll_output(&mut self, now: Duration, budget: &mut SpanBudget) -> Option<Output> {
        None
    }
    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }
    /// An address to connect to, to be asked for whenever another connection may be begun. It
    /// counts as connecting until [`Self::handle_connected`] or [`Self::handle_connect_failed`].
    #[must_use]
    pub fn next_candidate(&mut self, now: Duration) -> Option<SocketAddr> {
        None
    }
    /// The next request of the peer to be answered, to be asked for whenever its send buffer has
    /// room.
    #[must_use]
    pub fn next_upload(&mut self, now: Duration, key: PeerKey) -> Option<BlockRequest> {
        None
    }
}

/// Getters.
impl Swarm {
    /// How much data there is, in what pieces.
    pub fn geometry(&self) -> Geometry {
        self.config.geometry
    }
    /// How pieces are divided into spans.
    pub fn spans(&self) -> SpanLayout {
        SpanLayout::new(self.config.geometry)
    }
    /// The pieces that are had.
    pub fn have(&self) -> &Bitfield {
        &self.config.have
    }
    /// The pieces that are to be had in the end.
    pub fn wanted(&self) -> &Bitfield {
        &self.config.wanted
    }
    /// Whether every wanted piece is had.
    pub fn is_complete(&self) -> bool {
        false
    }
    /// Whether every piece of the torrent is had.
    pub fn is_seed(&self) -> bool {
        false
    }
    /// Bytes of wanted pieces that are not had.
    pub fn left(&self) -> u64 {
        0
    }
    /// Payload sent, in bytes.
    pub fn uploaded(&self) -> u64 {
        0
    }
    /// Payload received, in bytes, kept or not.
    pub fn downloaded(&self) -> u64 {
        0
    }
    /// Payload that was received and not kept, in bytes.
    pub fn wasted(&self) -> u64 {
        0
    }
    /// Payload received, in bytes per second.
    pub fn down_rate(&self) -> u64 {
        0
    }
    /// Payload sent, in bytes per second.
    pub fn up_rate(&self) -> u64 {
        0
    }
    /// How many peers are connected.
    pub fn peers_connected(&self) -> usize {
        0
    }
    /// How many addresses are being connected to.
    pub fn peers_connecting(&self) -> usize {
        0
    }
    /// How many addresses are known.
    pub fn peers_known(&self) -> usize {
        0
    }
    /// How many addresses were banned for bad data.
    pub fn peers_banned(&self) -> usize {
        0
    }
    /// The connected peers, in the order of their keys.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        std::iter::empty()
    }
    /// One connected peer.
    pub fn peer(&self, key: PeerKey) -> Option<PeerView> {
        None
    }
    /// The trackers, by number.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerView> + '_ {
        std::iter::empty()
    }
    /// Whether there are trackers and the last announce to each of them failed.
    pub fn all_trackers_failed(&self) -> bool {
        false
    }
    /// How many connected peers have `piece`.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        0
    }
    /// Which blocks of `span` of an open piece are in, by block number in the piece.
    pub fn blocks_in(&self, piece: PieceIndex, span: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::empty()
    }
    /// The pieces that are partly in and not committed: each with the blocks that are in.
    pub fn unfinished(&self) -> impl Iterator<Item = (PieceIndex, Vec<u32>)> + '_ {
        std::iter::empty()
    }
    /// How many requests of the peer wait for [`Self::next_upload`].
    pub fn uploads_waiting(&self, key: PeerKey) -> usize {
        0
    }
    /// Whether blocks could be requested if the budget had room.
    pub fn is_starved(&self) -> bool {
        false
    }
    /// Whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        false
    }
}

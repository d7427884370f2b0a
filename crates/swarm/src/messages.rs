//! Messages of connected peers, and payload that comes and goes.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex};

use crate::peer::{Has, PeerTransfer};
use crate::swarm::Swarm;
use crate::vocabulary::{BlockFate, PeerKey};

impl Swarm {
    /// The peer said on which port it listens (`p` of BEP 10), so it can be found again. Ignored in
    /// a private torrent, whose peers come from the trackers.
    pub fn handle_listen_port(&mut self, now: Duration, key: PeerKey, port: u16) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.listens.is_some() || port == 0 {
            return;
        }
        let address = SocketAddr::new(peer.identity.address.ip(), port);
        if self.contacts.handle_listen_address(now, address, &mut self.rng) {
            peer.listens = Some(address);
        }
    }

    /// A part of the peer's bitfield came: `bytes` from byte `offset` on.
    pub fn handle_bitfield(
        &mut self,
        now: Duration,
        key: PeerKey,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) {
        let result = self.with_active(now, |active, cx| {
            active.downloads.handle_bitfield(cx, key, offset, bytes, last)
        });
        match result {
            Some(Err(reason)) => self.disconnect(key, reason),
            _ => self.disconnect_if_useless(key),
        }
    }

    /// The peer has every piece (BEP 6).
    pub fn handle_have_all(&mut self, now: Duration, key: PeerKey) {
        self.set_has(now, key, Has::All);
    }

    /// The peer has no piece (BEP 6).
    pub fn handle_have_none(&mut self, now: Duration, key: PeerKey) {
        self.set_has(now, key, Has::Nothing);
    }

    fn set_has(&mut self, now: Duration, key: PeerKey, has: Has) {
        self.with_active(now, |active, cx| active.downloads.set_has(cx, key, has));
        self.disconnect_if_useless(key);
    }

    /// The peer has a new piece.
    pub fn handle_have(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.with_active(now, |active, cx| active.downloads.handle_have(cx, key, piece));
        self.disconnect_if_useless(key);
    }

    /// The peer answers no requests from now on. Without the Fast extension, those outstanding
    /// are void (BEP 3); with it, each is answered or rejected (BEP 6).
    pub fn handle_choke(&mut self, now: Duration, key: PeerKey) {
        self.with_active(now, |active, cx| active.downloads.handle_choke(cx, key));
    }

    /// The peer answers requests from now on.
    pub fn handle_unchoke(&mut self, now: Duration, key: PeerKey) {
        self.with_active(now, |active, cx| active.downloads.handle_unchoke(cx, key));
    }

    /// The peer wants our pieces. It is unchoked at once if a slot is free.
    pub fn handle_interested(&mut self, now: Duration, key: PeerKey) {
        self.set_peer_interested(now, key, true);
    }

    /// The peer wants none of our pieces.
    pub fn handle_not_interested(&mut self, now: Duration, key: PeerKey) {
        self.set_peer_interested(now, key, false);
    }

    fn set_peer_interested(&mut self, now: Duration, key: PeerKey, interested: bool) {
        self.with_active(now, |active, cx| active.uploads.handle_interest(cx, key, interested));
    }

    /// The peer will not answer a request of ours (BEP 6).
    pub fn handle_reject(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {
        self.with_active(now, |active, cx| active.downloads.handle_reject(cx, key, request));
    }

    /// The peer answers requests for this piece even while it chokes us (BEP 6).
    pub fn handle_allowed_fast(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.update_peer(now, key, |peer| PeerTransfer::hint(&mut peer.allowed_fast, piece));
    }

    /// The peer would rather send this piece than others (BEP 6).
    pub fn handle_suggest(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.now = now;
        if let Some(peer) = self.peers.transfer_mut(key) {
            PeerTransfer::hint(&mut peer.suggested, piece);
        }
    }

    /// The peer keeps this many requests at most (`reqq` of BEP 10).
    pub fn handle_reqq(&mut self, now: Duration, key: PeerKey, limit: u32) {
        self.update_peer(now, key, |peer| peer.window.set_limit(limit));
    }

    fn update_peer(&mut self, now: Duration, key: PeerKey, change: impl FnOnce(&mut PeerTransfer)) {
        self.with_active(now, |active, cx| active.downloads.update_peer(cx, key, change));
    }

    /// A part of a block arrived that starts `offset` bytes into the block. Returns what to do
    /// with it.
    ///
    /// A block has one writer. Another peer takes over, from offset 0, only if the writer is
    /// snubbed or gone, or has delivered nothing, or if a copy that started after the writer's is
    /// complete already and was discarded. Otherwise a fast peer would send the block again and
    /// again until the slow one is snubbed.
    pub fn handle_part(
        &mut self,
        now: Duration,
        key: PeerKey,
        request: BlockRequest,
        offset: u32,
    ) -> BlockFate {
        let fate = self
            .with_active(now, |active, cx| active.downloads.handle_part(cx, key, request, offset));
        fate.unwrap_or(BlockFate::Discard)
    }

    /// The last part of a block arrived, kept or not.
    pub fn handle_block(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {
        self.with_active(now, |active, cx| active.downloads.handle_block(cx, key, request));
    }

    /// Payload came from the peer, in bytes, kept or not.
    pub fn handle_payload(&mut self, now: Duration, key: PeerKey, bytes: u32) {
        self.now = now;
        if let Some(transfer) = &mut self.transfer {
            transfer.traffic.down.add(now, bytes.into());
        }
        if let Some(peer) = self.peers.transfer_mut(key) {
            peer.down.add(now, bytes.into());
        }
    }

    /// Payload went to the peer, in bytes.
    pub fn handle_sent(&mut self, now: Duration, key: PeerKey, bytes: u32) {
        self.now = now;
        if let Some(transfer) = &mut self.transfer {
            transfer.traffic.up.add(now, bytes.into());
        }
        if let Some(peer) = self.peers.transfer_mut(key) {
            peer.up.add(now, bytes.into());
        }
    }

    /// Whether the caller serves a request of the peer for a block of `piece`: we have the piece
    /// and are not choking the peer. The caller keeps a bounded number of requests of each peer.
    pub fn serves(&self, key: PeerKey, piece: PieceIndex) -> bool {
        let unchoked = self.peers.transfer(key).is_some_and(|peer| !peer.am_choking);
        unchoked && self.pieces().is_some_and(|pieces| pieces.have().contains(piece))
    }
}

//! Messages of connected peers, and payload that comes and goes.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex};

use crate::peer::{EarlyMessages, EarlyPieces, Has, MAX_EARLY_BYTES, PeerTransfer};
use crate::swarm::Swarm;
use crate::vocabulary::{BlockFate, DisconnectReason, PeerKey};

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
            self.note_came(key, address);
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
        if self.transfer.is_none() {
            return self.keep_early(now, key, |early| early.handle_bitfield(offset, bytes));
        }
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
        if self.transfer.is_none() {
            let pieces = match has {
                Has::All => EarlyPieces::All,
                Has::Nothing | Has::Some(_) => EarlyPieces::Nothing,
            };
            return self.keep_early(now, key, |early| {
                early.pieces = pieces;
                true
            });
        }
        self.with_active(now, |active, cx| active.downloads.set_has(cx, key, has));
        self.disconnect_if_useless(key);
    }

    /// The peer has a new piece.
    pub fn handle_have(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        if self.transfer.is_none() {
            return self.keep_early(now, key, |early| early.handle_have(piece.get()));
        }
        self.with_active(now, |active, cx| active.downloads.handle_have(cx, key, piece));
        self.disconnect_if_useless(key);
    }

    /// The peer has a new piece, whose index nobody could check because the geometry was unknown.
    pub fn handle_unchecked_have(&mut self, now: Duration, key: PeerKey, index: u32) {
        match self.checked(index) {
            Some(Some(piece)) => self.handle_have(now, key, piece),
            Some(None) => self.disconnect(key, DisconnectReason::BadBitfield),
            None => self.keep_early(now, key, |early| early.handle_have(index)),
        }
    }

    /// The same of a piece that the peer serves even while it chokes us (BEP 6).
    pub fn handle_unchecked_allowed_fast(&mut self, now: Duration, key: PeerKey, index: u32) {
        match self.checked(index) {
            Some(Some(piece)) => self.handle_allowed_fast(now, key, piece),
            Some(None) => {}
            None => self.update_early(now, key, |early| early.handle_allowed_fast(index)),
        }
    }

    /// Returns the piece of this index, if there is one. `None` before the transfer.
    fn checked(&self, index: u32) -> Option<Option<PieceIndex>> {
        Some(self.pieces()?.geometry().piece(index))
    }

    /// The peer answers no requests from now on. Without the Fast extension, those outstanding
    /// are void (BEP 3); with it, each is answered or rejected (BEP 6).
    pub fn handle_choke(&mut self, now: Duration, key: PeerKey) {
        self.update_early(now, key, |early| early.unchoked = false);
        self.with_active(now, |active, cx| active.downloads.handle_choke(cx, key));
    }

    /// The peer answers requests from now on.
    pub fn handle_unchoke(&mut self, now: Duration, key: PeerKey) {
        self.update_early(now, key, |early| early.unchoked = true);
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
        self.update_early(now, key, |early| early.interested = interested);
        self.with_active(now, |active, cx| active.uploads.handle_interest(cx, key, interested));
    }

    /// The peer will not answer a request of ours (BEP 6).
    pub fn handle_reject(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {
        self.with_active(now, |active, cx| active.downloads.handle_reject(cx, key, request));
    }

    /// The peer answers requests for this piece even while it chokes us (BEP 6).
    pub fn handle_allowed_fast(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.update_early(now, key, |early| early.handle_allowed_fast(piece.get()));
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
        self.update_early(now, key, |early| early.request_limit = Some(limit));
        self.update_peer(now, key, |peer| peer.window.set_limit(limit));
    }

    fn update_peer(&mut self, now: Duration, key: PeerKey, change: impl FnOnce(&mut PeerTransfer)) {
        self.with_active(now, |active, cx| active.downloads.update_peer(cx, key, change));
    }

    /// Before the transfer, notes what the peer said.
    fn update_early(&mut self, now: Duration, key: PeerKey, note: impl FnOnce(&mut EarlyMessages)) {
        self.now = now;
        if self.transfer.is_none()
            && let Some(peer) = self.peers.get_mut(key)
        {
            note(peer.early.get_or_insert_default());
        }
    }

    /// Before the transfer, notes which pieces the peer has. Disconnects it if `note` returns that
    /// this is impossible, and the peer that takes most memory if all together take too much.
    fn keep_early(
        &mut self,
        now: Duration,
        key: PeerKey,
        note: impl FnOnce(&mut EarlyMessages) -> bool,
    ) {
        let mut is_possible = true;
        self.update_early(now, key, |early| is_possible = note(early));
        if !is_possible {
            return self.disconnect(key, DisconnectReason::BadBitfield);
        }
        if self.peers.early_bytes() > MAX_EARLY_BYTES {
            let most = self.peers.iter().max_by_key(|(_, peer)| peer.early_bytes());
            if let Some(key) = most.map(|(key, _)| key) {
                self.disconnect(key, DisconnectReason::Limit);
            }
        }
    }

    /// Applies what a peer said before the transfer.
    pub(crate) fn apply_early(&mut self, now: Duration, key: PeerKey) {
        let Some(early) = self.peers.get_mut(key).and_then(|peer| peer.early.take()) else {
            return;
        };
        let EarlyMessages { pieces, unchoked, interested, allowed_fast, request_limit } = *early;
        if let Some(limit) = request_limit {
            self.handle_reqq(now, key, limit);
        }
        match pieces {
            EarlyPieces::Nothing => {}
            EarlyPieces::All => self.handle_have_all(now, key),
            EarlyPieces::Some(bits) => match bits.finish(self.piece_count()) {
                Ok(bits) => self.set_has(now, key, Has::from_bits(bits)),
                Err(reason) => self.disconnect(key, reason),
            },
        }
        for index in allowed_fast {
            self.handle_unchecked_allowed_fast(now, key, index);
        }
        if interested {
            self.handle_interested(now, key);
        }
        if unchoked {
            self.handle_unchoke(now, key);
        }
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

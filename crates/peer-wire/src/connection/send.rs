//! The messages that we send. They do nothing before the handshakes are exchanged and after the
//! connection is closed.

use std::borrow::Cow;

use bt_types::{Bitfield, BlockRequest, PieceIndex};

use super::{Connection, MIN_MESSAGE_COST};
use crate::extension::ExtensionHandshake;
use crate::message::Message;
use crate::metadata::MetadataMessage;
use crate::pex::Pex;

/// What we want, as messages.
impl Connection {
    /// Chokes the peer. Without the fast extension its unanswered requests are now void. With it,
    /// the requests that wait are rejected, but the caller must still answer those from
    /// [`Self::next_request`].
    pub fn choke(&mut self) {
        if !self.is_open() || self.am_choking {
            return;
        }
        self.am_choking = true;
        self.push(Message::Choke);
        if self.fast() {
            let rejects =
                self.peer_requests.drain_waiting().map(|request| Message::Reject(request.into()));
            rejects.for_each(|reject| self.outbox.push(reject));
        } else {
            self.peer_requests.clear();
        }
    }

    /// Unchokes the peer.
    pub fn unchoke(&mut self) {
        if self.is_open() && self.am_choking {
            self.am_choking = false;
            self.push(Message::Unchoke);
        }
    }

    /// Sends that we are interested in the peer.
    pub fn interested(&mut self) {
        if self.is_open() && !self.am_interested {
            self.am_interested = true;
            self.push(Message::Interested);
        }
    }

    /// Sends that we are not interested in the peer.
    pub fn not_interested(&mut self) {
        if self.is_open() && self.am_interested {
            self.am_interested = false;
            self.push(Message::NotInterested);
        }
    }

    /// Sends the pieces that we have. With the fast extension a full or empty bitfield is sent as
    /// have-all or have-none; without it an empty one is not sent. Only the first call counts, and
    /// none after [`Self::have`].
    pub fn bitfield(&mut self, have: &Bitfield) {
        if !self.is_open() || self.announced_pieces {
            return;
        }
        self.announced_pieces = true;
        match (self.fast(), have.is_empty(), have.is_full()) {
            (true, true, _) => self.push(Message::HaveNone),
            (true, false, true) => self.push(Message::HaveAll),
            (false, true, _) => {}
            _ => self.push(Message::Bitfield(&have.as_bytes())),
        }
    }

    /// Announces that we have `piece`.
    pub fn have(&mut self, piece: PieceIndex) {
        self.announced_pieces |= self.is_open();
        self.push(Message::Have(piece.get()));
    }

    /// Requests a block. Returns whether the request was queued: not if [`MAX_REQUESTS`] are
    /// outstanding, or if the peer chokes us without the fast extension.
    ///
    /// [`MAX_REQUESTS`]: crate::MAX_REQUESTS
    pub fn request(&mut self, request: BlockRequest) -> bool {
        let is_void = self.peer_choking && !self.fast();
        let requested = self.is_open() && !is_void && self.our_requests.push(request);
        if requested {
            self.push(Message::Request(request.into()));
        }
        requested
    }

    /// Cancels a request. Returns whether the cancel was queued: not if the block was not
    /// requested, or its first bytes have come. The block may still come as a [`Received::Block`].
    ///
    /// [`Received::Block`]: crate::Received::Block
    pub fn cancel(&mut self, request: BlockRequest) -> bool {
        let cancelled = self.our_requests.void(request);
        if cancelled {
            self.push(Message::Cancel(request.into()));
        }
        cancelled
    }

    /// Returns the peer's next request. Answer it with [`Self::send_block`] or [`Self::reject`].
    /// Call this whenever another block can be sent.
    #[must_use]
    pub fn next_request(&mut self) -> Option<BlockRequest> {
        self.peer_requests.take_next()
    }

    /// Answers a request of the peer: queues the head of the block, and the payload as a
    /// [`Transmit::Payload`]. Returns whether it did: not if the peer has no such request any more.
    ///
    /// [`Transmit::Payload`]: crate::Transmit::Payload
    pub fn send_block(&mut self, request: BlockRequest) -> bool {
        let answered = self.peer_requests.remove(request);
        if answered {
            self.outbox.push_block(request);
        }
        answered
    }

    /// Rejects a request of the peer, usually its newest. Without the fast extension nothing is
    /// sent. Returns whether the peer had such a request, which then counts as a useless message
    /// ([`MESSAGE_BURST`](crate::MESSAGE_BURST)).
    pub fn reject(&mut self, request: BlockRequest) -> bool {
        let queued = self.peer_requests.remove_newest(request);
        if queued {
            self.refuse(request);
        }
        queued
    }

    /// Suggests a piece. Without the fast extension nothing is sent.
    pub fn suggest(&mut self, piece: PieceIndex) {
        self.push_fast(Message::Suggest(piece.get()));
    }

    /// Promises to serve a piece even while the peer is choked. Without the fast extension nothing
    /// is sent.
    pub fn allowed_fast(&mut self, piece: PieceIndex) {
        self.push_fast(Message::AllowedFast(piece.get()));
    }

    /// Sends our extension handshake, the first or a later one. Without the extension protocol
    /// nothing is sent. The messages of the [`Extensions`] that it offers under our ids come as
    /// [`Received::Metadata`] and [`Received::Pex`], those of others as [`Received::Extended`].
    ///
    /// [`Extensions`]: crate::Extensions
    /// [`Received::Metadata`]: crate::Received::Metadata
    /// [`Received::Pex`]: crate::Received::Pex
    /// [`Received::Extended`]: crate::Received::Extended
    pub fn extension_handshake(&mut self, handshake: &ExtensionHandshake) {
        if self.extension_protocol() {
            self.extensions.offer(handshake);
            self.extended(0, &handshake.encode());
        }
    }

    /// Requests a piece of the metadata (BEP 9). Returns whether the request was queued: only if
    /// the peer's extension handshake names the extension. The last [`MAX_METADATA_REQUESTS`] are
    /// remembered, and their answers do not count as useless messages.
    ///
    /// [`MAX_METADATA_REQUESTS`]: crate::MAX_METADATA_REQUESTS
    pub fn metadata_request(&mut self, piece: u32) -> bool {
        let queued = self.push_metadata(&MetadataMessage::Request { piece });
        if queued {
            self.extensions.request(piece);
        }
        queued
    }

    /// Sends a piece of the metadata, whose length is `total_size` (BEP 9). `bytes` are copied into
    /// the send queue: answer the next request when [`Self::pending_messages`] is small. Returns
    /// whether the message was queued: only if the peer's extension handshake names the extension.
    pub fn metadata_data(&mut self, piece: u32, total_size: u32, bytes: &[u8]) -> bool {
        let (total_size, bytes) = (Some(total_size), Cow::Borrowed(bytes));
        self.push_metadata(&MetadataMessage::Data { piece, total_size, bytes })
    }

    /// Rejects a request for a piece of the metadata (BEP 9). Returns whether the message was
    /// queued: only if the peer's extension handshake names the extension.
    pub fn metadata_reject(&mut self, piece: u32) -> bool {
        self.push_metadata(&MetadataMessage::Reject { piece })
    }

    /// Tells the peer of other peers (BEP 11). Returns whether the message was queued: only if the
    /// peer's extension handshake names the extension.
    pub fn pex(&mut self, pex: &Pex) -> bool {
        let id = self.extensions.pex_id().filter(|_| self.extension_protocol());
        id.map(|id| self.extended(id, &pex.encode())).is_some()
    }

    /// Sends an extension message. `id` is the one from the *peer's* extension handshake. Without
    /// the extension protocol nothing is sent.
    pub fn extended(&mut self, id: u8, payload: &[u8]) {
        if self.extension_protocol() {
            self.push(Message::Extended { id, payload });
        }
    }

    /// Sends the UDP port of our DHT node (BEP 5).
    pub fn port(&mut self, port: u16) {
        self.push(Message::Port(port));
    }

    /// Sends a keep-alive, unless something else is queued.
    pub fn keep_alive(&mut self) {
        if self.outbox.is_empty() {
            self.push(Message::KeepAlive);
        }
    }
}

impl Connection {
    /// Rejects a request that is not in the queue, and charges the peer for it.
    pub(super) fn refuse(&mut self, request: BlockRequest) {
        self.push_fast(Message::Reject(request.into()));
        self.spend_message_budget(MIN_MESSAGE_COST);
    }

    /// Queues a message of the fast extension if both sides support it.
    pub(super) fn push_fast(&mut self, message: Message<'_>) {
        if self.fast() {
            self.push(message);
        }
    }

    fn push_metadata(&mut self, message: &MetadataMessage<'_>) -> bool {
        let id = self.extensions.metadata_id().filter(|_| self.extension_protocol());
        id.map(|id| self.outbox.push_extended(id, &message.dictionary(), message.data())).is_some()
    }

    fn push(&mut self, message: Message<'_>) {
        if self.is_open() {
            self.outbox.push(message);
        }
    }
}

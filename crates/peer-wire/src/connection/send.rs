//! The messages we send once the handshakes are exchanged. Before that, and once the connection is
//! closed, they are not queued.

use bt_types::{Bitfield, BlockRequest, PieceIndex};

use super::{Connection, LEAST_TALK};
use crate::extension::ExtensionHandshake;
use crate::message::Message;

/// What we want, as messages.
impl Connection {
    /// Answers no requests from now on. Without the fast extension those unanswered are void. With
    /// it those that wait are rejected, and those that [`Self::next_request`] gave out must still
    /// be answered.
    pub fn choke(&mut self) {
        if !self.is_open() || self.am_choking {
            return;
        }
        self.am_choking = true;
        self.push(Message::Choke);
        if self.fast() {
            let rejects =
                self.theirs.drain_waiting().map(|request| Message::Reject(request.into()));
            rejects.for_each(|reject| self.outbox.push(reject));
        } else {
            self.theirs.clear();
        }
    }

    /// Answers requests from now on.
    pub fn unchoke(&mut self) {
        if self.is_open() && self.am_choking {
            self.am_choking = false;
            self.push(Message::Unchoke);
        }
    }

    /// Tells the peer that it has what we want.
    pub fn interested(&mut self) {
        if self.is_open() && !self.am_interested {
            self.am_interested = true;
            self.push(Message::Interested);
        }
    }

    /// Tells the peer that it has nothing we want.
    pub fn not_interested(&mut self) {
        if self.is_open() && self.am_interested {
            self.am_interested = false;
            self.push(Message::NotInterested);
        }
    }

    /// Tells what we have: as have-all or have-none where the fast extension is on, not at all
    /// where it is off and we have nothing. Only the first call counts, and none after
    /// [`Self::have`].
    pub fn bitfield(&mut self, have: &Bitfield) {
        if !self.is_open() || self.told_pieces {
            return;
        }
        self.told_pieces = true;
        match (self.fast(), have.is_empty(), have.is_full()) {
            (true, true, _) => self.push(Message::HaveNone),
            (true, false, true) => self.push(Message::HaveAll),
            (false, true, _) => {}
            _ => self.push(Message::Bitfield(&have.as_bytes())),
        }
    }

    /// Tells that we have `piece` now.
    pub fn have(&mut self, piece: PieceIndex) {
        self.told_pieces |= self.is_open();
        self.push(Message::Have(piece.get()));
    }

    /// Asks for a block. Returns whether it was asked for: not when [`MAX_REQUESTS`](crate::MAX_REQUESTS) are
    /// outstanding, nor when the peer chokes us and the fast extension is off.
    pub fn request(&mut self, request: BlockRequest) -> bool {
        let void = self.peer_choking && !self.fast();
        let asked = self.is_open() && !void && self.ours.push(request);
        if asked {
            self.push(Message::Request(request.into()));
        }
        asked
    }

    /// Asks no longer for a block. Returns whether that was told: not when the block was not asked
    /// for or is on its way already. It may still come, as a [`Received::Block`](crate::Received::Block).
    pub fn cancel(&mut self, request: BlockRequest) -> bool {
        let cancelled = self.ours.void(request);
        if cancelled {
            self.push(Message::Cancel(request.into()));
        }
        cancelled
    }

    /// Gives out the peer's next request, to be answered with [`Self::send_block`] or
    /// [`Self::reject`]. Call it whenever another block can be sent.
    #[must_use]
    pub fn next_request(&mut self) -> Option<BlockRequest> {
        self.theirs.take_next()
    }

    /// Answers a request of the peer with its block: queues the head, and a place for the payload
    /// that [`Transmit::Payload`](crate::Transmit::Payload) asks for. Returns whether it did: not when the peer has no such
    /// request (any more).
    pub fn send_block(&mut self, request: BlockRequest) -> bool {
        let answered = self.theirs.remove(request);
        if answered {
            self.outbox.push_block(request);
        }
        answered
    }

    /// Refuses a request of the peer, usually its newest. Without the fast extension nothing is
    /// sent. Returns whether the peer had such a request, which then counts as a message that
    /// brings nothing ([`TALK_BURST`](crate::TALK_BURST)).
    pub fn reject(&mut self, request: BlockRequest) -> bool {
        let queued = self.theirs.remove_newest(request);
        if queued {
            self.refuse(request);
        }
        queued
    }

    /// Recommends a piece. Nothing is sent where the fast extension is off.
    pub fn suggest(&mut self, piece: PieceIndex) {
        self.push_fast(Message::Suggest(piece.get()));
    }

    /// Promises a piece even to a choked peer. Nothing is sent where the fast extension is off.
    pub fn allowed_fast(&mut self, piece: PieceIndex) {
        self.push_fast(Message::AllowedFast(piece.get()));
    }

    /// Sends our extension handshake. Nothing is sent where the extension protocol is off.
    pub fn extension_handshake(&mut self, handshake: &ExtensionHandshake) {
        self.extended(0, &handshake.encode());
    }

    /// Sends the extension message `id`, in the numbers of the *peer's* extension handshake.
    /// Nothing is sent where the extension protocol is off.
    pub fn extended(&mut self, id: u8, payload: &[u8]) {
        if self.extension_protocol() {
            self.push(Message::Extended { id, payload });
        }
    }

    /// Tells where our DHT node listens (BEP 5).
    pub fn port(&mut self, port: u16) {
        self.push(Message::Port(port));
    }

    /// Sends a sign of life, unless something else waits to be sent anyway.
    pub fn keep_alive(&mut self) {
        if self.outbox.is_empty() {
            self.push(Message::KeepAlive);
        }
    }
}

impl Connection {
    /// Refuses a request that is not in the queue: rejects it where the fast extension is on.
    pub(super) fn refuse(&mut self, request: BlockRequest) {
        self.push_fast(Message::Reject(request.into()));
        self.spend_talk(LEAST_TALK);
    }

    /// Queues a message of the fast extension, unless that is off.
    pub(super) fn push_fast(&mut self, message: Message<'_>) {
        if self.fast() {
            self.push(message);
        }
    }

    fn push(&mut self, message: Message<'_>) {
        if self.is_open() {
            self.outbox.push(message);
        }
    }
}

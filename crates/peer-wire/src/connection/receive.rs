//! Turns bytes into [`Received`], and checks each message against the state of the connection.

use std::borrow::Cow;
use std::time::Duration;

use bt_types::{Bitfield, BlockRequest, PeerId, PieceIndex};

use super::budget::MIN_BITFIELD_COST;
use super::inbound::{Body, append, take};
use super::requests::State;
use super::{
    BITFIELD_BURST, BITFIELD_RATE, Connection, MAX_STRAY_REJECTS, MAX_UNREAD, MAX_UNREQUESTED,
    MESSAGE_BURST, MESSAGE_RATE, MIN_MESSAGE_COST, Phase, Received,
};
use crate::extension::ExtensionHandshake;
use crate::frame::Head;
use crate::handshake::{Handshake, PREFIX};
use crate::message::{Message, WireRequest, id};
use crate::metadata::MetadataMessage;
use crate::pex::Pex;
use crate::rule::Rule;

/// The result of reading some bytes.
enum Step<'a> {
    /// Something to report.
    Received(Received<'a>),
    /// Nothing to report, but there may be more bytes.
    Silent,
    /// The input is used up.
    NeedMore,
}

impl Connection {
    /// Takes the next message, or part of one, from the front of `input`. Call it until `None`,
    /// which means that all of `input` is consumed.
    ///
    /// There is one exception: after [`Received::Handshake`] of an incoming connection nothing is
    /// consumed until [`Self::accept`]. A caller that accepts later must keep the rest and pass it
    /// again.
    ///
    /// The bytes are plaintext. If the connection is encrypted, the caller decrypts each byte once,
    /// in its own buffer, before this call.
    #[must_use]
    pub fn receive<'a>(&mut self, now: Duration, input: &mut &'a [u8]) -> Option<Received<'a>> {
        self.timers.received(now, !input.is_empty());
        let received = match self.phase {
            Phase::Open { .. } => self.next_in_stream(input),
            Phase::Connecting { .. } | Phase::Listening => self.next_handshake(input),
            Phase::AwaitingAccept { .. } => Ok(None),
            Phase::Closed => {
                *input = &[];
                Ok(None)
            }
        };
        received.unwrap_or_else(|rule| {
            *input = &[];
            self.close();
            Some(Received::Misbehaved(rule))
        })
    }

    fn next_handshake(&mut self, input: &mut &[u8]) -> Result<Option<Received<'static>>, Rule> {
        let received = self.inbound.take_handshake(input);
        if !received.iter().zip(PREFIX).all(|(got, expected)| got == expected) {
            return Err(Rule::NotBitTorrent);
        }
        let Some(bytes) = self.inbound.finish_handshake() else { return Ok(None) };
        let theirs = Handshake::decode(&bytes).map_err(|_| Rule::NotBitTorrent)?;
        match self.phase {
            Phase::Connecting { ours, expect_peer_id } => {
                check_handshake(&theirs, &ours, expect_peer_id)?;
                self.phase = Phase::open(&ours, theirs);
                self.timers.opened();
            }
            _ => self.phase = Phase::AwaitingAccept { theirs },
        }
        Ok(Some(Received::Handshake(theirs)))
    }

    fn next_in_stream<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Received<'a>>, Rule> {
        loop {
            let step = match self.inbound.body {
                Body::None => match self.inbound.take_head(input)? {
                    Some(head) => self.handle_head(head)?,
                    None => Step::NeedMore,
                },
                _ => self.continue_body(input)?,
            };
            match step {
                Step::Received(received) => return Ok(Some(received)),
                Step::Silent => {}
                Step::NeedMore => return Ok(None),
            }
        }
    }

    fn handle_head(&mut self, head: Head) -> Result<Step<'static>, Rule> {
        self.charge_message(&head)?;
        match head {
            Head::Whole(message) => self.handle_whole(message),
            Head::Block(wire) => self.start_block(wire),
            Head::Bitfield { length } => self.start_bitfield(length),
            Head::Extended { id, length } if self.extension_protocol() => {
                self.inbound.body = Body::Extended { id, payload: Vec::new(), left: length };
                Ok(Step::Silent)
            }
            Head::Extended { length, .. } => Ok(self.skip_unknown(id::EXTENDED, length, 1)),
            Head::Unknown { id, length } => Ok(self.skip_unknown(id, length, 0)),
        }
    }

    fn handle_whole(&mut self, message: Message<'static>) -> Result<Step<'static>, Rule> {
        let received = match message {
            Message::KeepAlive => Received::KeepAlive,
            Message::Choke => self.handle_choke(),
            Message::Unchoke => {
                self.peer_choking = false;
                Received::Unchoke
            }
            Message::Interested => {
                self.peer_interested = true;
                Received::Interested
            }
            Message::NotInterested => {
                self.peer_interested = false;
                Received::NotInterested
            }
            Message::Have(index) => {
                self.peer_announced_pieces = true;
                self.handle_piece(message, id::HAVE, index, Received::Have)?
            }
            Message::Suggest(index) => {
                self.need_fast(id::SUGGEST)?;
                self.handle_piece(message, id::SUGGEST, index, Received::Suggest)?
            }
            Message::AllowedFast(index) => {
                self.need_fast(id::ALLOWED_FAST)?;
                self.handle_piece(message, id::ALLOWED_FAST, index, Received::AllowedFast)?
            }
            Message::HaveAll => {
                self.need_fast(id::HAVE_ALL)?;
                self.charge_bitfield(id::HAVE_ALL, 0)?;
                Received::HaveAll
            }
            Message::HaveNone => {
                self.need_fast(id::HAVE_NONE)?;
                self.charge_bitfield(id::HAVE_NONE, 0)?;
                Received::HaveNone
            }
            Message::Request(wire) => return self.handle_request(wire),
            Message::Cancel(wire) => return self.handle_cancel(wire),
            Message::Reject(wire) => return self.handle_reject(wire),
            Message::Port(port) => Received::Port(port),
            Message::Bitfield(_) | Message::Block { .. } => return Ok(Step::Silent),
            Message::Extended { .. } | Message::Unknown { .. } => return Ok(Step::Silent),
        };
        Ok(Step::Received(received))
    }

    fn handle_choke(&mut self) -> Received<'static> {
        self.peer_choking = true;
        if !self.fast() {
            self.our_requests.void_all();
        }
        Received::Choke
    }

    /// Checks the piece that a message names.
    fn handle_piece(
        &mut self,
        message: Message<'static>,
        id: u8,
        index: u32,
        received: fn(PieceIndex) -> Received<'static>,
    ) -> Result<Received<'static>, Rule> {
        let piece = self.pieces.check(id, index)?;
        Ok(piece.map_or(Received::Unchecked(message), received))
    }

    fn handle_request(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        let request = self.range(wire)?;
        self.check_message_budget()?;
        let waiting = self.outbox.waiting_bytes();
        if waiting > MAX_UNREAD {
            return Err(Rule::NotReading { waiting });
        }
        // Without the fast extension a request that crossed our choke is void.
        let is_void = self.am_choking && !self.fast();
        if is_void || !self.peer_requests.push(request) {
            self.refuse(request);
            return Ok(Step::Silent);
        }
        Ok(Step::Received(Received::Request(request)))
    }

    fn handle_cancel(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        let request = self.range(wire)?;
        if !self.peer_requests.remove(request) {
            // The cancel crossed our answer.
            return Ok(Step::Silent);
        }
        self.push_fast(Message::Reject(request.into()));
        Ok(Step::Received(Received::Cancel(request)))
    }

    fn handle_reject(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        self.need_fast(id::REJECT)?;
        match self.our_requests.take_for_reject(wire) {
            Some((request, State::Live)) => Ok(Step::Received(Received::Reject(request))),
            Some((_, State::Void)) => Ok(Step::Silent),
            None if self.stray_rejects >= MAX_STRAY_REJECTS => Err(Rule::UnrequestedReject(wire)),
            None => {
                self.stray_rejects += 1;
                Ok(Step::Silent)
            }
        }
    }

    fn start_block(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        if let Some(request) = self.our_requests.take_for_block(wire) {
            self.inbound.body = Body::Block { request, offset: 0 };
            return Ok(Step::Silent);
        }
        self.unrequested = self.unrequested.saturating_add(wire.length);
        if self.fast() || self.unrequested > MAX_UNREQUESTED {
            return Err(Rule::UnrequestedBlock(wire));
        }
        self.inbound.body = Body::Skip { left: wire.length };
        Ok(Step::Silent)
    }

    fn start_bitfield(&mut self, length: u32) -> Result<Step<'static>, Rule> {
        self.charge_bitfield(id::BITFIELD, length)?;
        self.pieces.check_bitfield(length)?;
        self.inbound.body = Body::Bitfield { offset: 0, length };
        Ok(Step::Silent)
    }

    /// Skips the `left` bytes that remain of a message. The head had `seen` bytes of its content.
    fn skip_unknown(&mut self, id: u8, left: u32, seen: u32) -> Step<'static> {
        self.inbound.body = Body::Skip { left };
        Step::Received(Received::Unknown { id, length: left + seen })
    }

    fn continue_body<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, Rule> {
        match &mut self.inbound.body {
            Body::None => Ok(Step::Silent),
            Body::Block { request, offset } => {
                let step = block_part(*request, offset, input);
                self.finish_if(is_last(&step));
                Ok(step)
            }
            Body::Bitfield { offset, length } => {
                let geometry = self.pieces.geometry();
                let spare_mask = geometry.map_or(0, |all| Bitfield::spare_mask(all.piece_count()));
                let is_set = |last: &u8| last & spare_mask != 0;
                let has_spare_bits = *length - *offset == 1 && input.first().is_some_and(is_set);
                let step = bitfield_part(offset, *length, spare_mask, input);
                self.finish_if(is_last(&step));
                if has_spare_bits {
                    self.charge_useless(0)?;
                }
                Ok(step)
            }
            Body::Extended { id, payload, left } => {
                let (id, bytes) = (*id, take(input, *left as usize));
                *left -= bytes.len() as u32;
                if *left == 0 && payload.is_empty() {
                    self.inbound.body = Body::None;
                    return self.handle_extended(id, Cow::Borrowed(bytes));
                }
                append(payload, bytes, *left as usize);
                if *left > 0 {
                    return Ok(Step::NeedMore);
                }
                let payload = std::mem::take(payload);
                self.inbound.body = Body::None;
                self.handle_extended(id, Cow::Owned(payload))
            }
            Body::Skip { left } => {
                *left -= take(input, *left as usize).len() as u32;
                let done = *left == 0;
                self.finish_if(done);
                Ok(if done { Step::Silent } else { Step::NeedMore })
            }
        }
    }

    fn finish_if(&mut self, done: bool) {
        if done {
            self.inbound.body = Body::None;
        }
    }

    /// Decodes a complete extension message. Ignores an invalid one, which is charged.
    fn handle_extended<'a>(&mut self, id: u8, payload: Cow<'a, [u8]>) -> Result<Step<'a>, Rule> {
        let received = match id {
            0 => ExtensionHandshake::decode(&payload).ok().map(|handshake| {
                self.extensions.learn(&handshake);
                Received::ExtensionHandshake(Box::new(handshake))
            }),
            id if self.extensions.is_metadata(id) => {
                self.handle_metadata(payload)?.map(Received::Metadata)
            }
            id if self.extensions.is_pex(id) => Pex::decode(&payload).ok().map(Received::Pex),
            id => Some(Received::Extended { id, payload: payload.into_owned() }),
        };
        Ok(received.map_or(Step::Silent, Step::Received))
    }

    /// Decodes a message of the metadata extension. Charges it unless it answers a request of ours:
    /// 32 MiB of metadata from one peer are no flood if we requested them.
    fn handle_metadata<'a>(
        &mut self,
        payload: Cow<'a, [u8]>,
    ) -> Result<Option<MetadataMessage<'a>>, Rule> {
        let length = payload.len() as u32;
        let message = match payload {
            Cow::Borrowed(payload) => MetadataMessage::decode(payload).ok(),
            Cow::Owned(payload) => {
                MetadataMessage::decode(&payload).ok().map(MetadataMessage::into_owned)
            }
        };
        let is_answer = match message {
            Some(MetadataMessage::Data { piece, .. } | MetadataMessage::Reject { piece }) => {
                self.extensions.answer(piece)
            }
            Some(MetadataMessage::Request { .. }) | None => false,
        };
        if !is_answer {
            self.charge_useless(length)?;
        }
        Ok(message)
    }

    fn range(&self, wire: WireRequest) -> Result<BlockRequest, Rule> {
        let geometry = self.pieces.geometry().ok_or(Rule::EarlyRequest)?;
        let request = geometry.request(wire.index, wire.offset, wire.length);
        request.ok_or(Rule::NoSuchRange(wire))
    }

    fn need_fast(&self, id: u8) -> Result<(), Rule> {
        if self.fast() { Ok(()) } else { Err(Rule::FastIsOff { id }) }
    }

    /// Charges message `id`, which is a bitfield of `length` bytes, have-all or have-none, if it is
    /// not the first announcement of pieces. BEP 3 and BEP 6 allow no other, but aria2 sends a
    /// bitfield in place of many haves. The budget limits them because each costs work for every
    /// piece.
    fn charge_bitfield(&mut self, id: u8, length: u32) -> Result<(), Rule> {
        if !std::mem::replace(&mut self.peer_announced_pieces, true) {
            return Ok(());
        }
        let length = self.pieces.count().div_ceil(8).max(length);
        let cost = u64::from(length).max(MIN_BITFIELD_COST);
        let now = self.timers.clock();
        match self.bitfield_budget.spend(now, cost, BITFIELD_BURST, BITFIELD_RATE) {
            true => Ok(()),
            false => Err(Rule::RepeatedBitfield { id }),
        }
    }

    /// Charges a message to the message budget if it is useless; see [`MESSAGE_BURST`]. Blocks,
    /// bitfields, have-all, have-none, requests and rejects have limits of their own. What a message
    /// of the metadata extension costs is known when it is complete.
    fn charge_message(&mut self, head: &Head) -> Result<(), Rule> {
        let pieces = self.pieces.count();
        match head {
            Head::Block(_) | Head::Bitfield { .. } => Ok(()),
            Head::Extended { id, .. } if self.extensions.is_metadata(*id) => Ok(()),
            Head::Extended { length, .. } | Head::Unknown { length, .. } => {
                self.charge_useless(*length)
            }
            Head::Whole(Message::Have(_)) => {
                self.have_count = self.have_count.saturating_add(1);
                if self.have_count <= pieces { Ok(()) } else { self.charge_useless(0) }
            }
            Head::Whole(Message::Interested) if !self.peer_interested => {
                self.charge_interest(pieces)
            }
            Head::Whole(Message::NotInterested) if self.peer_interested => {
                self.charge_interest(pieces)
            }
            Head::Whole(Message::HaveAll | Message::HaveNone | Message::Reject(_)) => Ok(()),
            Head::Whole(Message::Request(_)) => Ok(()),
            Head::Whole(_) => self.charge_useless(0),
        }
    }

    /// Charges a change of interest beyond two per piece. An honest peer that wants each piece as
    /// soon as we have it, and nothing in between, changes its interest twice per piece.
    fn charge_interest(&mut self, pieces: u32) -> Result<(), Rule> {
        self.interest_changes = self.interest_changes.saturating_add(1);
        match self.interest_changes <= pieces.saturating_mul(2) {
            true => Ok(()),
            false => self.charge_useless(0),
        }
    }

    /// Charges a useless message of `length` bytes.
    fn charge_useless(&mut self, length: u32) -> Result<(), Rule> {
        match self.spend_message_budget(u64::from(length).max(MIN_MESSAGE_COST)) {
            true => Ok(()),
            false => Err(Rule::Flood),
        }
    }

    /// Fails if the message budget is overspent.
    fn check_message_budget(&mut self) -> Result<(), Rule> {
        if self.spend_message_budget(0) { Ok(()) } else { Err(Rule::Flood) }
    }

    pub(super) fn spend_message_budget(&mut self, cost: u64) -> bool {
        self.message_budget.spend(self.timers.clock(), cost, MESSAGE_BURST, MESSAGE_RATE)
    }
}

fn check_handshake(
    theirs: &Handshake,
    ours: &Handshake,
    expect_peer_id: Option<PeerId>,
) -> Result<(), Rule> {
    let (expected, got) = (ours.info_hash, theirs.info_hash);
    if expected != got {
        return Err(Rule::WrongInfoHash { expected, got });
    }
    match expect_peer_id {
        Some(expected) if expected != theirs.peer_id => {
            Err(Rule::WrongPeerId { expected, got: theirs.peer_id })
        }
        _ => Ok(()),
    }
}

fn is_last(step: &Step<'_>) -> bool {
    matches!(
        step,
        Step::Received(Received::Block { last: true, .. } | Received::Bitfield { last: true, .. })
    )
}

/// Takes the next part of a block.
fn block_part<'a>(request: BlockRequest, offset: &mut u32, input: &mut &'a [u8]) -> Step<'a> {
    let bytes = take(input, (request.length() - *offset) as usize);
    if bytes.is_empty() {
        return Step::NeedMore;
    }
    let start = *offset;
    *offset += bytes.len() as u32;
    let last = *offset == request.length();
    Step::Received(Received::Block { request, offset: start, bytes, last })
}

/// Takes the next part of a bitfield. The last byte is a part of its own, without the bits in
/// `spare_mask`.
fn bitfield_part<'a>(
    offset: &mut u32,
    length: u32,
    spare_mask: u8,
    input: &mut &'a [u8],
) -> Step<'a> {
    let left = (length - *offset) as usize;
    let bytes = match (left, input.first()) {
        (0, _) => &[],
        (1, Some(last)) => {
            let _ = take(input, 1);
            std::slice::from_ref(&ALL_BYTES[usize::from(last & !spare_mask)])
        }
        _ => take(input, left - 1),
    };
    if bytes.is_empty() && left > 0 {
        return Step::NeedMore;
    }
    let start = *offset as usize;
    *offset += bytes.len() as u32;
    Step::Received(Received::Bitfield { offset: start, bytes, last: *offset == length })
}

/// Every byte value, to borrow one that is not in the input.
static ALL_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

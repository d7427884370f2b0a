//! From bytes to meaning: each message is checked against the state it arrives in.

use bt_types::{Bitfield, BlockRequest, PeerId, PieceIndex};

use super::budget::LEAST_RETELLING;
use super::inbound::{Body, append, take};
use super::requests::State;
use super::{
    Connection, LEAST_TALK, MAX_STRAY_REJECTS, MAX_UNREAD, MAX_UNREQUESTED, Phase, RETELLING_BURST,
    RETELLING_RATE, Received, TALK_BURST, TALK_RATE,
};
use crate::extension::ExtensionHandshake;
use crate::frame::Head;
use crate::handshake::{Handshake, PREFIX};
use crate::message::{Message, WireRequest, id};
use crate::rule::Rule;

/// What became of some bytes.
enum Step<'a> {
    /// They mean this.
    Received(Received<'a>),
    /// They mean nothing to the caller; there may be more.
    Silent,
    /// They are used up.
    NeedMore,
}

impl Connection {
    /// The next thing in `input`, or `None` when it is used up.
    pub(super) fn next_received<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Received<'a>>, Rule> {
        match self.phase {
            Phase::Open { .. } => self.next_in_stream(input),
            Phase::Connecting { .. } | Phase::Listening => self.next_handshake(input),
            Phase::Deciding { .. } => Ok(None),
            Phase::Closed => {
                *input = &[];
                Ok(None)
            }
        }
    }

    fn next_handshake(&mut self, input: &mut &[u8]) -> Result<Option<Received<'static>>, Rule> {
        let so_far = self.inbound.take_handshake(input);
        if !so_far.iter().zip(PREFIX).all(|(got, expected)| got == expected) {
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
            _ => self.phase = Phase::Deciding { theirs },
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
        self.count_talk(&head)?;
        match head {
            Head::Whole(message) => self.handle_whole(message),
            Head::Block(wire) => self.begin_block(wire),
            Head::Bitfield { length } => self.begin_bitfield(length),
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
                self.heard_pieces = true;
                self.about_piece(message, id::HAVE, index, Received::Have)?
            }
            Message::Suggest(index) => {
                self.need_fast(id::SUGGEST)?;
                self.about_piece(message, id::SUGGEST, index, Received::Suggest)?
            }
            Message::AllowedFast(index) => {
                self.need_fast(id::ALLOWED_FAST)?;
                self.about_piece(message, id::ALLOWED_FAST, index, Received::AllowedFast)?
            }
            Message::HaveAll => {
                self.need_fast(id::HAVE_ALL)?;
                self.tell_pieces(id::HAVE_ALL)?;
                Received::HaveAll
            }
            Message::HaveNone => {
                self.need_fast(id::HAVE_NONE)?;
                self.tell_pieces(id::HAVE_NONE)?;
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
            self.ours.void_all();
        }
        Received::Choke
    }

    /// A message that names one piece.
    fn about_piece(
        &self,
        message: Message<'static>,
        id: u8,
        index: u32,
        received: fn(PieceIndex) -> Received<'static>,
    ) -> Result<Received<'static>, Rule> {
        let Some(geometry) = &self.geometry else { return Ok(Received::Unchecked(message)) };
        let count = geometry.piece_count();
        geometry.piece(index).map(received).ok_or(Rule::NoSuchPiece { id, index, count })
    }

    fn handle_request(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        let request = self.range(wire)?;
        self.may_talk()?;
        let waiting = self.outbox.waiting_bytes();
        if waiting > MAX_UNREAD {
            return Err(Rule::NotReading { waiting });
        }
        // Without the fast extension a request that crossed our choke is void.
        let void = self.am_choking && !self.fast();
        if void || !self.theirs.push(request) {
            self.refuse(request);
            return Ok(Step::Silent);
        }
        Ok(Step::Received(Received::Request(request)))
    }

    fn handle_cancel(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        let request = self.range(wire)?;
        if !self.theirs.remove(request) {
            // The cancel crossed our answer.
            return Ok(Step::Silent);
        }
        self.push_fast(Message::Reject(request.into()));
        Ok(Step::Received(Received::Cancel(request)))
    }

    fn handle_reject(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        self.need_fast(id::REJECT)?;
        match self.ours.take_for_reject(wire) {
            Some((request, State::Live)) => Ok(Step::Received(Received::Reject(request))),
            Some((_, State::Void)) => Ok(Step::Silent),
            None if self.stray_rejects >= MAX_STRAY_REJECTS => Err(Rule::UnrequestedReject(wire)),
            None => {
                self.stray_rejects += 1;
                Ok(Step::Silent)
            }
        }
    }

    fn begin_block(&mut self, wire: WireRequest) -> Result<Step<'static>, Rule> {
        if let Some(request) = self.ours.take_for_block(wire) {
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

    fn begin_bitfield(&mut self, length: u32) -> Result<Step<'static>, Rule> {
        self.tell_pieces(id::BITFIELD)?;
        if let Some(geometry) = &self.geometry {
            let expected = geometry.piece_count().div_ceil(8);
            if length != expected {
                return Err(Rule::BitfieldLength { expected, got: length });
            }
        }
        self.inbound.body = Body::Bitfield { offset: 0, length };
        Ok(Step::Silent)
    }

    /// Skips a message of which `seen` bytes of content were in the head.
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
                let geometry = self.geometry.as_ref();
                let spare_mask = geometry.map_or(0, |all| Bitfield::spare_mask(all.piece_count()));
                let is_spare = |last: &u8| last & spare_mask != 0;
                let spare = *length - *offset == 1 && input.first().is_some_and(is_spare);
                let step = bitfield_part(offset, *length, spare_mask, input);
                self.finish_if(is_last(&step));
                if spare {
                    self.talk(0)?;
                }
                Ok(step)
            }
            Body::Extended { payload, left, .. } => {
                let bytes = take(input, *left as usize);
                *left -= bytes.len() as u32;
                append(payload, bytes, *left as usize);
                Ok(if *left > 0 { Step::NeedMore } else { self.finish_extended() })
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

    /// An extension handshake that cannot be read is ignored: [`Self::count_talk`] counted it.
    fn finish_extended(&mut self) -> Step<'static> {
        let body = std::mem::take(&mut self.inbound.body);
        let Body::Extended { id, payload, .. } = body else { return Step::Silent };
        let received = match id {
            0 => ExtensionHandshake::decode(&payload)
                .ok()
                .map(|handshake| Received::ExtensionHandshake(Box::new(handshake))),
            id => Some(Received::Extended { id, payload }),
        };
        received.map_or(Step::Silent, Step::Received)
    }

    fn range(&self, wire: WireRequest) -> Result<BlockRequest, Rule> {
        let geometry = self.geometry.as_ref().ok_or(Rule::EarlyRequest)?;
        let request = geometry.request(wire.index, wire.offset, wire.length);
        request.ok_or(Rule::NoSuchRange(wire))
    }

    fn need_fast(&self, id: u8) -> Result<(), Rule> {
        if self.fast() { Ok(()) } else { Err(Rule::FastIsOff { id }) }
    }

    /// Notes that message `id` tells all pieces. It should be the first about pieces (BEP 3, BEP 6),
    /// but aria2 sends one in place of many HAVEs. Each costs work for every piece, so a peer has a
    /// budget for telling everything again.
    fn tell_pieces(&mut self, id: u8) -> Result<(), Rule> {
        if !std::mem::replace(&mut self.heard_pieces, true) {
            return Ok(());
        }
        let pieces = self.geometry.map_or(0, |geometry| geometry.piece_count());
        let cost = u64::from(pieces.div_ceil(8)).max(LEAST_RETELLING);
        let now = self.timers.clock();
        match self.retelling.spend(now, cost, RETELLING_BURST, RETELLING_RATE) {
            true => Ok(()),
            false => Err(Rule::TooMuchRetelling { id }),
        }
    }

    /// Counts a message that brings neither data nor a request. Those that are counted elsewhere, or
    /// answer us, are none.
    fn count_talk(&mut self, head: &Head) -> Result<(), Rule> {
        let pieces = self.geometry.map_or(0, |geometry| geometry.piece_count());
        match head {
            Head::Block(_) | Head::Bitfield { .. } => Ok(()),
            Head::Extended { length, .. } | Head::Unknown { length, .. } => self.talk(*length),
            Head::Whole(Message::Have(_)) => {
                self.haves = self.haves.saturating_add(1);
                if self.haves <= pieces { Ok(()) } else { self.talk(0) }
            }
            Head::Whole(Message::Interested) if !self.peer_interested => {
                self.count_interest(pieces)
            }
            Head::Whole(Message::NotInterested) if self.peer_interested => {
                self.count_interest(pieces)
            }
            Head::Whole(Message::HaveAll | Message::HaveNone | Message::Reject(_)) => Ok(()),
            Head::Whole(Message::Request(_)) => Ok(()),
            Head::Whole(_) => self.talk(0),
        }
    }

    /// Counts a change of interest. Who wants each piece as soon as we have it, and nothing between two,
    /// changes twice a piece.
    fn count_interest(&mut self, pieces: u32) -> Result<(), Rule> {
        self.interests = self.interests.saturating_add(1);
        if self.interests <= pieces.saturating_mul(2) { Ok(()) } else { self.talk(0) }
    }

    /// Counts a message of `length` bytes that brings nothing.
    fn talk(&mut self, length: u32) -> Result<(), Rule> {
        match self.spend_talk(u64::from(length).max(LEAST_TALK)) {
            true => Ok(()),
            false => Err(Rule::TooMuchTalk),
        }
    }

    /// Fails if more was spent than there was.
    fn may_talk(&mut self) -> Result<(), Rule> {
        if self.spend_talk(0) { Ok(()) } else { Err(Rule::TooMuchTalk) }
    }

    pub(super) fn spend_talk(&mut self, cost: u64) -> bool {
        self.talk.spend(self.timers.clock(), cost, TALK_BURST, TALK_RATE)
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

fn block_part<'a>(request: BlockRequest, offset: &mut u32, input: &mut &'a [u8]) -> Step<'a> {
    let bytes = take(input, (request.length() - *offset) as usize);
    if bytes.is_empty() {
        return Step::NeedMore;
    }
    let begin = *offset;
    *offset += bytes.len() as u32;
    let last = *offset == request.length();
    Step::Received(Received::Block { request, offset: begin, bytes, last })
}

/// The next part of a bitfield. The last byte comes alone, without the bits in
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
    let begin = *offset as usize;
    *offset += bytes.len() as u32;
    Step::Received(Received::Bitfield { offset: begin, bytes, last: *offset == length })
}

/// Every byte, to borrow one that is not in the input.
static ALL_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

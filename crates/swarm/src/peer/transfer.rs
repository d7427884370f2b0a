//! What a transfer knows of one peer.

use std::collections::VecDeque;
use std::time::Duration;

use bt_types::{BLOCK_LENGTH, Bitfield, BlockRequest, PieceIndex};

use super::Has;
use super::window::{SLACK, Window};
use crate::rate::Rate;
use crate::vocabulary::DisconnectReason;

/// The most allowed-fast and suggested pieces kept for a peer (BEP 6 proposes 10).
const MAX_HINTS: usize = 32;

/// A peer that owes blocks and sends none for this long is snubbed.
const SNUB_AFTER: Duration = Duration::from_secs(60);
/// The same while another peer could send something, but all of it is asked of peers like this
/// one.
const SNUB_SOON: Duration = Duration::from_secs(5);
/// That time doubles, up to this, each time that a snubbed peer sends a block after all: it is
/// slow, not silent. If slow peers took a block from each other again and again, none would ever
/// finish it.
const MAX_PATIENCE: Duration = Duration::from_secs(120);

/// A request that the peer has not answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) request: BlockRequest,
    pub(crate) at: Duration,
    /// Whether it counts as one of a snubbed peer: others are asked for the block as if this
    /// request did not exist.
    pub(crate) snubbed: bool,
    /// Whether a later request was answered before it.
    pub(crate) passed_over: bool,
}

/// Whether a peer waits to be asked for blocks, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskState {
    /// It is in the list of peers to be asked.
    Queued,
    /// It has as many requests as it should.
    Busy,
    /// There is nothing to ask it for.
    Idle,
    /// There is no memory for what it could send.
    Starved,
}

/// What a transfer knows of one connected peer.
#[derive(Debug)]
pub(crate) struct PeerTransfer {
    pub(crate) has: Has,
    /// The bitfield so far, while it comes in parts.
    bitfield: Vec<u8>,
    /// How many of its pieces are missing.
    pub(crate) useful: u32,
    /// How many of those are not being fetched.
    pub(crate) fresh: u32,
    /// How many blocks of verified pieces it sent.
    pub(crate) proven: u32,
    /// When it last sent a block that was kept, or became part of the transfer.
    pub(crate) gave_at: Duration,

    pub(crate) am_choking: bool,
    pub(crate) am_interested: bool,
    pub(crate) peer_choking: bool,
    pub(crate) peer_interested: bool,
    pub(crate) unchoked_at: Option<Duration>,

    pub(crate) asked: VecDeque<Asked>,
    pub(crate) window: Window,
    pub(crate) ask_state: AskState,
    /// When its last block came, or the first request since then was made.
    pub(crate) last_block: Duration,
    pub(crate) snubbed: bool,
    /// For how long it may owe blocks and send none while others wait.
    patience: Duration,
    /// Rejects since its last block.
    pub(crate) rejects: u32,
    /// It is not asked before this time, because it rejects everything.
    pub(crate) hold_until: Option<Duration>,
    /// The piece it works on, and its rate as counted there.
    pub(crate) current: Option<(PieceIndex, u64)>,
    pub(crate) allowed_fast: Vec<PieceIndex>,
    pub(crate) suggested: Vec<PieceIndex>,

    pub(crate) down: Rate,
    pub(crate) up: Rate,
}

impl PeerTransfer {
    /// Returns the state of a peer that has said nothing yet.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            has: Has::Nothing,
            bitfield: Vec::new(),
            useful: 0,
            fresh: 0,
            proven: 0,
            gave_at: now,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            unchoked_at: None,
            asked: VecDeque::new(),
            window: Window::default(),
            ask_state: AskState::Busy,
            last_block: now,
            snubbed: false,
            patience: SNUB_SOON,
            rejects: 0,
            hold_until: None,
            current: None,
            allowed_fast: Vec::new(),
            suggested: Vec::new(),
            down: Rate::default(),
            up: Rate::default(),
        }
    }

    /// Takes a part of its bitfield: `bytes` from byte `offset` on. Returns the pieces once the
    /// `last` part came.
    ///
    /// # Errors
    /// [`DisconnectReason::BadBitfield`] if the bitfield does not fit a torrent of `pieces`.
    pub(crate) fn receive_bitfield(
        &mut self,
        pieces: u32,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) -> Result<Option<Has>, DisconnectReason> {
        let expected = offset == self.bitfield.len();
        if !expected || offset + bytes.len() > Bitfield::byte_length(pieces) {
            return Err(DisconnectReason::BadBitfield);
        }
        self.bitfield.extend_from_slice(bytes);
        if !last {
            return Ok(None);
        }
        let bits = Bitfield::from_bytes(&std::mem::take(&mut self.bitfield), pieces);
        bits.map(|bits| Some(Has::from_bits(bits))).map_err(|_| DisconnectReason::BadBitfield)
    }

    /// Returns how many requests it may have outstanding now, where memory permits what it sends
    /// in `time`: one while it is snubbed.
    pub(crate) fn depth(&self, time: Duration) -> usize {
        if self.snubbed { 1 } else { self.window.depth(time) as usize }
    }

    /// Returns when a request made now would be answered. A peer of which nothing is known is
    /// expected to answer soon.
    pub(crate) fn next_answer(&self, now: Duration) -> Duration {
        let rate = self.down.per_second(now);
        let block = if rate == 0 { SLACK } else { block_time(rate) };
        self.answer(now, now, self.asked.len(), block)
    }

    /// Returns when each outstanding request is expected to be answered, the last one first. A
    /// peer that has sent nothing is not expected to answer; a silence is expected to last as long
    /// again.
    pub(crate) fn answers(
        &self,
        now: Duration,
    ) -> impl Iterator<Item = (Duration, BlockRequest)> + '_ {
        let block = block_time(self.down.per_second(now));
        let answer = move |(position, asked): (usize, &Asked)| {
            (self.answer(now, asked.at, position, block), asked.request)
        };
        self.asked.iter().enumerate().rev().map(answer)
    }

    /// Returns when the request at `position` of the queue is answered, which was made at `asked`.
    fn answer(&self, now: Duration, asked: Duration, position: usize, block: Duration) -> Duration {
        let silence = if self.asked.is_empty() {
            Duration::ZERO
        } else {
            now.saturating_sub(self.last_block)
        };
        let transfer = block.saturating_mul(position as u32 + 1);
        (asked + self.window.latency()).max(now.saturating_add(transfer.max(silence)))
    }

    /// Whether it owes blocks and has sent none for too long. `others_wait` says that another peer
    /// could send something and is asked for nothing.
    pub(crate) fn is_silent(&self, now: Duration, others_wait: bool) -> bool {
        let least = if others_wait { Duration::ZERO } else { SNUB_AFTER };
        let silence = now.saturating_sub(self.last_block);
        !self.asked.is_empty() && silence >= self.patience.max(least)
    }

    /// Ends the snub of a peer that sent a block. Says whether it was snubbed.
    pub(crate) fn end_snub(&mut self, now: Duration) -> bool {
        let was_snubbed = std::mem::replace(&mut self.snubbed, false);
        if was_snubbed {
            self.window.restart(now);
            self.patience = (2 * self.patience).min(MAX_PATIENCE);
        }
        was_snubbed
    }

    /// Whether it may be asked for `piece`, whoever else is.
    pub(crate) fn may_send(&self, piece: PieceIndex) -> bool {
        let allowed = !self.peer_choking || self.allowed_fast.contains(&piece);
        allowed && self.has.contains(piece)
    }

    /// Whether it may be asked for anything.
    pub(crate) fn may_send_something(&self) -> bool {
        let allowed = !self.peer_choking || !self.allowed_fast.is_empty();
        allowed && self.useful > 0 && self.hold_until.is_none()
    }

    /// Keeps a hint about a piece, a bounded number of them.
    pub(crate) fn hint(list: &mut Vec<PieceIndex>, piece: PieceIndex) {
        if list.len() < MAX_HINTS && !list.contains(&piece) {
            list.push(piece);
        }
    }

    /// Removes the request, if it is outstanding. Blocks mostly come in the order of the requests,
    /// so it is near the front.
    pub(crate) fn take_asked(&mut self, request: BlockRequest) -> Option<Asked> {
        let position = self.asked.iter().position(|asked| asked.request == request)?;
        self.asked.remove(position)
    }

    /// Removes the request that a block answers. The requests before it were passed over; all were
    /// if the block was not asked for.
    pub(crate) fn take_answered(&mut self, request: BlockRequest) -> Option<Asked> {
        let is_other = |asked: &&mut Asked| asked.request != request;
        self.asked.iter_mut().take_while(is_other).for_each(|asked| asked.passed_over = true);
        self.take_asked(request)
    }

    /// Removes the requests that pass `which`.
    pub(crate) fn take_all_asked(&mut self, which: impl Fn(&Asked) -> bool) -> VecDeque<Asked> {
        if !self.asked.iter().any(&which) {
            return VecDeque::new();
        }
        let taken;
        (taken, self.asked) = self.asked.drain(..).partition(which);
        taken
    }
}

/// Returns how long a block takes at `rate`, in bytes per second.
fn block_time(rate: u64) -> Duration {
    Duration::from_micros(u64::from(BLOCK_LENGTH) * 1_000_000 / rate.max(1))
}

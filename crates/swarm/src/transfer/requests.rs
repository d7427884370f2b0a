//! Requests: filling the windows of peers, and taking requests back.

use std::collections::VecDeque;

use bt_types::{BlockRequest, PieceIndex};

use super::Context;
use super::downloads::Downloads;
use super::memory::MemoryShares;
use super::picker::{Asker, Choice};
use crate::peer::{AskState, Asked, PeerTransfer};
use crate::spans::SpanBudget;
use crate::vocabulary::{Output, PeerKey};

impl Downloads {
    /// Asks the next peer for blocks until it has as many requests as it should. Says whether there
    /// was one.
    pub(crate) fn ask_next(&mut self, cx: &mut Context<'_>, budget: &mut SpanBudget) -> bool {
        let Some(key) = self.ask_list.pop(cx.peers, budget) else { return false };
        let state = self.fill_window(cx, key, budget);
        if let Some(peer) = cx.peers.transfer_mut(key) {
            peer.ask_state = state;
        }
        let in_endgame = self.picker.in_endgame(&self.unfinished);
        if in_endgame && !self.in_endgame {
            self.ask_list.wake_idle_later();
        }
        self.in_endgame = in_endgame;
        true
    }

    fn fill_window(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        budget: &mut SpanBudget,
    ) -> AskState {
        let mut short = self.ask_list.is_short(budget);
        let shares = MemoryShares {
            memory: self.unfinished.reserved_bytes() + budget.available() as u64,
            rate: cx.traffic.down.per_second(cx.now),
        };
        while let Some(peer) = cx.peers.transfer(key) {
            if peer.asked.len() >= peer.depth(shares.request_time()) {
                return AskState::Busy;
            }
            if !peer.may_send_something() {
                return AskState::Idle;
            }
            let (now, pieces, blame) = (cx.now, &*cx.pieces, &self.blame);
            let asker = Asker { key, peer, now, shares, short, pieces, blame };
            let done = match self.picker.choose(&asker, &mut self.unfinished, cx.rng) {
                Choice::Block(piece, block) => self.ask(cx, key, piece, block, budget),
                Choice::Start(piece) => self.start_for(cx, key, piece, budget),
                Choice::Nothing if short => return AskState::Starved,
                Choice::Nothing => match self.latest_of_others(cx, key) {
                    Some((piece, block)) => self.ask(cx, key, piece, block, budget),
                    None => return AskState::Idle,
                },
            };
            short |= !done;
        }
        AskState::Idle
    }

    /// Starts a piece that `key` is going to be asked for, if there is memory for it.
    fn start_for(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        piece: PieceIndex,
        budget: &mut SpanBudget,
    ) -> bool {
        let layout = self.unfinished.layout();
        let spans = if layout.is_whole(piece) { 0..layout.span_count(piece) } else { 0..1 };
        if !self.reserve(spans.len(), budget) {
            return false;
        }
        let only = self.blame.count_try(piece).then_some(key);
        self.start(cx, piece, only);
        self.unfinished.update(piece, |piece| piece.reserve(cx.now, spans.clone()));
        cx.outputs.push_back(Output::OpenSpans { piece, spans });
        true
    }

    /// Starts a piece, for `only` one peer if given.
    pub(super) fn start(&mut self, cx: &mut Context<'_>, piece: PieceIndex, only: Option<PeerKey>) {
        self.unfinished.start(piece, only);
        self.relist(cx, piece);
    }

    /// Asks for a block of an unfinished piece, if there is memory for it.
    fn ask(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        piece: PieceIndex,
        block: u32,
        budget: &mut SpanBudget,
    ) -> bool {
        let Some(request) = cx.pieces.geometry().block(piece, block) else { return false };
        let span = self.unfinished.layout().span_of(request.offset());
        let Some(unfinished) = self.unfinished.get(piece) else { return false };
        let spans = unfinished.unreserved(span);
        if !spans.is_empty() {
            if !self.reserve(spans.len(), budget) {
                return false;
            }
            cx.outputs.push_back(Output::OpenSpans { piece, spans: spans.clone() });
        }
        let Some(peer) = cx.peers.transfer_mut(key) else { return false };
        self.unfinished.update(piece, |piece| {
            piece.reserve(cx.now, spans);
            piece.ask(block, peer.snubbed, peer.next_answer(cx.now));
        });
        if peer.asked.is_empty() {
            peer.last_block = cx.now;
        }
        let snubbed = peer.snubbed;
        peer.asked.push_back(Asked { request, at: cx.now, snubbed, passed_over: false });
        cx.outputs.push_back(Output::Request { peer: key, request });
        self.unfinished.join(cx.now, piece, peer);
        true
    }

    /// Reserves memory for `spans` spans.
    fn reserve(&mut self, spans: usize, budget: &mut SpanBudget) -> bool {
        let bytes = spans * self.unfinished.layout().span_length() as usize;
        self.ask_list.reserve(bytes, budget)
    }

    /// Gives up an unfinished piece and everything received of it.
    pub(super) fn close_piece(&mut self, cx: &mut Context<'_>, piece: PieceIndex) {
        self.leave_piece(cx, piece);
        self.cancel_where(cx, |request| request.piece() == piece);
        let closed = self.unfinished.close(piece);
        self.relist(cx, piece);
        if closed.is_some() {
            cx.outputs.push_back(Output::ClosePiece { piece });
        }
        self.ask_list.wake_idle_later();
    }

    /// No peer works on `piece` from now on.
    pub(super) fn leave_piece(&mut self, cx: &mut Context<'_>, piece: PieceIndex) {
        for (_, peer) in cx.peers.transfers_mut() {
            if peer.current.is_some_and(|(current, _)| current == piece) {
                self.unfinished.leave(peer);
            }
        }
    }

    /// Takes back the outstanding requests that pass `which`.
    pub(super) fn cancel_where(
        &mut self,
        cx: &mut Context<'_>,
        which: impl Fn(BlockRequest) -> bool,
    ) {
        for (key, peer) in cx.peers.transfers_mut() {
            let cancelled = peer.take_all_asked(|asked| which(asked.request));
            if !cancelled.is_empty() {
                self.cancel_all(cx.outputs, key, peer, cancelled);
            }
        }
    }

    /// Takes back requests, which were removed from `asked` of the peer.
    pub(super) fn cancel_all(
        &mut self,
        outputs: &mut VecDeque<Output>,
        key: PeerKey,
        peer: &mut PeerTransfer,
        cancelled: VecDeque<Asked>,
    ) {
        for asked in cancelled {
            outputs.push_back(Output::Cancel { peer: key, request: asked.request });
            self.unfinished.release(key, &asked);
        }
        self.ask_list.queue_peer(key, peer);
    }

    /// Takes back the requests for a span, and has it written before its piece is verified.
    pub(super) fn stage(&mut self, cx: &mut Context<'_>, piece: PieceIndex, span: u32) {
        let layout = self.unfinished.layout();
        self.cancel_where(cx, |request| {
            request.piece() == piece && layout.span_of(request.offset()) == span
        });
        self.stage_idle(cx, piece, span);
    }

    /// Gives back the memory of a span of which no request is outstanding, and has it written.
    pub(super) fn stage_idle(&mut self, cx: &mut Context<'_>, piece: PieceIndex, span: u32) {
        if self.unfinished.update(piece, |piece| piece.unreserve(span)).is_some() {
            cx.outputs.push_back(Output::StageSpan { piece, span });
        }
    }
}

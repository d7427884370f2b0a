//! Whom to ask for what: filling windows, choke and unchoke, rejects, snubbed peers.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex};

use super::{Swarm, TICK};
use crate::dice::Dice;
use crate::peer::{Asked, Peer, Turn};
use crate::pieces::{Asker, Choice, Pieces};
use crate::timer::Timer;
use crate::vocabulary::{Output, PeerKey, SpanBudget};

/// A request that is not answered for this long, while later ones are, is lost.
const LOST_AFTER: Duration = Duration::from_secs(120);
/// After so many rejects without a block in between, a peer is left alone for [`HOLD`].
const MAX_REJECTS: u32 = 16;
/// How long a peer that rejects everything is not asked.
const HOLD: Duration = Duration::from_secs(10);
/// While memory is short, a span that got no block for this long is staged and given back.
const SPAN_IDLE: Duration = Duration::from_secs(30);

impl Swarm {
    /// The peer answers no requests from now on. Without the Fast extension, those outstanding
    /// are void (BEP 3); with it, each is answered or rejected (BEP 6).
    pub fn handle_choke(&mut self, now: Duration, key: PeerKey) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.peer_choking = true;
        if !peer.is.fast {
            for asked in std::mem::take(&mut peer.asked) {
                self.release(key, asked);
            }
        }
        self.close_pieces_only_for(key);
        self.idle_may_help = true;
    }

    /// The peer answers requests from now on.
    pub fn handle_unchoke(&mut self, now: Duration, key: PeerKey) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.peer_choking, false) {
            peer.window.restart(now);
            peer.last_block = now;
            self.suspicion_changed = true;
        }
        self.queue(key);
    }

    /// The peer will not answer a request of ours (BEP 6).
    pub fn handle_reject(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(asked) = peer.take_asked(request) else { return };
        if peer.peer_choking {
            peer.allowed_fast.retain(|piece| *piece != request.piece());
        } else {
            peer.window.on_reject();
            peer.rejects += 1;
            if peer.rejects >= MAX_REJECTS {
                self.hold(key);
            }
        }
        self.release(key, asked);
        self.take_away_if_only(key, request.piece());
        self.queue(key);
        self.idle_may_help = true;
    }

    /// The peer does not send this piece. If nobody else may send it, it must not depend on who will not.
    fn take_away_if_only(&mut self, key: PeerKey, piece: PieceIndex) {
        if self.pieces.open.get(&piece).is_some_and(|open| open.only == Some(key)) {
            self.hold(key);
            self.close_pieces_only_for(key);
        }
    }

    /// Leaves the peer alone for a while.
    fn hold(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.hold_until = Some(self.now + HOLD);
            peer.rejects = 0;
        }
    }

    /// The peer answers requests for this piece even while it chokes us (BEP 6).
    pub fn handle_allowed_fast(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        Peer::hint(&mut peer.allowed_fast, piece);
        self.queue(key);
    }

    /// The peer would rather send this piece than others (BEP 6).
    pub fn handle_suggest(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.now = now;
        if let Some(peer) = self.peers.get_mut(&key) {
            Peer::hint(&mut peer.suggested, piece);
        }
    }

    /// The peer keeps this many requests at most (`reqq` of BEP 10).
    pub fn handle_reqq(&mut self, now: Duration, key: PeerKey, limit: u32) {
        self.now = now;
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.window.set_limit(limit);
        }
        self.queue(key);
    }

    /// Puts the peer in the list of those to be asked, if it may be asked for anything.
    pub(super) fn queue(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.turn != Turn::Queued && peer.may_send_something() {
            peer.turn = Turn::Queued;
            self.ready.push_back(key);
        }
    }

    /// Asks the peer for blocks until it has as many requests as it should.
    pub(super) fn ask_for_blocks(&mut self, key: PeerKey, budget: &mut SpanBudget) {
        let turn = self.fill_window(key, budget);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.turn = turn;
        }
        let endgame = self.pieces.in_endgame();
        if endgame && !self.endgame {
            self.idle_may_help = true;
        }
        self.endgame = endgame;
    }

    fn fill_window(&mut self, key: PeerKey, budget: &mut SpanBudget) -> Turn {
        let mut short = self.is_short(budget);
        let shares = self.shares(budget);
        while let Some(peer) = self.peers.get(&key)
            && self.running
        {
            if peer.asked.len() >= peer.depth(shares.request_time()) {
                return Turn::Busy;
            }
            if !peer.may_send_something() {
                return Turn::Idle;
            }
            let asker = Asker { key, peer, now: self.now, shares, short };
            let done = match self.pieces.choose(&asker, &mut self.rng) {
                Choice::Block { piece, block } => self.ask(key, piece, block, budget),
                Choice::Open(piece) => self.open_piece(key, piece, budget),
                Choice::Nothing if short => return Turn::Starved,
                Choice::Nothing => match self.latest_of_others(key) {
                    Some((piece, block)) => self.ask(key, piece, block, budget),
                    None => return Turn::Idle,
                },
            };
            short |= !done;
        }
        Turn::Idle
    }

    /// Opens a piece if there is memory for it.
    fn open_piece(&mut self, key: PeerKey, piece: PieceIndex, budget: &mut SpanBudget) -> bool {
        let layout = self.pieces.layout();
        let spans = if layout.is_whole(piece) { 0..layout.span_count(piece) } else { 0..1 };
        if !self.reserve(spans.len(), budget) {
            return false;
        }
        self.relist(piece, |pieces, _| {
            pieces.open(piece, Some(key));
        });
        self.pieces.reserve(self.now, piece, spans.clone());
        self.outputs.push_back(Output::OpenSpans { piece, spans });
        true
    }

    /// Asks for a block of an open piece if there is memory for it.
    fn ask(
        &mut self,
        key: PeerKey,
        piece: PieceIndex,
        block: u32,
        budget: &mut SpanBudget,
    ) -> bool {
        let Some(request) = self.pieces.geometry.block(piece, block) else { return false };
        let span = self.pieces.layout().span_of(request.offset());
        let Some(open) = self.pieces.open.get(&piece) else { return false };
        let spans = open.unreserved(span);
        if !spans.is_empty() {
            if !self.reserve(spans.len(), budget) {
                return false;
            }
            self.outputs.push_back(Output::OpenSpans { piece, spans: spans.clone() });
        }
        self.pieces.reserve(self.now, piece, spans);
        let (Some(peer), Some(open)) = (self.peers.get_mut(&key), self.pieces.open.get_mut(&piece))
        else {
            return false;
        };
        let weak = peer.snubbed;
        open.expect(peer.next_answer(self.now));
        open.ask(block, weak);
        if peer.asked.is_empty() {
            peer.last_block = self.now;
        }
        peer.asked.push_back(Asked { request, at: self.now, weak, passed_over: false });
        self.outputs.push_back(Output::Request { peer: key, request });
        self.pieces.update_partial_if_full(piece);
        self.work_on(key, piece);
        true
    }

    /// Reserves memory for `spans` spans; what it takes is remembered if it fails.
    fn reserve(&mut self, spans: usize, budget: &mut SpanBudget) -> bool {
        let bytes = spans * self.pieces.layout().span_length() as usize;
        let reserved = budget.try_reserve(bytes);
        if !reserved {
            self.starved = Some(bytes);
        }
        reserved
    }

    /// Queues the next of the peers that had no memory, if there is enough for the last of them.
    pub(super) fn feed_starved(&mut self, budget: &SpanBudget) {
        if self.is_short(budget) || self.starved.is_none() {
            return;
        }
        let starved =
            |(_, peer): &(&PeerKey, &Peer)| peer.turn == Turn::Starved && peer.may_send_something();
        let last = self.last_fed;
        let next = self.peers.range((Bound::Excluded(last), Bound::Unbounded)).find(starved);
        let next = next.or_else(|| self.peers.range(..=last).find(starved)).map(|(key, _)| *key);
        // What the others need is not known.
        self.starved = next.map(|_| 0);
        if let Some(key) = next {
            self.last_fed = key;
            self.queue(key);
        }
    }

    /// Whether the last reservation failed and would fail again: to poll the swarm for the sake of
    /// memory would be of no use.
    pub fn is_short(&self, budget: &SpanBudget) -> bool {
        self.starved.is_some_and(|need| budget.available() < need)
    }

    /// Queues the peers that had nothing to be asked for.
    pub(super) fn wake_idle(&mut self) {
        self.wake(Turn::Idle);
        if self.starved.is_some() {
            // What was freed may lie in memory that is reserved already.
            self.wake(Turn::Starved);
        }
    }

    fn wake(&mut self, turn: Turn) {
        for (key, peer) in self.peers.iter_mut() {
            if peer.turn == turn && peer.may_send_something() {
                peer.turn = Turn::Queued;
                self.ready.push_back(*key);
            }
        }
    }

    /// Does something by which `piece` may enter or leave the pieces that may be opened.
    pub(super) fn relist<T>(
        &mut self,
        piece: PieceIndex,
        action: impl FnOnce(&mut Pieces, &mut Dice) -> T,
    ) -> T {
        let before = self.pieces.rarity.contains(piece.get());
        let done = action(&mut self.pieces, &mut self.rng);
        let after = self.pieces.rarity.contains(piece.get());
        if before != after {
            for peer in self.peers.values_mut().filter(|peer| peer.has.contains(piece)) {
                peer.fresh = if after { peer.fresh + 1 } else { peer.fresh - 1 };
            }
        }
        done
    }

    /// The peer owes this block no longer.
    pub(super) fn release(&mut self, key: PeerKey, asked: Asked) {
        let piece = asked.request.piece();
        let Some(open) = self.pieces.open.get_mut(&piece) else { return };
        if open.release(asked.request.block(), key, asked.weak) {
            self.pieces.update_partial(piece);
        }
    }

    /// The peer works on `piece` from now on.
    fn work_on(&mut self, key: PeerKey, piece: PieceIndex) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.current.is_some_and(|(current, _)| current == piece) {
            return;
        }
        leave(&mut self.pieces, peer);
        if let Some(open) = self.pieces.open.get_mut(&piece) {
            let rate = peer.down.per_second(now);
            open.rate += rate;
            peer.current = Some((piece, rate));
        }
    }

    /// The peer works on no piece from now on.
    pub(super) fn leave_current(&mut self, peer: &mut Peer) {
        leave(&mut self.pieces, peer);
    }

    /// Nobody works on `piece` from now on.
    pub(super) fn leave_piece(&mut self, piece: PieceIndex) {
        for peer in self.peers.values_mut() {
            if peer.current.is_some_and(|(current, _)| current == piece) {
                leave(&mut self.pieces, peer);
            }
        }
    }

    /// Closes the pieces that only this peer may be asked for, so that another one may be.
    pub(super) fn close_pieces_only_for(&mut self, key: PeerKey) {
        if self.pieces.blame.is_empty() {
            return;
        }
        let theirs = self.pieces.open.iter().filter(|(_, open)| open.only == Some(key));
        let closed: Vec<PieceIndex> =
            theirs.filter(|(_, open)| !open.committing).map(|(piece, _)| *piece).collect();
        for piece in closed {
            self.close_piece(piece);
        }
        self.suspicion_changed = true;
    }

    /// Gives up an open piece with all that came of it.
    pub(super) fn close_piece(&mut self, piece: PieceIndex) {
        self.leave_piece(piece);
        self.cancel_where(|request| request.piece() == piece);
        if self.relist(piece, |pieces, rng| pieces.close(piece, rng)).is_some() {
            self.outputs.push_back(Output::ClosePiece { piece });
        }
        self.idle_may_help = true;
    }

    /// Takes back the outstanding requests that pass `which`.
    pub(super) fn cancel_where(&mut self, which: impl Fn(BlockRequest) -> bool) {
        for key in self.keys() {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if !peer.asked.iter().any(|asked| which(asked.request)) {
                continue;
            }
            let (cancelled, kept) = peer.asked.drain(..).partition(|asked| which(asked.request));
            peer.asked = kept;
            self.cancel_all(key, cancelled);
        }
    }

    fn cancel_all(&mut self, key: PeerKey, cancelled: VecDeque<Asked>) {
        for asked in cancelled {
            self.outputs.push_back(Output::Cancel { peer: key, request: asked.request });
            self.release(key, asked);
        }
        self.queue(key);
    }

    /// Once a second: measures, resizes windows, looks for silent peers and idle spans.
    pub(super) fn tick(&mut self) {
        let others_wait = self.somebody_waits();
        for key in self.keys() {
            self.tick_peer(key, others_wait);
        }
        self.review_suspects();
        self.relieve_snubbed();
        self.make_place();
        if self.starved.is_some() {
            self.stage_idle_spans();
            // Some may need less than the last one that failed.
            self.starved = Some(0);
        }
        if !self.peers.is_empty() {
            self.timers.set(Timer::Tick, self.now + TICK);
        }
    }

    /// Whether a peer that could send something is asked for nothing: others owe all of it, or hold the
    /// memory for it.
    fn somebody_waits(&self) -> bool {
        let waits =
            |peer: &Peer| peer.asked.is_empty() && !peer.snubbed && peer.may_send_something();
        self.peers.values().any(waits)
    }

    /// Looks at one peer, which is snubbed if it is silent while it owes blocks.
    fn tick_peer(&mut self, key: PeerKey, others_wait: bool) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.window.on_tick(now);
        peer.hold_until = peer.hold_until.filter(|until| *until > now);
        let rate = peer.down.per_second(now);
        if let Some((piece, counted)) = &mut peer.current
            && let Some(open) = self.pieces.open.get_mut(piece)
        {
            open.rate = open.rate.saturating_sub(*counted) + rate;
            *counted = rate;
        }
        if !peer.snubbed && peer.is_silent(now, others_wait) {
            self.snub(key);
        } else {
            self.drop_lost(key);
        }
        self.queue(key);
    }

    /// Takes back requests that the peer passed over.
    fn drop_lost(&mut self, key: PeerKey) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.snubbed) else { return };
        // Nobody else may be asked for a piece that is left to this peer.
        let open = &self.pieces.open;
        let is_only = |piece| open.get(&piece).is_some_and(|open| open.only == Some(key));
        let is_lost = |asked: &Asked| {
            let is_old = now.saturating_sub(asked.at) >= LOST_AFTER;
            is_old && (asked.passed_over || is_only(asked.request.piece()))
        };
        if peer.asked.iter().any(is_lost) {
            let lost: VecDeque<Asked>;
            (lost, peer.asked) = peer.asked.drain(..).partition(is_lost);
            lost.iter().for_each(|asked| self.take_away_if_only(key, asked.request.piece()));
            self.cancel_all(key, lost);
            self.idle_may_help = true;
        }
    }

    /// The peer owes blocks for too long: others are asked for them. It keeps its oldest request,
    /// in a way that hinders nobody.
    fn snub(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.snubbed = true;
        let mut late = std::mem::take(&mut peer.asked);
        let kept = late.pop_front();
        leave(&mut self.pieces, peer);
        self.cancel_all(key, late);
        if let Some(asked) = kept {
            self.weaken(key, asked);
        }
        self.close_pieces_only_for(key);
        self.idle_may_help = true;
    }

    /// The peer owes the block in a way that hinders nobody. What it has sent of it stays until
    /// somebody else begins.
    fn weaken(&mut self, key: PeerKey, asked: Asked) {
        let piece = asked.request.piece();
        let open = self.pieces.open.get_mut(&piece);
        let (Some(open), Some(peer)) = (open, self.peers.get_mut(&key)) else { return };
        peer.asked.push_back(Asked { weak: true, ..asked });
        if open.weaken(asked.request.block()) {
            self.pieces.update_partial(piece);
        }
    }

    /// Gives back the memory of spans that wait for slow peers.
    fn stage_idle_spans(&mut self) {
        let Some(before) = self.now.checked_sub(SPAN_IDLE) else { return };
        let open = self.pieces.open.iter().filter(|(_, open)| !open.committing);
        let idle: Vec<(PieceIndex, u32)> = open
            .filter_map(|(piece, open)| open.idle_span(before).map(|span| (*piece, span)))
            .collect();
        for (piece, span) in idle {
            self.leave_piece(piece);
            self.stage(piece, span);
        }
    }

    /// Has a span written before its piece is verified, and its memory given back.
    pub(super) fn stage(&mut self, piece: PieceIndex, span: u32) {
        let layout = self.pieces.layout();
        let inside = |request: BlockRequest| {
            request.piece() == piece && layout.span_of(request.offset()) == span
        };
        self.cancel_where(inside);
        self.give_back(piece, span);
    }

    /// Has a span staged of which nothing is outstanding.
    pub(super) fn give_back(&mut self, piece: PieceIndex, span: u32) {
        if self.pieces.unreserve(piece, span) {
            self.outputs.push_back(Output::StageSpan { piece, span });
        }
    }
}

fn leave(pieces: &mut Pieces, peer: &mut Peer) {
    let Some((piece, rate)) = peer.current.take() else { return };
    if let Some(open) = pieces.open.get_mut(&piece) {
        open.rate = open.rate.saturating_sub(rate);
    }
}

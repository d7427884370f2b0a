//! Silent peers, lost requests, idle spans.

use std::time::Duration;

use bt_types::PieceIndex;

use super::Context;
use super::downloads::Downloads;
use crate::peer::{Asked, PeerTransfer};
use crate::vocabulary::PeerKey;

/// A request that is not answered for this long, while later ones are, is lost.
const LOST_AFTER: Duration = Duration::from_secs(120);
/// While memory is short, a span that got no block for this long is staged.
const SPAN_IDLE: Duration = Duration::from_secs(30);

impl Downloads {
    /// Measures rates, resizes windows, and looks for silent peers. Called once per second.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        // Other peers owe all that such a peer could send, or hold the memory for it.
        let waits = |peer: &PeerTransfer| {
            peer.asked.is_empty() && !peer.snubbed && peer.may_send_something()
        };
        let others_wait = cx.peers.transfers().any(|(_, peer)| waits(peer));
        for key in cx.peers.keys() {
            self.tick_peer(cx, key, others_wait);
        }
        self.blame.review(cx.peers);
        self.relieve_snubbed(cx);
    }

    /// Stages idle spans while memory is short. Called once per second.
    pub(crate) fn reclaim_memory(&mut self, cx: &mut Context<'_>) {
        if !self.ask_list.is_starved() {
            return;
        }
        if let Some(before) = cx.now.checked_sub(SPAN_IDLE) {
            let idle = self.unfinished.fetching();
            let idle: Vec<(PieceIndex, u32)> =
                idle.filter_map(|(piece, open)| Some((piece, open.idle_span(before)?))).collect();
            for (piece, span) in idle {
                self.leave_piece(cx, piece);
                self.stage(cx, piece, span);
            }
        }
        self.ask_list.reset_need();
    }

    /// Looks at one peer, and snubs it if it is silent while it owes blocks.
    fn tick_peer(&mut self, cx: &mut Context<'_>, key: PeerKey, others_wait: bool) {
        let now = cx.now;
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        peer.window.on_tick(now);
        peer.hold_until = peer.hold_until.filter(|until| *until > now);
        self.unfinished.update_rate(now, peer);
        if !peer.snubbed && peer.is_silent(now, others_wait) {
            self.snub(cx, key);
        } else {
            self.drop_lost(cx, key);
        }
        self.ask_list.queue(cx.peers, key);
    }

    /// Takes back requests that the peer passed over.
    fn drop_lost(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        let now = cx.now;
        let Some(peer) = cx.peers.transfer_mut(key).filter(|peer| !peer.snubbed) else { return };
        let unfinished = &self.unfinished;
        let lost = peer.take_all_asked(|asked| {
            let is_old = now.saturating_sub(asked.at) >= LOST_AFTER;
            // No other peer may be asked for a piece that is reserved for this one.
            is_old && (asked.passed_over || unfinished.is_only_for(asked.request.piece(), key))
        });
        if lost.is_empty() {
            return;
        }
        for asked in &lost {
            self.take_away_if_only(cx, key, asked.request.piece());
        }
        if let Some(peer) = cx.peers.transfer_mut(key) {
            self.cancel_all(cx.outputs, key, peer, lost);
        }
        self.ask_list.wake_idle_later();
    }

    /// Lets others be asked for what the peer owes, because it is silent. It keeps its oldest
    /// request, which hinders no other peer.
    fn snub(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        peer.snubbed = true;
        let mut late = std::mem::take(&mut peer.asked);
        let kept = late.pop_front();
        self.unfinished.leave(peer);
        self.cancel_all(cx.outputs, key, peer, late);
        if let Some(asked) = kept {
            let block = asked.request.block();
            if self.unfinished.update(asked.request.piece(), |piece| piece.snub(block)).is_some() {
                peer.asked.push_back(Asked { snubbed: true, ..asked });
            }
        }
        self.close_pieces_only_for(cx, key);
        self.ask_list.wake_idle_later();
    }

    /// Closes the pieces that are reserved for snubbed peers, now that another peer may be asked.
    fn relieve_snubbed(&mut self, cx: &mut Context<'_>) {
        if self.blame.is_empty() {
            return;
        }
        let may_not = |piece: PieceIndex, key: PeerKey| {
            let peer = cx.peers.transfer(key);
            peer.is_some_and(|peer| peer.snubbed && !self.blame.may_fetch(piece, key, peer))
        };
        let held = self.unfinished.fetching();
        let held = held.filter(|(piece, open)| open.only.is_some_and(|key| may_not(*piece, key)));
        let held: Vec<PieceIndex> = held.map(|(piece, _)| piece).collect();
        held.into_iter().for_each(|piece| self.close_piece(cx, piece));
    }
}

//! Blocks as they arrive, pieces as they are committed, and which peers sent bad ones.

use bt_types::{BlockRequest, PieceIndex, Sha1Digest};

use super::Context;
use super::downloads::{Downloads, update_interest};
use super::unfinished_piece::{Finished, UnfinishedPiece};
use crate::peer::{Peer, Sender};
use crate::vocabulary::{BlockFate, Committed, Output, PeerKey};

/// The work that remains outside the transfer after a commit.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The peers to ban.
    pub(crate) liars: Vec<Sender>,
    /// Whether we now have a wanted piece that was missing.
    pub(crate) gained: bool,
}

impl Downloads {
    pub(crate) fn handle_part(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        request: BlockRequest,
        offset: u32,
    ) -> BlockFate {
        if cx.peers.transfer(key).is_none() {
            return BlockFate::Discard;
        }
        let gives_way = |writer| cx.peers.transfer(writer).is_none_or(|writer| writer.snubbed);
        let fate = self
            .unfinished
            .update(request.piece(), |piece| piece.receive_part(key, request, offset, gives_way));
        fate.unwrap_or(BlockFate::Discard)
    }

    pub(crate) fn handle_block(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        request: BlockRequest,
    ) {
        let now = cx.now;
        let Some(Peer { identity, transfer: Some(peer), .. }) = cx.peers.get_mut(key) else {
            return;
        };
        let asked = peer.take_answered(request);
        let after = asked.map(|asked| now.saturating_sub(asked.at));
        peer.window.on_block(now, request.length(), after);
        peer.last_block = now;
        peer.rejects = 0;
        let was_snubbed = peer.end_snub(now);
        let sender = Sender { key, address: identity.address, peer_id: identity.peer_id };
        let snubbed = asked.map(|asked| asked.snubbed);
        let finished = self
            .unfinished
            .update(request.piece(), |piece| piece.finish(now, request.block(), sender, snubbed));
        match (finished.flatten(), asked) {
            (Some(finished), _) => {
                peer.gave_at = now;
                self.handle_finished(cx, request, finished);
            }
            (None, asked) => {
                cx.traffic.wasted += u64::from(request.length());
                if let Some(asked) = asked {
                    self.unfinished.release(key, &asked);
                }
            }
        }
        if was_snubbed {
            self.end_snub(cx, key);
        }
        self.ask_list.queue(cx.peers, key);
    }

    /// Counts the requests to a peer that is no longer snubbed as ordinary ones. Otherwise the peer
    /// could be asked for the same blocks again.
    fn end_snub(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        for asked in peer.asked.iter_mut().filter(|asked| asked.snubbed) {
            asked.snubbed = false;
            let block = asked.request.block();
            self.unfinished.update(asked.request.piece(), |piece| piece.end_snub(block));
        }
    }

    fn handle_finished(&mut self, cx: &mut Context<'_>, request: BlockRequest, finished: Finished) {
        let piece = request.piece();
        if finished.others {
            self.cancel_where(cx, |other| other == request);
        }
        let layout = self.unfinished.layout();
        if finished.piece {
            self.commit(cx, piece);
        } else if finished.span && !layout.is_whole(piece) {
            self.stage_idle(cx, piece, layout.span_of(request.offset()));
        }
    }

    /// Asks the caller to hash and write a complete piece.
    pub(super) fn commit(&self, cx: &mut Context<'_>, piece: PieceIndex) {
        let digests = self.blame.concerns(piece);
        cx.outputs.push_back(Output::Commit { piece, digests });
    }

    /// Handles the result of a commit. Returns `None` if the piece is not being committed.
    pub(crate) fn handle_committed(
        &mut self,
        cx: &mut Context<'_>,
        piece: PieceIndex,
        committed: Committed,
    ) -> Option<Settled> {
        self.unfinished.get(piece).filter(|unfinished| unfinished.committing)?;
        self.leave_piece(cx, piece);
        let verified = matches!(committed, Committed::Verified { .. });
        let gained = verified && cx.pieces.gain(piece);
        let closed = self.unfinished.close(piece)?;
        self.relist(cx, piece);
        let liars = match committed {
            Committed::Verified { digests } => {
                self.piece_verified(cx, piece, &closed, gained);
                self.blame.verified(piece, digests.as_deref())
            }
            Committed::Mismatch { digests } => self.piece_bad(cx, piece, digests, &closed),
            Committed::Failed => {
                self.ask_list.wake_idle_later();
                Vec::new()
            }
        };
        Some(Settled { liars, gained })
    }

    /// Announces the piece to the peers. All blocks that its senders sent were good.
    fn piece_verified(
        &mut self,
        cx: &mut Context<'_>,
        piece: PieceIndex,
        verified: &UnfinishedPiece,
        gained: bool,
    ) {
        self.suspicion_changed = true;
        for (key, blocks) in verified.sent() {
            if let Some(peer) = cx.peers.transfer_mut(key) {
                peer.proven = peer.proven.saturating_add(blocks);
            }
            // It may be asked for more than before.
            self.ask_list.queue(cx.peers, key);
        }
        let pieces = cx.pieces.geometry().piece_count();
        for (key, peer) in cx.peers.transfers_mut() {
            // A peer that has the piece gets the HAVE too: a super seeder waits for it before it
            // shows us another piece (BEP 16).
            if peer.has.count(pieces) < pieces {
                cx.outputs.push_back(Output::Have { peer: key, piece });
            }
            if gained && peer.has.contains(piece) {
                peer.useful = peer.useful.saturating_sub(1);
                update_interest(cx.outputs, key, peer);
            }
        }
    }

    /// Returns the peer to ban, if it sent the whole piece.
    fn piece_bad(
        &mut self,
        cx: &mut Context<'_>,
        piece: PieceIndex,
        digests: Vec<Sha1Digest>,
        bad: &UnfinishedPiece,
    ) -> Vec<Sender> {
        cx.traffic.wasted += u64::from(cx.pieces.geometry().length_of(piece));
        let sole = self.blame.mismatch(piece, digests, &bad.senders());
        self.suspicion_changed = true;
        self.ask_list.wake_idle_later();
        Vec::from_iter(sole)
    }

    /// Discards the blocks that a banned peer sent of unfinished pieces.
    pub(crate) fn forget_blocks_of(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        let theirs = self.unfinished.fetching().filter(|(_, open)| open.has_block_of(key));
        let theirs: Vec<(PieceIndex, bool)> =
            theirs.map(|(piece, open)| (piece, open.all_reserved())).collect();
        for (piece, all_reserved) in theirs {
            if all_reserved {
                self.unfinished.update(piece, |piece| piece.forget_blocks_of(key));
            } else {
                // Some of it is staged, and may be hashed already.
                self.close_piece(cx, piece);
            }
        }
    }
}

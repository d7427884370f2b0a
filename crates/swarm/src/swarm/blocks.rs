//! Blocks as they arrive, pieces as they are committed, and who is to blame for bad ones.

use std::cmp::Reverse;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex, Sha1Digest};

use super::Swarm;
use crate::blame::{Sender, Source};
use crate::open::{Finished, OpenPiece};
use crate::peer::Peer;
use crate::vocabulary::{Committed, DisconnectReason, Output, PeerKey, Place};

/// A peer may fetch a piece under investigation if it sent one in so many of the good blocks that the
/// best peer sent. A peer that sent fewer is slow, and would hold up the whole piece.
const PROVEN_SHARE: u32 = 4;

impl Swarm {
    /// A part of a block arrived that begins `offset` bytes into the block: where does it go?
    ///
    /// A block has one writer. Another peer takes over, from offset 0, only if the first is
    /// snubbed or gone or has delivered nothing, or if another began after it and has sent all of
    /// the block, in vain: else a fast peer would send it again and again until the slow one
    /// is snubbed.
    pub fn place(
        &mut self,
        now: Duration,
        key: PeerKey,
        request: BlockRequest,
        offset: u32,
    ) -> Place {
        self.now = now;
        let (peers, open) = (&self.peers, self.pieces.open.get_mut(&request.piece()));
        let connected = peers.contains_key(&key);
        let Some(open) = open.filter(|_| connected) else { return Place::Discard };
        let gives_way = |writer| peers.get(&writer).is_none_or(|writer| writer.snubbed);
        open.place(key, request, offset, gives_way)
    }

    /// The last part of a block arrived, kept or not.
    pub fn handle_block(&mut self, now: Duration, key: PeerKey, request: BlockRequest) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let asked = peer.take_answered(request);
        let after = asked.map(|asked| now.saturating_sub(asked.at));
        peer.window.on_block(now, request.length(), after);
        peer.last_block = now;
        peer.rejects = 0;
        let woke = peer.wake(now);
        let (piece, sender) = (request.piece(), peer.sender(key));
        let open = self.pieces.open.get_mut(&piece);
        let owed_weakly = asked.map(|asked| asked.weak);
        let finished = open.and_then(|open| open.finish(now, request.block(), sender, owed_weakly));
        match (finished, asked) {
            (Some(finished), _) => {
                peer.gave_at = now;
                self.block_kept(request, finished);
            }
            (None, asked) => {
                self.wasted += u64::from(request.length());
                if let Some(asked) = asked {
                    self.release(key, asked);
                }
            }
        }
        if woke {
            self.ask_fully(key);
        }
        self.queue(key);
    }

    /// The peer is snubbed no longer: it owes what it was asked for weakly as any other does, so
    /// that it is not asked for the same again.
    fn ask_fully(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        for asked in peer.asked.iter_mut().filter(|asked| asked.weak) {
            asked.weak = false;
            let (piece, block) = (asked.request.piece(), asked.request.block());
            if let Some(open) = self.pieces.open.get_mut(&piece) {
                open.strengthen(block);
            }
            self.pieces.update_partial_if_full(piece);
        }
    }

    /// Payload came from the peer, in bytes, kept or not.
    pub fn handle_payload(&mut self, now: Duration, key: PeerKey, bytes: u32) {
        self.now = now;
        self.down.add(now, bytes.into());
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.down.add(now, bytes.into());
        }
    }

    /// A committed piece is done with.
    pub fn handle_committed(&mut self, now: Duration, piece: PieceIndex, committed: Committed) {
        self.now = now;
        if self.pieces.open.get(&piece).is_none_or(|open| !open.committing) {
            return;
        }
        self.leave_piece(piece);
        match committed {
            Committed::Verified { digests } => self.piece_verified(piece, digests.as_deref()),
            Committed::Mismatch { digests } => self.piece_bad(piece, digests),
            Committed::Failed => {
                self.relist(piece, |pieces, rng| pieces.close(piece, rng));
                self.idle_may_help = true;
            }
        }
    }

    /// A piece that was had is lost again, for example because it could not be synced.
    pub fn handle_lost(&mut self, now: Duration, piece: PieceIndex) {
        self.now = now;
        if !self.relist(piece, |pieces, rng| pieces.lost(piece, rng)) {
            return;
        }
        for key in self.keys() {
            if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.has.contains(piece)) {
                peer.useful += 1;
                self.update_interest(key);
                self.queue(key);
            }
        }
        self.roster.wake(now, &mut self.rng);
    }

    fn block_kept(&mut self, request: BlockRequest, finished: Finished) {
        let piece = request.piece();
        if finished.others {
            self.cancel_where(|other| other == request);
        }
        self.pieces.update_partial_if_full(piece);
        if finished.piece {
            self.commit_if_complete(piece);
        } else if finished.span && !self.pieces.layout().is_whole(piece) {
            self.give_back(piece, self.pieces.layout().span_of(request.offset()));
        }
    }

    /// Hands a piece over to be hashed and written, if all of it is there.
    pub(super) fn commit_if_complete(&mut self, piece: PieceIndex) {
        let digests = self.pieces.blame.concerns(piece);
        let Some(open) = self.pieces.open.get_mut(&piece) else { return };
        if open.missing() > 0 || open.committing {
            return;
        }
        open.committing = true;
        self.pieces.update_partial(piece);
        self.outputs.push_back(Output::Commit { piece, digests });
    }

    fn piece_verified(&mut self, piece: PieceIndex, digests: Option<&[Sha1Digest]>) {
        let counted = self.pieces.gained(piece, &mut self.rng);
        if let Some(open) = self.pieces.close(piece, &mut self.rng) {
            self.prove(&open);
        }
        let pieces = self.pieces.geometry.piece_count();
        for key in self.keys() {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            // A super seeder, which does not show all it has, waits for this (BEP 16).
            if peer.has.count(pieces) < pieces {
                self.outputs.push_back(Output::Have { peer: key, piece });
            }
            if counted && peer.has.contains(piece) {
                peer.useful = peer.useful.saturating_sub(1);
                self.update_interest(key);
            }
        }
        for liar in self.pieces.blame.verified(piece, digests) {
            self.ban(liar);
        }
        if self.pieces.have.is_full() && !std::mem::replace(&mut self.was_seed, true) {
            self.trackers.completed();
        }
        if counted {
            self.note_completion();
        }
    }

    /// All that its senders sent of a piece was good.
    fn prove(&mut self, verified: &OpenPiece) {
        self.suspicion_changed = true;
        for (key, blocks) in verified.sent() {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.proven = peer.proven.saturating_add(blocks);
            }
            // It may be asked for more than before.
            self.queue(key);
        }
    }

    /// If nothing is missing any longer, says so and parts from those who need nothing either.
    pub(super) fn note_completion(&mut self) {
        if self.pieces.missing > 0 {
            return;
        }
        self.outputs.push_back(Output::Completed);
        for key in self.keys() {
            self.part_if_useless(key);
        }
    }

    fn piece_bad(&mut self, piece: PieceIndex, digests: Vec<Sha1Digest>) {
        let open = self.relist(piece, |pieces, rng| pieces.close(piece, rng));
        let senders = open.map(|open| open.senders()).unwrap_or_default();
        self.wasted += u64::from(self.pieces.geometry.length_of(piece));
        if let Some(sole) = self.pieces.blame.mismatch(piece, digests, &senders) {
            self.ban(sole);
        }
        self.suspicion_changed = true;
        self.idle_may_help = true;
    }

    /// Refuses the peer from now on and throws away what else it sent.
    fn ban(&mut self, liar: Sender) {
        if self.roster.is_banned(liar.address, None) {
            return;
        }
        self.roster.ban(liar.address, liar.peer_id);
        self.outputs.push_back(Output::Banned { address: liar.address });
        let banned = self
            .peers
            .iter()
            .filter(|(_, peer)| self.roster.is_banned(peer.is.address, Some(peer.is.peer_id)));
        let mut banned: Vec<PeerKey> = banned.map(|(key, _)| *key).collect();
        for key in &banned {
            self.disconnect(*key, DisconnectReason::BadData);
        }
        if !banned.contains(&liar.key) {
            banned.push(liar.key);
        }
        for key in banned {
            self.forget_blocks_of(key);
        }
    }

    fn forget_blocks_of(&mut self, key: PeerKey) {
        let open = self.pieces.open.iter();
        let theirs = open.filter(|(_, open)| !open.committing && open.has_block_of(key));
        let pieces: Vec<PieceIndex> = theirs.map(|(piece, _)| *piece).collect();
        for piece in pieces {
            let Some(open) = self.pieces.open.get_mut(&piece) else { continue };
            if open.all_reserved() {
                open.forget_blocks_of(key);
                self.pieces.update_partial(piece);
            } else {
                // Some of it is staged, and may be hashed already.
                self.close_piece(piece);
            }
        }
    }

    /// Decides for each piece under investigation which of the peers that have it may be asked: those
    /// that sent the most good blocks, or nearly so; if nobody sent any, a peer above suspicion;
    /// suspects and snubbed peers only if nobody else answers.
    pub(super) fn review_suspects(&mut self) {
        if self.pieces.blame.is_empty() {
            return;
        }
        let answers =
            |peer: &Peer| !peer.snubbed && !peer.peer_choking && peer.hold_until.is_none();
        let mut answering: Vec<(&PeerKey, &Peer)> =
            self.peers.iter().filter(|(_, peer)| answers(peer)).collect();
        answering.sort_by_key(|(_, peer)| Reverse(peer.proven));
        self.pieces.blame.review(|piece, is_suspect| {
            let mut have = answering.iter().filter(|(_, peer)| peer.has.contains(piece));
            let Some((best, peer)) = have.next() else { return Source::Anyone };
            match peer.proven {
                0 if !is_suspect(**best) || have.any(|(key, _)| !is_suspect(**key)) => {
                    Source::Clean
                }
                0 => Source::Answering,
                most => Source::Proven(most.div_ceil(PROVEN_SHARE)),
            }
        });
    }

    /// Takes pieces that are to come from one peer away from those that are snubbed, now that somebody
    /// else may be asked.
    pub(super) fn relieve_snubbed(&mut self) {
        if self.pieces.blame.is_empty() {
            return;
        }
        let blame = &self.pieces.blame;
        let may_not = |piece: PieceIndex, key: PeerKey| {
            let peer = self.peers.get(&key);
            peer.is_some_and(|peer| peer.snubbed && !blame.may_fetch(piece, key, peer))
        };
        let open = self.pieces.open.iter().filter(|(_, open)| !open.committing);
        let held = open.filter_map(|(piece, open)| open.only.map(|only| (*piece, only)));
        let held = held.filter(|(piece, only)| may_not(*piece, *only));
        let held: Vec<PieceIndex> = held.map(|(piece, _)| piece).collect();
        held.into_iter().for_each(|piece| self.close_piece(piece));
    }
}

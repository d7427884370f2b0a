//! The download side of a transfer: what peers have, and what is asked of them.
//!
//! Each `handle_*` is a part of the method of [`Swarm`](crate::Swarm) with the same name.
//!
//! - here: messages of peers, interest
//! - `requests`: filling windows, taking requests back
//! - `blocks`: blocks as they arrive, pieces as they are committed
//! - `stalls`: silent peers, lost requests, idle spans
//! - `endgame`: which block to ask of a second peer

use std::collections::VecDeque;
use std::time::Duration;

use bt_types::{Bitfield, BlockRequest, Geometry, PieceIndex};

use super::Context;
use super::ask_list::AskList;
use super::blame::Blame;
use super::picker::Picker;
use super::pieces::Pieces;
use super::unfinished::Unfinished;
use crate::peer::{Has, Peer, PeerTransfer, Peers};
use crate::spans::SpanLayout;
use crate::vocabulary::{DisconnectReason, Output, PeerKey};

/// After so many rejects without a block in between, a peer is not asked for [`HOLD_TIME`].
const MAX_REJECTS: u32 = 16;
/// How long a peer that rejects everything is not asked.
const HOLD_TIME: Duration = Duration::from_secs(10);

/// What is fetched from which peer.
#[derive(Debug)]
pub(crate) struct Downloads {
    pub(super) picker: Picker,
    pub(super) unfinished: Unfinished,
    pub(super) blame: Blame,
    pub(crate) ask_list: AskList,
    /// Whether the last peer that was asked found that the endgame has started.
    pub(super) in_endgame: bool,
    /// Whether [`Blame::review`] is due. It takes a look at every peer, so it is done once for many
    /// messages.
    pub(super) suspicion_changed: bool,
}

impl Downloads {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            picker: Picker::new(geometry.piece_count()),
            unfinished: Unfinished::new(SpanLayout::new(geometry)),
            blame: Blame::default(),
            ask_list: AskList::new(),
            in_endgame: false,
            suspicion_changed: false,
        }
    }

    /// Lists all pieces, and resumes those of which blocks are on disk.
    pub(crate) fn begin(&mut self, cx: &mut Context<'_>, unfinished: &[(PieceIndex, Vec<u32>)]) {
        self.list_all(cx);
        for (piece, blocks) in unfinished {
            let exists = cx.pieces.geometry().piece(piece.get()).is_some();
            if !exists || blocks.is_empty() || !cx.pieces.is_missing(*piece) {
                continue;
            }
            if !self.unfinished.contains(*piece) {
                self.start(cx, *piece, None);
            }
            let is_complete = self.unfinished.update(*piece, |piece| {
                blocks.iter().for_each(|block| piece.finish_on_disk(*block));
                piece.begin_commit()
            });
            if is_complete == Some(true) {
                self.commit(cx, *piece);
            }
        }
    }

    pub(crate) fn handle_choke(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        let Some(Peer { identity, transfer: Some(peer), .. }) = cx.peers.get_mut(key) else {
            return;
        };
        peer.peer_choking = true;
        if !identity.fast {
            for asked in std::mem::take(&mut peer.asked) {
                self.unfinished.release(key, &asked);
            }
        }
        self.close_pieces_only_for(cx, key);
        self.ask_list.wake_idle_later();
    }

    pub(crate) fn handle_unchoke(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        if std::mem::replace(&mut peer.peer_choking, false) {
            peer.window.restart(cx.now);
            peer.last_block = cx.now;
            self.suspicion_changed = true;
        }
        self.ask_list.queue_peer(key, peer);
    }

    pub(crate) fn handle_reject(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        request: BlockRequest,
    ) {
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        let Some(asked) = peer.take_asked(request) else { return };
        if peer.peer_choking {
            peer.allowed_fast.retain(|piece| *piece != request.piece());
        } else {
            peer.window.on_reject();
            peer.rejects += 1;
            if peer.rejects >= MAX_REJECTS {
                hold(cx, key);
            }
        }
        self.unfinished.release(key, &asked);
        self.take_away_if_only(cx, key, request.piece());
        self.ask_list.queue(cx.peers, key);
        self.ask_list.wake_idle_later();
    }

    /// Changes what is known of a peer, which may be asked for more than before.
    pub(crate) fn update_peer(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        change: impl FnOnce(&mut PeerTransfer),
    ) {
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        change(peer);
        self.ask_list.queue_peer(key, peer);
    }

    /// # Errors
    /// Why the connection has to end.
    pub(crate) fn handle_bitfield(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) -> Result<(), DisconnectReason> {
        let pieces = cx.pieces.geometry().piece_count();
        let Some(peer) = cx.peers.transfer_mut(key) else { return Ok(()) };
        if let Some(has) = peer.receive_bitfield(pieces, offset, bytes, last)? {
            self.set_has(cx, key, has);
        }
        Ok(())
    }

    pub(crate) fn set_has(&mut self, cx: &mut Context<'_>, key: PeerKey, has: Has) {
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        let old = std::mem::replace(&mut peer.has, has);
        self.picker.count_out(&old, cx.rng);
        self.picker.count_in(&peer.has, cx.rng);
        self.count_useful(cx.pieces, peer);
        self.suspicion_changed = true;
        update_interest(cx.outputs, key, peer);
        self.ask_list.queue_peer(key, peer);
    }

    pub(crate) fn handle_have(&mut self, cx: &mut Context<'_>, key: PeerKey, piece: PieceIndex) {
        let geometry = cx.pieces.geometry();
        let Some(peer) = cx.peers.transfer_mut(key) else { return };
        if geometry.piece(piece.get()).is_none() || !peer.has.insert(piece, geometry.piece_count())
        {
            return;
        }
        self.picker.count_have(piece, cx.rng);
        peer.useful += u32::from(cx.pieces.is_missing(piece));
        peer.fresh += u32::from(self.picker.lists(piece));
        update_interest(cx.outputs, key, peer);
        self.ask_list.queue_peer(key, peer);
    }

    /// The connection of `key` ended, which was removed from the peers.
    pub(crate) fn handle_disconnected(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        peer: &mut PeerTransfer,
    ) {
        self.picker.count_out(&peer.has, cx.rng);
        self.unfinished.leave(peer);
        for asked in std::mem::take(&mut peer.asked) {
            self.unfinished.release(key, &asked);
        }
        self.close_pieces_only_for(cx, key);
        self.ask_list.wake_idle_later();
    }

    /// Says whether the piece is missing now and was not before.
    pub(crate) fn handle_lost(&mut self, cx: &mut Context<'_>, piece: PieceIndex) -> bool {
        let counted = cx.pieces.lose(piece);
        self.relist(cx, piece);
        if counted {
            let peers = cx.peers.transfers_mut().filter(|(_, peer)| peer.has.contains(piece));
            for (key, peer) in peers {
                peer.useful += 1;
                update_interest(cx.outputs, key, peer);
                self.ask_list.queue_peer(key, peer);
            }
        }
        counted
    }

    /// Changes which pieces we want, and stops fetching the others.
    pub(crate) fn set_wanted(&mut self, cx: &mut Context<'_>, wanted: Bitfield) {
        let unwanted = |piece: &PieceIndex| !wanted.contains(*piece);
        let unwanted: Vec<PieceIndex> =
            self.unfinished.fetching().map(|(piece, _)| piece).filter(unwanted).collect();
        cx.pieces.set_wanted(wanted);
        unwanted.into_iter().for_each(|piece| self.close_piece(cx, piece));
        self.list_all(cx);
        for (key, peer) in cx.peers.transfers_mut() {
            self.count_useful(cx.pieces, peer);
            update_interest(cx.outputs, key, peer);
            self.ask_list.queue_peer(key, peer);
        }
    }

    /// Does what is done once for many messages.
    pub(crate) fn catch_up(&mut self, peers: &mut Peers) {
        if std::mem::take(&mut self.suspicion_changed) {
            self.blame.review(peers);
        }
        self.ask_list.wake_idle_if_due(peers);
    }

    /// Stops fetching: has everything staged that is in memory.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>) {
        let spans: Vec<(PieceIndex, u32)> = self
            .unfinished
            .fetching()
            .flat_map(|(piece, unfinished)| unfinished.reserved_spans().map(move |s| (piece, s)))
            .collect();
        spans.into_iter().for_each(|(piece, span)| self.stage(cx, piece, span));
        self.ask_list.clear();
    }

    pub(crate) fn blocks_in(&self, piece: PieceIndex, span: u32) -> impl Iterator<Item = u32> + '_ {
        self.unfinished.get(piece).into_iter().flat_map(move |piece| piece.done_in(span))
    }

    /// Whether nothing is being fetched or investigated.
    pub(super) fn is_idle(&self) -> bool {
        self.unfinished.is_empty() && self.blame.is_empty()
    }

    /// Lists `piece` as one that may be started, or not, and counts it in the peers' `fresh`.
    pub(super) fn relist(&mut self, cx: &mut Context<'_>, piece: PieceIndex) {
        let startable = self.is_startable(cx.pieces, piece);
        if self.picker.list(piece, startable, cx.rng) {
            for (_, peer) in cx.peers.transfers_mut().filter(|(_, peer)| peer.has.contains(piece)) {
                peer.fresh = if startable { peer.fresh + 1 } else { peer.fresh - 1 };
            }
        }
    }

    /// Lists every piece. The peers' `fresh` are counted elsewhere.
    fn list_all(&mut self, cx: &mut Context<'_>) {
        for piece in cx.pieces.geometry().pieces() {
            self.picker.list(piece, self.is_startable(cx.pieces, piece), cx.rng);
        }
    }

    fn is_startable(&self, pieces: &Pieces, piece: PieceIndex) -> bool {
        pieces.is_missing(piece) && !self.unfinished.contains(piece)
    }

    /// Counts how many of a peer's pieces are missing, and how many of those may be started.
    fn count_useful(&self, pieces: &Pieces, peer: &mut PeerTransfer) {
        let fetched = self.unfinished.keys().filter(|piece| peer.has.contains(*piece));
        let fetched = fetched.filter(|piece| pieces.is_missing(*piece)).count() as u32;
        peer.useful = pieces.useful(&peer.has);
        peer.fresh = peer.useful - fetched;
    }

    /// The peer does not send `piece`. If it is reserved for this peer, releases it.
    pub(super) fn take_away_if_only(
        &mut self,
        cx: &mut Context<'_>,
        key: PeerKey,
        piece: PieceIndex,
    ) {
        if self.unfinished.is_only_for(piece, key) {
            hold(cx, key);
            self.close_pieces_only_for(cx, key);
        }
    }

    /// Closes the pieces that are reserved for this peer, so that another may fetch them.
    pub(super) fn close_pieces_only_for(&mut self, cx: &mut Context<'_>, key: PeerKey) {
        if self.blame.is_empty() {
            return;
        }
        let theirs = self.unfinished.fetching().filter(|(_, piece)| piece.only == Some(key));
        let closed: Vec<PieceIndex> = theirs.map(|(piece, _)| piece).collect();
        closed.into_iter().for_each(|piece| self.close_piece(cx, piece));
        self.suspicion_changed = true;
    }
}

/// Leaves the peer alone for a while.
fn hold(cx: &mut Context<'_>, key: PeerKey) {
    if let Some(peer) = cx.peers.transfer_mut(key) {
        peer.hold_until = Some(cx.now + HOLD_TIME);
        peer.rejects = 0;
    }
}

/// Tells the peer whether we want its pieces, if that changed.
pub(super) fn update_interest(
    outputs: &mut VecDeque<Output>,
    key: PeerKey,
    peer: &mut PeerTransfer,
) {
    let interested = peer.useful > 0;
    if std::mem::replace(&mut peer.am_interested, interested) != interested {
        let (yes, no) = (Output::Interested { peer: key }, Output::NotInterested { peer: key });
        outputs.push_back(if interested { yes } else { no });
    }
}

//! Trackers, and leaving the swarm.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceReply, Bitfield, PieceIndex, TrackerPeer};

use super::{MAX_PEERS, Swarm};
use crate::vocabulary::{AnnounceFailure, DisconnectReason, Source, TrackerIndex};

/// How many peers are asked for while something is missing.
const NUM_WANT: usize = 200;
/// How many are asked for otherwise: those that want something find us.
const NUM_WANT_COMPLETE: usize = 50;

impl Swarm {
    /// A tracker answered or did not. The peers of a reply are taken in, but for those given by
    /// name, which the caller resolves and reports with [`Self::handle_candidates`]. Several
    /// replies to one announce are fine, for example one for each address family.
    pub fn handle_announced(
        &mut self,
        now: Duration,
        tracker: TrackerIndex,
        result: Result<&AnnounceReply, AnnounceFailure>,
    ) {
        self.now = now;
        match result {
            Err(failure) => self.trackers.failed(now, tracker, failure),
            Ok(reply) => {
                let peers: Vec<SocketAddr> =
                    reply.peers.iter().filter_map(TrackerPeer::address).collect();
                self.handle_candidates(now, Source::Tracker, &peers);
                let nobody = self.peers.is_empty() && self.roster.connecting() == 0;
                let starving = nobody && self.pieces.missing > 0 && !self.roster.has_ready(now);
                self.trackers.answered(now, tracker, reply, starving);
            }
        }
    }

    /// Leaves the swarm for good: disconnects everyone, has what there is of open pieces staged,
    /// and announces `stopped` to the trackers that know us. Pieces that are being committed are
    /// still to be reported.
    pub fn stop(&mut self, now: Duration) {
        self.now = now;
        if !std::mem::replace(&mut self.running, false) {
            return;
        }
        for key in self.keys() {
            self.disconnect(key, DisconnectReason::Stopped);
        }
        let open = self.pieces.open.iter().filter(|(_, open)| !open.committing);
        let spans: Vec<(PieceIndex, u32)> = open
            .flat_map(|(piece, open)| open.reserved_spans().map(|span| (*piece, span)))
            .collect();
        for (piece, span) in spans {
            self.stage(piece, span);
        }
        self.ready.clear();
        self.starved = None;
        self.timers.give_up();
        self.outputs.extend(self.trackers.stop());
    }

    /// Changes which pieces are to be had in the end. A set for another number of pieces is
    /// ignored. Open pieces that are no longer wanted are closed; if nothing is missing now and
    /// something was before, [`Output::Completed`](crate::Output::Completed) follows.
    pub fn set_wanted(&mut self, now: Duration, wanted: Bitfield) {
        self.now = now;
        if wanted.pieces() != self.pieces.geometry.piece_count() {
            return;
        }
        let missed = self.pieces.missing > 0;
        self.pieces.wanted = wanted;
        let unwanted = self
            .pieces
            .open
            .iter()
            .filter(|(piece, open)| !open.committing && !self.pieces.wanted.contains(**piece));
        let unwanted: Vec<PieceIndex> = unwanted.map(|(piece, _)| *piece).collect();
        for piece in unwanted {
            self.close_piece(piece);
        }
        self.pieces.recount(&mut self.rng);
        for key in self.keys() {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.useful = self.pieces.useful(&peer.has);
                peer.fresh = self.pieces.fresh(&peer.has);
                self.update_interest(key);
                self.queue(key);
            }
        }
        self.roster.wake(now, &mut self.rng);
        if missed {
            self.note_completion();
        }
    }

    /// Changes how many peers may be connected or connecting. Nobody is disconnected for it.
    pub fn set_max_peers(&mut self, now: Duration, peers: usize) {
        self.now = now;
        self.max_peers = peers.min(MAX_PEERS);
    }

    /// How many peers to ask a tracker for: none without room for them.
    pub(super) fn num_want(&self) -> u32 {
        let most = if self.pieces.missing > 0 { NUM_WANT } else { NUM_WANT_COMPLETE };
        let room = self.max_peers > self.peers.len();
        if room { most as u32 } else { 0 }
    }
}

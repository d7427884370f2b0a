//! Whom to unchoke, and which requests of peers are served.

use std::time::Duration;

use bt_types::PieceIndex;

use super::Swarm;
use crate::choker::{self, Candidate};
use crate::peer::Peer;
use crate::timer::Timer;
use crate::vocabulary::{Output, PeerKey};

impl Swarm {
    /// The peer wants our pieces. It is unchoked at once if a slot is free.
    pub fn handle_interested(&mut self, now: Duration, key: PeerKey) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.peer_interested = true;
        self.interest_changed = true;
    }

    /// The peer wants none of our pieces.
    pub fn handle_not_interested(&mut self, now: Duration, key: PeerKey) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.peer_interested = false;
        self.interest_changed = true;
    }

    /// Whether a request of the peer for a block of `piece` is to be served: we have the piece and
    /// do not choke the peer. The caller keeps the requests of each peer, a bounded number.
    pub fn serves(&self, key: PeerKey, piece: PieceIndex) -> bool {
        let peer = self.peers.get(&key);
        peer.is_some_and(|peer| !peer.am_choking) && self.pieces.have.contains(piece)
    }

    /// Payload went to the peer, in bytes.
    pub fn handle_sent(&mut self, now: Duration, key: PeerKey, bytes: u32) {
        self.now = now;
        self.up.add(now, bytes.into());
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.up.add(now, bytes.into());
        }
    }

    /// Changes how many interested peers are unchoked at a time; see [`SwarmConfig::upload_slots`].
    ///
    /// [`SwarmConfig::upload_slots`]: crate::SwarmConfig::upload_slots
    pub fn set_upload_slots(&mut self, now: Duration, slots: usize) {
        self.now = now;
        self.upload_slots = slots;
        self.decide();
    }

    /// Decides anew whom to unchoke, and when to do so again.
    pub(super) fn choke_round(&mut self) {
        self.decide();
        if !self.peers.is_empty() {
            self.timers.set(Timer::Choke, self.now + choker::ROUND);
        }
    }

    /// Unchokes interested peers while there are free slots.
    pub(super) fn fill_slots(&mut self) {
        let used = |peer: &&Peer| peer.peer_interested && !peer.am_choking;
        let used = self.peers.values().filter(used).count();
        let free = self.slots().saturating_sub(used);
        if free == 0 {
            return;
        }
        let waiting = self.candidates(|peer| peer.am_choking);
        let seeding = self.pieces.missing == 0;
        for key in choker::fill(self.now, free, seeding, waiting, &mut self.rng) {
            self.unchoke(key);
        }
    }

    /// Unchokes more while seeding, once more flows than those that are unchoked can be said to need.
    pub(super) fn widen_slots(&mut self) {
        if self.pieces.missing == 0 {
            self.fill_slots();
        }
    }

    /// How many peers are unchoked at a time: while seeding, as many as the line serves well.
    fn slots(&self) -> usize {
        if self.pieces.missing > 0 {
            return self.upload_slots;
        }
        choker::seeding_slots(self.upload_slots, self.up.per_second(self.now))
    }

    fn decide(&mut self) {
        let candidates = self.candidates(|_| true);
        let seeding = self.pieces.missing == 0;
        let slots = self.slots();
        let chosen = self.choker.round(self.now, slots, seeding, candidates, &mut self.rng);
        for key in self.keys() {
            if !chosen.contains(&key) {
                self.choke(key);
            }
        }
        chosen.into_iter().for_each(|key| self.unchoke(key));
    }

    fn candidates(&self, which: impl Fn(&Peer) -> bool) -> Vec<Candidate> {
        let interested = self.peers.iter().filter(|(_, peer)| peer.peer_interested);
        let chosen = interested.filter(|(_, peer)| which(peer));
        chosen.map(|(key, peer)| self.candidate(*key, peer)).collect()
    }

    fn candidate(&self, key: PeerKey, peer: &Peer) -> Candidate {
        Candidate {
            key,
            rate: peer.down.per_second(self.now),
            snubbed: peer.snubbed,
            connected_at: peer.connected_at,
            unchoked: !peer.am_choking,
            unchoked_at: peer.unchoked_at,
        }
    }

    fn unchoke(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.am_choking) else { return };
        peer.am_choking = false;
        peer.unchoked_at = Some(self.now);
        self.outputs.push_back(Output::Unchoke { peer: key });
    }

    fn choke(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.am_choking) else { return };
        peer.am_choking = true;
        self.outputs.push_back(Output::Choke { peer: key });
    }
}

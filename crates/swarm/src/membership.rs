//! Which peers are connected: who is admitted, disconnected and banned.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::PeerId;

use crate::peer::{Peer, PeerTransfer, Sender};
use crate::swarm::Swarm;
use crate::transfer::Transfer;
use crate::vocabulary::{ConnectedPeer, DisconnectReason, Output, PeerKey, Refusal, Source};

/// If the swarm is full and no peer has sent a block for this long, one is disconnected.
const USELESS_AFTER: Duration = Duration::from_secs(60);

impl Swarm {
    /// A peer's handshake is complete. The caller sends it the pieces that we
    /// [have](crate::Pieces::have) as a bitfield.
    ///
    /// # Errors
    /// The peer is refused, and the caller reports nothing more of it.
    pub fn handle_connected(
        &mut self,
        now: Duration,
        key: PeerKey,
        peer: ConnectedPeer,
    ) -> Result<(), Refusal> {
        self.now = now;
        let admitted = self.admit(key, &peer);
        if peer.outgoing {
            let result = admitted.as_ref().copied();
            self.contacts.handle_attempt(now, peer.address, result, &mut self.rng);
        }
        admitted?;
        let transfer = self.transfer.as_ref().map(|_| PeerTransfer::new(now));
        self.peers.insert(key, Peer::new(now, peer, transfer));
        if peer.outgoing {
            self.note_came(key, peer.address);
        }
        self.activate();
        self.set_timers();
        Ok(())
    }

    /// A connection ended. Harmless after [`Output::Disconnect`].
    pub fn handle_disconnected(&mut self, now: Duration, key: PeerKey, reason: DisconnectReason) {
        self.now = now;
        self.forget(key, reason);
    }

    /// The torrent turned out to be private (BEP 27): forgets every address that no tracker gave,
    /// and disconnects from those. Peers that connected to us stay. The `further` trackers, given by
    /// URL, are asked no more: they are not the torrent's own. If there are any, every address is forgotten,
    /// and the torrent's own trackers are asked at once.
    pub fn set_private(&mut self, now: Duration, further: &[String]) {
        self.now = now;
        self.outputs.extend(self.contacts.set_private(now, further));
        let named = |peer: &Peer| peer.listens.is_some_and(|at| self.contacts.knows(at));
        let unknown = self.peers.iter().filter(|(_, peer)| peer.identity.outgoing && !named(peer));
        let unknown: Vec<PeerKey> = unknown.map(|(key, _)| key).collect();
        unknown.into_iter().for_each(|key| self.disconnect(key, DisconnectReason::Private));
    }

    /// Refuses a peer from now on, because the caller found that what it sent is bad. Its
    /// connections are closed by outputs.
    pub fn ban(&mut self, now: Duration, address: SocketAddr, peer_id: PeerId) {
        self.now = now;
        self.ban_sender(address, peer_id);
    }

    /// Disconnects the oldest peer if there is no room for another one, because the connected ones
    /// are of no use to the caller.
    pub fn make_room(&mut self, now: Duration) {
        self.now = now;
        if self.peers.len() >= self.max_peers {
            self.disconnect_oldest();
        }
    }
}

impl Swarm {
    /// Decides whether the peer is accepted. Disconnects a connection that the new one replaces.
    fn admit(&mut self, key: PeerKey, peer: &ConnectedPeer) -> Result<(), Refusal> {
        if !self.running {
            return Err(Refusal::Stopped);
        }
        if peer.peer_id == self.peer_id {
            return Err(Refusal::Myself);
        }
        if self.contacts.is_banned(peer.address, Some(peer.peer_id)) {
            return Err(Refusal::Banned);
        }
        if peer.outgoing && self.contacts.is_private() && !self.contacts.knows(peer.address) {
            return Err(Refusal::Private);
        }
        if let Some(twin) = self.peers.replaced_by(key, peer, self.peer_id)? {
            self.disconnect(twin, DisconnectReason::Duplicate);
        }
        if self.peers.len() >= self.max_peers {
            return Err(Refusal::TooMany { limit: self.max_peers });
        }
        Ok(())
    }

    /// Ends a connection from our side.
    pub(crate) fn disconnect(&mut self, key: PeerKey, reason: DisconnectReason) {
        if self.forget(key, reason) {
            self.outputs.push_back(Output::Disconnect { peer: key, reason });
        }
    }

    /// Removes a peer; says whether there was one.
    fn forget(&mut self, key: PeerKey, reason: DisconnectReason) -> bool {
        let Some(mut peer) = self.peers.remove(key) else { return false };
        let now = self.now;
        if let Some(transfer) = &mut peer.transfer {
            self.with_active(now, |active, cx| {
                active.downloads.handle_disconnected(cx, key, transfer);
            });
        }
        self.note_went(key, &peer);
        let no_peers = self.peers.is_empty();
        self.contacts.handle_disconnected(now, &peer, reason, no_peers, &mut self.rng);
        if peer.transfer.is_some_and(|transfer| !transfer.am_choking) {
            self.with_active(now, |active, cx| active.uploads.fill(cx));
        }
        true
    }

    /// Refuses a peer that sent bad data, and discards what else it sent.
    pub(crate) fn ban_liar(&mut self, liar: Sender) {
        let Some(mut banned) = self.ban_sender(liar.address, liar.peer_id) else { return };
        if !banned.contains(&liar.key) {
            banned.push(liar.key);
        }
        self.with_active(self.now, |active, cx| {
            banned.into_iter().for_each(|key| active.downloads.forget_blocks_of(cx, key));
        });
    }

    /// Refuses the peer at this address from now on, and disconnects it. Returns the connections
    /// that ended, or `None` if it is banned already.
    fn ban_sender(&mut self, address: SocketAddr, peer_id: PeerId) -> Option<Vec<PeerKey>> {
        if self.contacts.is_banned(address, None) {
            return None;
        }
        // An address that nobody named is that of a peer that connected to us.
        let source = self.source_of(address).unwrap_or(Source::Incoming);
        self.contacts.ban(address, peer_id);
        self.outputs.push_back(Output::Banned { address, source });
        let banned = self.peers.iter().filter(|(_, peer)| {
            self.contacts.is_banned(peer.identity.address, Some(peer.identity.peer_id))
        });
        let banned: Vec<PeerKey> = banned.map(|(key, _)| key).collect();
        for key in &banned {
            self.disconnect(*key, DisconnectReason::BadData);
        }
        Some(banned)
    }

    /// Disconnects a peer that has everything, if we have all we want.
    pub(crate) fn disconnect_if_useless(&mut self, key: PeerKey) {
        let Some(Transfer { pieces, .. }) = &self.transfer else { return };
        let count = pieces.geometry().piece_count();
        let full = self.peers.transfer(key).is_some_and(|peer| peer.has.count(count) == count);
        if pieces.is_complete() && full {
            self.disconnect(key, DisconnectReason::NothingToExchange);
        }
    }

    /// Disconnects the oldest peer when the swarm is full and stalled. Otherwise peers that only
    /// keep connections open could keep out forever those that would send.
    pub(crate) fn disconnect_useless(&mut self) {
        if self.is_complete() || self.peers.len() < self.max_peers {
            return;
        }
        let Some(before) = self.now.checked_sub(USELESS_AFTER) else { return };
        if self.peers.transfers().any(|(_, peer)| peer.gave_at > before) {
            return;
        }
        self.disconnect_oldest();
    }

    fn disconnect_oldest(&mut self) {
        let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.connected_at);
        if let Some(key) = oldest.map(|(key, _)| key) {
            self.disconnect(key, DisconnectReason::Useless);
        }
    }
}

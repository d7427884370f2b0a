//! Who the peers are: candidates, connections, what each has, interest.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{Bitfield, PieceIndex};

use super::Swarm;
use crate::peer::{Has, Peer};
use crate::roster::Ending;
use crate::vocabulary::{
    ConnectFailure, ConnectedPeer, DisconnectReason, Output, PeerKey, Refusal, Source,
};

/// The most addresses taken from one list.
const MAX_LIST: usize = 2000;
/// A connection that lasted this long was of use even if nothing came of it.
const LASTING: Duration = Duration::from_secs(60);

/// Where every place is taken and nobody has sent a block for this long, a place is made.
const USELESS_AFTER: Duration = Duration::from_secs(60);

impl Swarm {
    /// Addresses at which peers may be were learned, of which the first 2,000 are looked at.
    /// Returns how many were new and kept. A private torrent keeps only those of
    /// [`Source::Tracker`] (BEP 27).
    pub fn handle_candidates(
        &mut self,
        now: Duration,
        source: Source,
        addresses: &[SocketAddr],
    ) -> usize {
        self.now = now;
        if self.private && !source.allowed_when_private() {
            return 0;
        }
        let listed = addresses.iter().take(MAX_LIST);
        listed.filter(|address| self.roster.learn(now, **address, &mut self.rng)).count()
    }

    /// An address to connect to, to be asked for whenever another connection may be begun. It
    /// counts as connecting until [`Self::handle_connected`] or [`Self::handle_connect_failed`].
    #[must_use]
    pub fn next_candidate(&mut self, now: Duration) -> Option<SocketAddr> {
        self.now = now;
        let room = self.peers.len() + self.roster.connecting() < self.max_peers;
        if self.running && room && self.roster.has_ready(now) {
            self.roster.next(now)
        } else {
            None
        }
    }

    /// The connection to a candidate did not come about.
    pub fn handle_connect_failed(
        &mut self,
        now: Duration,
        address: SocketAddr,
        failure: ConnectFailure,
    ) {
        self.now = now;
        let ending = match failure {
            ConnectFailure::Unreachable | ConnectFailure::Handshake => Ending::Failure,
            ConnectFailure::WrongPeer => Ending::Pointless,
        };
        if self.roster.is_connecting(address) {
            self.note_ending(address, ending);
        }
    }

    /// A peer's handshake is complete. The caller sends it [`Self::have`] as a bitfield.
    ///
    /// # Errors
    /// The peer is not taken in, and nothing more is to be reported of it.
    pub fn handle_connected(
        &mut self,
        now: Duration,
        key: PeerKey,
        peer: ConnectedPeer,
    ) -> Result<(), Refusal> {
        self.now = now;
        let outcome = self.admit(key, &peer);
        if peer.outgoing {
            self.note_attempt(peer.address, outcome.as_ref().err());
        }
        outcome?;
        self.peers.insert(key, Peer::new(now, peer));
        self.arm_timers();
        Ok(())
    }

    /// A connection ended. Harmless after [`Output::Disconnect`].
    pub fn handle_disconnected(&mut self, now: Duration, key: PeerKey, reason: DisconnectReason) {
        self.now = now;
        self.forget(key, reason);
    }

    /// The peer said on which port it listens (`p` of BEP 10), so that it can be found again. No
    /// use in a private torrent, whose peers come from the trackers.
    pub fn handle_listen_port(&mut self, now: Duration, key: PeerKey, port: u16) {
        self.now = now;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.listens.is_some() || self.private || port == 0 {
            return;
        }
        let address = SocketAddr::new(peer.is.address.ip(), port);
        let new = self.roster.learn(now, address, &mut self.rng);
        let taken = self.roster.is_connecting(address) || self.roster.is_connected(address);
        if new || !taken {
            peer.listens = Some(address);
            self.roster.connected(address);
        }
    }

    /// A part of the peer's bitfield came: `bytes` from byte `offset` on.
    pub fn handle_bitfield(
        &mut self,
        now: Duration,
        key: PeerKey,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) {
        self.now = now;
        let pieces = self.pieces.geometry.piece_count();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let expected = offset == peer.bitfield.len();
        if !expected || offset + bytes.len() > Bitfield::byte_length(pieces) {
            return self.disconnect(key, DisconnectReason::BadBitfield);
        }
        peer.bitfield.extend_from_slice(bytes);
        if !last {
            return;
        }
        match Bitfield::from_bytes(&std::mem::take(&mut peer.bitfield), pieces) {
            Ok(bits) if bits.is_full() => self.set_has(key, Has::All),
            Ok(bits) if bits.is_empty() => self.set_has(key, Has::Nothing),
            Ok(bits) => self.set_has(key, Has::Some(bits)),
            Err(_) => self.disconnect(key, DisconnectReason::BadBitfield),
        }
    }

    /// The peer has every piece (BEP 6).
    pub fn handle_have_all(&mut self, now: Duration, key: PeerKey) {
        self.now = now;
        self.set_has(key, Has::All);
    }

    /// The peer has no piece (BEP 6).
    pub fn handle_have_none(&mut self, now: Duration, key: PeerKey) {
        self.now = now;
        self.set_has(key, Has::Nothing);
    }

    /// The peer has a new piece.
    pub fn handle_have(&mut self, now: Duration, key: PeerKey, piece: PieceIndex) {
        self.now = now;
        let pieces = self.pieces.geometry.piece_count();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if self.pieces.geometry.piece(piece.get()).is_none() || !peer.has.insert(piece, pieces) {
            return;
        }
        self.pieces.rarity.increment(piece.get(), &mut self.rng);
        if self.pieces.is_missing(piece) {
            peer.useful += 1;
        }
        if self.pieces.rarity.contains(piece.get()) {
            peer.fresh += 1;
        }
        self.update_interest(key);
        self.queue(key);
        self.part_if_useless(key);
    }

    /// Whether the peer may be taken in; makes room for it where it replaces another connection.
    fn admit(&mut self, key: PeerKey, peer: &ConnectedPeer) -> Result<(), Refusal> {
        if !self.running {
            return Err(Refusal::Stopped);
        }
        if peer.peer_id == self.peer_id {
            return Err(Refusal::Myself);
        }
        if self.roster.is_banned(peer.address, Some(peer.peer_id)) {
            return Err(Refusal::Banned);
        }
        let same_address = |other: &Peer| other.is.address == peer.address;
        if self.peers.contains_key(&key) || self.peers.values().any(same_address) {
            return Err(Refusal::Duplicate);
        }
        let same_id = |other: &Peer| other.is.peer_id == peer.peer_id;
        let twin = self.peers.iter().find(|(_, other)| same_id(other));
        if let Some((twin, other)) = twin.map(|(key, other)| (*key, other.is)) {
            if !self.replaces(peer, &other) {
                return Err(Refusal::Duplicate);
            }
            self.disconnect(twin, DisconnectReason::Duplicate);
        }
        if self.peers.len() >= self.max_peers {
            return Err(Refusal::TooMany { limit: self.max_peers });
        }
        Ok(())
    }

    /// Whether a connection replaces `other`, which has the same peer id. Of two connections with one
    /// peer, one begun at each end, that stays which the greater peer id began, so that both ends
    /// decide alike. Anybody can use the id of another: who comes from elsewhere replaces nobody.
    fn replaces(&self, peer: &ConnectedPeer, other: &ConnectedPeer) -> bool {
        let same_ip = peer.address.ip().to_canonical() == other.address.ip().to_canonical();
        let wins = (self.peer_id > peer.peer_id) == peer.outgoing;
        same_ip && peer.outgoing != other.outgoing && wins
    }

    fn note_attempt(&mut self, address: SocketAddr, refusal: Option<&Refusal>) {
        match refusal {
            None => self.roster.connected(address),
            Some(Refusal::Myself) => self.roster.never(address),
            Some(Refusal::Duplicate) => {
                self.roster.ended(self.now, address, Ending::Pointless, &mut self.rng);
            }
            Some(_) => self.roster.ended(self.now, address, Ending::Useful, &mut self.rng),
        }
    }

    /// Ends a connection from our side.
    pub(super) fn disconnect(&mut self, key: PeerKey, reason: DisconnectReason) {
        if self.forget(key, reason) {
            self.outputs.push_back(Output::Disconnect { peer: key, reason });
        }
    }

    /// Drops all that is known of a connection; says whether there was one.
    fn forget(&mut self, key: PeerKey, reason: DisconnectReason) -> bool {
        let Some(mut peer) = self.peers.remove(&key) else { return false };
        self.pieces.count_out(&peer.has, &mut self.rng);
        self.leave_current(&mut peer);
        for asked in std::mem::take(&mut peer.asked) {
            self.release(key, asked);
        }
        self.close_pieces_only_for(key);
        if let Some(address) = peer.listens {
            let ending = self.ending(&peer, reason);
            self.note_ending(address, ending);
        }
        if !peer.am_choking {
            self.fill_slots();
        }
        self.idle_may_help = true;
        true
    }

    /// A connection to `address`, or an attempt, ended.
    fn note_ending(&mut self, address: SocketAddr, ending: Ending) {
        self.roster.ended(self.now, address, ending, &mut self.rng);
        if ending == Ending::Failure && self.peers.is_empty() {
            self.roster.hurry(self.now, &mut self.rng);
        }
    }

    fn ending(&self, peer: &Peer, reason: DisconnectReason) -> Ending {
        let lasted = self.now.saturating_sub(peer.connected_at) >= LASTING;
        let useful = lasted || peer.down.total() + peer.up.total() > 0;
        match reason {
            DisconnectReason::NothingToExchange => Ending::NothingWanted,
            DisconnectReason::Duplicate => Ending::Pointless,
            DisconnectReason::Stopped | DisconnectReason::Limit => Ending::Useful,
            DisconnectReason::Closed | DisconnectReason::Failed | DisconnectReason::Idle
                if useful =>
            {
                Ending::Useful
            }
            _ => Ending::Failure,
        }
    }

    /// Replaces what the peer has.
    fn set_has(&mut self, key: PeerKey, has: Has) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let old = std::mem::replace(&mut peer.has, has);
        self.pieces.count_out(&old, &mut self.rng);
        self.pieces.count_in(&peer.has, &mut self.rng);
        peer.useful = self.pieces.useful(&peer.has);
        peer.fresh = self.pieces.fresh(&peer.has);
        self.suspicion_changed = true;
        self.update_interest(key);
        self.queue(key);
        self.part_if_useless(key);
    }

    /// Tells the peer whether we want its pieces, if that changed.
    pub(super) fn update_interest(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let interested = peer.useful > 0;
        if interested == peer.am_interested {
            return;
        }
        peer.am_interested = interested;
        self.outputs.push_back(if interested {
            Output::Interested { peer: key }
        } else {
            Output::NotInterested { peer: key }
        });
    }

    /// Disconnects a peer that has everything once we have all we want.
    pub(super) fn part_if_useless(&mut self, key: PeerKey) {
        if self.pieces.missing > 0 {
            return;
        }
        let pieces = self.pieces.geometry.piece_count();
        let full = self.peers.get(&key).is_some_and(|peer| peer.has.count(pieces) == pieces);
        if full {
            self.disconnect(key, DisconnectReason::NothingToExchange);
        }
    }

    /// The keys of all connected peers.
    pub(super) fn keys(&self) -> Vec<PeerKey> {
        self.peers.keys().copied().collect()
    }

    /// Parts with who came first, if every place is taken and nobody has sent anything for long.
    /// Peers that only keep connections open could otherwise keep out for ever those who would send.
    pub(super) fn make_place(&mut self) {
        if self.pieces.missing == 0 || self.peers.len() < self.max_peers {
            return;
        }
        let Some(before) = self.now.checked_sub(USELESS_AFTER) else { return };
        if self.peers.values().any(|peer| peer.gave_at > before) {
            return;
        }
        let first = self.peers.iter().min_by_key(|(_, peer)| peer.connected_at);
        if let Some(key) = first.map(|(key, _)| *key) {
            self.disconnect(key, DisconnectReason::Useless);
        }
    }
}

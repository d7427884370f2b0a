//! The connected peers, and what is known of each.

mod early;
mod has;
mod transfer;
mod window;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bt_types::PeerId;

use crate::pex::PexPeer;
use crate::vocabulary::{ConnectedPeer, PeerKey, PeerView, Refusal};

pub(crate) use early::{EarlyMessages, EarlyPieces, MAX_EARLY_BYTES};
pub(crate) use has::Has;
pub(crate) use transfer::{AskState, Asked, PeerTransfer};

/// A connection that lasted this long was useful even if it carried no payload.
const LASTING: Duration = Duration::from_secs(60);

/// One connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) identity: ConnectedPeer,
    /// The address at which it listens, if we know it.
    pub(crate) listens: Option<SocketAddr>,
    pub(crate) connected_at: Duration,
    /// Present exactly while the swarm's transfer is.
    pub(crate) transfer: Option<PeerTransfer>,
    /// What it said before that; `None` if nothing.
    pub(crate) early: Option<Box<EarlyMessages>>,
    /// Its part in peer exchange, if it takes part.
    pub(crate) pex: Option<Box<PexPeer>>,
}

impl Peer {
    pub(crate) fn new(
        now: Duration,
        identity: ConnectedPeer,
        transfer: Option<PeerTransfer>,
    ) -> Self {
        let listens = identity.outgoing.then_some(identity.address);
        Self { identity, listens, connected_at: now, transfer, early: None, pex: None }
    }

    /// Whether the connection was worth its place.
    pub(crate) fn was_useful(&self, now: Duration) -> bool {
        let carried = |peer: &PeerTransfer| peer.down.total() + peer.up.total() > 0;
        now.saturating_sub(self.connected_at) >= LASTING
            || self.transfer.as_ref().is_some_and(carried)
    }

    /// Returns the bytes that what it said before the transfer takes.
    pub(crate) fn early_bytes(&self) -> usize {
        self.early.as_ref().map_or(0, |early| early.length())
    }

    /// Returns what there is to see of the peer, in a torrent of `pieces`.
    pub(crate) fn view(&self, now: Duration, key: PeerKey, pieces: u32) -> PeerView {
        let blank;
        let transfer = match &self.transfer {
            Some(transfer) => transfer,
            None => {
                blank = PeerTransfer::new(now);
                &blank
            }
        };
        PeerView {
            key,
            address: self.identity.address,
            peer_id: self.identity.peer_id,
            outgoing: self.identity.outgoing,
            pieces: transfer.has.count(pieces),
            down_rate: transfer.down.per_second(now),
            up_rate: transfer.up.per_second(now),
            am_choking: transfer.am_choking,
            am_interested: transfer.am_interested,
            peer_choking: transfer.peer_choking,
            peer_interested: transfer.peer_interested,
            snubbed: transfer.snubbed,
            outstanding: transfer.asked.len(),
            window: transfer.depth(Duration::MAX),
        }
    }
}

/// The peer that sent a block. Its address is known after the connection ended, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sender {
    pub(crate) key: PeerKey,
    pub(crate) address: SocketAddr,
    pub(crate) peer_id: PeerId,
}

/// The connected peers, by key.
#[derive(Debug, Default)]
pub(crate) struct Peers(BTreeMap<PeerKey, Peer>);

impl Peers {
    pub(crate) fn insert(&mut self, key: PeerKey, peer: Peer) {
        self.0.insert(key, peer);
    }

    pub(crate) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        self.0.remove(&key)
    }

    /// Gives every peer its part in a transfer that starts now.
    pub(crate) fn begin_transfer(&mut self, now: Duration) {
        for peer in self.0.values_mut() {
            peer.transfer = Some(PeerTransfer::new(now));
        }
    }

    pub(crate) fn early_bytes(&self) -> usize {
        self.0.values().map(Peer::early_bytes).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the keys, ascending, as a list that survives changes of the peers.
    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.0.keys().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.0.iter().map(|(key, peer)| (*key, peer))
    }

    pub(crate) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.0.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.0.get_mut(&key)
    }

    /// Returns a peer's part in the transfer.
    pub(crate) fn transfer(&self, key: PeerKey) -> Option<&PeerTransfer> {
        self.0.get(&key)?.transfer.as_ref()
    }

    pub(crate) fn transfer_mut(&mut self, key: PeerKey) -> Option<&mut PeerTransfer> {
        self.0.get_mut(&key)?.transfer.as_mut()
    }

    /// Returns the parts of all peers in the transfer, in the order of their keys.
    pub(crate) fn transfers(&self) -> impl Iterator<Item = (PeerKey, &PeerTransfer)> {
        self.0.iter().filter_map(|(key, peer)| Some((*key, peer.transfer.as_ref()?)))
    }

    pub(crate) fn transfers_mut(&mut self) -> impl Iterator<Item = (PeerKey, &mut PeerTransfer)> {
        self.0.iter_mut().filter_map(|(key, peer)| Some((*key, peer.transfer.as_mut()?)))
    }

    /// Returns the parts in the transfer of the peers after `key`, then of the others.
    pub(crate) fn transfers_after(
        &self,
        key: PeerKey,
    ) -> impl Iterator<Item = (PeerKey, &PeerTransfer)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.0.range((Excluded(key), Unbounded)).chain(self.0.range(..=key));
        after.filter_map(|(key, peer)| Some((*key, peer.transfer.as_ref()?)))
    }

    /// Returns the connection that a new one of `peer` replaces, if any. `own_id` is our peer id.
    ///
    /// # Errors
    /// [`Refusal::Duplicate`] if the peer is connected and the connection there is stays.
    pub(crate) fn replaced_by(
        &self,
        key: PeerKey,
        peer: &ConnectedPeer,
        own_id: PeerId,
    ) -> Result<Option<PeerKey>, Refusal> {
        let same_address = |other: &Peer| other.identity.address == peer.address;
        if self.0.contains_key(&key) || self.0.values().any(same_address) {
            return Err(Refusal::Duplicate);
        }
        let twin = self.iter().find(|(_, other)| other.identity.peer_id == peer.peer_id);
        match twin {
            Some((_, twin)) if !replaces(peer, &twin.identity, own_id) => Err(Refusal::Duplicate),
            twin => Ok(twin.map(|(key, _)| key)),
        }
    }
}

/// Whether a connection replaces `other`, which has the same peer id. Of two connections with one
/// peer, one from each end, the one from the end with the greater peer id stays, so that both ends
/// decide alike. Anybody can use the id of another peer, so a connection from another IP address
/// replaces none.
fn replaces(peer: &ConnectedPeer, other: &ConnectedPeer, own_id: PeerId) -> bool {
    let same_ip = peer.address.ip().to_canonical() == other.address.ip().to_canonical();
    let wins = (own_id > peer.peer_id) == peer.outgoing;
    same_ip && peer.outgoing != other.outgoing && wins
}

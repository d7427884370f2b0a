//! Messages of peers are passed to the swarm.

use std::time::Duration;

use bt_types::BlockRequest;
use peer_wire::{Message, Received};
use swarm::{PeerKey, Swarm};

use super::phase::{Phase, Torrent};

impl Torrent {
    /// A message of a peer arrived. Returns it if it is a request that is not served.
    pub(crate) fn handle_received(
        &mut self,
        now: Duration,
        peer: PeerKey,
        received: Received<'_>,
    ) -> Option<BlockRequest> {
        if let Phase::Transfer(transfer) = &mut self.phase {
            return transfer.handle_received(now, peer, received);
        }
        let swarm = self.running_swarm()?;
        report(swarm, now, peer, &received);
        None
    }
}

/// Passes a message that is neither payload nor a request for it.
pub(super) fn report(swarm: &mut Swarm, now: Duration, peer: PeerKey, received: &Received<'_>) {
    match *received {
        Received::Bitfield { offset, bytes, last } => {
            swarm.handle_bitfield(now, peer, offset, bytes, last);
        }
        Received::HaveAll => swarm.handle_have_all(now, peer),
        Received::HaveNone => swarm.handle_have_none(now, peer),
        Received::Have(piece) => swarm.handle_have(now, peer, piece),
        Received::Choke => swarm.handle_choke(now, peer),
        Received::Unchoke => swarm.handle_unchoke(now, peer),
        Received::Interested => swarm.handle_interested(now, peer),
        Received::NotInterested => swarm.handle_not_interested(now, peer),
        Received::Reject(request) => swarm.handle_reject(now, peer, request),
        Received::Suggest(piece) => swarm.handle_suggest(now, peer, piece),
        Received::AllowedFast(piece) => swarm.handle_allowed_fast(now, peer, piece),
        Received::Unchecked(Message::Have(index)) => swarm.handle_unchecked_have(now, peer, index),
        Received::Unchecked(Message::AllowedFast(index)) => {
            swarm.handle_unchecked_allowed_fast(now, peer, index);
        }
        // A suggestion before the geometry is known.
        Received::Unchecked(_)
        // The connection takes the request out of its queue.
        | Received::Cancel(_)
        | Received::KeepAlive
        | Received::Extended { .. }
        | Received::Unknown { .. }
        // Before the geometry is known, a request is a broken rule, and nothing is requested.
        | Received::Request(_)
        | Received::Block { .. }
        // The engine handles these.
        | Received::ExtensionHandshake(_)
        | Received::Port(_)
        | Received::Metadata(_)
        | Received::Pex(_)
        | Received::Handshake(_)
        | Received::Misbehaved(_) => {}
    }
}

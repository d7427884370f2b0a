//! Our side of the handshake and of the extension handshake (BEP 10).

use std::net::SocketAddr;

use peer_wire::{ExtensionHandshake, Extensions, Handshake};
use swarm::Swarm;

use super::phase::Torrent;
use crate::engine::config::EngineConfig;

/// How many requests a peer should have outstanding at most (`reqq` of BEP 10). Of those that it
/// sends, [`peer_wire::MAX_QUEUED_REQUESTS`] are kept.
const REQUEST_QUEUE: u32 = 500;

const _: () = assert!(REQUEST_QUEUE as usize <= peer_wire::MAX_QUEUED_REQUESTS);

impl Torrent {
    /// Returns our handshake. `has_node` says whether it mentions our node of the DHT (BEP 5).
    pub(crate) fn handshake(&self, has_node: bool) -> Handshake {
        let mut ours = Handshake::new(self.info_hash(), self.peer_id);
        if has_node {
            ours.reserved = ours.reserved.with_dht();
        }
        ours
    }

    /// Returns the extension handshake for a peer at this address.
    pub(crate) fn hello(&self, config: &EngineConfig, peer: SocketAddr) -> ExtensionHandshake {
        let extensions = Extensions { metadata: true, pex: config.pex && !self.is_private() };
        ExtensionHandshake {
            messages: extensions.messages(),
            metadata_size: self.metadata_size(),
            client: Some(config.client_name.clone()),
            port: Some(config.listen_port).filter(|port| *port != 0),
            request_queue: Some(REQUEST_QUEUE),
            your_ip: Some(peer.ip().to_canonical()),
            upload_only: self.swarm().is_some_and(Swarm::is_complete).then_some(true),
            ..ExtensionHandshake::default()
        }
    }

    /// Whether peers may come only from trackers (BEP 27). Nobody knows before the metadata.
    pub(crate) fn is_private(&self) -> bool {
        self.add.description.metainfo().is_some_and(|metainfo| metainfo.info().private())
    }
}

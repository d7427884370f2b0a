//! Links are accepted and established, shake hands, carry messages and end.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::Bitfield;
use peer_wire::{Connection, ExtensionHandshake, Handshake, Pex, Received, Rule};
use piece_store::TorrentKey;
use swarm::{ConnectFailure, ConnectedPeer, DisconnectReason, Refusal, Source, Swarm};

use super::Engine;
use super::action::Action;
use super::dial::canonical;
use super::keys::LinkKey;
use super::link::{Handshaking, Link, LinkEnd};
use crate::event::{EventKind, PeerState};
use crate::limits::{MAX_LATE_HAVES, MAX_PEER_BUFFERS};

impl<F> Engine<F> {
    /// Whether incoming connections should wait, because too many are without a handshake.
    pub fn is_crowded(&self) -> bool {
        self.links.is_crowded()
    }

    /// A peer connected to us. Returns `None` if there is no room: close the socket.
    pub fn handle_accepted(&mut self, now: Duration, address: SocketAddr) -> Option<LinkKey> {
        self.now = now;
        if !self.links.has_room_to_accept() {
            return None;
        }
        let (address, connection) = (canonical(address), Connection::incoming(now));
        let link = Handshaking { address, expected: None, source: Source::Incoming, connection };
        Some(self.links.insert(Link::Handshaking(Box::new(link))))
    }

    /// The connection that [`Action::Connect`] began is established.
    pub fn handle_connected(&mut self, now: Duration, key: LinkKey) {
        self.now = now;
        let Some(Link::Connecting(link)) = self.links.get(key) else { return };
        let torrent = &self.torrents[link.torrent];
        let ours = torrent.handshake(self.offers_node(link.torrent));
        self.links.establish(key, Connection::outgoing(now, ours, None));
        self.transmit(key);
    }

    /// The connection that [`Action::Connect`] began failed.
    pub fn handle_connect_failed(&mut self, now: Duration, key: LinkKey, reason: &str) {
        self.now = now;
        self.end_link(key, LinkEnd::new(DisconnectReason::Failed, reason));
        self.settle();
    }

    /// Whether the link still exists.
    pub fn has_link(&self, key: LinkKey) -> bool {
        self.links.get(key).is_some()
    }

    /// The socket of a link ended: closed by the peer (`None`), or with an error.
    pub fn handle_closed(&mut self, now: Duration, key: LinkKey, error: Option<&str>) {
        self.now = now;
        let end = match error {
            None => LinkEnd::new(DisconnectReason::Closed, "closed by the peer"),
            Some(error) => LinkEnd::new(DisconnectReason::Failed, error),
        };
        self.end_link(key, end);
        self.settle();
    }

    /// Bytes came from a link. They may be changed: a cipher decrypts in place.
    pub fn handle_bytes(&mut self, now: Duration, key: LinkKey, input: &mut [u8]) {
        self.now = now;
        self.count_received(key, input.len());
        let mut rest: &[u8] = input;
        while let Some(connection) = self.links.connection_mut(key)
            && let Some(received) = connection.receive(now, &mut rest)
        {
            self.handle_received(key, received);
        }
        self.check_buffers(key);
        self.serve(key);
        if let Some(torrent) = self.links.torrent_of(key) {
            self.drain(torrent);
        }
        self.transmit_if_due(key);
        self.settle();
    }

    fn count_received(&mut self, key: LinkKey, bytes: usize) {
        self.down.take(bytes);
        if let Some(torrent) = self.links.torrent_of(key) {
            self.torrents[torrent].down.take(bytes);
        }
    }

    fn handle_received(&mut self, key: LinkKey, received: Received<'_>) {
        match received {
            Received::Misbehaved(rule) => {
                let end = LinkEnd::new(DisconnectReason::Misbehaved, rule.to_string());
                let wrong_peer = matches!(rule, Rule::WrongInfoHash { .. });
                self.end_link(key, LinkEnd { wrong_peer, ..end });
            }
            Received::Handshake(theirs) => self.handle_handshake(key, theirs),
            Received::ExtensionHandshake(theirs) => self.handle_extensions(key, &theirs),
            Received::Metadata(message) => self.handle_metadata(key, message),
            Received::Pex(pex) => self.handle_pex(key, &pex),
            Received::Port(port) => self.handle_node_port(key, port),
            message => {
                let Some(link) = self.links.open_mut(key) else { return };
                let torrent = &mut self.torrents[link.torrent];
                if let Some(request) = torrent.handle_received(self.now, key.peer(), message) {
                    link.connection.reject(request);
                }
            }
        }
    }

    /// A peer's extension handshake arrived, the first or a later one, which may hold only changes.
    fn handle_extensions(&mut self, key: LinkKey, theirs: &ExtensionHandshake) {
        let (now, peer) = (self.now, key.peer());
        let Some(link) = self.links.open_mut(key) else { return };
        let supported = link.connection.peer_extensions();
        let torrent = link.torrent;
        if let Some(swarm) = self.torrents.running_swarm(torrent) {
            theirs.request_queue.into_iter().for_each(|it| swarm.handle_reqq(now, peer, it));
            theirs.port.into_iter().for_each(|port| swarm.handle_listen_port(now, peer, port));
            swarm.handle_pex_support(now, peer, supported.pex && self.config.pex);
        }
        if !supported.metadata {
            self.handle_metadata_size(key, None);
        } else if let Some(size) = theirs.metadata_size {
            self.handle_metadata_size(key, Some(size));
        }
    }

    fn handle_handshake(&mut self, key: LinkKey, theirs: Handshake) {
        let Some(Link::Handshaking(link)) = self.links.get(key) else { return };
        let (address, source, expected) = (link.address, link.source, link.expected);
        let outgoing = expected.is_some();
        let named = self.torrents.by_info_hash(theirs.info_hash);
        let torrent_key = match (expected, named) {
            (None, Some(named)) => named,
            (Some(expected), Some(named)) if expected == named => named,
            (Some(_), _) => {
                return self.end_link(key, LinkEnd::wrong_peer("the peer has another torrent"));
            }
            (None, None) => {
                let reason = "the peer asks for a torrent that we do not have";
                return self.end_link(key, LinkEnd::wrong_peer(reason));
            }
        };
        let ours = self.torrents[torrent_key].handshake(self.offers_node(torrent_key));
        let torrent = &mut self.torrents[torrent_key];
        let Some(Link::Handshaking(link)) = self.links.get_mut(key) else { return };
        let fast = ours.reserved.supports_fast() && theirs.reserved.supports_fast();
        let peer = ConnectedPeer { address, outgoing, fast, peer_id: theirs.peer_id };
        let Some(swarm) = torrent.running_swarm() else {
            return self.end_link(key, LinkEnd::wrong_peer("the torrent is not ready"));
        };
        if let Err(refusal) = swarm.handle_connected(self.now, key.peer(), peer) {
            return self.end_refused(key, torrent_key, refusal);
        }
        if !outgoing {
            link.connection.accept(ours);
        }
        match swarm.pieces() {
            Some(pieces) => {
                let checked = link.connection.set_geometry(pieces.geometry());
                debug_assert_eq!(checked, Ok(()), "a peer that has said nothing broke a rule");
                link.connection.bitfield(pieces.have());
            }
            // BEP 6 asks for a first message, and nobody knows how many pieces there are.
            None => link.connection.bitfield(&Bitfield::new(0)),
        }
        if link.connection.extension_protocol() {
            let hello = torrent.hello(&self.config, address);
            link.connection.extension_handshake(&hello);
        }
        if ours.reserved.supports_dht() && theirs.reserved.supports_dht() {
            link.connection.port(self.config.datagram_port);
        }
        self.links.open(key, torrent_key);
        self.transmit(key);
        let state = PeerState::Connected;
        self.emit(torrent_key, EventKind::Peer { address, source, state, reason: None });
    }

    /// Sends the torrent's peers another extension handshake: we download no more (BEP 21), or have
    /// the metadata now (BEP 9).
    pub(super) fn send_hellos(&mut self, key: TorrentKey) {
        let links = self.torrents[key].swarm().map_or_else(Vec::new, links_of);
        for link_key in links {
            let Some(link) = self.links.open_mut(link_key) else { continue };
            // Complete, for clients that forget what a later handshake does not repeat.
            let hello = self.torrents[key].hello(&self.config, link.address);
            link.connection.extension_handshake(&hello);
            self.transmit_if_due(link_key);
        }
    }

    /// The transfer of a torrent starts: the links that it has since its metadata was fetched learn
    /// the geometry, and their peers, but for seeders, which pieces we have.
    pub(super) fn begin_on_links(&mut self, key: TorrentKey) {
        let Some(transfer) = self.torrents.running_mut(key) else { return };
        let Some(pieces) = transfer.swarm.pieces() else { return };
        let (geometry, have) = (pieces.geometry(), pieces.have().clone());
        let peers = transfer.swarm.peers();
        let peers: Vec<_> = peers
            .map(|peer| (LinkKey::of_peer(peer.key), peer.pieces == geometry.piece_count()))
            .collect();
        for (key, is_seed) in peers {
            let Some(link) = self.links.open_mut(key) else { continue };
            if let Err(rule) = link.connection.set_geometry(geometry) {
                self.end_link(key, LinkEnd::new(DisconnectReason::Misbehaved, rule.to_string()));
            } else if is_seed {
                // It has no use for our pieces, and must not be lost for them.
            } else if have.count() > MAX_LATE_HAVES {
                let reason = "it is connected to again, for a bitfield";
                self.end_link(key, LinkEnd::new(DisconnectReason::Limit, reason));
            } else {
                geometry
                    .pieces()
                    .filter(|piece| have.contains(*piece))
                    .for_each(|piece| link.connection.have(piece));
                self.transmit_if_due(key);
            }
        }
    }

    /// A peer named peers that it is connected to.
    fn handle_pex(&mut self, key: LinkKey, pex: &Pex) {
        if let Some(torrent) = self.links.torrent_of(key)
            && let Some(swarm) = self.torrents.running_swarm(torrent)
        {
            let added: Vec<SocketAddr> = pex.added.iter().map(|peer| peer.address).collect();
            swarm.handle_pex(self.now, key.peer(), &added);
        }
    }

    /// Checks all links for deadlines and memory.
    pub(super) fn sweep_links(&mut self) {
        for key in self.links.keys() {
            match self.links.handle_timeout(self.now, key) {
                Some(Err(end)) => self.end_link(key, end),
                Some(Ok(())) => self.transmit_if_due(key),
                None => {}
            }
        }
        self.disk.reads.expire(self.now);
        self.shed_buffers();
    }

    /// Counts the memory of this link, which may grow much between two sweeps. That of all links is
    /// counted only if together they hold too much, since queues of requests may be long.
    fn check_buffers(&mut self, key: LinkKey) {
        if self.links.count_buffers(key) > MAX_PEER_BUFFERS {
            self.shed_buffers();
        }
    }

    /// Disconnects the peer that holds most memory while all together hold too much.
    fn shed_buffers(&mut self) {
        while let (held, Some(most)) = self.links.count_all_buffers()
            && held > MAX_PEER_BUFFERS
        {
            self.end_link(most, LinkEnd::new(DisconnectReason::Limit, "it held the most memory"));
        }
    }

    /// Ends a link, and notifies the swarm, the user and the owner of the socket.
    fn end_link(&mut self, key: LinkKey, end: LinkEnd) {
        let Some(link) = self.remove_link(key) else { return };
        let (now, address, source) = (self.now, link.address(), link.source());
        let Some(torrent) = link.torrent() else {
            log::debug!("{address}: {}", end.text);
            return;
        };
        self.with_fetch(torrent, |fetch, _| fetch.handle_disconnected(key.peer()));
        if let Some(swarm) = self.torrents[torrent].swarm_mut() {
            match &link {
                Link::Open(_) => swarm.handle_disconnected(now, key.peer(), end.reason),
                Link::Handshaking(_) => {
                    swarm.handle_connect_failed(now, address, end.handshake_failure());
                }
                Link::Connecting(_) => {
                    swarm.handle_connect_failed(now, address, ConnectFailure::Unreachable);
                }
            }
        }
        let state = match link {
            Link::Open(_) => PeerState::Disconnected,
            Link::Handshaking(_) | Link::Connecting(_) => PeerState::Failed,
        };
        self.emit(torrent, EventKind::Peer { address, source, state, reason: Some(end.text) });
        self.drain(torrent);
    }

    /// Ends a link that the swarm refused.
    fn end_refused(&mut self, key: LinkKey, torrent: TorrentKey, reason: Refusal) {
        if let Some(link) = self.remove_link(key) {
            log::debug!("{} is refused: {reason}", link.address());
        }
        self.drain(torrent);
    }

    /// Ends the attempts to connect to addresses that the torrent has forgotten because it turned out
    /// private.
    pub(super) fn end_attempts_to_strangers(&mut self, torrent: TorrentKey) {
        let Some(swarm) = self.torrents[torrent].swarm() else { return };
        if !self.torrents[torrent].is_private() {
            return;
        }
        let is_to_stranger = |key: &LinkKey| {
            let link = self.links.get(*key).filter(|link| link.torrent() == Some(torrent));
            let attempt = link.filter(|link| link.half_open() == Some(true));
            attempt.is_some_and(|link| swarm.source_of(link.address()).is_none())
        };
        for key in self.links.keys().into_iter().filter(is_to_stranger).collect::<Vec<_>>() {
            self.end_refused(key, torrent, Refusal::Private);
        }
    }

    /// Ends a link that the swarm has forgotten.
    pub(super) fn drop_link(&mut self, key: LinkKey, reason: &str) {
        let Some(link) = self.remove_link(key) else { return };
        if let Some(torrent) = link.torrent() {
            self.with_fetch(torrent, |fetch, _| fetch.handle_disconnected(key.peer()));
            let (address, source) = (link.address(), link.source());
            let state = PeerState::Disconnected;
            let reason = Some(reason.to_owned());
            self.emit(torrent, EventKind::Peer { address, source, state, reason });
        }
    }

    /// Removes a link and has its socket closed.
    pub(super) fn remove_link(&mut self, key: LinkKey) -> Option<Link<F>> {
        let link = self.links.remove(key)?;
        self.actions.push_back(Action::Close { link: key });
        Some(link)
    }

    /// Has the caller transmit if the link has bytes to send.
    pub(super) fn transmit_if_due(&mut self, key: LinkKey) {
        if self.links.has_bytes(key) {
            self.transmit(key);
        }
    }

    /// Has the caller drain the link's send queue, unless that is asked for already.
    pub(super) fn transmit(&mut self, key: LinkKey) {
        if self.links.signal(key) {
            self.actions.push_back(Action::Transmit { link: key });
        }
    }
}

/// Returns the links of a swarm's peers.
fn links_of(swarm: &Swarm) -> Vec<LinkKey> {
    swarm.peers().map(|peer| LinkKey::of_peer(peer.key)).collect()
}

//! What happens on links: they come, shake hands, carry messages and go.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{BlockRequest, PeerId};
use peer_wire::{Connection, ExtensionHandshake, Handshake, Received, Rule};
use piece_store::TorrentKey;
use swarm::{BlockFate, ConnectFailure, ConnectedPeer, DisconnectReason, PeerKey, Refusal, Swarm};

use super::Core;
use super::action::Action;
use super::dial::canonical;
use super::link::{Link, LinkKey, Stage};
use super::torrent::{Phase, Torrent};
use crate::config::USER_AGENT;
use crate::event::{EventKind, PeerState};

/// How many requests a peer should have outstanding at most, as we tell it (`reqq` of BEP 10). What
/// is kept of those that come all the same is [`peer_wire::MAX_QUEUED_REQUESTS`].
const REQUEST_QUEUE: u32 = 500;

const _: () = assert!(REQUEST_QUEUE as usize <= peer_wire::MAX_QUEUED_REQUESTS);

impl<F> Core<F> {
    /// Whether those who connect to us should wait, because so many others have not shaken hands
    /// yet: soon they have, or are gone.
    pub fn is_crowded(&self) -> bool {
        self.links.is_crowded()
    }

    /// Someone connected to us. `None`: there is no room, close the socket.
    pub fn handle_accepted(&mut self, now: Duration, address: SocketAddr) -> Option<LinkKey> {
        self.now = now;
        if !self.links.has_room(false, self.config.max_connections) {
            return None;
        }
        let address = canonical(address);
        let stage = Stage::Handshaking { torrent: None };
        Some(self.links.insert(Link::new(address, false, stage, Connection::incoming(now))))
    }

    /// The connection that [`Action::Connect`] began is established.
    pub fn handle_connected(&mut self, now: Duration, key: LinkKey) {
        self.now = now;
        let Some(link) = self.links.get_mut(key) else { return };
        let Stage::Connecting { torrent, .. } = link.stage else { return };
        let Some(entry) = self.torrents.get(&torrent) else { return };
        let ours = Handshake::new(entry.info_hash(), entry.peer_id);
        link.connection = Connection::outgoing(now, ours, None);
        self.links.set_stage(key, Stage::Handshaking { torrent: Some(torrent) });
        self.transmit(key);
    }

    /// The connection that [`Action::Connect`] began failed.
    pub fn handle_connect_failed(&mut self, now: Duration, key: LinkKey, reason: &str) {
        self.now = now;
        self.end_link(key, LinkEnd::new(DisconnectReason::Failed, reason));
        self.settle();
    }

    /// Whether the link has not ended.
    pub fn has_link(&self, key: LinkKey) -> bool {
        self.links.get(key).is_some()
    }

    /// The socket of a link ended: `None` in good order, else with an error.
    pub fn handle_closed(&mut self, now: Duration, key: LinkKey, error: Option<&str>) {
        self.now = now;
        let end = match error {
            None => LinkEnd::new(DisconnectReason::Closed, "closed by the peer"),
            Some(error) => LinkEnd::new(DisconnectReason::Failed, error),
        };
        self.end_link(key, end);
        self.settle();
    }

    /// Bytes came from a link.
    pub fn handle_bytes(&mut self, now: Duration, key: LinkKey, mut input: &[u8]) {
        self.now = now;
        self.count_received(key, input.len());
        while let Some(link) = self.links.get_mut(key) {
            let Some(received) = link.connection.receive(now, &mut input) else { break };
            self.handle_received(key, received);
        }
        self.check_buffers(key);
        self.serve(key);
        if let Some(torrent) = self.links.get(key).and_then(|link| link.stage.torrent()) {
            self.drain(torrent);
        }
        self.transmit_if_due(key);
        self.settle();
    }

    fn count_received(&mut self, key: LinkKey, bytes: usize) {
        self.down.take(bytes);
        let torrent = self.links.get(key).and_then(|link| link.stage.torrent());
        if let Some(torrent) = torrent.and_then(|key| self.torrents.get_mut(&key)) {
            torrent.down.take(bytes);
        }
    }

    fn handle_received(&mut self, key: LinkKey, received: Received<'_>) {
        let Some(stage) = self.links.get(key).map(|link| link.stage) else { return };
        match (received, stage) {
            (Received::Misbehaved(rule), _) => {
                let end = LinkEnd::new(DisconnectReason::Misbehaved, &rule.to_string());
                let wrong_peer = matches!(rule, Rule::WrongInfoHash { .. });
                self.end_link(key, LinkEnd { wrong_peer, ..end });
            }
            (Received::Handshake(theirs), Stage::Handshaking { torrent }) => {
                self.handle_handshake(key, torrent, theirs);
            }
            (received, Stage::Live { torrent }) => self.handle_message(key, torrent, received),
            _ => {}
        }
    }

    fn handle_handshake(&mut self, key: LinkKey, expected: Option<TorrentKey>, theirs: Handshake) {
        let Some(torrent_key) = self.torrent_of(expected, &theirs) else {
            let reason = match expected {
                Some(_) => "the peer has another torrent",
                None => "the peer asks for a torrent that we do not have",
            };
            return self.end_link(key, LinkEnd::wrong_peer(reason));
        };
        let now = self.now;
        let Some(link) = self.links.get_mut(key) else { return };
        let Some(torrent) = self.torrents.get_mut(&torrent_key) else { return };
        let (address, ours) = (link.address, Handshake::new(torrent.info_hash(), torrent.peer_id));
        let fast = ours.reserved.supports_fast() && theirs.reserved.supports_fast();
        let peer_id = theirs.peer_id;
        let peer = ConnectedPeer { address, outgoing: link.outgoing, fast, peer_id };
        let geometry = torrent.geometry();
        let Some(swarm) = torrent.transfer_mut() else {
            return self.end_link(key, LinkEnd::wrong_peer("the torrent is not ready"));
        };
        if let Err(refusal) = swarm.handle_connected(now, key.peer(), peer) {
            return self.end_refused(key, torrent_key, refusal);
        }
        if !link.outgoing {
            link.connection.accept(ours);
        }
        link.connection.set_geometry(geometry);
        if let Some(pieces) = swarm.pieces() {
            link.connection.bitfield(pieces.have());
        }
        if link.connection.extension_protocol() {
            let only = swarm.is_complete();
            link.connection.extension_handshake(&hello(self.config.listen_port, address, only));
        }
        self.links.set_stage(key, Stage::Live { torrent: torrent_key });
        self.transmit(key);
        let state = PeerState::Connected;
        self.emit(torrent_key, EventKind::Peer { address, state, reason: None });
    }

    /// Tells the torrent's peers whether we still download, if that changed (BEP 21).
    pub(super) fn tell_upload_only(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Phase::Transfer(swarm) = &torrent.phase else { return };
        let only = swarm.is_complete();
        if only == torrent.upload_only {
            return;
        }
        let peers: Vec<PeerKey> = swarm.peers().map(|peer| peer.key).collect();
        torrent.upload_only = only;
        for key in peers.into_iter().map(LinkKey::of_peer) {
            let Some(link) = self.links.get_mut(key) else { continue };
            // The rest once more, for clients that forget what a later handshake does not repeat.
            let mut hello = hello(self.config.listen_port, link.address, only);
            hello.upload_only = Some(only);
            link.connection.extension_handshake(&hello);
            self.transmit_if_due(key);
        }
    }

    /// Which of our torrents the handshake is about; an outgoing link knows already.
    fn torrent_of(&self, expected: Option<TorrentKey>, theirs: &Handshake) -> Option<TorrentKey> {
        let named = self.by_info_hash.get(&theirs.info_hash).copied()?;
        expected.is_none_or(|expected| expected == named).then_some(named)
    }

    fn handle_message(&mut self, key: LinkKey, torrent_key: TorrentKey, received: Received<'_>) {
        let now = self.now;
        let peer = key.peer();
        let Some(torrent) = self.torrents.get_mut(&torrent_key) else { return };
        if let Received::Block { request, offset, bytes, last } = received {
            torrent.receive_part(now, peer, request, offset, bytes);
            if let (true, Some(swarm)) = (last, torrent.transfer_mut()) {
                swarm.handle_block(now, peer, request);
            }
            return;
        }
        let Some(swarm) = torrent.transfer_mut() else { return };
        match received {
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
            Received::Request(request) if !swarm.serves(peer, request.piece()) => {
                if let Some(link) = self.links.get_mut(key) {
                    link.connection.reject(request);
                }
            }
            Received::Reject(request) => swarm.handle_reject(now, peer, request),
            Received::Suggest(piece) => swarm.handle_suggest(now, peer, piece),
            Received::AllowedFast(piece) => swarm.handle_allowed_fast(now, peer, piece),
            Received::ExtensionHandshake(theirs) => note_extensions(swarm, now, key, &theirs),
            _ => {}
        }
    }

    /// Ends a link: the swarm, the user and the socket's owner hear of it.
    pub(super) fn end_link(&mut self, key: LinkKey, end: LinkEnd) {
        let now = self.now;
        let Some(link) = self.links.get(key) else { return };
        let (address, stage, outgoing) = (link.address, link.stage, link.outgoing);
        self.drop_socket(key);
        let Some(torrent_key) = stage.torrent() else {
            log::debug!("{address}: {}", end.text);
            return;
        };
        let Some(torrent) = self.torrents.get_mut(&torrent_key) else { return };
        if let Some(swarm) = torrent.swarm_mut() {
            match stage {
                Stage::Live { .. } => swarm.handle_disconnected(now, key.peer(), end.reason),
                _ if outgoing => swarm.handle_connect_failed(now, address, end.failure(stage)),
                _ => {}
            }
        }
        let live = matches!(stage, Stage::Live { .. });
        let state = if live { PeerState::Disconnected } else { PeerState::Failed };
        self.emit(torrent_key, EventKind::Peer { address, state, reason: Some(end.text) });
        self.drain(torrent_key);
    }

    /// Ends a link that the swarm did not take in: the swarm knows already.
    fn end_refused(&mut self, key: LinkKey, torrent: TorrentKey, reason: Refusal) {
        if let Some(link) = self.links.get(key) {
            log::debug!("{} is refused: {reason}", link.address);
        }
        self.drop_socket(key);
        self.drain(torrent);
    }

    /// Ends a link that the swarm gave up.
    pub(super) fn drop_link(&mut self, key: LinkKey, reason: &str) {
        let Some(link) = self.links.get(key) else { return };
        let (address, torrent) = (link.address, link.stage.torrent());
        self.drop_socket(key);
        if let Some(torrent) = torrent {
            let (state, reason) = (PeerState::Disconnected, Some(reason.to_owned()));
            self.emit(torrent, EventKind::Peer { address, state, reason });
        }
    }

    pub(super) fn drop_socket(&mut self, key: LinkKey) {
        if self.links.remove(key).is_some() {
            self.actions.push_back(Action::Close { link: key });
        }
    }

    /// Has the link drained if a message waits in it.
    pub(super) fn transmit_if_due(&mut self, key: LinkKey) {
        let due = self.links.get(key).is_some_and(|link| link.connection.poll_transmit().is_some());
        if due {
            self.transmit(key);
        }
    }
}

/// Why a link ends: for the swarm's policy, and in words.
pub(super) struct LinkEnd {
    reason: DisconnectReason,
    wrong_peer: bool,
    text: String,
}

impl LinkEnd {
    pub(super) fn new(reason: DisconnectReason, text: &str) -> Self {
        Self { reason, wrong_peer: false, text: text.to_owned() }
    }

    fn wrong_peer(text: &str) -> Self {
        Self { wrong_peer: true, ..Self::new(DisconnectReason::Misbehaved, text) }
    }

    /// How the attempt to connect failed, for a link that did not become a peer.
    fn failure(&self, stage: Stage) -> ConnectFailure {
        match stage {
            _ if self.wrong_peer => ConnectFailure::WrongPeer,
            Stage::Connecting { .. } => ConnectFailure::Unreachable,
            _ => ConnectFailure::Handshake,
        }
    }
}

impl Torrent {
    /// Copies a part of a block into its span, unless nobody needs it.
    fn receive_part(
        &mut self,
        now: Duration,
        peer: PeerKey,
        request: BlockRequest,
        offset: u32,
        bytes: &[u8],
    ) {
        let Some(swarm) = self.transfer_mut() else { return };
        let fate = swarm.handle_part(now, peer, request, offset);
        swarm.handle_payload(now, peer, bytes.len() as u32);
        if fate == BlockFate::Discard {
            return;
        }
        let span = self.open.span_at(request.piece(), request.offset() + offset);
        let target = span.and_then(|(span, start)| span.get_mut(start..start + bytes.len()));
        match target {
            Some(target) => target.copy_from_slice(bytes),
            None => log::error!("a part of {request:?} has no span"),
        }
    }
}

fn note_extensions(swarm: &mut Swarm, now: Duration, key: LinkKey, theirs: &ExtensionHandshake) {
    if let Some(limit) = theirs.request_queue {
        swarm.handle_reqq(now, key.peer(), limit);
    }
    if let Some(port) = theirs.port {
        swarm.handle_listen_port(now, key.peer(), port);
    }
}

/// Our side of the extension handshake (BEP 10).
fn hello(listen_port: u16, peer: SocketAddr, upload_only: bool) -> ExtensionHandshake {
    ExtensionHandshake {
        client: Some(USER_AGENT.to_owned()),
        port: (listen_port != 0).then_some(listen_port),
        request_queue: Some(REQUEST_QUEUE),
        your_ip: Some(peer.ip().to_canonical()),
        upload_only: upload_only.then_some(true),
        ..ExtensionHandshake::default()
    }
}

/// A peer id for one torrent and one run.
pub(super) fn draw_peer_id(rng: &mut impl rand::Rng) -> PeerId {
    use rand::RngExt as _;
    PeerId::new(crate::config::PEER_ID_PREFIX, rng.random())
}

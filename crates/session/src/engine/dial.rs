//! Whom to connect to: every torrent that has an address to try has its turn.

use std::net::SocketAddr;
use std::time::Duration;

use peer_wire::{Connection, Handshake};
use piece_store::TorrentKey;
use swarm::{ConnectFailure, Source};

use super::Engine;
use super::action::Action;
use super::link::{Link, Stage};
use crate::limits::{CONNECT_TIMEOUT, DIAL_PAUSE, MAX_USER_PEERS};

impl<F> Engine<F> {
    /// Tries peers that the user named, now or as soon as the torrent is ready.
    pub fn add_peers(&mut self, now: Duration, key: TorrentKey, peers: &[SocketAddr]) {
        self.now = now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        for peer in peers {
            let known = &mut torrent.add.peers;
            if known.len() < MAX_USER_PEERS && !known.contains(peer) {
                known.push(*peer);
            }
        }
        self.take_candidates(key, Source::User, peers);
        self.settle();
    }

    /// The system has no more sockets to give: for a while no connection is begun.
    pub fn pause_dialing(&mut self, now: Duration) {
        self.dial_at = now + DIAL_PAUSE;
    }

    pub(super) fn take_candidates(
        &mut self,
        key: TorrentKey,
        source: Source,
        peers: &[SocketAddr],
    ) {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if let Some(swarm) = torrent.transfer_mut() {
            let peers: Vec<SocketAddr> = peers.iter().copied().map(canonical).collect();
            let _kept = swarm.handle_candidates(now, source, &peers);
            self.drain(key);
        }
    }

    /// Puts the torrent in line to connect to peers. It leaves the line when it has none to try.
    pub(super) fn queue_to_dial(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if torrent.is_transferring() && !std::mem::replace(&mut torrent.waits_to_dial, true) {
            self.dial_queue.push_back(key);
        }
    }

    /// Begins connections while there is room, each torrent in turn.
    pub(super) fn dial(&mut self) {
        while self.has_room_to_dial()
            && let Some(key) = self.dial_queue.pop_front()
        {
            let Some(torrent) = self.torrents.get_mut(&key) else { continue };
            torrent.waits_to_dial = false;
            if self.dial_one(key) {
                self.queue_to_dial(key);
            }
        }
    }

    fn has_room_to_dial(&self) -> bool {
        self.links.has_room(true, self.config.max_connections) && self.dial_at <= self.now
    }

    /// Begins a connection to the torrent's next candidate; says whether it had one.
    fn dial_one(&mut self, key: TorrentKey) -> bool {
        let now = self.now;
        let Some(torrent) = self.torrents.get_mut(&key) else { return false };
        let ours = Handshake::new(torrent.info_hash(), torrent.peer_id);
        let Some(swarm) = torrent.transfer_mut() else { return false };
        let Some(address) = swarm.next_candidate(now) else { return false };
        if self.config.families.allow(address.ip()) {
            let stage = Stage::Connecting { torrent: key, deadline: now + CONNECT_TIMEOUT };
            let connection = Connection::outgoing(now, ours, None);
            let link = self.links.insert(Link::new(address, true, stage, connection));
            self.actions.push_back(Action::Connect { link, address });
        } else {
            swarm.handle_connect_failed(now, address, ConnectFailure::Unreachable);
        }
        self.set_timer(key);
        true
    }
}

/// IPv4 addresses that are written as IPv6 ones are the same peers.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

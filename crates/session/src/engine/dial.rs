//! Whom to connect to: every torrent that has an address to try has its turn.

use std::net::SocketAddr;
use std::time::Duration;

use peer_wire::{Connection, Handshake};
use piece_store::TorrentKey;
use swarm::{ConnectFailure, Source};

use super::Engine;
use super::action::Action;
use super::link::{Link, Stage};
use super::torrent::Transfer;
use crate::limits::{CONNECT_TIMEOUT, DIAL_PAUSE};

impl<F> Engine<F> {
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
        if let Some(transfer) = self.torrents.running_mut(key) {
            let peers: Vec<SocketAddr> = peers.iter().copied().map(canonical).collect();
            let _kept = transfer.swarm.handle_candidates(self.now, source, &peers);
            self.drain(key);
        }
    }

    /// Begins connections while there is room, each torrent in turn.
    pub(super) fn dial(&mut self) {
        while self.has_room_to_dial()
            && let Some(key) = self.torrents.pop_to_dial()
        {
            if self.dial_one(key) {
                self.torrents.line_up(key);
            }
        }
    }

    fn has_room_to_dial(&self) -> bool {
        self.links.has_room(true, self.config.max_connections) && self.dial_at <= self.now
    }

    /// Begins a connection to the torrent's next candidate; says whether it had one.
    fn dial_one(&mut self, key: TorrentKey) -> bool {
        let now = self.now;
        let torrent = &mut self.torrents[key];
        let ours = Handshake::new(torrent.info_hash(), torrent.peer_id);
        let Some(Transfer { swarm, .. }) = torrent.running_mut() else { return false };
        let Some(address) = swarm.next_candidate(now) else { return false };
        if self.config.families.allow(address.ip()) {
            let stage = Stage::Connecting { torrent: key, deadline: now + CONNECT_TIMEOUT };
            let connection = Connection::outgoing(now, ours, None);
            let link = self.links.insert(Link::new(address, true, stage, connection));
            self.actions.push_back(Action::Connect { link, address });
        } else {
            swarm.handle_connect_failed(now, address, ConnectFailure::Unreachable);
        }
        true
    }
}

/// IPv4 addresses that are written as IPv6 ones are the same peers.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

//! Whom to connect to: every torrent that has an address to try has its turn.

use std::net::SocketAddr;
use std::time::Duration;

use piece_store::TorrentKey;
use swarm::{ConnectFailure, Source};

use super::Engine;
use super::action::Action;
use super::link::{Connecting, Link};
use super::torrent::Transfer;
use crate::limits::CONNECT_TIMEOUT;

impl<F> Engine<F> {
    /// The system has no more sockets to give: for a while no connection is begun.
    pub fn pause_dialing(&mut self, now: Duration) {
        self.links.pause_dialing(now);
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
        while self.links.has_room_to_dial(self.now)
            && let Some(key) = self.torrents.pop_to_dial()
        {
            if self.dial_one(key) {
                self.torrents.line_up(key);
            }
        }
    }

    /// Begins a connection to the torrent's next candidate. Returns whether it had one.
    fn dial_one(&mut self, key: TorrentKey) -> bool {
        let now = self.now;
        let Some(Transfer { swarm, .. }) = self.torrents.running_mut(key) else { return false };
        let Some(address) = swarm.next_candidate(now) else { return false };
        if self.config.families.allow(address.ip()) {
            let deadline = now + CONNECT_TIMEOUT;
            let link = Link::Connecting(Connecting { address, torrent: key, deadline });
            let link = self.links.insert(link);
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

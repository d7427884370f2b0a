//! Connects to candidates: torrents that have one take turns.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use piece_store::TorrentKey;
use swarm::{ConnectFailure, Source};

use super::Engine;
use super::action::Action;
use super::link::{Connecting, Link};
use crate::limits::CONNECT_TIMEOUT;

impl<F> Engine<F> {
    /// The system ran out of sockets: no connection is made for a while.
    pub fn pause_dialing(&mut self, now: Duration) {
        self.links.pause_dialing(now);
    }

    pub(super) fn take_candidates(
        &mut self,
        key: TorrentKey,
        source: Source,
        peers: &[SocketAddr],
    ) {
        if let Some(swarm) = self.torrents.running_swarm(key) {
            let peers: Vec<SocketAddr> = peers.iter().copied().map(canonical).collect();
            let _kept = swarm.handle_candidates(self.now, source, &peers);
            self.drain(key);
        }
    }

    /// Connects to candidates while there is room, one torrent after the other.
    pub(super) fn dial(&mut self) {
        while self.links.has_room_to_dial(self.now)
            && let Some(key) = self.torrents.pop_to_dial()
        {
            if self.dial_one(key) {
                self.line_up(key);
            }
        }
    }

    /// Connects to the torrent's next candidate. Returns whether it had one.
    fn dial_one(&mut self, key: TorrentKey) -> bool {
        let now = self.now;
        let Some(swarm) = self.torrents.running_swarm(key) else { return false };
        let Some(address) = swarm.next_candidate(now) else { return false };
        let source = swarm.source_of(address).unwrap_or(Source::Incoming);
        if self.config.families.allow(address.ip()) {
            let deadline = now + CONNECT_TIMEOUT;
            let link = Link::Connecting(Connecting { address, torrent: key, source, deadline });
            let link = self.links.insert(link);
            self.actions.push_back(Action::Connect { link, address });
        } else {
            swarm.handle_connect_failed(now, address, ConnectFailure::Unreachable);
        }
        true
    }
}

/// Returns an IPv4-mapped IPv6 address as IPv4: it is the same peer. Other addresses stay, with the
/// interface of one that is link-local.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

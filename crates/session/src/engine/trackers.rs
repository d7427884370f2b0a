//! Between swarms and their trackers: what a swarm wants announced goes out, answers come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply, AnnounceRequest, PeerHost, TrackerPeer};
use piece_store::TorrentKey;
use swarm::{AnnounceFailure, Source, TrackerIndex};

use super::action::Action;
use super::announces::{Announce, FetchFailure, Outcome};
use super::names::{Lookup, Resolved};
use super::{AnnounceKey, Engine};
use crate::event::{EventKind, TrackerReport};
use crate::limits::{MAX_AWAITED_PEER_NAMES, MAX_PEER_NAMES};

impl<F> Engine<F> {
    /// A fetcher is back.
    pub fn handle_fetched(
        &mut self,
        now: Duration,
        key: AnnounceKey,
        leg: usize,
        result: Result<AnnounceReply, FetchFailure>,
    ) {
        self.now = now;
        self.announces.handle_fetched(now, key, leg, result);
        self.settle();
    }

    /// A name was looked up.
    pub fn handle_resolved(&mut self, now: Duration, host: &str, result: Resolved) {
        self.now = now;
        let found = result.as_deref().unwrap_or_default().to_vec();
        self.announces.handle_resolved(now, host, result);
        for (torrent, port) in self.peer_names.remove(host).unwrap_or_default() {
            let peers: Vec<SocketAddr> =
                found.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            self.take_candidates(torrent, Source::Tracker, &peers);
        }
        self.settle();
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        self.announces.handle_datagram(now, from, bytes);
        self.settle();
    }

    pub(super) fn announce(
        &mut self,
        key: TorrentKey,
        tracker: TrackerIndex,
        url: &str,
        event: AnnounceEvent,
        num_want: u32,
        tracker_id: Option<Vec<u8>>,
    ) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.announces += 1;
        torrent.announced_at = self.now;
        let alone = torrent.announces == 1;
        let tracker_id = tracker_id.map(Vec::into_boxed_slice);
        let announce = Announce { torrent: key, tracker, event, num_want, tracker_id };
        if alone {
            self.announces.start(self.now, announce, url);
        } else {
            self.announces.start_in_order(self.now, announce, url);
        }
    }

    /// Sends the announces whose turn at their hosts has come.
    fn send_due_announces(&mut self) {
        while let Some((key, due)) = self.announces.poll_due() {
            let Announce { torrent, tracker, event, num_want, .. } = due.announce;
            // One that is forgotten has no announces: they were forgotten with it.
            let Some(torrent) = self.torrents.get(&torrent) else { continue };
            let request = AnnounceRequest {
                event: torrent.announced_event(event),
                num_want: Some(num_want),
                tracker_id: due.announce.tracker_id.as_deref().map(<[u8]>::to_vec),
                ip: self.config.announce_ip,
                ..torrent.announce_request(announced_port(self.config.listen_port))
            };
            self.announces.go(self.now, (key, due), torrent.tracker_url(tracker), request);
        }
    }

    pub(super) fn drain_announces(&mut self) {
        self.send_due_announces();
        while let Some(outcome) = self.announces.outcomes.pop_front() {
            match outcome {
                Outcome::Finished { announce, result } => self.handle_announced(&announce, result),
                Outcome::MorePeers { torrent, peers } => self.take_tracker_peers(torrent, &peers),
            }
            self.send_due_announces();
        }
        self.actions.append(&mut self.announces.actions);
    }

    fn handle_announced(
        &mut self,
        announce: &Announce,
        result: Result<AnnounceReply, AnnounceFailure>,
    ) {
        let now = self.now;
        let (key, tracker) = (announce.torrent, announce.tracker);
        self.announces.start_queued(now, key);
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.announces = torrent.announces.saturating_sub(1);
        let url = torrent.tracker_url(tracker).to_owned();
        let result = result.map(with_canonical_peers);
        if let Some(swarm) = torrent.swarm_mut() {
            swarm.handle_announced(now, tracker, result.as_ref().map_err(Clone::clone));
        }
        if let Ok(reply) = &result {
            self.look_up_peers(key, &reply.peers);
        }
        let result = result.map_err(|failure| failure.message).map(|reply| TrackerReport {
            interval: reply.interval,
            seeders: reply.seeders,
            leechers: reply.leechers,
            warning: reply.warning,
            peers: Arc::new(reply.peers),
        });
        self.emit(key, EventKind::Tracker { url, result });
        self.drain(key);
        self.end_goodbye(key);
    }

    fn take_tracker_peers(&mut self, key: TorrentKey, peers: &[TrackerPeer]) {
        let addresses: Vec<SocketAddr> = peers.iter().filter_map(TrackerPeer::address).collect();
        self.take_candidates(key, Source::Tracker, &addresses);
        self.look_up_peers(key, peers);
    }

    fn await_name(&mut self, key: TorrentKey, host: String, port: u16) {
        let waiting = self.peer_names.entry(host).or_default();
        if !waiting.contains(&(key, port)) {
            waiting.push((key, port));
        }
    }

    fn look_up_peers(&mut self, key: TorrentKey, peers: &[TrackerPeer]) {
        for (host, port) in named_peers(peers) {
            self.look_up_peer(key, host, port);
        }
    }

    /// A tracker named a peer by name (BEP 3): it is a candidate once its address is known.
    fn look_up_peer(&mut self, key: TorrentKey, host: String, port: u16) {
        let is_known = self.announces.names.is_known(self.now, &host);
        if !is_known && self.peer_names.len() >= MAX_AWAITED_PEER_NAMES {
            return;
        }
        match self.announces.names.look_up(self.now, &host, true) {
            Lookup::Known(Ok(ips)) => {
                let peers: Vec<SocketAddr> =
                    ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                self.take_candidates(key, Source::Tracker, &peers);
            }
            Lookup::Known(Err(_)) => {}
            Lookup::Asked => self.await_name(key, host, port),
            Lookup::Ask => {
                self.await_name(key, host.clone(), port);
                self.actions.push_back(Action::Resolve { host, of_peer: true });
            }
        }
    }
}

/// Most trackers refuse port 0. Nobody listens on port 1, so peers find out at once.
fn announced_port(listen_port: u16) -> u16 {
    listen_port.max(1)
}

/// IPv4 addresses that a tracker gives as IPv6 ones are the same peers.
fn with_canonical_peers(mut reply: AnnounceReply) -> AnnounceReply {
    for peer in &mut reply.peers {
        if let PeerHost::Ip(ip) = &mut peer.host {
            *ip = ip.to_canonical();
        }
    }
    reply
}

fn named_peers(peers: &[TrackerPeer]) -> Vec<(String, u16)> {
    let named = peers.iter().filter_map(|peer| match &peer.host {
        PeerHost::Name(name) => Some((name.clone(), peer.port)),
        PeerHost::Ip(_) => None,
    });
    named.take(MAX_PEER_NAMES).collect()
}

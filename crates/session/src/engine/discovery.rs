//! Peers come from the DHT and from the local network, too.

use std::net::SocketAddr;
use std::time::Duration;

use dht::Announce;
use lsd::{Lsd, Network, Transmit};
use piece_store::TorrentKey;
use swarm::Source;

use super::Engine;
use super::action::Action;
use super::dht::Found;
use super::dial::canonical;
use super::keys::LinkKey;
use crate::config::Description;

impl<F> Engine<F> {
    /// A datagram could not be sent.
    pub fn handle_send_failed(&mut self, now: Duration, to: SocketAddr) {
        self.now = now;
        if let Some(dht) = &mut self.dht {
            dht.handle_send_failed(now, to);
        }
        self.settle();
    }

    /// Returns what the next launch should know of the DHT, as bytes for
    /// [`DhtConfig::state`](crate::DhtConfig::state). `None` if there was no DHT.
    pub fn dht_state(&self) -> Option<Vec<u8>> {
        Some(self.dht.as_ref()?.save()?.encode())
    }

    /// A datagram came from the local network.
    pub fn handle_local_datagram(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if let Some(lsd) = &mut self.lsd {
            lsd.handle_datagram(now, canonical(from), bytes);
        }
        self.settle();
    }

    /// This machine is in these networks now.
    pub fn set_local_networks(&mut self, networks: Vec<Network>) {
        if let Some(lsd) = &mut self.lsd {
            lsd.set_networks(networks);
        }
    }

    /// Looks for peers of a torrent in the DHT and in the local network, if it is public.
    pub(super) fn seek_peers(&mut self, key: TorrentKey) {
        self.seek_in_dht(key);
        self.seek_locally(key);
    }

    /// Looks for no more peers of a torrent there.
    pub(super) fn stop_seeking(&mut self, key: TorrentKey) {
        if let Some(dht) = &mut self.dht {
            dht.forget(key);
        }
        if let Some(lsd) = &mut self.lsd {
            lsd.stop(self.torrents[key].info_hash());
        }
    }

    /// A link with trackers is not announced before its metadata is there: it may turn out private,
    /// and its trackers name peers.
    fn seek_locally(&mut self, key: TorrentKey) {
        let Some(lsd) = &mut self.lsd else { return };
        let torrent = &self.torrents[key];
        let is_public = match &torrent.add.description {
            Description::Link(link) => link.trackers.is_empty(),
            Description::Metainfo(metainfo) => !metainfo.info().private(),
        };
        if is_public && torrent.swarm().is_some() {
            lsd.announce(self.now, torrent.info_hash());
        } else {
            lsd.stop(torrent.info_hash());
        }
    }

    /// One that has no metadata yet is not announced: it may turn out private.
    fn seek_in_dht(&mut self, key: TorrentKey) {
        let Some(dht) = &mut self.dht else { return };
        let torrent = &self.torrents[key];
        let Some(swarm) = torrent.swarm().filter(|_| !torrent.is_private()) else {
            return dht.forget(key);
        };
        let seed = swarm.pieces().is_some_and(|pieces| pieces.have().is_full());
        let port = self.config.listen_port;
        let description = &torrent.add.description;
        let has_metadata = description.metainfo().is_some();
        let is_announced =
            has_metadata && port > 1 && torrent.add.announce && swarm.pieces().is_some();
        let announce = if is_announced { Announce::Port { port, seed } } else { Announce::No };
        dht.want(self.now, key, torrent.info_hash(), announce, description.dht_nodes());
    }

    /// A peer's node of the DHT listens on this UDP port (BEP 5, "PORT").
    pub(super) fn handle_node_port(&mut self, key: LinkKey, port: u16) {
        let Some(link) = self.links.open_mut(key) else { return };
        if let Some(dht) = &mut self.dht
            && !self.torrents[link.torrent].is_private()
        {
            dht.handle_node(self.now, SocketAddr::new(link.address.ip(), port));
        }
    }

    /// Whether to say in handshakes of a torrent that we have a node.
    pub(super) fn offers_node(&self, key: TorrentKey) -> bool {
        let answers = self.config.dht.as_ref().is_some_and(|dht| !dht.read_only);
        answers && self.config.datagram_port != 0 && !self.torrents[key].is_private()
    }

    /// Lines a torrent up for what it waits for, and sets its timer.
    pub(super) fn line_up(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get(key) else { return };
        let is_link = matches!(torrent.add.description, Description::Link(_));
        let may_find = || self.dht.as_ref().is_some_and(|dht| dht.may_find(key, is_link));
        self.torrents.line_up(self.now, key, may_find);
    }

    pub(super) fn drain_dht(&mut self) {
        let Some(dht) = &mut self.dht else { return };
        while let Some(host) = dht.poll_name() {
            self.actions.push_back(Action::Resolve { host, of_peer: false });
        }
        while let Some((to, bytes)) = dht.poll_transmit() {
            self.actions.push_back(Action::Datagram { to, bytes });
        }
        while let Some(found) = self.dht.as_mut().and_then(|dht| dht.poll_peers()) {
            self.take_found(&found);
        }
    }

    fn take_found(&mut self, found: &Found) {
        let Some(informant) = found.informant else {
            return self.take_candidates(found.torrent, Source::Dht, &found.peers);
        };
        if let Some(swarm) = self.torrents.running_swarm(found.torrent) {
            let _kept = swarm.handle_node_peers(self.now, informant, &found.peers);
            self.drain(found.torrent);
        }
    }

    pub(super) fn drain_lsd(&mut self) {
        let Some(lsd) = &mut self.lsd else { return };
        while let Some(Transmit { group, bytes }) = lsd.poll_transmit(self.now) {
            self.actions.push_back(Action::Multicast { group, bytes });
        }
        while let Some(peer) = self.lsd.as_mut().and_then(Lsd::poll_event) {
            if let Some(torrent) = self.torrents.by_info_hash(peer.info_hash) {
                self.take_candidates(torrent, Source::Local, &[peer.address]);
            }
        }
    }
}

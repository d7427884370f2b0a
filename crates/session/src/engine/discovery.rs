//! Peers come from the DHT, too.

use std::net::SocketAddr;
use std::time::Duration;

use dht::Announce;
use piece_store::TorrentKey;
use swarm::Source;

use super::Engine;
use super::action::Action;
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

    /// Looks for peers of a torrent in the DHT if it is public. One that has no metadata yet is
    /// not announced: it may turn out private.
    pub(super) fn seek_peers(&mut self, key: TorrentKey) {
        let Some(dht) = &mut self.dht else { return };
        let torrent = &self.torrents[key];
        let Some(swarm) = torrent.swarm().filter(|_| !torrent.is_private()) else {
            return dht.forget(key);
        };
        let seed = swarm.pieces().is_some_and(|pieces| pieces.have().is_full());
        let port = self.config.listen_port;
        let (announce, hints) = match &torrent.add.description {
            Description::Link(link) => (Announce::No, link.dht_nodes.clone()),
            Description::Metainfo(metainfo) => {
                let nodes = metainfo.nodes().iter().map(|it| format!("{}:{}", it.host, it.port));
                let is_announced = port > 1 && torrent.add.announce && swarm.pieces().is_some();
                let port = Announce::Port { port, seed };
                (if is_announced { port } else { Announce::No }, nodes.collect())
            }
        };
        dht.want(self.now, key, torrent.info_hash(), announce, hints);
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
        let has_port = self.config.datagram_port != 0;
        self.dht.is_some() && has_port && !self.torrents[key].is_private()
    }

    /// Lines a torrent up for what it waits for, and sets its timer.
    pub(super) fn line_up(&mut self, key: TorrentKey) {
        let may_find = self.dht.as_ref().is_some_and(|dht| dht.may_find(key));
        self.torrents.line_up(self.now, key, may_find);
    }

    pub(super) fn drain_dht(&mut self) {
        let Some(dht) = &mut self.dht else { return };
        while let Some(host) = dht.poll_name() {
            self.actions.push_back(Action::Resolve { host, of_peer: true });
        }
        while let Some((to, bytes)) = dht.poll_transmit(self.now) {
            self.actions.push_back(Action::Datagram { to, bytes });
        }
        while let Some((torrent, peers)) = self.dht.as_mut().and_then(|dht| dht.poll_peers()) {
            self.take_candidates(torrent, Source::Dht, &peers);
        }
    }
}

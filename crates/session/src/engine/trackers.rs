//! Sends the announces of torrents, and passes the answers on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{AnnounceReply, AnnounceRequest};
use piece_store::TorrentKey;
use swarm::{AnnounceFailure, TrackerIndex};

use super::announce::{Answer, Fetched, Resolved};
use super::datagram::{Datagram, classify};
use super::dial::canonical;
use super::{AnnounceKey, Engine};
use crate::event::{EventKind, TrackerReport};

impl<F> Engine<F> {
    /// A fetcher is done.
    pub fn handle_fetched(&mut self, now: Duration, key: AnnounceKey, leg: usize, result: Fetched) {
        self.now = now;
        self.announces.handle_fetched(now, key, leg, result);
        self.settle();
    }

    /// A name was looked up.
    pub fn handle_resolved(&mut self, now: Duration, host: &str, result: Resolved) {
        self.now = now;
        if let Some(dht) = &mut self.dht {
            dht.handle_resolved(now, host, &result);
        }
        self.announces.handle_resolved(now, host, result);
        self.settle();
    }

    /// A datagram arrived.
    pub fn handle_datagram(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        match classify(bytes) {
            Datagram::Tracker => self.announces.handle_datagram(now, from, bytes),
            Datagram::Dht => {
                if let Some(dht) = &mut self.dht {
                    dht.handle_datagram(now, canonical(from), bytes);
                }
            }
            Datagram::Unknown => {}
        }
        self.settle();
    }

    pub(super) fn drain_announces(&mut self) {
        self.send_due_announces();
        while let Some(answer) = self.announces.poll_answer(self.now) {
            match answer {
                Answer::Finished { torrent, tracker, url, result } => {
                    self.handle_announced(torrent, tracker, url, result);
                }
                Answer::Peers { torrent, source, peers } => {
                    self.take_candidates(torrent, source, &peers);
                }
            }
            self.send_due_announces();
        }
        self.actions.append(&mut self.announces.take_actions());
    }

    /// Sends the announces that their hosts admit.
    fn send_due_announces(&mut self) {
        while let Some((key, event)) = self.announces.poll_admitted() {
            let request = AnnounceRequest {
                ip: self.config.announce_ip,
                port: announced_port(self.config.listen_port),
                ..self.torrents[key.torrent].announce_request(event)
            };
            self.announces.send(self.now, key, request);
        }
    }

    fn handle_announced(
        &mut self,
        key: TorrentKey,
        tracker: TrackerIndex,
        url: String,
        result: Result<AnnounceReply, AnnounceFailure>,
    ) {
        if let Some(swarm) = self.torrents[key].swarm_mut() {
            swarm.handle_announced(self.now, tracker, result.as_ref().map_err(Clone::clone));
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
}

/// Returns port 1 in place of 0, which most trackers refuse. Connections to port 1 fail at once.
fn announced_port(listen_port: u16) -> u16 {
    listen_port.max(1)
}

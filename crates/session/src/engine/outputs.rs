//! Outputs of swarms become messages, jobs, announces and events.

use peer_wire::{Connection, Pex, PexFlags, PexPeer};
use piece_store::TorrentKey;
use swarm::{Output, PeerKey, PexEntry, SpanBudget};

use super::Engine;
use super::announce::Announce;
use super::keys::LinkKey;
use super::torrent::Transfer;
use crate::event::{EventKind, PeerState};
use crate::limits::MAX_FED;

impl<F> Engine<F> {
    /// The time of a torrent came.
    pub(super) fn handle_torrent_timeout(&mut self, key: TorrentKey) {
        let now = self.now;
        if let Some(swarm) = self.torrents.running_swarm(key)
            && swarm.poll_timeout().is_some_and(|at| at <= now)
        {
            swarm.handle_timeout(now);
        }
        if let Some(metadata) = self.torrents[key].metadata_mut() {
            metadata.handle_timeout(now);
        }
        self.drain(key);
        self.stop_at_goal(key);
        self.end_goodbye(key);
    }

    /// Drains the outputs of a torrent's swarm, then updates its sync, its lines and its timer.
    pub(super) fn drain(&mut self, key: TorrentKey) {
        let mut completed = false;
        while let Some(output) = self.poll_swarm(key) {
            completed |= output == Output::Completed;
            self.apply(key, output);
        }
        if completed {
            self.send_hellos(key);
        }
        self.drain_metadata(key);
        self.sync_if_due(key);
        self.line_up(key);
    }

    fn poll_swarm(&mut self, key: TorrentKey) -> Option<Output> {
        let torrent = self.torrents.get_mut(key)?;
        let mut none = SpanBudget::new(0);
        let full = |transfer: &mut Transfer| transfer.durability.is_full();
        let closed = torrent.running_mut().is_none_or(full);
        let budget = if closed { &mut none } else { &mut self.disk.buffers.budget };
        torrent.swarm_mut()?.poll_output(self.now, budget)
    }

    /// Polls torrents that wait for memory, if some was released.
    pub(super) fn feed_starved(&mut self) {
        if !self.disk.buffers.take_released() {
            return;
        }
        for _ in 0..self.torrents.starved().min(MAX_FED) {
            if let Some(key) = self.torrents.pop_starved(&self.disk.buffers.budget) {
                self.drain(key);
            }
        }
    }

    fn apply(&mut self, key: TorrentKey, output: Output) {
        match output {
            Output::Request { peer, request } => self.send(peer, |link| link.request(request)),
            Output::Cancel { peer, request } => self.send(peer, |link| link.cancel(request)),
            Output::Interested { peer } => self.send(peer, Connection::interested),
            Output::NotInterested { peer } => {
                self.send(peer, Connection::not_interested);
            }
            Output::Choke { peer } => self.send(peer, Connection::choke),
            Output::Unchoke { peer } => self.send(peer, Connection::unchoke),
            Output::Have { peer, piece } => self.send(peer, |link| link.have(piece)),
            Output::Pex { peer, added, dropped } => {
                let pex = Pex { added: added.into_iter().map(pex_peer).collect(), dropped };
                self.send(peer, |link| link.pex(&pex));
            }
            Output::Disconnect { peer, reason } => {
                self.drop_link(LinkKey::of_peer(peer), &reason.to_string());
            }
            Output::OpenSpans { piece, spans } => {
                self.torrents.transfer(key).open_spans(piece, spans, &mut self.disk.buffers);
            }
            Output::StageSpan { piece, span } => {
                match self.torrents.transfer(key).stage_span(key, piece, span) {
                    Ok(job) => job.into_iter().for_each(|job| self.submit(key, job)),
                    Err(unused) => self.take_back(key, [unused]),
                }
            }
            Output::ClosePiece { piece } => {
                let buffers = self.torrents.transfer(key).buffers.close(piece);
                self.take_back(key, buffers);
            }
            Output::Commit { piece, digests } => {
                let job = self.torrents.transfer(key).buffers.commit(key, piece, digests);
                job.into_iter().for_each(|job| self.submit(key, job));
            }
            Output::Announce { tracker, url, event, num_want, tracker_id } => {
                let tracker_id = tracker_id.map(Vec::into_boxed_slice);
                let announce = Announce { tracker, url, event, num_want, tracker_id };
                self.announces.start(self.now, key, announce);
            }
            Output::Banned { address, source } => self.emit(
                key,
                EventKind::Peer {
                    address,
                    source,
                    state: PeerState::Banned,
                    reason: Some("it sent bad data".to_owned()),
                },
            ),
            Output::Completed => {
                self.seek_peers(key);
                self.torrents.transfer(key).completion_due = true;
                self.report_completion(key);
            }
        }
    }

    /// Queues a message for a peer and has it sent.
    fn send<R>(&mut self, peer: PeerKey, message: impl FnOnce(&mut Connection) -> R) {
        let key = LinkKey::of_peer(peer);
        if let Some(link) = self.links.open_mut(key) {
            message(&mut link.connection);
            self.transmit(key);
        }
    }
}

fn pex_peer(entry: PexEntry) -> PexPeer {
    let flag = |set, flag| if set { flag } else { PexFlags::default() };
    let seed = flag(entry.seed, PexFlags::SEED);
    let flags = seed.with(flag(entry.reachable, PexFlags::REACHABLE));
    PexPeer { address: entry.address, flags }
}

//! Carries out what swarms want: decisions become messages, jobs and announces.

use piece_store::{Job, TorrentKey};
use swarm::{Output, PeerKey, SpanBudget};

use super::Core;
use super::action::Action;
use super::link::LinkKey;
use super::torrent::Phase;
use crate::event::{EventKind, PeerState};

impl Core {
    /// Drains a swarm's outputs, then sees to its timer and its pending work.
    pub(super) fn drain(&mut self, key: TorrentKey) {
        while let Some(output) = self.poll_swarm(key) {
            self.apply(key, output);
        }
        self.note_starved(key);
        self.sync_if_due(key);
        self.set_timer(key);
    }

    fn poll_swarm(&mut self, key: TorrentKey) -> Option<Output> {
        let torrent = self.torrents.get_mut(&key)?;
        let mut none = SpanBudget::new(0);
        let stopping = matches!(torrent.phase, Phase::Stopping(_));
        let budget =
            if stopping || torrent.durability.is_full() { &mut none } else { &mut self.budget };
        torrent.swarm_mut()?.poll_output(self.now, budget)
    }

    fn note_starved(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if torrent.transfer_mut().is_some_and(|swarm| swarm.is_starved()) {
            self.starved.insert(key);
        }
    }

    /// Gives memory back and lets the torrents that wait for some go on.
    pub(super) fn release(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.budget.release(bytes);
        while self.budget.available() > 0 {
            let Some(key) = self.starved.pop_first() else { return };
            let before = self.budget.available();
            self.drain(key);
            if self.budget.available() == before {
                return;
            }
        }
    }

    fn apply(&mut self, key: TorrentKey, output: Output) {
        match output {
            Output::Request { peer, request } => self.tell(peer, |link| link.request(request)),
            Output::Cancel { peer, request } => self.tell(peer, |link| link.cancel(request)),
            Output::Interested { peer } => self.tell(peer, peer_wire::Connection::interested),
            Output::NotInterested { peer } => {
                self.tell(peer, peer_wire::Connection::not_interested);
            }
            Output::Choke { peer } => self.tell(peer, peer_wire::Connection::choke),
            Output::Unchoke { peer } => self.tell(peer, peer_wire::Connection::unchoke),
            Output::Have { peer, piece } => self.tell(peer, |link| link.have(piece)),
            Output::Reject { peer, request } => self.tell(peer, |link| link.reject(request)),
            Output::Disconnect { peer, reason } => {
                self.drop_link(LinkKey::of_peer(peer), &reason.to_string());
            }
            Output::OpenSpans { piece, spans } => self.open_spans(key, piece, spans),
            Output::StageSpan { piece, span } => self.stage_span(key, piece, span),
            Output::ClosePiece { piece } => self.close_piece(key, piece),
            Output::Commit { piece, digests } => self.commit(key, piece, digests),
            Output::Announce { tracker, url, event, num_want, tracker_id } => {
                self.announce(key, tracker, &url, event, num_want, tracker_id);
            }
            Output::Banned { address } => self.emit(
                key,
                EventKind::Peer {
                    address,
                    state: PeerState::Banned,
                    reason: Some("it sent bad data".to_owned()),
                },
            ),
            Output::Completed => self.handle_all_verified(key),
            _ => log::error!("an output of the swarm that the session does not know"),
        }
    }

    /// Queues a message for a peer and has it sent.
    fn tell<R>(&mut self, peer: PeerKey, say: impl FnOnce(&mut peer_wire::Connection) -> R) {
        let key = LinkKey::of_peer(peer);
        if let Some(link) = self.links.get_mut(key) {
            say(&mut link.connection);
            self.transmit(key);
        }
    }

    /// Has the caller drain the link's send queue.
    pub(super) fn transmit(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.transmit_due {
            link.transmit_due = true;
            self.actions.push_back(Action::Transmit { link: key });
        }
    }

    fn open_spans(
        &mut self,
        key: TorrentKey,
        piece: bt_types::PieceIndex,
        spans: std::ops::Range<u32>,
    ) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let geometry = torrent.add.metainfo.info().geometry();
        for span in spans {
            let length = piece_store::span_length(&geometry, piece, span);
            let mut buffer = self.buffers.pop().unwrap_or_default();
            buffer.resize(length);
            let slot = torrent.open.piece(piece).spans.get_mut(span as usize);
            if let Some(slot) = slot {
                *slot = Some(buffer);
            }
        }
    }

    fn stage_span(&mut self, key: TorrentKey, piece: bt_types::PieceIndex, span: u32) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Some(swarm) = torrent.swarm() else { return };
        let blocks = block_mask(swarm, piece, span);
        let open = torrent.open.piece(piece);
        let Some(taken) = open.spans.get_mut(span as usize).and_then(Option::take) else { return };
        open.staging += 1;
        self.submit(key, Job::Stage { torrent: key, piece, span_index: span, span: taken, blocks });
    }

    fn close_piece(&mut self, key: TorrentKey, piece: bt_types::PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let cost = torrent.open.layout.span_length() as usize;
        let Some(open) = torrent.open.pieces.remove(&piece) else { return };
        let mut released = 0;
        for span in open.spans.into_iter().flatten() {
            self.buffers.push(span);
            released += cost;
        }
        self.release(released);
    }

    fn commit(&mut self, key: TorrentKey, piece: bt_types::PieceIndex, digests: bool) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.open.piece(piece).commit = Some(digests);
        self.commit_when_staged(key, piece);
    }

    /// Hands the piece to the store once nothing of it is being staged any more.
    pub(super) fn commit_when_staged(&mut self, key: TorrentKey, piece: bt_types::PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Some(open) = torrent.open.pieces.get(&piece) else { return };
        let (Some(digests), 0) = (open.commit, open.staging) else { return };
        let Some(open) = torrent.open.pieces.remove(&piece) else { return };
        let spans = open.spans;
        self.submit(key, Job::Commit { torrent: key, piece, spans, digests });
    }

    /// Hands a job to the store and counts it.
    pub(super) fn submit(&mut self, key: TorrentKey, job: Job) {
        if let Some(torrent) = self.torrents.get_mut(&key) {
            torrent.jobs += 1;
        }
        self.actions.push_back(Action::Store(job));
    }
}

/// The blocks of a span that are in: bit n stands for its block n.
pub(super) fn block_mask(swarm: &swarm::Swarm, piece: bt_types::PieceIndex, span: u32) -> u16 {
    let first = swarm.spans().blocks(piece, span).start;
    let bits = swarm.blocks_in(piece, span).map(|block| block - first).filter(|bit| *bit < 16);
    bits.fold(0, |mask, bit| mask | (1 << bit))
}

//! Carries out what swarms want: decisions become messages, jobs and announces.

use bt_types::PieceIndex;
use piece_store::{Job, Span, TorrentKey};
use swarm::{Output, PeerKey, SpanBudget};

use super::Core;
use super::action::Action;
use super::link::LinkKey;
use super::open::blocks_in;
use crate::event::{EventKind, PeerState};
use crate::limits::MAX_FED;

impl<F> Core<F> {
    /// Drains a swarm's outputs, then sees to its timer and its pending work.
    pub(super) fn drain(&mut self, key: TorrentKey) {
        while let Some(output) = self.poll_swarm(key) {
            self.apply(key, output);
        }
        self.tell_upload_only(key);
        self.note_starved(key);
        self.sync_if_due(key);
        self.queue_to_dial(key);
        self.set_timer(key);
    }

    fn poll_swarm(&mut self, key: TorrentKey) -> Option<Output> {
        let torrent = self.torrents.get_mut(&key)?;
        let mut none = SpanBudget::new(0);
        let closed = torrent.is_stopping() || torrent.durability.is_full();
        let budget = if closed { &mut none } else { &mut self.buffers.budget };
        torrent.swarm_mut()?.poll_output(self.now, budget)
    }

    fn note_starved(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let starved = torrent.transfer_mut().is_some_and(|swarm| swarm.is_starved());
        if starved && !std::mem::replace(&mut torrent.waits_for_memory, true) {
            self.starved.push_back(key);
        }
    }

    /// Lets torrents that wait for memory go on, if some was released.
    pub(super) fn feed_starved(&mut self) {
        if !std::mem::take(&mut self.memory_freed) {
            return;
        }
        for _ in 0..self.starved.len().min(MAX_FED) {
            let Some(key) = self.starved.pop_front() else { return };
            let Some(torrent) = self.torrents.get_mut(&key) else { continue };
            let short = torrent.swarm().is_some_and(|swarm| swarm.is_short(&self.buffers.budget));
            if short {
                self.starved.push_back(key);
            } else {
                torrent.waits_for_memory = false;
                self.drain(key);
            }
        }
    }

    /// Takes buffers of `key`'s pieces back and releases their memory.
    pub(super) fn take_back(&mut self, key: TorrentKey, spans: impl IntoIterator<Item = Span>) {
        let Some(torrent) = self.torrents.get(&key) else { return };
        let capacity = torrent.open.layout.span_length();
        for span in spans {
            self.buffers.give(capacity, span);
            self.memory_freed = true;
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

    fn open_spans(&mut self, key: TorrentKey, piece: PieceIndex, spans: std::ops::Range<u32>) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let geometry = torrent.geometry();
        let capacity = torrent.open.layout.span_length();
        for span in spans {
            let length = piece_store::span_length(&geometry, piece, span);
            let buffer = self.buffers.take(capacity, length);
            if let Some(unused) = torrent.open.open(piece, span, buffer) {
                self.buffers.give(capacity, unused);
            }
        }
    }

    fn stage_span(&mut self, key: TorrentKey, piece: PieceIndex, span: u32) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let Some(swarm) = torrent.swarm() else { return };
        let blocks = blocks_in(swarm, piece, span);
        match torrent.open.stage(blocks, piece, span) {
            Ok(job) => job.into_iter().for_each(|job| self.submit(key, job)),
            Err(unused) => self.take_back(key, [unused]),
        }
    }

    fn close_piece(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        let buffers = torrent.open.close(piece);
        self.take_back(key, buffers);
    }

    fn commit(&mut self, key: TorrentKey, piece: PieceIndex, digests: bool) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        torrent.open.commit(piece, digests);
        self.commit_if_ready(key, piece);
    }

    /// Hands the piece to the store once it is whole and nothing of it is being staged.
    pub(super) fn commit_if_ready(&mut self, key: TorrentKey, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&key) else { return };
        if let Some(job) = torrent.open.poll_commit(piece) {
            self.submit(key, job);
        }
    }

    /// Hands a job to the store and counts it.
    pub(super) fn submit(&mut self, key: TorrentKey, job: Job) {
        if let Some(torrent) = self.torrents.get_mut(&key) {
            torrent.jobs += 1;
        }
        self.jobs += 1;
        self.actions.push_back(Action::Store(job));
    }
}

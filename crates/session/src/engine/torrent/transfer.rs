//! The exchange of pieces with peers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bt_types::{BlockRequest, PieceIndex};
use metainfo::Metainfo;
use peer_wire::Received;
use piece_store::{CommitResult, HeldSpan, Job, Span, StoreError, TorrentKey};
use swarm::{BlockFate, Committed, PeerKey, SpanLayout, Swarm};

use super::durability::Durability;
use super::messages::report;
use super::progress::Progress;
use crate::engine::disk::{Buffers, PieceBuffers, blocks_in};

/// A torrent that exchanges pieces.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(super) metainfo: Arc<Metainfo>,
    pub(crate) swarm: Swarm,
    pub(crate) buffers: PieceBuffers,
    pub(crate) durability: Durability,
    pub(super) progress: Progress,
    /// The file system of the data. Syncs take turns there.
    pub(crate) file_system: u64,
    /// When the last piece was verified, or the transfer began.
    pub(super) last_piece_at: Duration,
    /// Whether the user waits for [`EventKind::Completed`](crate::EventKind::Completed).
    pub(crate) completion_due: bool,
}

impl Transfer {
    /// A message of a peer arrived. Returns it if it is a request that is not served.
    pub(crate) fn handle_received(
        &mut self,
        now: Duration,
        peer: PeerKey,
        received: Received<'_>,
    ) -> Option<BlockRequest> {
        match received {
            Received::Block { request, offset, bytes, last } => {
                self.handle_part(now, peer, request, offset, bytes);
                if last {
                    self.swarm.handle_block(now, peer, request);
                }
            }
            Received::Request(request) => {
                return Some(request).filter(|_| !self.swarm.serves(peer, request.piece()));
            }
            message => report(&mut self.swarm, now, peer, &message),
        }
        None
    }

    /// Copies a part of a block into its span, if it is needed.
    fn handle_part(
        &mut self,
        now: Duration,
        peer: PeerKey,
        request: BlockRequest,
        offset: u32,
        bytes: &[u8],
    ) {
        let fate = self.swarm.handle_part(now, peer, request, offset);
        self.swarm.handle_payload(now, peer, bytes.len() as u32);
        if fate == BlockFate::Discard {
            return;
        }
        let layout = self.layout();
        let span = self.buffers.span_at(layout, request.piece(), request.offset() + offset);
        let target = span.and_then(|(span, start)| span.get_mut(start..start + bytes.len()));
        match target {
            Some(target) => target.copy_from_slice(bytes),
            None => log::error!("a part of {request:?} has no span"),
        }
    }

    /// The store has answered a commit.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn handle_committed(
        &mut self,
        now: Duration,
        piece: PieceIndex,
        commit: CommitResult,
    ) -> Result<(), StoreError> {
        let info = self.metainfo.info();
        let mut result = Ok(());
        let committed = match commit {
            CommitResult::Verified { digests } => {
                self.durability.handle_written(now, info.geometry().length_of(piece).into());
                self.progress.gain(info, piece);
                self.last_piece_at = now;
                Committed::Verified { digests }
            }
            CommitResult::Mismatch { digests } => Committed::Mismatch { digests },
            CommitResult::Failed(error) => {
                result = Err(error);
                Committed::Failed
            }
        };
        self.swarm.handle_committed(now, piece, committed);
        result
    }

    /// A sync has ended, and lost these pieces.
    pub(crate) fn handle_synced(&mut self, now: Duration, lost: &[u32]) {
        let info = self.metainfo.info();
        self.durability.handle_synced(now);
        for piece in lost.iter().filter_map(|index| info.geometry().piece(*index)) {
            self.swarm.handle_lost(now, piece);
        }
        if !lost.is_empty() {
            let pieces = self.swarm.pieces();
            self.progress = pieces
                .map_or(self.progress, |pieces| Progress::of(info, pieces.wanted(), pieces.have()));
        }
    }

    /// Opens buffers for spans whose memory is reserved.
    pub(crate) fn open_spans(
        &mut self,
        piece: PieceIndex,
        spans: Range<u32>,
        buffers: &mut Buffers,
    ) {
        let (geometry, layout) = (self.metainfo.info().geometry(), self.layout());
        for span in spans {
            let length = piece_store::span_length(&geometry, piece, span);
            let buffer = buffers.take(layout.span_length(), length);
            if let Some(unused) = self.buffers.open(layout, piece, span, buffer) {
                buffers.give(layout.span_length(), unused);
            }
        }
    }

    fn layout(&self) -> SpanLayout {
        SpanLayout::new(self.metainfo.info().geometry())
    }

    /// Whether to sync now: enough is unsynced, or only the sync is missing to the completion.
    pub(crate) fn is_sync_due(&self, now: Duration) -> bool {
        self.durability.is_sync_due(now, self.completion_due)
    }

    /// Returns the job that stages a span, or its buffer if no block came since it was opened.
    pub(crate) fn stage_span(
        &mut self,
        torrent: TorrentKey,
        piece: PieceIndex,
        span: u32,
    ) -> Result<Option<Job>, Span> {
        self.buffers.stage(torrent, piece, span, blocks_in(&self.swarm, piece, span))
    }

    /// Takes the buffers of all unfinished pieces.
    pub(super) fn take_buffers(&mut self) -> Vec<HeldSpan> {
        self.buffers.take_all(|piece, span| blocks_in(&self.swarm, piece, span))
    }

    /// Whether to report the completion now.
    pub(super) fn take_completion(&mut self) -> bool {
        let complete = self.completion_due && self.durability.is_clean();
        self.completion_due &= !complete;
        complete
    }
}

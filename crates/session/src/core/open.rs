//! The pieces being received: their buffers, and what of them lies on the disk already.
//!
//! ```text
//!  open --> blocks come --> stage: to the disk before the piece is whole, the buffer comes back
//!                      '--> commit: once nothing is being staged any more
//! ```
//!
//! A block is staged once: a buffer that is opened again holds only what came since. After `close` a
//! new attempt begins, and what the store still stages of the old one is waited for, or it might be
//! written over the new one.

use std::collections::BTreeMap;

use bt_types::{OnDemand, PieceIndex};
use piece_store::{HeldSpan, Job, Span, TorrentKey};
use swarm::{SpanLayout, Swarm};

/// The swarm decides in spans and the store takes them: they must mean the same.
const _: () = assert!(swarm::SPAN_LENGTH == piece_store::SPAN_LENGTH);

/// The pieces being received of one torrent.
#[derive(Debug)]
pub(super) struct OpenPieces {
    pub(super) layout: SpanLayout,
    torrent: TorrentKey,
    pieces: OnDemand<BTreeMap<PieceIndex, OpenPiece>>,
    /// How often pieces that were closed have been tried, and what is still being staged of that.
    ended: OnDemand<BTreeMap<PieceIndex, Ended>>,
}

#[derive(Debug, Default)]
struct OpenPiece {
    spans: Vec<Slot>,
    /// Spans the store is staging.
    staging: usize,
    /// Spans to be staged once nothing is left of the attempt before.
    delayed: Vec<Job>,
    /// The piece is whole; says whether digests are wanted.
    commit: Option<bool>,
}

#[derive(Debug, Default)]
struct Slot {
    /// `None`: not open, or given to the store.
    buffer: Option<Span>,
    /// Blocks that lie on the disk, or are on their way there.
    staged: u16,
}

#[derive(Debug, Default)]
struct Ended {
    attempts: u32,
    staging: usize,
}

impl OpenPieces {
    pub(super) fn new(torrent: TorrentKey, layout: SpanLayout) -> Self {
        Self { layout, torrent, pieces: OnDemand::default(), ended: OnDemand::default() }
    }

    /// Takes in blocks that an earlier run left on the disk.
    pub(super) fn resume(&mut self, unfinished: &[(PieceIndex, Vec<u32>)]) {
        for (piece, blocks) in unfinished {
            let layout = self.layout;
            let open = self.piece(*piece);
            for (span, slot) in (0..).zip(&mut open.spans) {
                slot.staged = mask(layout, *piece, span, blocks.iter().copied());
            }
        }
    }

    /// Keeps `buffer` for a span; gives back what the span held, or a buffer without a place.
    pub(super) fn open(&mut self, piece: PieceIndex, span: u32, buffer: Span) -> Option<Span> {
        match self.piece(piece).spans.get_mut(span as usize) {
            Some(slot) => slot.buffer.replace(buffer),
            None => Some(buffer),
        }
    }

    /// The open span at `offset` of `piece`, and the offset inside it.
    pub(super) fn span_at(&mut self, piece: PieceIndex, offset: u32) -> Option<(&mut Span, usize)> {
        let index = self.layout.span_of(offset);
        let start = index * self.layout.span_length();
        let slot = self.pieces.get_mut(&piece)?.spans.get_mut(index as usize)?;
        Some((slot.buffer.as_mut()?, (offset - start) as usize))
    }

    /// The job that stages a span; or its buffer, if nothing came since it was opened.
    pub(super) fn stage(
        &mut self,
        swarm_blocks: u16,
        piece: PieceIndex,
        span_index: u32,
    ) -> Result<Option<Job>, Span> {
        let (torrent, late) = (self.torrent, self.is_late(piece));
        let attempt = self.attempt(piece);
        let Some(open) = self.pieces.get_mut(&piece) else { return Ok(None) };
        let Some(slot) = open.spans.get_mut(span_index as usize) else { return Ok(None) };
        let Some(span) = slot.buffer.take() else { return Ok(None) };
        let blocks = swarm_blocks & !slot.staged;
        if blocks == 0 {
            return Err(span);
        }
        slot.staged |= blocks;
        let job = Job::Stage { torrent, piece, attempt, span_index, span, blocks };
        if late {
            open.delayed.push(job);
            return Ok(None);
        }
        open.staging += 1;
        Ok(Some(job))
    }

    /// A span of `piece` was staged; gives the jobs that waited for it.
    pub(super) fn handle_staged(&mut self, piece: PieceIndex) -> Vec<Job> {
        if let Some(ended) = self.ended.get_mut(&piece).filter(|ended| ended.staging > 0) {
            ended.staging -= 1;
            if ended.staging > 0 {
                return Vec::new();
            }
        } else if let Some(open) = self.pieces.get_mut(&piece) {
            open.staging = open.staging.saturating_sub(1);
        }
        let Some(open) = self.pieces.get_mut(&piece) else { return Vec::new() };
        let jobs = std::mem::take(&mut open.delayed);
        open.staging += jobs.len();
        jobs
    }

    /// Every block of `piece` is in.
    pub(super) fn commit(&mut self, piece: PieceIndex, digests: bool) {
        self.piece(piece).commit = Some(digests);
    }

    /// The job that commits `piece`, once it is whole and nothing of it is being staged.
    pub(super) fn poll_commit(&mut self, piece: PieceIndex) -> Option<Job> {
        let (torrent, attempt) = (self.torrent, self.attempt(piece));
        let open = self.pieces.get(&piece)?;
        let digests = open.commit?;
        if open.staging > 0 || !open.delayed.is_empty() || self.is_late(piece) {
            return None;
        }
        let spans = self.pieces.remove(&piece)?.spans;
        let spans = spans.into_iter().map(|slot| slot.buffer).collect();
        Some(Job::Commit { torrent, piece, attempt, spans, digests })
    }

    /// Forgets what came of `piece`; gives its buffers back.
    pub(super) fn close(&mut self, piece: PieceIndex) -> Vec<Span> {
        let Some(open) = self.pieces.remove(&piece) else { return Vec::new() };
        let ended = self.ended.entry(piece).or_default();
        ended.attempts += 1;
        ended.staging += open.staging;
        let delayed = open.delayed.into_iter().filter_map(|job| match job {
            Job::Stage { span, .. } => Some(span),
            _ => None,
        });
        open.spans.into_iter().filter_map(|slot| slot.buffer).chain(delayed).collect()
    }

    /// Takes all buffers, with the blocks in them that are not on the disk yet. `blocks_in` tells
    /// which blocks of a span are in.
    pub(super) fn take_all(&mut self, blocks_in: impl Fn(PieceIndex, u32) -> u16) -> Vec<HeldSpan> {
        let mut held = Vec::new();
        for (piece, open) in self.pieces.take() {
            let attempt = self.attempt(piece);
            for (span_index, slot) in (0..).zip(open.spans) {
                let Some(span) = slot.buffer else { continue };
                let blocks = blocks_in(piece, span_index) & !slot.staged;
                held.push(HeldSpan { piece, attempt, span_index, blocks, span });
            }
        }
        held
    }

    /// The piece, opened if it was not.
    fn piece(&mut self, piece: PieceIndex) -> &mut OpenPiece {
        let spans = self.layout.span_count(piece) as usize;
        self.pieces.entry(piece).or_insert_with(|| OpenPiece {
            spans: std::iter::repeat_with(Slot::default).take(spans).collect(),
            ..OpenPiece::default()
        })
    }

    fn attempt(&self, piece: PieceIndex) -> u32 {
        self.ended.get(&piece).map_or(0, |ended| ended.attempts)
    }

    fn is_late(&self, piece: PieceIndex) -> bool {
        self.ended.get(&piece).is_some_and(|ended| ended.staging > 0)
    }
}

/// The blocks of a span that are in, in memory or on the disk: bit n stands for its block n.
pub(super) fn blocks_in(swarm: &Swarm, piece: PieceIndex, span: u32) -> u16 {
    let Some(pieces) = swarm.pieces() else { return 0 };
    mask(SpanLayout::new(pieces.geometry()), piece, span, swarm.blocks_in(piece, span))
}

fn mask(
    layout: SpanLayout,
    piece: PieceIndex,
    span: u32,
    blocks: impl Iterator<Item = u32>,
) -> u16 {
    let inside = layout.blocks(piece, span);
    let bits = blocks.filter(|block| inside.contains(block)).map(|block| block - inside.start);
    bits.filter(|bit| *bit < u16::BITS).fold(0, |mask, bit| mask | (1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_types::Geometry;

    fn pieces() -> (OpenPieces, PieceIndex) {
        let geometry = Geometry::new(8 << 20, 4 << 20).unwrap();
        let open = OpenPieces::new(TorrentKey(1), SpanLayout::new(geometry));
        (open, geometry.piece(1).unwrap())
    }

    fn buffer() -> Span {
        Span::new(256 << 10)
    }

    fn staged(job: Result<Option<Job>, Span>) -> Option<(u32, u16)> {
        match job {
            Ok(Some(Job::Stage { attempt, blocks, .. })) => Some((attempt, blocks)),
            Ok(None) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_block_is_staged_once() {
        let (mut open, piece) = pieces();
        open.resume(&[(piece, vec![16, 17])]);
        assert!(open.open(piece, 1, buffer()).is_none());
        assert_eq!(staged(open.stage(0b0111, piece, 1)), Some((0, 0b0100)));
        assert!(open.open(piece, 1, buffer()).is_none());
        assert!(open.stage(0b0111, piece, 1).is_err(), "nothing came, the buffer is given back");
        assert_eq!(staged(open.stage(0b1111, piece, 1)), None, "it is not open any more");
    }

    #[test]
    fn what_an_earlier_run_staged_is_not_staged_again() {
        let (mut open, piece) = pieces();
        open.resume(&[(piece, vec![16, 17])]);
        open.open(piece, 1, buffer());
        let held = open.take_all(|_, _| 0b0111);
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].span_index, held[0].blocks), (1, 0b0100));
    }

    #[test]
    fn a_commit_waits_for_what_is_being_staged() {
        let (mut open, piece) = pieces();
        open.open(piece, 0, buffer());
        let _ = open.stage(1, piece, 0);
        open.commit(piece, true);
        assert!(open.poll_commit(piece).is_none());
        assert!(open.handle_staged(piece).is_empty());
        assert!(matches!(open.poll_commit(piece), Some(Job::Commit { digests: true, .. })));
    }

    #[test]
    fn a_new_attempt_waits_for_the_end_of_the_old_one() {
        let (mut open, piece) = pieces();
        open.open(piece, 0, buffer());
        assert_eq!(staged(open.stage(1, piece, 0)), Some((0, 1)));
        assert!(open.close(piece).is_empty());
        open.open(piece, 0, buffer());
        assert_eq!(staged(open.stage(2, piece, 0)), None);
        open.commit(piece, false);
        assert!(open.poll_commit(piece).is_none());
        let jobs = open.handle_staged(piece);
        assert!(matches!(jobs[..], [Job::Stage { attempt: 1, blocks: 2, .. }]), "{jobs:?}");
        assert!(open.poll_commit(piece).is_none());
        assert!(open.handle_staged(piece).is_empty());
        assert!(matches!(open.poll_commit(piece), Some(Job::Commit { attempt: 1, .. })));
    }

    #[test]
    fn closing_gives_every_buffer_back() {
        let (mut open, piece) = pieces();
        open.open(piece, 0, buffer());
        let _ = open.stage(1, piece, 0);
        open.close(piece);
        open.open(piece, 0, buffer());
        open.open(piece, 1, buffer());
        let _ = open.stage(1, piece, 0);
        assert_eq!(open.close(piece).len(), 2);
    }
}

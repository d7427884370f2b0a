//! The buffers of the pieces being received.
//!
//! ```text
//!  open --> blocks --> stage: to the disk before the piece is whole, the buffer comes back
//!                 '--> commit: once the piece is whole and no stage job is under way
//! ```
//!
//! A block is staged once: a buffer that is opened again has only later blocks. The store cannot
//! know which, since jobs of one span may overtake each other in the pool. After `close` a new
//! attempt starts. Its jobs wait until the store has answered every job of the old attempt, which
//! could otherwise overwrite its blocks.

use std::collections::BTreeMap;

use bt_types::PieceIndex;
use piece_store::{HeldSpan, Job, Span, TorrentKey};
use swarm::{SpanLayout, Swarm};

/// Spans of the swarm are spans of the store.
const _: () = assert!(swarm::SPAN_LENGTH == piece_store::SPAN_LENGTH);

/// The buffers of one torrent.
#[derive(Debug, Default)]
pub(crate) struct PieceBuffers {
    pieces: BTreeMap<PieceIndex, Piece>,
    /// The number of the last attempt at any piece. To the store a higher number is a later
    /// attempt, and 0 that of an earlier launch.
    attempts: u32,
}

#[derive(Debug, Default)]
struct Piece {
    /// Stage jobs of earlier attempts under way.
    late: usize,
    /// The present attempt.
    open: Option<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    number: u32,
    spans: Vec<Slot>,
    /// Stage jobs under way.
    staging: usize,
    /// To be staged once no late job is under way.
    delayed: Vec<Part>,
    /// Whether digests are wanted, once the piece is whole.
    commit: Option<bool>,
}

#[derive(Debug)]
struct Part {
    span_index: u32,
    span: Span,
    blocks: u16,
}

#[derive(Debug, Default)]
struct Slot {
    /// `None`: not open, or given to the store.
    buffer: Option<Span>,
    /// Blocks that are staged or being staged.
    staged: u16,
}

impl PieceBuffers {
    /// Returns no buffers, of a torrent of which these blocks are on the disk.
    pub(crate) fn new(layout: SpanLayout, unfinished: &[(PieceIndex, Vec<u32>)]) -> Self {
        let staged = |piece, span, blocks: &[u32]| Slot {
            buffer: None,
            staged: mask(layout, piece, span, blocks.iter().copied()),
        };
        let pieces = unfinished.iter().map(|(piece, blocks)| {
            let spans = (0..layout.span_count(*piece)).map(|span| staged(*piece, span, blocks));
            (*piece, Piece { late: 0, open: Some(Attempt::new(0, spans.collect())) })
        });
        Self { pieces: pieces.collect(), attempts: 0 }
    }

    /// Opens a span with `buffer`. Returns the buffer it had, or `buffer` if there is no such span.
    pub(crate) fn open(
        &mut self,
        layout: SpanLayout,
        piece: PieceIndex,
        span: u32,
        buffer: Span,
    ) -> Option<Span> {
        let attempts = &mut self.attempts;
        let open = self.pieces.entry(piece).or_default().open.get_or_insert_with(|| {
            *attempts += 1;
            let spans = layout.span_count(piece) as usize;
            Attempt::new(*attempts, std::iter::repeat_with(Slot::default).take(spans).collect())
        });
        match open.spans.get_mut(span as usize) {
            Some(slot) => slot.buffer.replace(buffer),
            None => Some(buffer),
        }
    }

    /// The open span at `offset` of `piece`, and the offset inside it.
    pub(crate) fn span_at(
        &mut self,
        layout: SpanLayout,
        piece: PieceIndex,
        offset: u32,
    ) -> Option<(&mut Span, usize)> {
        let index = layout.span_of(offset);
        let start = index * layout.span_length();
        let slot = self.open_mut(piece)?.spans.get_mut(index as usize)?;
        Some((slot.buffer.as_mut()?, (offset - start) as usize))
    }

    /// Returns the job that stages a span with these blocks, or its buffer if it has no new block.
    pub(crate) fn stage(
        &mut self,
        torrent: TorrentKey,
        piece: PieceIndex,
        span_index: u32,
        blocks: u16,
    ) -> Result<Option<Job>, Span> {
        let Some(Piece { late, open: Some(open) }) = self.pieces.get_mut(&piece) else {
            return Ok(None);
        };
        let Some(slot) = open.spans.get_mut(span_index as usize) else { return Ok(None) };
        let Some(span) = slot.buffer.take() else { return Ok(None) };
        let blocks = blocks & !slot.staged;
        if blocks == 0 {
            return Err(span);
        }
        slot.staged |= blocks;
        let part = Part { span_index, span, blocks };
        if *late > 0 {
            open.delayed.push(part);
            return Ok(None);
        }
        open.staging += 1;
        Ok(Some(part.into_job(torrent, piece, open.number)))
    }

    /// A span was staged, or could not be. Returns the jobs that waited for that; the last one may
    /// commit the piece. A piece with a span that could not be staged is not committed.
    pub(crate) fn handle_staged(
        &mut self,
        torrent: TorrentKey,
        piece: PieceIndex,
        is_staged: bool,
    ) -> Vec<Job> {
        let mut jobs = self.end_staging(torrent, piece);
        match self.open_mut(piece) {
            Some(open) if !is_staged => open.commit = None,
            _ => jobs.extend(self.poll_commit(torrent, piece)),
        }
        jobs
    }

    fn end_staging(&mut self, torrent: TorrentKey, piece: PieceIndex) -> Vec<Job> {
        let Some(Piece { late, open }) = self.pieces.get_mut(&piece) else { return Vec::new() };
        match (&mut *late, &mut *open) {
            (0, Some(open)) => open.staging -= 1,
            (late, _) => *late -= 1,
        }
        if *late > 0 {
            return Vec::new();
        }
        let Some(open) = open else {
            self.pieces.remove(&piece);
            return Vec::new();
        };
        let delayed = std::mem::take(&mut open.delayed);
        open.staging += delayed.len();
        delayed.into_iter().map(|part| part.into_job(torrent, piece, open.number)).collect()
    }

    /// Every block of `piece` is in. Returns the job that commits it, unless a stage job is under
    /// way: then [`Self::handle_staged`] will.
    pub(crate) fn commit(
        &mut self,
        torrent: TorrentKey,
        piece: PieceIndex,
        digests: bool,
    ) -> Option<Job> {
        self.open_mut(piece)?.commit = Some(digests);
        self.poll_commit(torrent, piece)
    }

    fn poll_commit(&mut self, torrent: TorrentKey, piece: PieceIndex) -> Option<Job> {
        let Piece { late: 0, open: Some(open) } = self.pieces.get(&piece)? else { return None };
        let (attempt, digests) = (open.number, open.commit?);
        if open.staging > 0 {
            return None;
        }
        let spans = self.pieces.remove(&piece)?.open?.spans;
        let spans = spans.into_iter().map(|slot| slot.buffer).collect();
        Some(Job::Commit { torrent, piece, attempt, spans, digests })
    }

    /// Ends the attempt at `piece`. Returns its buffers.
    pub(crate) fn close(&mut self, piece: PieceIndex) -> Vec<Span> {
        let Some(Piece { late, open }) = self.pieces.get_mut(&piece) else { return Vec::new() };
        let Some(open) = open.take() else { return Vec::new() };
        *late += open.staging;
        if *late == 0 {
            self.pieces.remove(&piece);
        }
        let delayed = open.delayed.into_iter().map(|part| part.span);
        open.spans.into_iter().filter_map(|slot| slot.buffer).chain(delayed).collect()
    }

    /// Takes all buffers, with the blocks in them that are not staged. `blocks_in` returns the
    /// blocks of a span that are in.
    pub(crate) fn take_all(&mut self, blocks_in: impl Fn(PieceIndex, u32) -> u16) -> Vec<HeldSpan> {
        let mut held = Vec::new();
        for (piece, Piece { open, .. }) in std::mem::take(&mut self.pieces) {
            let Some(open) = open else { continue };
            for (span_index, slot) in (0..).zip(open.spans) {
                let Some(span) = slot.buffer else { continue };
                let blocks = blocks_in(piece, span_index) & !slot.staged;
                held.push(HeldSpan { piece, attempt: open.number, span_index, blocks, span });
            }
        }
        held
    }

    fn open_mut(&mut self, piece: PieceIndex) -> Option<&mut Attempt> {
        self.pieces.get_mut(&piece)?.open.as_mut()
    }
}

impl Attempt {
    fn new(number: u32, spans: Vec<Slot>) -> Self {
        Self { number, spans, staging: 0, delayed: Vec::new(), commit: None }
    }
}

impl Part {
    fn into_job(self, torrent: TorrentKey, piece: PieceIndex, attempt: u32) -> Job {
        let Self { span_index, span, blocks } = self;
        Job::Stage { torrent, piece, attempt, span_index, span, blocks }
    }
}

/// The blocks of a span that are in, in memory or on the disk: bit n for its block n.
pub(crate) fn blocks_in(swarm: &Swarm, piece: PieceIndex, span: u32) -> u16 {
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
    use bt_types::Geometry;

    use super::*;

    const TORRENT: TorrentKey = TorrentKey(1);

    struct Scene {
        layout: SpanLayout,
        buffers: PieceBuffers,
        piece: PieceIndex,
    }

    fn scene(unfinished: &[u32]) -> Scene {
        let geometry = Geometry::new(8 << 20, 4 << 20).unwrap();
        let (layout, piece) = (SpanLayout::new(geometry), geometry.piece(1).unwrap());
        let buffers = PieceBuffers::new(layout, &[(piece, unfinished.to_vec())]);
        Scene { layout, buffers, piece }
    }

    impl Scene {
        fn open(&mut self, span: u32) {
            let unused = self.buffers.open(self.layout, self.piece, span, Span::new(256 << 10));
            assert!(unused.is_none());
        }

        /// Stages a span with these blocks. Returns the attempt and the blocks of the job.
        fn stage(&mut self, span: u32, blocks: u16) -> Option<(u32, u16)> {
            match self.buffers.stage(TORRENT, self.piece, span, blocks) {
                Ok(Some(Job::Stage { attempt, blocks, .. })) => Some((attempt, blocks)),
                Ok(None) => None,
                other => panic!("{other:?}"),
            }
        }

        fn handle_staged(&mut self) -> Vec<Job> {
            self.buffers.handle_staged(TORRENT, self.piece, true)
        }

        fn commit(&mut self, digests: bool) -> Option<Job> {
            self.buffers.commit(TORRENT, self.piece, digests)
        }
    }

    #[test]
    fn block_is_staged_once() {
        let mut scene = scene(&[16, 17]);
        scene.open(1);
        assert_eq!(scene.stage(1, 0b0111), Some((0, 0b0100)));
        scene.open(1);
        let unused = scene.buffers.stage(TORRENT, scene.piece, 1, 0b0111);
        assert!(unused.is_err(), "no new block, the buffer is given back");
        assert_eq!(scene.stage(1, 0b1111), None, "it is not open");
    }

    #[test]
    fn staged_blocks_are_not_held() {
        let mut scene = scene(&[16, 17]);
        scene.open(1);
        let held = scene.buffers.take_all(|_, _| 0b0111);
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].span_index, held[0].blocks), (1, 0b0100));
    }

    #[test]
    fn commit_waits_for_staging() {
        let mut scene = scene(&[]);
        scene.open(0);
        assert!(scene.stage(0, 1).is_some());
        assert!(scene.commit(true).is_none());
        assert!(matches!(scene.handle_staged()[..], [Job::Commit { digests: true, .. }]));
    }

    #[test]
    fn failed_staging_prevents_commit() {
        let mut scene = scene(&[]);
        scene.open(0);
        scene.open(1);
        assert!(scene.stage(0, 1).is_some() && scene.stage(1, 1).is_some());
        assert!(scene.commit(true).is_none());
        assert!(scene.buffers.handle_staged(TORRENT, scene.piece, false).is_empty());
        assert!(scene.handle_staged().is_empty());
    }

    #[test]
    fn new_attempt_waits_for_old_one() {
        let mut scene = scene(&[]);
        scene.open(0);
        assert_eq!(scene.stage(0, 1), Some((0, 1)));
        assert!(scene.buffers.close(scene.piece).is_empty());
        scene.open(0);
        assert_eq!(scene.stage(0, 2), None);
        assert!(scene.commit(false).is_none());
        let jobs = scene.handle_staged();
        assert!(matches!(jobs[..], [Job::Stage { attempt: 1, blocks: 2, .. }]), "{jobs:?}");
        let jobs = scene.handle_staged();
        assert!(matches!(jobs[..], [Job::Commit { attempt: 1, .. }]), "{jobs:?}");
    }

    #[test]
    fn close_returns_every_buffer() {
        let mut scene = scene(&[]);
        scene.open(0);
        assert!(scene.stage(0, 1).is_some());
        scene.buffers.close(scene.piece);
        scene.open(0);
        scene.open(1);
        assert_eq!(scene.stage(0, 1), None);
        assert_eq!(scene.buffers.close(scene.piece).len(), 2);
        assert!(scene.buffers.close(scene.piece).is_empty());
        assert!(scene.handle_staged().is_empty());
        assert!(scene.buffers.pieces.is_empty(), "the late job is kept until its answer");
    }
}

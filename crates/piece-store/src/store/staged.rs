//! The blocks of an unfinished piece that are on disk, and the hash of the piece so far.

use piece_hash::Hasher;

/// The blocks of an unfinished piece that are on disk.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    /// Which attempt at the piece they belong to. A later attempt discards them.
    pub(super) attempt: u32,
    /// One mask for each span.
    pub(super) masks: Vec<u16>,
    /// How many spans from the first were hashed when they were staged, and the hash so far; `None`
    /// while a worker has it.
    pub(super) hashed: Option<(u32, Hasher)>,
    /// The spans that workers are staging at this moment.
    under_way: Vec<u32>,
    /// Whether a block was staged twice. Then the hash may not be that of the bytes on disk.
    spoiled: bool,
}

/// Whether a span can be hashed.
pub(super) enum SpanHash {
    /// With this hash of all spans before it.
    Now(Hasher),
    /// Once an earlier span that is under way is finished.
    Later,
    /// An earlier span is missing.
    Never,
}

impl Staged {
    /// No blocks of a piece of `spans` spans.
    pub(super) fn new(attempt: u32, spans: u32) -> Self {
        let hashed = Some((0, Hasher::new()));
        let masks = vec![0; spans as usize];
        Self { attempt, masks, hashed, under_way: Vec::new(), spoiled: false }
    }

    /// Blocks that an earlier launch left on disk, without a hash.
    pub(super) fn left_over(masks: Vec<u16>) -> Self {
        Self { masks, hashed: None, ..Self::new(0, 0) }
    }

    /// A worker starts to stage `blocks` of a span.
    pub(super) fn start(&mut self, span: u32, blocks: u16) {
        self.under_way.push(span);
        if self.masks[span as usize] & blocks != 0 {
            (self.spoiled, self.hashed) = (true, None);
        }
    }

    /// A worker has finished a span, and has `hashed` it if it could.
    pub(super) fn finish(&mut self, span: u32, hashed: Option<Hasher>) {
        self.under_way.retain(|other| *other != span);
        if let (Some(hasher), false) = (hashed, self.spoiled) {
            self.hashed = Some((span + 1, hasher));
        }
    }

    /// Takes the hash out if a span, which is complete, comes next.
    pub(super) fn take_hash(&mut self, span: u32) -> SpanHash {
        match self.hashed.take() {
            Some((next, hasher)) if next == span => return SpanHash::Now(hasher),
            hashed => self.hashed = hashed,
        }
        let waits = !self.spoiled && self.under_way.iter().any(|other| *other < span);
        if waits { SpanHash::Later } else { SpanHash::Never }
    }
}

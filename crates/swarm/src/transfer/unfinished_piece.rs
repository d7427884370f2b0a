//! A piece that is being fetched, block by block.
//!
//! ```text
//! block   free --ask--> requested --part 0--> has a writer --last part--> done
//!           ^               |                      |
//!           '------ release -+----------------------'
//! ```
//!
//! Invariants: a block has one writer at a time; `free` counts the blocks that are neither done
//! nor requested; a requested block is in a reserved span. Requests to snubbed peers are counted
//! separately: a block that was only requested from those is free.

use std::time::Duration;

use bt_types::{BLOCK_LENGTH, BlockRequest, PieceIndex};

use crate::peer::Sender;
use crate::spans::SpanLayout;
use crate::vocabulary::{BlockFate, PeerKey};

/// A copy of a block that comes from another peer than its writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Duplicate {
    #[default]
    None,
    /// The first copy that started after the writer's. A copy that started before is no faster,
    /// only ahead: if its sender took over, two equal peers would take the block from each other
    /// forever.
    Receiving(PeerKey),
    /// That copy was complete before the writer's.
    Received,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// The peer whose parts are kept.
    writer: Option<PeerKey>,
    /// How many peers owe it, not counting snubbed ones.
    requests: u16,
    /// How many snubbed peers owe it.
    snubbed_requests: u16,
    done: bool,
    duplicate: Duplicate,
}

impl Block {
    fn is_free(&self) -> bool {
        !self.done && self.requests == 0
    }

    /// Returns the count that the request of a peer is part of, which may be snubbed.
    fn requests(&mut self, snubbed: bool) -> &mut u16 {
        if snubbed { &mut self.snubbed_requests } else { &mut self.requests }
    }

    fn uncount_request(&mut self, snubbed: bool) {
        let count = self.requests(snubbed);
        *count = count.saturating_sub(1);
    }
}

#[derive(Debug, Clone)]
struct Span {
    reserved: bool,
    /// Blocks that are not done.
    missing: u32,
    /// Blocks that are neither done nor requested.
    free: u32,
    /// When it was reserved, or last received a block.
    progress: Duration,
}

/// What is left to do after a finished block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    /// Whether other peers owe the block too.
    pub(super) others: bool,
    /// Whether its span is complete.
    pub(super) span: bool,
    /// Whether its piece is complete: then it is being committed.
    pub(super) piece: bool,
}

/// A piece that is being fetched.
#[derive(Debug)]
pub(super) struct UnfinishedPiece {
    layout: SpanLayout,
    piece: PieceIndex,
    blocks: Vec<Block>,
    spans: Vec<Span>,
    /// Blocks that are not done.
    missing: u32,
    /// Blocks that are neither done nor requested.
    free: u32,
    /// How many of those are in reserved spans.
    ready: u32,
    /// How many spans are reserved.
    reserved: u32,
    /// No block before this one is free.
    cursor: usize,
    senders: Vec<Sender>,
    /// The only peer that may be asked for it, if it is under investigation.
    pub(super) only: Option<PeerKey>,
    /// Whether it is being hashed and written.
    pub(super) committing: bool,
    /// The rates of the peers that work on it, in bytes per second.
    pub(super) rate: u64,
    /// When the last of the requests made so far is expected to be answered.
    due: Duration,
}

impl UnfinishedPiece {
    pub(super) fn new(layout: SpanLayout, piece: PieceIndex, only: Option<PeerKey>) -> Self {
        let spans = (0..layout.span_count(piece)).map(|span| {
            let blocks = layout.blocks(piece, span).len() as u32;
            Span { reserved: false, missing: blocks, free: blocks, progress: Duration::ZERO }
        });
        let spans: Vec<Span> = spans.collect();
        let block_count = spans.iter().map(|span| span.missing).sum();
        Self {
            layout,
            piece,
            blocks: vec![Block::default(); block_count as usize],
            spans,
            missing: block_count,
            free: block_count,
            ready: 0,
            reserved: 0,
            cursor: 0,
            senders: Vec::new(),
            only,
            committing: false,
            rate: 0,
            due: Duration::ZERO,
        }
    }

    /// Returns how many blocks are not done.
    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// Returns how many blocks are neither done nor requested.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Whether blocks of it may be asked for that no peer is asked for yet.
    pub(super) fn has_free(&self) -> bool {
        self.free > 0 && !self.committing
    }

    /// Whether `key` may be asked for it.
    pub(super) fn admits(&self, key: PeerKey) -> bool {
        !self.committing && self.only.is_none_or(|only| only == key)
    }

    /// Returns the first free block, only of reserved spans if `reserved_only`.
    pub(super) fn first_free(&mut self, reserved_only: bool) -> Option<u32> {
        if self.free == 0 || (reserved_only && self.ready == 0) {
            return None;
        }
        if reserved_only && self.ready < self.free {
            return self.first_free_reserved();
        }
        let rest = self.blocks.get(self.cursor..)?;
        self.cursor += rest.iter().position(Block::is_free)?;
        Some(self.cursor as u32)
    }

    fn first_free_reserved(&self) -> Option<u32> {
        let span = self.spans.iter().position(|span| span.reserved && span.free > 0)?;
        let mut blocks = self.layout.blocks(self.piece, span as u32);
        blocks.find(|block| self.blocks[*block as usize].is_free())
    }

    /// Returns how many peers owe `block`, not counting snubbed ones; `None` if it is done.
    pub(super) fn requests(&self, block: u32) -> Option<u16> {
        let block = &self.blocks[block as usize];
        (!block.done).then_some(block.requests)
    }

    /// Returns when it is expected to be whole, if the peers that work on it share the free blocks.
    pub(super) fn whole_at(&self, now: Duration) -> Duration {
        let bytes = u64::from(self.free) * u64::from(BLOCK_LENGTH);
        let rest = bytes.saturating_mul(1000) / self.rate.max(1);
        self.due.max(now + Duration::from_millis(rest))
    }

    /// Returns the spans to reserve before a block of `span` is requested.
    pub(super) fn unreserved(&self, span: u32) -> std::ops::Range<u32> {
        if self.spans[span as usize].reserved {
            return span..span;
        }
        if self.reserved == 0 && self.layout.is_whole(self.piece) {
            return 0..self.spans.len() as u32;
        }
        span..span + 1
    }

    pub(super) fn reserve(&mut self, now: Duration, spans: std::ops::Range<u32>) {
        for span in &mut self.spans[spans.start as usize..spans.end as usize] {
            if !std::mem::replace(&mut span.reserved, true) {
                self.ready += span.free;
                self.reserved += 1;
            }
            span.progress = now;
        }
    }

    /// Gives back the memory of span `number`, which is being staged. No peer may owe its blocks.
    /// A block that was received in part starts again.
    pub(super) fn unreserve(&mut self, number: u32) {
        let span = &mut self.spans[number as usize];
        if !std::mem::replace(&mut span.reserved, false) {
            return;
        }
        self.ready -= span.free;
        self.reserved -= 1;
        for block in self.layout.blocks(self.piece, number) {
            let block = &mut self.blocks[block as usize];
            block.writer = block.writer.filter(|_| block.done);
        }
    }

    /// Whether every span is in memory.
    pub(super) fn all_reserved(&self) -> bool {
        self.reserved as usize == self.spans.len()
    }

    /// Returns how many spans are in memory.
    pub(super) fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Returns the spans that are in memory.
    pub(super) fn reserved_spans(&self) -> impl Iterator<Item = u32> + '_ {
        let spans = self.spans.iter().zip(0u32..);
        spans.filter(|(span, _)| span.reserved).map(|(_, number)| number)
    }

    /// Returns a reserved span that waits for blocks and got none since `before`.
    pub(super) fn idle_span(&self, before: Duration) -> Option<u32> {
        let idle = |span: &Span| span.reserved && span.missing > 0 && span.progress <= before;
        self.spans.iter().position(idle).map(|span| span as u32)
    }

    /// Changes a block, and keeps what is counted true.
    fn update(&mut self, number: u32, change: impl FnOnce(&mut Block)) {
        let counts = |block: &Block| (u32::from(block.is_free()), u32::from(block.done));
        let block = &mut self.blocks[number as usize];
        let (was_free, was_done) = counts(block);
        change(block);
        let (is_free, is_done) = counts(block);
        let span = &mut self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize];
        for missing in [&mut span.missing, &mut self.missing] {
            *missing = *missing + was_done - is_done;
        }
        for free in [&mut span.free, &mut self.free] {
            *free = *free + is_free - was_free;
        }
        if span.reserved {
            self.ready = self.ready + is_free - was_free;
        }
        if is_free > was_free {
            self.cursor = self.cursor.min(number as usize);
        }
    }

    /// A peer is asked for a block, and expected to answer at `due`.
    pub(super) fn ask(&mut self, number: u32, snubbed: bool, due: Duration) {
        self.due = self.due.max(due);
        self.update(number, |block| *block.requests(snubbed) += 1);
    }

    /// A peer that owes the block is snubbed. If it is the writer, it stays so.
    pub(super) fn snub(&mut self, number: u32) {
        self.update(number, |block| {
            block.uncount_request(false);
            block.snubbed_requests += 1;
        });
    }

    /// The snub of a peer that owes the block is over.
    pub(super) fn end_snub(&mut self, number: u32) {
        self.update(number, |block| {
            block.uncount_request(true);
            block.requests += 1;
        });
    }

    /// `key` does not owe the block any longer.
    pub(super) fn release(&mut self, number: u32, key: PeerKey, snubbed: bool) {
        self.update(number, |block| {
            block.uncount_request(snubbed);
            if block.writer == Some(key) && !block.done {
                (block.writer, block.duplicate) = (None, Duplicate::None);
            } else if block.duplicate == Duplicate::Receiving(key) {
                block.duplicate = Duplicate::None;
            }
        });
    }

    /// Marks the piece as being committed, if every block is done. Says whether it was.
    pub(super) fn begin_commit(&mut self) -> bool {
        self.missing == 0 && !std::mem::replace(&mut self.committing, true)
    }

    /// Decides about the part of a block that starts at `offset` of `request`: `key` may be its
    /// writer or become it. `gives_way` says whether another writer may be replaced.
    pub(super) fn receive_part(
        &mut self,
        key: PeerKey,
        request: BlockRequest,
        offset: u32,
        gives_way: impl Fn(PeerKey) -> bool,
    ) -> BlockFate {
        let whole = request.offset().is_multiple_of(BLOCK_LENGTH);
        let in_memory = self.spans[self.layout.span_of(request.offset()) as usize].reserved;
        let admitted = self.admits(key);
        let block = &mut self.blocks[request.block() as usize];
        if !whole || !in_memory || !admitted || block.done {
            return BlockFate::Discard;
        }
        match block.writer {
            Some(writer) if writer == key => BlockFate::Keep,
            _ if offset > 0 => BlockFate::Discard,
            Some(writer) if block.duplicate != Duplicate::Received && !gives_way(writer) => {
                if block.duplicate == Duplicate::None {
                    block.duplicate = Duplicate::Receiving(key);
                }
                BlockFate::Discard
            }
            _ => {
                (block.writer, block.duplicate) = (Some(key), Duplicate::None);
                BlockFate::Keep
            }
        }
    }

    /// The last part of a block came from `sender`. `snubbed` says whether its request counted as
    /// one of a snubbed peer, and is `None` if it did not owe the block any longer. Returns `None`
    /// if its parts were not kept. If they started after the writer's, the next peer to send the
    /// block becomes its writer.
    pub(super) fn finish(
        &mut self,
        now: Duration,
        number: u32,
        sender: Sender,
        snubbed: Option<bool>,
    ) -> Option<Finished> {
        let block = &mut self.blocks[number as usize];
        if self.committing || block.done {
            return None;
        }
        if block.writer != Some(sender.key) {
            if block.duplicate == Duplicate::Receiving(sender.key) {
                block.duplicate = Duplicate::Received;
            }
            return None;
        }
        let mut others = false;
        self.update(number, |block| {
            block.done = true;
            snubbed.into_iter().for_each(|snubbed| block.uncount_request(snubbed));
            others = block.requests > 0 || block.snubbed_requests > 0;
        });
        let span = &mut self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize];
        span.progress = now;
        let span = span.missing == 0;
        if !self.senders.iter().rev().any(|known| known.key == sender.key) {
            self.senders.push(sender);
        }
        Some(Finished { others, span, piece: self.begin_commit() })
    }

    /// The block is on disk already. A number that does not exist is ignored.
    pub(super) fn finish_on_disk(&mut self, number: u32) {
        if (number as usize) < self.blocks.len() {
            self.update(number, |block| block.done = true);
        }
    }

    /// Whether a block of `key` is in it.
    pub(super) fn has_block_of(&self, key: PeerKey) -> bool {
        self.senders.iter().any(|sender| sender.key == key)
    }

    /// Discards the blocks that `key` sent.
    pub(super) fn forget_blocks_of(&mut self, key: PeerKey) {
        self.senders.retain(|sender| sender.key != key);
        for number in 0..self.blocks.len() as u32 {
            self.update(number, |block| {
                if block.writer == Some(key) {
                    (block.writer, block.done) = (None, false);
                }
            });
        }
    }

    /// Returns each peer that sent blocks of it, and how many.
    pub(super) fn sent(&self) -> impl Iterator<Item = (PeerKey, u32)> + '_ {
        self.senders.iter().map(|sender| {
            let theirs = self.blocks.iter().filter(|block| block.writer == Some(sender.key));
            (sender.key, theirs.count() as u32)
        })
    }

    /// Returns the sender of each block.
    pub(super) fn senders(&self) -> Vec<Option<Sender>> {
        let sender = |key: PeerKey| self.senders.iter().find(|sender| sender.key == key).copied();
        self.blocks.iter().map(|block| block.writer.and_then(sender)).collect()
    }

    /// Returns the blocks of `span` that are done.
    pub(super) fn done_in(&self, span: u32) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.layout.blocks(self.piece, span);
        blocks.filter(|block| self.blocks[*block as usize].done)
    }
}

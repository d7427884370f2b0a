//! A piece that is being fetched, block by block.
//!
//! ```text
//! block   free --asked--> requested --part 0--> has a writer --last part--> done
//!           ^                 |                     |
//!           '--- nobody is asked for it any longer -'
//! ```
//!
//! Invariants: a block has one writer at a time; `free` counts the blocks that are neither done
//! nor asked for; a block that is asked for lies in a reserved span.

use std::time::Duration;

use bt_types::{BLOCK_LENGTH, BlockRequest, PieceIndex};

use crate::blame::Sender;
use crate::vocabulary::{PeerKey, Place, SpanLayout};

/// Somebody who sends a block although another is its writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Chaser {
    #[default]
    Nobody,
    /// The first who began after the writer did. Who began before is no faster, only ahead: if that one
    /// took over, two equal peers would take the block from each other for ever.
    Began(PeerKey),
    /// That one has sent all of it before the writer did.
    Ended,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Whose parts are kept.
    writer: Option<PeerKey>,
    /// How many peers owe it, not counting snubbed ones.
    requests: u16,
    /// How many snubbed peers owe it.
    weak: u16,
    done: bool,
    chaser: Chaser,
}

impl Block {
    fn is_free(&self) -> bool {
        !self.done && self.requests == 0
    }
}

#[derive(Debug, Clone)]
struct Span {
    reserved: bool,
    /// Blocks that are not done.
    missing: u32,
    /// Blocks that are neither done nor asked for.
    free: u32,
    /// When it was reserved or a block of it came.
    progress: Duration,
}

/// What a finished block leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Whether others owe the block too.
    pub(crate) others: bool,
    /// Whether its span is complete.
    pub(crate) span: bool,
    /// Whether its piece is complete.
    pub(crate) piece: bool,
}

/// A piece that is being fetched.
#[derive(Debug)]
pub(crate) struct OpenPiece {
    layout: SpanLayout,
    piece: PieceIndex,
    blocks: Vec<Block>,
    spans: Vec<Span>,
    /// Blocks that are not done.
    missing: u32,
    /// Blocks that are neither done nor asked for.
    free: u32,
    /// How many of those lie in reserved spans.
    ready: u32,
    /// How many spans are reserved.
    reserved: u32,
    /// No block before this one is free.
    cursor: usize,
    senders: Vec<Sender>,
    /// The only peer that may be asked for it.
    pub(crate) only: Option<PeerKey>,
    /// Whether it was handed over to be hashed and written.
    pub(crate) committing: bool,
    /// The rates of the peers that work on it, in bytes per second.
    pub(crate) rate: u64,
    /// When the last of the requests made so far is expected to be answered.
    due: Duration,
}

impl OpenPiece {
    pub(crate) fn new(layout: SpanLayout, piece: PieceIndex, block_count: u32) -> Self {
        let spans = (0..layout.span_count(piece)).map(|span| {
            let blocks = layout.blocks(piece, span).len() as u32;
            Span { reserved: false, missing: blocks, free: blocks, progress: Duration::ZERO }
        });
        Self {
            layout,
            piece,
            blocks: vec![Block::default(); block_count as usize],
            spans: spans.collect(),
            missing: block_count,
            free: block_count,
            ready: 0,
            reserved: 0,
            cursor: 0,
            senders: Vec::new(),
            only: None,
            committing: false,
            rate: 0,
            due: Duration::ZERO,
        }
    }

    /// Blocks that are not done.
    pub(crate) fn missing(&self) -> u32 {
        self.missing
    }

    /// Blocks that are neither done nor asked for.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// Whether `key` may be asked for it.
    pub(crate) fn admits(&self, key: PeerKey) -> bool {
        !self.committing && self.only.is_none_or(|only| only == key)
    }

    /// The first free block, of reserved spans only where memory is short.
    pub(crate) fn first_free(&mut self, reserved_only: bool) -> Option<u32> {
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

    /// How many peers owe `block`, not counting snubbed ones; `None` if it is done.
    pub(crate) fn requests(&self, block: u32) -> Option<u16> {
        let block = self.blocks.get(block as usize).filter(|block| !block.done)?;
        Some(block.requests)
    }

    /// When it is expected to be whole, if the peers that work on it share the free blocks.
    pub(crate) fn whole_at(&self, now: Duration) -> Duration {
        let bytes = u64::from(self.free) * u64::from(BLOCK_LENGTH);
        let rest = bytes.saturating_mul(1000) / self.rate.max(1);
        self.due.max(now + Duration::from_millis(rest))
    }

    /// The spans that must be reserved before a block of `span` may be asked for.
    pub(crate) fn unreserved(&self, span: u32) -> std::ops::Range<u32> {
        if self.spans.get(span as usize).is_none_or(|span| span.reserved) {
            return span..span;
        }
        if self.reserved == 0 && self.layout.is_whole(self.piece) {
            return 0..self.spans.len() as u32;
        }
        span..span + 1
    }

    pub(crate) fn reserve(&mut self, now: Duration, spans: std::ops::Range<u32>) {
        for span in &mut self.spans[spans.start as usize..spans.end as usize] {
            if !std::mem::replace(&mut span.reserved, true) {
                self.ready += span.free;
                self.reserved += 1;
            }
            span.progress = now;
        }
    }

    /// `number` is staged: its memory goes back. Nobody may owe its blocks; those that are half
    /// there begin anew.
    pub(crate) fn unreserve(&mut self, number: u32) {
        let Some(span) = self.spans.get_mut(number as usize).filter(|span| span.reserved) else {
            return;
        };
        span.reserved = false;
        self.ready -= span.free;
        self.reserved -= 1;
        for block in self.layout.blocks(self.piece, number) {
            let block = &mut self.blocks[block as usize];
            block.writer = block.writer.filter(|_| block.done);
        }
    }

    /// Whether every span is in memory.
    pub(crate) fn all_reserved(&self) -> bool {
        self.reserved as usize == self.spans.len()
    }

    /// How many spans are in memory.
    pub(crate) fn reserved(&self) -> u32 {
        self.reserved
    }

    /// The spans that are in memory.
    pub(crate) fn reserved_spans(&self) -> impl Iterator<Item = u32> + '_ {
        let spans = self.spans.iter().zip(0u32..);
        spans.filter(|(span, _)| span.reserved).map(|(_, number)| number)
    }

    /// A reserved span that waits for blocks and got none since `before`.
    pub(crate) fn idle_span(&self, before: Duration) -> Option<u32> {
        let idle = |span: &Span| span.reserved && span.missing > 0 && span.progress <= before;
        self.spans.iter().position(idle).map(|span| span as u32)
    }

    /// A request that was made now is expected to be answered at `due`.
    pub(crate) fn expect(&mut self, due: Duration) {
        self.due = self.due.max(due);
    }

    /// A peer is asked for `block`.
    pub(crate) fn ask(&mut self, number: u32, weak: bool) {
        let block = &mut self.blocks[number as usize];
        if weak {
            block.weak += 1;
            return;
        }
        let was_free = block.is_free();
        block.requests += 1;
        if was_free {
            self.uncount_free(number);
        }
    }

    /// A peer that owes `block` was snubbed, and is no longer.
    pub(crate) fn strengthen(&mut self, number: u32) {
        let block = &mut self.blocks[number as usize];
        block.weak = block.weak.saturating_sub(1);
        self.ask(number, false);
    }

    /// `key` does not owe `block` any longer. Says whether the block became free.
    pub(crate) fn release(&mut self, number: u32, key: PeerKey, weak: bool) -> bool {
        let Some(block) = self.blocks.get_mut(number as usize) else { return false };
        let was_free = block.is_free();
        if weak {
            block.weak = block.weak.saturating_sub(1);
        } else {
            block.requests = block.requests.saturating_sub(1);
        }
        if block.writer == Some(key) && !block.done {
            (block.writer, block.chaser) = (None, Chaser::Nobody);
        } else if block.chaser == Chaser::Began(key) {
            block.chaser = Chaser::Nobody;
        }
        let freed = !was_free && block.is_free();
        if freed {
            self.count_free(number);
        }
        freed
    }

    /// Who owes `block` is snubbed, and remains its writer if it is. Says whether the block became
    /// free.
    pub(crate) fn weaken(&mut self, number: u32) -> bool {
        let Some(block) = self.blocks.get_mut(number as usize) else { return false };
        let was_free = block.is_free();
        block.requests = block.requests.saturating_sub(1);
        block.weak += 1;
        let freed = !was_free && block.is_free();
        if freed {
            self.count_free(number);
        }
        freed
    }

    fn count_free(&mut self, number: u32) {
        let span = &mut self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize];
        span.free += 1;
        self.free += 1;
        self.ready += u32::from(span.reserved);
        self.cursor = self.cursor.min(number as usize);
    }

    fn uncount_free(&mut self, number: u32) {
        let span = &mut self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize];
        span.free -= 1;
        self.free -= 1;
        self.ready -= u32::from(span.reserved);
    }

    /// Whether `key` becomes or is the writer of the part of `request` that begins at `offset`.
    /// `gives_way` says whether another writer lets itself be replaced.
    pub(crate) fn place(
        &mut self,
        key: PeerKey,
        request: BlockRequest,
        offset: u32,
        gives_way: impl Fn(PeerKey) -> bool,
    ) -> Place {
        let whole = request.offset().is_multiple_of(BLOCK_LENGTH);
        let span = self.layout.span_of(request.offset()) as usize;
        let in_memory = self.spans.get(span).is_some_and(|span| span.reserved);
        let admitted = self.admits(key);
        let Some(block) = self.blocks.get_mut(request.block() as usize) else {
            return Place::Discard;
        };
        if !whole || !in_memory || !admitted || block.done {
            return Place::Discard;
        }
        match block.writer {
            Some(writer) if writer == key => Place::Keep,
            _ if offset > 0 => Place::Discard,
            Some(writer) if block.chaser != Chaser::Ended && !gives_way(writer) => {
                if block.chaser == Chaser::Nobody {
                    block.chaser = Chaser::Began(key);
                }
                Place::Discard
            }
            _ => {
                (block.writer, block.chaser) = (Some(key), Chaser::Nobody);
                Place::Keep
            }
        }
    }

    /// The last part of a block came from `sender`, which owed it, weakly or not, or did not owe it
    /// any longer. `None` if its parts were not kept: if it began after the writer did, whoever sends the
    /// block next is the writer.
    pub(crate) fn finish(
        &mut self,
        now: Duration,
        number: u32,
        sender: Sender,
        owed_weakly: Option<bool>,
    ) -> Option<Finished> {
        let block = self.blocks.get_mut(number as usize)?;
        if self.committing || block.done {
            return None;
        }
        if block.writer != Some(sender.key) {
            if block.chaser == Chaser::Began(sender.key) {
                block.chaser = Chaser::Ended;
            }
            return None;
        }
        let was_free = block.is_free();
        block.done = true;
        match owed_weakly {
            Some(true) => block.weak = block.weak.saturating_sub(1),
            Some(false) => block.requests = block.requests.saturating_sub(1),
            None => {}
        }
        let others = block.requests > 0 || block.weak > 0;
        if was_free {
            self.uncount_free(number);
        }
        self.missing -= 1;
        let span = &mut self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize];
        span.missing -= 1;
        span.progress = now;
        let span = span.missing == 0;
        if !self.senders.iter().rev().any(|known| known.key == sender.key) {
            self.senders.push(sender);
        }
        Some(Finished { others, span, piece: self.missing == 0 })
    }

    /// `block` is on disk already.
    pub(crate) fn finish_on_disk(&mut self, number: u32) {
        let Some(block) = self.blocks.get_mut(number as usize).filter(|block| !block.done) else {
            return;
        };
        block.done = true;
        self.uncount_free(number);
        self.missing -= 1;
        self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize].missing -= 1;
    }

    /// Whether a block of `key` is in it.
    pub(crate) fn has_block_of(&self, key: PeerKey) -> bool {
        self.senders.iter().any(|sender| sender.key == key)
    }

    /// Throws away the blocks that `key` sent.
    pub(crate) fn forget_blocks_of(&mut self, key: PeerKey) {
        self.senders.retain(|sender| sender.key != key);
        for number in 0..self.blocks.len() as u32 {
            let block = &mut self.blocks[number as usize];
            if block.writer != Some(key) {
                continue;
            }
            block.writer = None;
            let was_done = std::mem::take(&mut block.done);
            let is_free = block.is_free();
            if was_done {
                self.missing += 1;
                self.spans[self.layout.span_of(number * BLOCK_LENGTH) as usize].missing += 1;
            }
            if was_done && is_free {
                self.count_free(number);
            }
        }
    }

    /// Each peer that sent blocks of it, and how many.
    pub(crate) fn sent(&self) -> impl Iterator<Item = (PeerKey, u32)> + '_ {
        self.senders.iter().map(|sender| {
            let theirs = self.blocks.iter().filter(|block| block.writer == Some(sender.key));
            (sender.key, theirs.count() as u32)
        })
    }

    /// Who sent each block.
    pub(crate) fn senders(&self) -> Vec<Option<Sender>> {
        let sender = |key: PeerKey| self.senders.iter().find(|sender| sender.key == key).copied();
        self.blocks.iter().map(|block| block.writer.and_then(sender)).collect()
    }

    /// The blocks of `span` that are done.
    pub(crate) fn done_in(&self, span: u32) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.layout.blocks(self.piece, span);
        blocks.filter(|block| self.blocks[*block as usize].done)
    }
}

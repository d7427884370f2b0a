//! The memory for payload on its way to the disk: the budget of the swarms, and free buffers.
//!
//! A swarm reserves memory for a span from the budget, then a buffer is taken. Giving the buffer
//! back releases the memory. Buffers in use and free ones together never exceed the budget.

use std::collections::BTreeMap;

use piece_store::Span;
use swarm::SpanBudget;

/// The budget and the free buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// Swarms reserve memory from it.
    pub(crate) budget: SpanBudget,
    total: usize,
    in_use: usize,
    /// Free buffers by capacity, which is the span length of a torrent.
    free: BTreeMap<u32, Vec<Span>>,
    free_bytes: usize,
    peak: usize,
    /// Whether memory was released since [`Self::take_released`] was called.
    released: bool,
}

impl Buffers {
    /// Returns `total` bytes, none of them reserved.
    pub(super) fn new(total: usize) -> Self {
        let budget = SpanBudget::new(total);
        Self {
            budget,
            total,
            in_use: 0,
            free: BTreeMap::new(),
            free_bytes: 0,
            peak: 0,
            released: false,
        }
    }

    /// The most bytes in buffers, in use and free, so far.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// Takes a buffer of `length` bytes for a torrent with spans of `capacity` bytes.
    pub(crate) fn take(&mut self, capacity: u32, length: u32) -> Span {
        let reused = self.free.get_mut(&capacity).and_then(Vec::pop);
        self.free_bytes -= reused.as_ref().map_or(0, |_| capacity as usize);
        self.in_use += capacity as usize;
        self.trim();
        self.peak = self.peak.max(self.in_use + self.free_bytes);
        let mut span = reused.unwrap_or_else(|| Span::new(capacity));
        span.resize(length);
        span
    }

    /// Gives back a buffer from [`Self::take`], and its part of the budget.
    pub(crate) fn give(&mut self, capacity: u32, span: Span) {
        self.in_use -= capacity as usize;
        self.free_bytes += capacity as usize;
        self.free.entry(capacity).or_default().push(span);
        self.budget.release(capacity as usize);
        self.released = true;
    }

    /// Whether memory was released since the last call.
    pub(crate) fn take_released(&mut self) -> bool {
        std::mem::take(&mut self.released)
    }

    /// Frees the memory of free buffers.
    pub(crate) fn shrink(&mut self) {
        self.free.clear();
        self.free_bytes = 0;
    }

    /// Drops free buffers as far as buffers in use need their memory.
    fn trim(&mut self) {
        while self.in_use + self.free_bytes > self.total
            && let Some(mut entry) = self.free.first_entry()
        {
            match entry.get_mut().pop() {
                Some(_) => self.free_bytes -= *entry.key() as usize,
                None => _ = entry.remove(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused() {
        let mut buffers = Buffers::new(64);
        let taken: Vec<Span> = (0..4).map(|_| buffers.take(16, 16)).collect();
        let places: Vec<*const u8> = taken.iter().map(|span| span.as_ptr()).collect();
        taken.into_iter().for_each(|span| buffers.give(16, span));
        let again: Vec<Span> = (0..4).map(|_| buffers.take(16, 9)).collect();
        assert!(again.iter().all(|span| span.len() == 9 && places.contains(&span.as_ptr())));
    }

    #[test]
    fn free_buffers_make_room_for_others() {
        let mut buffers = Buffers::new(64);
        let small: Vec<Span> = (0..4).map(|_| buffers.take(16, 16)).collect();
        small.into_iter().for_each(|span| buffers.give(16, span));
        assert_eq!(buffers.free_bytes, 64);
        let large = buffers.take(32, 32);
        assert_eq!((buffers.in_use, buffers.free_bytes), (32, 32));
        buffers.give(32, large);
        assert_eq!((buffers.in_use, buffers.free_bytes), (0, 64));
    }
}

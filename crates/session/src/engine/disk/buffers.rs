//! The memory for payload on its way to the disk: how much of it swarms may still reserve, and the
//! buffers that are free to be used again.
//!
//! A swarm reserves from the budget; the buffer is taken when the span is opened; giving the buffer
//! back releases the budget. Buffers in use and free ones together never hold more than the budget.

use std::collections::BTreeMap;

use piece_store::Span;
use swarm::SpanBudget;

/// The budget and the free buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// What swarms reserve from.
    pub(crate) budget: SpanBudget,
    total: usize,
    in_use: usize,
    /// Free buffers by their capacity, the span length of the torrent they were made for.
    free: BTreeMap<u32, Vec<Span>>,
    free_bytes: usize,
    peak: usize,
    /// Whether memory was released since [`Self::take_released`] was called.
    released: bool,
}

impl Buffers {
    /// `total` bytes, none of them reserved.
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

    /// The most bytes that buffers, in use and free, have held at a time.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }

    /// A buffer of `length` bytes for a torrent with spans of `capacity` bytes, reserved before.
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

    /// A buffer from [`Self::take`] is free again, and so is its part of the budget.
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

    /// Gives the memory of free buffers back to the system.
    pub(crate) fn shrink(&mut self) {
        self.free.clear();
        self.free_bytes = 0;
    }

    /// Drops free buffers of torrents with other span lengths, as far as their memory is in use.
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
    fn buffers_are_used_again() {
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

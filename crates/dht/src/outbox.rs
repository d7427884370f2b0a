//! Datagrams that wait to be sent, in one reused buffer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use crate::Transmit;

/// The most bytes that wait. Whoever drains the polls after each call never sees it reached.
const MAX_OUTBOX: usize = 64 * 1024;

/// The datagrams, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    entries: VecDeque<(SocketAddr, Range<usize>)>,
}

impl Outbox {
    /// Appends the datagram that `write` appends to its argument, unless it is longer than `limit` or
    /// there is no room. Returns its length.
    pub(crate) fn push(
        &mut self,
        to: SocketAddr,
        limit: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<usize> {
        if self.entries.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end - start > limit || end > MAX_OUTBOX {
            self.bytes.truncate(start);
            return None;
        }
        self.entries.push_back((to, start..end));
        Some(end - start)
    }

    pub(crate) fn pop(&mut self) -> Option<Transmit<'_>> {
        let (to, range) = self.entries.pop_front()?;
        Some(Transmit { to, bytes: &self.bytes[range] })
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_wait_within_limits() {
        let mut outbox = Outbox::default();
        let to: SocketAddr = "45.1.2.3:1".parse().unwrap();
        let mut push = |length: usize, limit: usize| {
            outbox.push(to, limit, |out| out.resize(out.len() + length, length as u8))
        };
        assert_eq!((push(5, 5), push(6, 5), push(7, 9)), (Some(5), None, Some(7)));
        let more = (0..100).filter(|_| push(1000, 1024).is_some()).count();
        assert_eq!(more, (MAX_OUTBOX - 12) / 1000);
        assert_eq!(outbox.pop().unwrap().bytes, [5; 5]);
        assert_eq!(outbox.pop().unwrap().bytes, [7; 7]);
        while outbox.pop().is_some() {}
        assert_eq!(outbox.push(to, 9, |out| out.push(1)), Some(1));
        assert_eq!(outbox.pop().unwrap().bytes, [1]);
        assert!(outbox.memory() <= 2 * MAX_OUTBOX);
    }
}

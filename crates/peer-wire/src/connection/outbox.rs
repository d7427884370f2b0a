//! The queue of bytes and block payload to send.
//!
//! ```text
//! bytes:    | ..sent.. | have have request | block head | block head | choke |
//!                      ^ sent              payload ^      payload ^
//! ```
//!
//! One buffer holds all messages, so many small ones are sent as one slice. A block's payload is
//! only a position in that stream: the caller has the data.

use std::collections::VecDeque;

use bt_types::BlockRequest;

use crate::message::{Message, put_block_head, put_extended};

/// The next thing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// Payload of a block. The caller has the data.
    Payload {
        /// The block.
        request: BlockRequest,
        /// The offset in the block of the first byte to send.
        offset: u32,
        /// How many bytes to send: the rest of the block.
        length: u32,
    },
}

impl Transmit<'_> {
    /// Returns how many bytes there are to send; never 0.
    pub fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Payload { length, .. } => *length as usize,
        }
    }
}

/// A buffer with more bytes is freed as soon as it is sent; a smaller one when the connection is
/// idle.
const KEPT_CAPACITY: usize = 16 * 1024;

/// Bytes and positions of payload, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How many of `bytes` were sent.
    sent: usize,
    payloads: VecDeque<Payload>,
    /// How many bytes of the first payload were sent.
    payload_sent: u32,
    /// How many bytes of payload are queued.
    pending: u64,
}

/// The payload of `request` comes after the first `at` of the bytes.
#[derive(Debug, Clone, Copy)]
struct Payload {
    at: usize,
    request: BlockRequest,
}

impl Outbox {
    pub(super) fn push(&mut self, message: Message<'_>) {
        message.encode(&mut self.bytes);
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Queues an extension message with the content `start` and `rest`.
    pub(super) fn push_extended(&mut self, id: u8, start: &[u8], rest: &[u8]) {
        put_extended(&mut self.bytes, id, start, rest);
    }

    /// Queues the head of a block and the position of its payload.
    pub(super) fn push_block(&mut self, request: BlockRequest) {
        let (piece, length) = (request.piece().get(), request.length());
        put_block_head(&mut self.bytes, piece, request.offset(), length);
        self.payloads.push_back(Payload { at: self.bytes.len(), request });
        self.pending += u64::from(length);
    }

    /// Returns what is queued, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Transmit<'_>> {
        Transmits { outbox: self, position: self.sent, payload: 0, payload_sent: self.payload_sent }
    }

    /// Removes the next `length` bytes, which were sent. Returns whether there were any.
    pub(super) fn transmitted(&mut self, length: usize) -> bool {
        let mut left = length;
        while left > 0 {
            let Some(next) = self.iter().next() else { break };
            let step = left.min(next.length());
            match next {
                Transmit::Bytes(_) => self.sent += step,
                Transmit::Payload { .. } => self.payload_sent(step as u32),
            }
            left -= step;
        }
        self.tidy();
        left < length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.payloads.is_empty()
    }

    /// Returns how many bytes, without payload, are queued.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Returns how many bytes of payload are queued.
    pub(super) fn pending_payload(&self) -> u64 {
        self.pending
    }

    /// Returns how many bytes of heap memory are held.
    pub(super) fn buffered(&self) -> usize {
        self.bytes.capacity() + self.payloads.capacity() * size_of::<Payload>()
    }

    /// Frees the memory if nothing is queued.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn payload_sent(&mut self, step: u32) {
        self.payload_sent += step;
        self.pending -= u64::from(step);
        let length = self.payloads.front().map_or(0, |payload| payload.request.length());
        if self.payload_sent >= length {
            self.payloads.pop_front();
            self.payload_sent = 0;
        }
    }

    /// Removes the sent bytes, if they are all or most of a large buffer.
    fn tidy(&mut self) {
        let all = self.sent == self.bytes.len();
        if !all && (self.sent < KEPT_CAPACITY || self.sent < self.bytes.len() / 2) {
            return;
        }
        self.bytes.drain(..self.sent);
        self.payloads.iter_mut().for_each(|payload| payload.at -= self.sent);
        self.sent = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes = Vec::new();
        }
    }
}

/// The iterator over the outbox.
struct Transmits<'a> {
    outbox: &'a Outbox,
    /// The offset of the next byte in `bytes`.
    position: usize,
    /// The index of the next payload.
    payload: usize,
    /// The offset in that payload.
    payload_sent: u32,
}

impl<'a> Iterator for Transmits<'a> {
    type Item = Transmit<'a>;

    fn next(&mut self) -> Option<Transmit<'a>> {
        let payload = self.outbox.payloads.get(self.payload);
        let end = payload.map_or(self.outbox.bytes.len(), |payload| payload.at);
        if self.position < end {
            let bytes = self.outbox.bytes.get(self.position..end)?;
            self.position = end;
            return Some(Transmit::Bytes(bytes));
        }
        let request = payload?.request;
        let offset = std::mem::take(&mut self.payload_sent);
        self.payload += 1;
        Some(Transmit::Payload { request, offset, length: request.length() - offset })
    }
}

//! Our requests.
//!
//! A request that was cancelled, or that a choke made void, is remembered, because its block may
//! still come. Most blocks come in the order of the requests, so a search usually ends at the first
//! entry.

use std::collections::VecDeque;

use bt_types::BlockRequest;

use crate::message::WireRequest;

/// How many of our requests may be outstanding.
pub const MAX_REQUESTS: usize = 512;

/// Our requests, oldest first: at most [`MAX_REQUESTS`] live ones and as many void ones.
#[derive(Debug, Default)]
pub(super) struct Requests {
    entries: VecDeque<Entry>,
    live: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    request: BlockRequest,
    state: State,
}

/// Whether we still want the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// We want it.
    Live,
    /// We do not: we cancelled it, or the peer choked us without the fast extension.
    Void,
}

impl Requests {
    /// Adds a request. Returns whether there was room.
    pub(super) fn push(&mut self, request: BlockRequest) -> bool {
        let room = self.live < MAX_REQUESTS;
        if room {
            self.entries.push_back(Entry { request, state: State::Live });
            self.live += 1;
        }
        room
    }

    /// Marks a live request as void. Returns whether there was one.
    pub(super) fn void(&mut self, request: BlockRequest) -> bool {
        let live = Entry { request, state: State::Live };
        let Some(entry) = self.entries.iter_mut().find(|entry| **entry == live) else {
            return false;
        };
        entry.state = State::Void;
        self.live -= 1;
        self.forget_oldest_void();
        true
    }

    /// Marks every request as void.
    pub(super) fn void_all(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.state = State::Void);
        self.live = 0;
        self.forget_oldest_void();
    }

    /// Removes the request that a block answers: a live one, else a void one.
    pub(super) fn take_for_block(&mut self, wire: WireRequest) -> Option<BlockRequest> {
        let first = self.entries.front().filter(|entry| entry.is_answered_by(wire));
        if first.is_some_and(|entry| entry.state == State::Live) {
            return self.remove(0).map(|entry| entry.request);
        }
        let live = |entry: &Entry| entry.state == State::Live && entry.is_answered_by(wire);
        let position = self.entries.iter().position(live);
        let position = position.or_else(|| self.position(wire))?;
        self.remove(position).map(|entry| entry.request)
    }

    /// Removes the oldest request that a reject answers. Returns it and its state.
    pub(super) fn take_for_reject(&mut self, wire: WireRequest) -> Option<(BlockRequest, State)> {
        let position = self.position(wire)?;
        self.remove(position).map(|entry| (entry.request, entry.state))
    }

    /// Returns how many requests are live.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Returns the live requests, oldest first.
    pub(super) fn iter_live(&self) -> impl Iterator<Item = BlockRequest> {
        let live = self.entries.iter().filter(|entry| entry.state == State::Live);
        live.map(|entry| entry.request)
    }

    /// Returns how many bytes of heap memory are held.
    pub(super) fn buffered(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Frees the memory if there are no requests.
    pub(super) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn position(&self, wire: WireRequest) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is_answered_by(wire))
    }

    fn remove(&mut self, position: usize) -> Option<Entry> {
        let entry = self.entries.remove(position)?;
        if entry.state == State::Live {
            self.live -= 1;
        }
        Some(entry)
    }

    fn forget_oldest_void(&mut self) {
        while self.entries.len() - self.live > MAX_REQUESTS {
            let oldest = self.entries.iter().position(|entry| entry.state == State::Void);
            oldest.and_then(|position| self.entries.remove(position));
        }
    }
}

impl Entry {
    fn is_answered_by(&self, wire: WireRequest) -> bool {
        WireRequest::from(self.request) == wire
    }
}

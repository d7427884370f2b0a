//! The requests we sent and what became of them.
//!
//! A request that we cancelled, or that a choke made void, is remembered: its block may be on its
//! way, and is then no misbehaviour. Blocks usually come in the order in which they were asked for,
//! so the first entry is looked at first.

use std::collections::VecDeque;

use bt_types::BlockRequest;

use crate::message::WireRequest;

/// How many of our requests may be outstanding.
pub const MAX_REQUESTS: usize = 512;

/// Our requests, oldest first: at most [`MAX_REQUESTS`] that count and as many that are void.
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
    /// We do.
    Live,
    /// It was cancelled, or the peer choked us without the fast extension.
    Void,
}

impl Requests {
    /// Adds a request, unless there are too many.
    pub(super) fn push(&mut self, request: BlockRequest) -> bool {
        let room = self.live < MAX_REQUESTS;
        if room {
            self.entries.push_back(Entry { request, state: State::Live });
            self.live += 1;
        }
        room
    }

    /// Marks a live request as void; says whether there was one.
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

    /// Takes out the request that a block answers: a live one, else a void one.
    pub(super) fn take_for_block(&mut self, wire: WireRequest) -> Option<BlockRequest> {
        let first = self.entries.front().filter(|entry| entry.answers(wire));
        if first.is_some_and(|entry| entry.state == State::Live) {
            return self.remove(0).map(|entry| entry.request);
        }
        let live = |entry: &Entry| entry.state == State::Live && entry.answers(wire);
        let position = self.entries.iter().position(live);
        let position = position.or_else(|| self.position(wire))?;
        self.remove(position).map(|entry| entry.request)
    }

    /// Takes out the oldest request that a reject answers, and tells what it was.
    pub(super) fn take_for_reject(&mut self, wire: WireRequest) -> Option<(BlockRequest, State)> {
        let position = self.position(wire)?;
        self.remove(position).map(|entry| (entry.request, entry.state))
    }

    /// How many requests count.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The requests that count, oldest first.
    pub(super) fn iter_live(&self) -> impl Iterator<Item = BlockRequest> {
        let live = self.entries.iter().filter(|entry| entry.state == State::Live);
        live.map(|entry| entry.request)
    }

    /// How many bytes of memory are held.
    pub(super) fn buffered(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Gives back the memory if there is nothing to remember.
    pub(super) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn position(&self, wire: WireRequest) -> Option<usize> {
        self.entries.iter().position(|entry| entry.answers(wire))
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
    fn answers(&self, wire: WireRequest) -> bool {
        WireRequest::from(self.request) == wire
    }
}

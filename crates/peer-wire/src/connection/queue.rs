//! The peer's requests that are not answered yet.

use std::collections::VecDeque;

use bt_types::BlockRequest;

/// How many unanswered requests of a peer are kept. This is the one limit for them: nothing behind
/// the connection keeps requests of its own. rTorrent 0.9.8 has up to 2,048 outstanding, whatever
/// `reqq` says.
pub const MAX_QUEUED_REQUESTS: usize = 2048;

/// Requests in the order in which they came: those that are being answered, then those that wait.
///
/// Answers mostly go out in that order, so each search begins where it mostly ends at once.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    requests: VecDeque<BlockRequest>,
    /// How many, from the front, [`RequestQueue::take_next`] gave out.
    given: usize,
}

impl RequestQueue {
    /// Adds a request; returns whether there was room.
    pub(super) fn push(&mut self, request: BlockRequest) -> bool {
        let room = self.requests.len() < MAX_QUEUED_REQUESTS;
        if room {
            self.requests.push_back(request);
        }
        room
    }

    /// Gives out the oldest request that waits. It stays in the queue until it is answered.
    pub(super) fn take_next(&mut self) -> Option<BlockRequest> {
        let next = self.requests.get(self.given).copied();
        self.given += usize::from(next.is_some());
        next
    }

    /// Removes the oldest such request; returns whether there was one.
    pub(super) fn remove(&mut self, request: BlockRequest) -> bool {
        let position = self.requests.iter().position(|queued| *queued == request);
        self.remove_at(position)
    }

    /// Removes the newest such request; returns whether there was one.
    pub(super) fn remove_newest(&mut self, request: BlockRequest) -> bool {
        let position = self.requests.iter().rposition(|queued| *queued == request);
        self.remove_at(position)
    }

    /// Removes the requests that wait, oldest first.
    pub(super) fn drain_waiting(&mut self) -> impl Iterator<Item = BlockRequest> + '_ {
        self.requests.drain(self.given..)
    }

    /// Removes every request.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.given = 0;
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// How many bytes of memory are held.
    pub(super) fn buffered(&self) -> usize {
        self.requests.capacity() * size_of::<BlockRequest>()
    }

    /// Gives back the memory if there are no requests.
    pub(super) fn shrink(&mut self) {
        if self.requests.is_empty() {
            *self = Self::default();
        }
    }

    fn remove_at(&mut self, position: Option<usize>) -> bool {
        let Some(position) = position else { return false };
        self.given -= usize::from(position < self.given);
        self.requests.remove(position).is_some()
    }
}

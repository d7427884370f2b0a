//! The peer's unanswered requests.

use std::collections::VecDeque;

use bt_types::BlockRequest;

/// How many unanswered requests of a peer are kept. This is the only such limit, because no other
/// part of the program queues a peer's requests. rTorrent 0.9.8 sends up to 2,048 and ignores
/// `reqq`.
pub const MAX_QUEUED_REQUESTS: usize = 2048;

/// Requests in the order of arrival: first those being answered, then those that wait.
///
/// Most answers are sent in that order, so a search usually ends at the first request.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    requests: VecDeque<BlockRequest>,
    /// How many, from the front, are being answered: [`RequestQueue::take_next`] returned them.
    in_progress: usize,
}

impl RequestQueue {
    /// Adds a request. Returns whether there was room.
    pub(super) fn push(&mut self, request: BlockRequest) -> bool {
        let room = self.requests.len() < MAX_QUEUED_REQUESTS;
        if room {
            self.requests.push_back(request);
        }
        room
    }

    /// Returns the oldest request that waits. It stays in the queue until it is answered.
    pub(super) fn take_next(&mut self) -> Option<BlockRequest> {
        let next = self.requests.get(self.in_progress).copied();
        self.in_progress += usize::from(next.is_some());
        next
    }

    /// Removes the oldest request equal to `request`. Returns whether there was one.
    pub(super) fn remove(&mut self, request: BlockRequest) -> bool {
        let position = self.requests.iter().position(|queued| *queued == request);
        self.remove_at(position)
    }

    /// Removes the newest request equal to `request`. Returns whether there was one.
    pub(super) fn remove_newest(&mut self, request: BlockRequest) -> bool {
        let position = self.requests.iter().rposition(|queued| *queued == request);
        self.remove_at(position)
    }

    /// Removes the requests that wait, oldest first.
    pub(super) fn drain_waiting(&mut self) -> impl Iterator<Item = BlockRequest> + '_ {
        self.requests.drain(self.in_progress..)
    }

    /// Removes every request.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.in_progress = 0;
    }

    /// Returns how many requests there are.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Returns how many bytes of heap memory are held.
    pub(super) fn buffered(&self) -> usize {
        self.requests.capacity() * size_of::<BlockRequest>()
    }

    /// Frees the memory if there are no requests.
    pub(super) fn shrink(&mut self) {
        if self.requests.is_empty() {
            *self = Self::default();
        }
    }

    fn remove_at(&mut self, position: Option<usize>) -> bool {
        let Some(position) = position else { return false };
        self.in_progress -= usize::from(position < self.in_progress);
        self.requests.remove(position).is_some()
    }
}

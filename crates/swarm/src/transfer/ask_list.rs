//! Which peer we ask for blocks next.

use std::collections::VecDeque;

use crate::peer::{AskState, PeerTransfer, Peers};
use crate::spans::SpanBudget;
use crate::vocabulary::PeerKey;

/// The peers that we ask for blocks next, and those that we would ask if there were memory.
#[derive(Debug)]
pub(crate) struct AskList {
    queue: VecDeque<PeerKey>,
    /// While there are peers without memory: the bytes that the last failed reservation needs, 0
    /// where that is not known.
    starved: Option<usize>,
    /// The last of them that got some.
    last_fed: PeerKey,
    /// Whether there may be something to ask the idle peers for. They are queued once for many
    /// messages.
    idle_may_help: bool,
}

impl AskList {
    pub(super) fn new() -> Self {
        let queue = VecDeque::new();
        Self { queue, starved: None, last_fed: PeerKey(0), idle_may_help: false }
    }

    /// Queues the peer, if it may be asked for anything.
    pub(super) fn queue(&mut self, peers: &mut Peers, key: PeerKey) {
        if let Some(peer) = peers.transfer_mut(key) {
            self.queue_peer(key, peer);
        }
    }

    /// The same, for a peer at hand.
    pub(super) fn queue_peer(&mut self, key: PeerKey, peer: &mut PeerTransfer) {
        if peer.ask_state != AskState::Queued && peer.may_send_something() {
            peer.ask_state = AskState::Queued;
            self.queue.push_back(key);
        }
    }

    /// Has the idle peers queued later.
    pub(super) fn wake_idle_later(&mut self) {
        self.idle_may_help = true;
    }

    /// Queues the idle peers, if that is due.
    pub(super) fn wake_idle_if_due(&mut self, peers: &mut Peers) {
        if !std::mem::take(&mut self.idle_may_help) {
            return;
        }
        self.wake(peers, AskState::Idle);
        if self.starved.is_some() {
            // A block that became free may be in memory that is reserved already.
            self.wake(peers, AskState::Starved);
        }
    }

    fn wake(&mut self, peers: &mut Peers, state: AskState) {
        let peers = peers.transfers_mut().filter(|(_, peer)| peer.ask_state == state);
        peers.for_each(|(key, peer)| self.queue_peer(key, peer));
    }

    /// Removes the next peer to ask. Queues a starved peer before, if memory suffices for one.
    pub(super) fn pop(&mut self, peers: &mut Peers, budget: &SpanBudget) -> Option<PeerKey> {
        self.feed_starved(peers, budget);
        self.queue.pop_front()
    }

    fn feed_starved(&mut self, peers: &mut Peers, budget: &SpanBudget) {
        if self.starved.is_none() || self.is_short(budget) {
            return;
        }
        let next = peers
            .transfers_after(self.last_fed)
            .find(|(_, peer)| peer.ask_state == AskState::Starved && peer.may_send_something());
        let next = next.map(|(key, _)| key);
        // What the other peers need is not known.
        self.starved = next.map(|_| 0);
        if let Some(key) = next {
            self.last_fed = key;
            self.queue(peers, key);
        }
    }

    /// Reserves `bytes`; notes what is needed if it fails.
    pub(super) fn reserve(&mut self, bytes: usize, budget: &mut SpanBudget) -> bool {
        let reserved = budget.try_reserve(bytes);
        if !reserved {
            self.starved = Some(bytes);
        }
        reserved
    }

    /// Forgets how much memory is needed: some peers may need less than the one that failed last.
    pub(super) fn reset_need(&mut self) {
        self.starved = self.starved.map(|_| 0);
    }

    /// Whether there are peers without memory.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.is_some()
    }

    /// Whether the last reservation failed and would fail again.
    pub(crate) fn is_short(&self, budget: &SpanBudget) -> bool {
        self.starved.is_some_and(|need| budget.available() < need)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.starved = None;
    }
}

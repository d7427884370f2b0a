//! One TCP connection as the engine sees it, from before it is established to its end.
//!
//! ```text
//!  outgoing: Connecting --established--> Handshaking --handshake--> Live
//!  incoming:                             Handshaking --handshake--> Live
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bt_types::BlockRequest;
use peer_wire::Connection;
use piece_store::TorrentKey;

use super::disk::ReadRange;
use super::keys::LinkKey;
use crate::limits::half_open_each;

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The socket is being connected.
    Connecting { torrent: TorrentKey, deadline: Duration },
    /// Bytes may flow, the handshake is not complete; an incoming link has no torrent yet.
    Handshaking { torrent: Option<TorrentKey> },
    /// A peer of a swarm.
    Live { torrent: TorrentKey },
}

impl Stage {
    pub(super) fn torrent(self) -> Option<TorrentKey> {
        match self {
            Self::Connecting { torrent, .. } | Self::Live { torrent } => Some(torrent),
            Self::Handshaking { torrent } => torrent,
        }
    }

    pub(super) fn is_half_open(self) -> bool {
        !matches!(self, Self::Live { .. })
    }
}

/// A block that the connection sends: where its bytes lie on the disk.
#[derive(Debug)]
pub(super) struct Upload<F> {
    pub(super) request: BlockRequest,
    /// What was read together with it. A weak pointer: many links that don't drain would hold many
    /// files open.
    pub(super) range: Weak<ReadRange<F>>,
    /// Whether they are being read again.
    pub(super) refreshing: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link<F> {
    pub(super) address: SocketAddr,
    pub(super) outgoing: bool,
    pub(super) stage: Stage,
    pub(super) connection: Connection,
    /// What the blocks in the connection's send queue consist of, in its order.
    pub(super) uploads: VecDeque<Upload<F>>,
    /// Bytes asked of the store for this peer and not answered yet.
    pub(super) reading: u64,
    /// Whether the caller was told to transmit and has not asked since.
    pub(super) transmit_due: bool,
    /// Bytes that the link's buffers held when they were counted last.
    counted: usize,
}

impl<F> Link<F> {
    pub(super) fn new(
        address: SocketAddr,
        outgoing: bool,
        stage: Stage,
        connection: Connection,
    ) -> Self {
        Self {
            address,
            outgoing,
            stage,
            connection,
            uploads: VecDeque::new(),
            reading: 0,
            transmit_due: false,
            counted: 0,
        }
    }

    /// The bytes of `request` were read: for a block being sent, or for one to be sent now.
    pub(super) fn take_range(&mut self, request: BlockRequest, range: &Arc<ReadRange<F>>) {
        let range = Arc::downgrade(range);
        // Only the one that is being sent is ever read again.
        let refreshed = self.uploads.front_mut().filter(|upload| upload.refreshing);
        if let Some(upload) = refreshed.filter(|upload| upload.request == request) {
            (upload.range, upload.refreshing) = (range, false);
        } else if self.connection.send_block(request) {
            self.uploads.push_back(Upload { request, range, refreshing: false });
        }
    }

    /// What its buffers hold, in bytes.
    fn buffered(&self) -> usize {
        self.connection.buffered() + self.uploads.capacity() * size_of::<Upload<F>>()
    }

    /// Drops what is kept of blocks that the connection has sent or given up, up to `request`.
    pub(super) fn forget_uploads_before(&mut self, request: BlockRequest) {
        while self.uploads.front().is_some_and(|upload| upload.request != request) {
            self.uploads.pop_front();
        }
    }
}

/// All links, in slots that are used again with a new generation.
#[derive(Debug)]
pub(super) struct Links<F> {
    slots: Vec<(u32, Option<Link<F>>)>,
    free: Vec<usize>,
    half_open: HalfOpen,
    count: usize,
    /// Bytes that all links' buffers held when they were counted last.
    counted: usize,
}

/// Connections without a complete handshake, by who began them.
#[derive(Debug)]
struct HalfOpen {
    max: usize,
    incoming: usize,
    outgoing: usize,
}

impl HalfOpen {
    fn of(&mut self, outgoing: bool) -> &mut usize {
        if outgoing { &mut self.outgoing } else { &mut self.incoming }
    }

    fn has_room(&self, outgoing: bool) -> bool {
        let same = if outgoing { self.outgoing } else { self.incoming };
        same < half_open_each(self.max) && self.incoming + self.outgoing < self.max
    }
}

impl<F> Links<F> {
    /// None yet; at most `max_half_open` without a complete handshake.
    pub(super) fn new(max_half_open: usize) -> Self {
        let half_open = HalfOpen { max: max_half_open, incoming: 0, outgoing: 0 };
        Self { slots: Vec::new(), free: Vec::new(), half_open, count: 0, counted: 0 }
    }

    pub(super) fn insert(&mut self, link: Link<F>) -> LinkKey {
        self.count += 1;
        *self.half_open.of(link.outgoing) += usize::from(link.stage.is_half_open());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        self.slots[slot].1 = Some(link);
        LinkKey::new(slot, self.slots[slot].0)
    }

    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link<F>> {
        let (generation, link) = self.slots.get_mut(key.slot())?;
        link.as_mut().filter(|_| LinkKey::new(key.slot(), *generation) == key)
    }

    pub(super) fn get(&self, key: LinkKey) -> Option<&Link<F>> {
        let (generation, link) = self.slots.get(key.slot())?;
        link.as_ref().filter(|_| LinkKey::new(key.slot(), *generation) == key)
    }

    pub(super) fn remove(&mut self, key: LinkKey) -> Option<Link<F>> {
        self.get_mut(key)?;
        let (generation, slot) = &mut self.slots[key.slot()];
        *generation = generation.wrapping_add(1);
        let link = slot.take()?;
        self.free.push(key.slot());
        self.count -= 1;
        self.counted -= link.counted;
        *self.half_open.of(link.outgoing) -= usize::from(link.stage.is_half_open());
        Some(link)
    }

    /// Moves a link on to `stage`.
    pub(super) fn set_stage(&mut self, key: LinkKey, stage: Stage) {
        let Some(link) = self.get_mut(key) else { return };
        let outgoing = link.outgoing;
        let before = std::mem::replace(&mut link.stage, stage);
        let half_open = self.half_open.of(outgoing);
        *half_open -= usize::from(before.is_half_open());
        *half_open += usize::from(stage.is_half_open());
    }

    /// Whether another connection may be begun (`outgoing`) or taken, of `max` in all.
    pub(super) fn has_room(&self, outgoing: bool, max: usize) -> bool {
        self.half_open.has_room(outgoing) && self.count < max
    }

    /// Whether no more connections may be taken because too many are without a complete handshake.
    pub(super) fn is_crowded(&self) -> bool {
        !self.half_open.has_room(false)
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The link in a slot, if there is one.
    pub(super) fn key_at(&self, slot: usize) -> Option<LinkKey> {
        let (generation, link) = self.slots.get(slot)?;
        link.as_ref().map(|_| LinkKey::new(slot, *generation))
    }

    /// Counts again what the buffers of one link hold. Returns what those of all links hold, in
    /// bytes, as far as it was counted.
    pub(super) fn count_buffers(&mut self, key: LinkKey) -> usize {
        let Some(link) = self.get_mut(key) else { return self.counted };
        let held = link.buffered();
        let before = std::mem::replace(&mut link.counted, held);
        self.counted = self.counted - before + held;
        self.counted
    }

    /// Counts what the buffers of all links hold, in bytes, and finds the link that holds most.
    pub(super) fn count_all_buffers(&mut self) -> (usize, Option<LinkKey>) {
        let (mut total, mut most) = (0, (0, None));
        for (slot, (generation, link)) in self.slots.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            link.counted = link.buffered();
            total += link.counted;
            most = most.max((link.counted, Some(LinkKey::new(slot, *generation))));
        }
        self.counted = total;
        (total, most.1)
    }
}

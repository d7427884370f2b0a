//! The links of a session: one for each TCP connection, from the attempt to connect to its end.

mod stages;
mod uploads;

use std::time::Duration;

use peer_wire::Connection;
use piece_store::TorrentKey;
use swarm::{ConnectFailure, DisconnectReason};

use super::keys::LinkKey;
use crate::limits::{CONNECT_TIMEOUT, DIAL_PAUSE, SWEEP_INTERVAL, half_open_each};

pub(super) use stages::{Connecting, Handshaking, Link, Open};
pub use uploads::Outgoing;

/// All links, in slots that are used again with a new generation.
#[derive(Debug)]
pub(super) struct Links<F> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    max: usize,
    count: usize,
    half_open: HalfOpen,
    /// Bytes in the buffers of all links, as counted last, and the most so far.
    buffered: usize,
    buffered_peak: usize,
    /// When to check all links for deadlines and memory.
    sweep_at: Duration,
    /// No connection is made before this.
    dial_at: Duration,
}

#[derive(Debug)]
struct Slot<F> {
    generation: u32,
    link: Option<Link<F>>,
    /// Whether the caller is asked to transmit.
    signalled: bool,
    /// Bytes in the buffers of the link, as counted last.
    buffered: usize,
}

/// Connections without a complete handshake, by the side that began them.
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

/// Why a link ends: for the swarm's policy, and in words.
#[derive(Debug)]
pub(super) struct LinkEnd {
    pub(super) reason: DisconnectReason,
    pub(super) wrong_peer: bool,
    pub(super) text: String,
}

impl LinkEnd {
    pub(super) fn new(reason: DisconnectReason, text: impl Into<String>) -> Self {
        Self { reason, wrong_peer: false, text: text.into() }
    }

    pub(super) fn wrong_peer(text: &str) -> Self {
        Self { wrong_peer: true, ..Self::new(DisconnectReason::Misbehaved, text) }
    }

    /// How an established connection failed before its handshake was complete.
    pub(super) fn handshake_failure(&self) -> ConnectFailure {
        if self.wrong_peer { ConnectFailure::WrongPeer } else { ConnectFailure::Handshake }
    }
}

impl<F> Links<F> {
    /// Returns no links; at most `max`, and `max_half_open` without a complete handshake.
    pub(super) fn new(now: Duration, max: usize, max_half_open: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            max,
            count: 0,
            half_open: HalfOpen { max: max_half_open, incoming: 0, outgoing: 0 },
            buffered: 0,
            buffered_peak: 0,
            sweep_at: now + SWEEP_INTERVAL,
            dial_at: now,
        }
    }

    pub(super) fn insert(&mut self, link: Link<F>) -> LinkKey {
        self.count += 1;
        if let Some(outgoing) = link.half_open() {
            *self.half_open.of(outgoing) += 1;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, link: None, signalled: false, buffered: 0 });
            self.slots.len() - 1
        });
        self.slots[slot].link = Some(link);
        LinkKey::new(slot, self.slots[slot].generation)
    }

    /// A link that was connecting is established.
    pub(super) fn establish(&mut self, key: LinkKey, connection: Connection) {
        let Some(Slot { link: Some(link), .. }) = self.slot_mut(key) else { return };
        if let Link::Connecting(Connecting { address, torrent, source, .. }) = *link {
            let expected = Some(torrent);
            let link_now = Handshaking { address, expected, source, connection };
            *link = Link::Handshaking(Box::new(link_now));
        }
    }

    /// The handshake of a link is complete: it is a peer of `torrent`.
    pub(super) fn open(&mut self, key: LinkKey, torrent: TorrentKey) {
        let Some(slot) = self.slot_mut(key) else { return };
        if let Some(Link::Handshaking(link)) = slot.link.take() {
            let outgoing = link.expected.is_some();
            slot.link = Some(Link::Open(Box::new(Open::new(torrent, *link))));
            *self.half_open.of(outgoing) -= 1;
        }
    }

    pub(super) fn remove(&mut self, key: LinkKey) -> Option<Link<F>> {
        let slot = self.slot_mut(key)?;
        let link = slot.link.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.signalled = false;
        let buffered = std::mem::take(&mut slot.buffered);
        self.buffered -= buffered;
        self.free.push(key.slot());
        self.count -= 1;
        if let Some(outgoing) = link.half_open() {
            *self.half_open.of(outgoing) -= 1;
        }
        Some(link)
    }

    pub(super) fn get(&self, key: LinkKey) -> Option<&Link<F>> {
        let slot = self.slots.get(key.slot())?;
        slot.link.as_ref().filter(|_| LinkKey::new(key.slot(), slot.generation) == key)
    }

    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link<F>> {
        self.slot_mut(key)?.link.as_mut()
    }

    /// The link, if its handshake is complete.
    pub(super) fn open_mut(&mut self, key: LinkKey) -> Option<&mut Open<F>> {
        match self.get_mut(key)? {
            Link::Open(link) => Some(link),
            Link::Connecting(_) | Link::Handshaking(_) => None,
        }
    }

    /// The torrent of a link, unless it has none yet.
    pub(super) fn torrent_of(&self, key: LinkKey) -> Option<TorrentKey> {
        self.get(key)?.torrent()
    }

    /// All links.
    pub(super) fn keys(&self) -> Vec<LinkKey> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.link.is_some());
        slots.map(|(number, slot)| LinkKey::new(number, slot.generation)).collect()
    }

    /// The connection of a link; `None` before it is established, and if there is no such link.
    pub(super) fn connection_mut(&mut self, key: LinkKey) -> Option<&mut Connection> {
        self.get_mut(key)?.connection_mut()
    }

    /// Checks the deadlines of a link. Returns `None` if none is due, and an error if the link
    /// ends. Otherwise there may be a message to send.
    pub(super) fn handle_timeout(
        &mut self,
        now: Duration,
        key: LinkKey,
    ) -> Option<Result<(), LinkEnd>> {
        match self.get_mut(key)? {
            Link::Connecting(link) => {
                let text = || format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                let end = |()| Err(LinkEnd::new(DisconnectReason::Failed, text()));
                (link.deadline <= now).then_some(()).map(end)
            }
            link @ (Link::Handshaking(_) | Link::Open(_)) => {
                let connection = link.connection_mut()?;
                connection.poll_timeout().filter(|at| *at <= now)?;
                let expired = connection.handle_timeout(now);
                let end = |expired: peer_wire::Expired| {
                    Err(LinkEnd::new(DisconnectReason::Idle, expired.to_string()))
                };
                Some(expired.map_or(Ok(()), end))
            }
        }
    }

    /// Whether a link has bytes to send.
    pub(super) fn has_bytes(&self, key: LinkKey) -> bool {
        let connection = self.get(key).and_then(Link::connection);
        connection.is_some_and(|connection| connection.poll_transmit().is_some())
    }

    /// Notes that the caller is asked to transmit. Returns whether it was not asked yet.
    pub(super) fn signal(&mut self, key: LinkKey) -> bool {
        self.slot_mut(key).is_some_and(|slot| !std::mem::replace(&mut slot.signalled, true))
    }

    /// The caller transmits now.
    pub(super) fn clear_signal(&mut self, key: LinkKey) {
        if let Some(slot) = self.slot_mut(key) {
            slot.signalled = false;
        }
    }

    /// Makes no connection for a while, since the system ran out of sockets.
    pub(super) fn pause_dialing(&mut self, now: Duration) {
        self.dial_at = now + DIAL_PAUSE;
    }

    /// Whether another connection may be made.
    pub(super) fn has_room_to_dial(&self, now: Duration) -> bool {
        self.half_open.has_room(true) && self.count < self.max && self.dial_at <= now
    }

    /// Whether another connection may be accepted.
    pub(super) fn has_room_to_accept(&self) -> bool {
        self.half_open.has_room(false) && self.count < self.max
    }

    /// Whether too many incoming connections are without a complete handshake to accept more.
    pub(super) fn is_crowded(&self) -> bool {
        !self.half_open.has_room(false)
    }

    /// Whether to check all links now. If so, sets the next time.
    pub(super) fn is_sweep_due(&mut self, now: Duration) -> bool {
        let due = self.sweep_at <= now;
        if due {
            self.sweep_at = now + SWEEP_INTERVAL;
        }
        due
    }

    pub(super) fn poll_timeout(&self) -> Duration {
        self.sweep_at
    }

    /// Counts the buffers of one link again. Returns the bytes of all, as counted last.
    pub(super) fn count_buffers(&mut self, key: LinkKey) -> usize {
        if let Some(Slot { link: Some(link), buffered, .. }) = self.slot_mut(key) {
            let now = link.buffered();
            let before = std::mem::replace(buffered, now);
            self.buffered = self.buffered - before + now;
        }
        self.buffered_peak = self.buffered_peak.max(self.buffered);
        self.buffered
    }

    /// Counts the buffers of all links again. Returns their bytes, and the link that holds most.
    pub(super) fn count_all_buffers(&mut self) -> (usize, Option<LinkKey>) {
        let (mut total, mut most) = (0, (0, None));
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let Some(link) = &slot.link else { continue };
            slot.buffered = link.buffered();
            total += slot.buffered;
            most = most.max((slot.buffered, Some(LinkKey::new(number, slot.generation))));
        }
        self.buffered = total;
        self.buffered_peak = self.buffered_peak.max(total);
        (total, most.1)
    }

    /// The most bytes that were counted in the buffers of all links.
    pub(super) fn buffered_peak(&self) -> usize {
        self.buffered_peak
    }

    /// The slot, if it still has this link.
    fn slot_mut(&mut self, key: LinkKey) -> Option<&mut Slot<F>> {
        let slot = self.slots.get_mut(key.slot())?;
        (LinkKey::new(key.slot(), slot.generation) == key).then_some(slot)
    }
}

//! The sockets of links: which can be read or written, and in which order they are served.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::FIRST_LINK;
use crate::engine::LinkKey;
use crate::limits::REFILL_INTERVAL;

/// The socket of one link.
pub(super) struct Socket {
    key: LinkKey,
    pub(super) stream: TcpStream,
    /// Whether the connection is not established yet.
    pub(super) connecting: bool,
    /// Whether the system reported it ready, and no `WouldBlock` since.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has closed: the socket is read to the end of the stream, also after short reads.
    pub(super) hung_up: bool,
    /// Whether the engine has bytes for it.
    pub(super) transmit: bool,
    /// Whether it is on the ready list.
    queued: bool,
    /// Whether it waits for a rate limit.
    throttled: bool,
}

impl Socket {
    pub(super) fn new(key: LinkKey, stream: TcpStream, connecting: bool) -> Self {
        Self {
            key,
            stream,
            connecting,
            readable: false,
            writable: false,
            hung_up: false,
            transmit: false,
            queued: false,
            throttled: false,
        }
    }
}

/// Every link's socket, by the slot of its link.
#[derive(Default)]
pub(super) struct Sockets {
    sockets: Vec<Option<Socket>>,
    ready: VecDeque<LinkKey>,
    throttled: VecDeque<LinkKey>,
    /// When the throttled ones are served again.
    refill_at: Duration,
}

impl Sockets {
    /// When a socket wants to be served, if one does.
    pub(super) fn next_turn(&self) -> Option<Duration> {
        match (self.ready.is_empty(), self.throttled.is_empty()) {
            (false, _) => Some(Duration::ZERO),
            (true, false) => Some(self.refill_at),
            (true, true) => None,
        }
    }

    pub(super) fn note_readiness(&mut self, slot: usize, event: &Event) {
        let Some(Some(socket)) = self.sockets.get_mut(slot) else { return };
        socket.hung_up |= event.is_read_closed() || event.is_error();
        socket.readable |= event.is_readable() || socket.hung_up;
        socket.writable |= event.is_writable() || event.is_write_closed();
        let key = socket.key;
        self.queue(key);
    }

    pub(super) fn insert(&mut self, poll: &Poll, mut socket: Socket) -> io::Result<()> {
        let slot = socket.key.slot();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket.stream, Token(FIRST_LINK + slot), interest)?;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(socket);
        Ok(())
    }

    pub(super) fn remove(&mut self, poll: &Poll, key: LinkKey) {
        let Some(slot) = self.sockets.get_mut(key.slot()) else { return };
        if slot.as_ref().is_none_or(|socket| socket.key != key) {
            return;
        }
        if let Some(mut socket) = slot.take() {
            let _ = poll.registry().deregister(&mut socket.stream);
        }
    }

    pub(super) fn get(&mut self, key: LinkKey) -> Option<&mut Socket> {
        self.sockets.get_mut(key.slot())?.as_mut().filter(|socket| socket.key == key)
    }

    /// Puts the link on the ready list.
    pub(super) fn queue(&mut self, key: LinkKey) {
        if let Some(socket) = self.get(key)
            && !std::mem::replace(&mut socket.queued, true)
        {
            self.ready.push_back(key);
        }
    }

    /// Has the link wait until the rate limits have room again.
    pub(super) fn throttle(&mut self, now: Duration, key: LinkKey) {
        let Some(socket) = self.get(key) else { return };
        if std::mem::replace(&mut socket.throttled, true) {
            return;
        }
        if self.throttled.is_empty() {
            self.refill_at = now + REFILL_INTERVAL;
        }
        self.throttled.push_back(key);
    }

    /// Queues the throttled links, in order, if they have waited long enough. Returns how many
    /// links are ready.
    pub(super) fn begin_turn(&mut self, now: Duration) -> usize {
        while self.refill_at <= now
            && let Some(key) = self.throttled.pop_front()
        {
            if let Some(socket) = self.get(key) {
                socket.throttled = false;
                self.queue(key);
            }
        }
        self.ready.len()
    }

    /// The next link on the ready list.
    pub(super) fn next_ready(&mut self) -> Option<LinkKey> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(socket) = self.get(key) {
                socket.queued = false;
                return Some(key);
            }
        }
        None
    }
}

//! The sockets of links: which of them have something to give or take, and the giving and taking.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use piece_store::Extent;
use rustix::net::SendFlags;

use super::{FIRST_LINK, Reactor, listen};
use crate::core::{LinkKey, Outgoing};
use crate::limits::{READ_PER_TURN, WRITE_PER_TURN};

/// A send from the page cache that takes longer was a read from the disk after all.
const SLOW_SEND: Duration = Duration::from_millis(10);
/// For how long files are not trusted to be resident after a slow send.
const DISTRUST: Duration = Duration::from_secs(60);

/// The socket of one link.
struct Socket {
    key: LinkKey,
    stream: TcpStream,
    connecting: bool,
    /// What the system said last, until it said `WouldBlock`.
    readable: bool,
    writable: bool,
    /// Whether the core has bytes for it.
    transmit: bool,
    /// Whether it stands on the ready list.
    queued: bool,
}

/// Every link's socket, by the slot of its link.
#[derive(Default)]
pub(super) struct Sockets {
    sockets: Vec<Option<Socket>>,
    ready: VecDeque<LinkKey>,
    throttled: Vec<LinkKey>,
    /// Until when `sendfile` is not used.
    distrust_until: Option<Instant>,
}

impl Sockets {
    pub(super) fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn is_any_throttled(&self) -> bool {
        !self.throttled.is_empty()
    }

    pub(super) fn note_readiness(&mut self, slot: usize, event: &Event) {
        let Some(Some(socket)) = self.sockets.get_mut(slot) else { return };
        socket.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        socket.writable |= event.is_writable() || event.is_write_closed();
        let key = socket.key;
        self.queue(key);
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

    fn insert(&mut self, poll: &Poll, mut socket: Socket) -> io::Result<()> {
        let slot = socket.key.slot();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket.stream, Token(FIRST_LINK + slot), interest)?;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(socket);
        Ok(())
    }

    fn get(&mut self, key: LinkKey) -> Option<&mut Socket> {
        self.sockets.get_mut(key.slot())?.as_mut().filter(|socket| socket.key == key)
    }

    fn queue(&mut self, key: LinkKey) {
        if let Some(socket) = self.get(key)
            && !socket.queued
        {
            socket.queued = true;
            self.ready.push_back(key);
        }
    }

    fn throttle(&mut self, key: LinkKey) {
        if !self.throttled.contains(&key) {
            self.throttled.push(key);
        }
    }

    fn is_distrusted(&self) -> bool {
        self.distrust_until.is_some_and(|until| Instant::now() < until)
    }
}

/// How a round of giving or taking ended.
#[derive(PartialEq, Eq)]
enum Round {
    /// The socket has no more to give, or takes no more.
    Drained,
    /// There is more, but the others have their turn.
    More,
    /// The rate limit is used up.
    Throttled,
    /// The link ended.
    Ended,
}

impl Reactor {
    pub(super) fn accept(&mut self) {
        if !std::mem::take(&mut self.accept_ready) {
            return;
        }
        while let Some((stream, address)) = self.accept_one() {
            let now = self.now();
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            if let Some(link) = self.core.handle_accepted(now, address) {
                self.add_socket(link, stream, false);
            }
        }
    }

    fn accept_one(&self) -> Option<(TcpStream, SocketAddr)> {
        let listeners = [&self.listeners.v4, &self.listeners.v6].into_iter().flatten();
        for listener in listeners {
            match listener.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => log::warn!("can't accept a connection: {error}"),
            }
        }
        None
    }

    pub(super) fn connect(&mut self, link: LinkKey, address: SocketAddr) {
        match listen::connect(address, self.bind) {
            Ok(stream) => self.add_socket(link, stream, true),
            Err(error) => {
                let now = self.now();
                self.core.handle_connect_failed(now, link, &error.to_string());
            }
        }
    }

    fn add_socket(&mut self, key: LinkKey, stream: TcpStream, connecting: bool) {
        // Messages are small and wait for nobody; payload is held together by `MSG_MORE`.
        let _ = stream.set_nodelay(true);
        let flags = (false, false, false, false);
        let (readable, writable, transmit, queued) = flags;
        let socket = Socket { key, stream, connecting, readable, writable, transmit, queued };
        if let Err(error) = self.sockets.insert(&self.poll, socket) {
            let now = self.now();
            self.core.handle_closed(now, key, Some(&error.to_string()));
        }
    }

    /// The core has bytes for the link.
    pub(super) fn transmit(&mut self, link: LinkKey) {
        if let Some(socket) = self.sockets.get(link) {
            socket.transmit = true;
            self.sockets.queue(link);
        }
    }

    /// Serves every link on the ready list once.
    pub(super) fn serve_links(&mut self) {
        for key in std::mem::take(&mut self.sockets.throttled) {
            self.sockets.queue(key);
        }
        for _ in 0..self.sockets.ready.len() {
            let Some(key) = self.sockets.ready.pop_front() else { return };
            let Some(socket) = self.sockets.get(key) else { continue };
            socket.queued = false;
            self.serve_link(key);
            self.act();
        }
    }

    fn serve_link(&mut self, key: LinkKey) {
        if !self.is_established(key) {
            return;
        }
        let read = self.read_link(key);
        if read == Round::Ended {
            return;
        }
        // What the bytes led to is sent in the same turn.
        self.act();
        let written = self.write_link(key);
        if read == Round::More || written == Round::More {
            self.sockets.queue(key);
        }
        if read == Round::Throttled || written == Round::Throttled {
            self.sockets.throttle(key);
        }
    }

    /// Finds out how an attempt to connect ended, once the system says that it has.
    fn is_established(&mut self, key: LinkKey) -> bool {
        let Some(socket) = self.sockets.get(key) else { return false };
        if !socket.connecting {
            return true;
        }
        if !socket.writable && !socket.readable {
            return false;
        }
        let outcome = match socket.stream.take_error() {
            Ok(None) => socket.stream.peer_addr().map(|_| ()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        let now = self.started.elapsed();
        match outcome {
            Ok(()) => {
                socket.connecting = false;
                self.core.handle_connected(now, key);
                self.act();
                true
            }
            // Woken for nothing: it is still on its way.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => false,
            Err(error) => {
                self.core.handle_connect_failed(now, key, &error.to_string());
                false
            }
        }
    }

    fn read_link(&mut self, key: LinkKey) -> Round {
        let mut total = 0;
        loop {
            let now = self.started.elapsed();
            let Some(socket) = self.sockets.get(key) else { return Round::Ended };
            if !socket.readable {
                return Round::Drained;
            }
            let allowance = self.core.receive_allowance(now, key);
            if allowance == 0 {
                return Round::Throttled;
            }
            let room = allowance.min(self.receive_buffer.len());
            let buffer = &mut self.receive_buffer[..room];
            match socket.stream.read(buffer) {
                Ok(0) => {
                    self.core.handle_closed(now, key, None);
                    return Round::Ended;
                }
                Ok(length) => {
                    // A short read says that there is no more (epoll(7), "edge-triggered").
                    socket.readable = length == room;
                    self.core.handle_bytes(now, key, &self.receive_buffer[..length]);
                    total += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.core.handle_closed(now, key, Some(&error.to_string()));
                    return Round::Ended;
                }
            }
            if total >= READ_PER_TURN {
                return Round::More;
            }
        }
    }

    fn write_link(&mut self, key: LinkKey) -> Round {
        let mut total = 0;
        while total < WRITE_PER_TURN {
            let now = self.started.elapsed();
            let distrusted = self.sockets.is_distrusted();
            let Some(socket) = self.sockets.get(key) else { return Round::Ended };
            if !socket.transmit || !socket.writable {
                return Round::Drained;
            }
            let sent = match self.core.poll_transmit(now, key) {
                None => {
                    socket.transmit = false;
                    let throttled = self.core.is_send_throttled(now, key);
                    socket.transmit = throttled;
                    return if throttled { Round::Throttled } else { Round::Drained };
                }
                Some(Outgoing::Bytes { bytes, more }) => send(&socket.stream, bytes, more),
                Some(Outgoing::Payload { extent, fresh }) if fresh && !distrusted => {
                    let began = Instant::now();
                    let sent = send_file(&socket.stream, &extent);
                    if began.elapsed() > SLOW_SEND {
                        log::debug!("a send took {} ms", began.elapsed().as_millis());
                        self.sockets.distrust_until = Some(Instant::now() + DISTRUST);
                    }
                    sent
                }
                Some(Outgoing::Payload { extent, .. }) => {
                    match read_resident(&extent, &mut self.receive_buffer) {
                        Some(0) | None => {
                            self.core.refresh_upload(now, key);
                            socket.transmit = false;
                            return Round::Drained;
                        }
                        Some(length) => send(&socket.stream, &self.receive_buffer[..length], false),
                    }
                }
            };
            match sent {
                Ok(length) => {
                    self.core.handle_transmitted(now, key, length);
                    total += length;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(socket) = self.sockets.get(key) {
                        socket.writable = false;
                    }
                    return Round::Drained;
                }
                Err(error) => {
                    self.core.handle_closed(now, key, Some(&error.to_string()));
                    return Round::Ended;
                }
            }
        }
        Round::More
    }
}

/// Sends messages; `more` holds them back until the payload that follows.
fn send(stream: &TcpStream, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
    Ok(rustix::net::send(stream.as_fd(), bytes, flags)?)
}

/// Sends payload from the page cache without passing through our memory.
fn send_file(stream: &TcpStream, extent: &Extent) -> io::Result<usize> {
    let mut offset = extent.offset;
    let length = extent.length as usize;
    let sent =
        rustix::fs::sendfile(stream.as_fd(), extent.file.as_fd(), Some(&mut offset), length)?;
    if sent == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
    }
    Ok(sent)
}

/// Reads payload without waiting for the disk; `None` if it is not in memory.
fn read_resident(extent: &Extent, buffer: &mut [u8]) -> Option<usize> {
    let length = (extent.length as usize).min(buffer.len());
    let mut slices = [io::IoSliceMut::new(&mut buffer[..length])];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    rustix::io::preadv2(extent.file.as_fd(), &mut slices, extent.offset, flags).ok()
}

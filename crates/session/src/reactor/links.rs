//! The sockets of links are accepted, connected, read and written.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustix::io::Errno;

use super::Reactor;
use super::send::Sent;
use super::sockets::Socket;
use crate::engine::LinkKey;
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN, GATHERED};
use crate::net;

/// How a round of reading or writing ended.
#[derive(PartialEq, Eq)]
enum Round {
    /// The socket has no more bytes, or takes no more.
    Drained,
    /// There is more, for the next turn.
    More,
    /// The rate limit is used up.
    Throttled,
    /// The link ended.
    Ended,
}

/// One read or write.
enum Step {
    /// That many bytes; there may be more.
    Moved(usize),
    /// That was all for this turn.
    End(Round),
}

impl Reactor {
    /// Accepts connections, while not too many are without a handshake. If the system has no
    /// sockets, it is tried again later.
    pub(super) fn accept(&mut self) {
        if !self.accept_ready || self.now() < self.accept_at {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if self.engine.is_crowded() {
                return;
            }
            match self.listeners.accept() {
                Ok(Some((stream, address))) => self.accepted(stream, address),
                Ok(None) => return self.accept_ready = false,
                Err(error) => {
                    log::warn!("cannot accept connections for a while: {error}");
                    return self.accept_at = self.now() + ACCEPT_PAUSE;
                }
            }
        }
    }

    fn accepted(&mut self, stream: TcpStream, address: SocketAddr) {
        let now = self.now();
        if let Some(link) = self.engine.handle_accepted(now, address) {
            self.add_socket(link, stream, false);
        }
    }

    pub(super) fn connect(&mut self, link: LinkKey, address: SocketAddr) {
        match net::connect(address, self.bind).map(TcpStream::from_std) {
            Ok(stream) => self.add_socket(link, stream, true),
            Err(error) => {
                let now = self.now();
                if is_out_of_sockets(&error) {
                    log::warn!("cannot open more connections for a while: {error}");
                    self.engine.pause_dialing(now);
                }
                self.failed_connects.push((link, error.to_string()));
            }
        }
    }

    /// Reports the connections that failed at once in the turn before. Without that delay, a
    /// machine without network would try all peers of all torrents in one turn.
    pub(super) fn report_failed_connects(&mut self) {
        for (link, reason) in std::mem::take(&mut self.failed_connects) {
            let now = self.now();
            self.engine.handle_connect_failed(now, link, &reason);
        }
    }

    fn add_socket(&mut self, key: LinkKey, stream: TcpStream, connecting: bool) {
        // Messages are small and sent at once; `MSG_MORE` keeps payload together.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(key, stream, connecting);
        if let Err(error) = self.sockets.insert(&self.poll, socket) {
            let now = self.now();
            self.engine.handle_closed(now, key, Some(&error.to_string()));
        }
    }

    /// The engine has bytes for the link.
    pub(super) fn transmit(&mut self, link: LinkKey) {
        if let Some(socket) = self.sockets.get(link) {
            socket.transmit = true;
            self.sockets.queue(link);
        }
    }

    /// Serves every link on the ready list once.
    pub(super) fn serve_links(&mut self) {
        let now = self.now();
        for _ in 0..self.sockets.begin_turn(now) {
            let Some(key) = self.sockets.next_ready() else { return };
            self.serve_link(key);
            self.run_actions();
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
        // Answers to the bytes are sent in the same turn.
        self.run_actions();
        let written = self.write_link(key);
        if read == Round::More || written == Round::More {
            self.sockets.queue(key);
        }
        if read == Round::Throttled || written == Round::Throttled {
            let now = self.now();
            self.sockets.throttle(now, key);
        }
    }

    /// Returns whether the connection is established. Reports it once the system knows.
    fn is_established(&mut self, key: LinkKey) -> bool {
        let now = self.now();
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
        match outcome {
            Ok(()) => {
                socket.connecting = false;
                self.engine.handle_connected(now, key);
                self.run_actions();
                true
            }
            // A spurious wake-up: it is still being connected.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => false,
            Err(error) => {
                self.engine.handle_connect_failed(now, key, &error.to_string());
                false
            }
        }
    }

    fn read_link(&mut self, key: LinkKey) -> Round {
        let now = self.now();
        if self.sockets.get(key).is_some_and(|socket| !socket.readable) {
            return Round::Drained;
        }
        let quota = self.engine.receive_quota(now, key);
        if quota == 0 {
            return Round::Throttled;
        }
        let mut total = 0;
        while total < quota {
            match self.read_once(key, quota - total) {
                Step::Moved(length) => total += length,
                Step::End(round) => return round,
            }
        }
        Round::More
    }

    fn read_once(&mut self, key: LinkKey, limit: usize) -> Step {
        let now = self.now();
        let Some(socket) = self.sockets.get(key) else { return Step::End(Round::Ended) };
        if !socket.readable {
            return Step::End(Round::Drained);
        }
        let room = limit.min(self.receive_buffer.len());
        match socket.stream.read(&mut self.receive_buffer[..room]) {
            Ok(0) => self.end_link(key, None),
            Ok(length) => {
                // After a short read there is no more (epoll(7), "edge-triggered").
                socket.readable = length == room || socket.hung_up;
                self.engine.handle_bytes(now, key, &mut self.receive_buffer[..length]);
                if self.engine.has_link(key) {
                    Step::Moved(length)
                } else {
                    Step::End(Round::Ended)
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.readable = false;
                Step::End(Round::Drained)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Moved(0),
            Err(error) => self.end_link(key, Some(&error)),
        }
    }

    fn write_link(&mut self, key: LinkKey) -> Round {
        let quota = self.engine.send_quota(key);
        let mut total = 0;
        while total < quota {
            match self.write_once(key, quota - total) {
                Step::Moved(length) => total += length,
                Step::End(round) => return round,
            }
        }
        Round::More
    }

    fn write_once(&mut self, key: LinkKey, limit: usize) -> Step {
        let now = self.now();
        let Some(socket) = self.sockets.get(key) else { return Step::End(Round::Ended) };
        if !socket.transmit || !socket.writable {
            return Step::End(Round::Drained);
        }
        let parts = self.engine.poll_transmit(now, key);
        let (limit, buffer) = (limit.min(GATHERED), &mut self.receive_buffer);
        match self.sender.send(now, &socket.stream, parts, limit, buffer) {
            Ok(Sent::Bytes(length)) => {
                self.engine.handle_transmitted(now, key, length);
                Step::Moved(length)
            }
            Ok(Sent::Nothing) => self.nothing_to_send(now, key),
            Ok(Sent::NotResident) => {
                socket.transmit = false;
                self.engine.refresh_upload(now, key);
                Step::End(Round::Drained)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Moved(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.writable = false;
                Step::End(Round::Drained)
            }
            Err(error) => self.end_link(key, Some(&error)),
        }
    }

    /// The engine had nothing for the link at `now`: at all, or until its rate limit has room. The
    /// same `now` decides which, since the limit may have room a moment later.
    fn nothing_to_send(&mut self, now: Duration, key: LinkKey) -> Step {
        let throttled = self.engine.is_send_throttled(now, key);
        if let Some(socket) = self.sockets.get(key) {
            socket.transmit = throttled;
        }
        Step::End(if throttled { Round::Throttled } else { Round::Drained })
    }

    fn end_link(&mut self, key: LinkKey, error: Option<&io::Error>) -> Step {
        let now = self.now();
        let text = error.map(io::Error::to_string);
        self.engine.handle_closed(now, key, text.as_deref());
        Step::End(Round::Ended)
    }
}

/// Whether the system has no more sockets.
fn is_out_of_sockets(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

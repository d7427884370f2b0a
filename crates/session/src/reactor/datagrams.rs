//! The UDP sockets, one for each address family. All protocols over UDP share them.
//!
//! Datagrams are received and sent [`BATCH`] at a time, because under load a call of the system for
//! each of them costs more than what a node of the DHT does with it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

use super::{Reactor, UDP_V4, UDP_V6};
use crate::engine::{Families, is_for_dht};
use crate::limits::{DATAGRAM_BATCH, MAX_DATAGRAM};
use crate::net::Both;

/// Datagrams received in one turn.
pub(crate) const DATAGRAMS_PER_TURN: usize = 256;
/// How many of those may be for the DHT. The others are dropped: anybody may send them, and trackers
/// send theirs once.
const DHT_DATAGRAMS_PER_TURN: usize = 64;
/// How many batches are received in one turn.
pub(crate) const BATCHES_PER_TURN: usize = DATAGRAMS_PER_TURN / DATAGRAM_BATCH;

/// The sockets, with the datagrams that were received last and those that wait to be sent.
pub(crate) struct Datagrams {
    v4: Option<Channel>,
    v6: Option<Channel>,
    /// Whether the IPv6 socket is read first.
    v6_first: bool,
    /// What was received last: [`DATAGRAM_BATCH`] times [`MAX_DATAGRAM`] bytes. Pages that no
    /// datagram has reached take no memory.
    buffer: Vec<u8>,
    received: Vec<(SocketAddr, Range<usize>)>,
    /// Where datagrams could not be sent to.
    failed: VecDeque<SocketAddr>,
}

/// A socket, and what waits to be sent on it.
struct Channel {
    socket: UdpSocket,
    token: Token,
    /// Whether the socket may have a datagram.
    is_ready: bool,
    waiting: Vec<(SocketAddr, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Datagrams {
    /// Registers the sockets.
    pub(crate) fn register(
        sockets: Both<std::net::UdpSocket>,
        registry: &Registry,
    ) -> io::Result<Self> {
        let register = |socket: Option<std::net::UdpSocket>, token: Token| {
            let Some(socket) = socket else { return Ok(None) };
            let mut socket = UdpSocket::from_std(socket);
            registry.register(&mut socket, token, Interest::READABLE)?;
            io::Result::Ok(Some(Channel::new(socket, token)))
        };
        let (v4, v6) = (register(sockets.v4, UDP_V4)?, register(sockets.v6, UDP_V6)?);
        Ok(Self {
            v4,
            v6,
            v6_first: false,
            buffer: vec![0; DATAGRAM_BATCH * MAX_DATAGRAM],
            received: Vec::with_capacity(DATAGRAM_BATCH),
            failed: VecDeque::new(),
        })
    }

    pub(crate) fn families(&self) -> Families {
        Families { v4: self.v4.is_some(), v6: self.v6.is_some() }
    }

    /// The socket with this token, if there is one, may have datagrams.
    pub(crate) fn note_readiness(&mut self, token: Token) {
        let channels = [&mut self.v4, &mut self.v6].into_iter().flatten();
        channels.filter(|it| it.token == token).for_each(|it| it.is_ready = true);
    }

    /// Whether there may be datagrams.
    pub(crate) fn is_ready(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(|channel| channel.is_ready)
    }

    /// Receives the next datagrams of one family, of the other one next time, so that a busy socket
    /// does not starve the other. Returns how many they are, for [`Self::received`]; 0 if there are
    /// none now.
    pub(crate) fn receive(&mut self) -> usize {
        self.received.clear();
        self.v6_first = !self.v6_first;
        let Self { v4, v6, buffer, received, .. } = self;
        let channels = if self.v6_first { [v6, v4] } else { [v4, v6] };
        for channel in channels.into_iter().flatten().filter(|channel| channel.is_ready) {
            if let Err(error) = channel.receive(buffer, received) {
                log::debug!("cannot receive datagrams: {error}");
            }
            if !received.is_empty() {
                break;
            }
        }
        received.len()
    }

    /// Returns the sender and the bytes of a datagram that was received last.
    pub(crate) fn received(&self, index: usize) -> (SocketAddr, &[u8]) {
        let (from, range) = &self.received[index];
        (*from, &self.buffer[range.clone()])
    }

    /// Sends a datagram, at the next [`Self::flush`] at the latest.
    pub(crate) fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let channel = if to.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        match channel {
            Some(channel) => channel.send(to, bytes, &mut self.failed),
            None => self.failed.push_back(to),
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        for channel in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            channel.flush(&mut self.failed);
        }
    }

    /// Returns the next address to which a datagram could not be sent.
    pub(crate) fn poll_failed(&mut self) -> Option<SocketAddr> {
        self.failed.pop_front()
    }
}

impl Channel {
    fn new(socket: UdpSocket, token: Token) -> Self {
        Self { socket, token, is_ready: false, waiting: Vec::new(), bytes: Vec::new() }
    }

    /// Receives into `buffer`. The socket is ready still if it filled the batch.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        received: &mut Vec<(SocketAddr, Range<usize>)>,
    ) -> io::Result<()> {
        self.is_ready = false;
        let slots = buffer.chunks_exact_mut(MAX_DATAGRAM);
        let mut slots: Vec<[IoSliceMut<'_>; 1]> = slots.map(|it| [IoSliceMut::new(it)]).collect();
        let mut senders = MultiHeaders::<SockaddrStorage>::preallocate(DATAGRAM_BATCH, None);
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
        let messages = match recvmmsg(socket, &mut senders, slots.iter_mut(), flags, None) {
            Err(nix::errno::Errno::EAGAIN) => return Ok(()),
            messages => messages?,
        };
        let starts = (0..).step_by(MAX_DATAGRAM);
        let mut count = 0;
        received.extend(messages.zip(starts).filter_map(|(message, start)| {
            count += 1;
            let from = message.address.as_ref().and_then(address)?;
            Some((from, start..start + message.bytes))
        }));
        self.is_ready = count == DATAGRAM_BATCH;
        Ok(())
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8], failed: &mut VecDeque<SocketAddr>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.waiting.push((to, start..self.bytes.len()));
        if self.waiting.len() == DATAGRAM_BATCH {
            self.flush(failed);
        }
    }

    /// Sends what waits. A datagram for which the system has no room is lost, as others are on the
    /// way.
    fn flush(&mut self, failed: &mut VecDeque<SocketAddr>) {
        let count = self.waiting.len();
        let addresses: Vec<_> =
            self.waiting.iter().map(|(to, _)| SocketAddrAny::from(*to)).collect();
        let slices =
            self.waiting.iter().map(|(_, range)| [IoSlice::new(&self.bytes[range.clone()])]);
        let slices: Vec<[IoSlice<'_>; 1]> = slices.collect();
        let mut controls: Vec<_> = (0..count).map(|_| SendAncillaryBuffer::default()).collect();
        let messages = addresses.iter().zip(&slices).zip(&mut controls);
        let mut messages: Vec<_> = messages
            .map(|((to, slices), control)| MMsgHdr::new_with_addr(to, slices, control))
            .collect();
        let mut sent = 0;
        while sent < count {
            sent += match sendmmsg(&self.socket, &mut messages[sent..], SendFlags::empty()) {
                Ok(more) => more,
                Err(error) => {
                    let to = self.waiting[sent].0;
                    log::debug!("cannot send to {to}: {error}");
                    failed.extend((error != Errno::AGAIN).then_some(to));
                    1
                }
            };
        }
        self.waiting.clear();
        self.bytes.clear();
    }
}

/// Returns the sender of a datagram.
fn address(sender: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = sender.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| sender.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

impl Reactor {
    pub(super) fn receive_datagrams(&mut self) {
        let mut of_dht = 0;
        for _ in 0..BATCHES_PER_TURN {
            let count = self.datagrams.receive();
            if count == 0 {
                return;
            }
            for index in 0..count {
                let now = self.now();
                let (from, bytes) = self.datagrams.received(index);
                of_dht += usize::from(is_for_dht(bytes));
                if !is_for_dht(bytes) || of_dht <= DHT_DATAGRAMS_PER_TURN {
                    self.engine.handle_datagram(now, from, bytes);
                }
            }
        }
    }

    pub(super) fn receive_local(&mut self) {
        let Some(local) = &mut self.local else { return };
        let received = local.receive(&mut self.receive_buffer[..MAX_DATAGRAM]);
        let now = self.now();
        for (from, bytes) in received {
            self.engine.handle_local_datagram(now, from, &bytes);
        }
    }

    pub(super) fn send_to_group(&mut self, group: lsd::Group, bytes: &[u8]) {
        let now = self.now();
        let Some(local) = &mut self.local else { return };
        if let Some(networks) = local.look_at_interfaces(now) {
            self.engine.set_local_networks(networks);
        }
        local.send(group, bytes);
    }

    /// Sends the datagrams that wait, and reports those that could not be sent. Returns whether
    /// there were any of the latter.
    pub(super) fn flush_datagrams(&mut self) -> bool {
        self.datagrams.flush();
        let mut failed = false;
        while let Some(to) = self.datagrams.poll_failed() {
            let now = self.now();
            self.engine.handle_send_failed(now, to);
            failed = true;
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The sockets of both families, if this machine has both, with what polls them.
    fn open() -> (Datagrams, Poll, Vec<SocketAddr>) {
        let poll = Poll::new().unwrap();
        let bind = |address: &str| {
            let socket = std::net::UdpSocket::bind(address).ok()?;
            socket.set_nonblocking(true).unwrap();
            Some(socket)
        };
        let sockets = Both { v4: bind("127.0.0.1:0"), v6: bind("[::1]:0") };
        let both = [&sockets.v4, &sockets.v6].into_iter().flatten();
        let addresses = both.map(|socket| socket.local_addr().unwrap()).collect();
        (Datagrams::register(sockets, poll.registry()).unwrap(), poll, addresses)
    }

    fn receive(datagrams: &mut Datagrams, poll: &mut Poll) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut events = Events::with_capacity(2);
        while !datagrams.is_ready() {
            poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "nothing is received");
            events.iter().for_each(|event| datagrams.note_readiness(event.token()));
        }
        let count = datagrams.receive();
        let received = (0..count).map(|index| datagrams.received(index));
        received.map(|(from, bytes)| (from, bytes.to_vec())).collect()
    }

    #[test]
    fn batches_arrive_in_order() {
        let ((mut sender, _, from), (mut receiver, mut poll, to)) = (open(), open());
        let count = 2 * DATAGRAM_BATCH + 3;
        for (from, to) in from.into_iter().zip(to) {
            (0..count).for_each(|number| sender.send(to, &vec![number as u8; number]));
            sender.flush();
            let mut received = Vec::new();
            while received.len() < count {
                let batch = receive(&mut receiver, &mut poll);
                assert!(batch.len() <= DATAGRAM_BATCH);
                received.extend(batch);
            }
            let expected = (0..count).map(|number| (from, vec![number as u8; number]));
            assert!(received.into_iter().eq(expected));
        }
        assert_eq!((receiver.receive(), sender.poll_failed()), (0, None));
    }

    #[test]
    fn failed_datagram_does_not_stop_others() {
        let ((mut sender, ..), (mut receiver, mut poll, to)) = (open(), open());
        let nowhere = SocketAddr::from((HERE, 0));
        for address in [nowhere, to[0], nowhere, nowhere, to[0]] {
            sender.send(address, b"hello");
        }
        sender.flush();
        let failed: Vec<_> = std::iter::from_fn(|| sender.poll_failed()).collect();
        assert_eq!(failed, [nowhere; 3]);
        let mut received = 0;
        while received < 2 {
            received += receive(&mut receiver, &mut poll).len();
        }
        assert_eq!(received, 2);
    }

    #[test]
    fn longest_datagram_arrives_whole() {
        let ((mut sender, ..), (mut receiver, mut poll, to)) = (open(), open());
        // What IPv4 and UDP leave of 64 KiB.
        let bytes = vec![7; 65_507];
        sender.send(to[0], &bytes);
        sender.flush();
        assert!(receive(&mut receiver, &mut poll)[0].1 == bytes);
    }
}

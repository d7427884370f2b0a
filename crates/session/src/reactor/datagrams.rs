//! The UDP sockets, one for each address family. All protocols over UDP share them.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::{Reactor, UDP_V4, UDP_V6};
use crate::engine::{Families, is_for_dht};
use crate::net::Both;

/// Datagrams received in one turn.
pub(crate) const DATAGRAMS_PER_TURN: usize = 256;
/// How many of those may be for the DHT. The others are dropped: anybody may send them, and trackers
/// send theirs once.
const DHT_DATAGRAMS_PER_TURN: usize = 64;
/// The longest datagram that is received.
pub(crate) const MAX_DATAGRAM: usize = 64 * 1024;
/// Errors in a row after which a socket is not read until it is ready again.
const MAX_ERRORS: usize = 64;

/// The sockets, and whether they may have a datagram.
pub(crate) struct Datagrams {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// Whether the IPv6 socket is read first.
    v6_first: bool,
    pub(crate) ready: bool,
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
            io::Result::Ok(Some(socket))
        };
        let (v4, v6) = (register(sockets.v4, UDP_V4)?, register(sockets.v6, UDP_V6)?);
        Ok(Self { v4, v6, v6_first: false, ready: false })
    }

    pub(crate) fn families(&self) -> Families {
        Families { v4: self.v4.is_some(), v6: self.v6.is_some() }
    }

    /// Reads the other family first from now on, so that a busy socket does not starve the other.
    pub(crate) fn take_turns(&mut self) {
        self.v6_first = !self.v6_first;
    }

    /// The next datagram; `None` if there is none now.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let sockets = if self.v6_first { [&self.v6, &self.v4] } else { [&self.v4, &self.v6] };
        for socket in sockets.into_iter().flatten() {
            for _ in 0..MAX_ERRORS {
                match socket.recv_from(buffer) {
                    Ok(received) => return Some(received),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An earlier datagram did not arrive.
                    Err(error) => log::debug!("cannot receive a datagram: {error}"),
                }
            }
        }
        None
    }

    /// Sends a datagram. Returns whether it may arrive. One for which the system has no room is
    /// lost, as others are on the way.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return false };
        match socket.send_to(bytes, to) {
            Ok(_) => true,
            Err(error) => {
                log::debug!("cannot send to {to}: {error}");
                error.kind() == io::ErrorKind::WouldBlock
            }
        }
    }
}

impl Reactor {
    pub(super) fn receive_datagrams(&mut self) {
        if !std::mem::take(&mut self.datagrams.ready) {
            return;
        }
        self.datagrams.take_turns();
        let mut of_dht = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            let buffer = &mut self.receive_buffer[..MAX_DATAGRAM];
            let Some((length, from)) = self.datagrams.receive(buffer) else { return };
            if is_for_dht(&self.receive_buffer[..length]) {
                of_dht += 1;
                if of_dht > DHT_DATAGRAMS_PER_TURN {
                    continue;
                }
            }
            let now = self.now();
            self.engine.handle_datagram(now, from, &self.receive_buffer[..length]);
        }
        self.datagrams.ready = true;
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
}

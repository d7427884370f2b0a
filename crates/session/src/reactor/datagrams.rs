//! The UDP sockets, one for each address family. All protocols over UDP share them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Poll, Token};

use super::listen;
use super::{UDP_V4, UDP_V6};
use crate::engine::Families;

/// Errors in a row after which a socket is not read until it is ready again.
const MAX_ERRORS: usize = 64;

/// The sockets, and whether they may have a datagram.
pub(super) struct Datagrams {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// Whether the IPv6 socket is read first.
    v6_first: bool,
    pub(super) ready: bool,
}

impl Datagrams {
    /// Opens a socket for each family that the user and the machine have, on `port` if it is free.
    pub(super) fn open(bind: Option<IpAddr>, port: u16, poll: &Poll) -> Self {
        let open = |any: IpAddr, token: Token| {
            if bind.is_some_and(|ip| ip.is_ipv4() != any.is_ipv4()) {
                return None;
            }
            let mut socket = listen::bind_udp(bind.unwrap_or(any), port).ok()?;
            poll.registry().register(&mut socket, token, Interest::READABLE).ok()?;
            Some(socket)
        };
        let v4 = open(Ipv4Addr::UNSPECIFIED.into(), UDP_V4);
        Self { v4, v6: open(Ipv6Addr::UNSPECIFIED.into(), UDP_V6), v6_first: false, ready: false }
    }

    pub(super) fn families(&self) -> Families {
        Families { v4: self.v4.is_some(), v6: self.v6.is_some() }
    }

    /// Reads the other family first from now on, so that a busy socket does not starve the other.
    pub(super) fn take_turns(&mut self) {
        self.v6_first = !self.v6_first;
    }

    /// The next datagram; `None` if there is none now.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
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

    /// Sends a datagram. If that fails, the protocol sends it again later.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return };
        if let Err(error) = socket.send_to(bytes, to) {
            log::debug!("cannot send to {to}: {error}");
        }
    }
}

//! The sockets that peers reach us by: a TCP listener and a UDP socket for each address family.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, Socket, Type};

use super::{LISTENER_V4, LISTENER_V6};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 256;
/// The bytes of datagrams that the kernel keeps until they are received. TCP buffers are not set,
/// so that the kernel adapts them to each connection.
const UDP_BUFFER: usize = 512 << 10;

/// One listener for each family, on one port.
#[derive(Default)]
pub(super) struct Listeners {
    v4: Option<TcpListener>,
    v6: Option<TcpListener>,
    /// The port both listen on; 0 without a listener.
    pub(super) port: u16,
}

impl Listeners {
    /// Listens on the first port of `ports` that is free for every family in use.
    pub(super) fn bind(
        ports: RangeInclusive<u16>,
        bind: Option<IpAddr>,
        registry: &Registry,
    ) -> io::Result<Self> {
        let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for port in ports {
            match Self::bind_port(port, bind) {
                Ok(listeners) => return listeners.register(registry),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// The addresses of the listeners.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = [&self.v4, &self.v6].into_iter().flatten();
        listeners.filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The next connection; `None` if there is none now.
    ///
    /// # Errors
    /// The system has no socket for it.
    pub(super) fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        for listener in [&self.v4, &self.v6].into_iter().flatten() {
            loop {
                match listener.accept() {
                    Ok(accepted) => return Ok(Some(accepted)),
                    Err(error) if error.kind() == WouldBlock => break,
                    Err(error) if matches!(error.kind(), Interrupted | ConnectionAborted) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    fn register(mut self, registry: &Registry) -> io::Result<Self> {
        for (listener, token) in [(&mut self.v4, LISTENER_V4), (&mut self.v6, LISTENER_V6)] {
            if let Some(listener) = listener {
                registry.register(listener, token, Interest::READABLE)?;
            }
        }
        Ok(self)
    }

    fn bind_port(port: u16, bind: Option<IpAddr>) -> io::Result<Self> {
        let first = listen(SocketAddr::new(bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port))?;
        let port = first.local_addr()?.port();
        match bind {
            Some(IpAddr::V6(_)) => Ok(Self { v4: None, v6: Some(first), port }),
            Some(IpAddr::V4(_)) => Ok(Self { v4: Some(first), v6: None, port }),
            None => Ok(Self { v4: Some(first), v6: listen_v6(port)?, port }),
        }
    }
}

/// The IPv6 listener; none on a machine without IPv6.
fn listen_v6(port: u16) -> io::Result<Option<TcpListener>> {
    match listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(None),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Begins a connection to `address` from `bind`. Fails if that is of the other family.
pub(super) fn connect(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    if let Some(ip) = bind {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// A UDP socket of the family of `ip`, on `port` if that is free, else on any.
pub(super) fn bind_udp(ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    udp_on(SocketAddr::new(ip, port)).or_else(|_| udp_on(SocketAddr::new(ip, 0)))
}

fn udp_on(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    // Room for the answers to a burst of announces. A smaller buffer will do.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

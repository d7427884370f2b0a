//! Opens every socket of a session, so that what holds for sockets holds for all of them.
//!
//! Peers reach us on one port, for TCP and UDP, over IPv4 and IPv6: the first of a range that is
//! free for all of them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Sockets are opened here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 256;
/// The bytes of datagrams that the kernel keeps until they are received. TCP buffers are not set,
/// so that the kernel adapts them to each connection.
const UDP_BUFFER: usize = 512 << 10;
/// How many ports are tried if the system chooses them: one that it gives for TCP may be taken for
/// UDP.
const CHOSEN_PORTS: usize = 16;

/// A socket of each family that the user and the machine have.
pub(crate) struct Both<T> {
    pub(crate) v4: Option<T>,
    pub(crate) v6: Option<T>,
}

impl<T> Default for Both<T> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

/// The sockets by which peers reach us.
pub(crate) struct OpenPorts {
    /// Listening sockets.
    pub(crate) tcp: Both<std::net::TcpListener>,
    pub(crate) udp: Both<std::net::UdpSocket>,
    /// The port of the listeners; 0 without any.
    pub(crate) tcp_port: u16,
    /// The port for UDP, which is the same unless it is taken.
    pub(crate) udp_port: u16,
}

/// Opens the first port of `ports` that is free for TCP and UDP. If there is none, it is the first
/// that is free for TCP, and UDP has another one. Without `listen` there is only UDP.
///
/// # Errors
/// No port is free for TCP.
pub(crate) fn open_ports(
    ports: &RangeInclusive<u16>,
    listen: bool,
    bind: Option<IpAddr>,
) -> io::Result<OpenPorts> {
    if !listen {
        let udp = any_udp(bind);
        return Ok(OpenPorts { tcp: Both::default(), tcp_port: 0, udp_port: port_of(&udp), udp });
    }
    let (mut last_error, mut without_udp) = (io::ErrorKind::AddrNotAvailable.into(), None);
    for port in candidates(ports) {
        let (tcp, port) = match listen_on(port, bind) {
            Ok(listening) => listening,
            Err(error) => {
                last_error = error;
                continue;
            }
        };
        match udp_on(port, bind) {
            Ok(udp) => return Ok(OpenPorts { tcp, udp, tcp_port: port, udp_port: port }),
            Err(_) => without_udp = without_udp.or(Some((tcp, port))),
        }
    }
    let (tcp, tcp_port) = without_udp.ok_or(last_error)?;
    let udp = any_udp(bind);
    Ok(OpenPorts { tcp, tcp_port, udp_port: port_of(&udp), udp })
}

/// Opens UDP sockets on the first port of `ports` that is free.
///
/// # Errors
/// No port is free.
pub(crate) fn open_udp(
    ports: &RangeInclusive<u16>,
    bind: Option<IpAddr>,
) -> io::Result<Both<std::net::UdpSocket>> {
    if *ports == (0..=0) {
        let open = any_udp(bind);
        let none = || udp_on(0, bind).err().unwrap_or(io::ErrorKind::AddrNotAvailable.into());
        return if port_of(&open) == 0 { Err(none()) } else { Ok(open) };
    }
    let mut last_error = io::ErrorKind::AddrNotAvailable.into();
    for port in ports.clone() {
        match udp_on(port, bind) {
            Ok(open) => return Ok(open),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Begins a connection to `address` from `bind`. Fails if that is of the other family.
pub(crate) fn connect(
    address: SocketAddr,
    bind: Option<IpAddr>,
) -> io::Result<std::net::TcpStream> {
    let socket = tcp_to(address, bind)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Connects to `address` from `bind` within `timeout`.
pub(crate) fn connect_within(
    address: SocketAddr,
    bind: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<std::net::TcpStream> {
    let socket = tcp_to(address, bind)?;
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

/// Opens a socket on the port of a multicast group, which other programs use, too.
pub(crate) fn multicast(group: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let any = if group.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { any_v6() };
    let address = SocketAddr::new(any, group.port());
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// An interface of this machine, by one of its addresses and by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) ip: IpAddr,
    pub(crate) index: u32,
}

/// Joins a multicast group on an interface. Joining again changes nothing.
pub(crate) fn join(socket: &UdpSocket, group: IpAddr, interface: Membership) -> io::Result<()> {
    let joined = match (group, interface.ip) {
        (IpAddr::V4(group), IpAddr::V4(ip)) => socket.join_multicast_v4(&group, &ip),
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, interface.index),
        (IpAddr::V4(_), IpAddr::V6(_)) => return Ok(()),
    };
    match joined {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        joined => joined,
    }
}

/// Has a socket send multicast datagrams from an interface.
pub(crate) fn send_from(socket: &UdpSocket, ip: IpAddr, index: u32) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    match ip {
        IpAddr::V4(ip) => socket.set_multicast_if_v4(&ip),
        IpAddr::V6(_) => socket.set_multicast_if_v6(index),
    }
}

fn any_v6() -> IpAddr {
    Ipv6Addr::UNSPECIFIED.into()
}

fn tcp_to(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    if let Some(ip) = bind {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    Ok(socket)
}

fn in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// Returns the ports to try. The system is asked for several if it chooses.
fn candidates(ports: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let again = if *ports == (0..=0) { CHOSEN_PORTS - 1 } else { 0 };
    ports.clone().chain(std::iter::repeat_n(0, again))
}

fn listen_on(port: u16, bind: Option<IpAddr>) -> io::Result<(Both<std::net::TcpListener>, u16)> {
    let first = listen(SocketAddr::new(bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port))?;
    let port = first.local_addr()?.port();
    let both = match bind {
        Some(IpAddr::V6(_)) => Both { v4: None, v6: Some(first) },
        Some(IpAddr::V4(_)) => Both { v4: Some(first), v6: None },
        None => Both { v4: Some(first), v6: optional_v6(listen, port)? },
    };
    Ok((both, port))
}

/// UDP sockets on one port. A family that the machine does not have is left out.
fn udp_on(port: u16, bind: Option<IpAddr>) -> io::Result<Both<std::net::UdpSocket>> {
    let first = udp(SocketAddr::new(bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port))?;
    Ok(match bind {
        Some(IpAddr::V6(_)) => Both { v4: None, v6: Some(first) },
        Some(IpAddr::V4(_)) => Both { v4: Some(first), v6: None },
        None => Both { v4: Some(first), v6: optional_v6(udp, port)? },
    })
}

/// UDP sockets on any port, the same for both families if that is possible.
fn any_udp(bind: Option<IpAddr>) -> Both<std::net::UdpSocket> {
    let chosen = || {
        let probe = udp(SocketAddr::new(bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0)).ok()?;
        let port = probe.local_addr().ok()?.port();
        drop(probe);
        udp_on(port, bind).ok()
    };
    (0..CHOSEN_PORTS).find_map(|_| chosen()).unwrap_or_default()
}

/// A socket for IPv6; none on a machine without IPv6.
fn optional_v6<T>(open: impl Fn(SocketAddr) -> io::Result<T>, port: u16) -> io::Result<Option<T>> {
    match open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(None),
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_nonblocking(true)?;
    // Room for the answers to a burst of announces. A smaller buffer will do.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn port_of(sockets: &Both<std::net::UdpSocket>) -> u16 {
    let socket = sockets.v4.as_ref().or(sockets.v6.as_ref());
    socket.and_then(|socket| socket.local_addr().ok()).map_or(0, |address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn udp_here(port: u16) -> std::net::UdpSocket {
        udp((Ipv4Addr::LOCALHOST, port).into()).unwrap()
    }

    #[test]
    fn one_port_is_free_for_tcp_and_udp() {
        let chosen = open_ports(&(0..=0), true, HERE).unwrap();
        assert_ne!(chosen.tcp_port, 0);
        assert_eq!(chosen.tcp_port, chosen.udp_port);
        let port = |socket: &Option<std::net::UdpSocket>| {
            socket.as_ref().unwrap().local_addr().unwrap().port()
        };
        assert_eq!(port(&chosen.udp.v4), chosen.tcp_port);
    }

    #[test]
    fn port_that_udp_cannot_have_is_passed_over() {
        let taken = udp_here(0);
        let port = taken.local_addr().unwrap().port();
        let Some(next) = port.checked_add(1) else { return };
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_err() {
            return;
        }
        let open = open_ports(&(port..=next), true, HERE).unwrap();
        assert_eq!((open.tcp_port, open.udp_port), (next, next));
    }

    #[test]
    fn udp_gets_another_port_if_it_must() {
        let taken = udp_here(0);
        let port = taken.local_addr().unwrap().port();
        let open = open_ports(&(port..=port), true, HERE).unwrap();
        assert_eq!(open.tcp_port, port);
        assert!(open.udp_port != port && open.udp_port != 0);
    }

    #[test]
    fn first_free_port_is_opened_for_udp() {
        let taken = udp_here(0);
        let port = taken.local_addr().unwrap().port();
        assert!(open_udp(&(port..=port), HERE).is_err());
        for ports in [0..=0, port..=port.saturating_add(9)] {
            let open = open_udp(&ports, HERE).unwrap();
            assert!(port_of(&open) != port && port_of(&open) != 0);
        }
        assert!(open_udp(&(0..=0), Some(Ipv4Addr::new(198, 51, 100, 77).into())).is_err());
    }

    #[test]
    fn without_listening_there_is_only_udp() {
        let open = open_ports(&(6881..=6889), false, HERE).unwrap();
        assert!(open.tcp.v4.is_none() && open.tcp.v6.is_none() && open.tcp_port == 0);
        assert!(open.udp.v4.is_some() && open.udp_port != 0);
    }
}

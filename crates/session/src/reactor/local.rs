//! The sockets of local service discovery (BEP 14): one for each address family, in the multicast
//! group on every interface.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lsd::{Group, Network};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::{LOCAL_V4, LOCAL_V6};
use crate::net::{self, Both, Membership};

/// How often the interfaces are looked at again: one may have come or gone.
const INTERFACES_EVERY: Duration = Duration::from_secs(60);
/// The most interfaces that are used.
const MAX_INTERFACES: usize = 32;
/// Datagrams received in one turn.
const LOCAL_PER_TURN: usize = 16;

/// An address of an interface of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    ip: IpAddr,
    prefix: u8,
    index: u32,
}

/// The sockets, and where they are in the group.
pub(super) struct LocalSockets {
    sockets: Both<UdpSocket>,
    bind: Option<IpAddr>,
    interfaces: Vec<Interface>,
    /// When the interfaces are looked at again.
    look_at: Duration,
    pub(super) ready: bool,
}

impl LocalSockets {
    /// Opens the sockets that the machine has. `bind` is the only address that is used.
    pub(super) fn open(bind: Option<IpAddr>, registry: &Registry) -> io::Result<Self> {
        let register = |group: Group, token: Token| {
            let Ok(socket) = net::multicast(group.address()) else { return Ok(None) };
            let mut socket = UdpSocket::from_std(socket);
            registry.register(&mut socket, token, Interest::READABLE)?;
            io::Result::Ok(Some(socket))
        };
        let v4 = register(Group::V4, LOCAL_V4)?;
        let sockets = Both { v4, v6: register(Group::V6, LOCAL_V6)? };
        let (interfaces, look_at) = (Vec::new(), Duration::ZERO);
        Ok(Self { sockets, bind, interfaces, look_at, ready: false })
    }

    /// Looks at the interfaces if that is due, and joins the group on new ones. Returns their
    /// networks if something changed.
    pub(super) fn look_at_interfaces(&mut self, now: Duration) -> Option<Vec<Network>> {
        if now < self.look_at {
            return None;
        }
        self.look_at = now + INTERFACES_EVERY;
        let interfaces = interfaces(self.bind);
        if interfaces == self.interfaces {
            return None;
        }
        for interface in interfaces.iter().filter(|it| !self.interfaces.contains(it)) {
            if let Err(error) = self.join(interface) {
                log::debug!("{}: cannot look for local peers: {error}", interface.ip);
            }
        }
        self.interfaces = interfaces;
        Some(self.interfaces.iter().map(|it| Network::new(it.ip, it.prefix)).collect())
    }

    /// Sends to the group on every interface.
    pub(super) fn send(&self, group: Group, bytes: &[u8]) {
        let Some(socket) = self.socket(group) else { return };
        let mut sent_on = Vec::new();
        for interface in self.interfaces.iter().filter(|it| it.ip.is_ipv4() == (group == Group::V4))
        {
            if sent_on.contains(&interface.index) {
                continue;
            }
            sent_on.push(interface.index);
            let sent = net::send_from(socket, interface.ip, interface.index)
                .and_then(|()| socket.send_to(bytes, group.address()));
            if let Err(error) = sent {
                log::debug!("{}: cannot announce to local peers: {error}", interface.ip);
            }
        }
    }

    /// The next datagrams; at most a few, and the others stay for the next turn.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut received = Vec::new();
        if !std::mem::take(&mut self.ready) {
            return received;
        }
        for socket in [&self.sockets.v4, &self.sockets.v6].into_iter().flatten() {
            while received.len() < LOCAL_PER_TURN
                && let Ok((length, from)) = socket.recv_from(buffer)
            {
                received.push((from, buffer[..length].to_vec()));
            }
        }
        self.ready = received.len() == LOCAL_PER_TURN;
        received
    }

    fn join(&self, interface: &Interface) -> io::Result<()> {
        let group = if interface.ip.is_ipv4() { Group::V4 } else { Group::V6 };
        let Some(socket) = self.socket(group) else { return Ok(()) };
        let membership = Membership { ip: interface.ip, index: interface.index };
        net::join(socket, group.address().ip(), membership)
    }

    fn socket(&self, group: Group) -> Option<&UdpSocket> {
        match group {
            Group::V4 => self.sockets.v4.as_ref(),
            Group::V6 => self.sockets.v6.as_ref(),
        }
    }
}

/// Returns the addresses of this machine in networks with other machines.
fn interfaces(bind: Option<IpAddr>) -> Vec<Interface> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let used = all.into_iter().filter(|it| !it.is_loopback() && it.is_oper_up());
    let mut used: Vec<Interface> = used
        .map(|it| {
            let prefix = match &it.addr {
                if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                if_addrs::IfAddr::V6(v6) => v6.prefixlen,
            };
            Interface { ip: it.ip(), prefix, index: it.index.unwrap_or(0) }
        })
        .filter(|it| bind.is_none_or(|bind| bind == it.ip))
        .collect();
    used.truncate(MAX_INTERFACES);
    used
}

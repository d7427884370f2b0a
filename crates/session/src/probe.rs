//! One handshake with one peer, to see who it is: a blocking socket over a `Connection`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A blocking call has a clock.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bt_types::{InfoHashV1, PeerId};
use peer_wire::{Connection, Handshake, Received, Reserved, Transmit};
use rand::RngExt as _;

use crate::config::PEER_ID_PREFIX;

/// How long an answered handshake is followed by waiting for the extension handshake.
const EXTENSION_WAIT: Duration = Duration::from_secs(2);

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where it was reached.
    pub address: SocketAddr,
    /// What it calls itself.
    pub peer_id: PeerId,
    /// The client behind the peer id, or the name in the extension handshake. Printable.
    pub client: String,
    /// The torrent it answered for.
    pub info_hash: InfoHashV1,
    /// Its reserved bytes.
    pub reserved: Reserved,
    /// The extensions it speaks: those of the reserved bytes, then the messages of BEP 10.
    /// Untrusted text.
    pub extensions: Vec<String>,
}

/// A peer can't be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Occurs when there is no connection.
    #[error("can't connect to {address}: {source}")]
    Connect {
        /// The peer.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Occurs when the connection fails before the handshake.
    #[error("the connection to {address} failed before its handshake: {source}")]
    Broken {
        /// The peer.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Occurs when the peer closes without a handshake, as peers do that do not have the torrent.
    #[error(
        "{address} closed the connection without a handshake; it may not have the torrent {info_hash}"
    )]
    Closed {
        /// The peer.
        address: SocketAddr,
        /// The torrent that was asked for.
        info_hash: InfoHashV1,
    },
    /// Occurs when the peer says nothing in time.
    #[error("{address} did not answer within {} s", timeout.as_secs())]
    TimedOut {
        /// The peer.
        address: SocketAddr,
        /// How long it had.
        timeout: Duration,
    },
    /// Occurs when the peer answers for another torrent.
    #[error("{address}: expected the torrent {expected}, got {got}")]
    WrongTorrent {
        /// The peer.
        address: SocketAddr,
        /// The torrent that was asked for.
        expected: InfoHashV1,
        /// The torrent it named.
        got: InfoHashV1,
    },
    /// Occurs when the peer does not speak the protocol.
    #[error("{address} does not speak the peer protocol: {rule}")]
    Misbehaved {
        /// The peer.
        address: SocketAddr,
        /// The rule it broke.
        rule: String,
    },
}

/// Shakes hands with `address` about `info_hash`, from `bind` if given, within `timeout`.
///
/// # Errors
/// See [`ProbeError`].
pub fn handshake(
    address: SocketAddr,
    info_hash: InfoHashV1,
    bind: Option<IpAddr>,
    timeout: Duration,
) -> Result<Probe, ProbeError> {
    let started = Instant::now();
    let mut stream = connect(address, bind, timeout)
        .map_err(|source| connect_error(address, timeout, source))?;
    let peer_id = PeerId::new(PEER_ID_PREFIX, rand::rng().random());
    let mut connection =
        Connection::outgoing(Duration::ZERO, Handshake::new(info_hash, peer_id), None);
    let mut probe = None;
    let mut deadline = timeout;
    let mut buffer = [0; 4096];
    loop {
        flush(&mut connection, &mut stream).map_err(|source| broken(address, source))?;
        let left = deadline.saturating_sub(started.elapsed());
        if left.is_zero() {
            return probe.ok_or(ProbeError::TimedOut { address, timeout });
        }
        stream.set_read_timeout(Some(left)).map_err(|source| broken(address, source))?;
        let length = match stream.read(&mut buffer) {
            Ok(0) => return probe.ok_or(ProbeError::Closed { address, info_hash }),
            Ok(length) => length,
            Err(error) if is_wait_over(&error) => continue,
            Err(error) => return probe.ok_or_else(|| closed(address, info_hash, error)),
        };
        let mut input = &buffer[..length];
        while let Some(received) = connection.receive(started.elapsed(), &mut input) {
            match received {
                Received::Handshake(theirs) => {
                    if theirs.info_hash != info_hash {
                        let (expected, got) = (info_hash, theirs.info_hash);
                        return Err(ProbeError::WrongTorrent { address, expected, got });
                    }
                    probe = Some(Probe::new(address, &theirs));
                    if !theirs.reserved.supports_extension_protocol() {
                        return probe.ok_or(ProbeError::TimedOut { address, timeout });
                    }
                    deadline = deadline.min(started.elapsed() + EXTENSION_WAIT);
                    connection.extension_handshake(&peer_wire::ExtensionHandshake::default());
                }
                Received::ExtensionHandshake(theirs) => {
                    if let Some(mut probe) = probe {
                        probe.note_extensions(&theirs);
                        return Ok(probe);
                    }
                }
                Received::Misbehaved(rule) => {
                    let rule = rule.to_string();
                    return probe.ok_or(ProbeError::Misbehaved { address, rule });
                }
                _ => {}
            }
        }
    }
}

impl Probe {
    fn new(address: SocketAddr, theirs: &Handshake) -> Self {
        Self {
            address,
            peer_id: theirs.peer_id,
            client: peer_wire::client_name(&theirs.peer_id),
            info_hash: theirs.info_hash,
            reserved: theirs.reserved,
            extensions: theirs.reserved.names().map(str::to_owned).collect(),
        }
    }

    fn note_extensions(&mut self, theirs: &peer_wire::ExtensionHandshake) {
        self.extensions.extend(theirs.messages.keys().cloned());
        if let Some(client) = &theirs.client {
            self.client = client.chars().filter(|letter| !letter.is_control()).collect();
        }
    }
}

fn connect(address: SocketAddr, bind: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if let Some(ip) = bind {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

fn flush(connection: &mut Connection, stream: &mut TcpStream) -> io::Result<()> {
    while let Some(Transmit::Bytes(bytes)) = connection.poll_transmit() {
        stream.write_all(bytes)?;
        let length = bytes.len();
        connection.transmitted(length);
    }
    Ok(())
}

fn is_wait_over(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn connect_error(address: SocketAddr, timeout: Duration, source: io::Error) -> ProbeError {
    match source.kind() {
        io::ErrorKind::TimedOut => ProbeError::TimedOut { address, timeout },
        _ => ProbeError::Connect { address, source },
    }
}

fn closed(address: SocketAddr, info_hash: InfoHashV1, source: io::Error) -> ProbeError {
    match source.kind() {
        io::ErrorKind::ConnectionReset => ProbeError::Closed { address, info_hash },
        _ => broken(address, source),
    }
}

fn broken(address: SocketAddr, source: io::Error) -> ProbeError {
    ProbeError::Broken { address, source }
}

//! One handshake with one peer, to identify it: a blocking socket over a `Connection`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A blocking call has a clock.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::net;
use bt_types::{InfoHashV1, PeerId};
use peer_wire::{Connection, ExtensionHandshake, Handshake, Received, Reserved, Rule, Transmit};

/// How long to wait for the extension handshake after the handshake.
const EXTENSION_WAIT: Duration = Duration::from_secs(2);

/// What a peer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its address.
    pub address: SocketAddr,
    /// Its peer id.
    pub peer_id: PeerId,
    /// The name in the extension handshake, or the client that the peer id belongs to. Printable.
    pub client: String,
    /// The torrent it answered for.
    pub info_hash: InfoHashV1,
    /// Its reserved bytes.
    pub reserved: Reserved,
    /// The extensions it speaks: those of the reserved bytes, then the messages of BEP 10.
    /// Untrusted text.
    pub extensions: Vec<String>,
}

/// A peer cannot be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Occurs when there is no connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The peer.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// Occurs when the connection fails before the handshake.
    #[error("the connection to {address} failed before its handshake: {source}")]
    Broken {
        /// The peer.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// Occurs when the peer closes without a handshake: it probably does not have the torrent.
    #[error(
        "{address} closed the connection without a handshake; it may not have the torrent {info_hash}"
    )]
    Closed {
        /// The peer.
        address: SocketAddr,
        /// The torrent that was asked for.
        info_hash: InfoHashV1,
    },
    /// Occurs when the peer does not answer in time.
    #[error("{address} did not answer within {} s", timeout.as_secs())]
    TimedOut {
        /// The peer.
        address: SocketAddr,
        /// The time limit.
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

/// Shakes hands with `address` for `info_hash` as `peer_id`, from `bind` if given, within
/// `timeout`.
///
/// # Errors
/// See [`ProbeError`].
pub fn handshake(
    address: SocketAddr,
    info_hash: InfoHashV1,
    peer_id: PeerId,
    bind: Option<IpAddr>,
    timeout: Duration,
) -> Result<Probe, ProbeError> {
    let started = Instant::now();
    let mut stream = net::connect_within(address, bind, timeout)
        .map_err(|source| connect_error(address, timeout, source))?;
    let ours = Handshake::new(info_hash, peer_id);
    let mut dialogue = Dialogue {
        address,
        connection: Connection::outgoing(Duration::ZERO, ours, None),
        deadline: timeout,
        probe: None,
    };
    let mut buffer = [0; 4096];
    loop {
        flush(&mut dialogue.connection, &mut stream).map_err(|source| broken(address, source))?;
        let left = dialogue.deadline.saturating_sub(started.elapsed());
        if left.is_zero() {
            return dialogue.probe.ok_or(ProbeError::TimedOut { address, timeout });
        }
        stream.set_read_timeout(Some(left)).map_err(|source| broken(address, source))?;
        match stream.read(&mut buffer) {
            Ok(0) => return dialogue.probe.ok_or(ProbeError::Closed { address, info_hash }),
            Ok(length) => {
                if dialogue.receive(started.elapsed(), &buffer[..length])? {
                    return dialogue.probe.ok_or(ProbeError::Closed { address, info_hash });
                }
            }
            Err(error) if is_wait_over(&error) => {}
            Err(error) => {
                return dialogue.probe.ok_or_else(|| closed(address, info_hash, error));
            }
        }
    }
}

/// The state of a probe.
struct Dialogue {
    address: SocketAddr,
    connection: Connection,
    /// When to stop waiting.
    deadline: Duration,
    probe: Option<Probe>,
}

impl Dialogue {
    /// Bytes came. Returns whether the probe is complete.
    fn receive(&mut self, now: Duration, mut input: &[u8]) -> Result<bool, ProbeError> {
        while let Some(received) = self.connection.receive(now, &mut input) {
            if let Received::Handshake(theirs) = received {
                if self.shake(now, &theirs) {
                    return Ok(true);
                }
            } else if let Received::Misbehaved(rule) = received {
                // After a good handshake the rest does not matter.
                return if self.probe.is_some() { Ok(true) } else { Err(self.accuse(rule)) };
            } else if let Received::ExtensionHandshake(theirs) = received
                && let Some(probe) = &mut self.probe
            {
                probe.note_extensions(&theirs);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The peer's handshake came. Returns whether no extension handshake follows.
    fn shake(&mut self, now: Duration, theirs: &Handshake) -> bool {
        self.probe = Some(Probe::new(self.address, theirs));
        self.deadline = self.deadline.min(now + EXTENSION_WAIT);
        self.connection.extension_handshake(&ExtensionHandshake::default());
        !theirs.reserved.supports_extension_protocol()
    }

    fn accuse(&self, rule: Rule) -> ProbeError {
        let address = self.address;
        match rule {
            Rule::WrongInfoHash { expected, got } => {
                ProbeError::WrongTorrent { address, expected, got }
            }
            rule => ProbeError::Misbehaved { address, rule: rule.to_string() },
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

    fn note_extensions(&mut self, theirs: &ExtensionHandshake) {
        self.extensions.extend(theirs.messages.keys().cloned());
        if let Some(client) = &theirs.client {
            self.client = client.chars().filter(|letter| !letter.is_control()).collect();
        }
    }
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

//! The TCP connection below TLS and HTTP. The library's own cannot bind to a local address and does
//! not report the address that it connected to.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::client::error::FetchError;

/// The shortest time that an address has to accept the connection.
const MIN_CONNECT_TIME: Duration = Duration::from_millis(100);

/// Connects to the first address that accepts.
#[derive(Debug)]
pub(super) struct Dialer {
    /// The local address to connect from.
    pub(super) bind: Option<IpAddr>,
    /// Set to the address that accepted.
    pub(super) reached: Arc<OnceLock<IpAddr>>,
}

impl Connector for Dialer {
    type Out = TcpTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<TcpTransport>, Error> {
        let allowed = limit(details.timeout)?.unwrap_or(Duration::MAX);
        let start = Instant::now();
        let mut last_failure = None;
        for (number, address) in details.addrs.iter().enumerate() {
            // The remaining addresses share the remaining time.
            let others = (details.addrs.len() - number) as u32;
            let left = allowed.saturating_sub(start.elapsed());
            match self.dial(*address, (left / others).max(MIN_CONNECT_TIME)) {
                Ok(stream) => {
                    let _ = self.reached.set(address.ip());
                    return Ok(Some(TcpTransport::new(stream, details)));
                }
                Err(error) => last_failure = Some((*address, error)),
            }
        }
        match last_failure {
            Some((_, error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Error::Timeout(details.timeout.reason))
            }
            Some((address, error)) => {
                let failure = FetchError::Connect { address, kind: error.kind() };
                Err(Error::Other(Box::new(failure)))
            }
            None => Err(Error::HostNotFound),
        }
    }
}

impl Dialer {
    fn dial(&self, address: SocketAddr, time: Duration) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(bind) = self.bind {
            socket.bind(&SocketAddr::new(bind, 0).into())?;
        }
        socket.connect_timeout(&address.into(), time)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }
}

/// A TCP connection as a transport of the HTTP library.
#[derive(Debug)]
pub(super) struct TcpTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl TcpTransport {
    fn new(stream: TcpStream, details: &ConnectionDetails<'_>) -> Self {
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        Self { stream, buffers: LazyBuffers::new(input, output) }
    }
}

impl Transport for TcpTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(limit(timeout)?)?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| expired(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let input = self.buffers.input_append_buf();
        let amount = loop {
            self.stream.set_read_timeout(limit(timeout)?)?;
            match self.stream.read(input) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| expired(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each connection serves one request.
        false
    }
}

/// Returns how long a call may block; `None` means without limit.
fn limit(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_not_happening() {
        return Ok(None);
    }
    match *timeout.after {
        Duration::ZERO => Err(Error::Timeout(timeout.reason)),
        left => Ok(Some(left)),
    }
}

fn expired(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

//! The sockets on which peers connect to us, one for each address family.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use super::{LISTENER_V4, LISTENER_V6};
use crate::net::Both;

/// One listener for each family, on one port.
pub(super) struct Listeners(Both<TcpListener>);

impl Listeners {
    /// Registers the listening sockets.
    pub(super) fn register(
        sockets: Both<std::net::TcpListener>,
        registry: &Registry,
    ) -> io::Result<Self> {
        let mut listeners = Both {
            v4: sockets.v4.map(TcpListener::from_std),
            v6: sockets.v6.map(TcpListener::from_std),
        };
        for (listener, token) in
            [(&mut listeners.v4, LISTENER_V4), (&mut listeners.v6, LISTENER_V6)]
        {
            if let Some(listener) = listener {
                registry.register(listener, token, Interest::READABLE)?;
            }
        }
        Ok(Self(listeners))
    }

    /// The addresses of the listeners.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The next connection; `None` if there is none now.
    ///
    /// # Errors
    /// The system has no socket for it.
    pub(super) fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        for listener in self.iter() {
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

    fn iter(&self) -> impl Iterator<Item = &TcpListener> {
        [&self.0.v4, &self.0.v6].into_iter().flatten()
    }
}

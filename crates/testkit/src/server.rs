//! A TCP server with a thread per connection. Dropping it closes the connections and joins the
//! threads.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A server that handles each connection in its own thread.
#[derive(Debug)]
pub(crate) struct TcpServer {
    address: SocketAddr,
    connections: Connections,
    acceptor: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens at `address` and calls `serve` with each connection.
    pub(crate) fn start(
        name: &str,
        address: SocketAddr,
        serve: impl Fn(TcpStream) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let connections = Connections::default();
        let own = connections.clone();
        let acceptor = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || accept(&listener, &own, &serve))?;
        Ok(Self { address, connections, acceptor: Some(acceptor) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.connections.close();
        let _wakes_accept = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    connections: &Connections,
    serve: &(impl Fn(TcpStream) + Clone + Send + 'static),
) {
    for stream in listener.incoming() {
        if connections.are_closed() {
            break;
        }
        if let Ok(stream) = stream {
            connections.run(stream, serve.clone());
        }
    }
    connections.join();
}

/// Open connections, with a handle to close them from another thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    closed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<Open>>>,
}

/// A connection and its thread.
type Open = (TcpStream, JoinHandle<()>);

impl Connections {
    /// Calls `serve` with `stream` in a new thread.
    pub(crate) fn run(&self, stream: TcpStream, serve: impl FnOnce(TcpStream) + Send + 'static) {
        let Ok(copy) = stream.try_clone() else { return };
        let Ok(last) = stream.try_clone() else { return };
        let worker = thread::spawn(move || {
            serve(stream);
            // The copy for `close` would keep the connection open.
            let _closed_already = last.shutdown(Shutdown::Both);
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, worker)| !worker.is_finished());
        open.push((copy, worker));
        if self.are_closed() {
            open.iter().for_each(end);
        }
    }

    pub(crate) fn are_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes every connection, also later ones.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(end);
    }

    /// Closes every open connection. Later ones stay open.
    pub(crate) fn disconnect(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(end);
    }

    /// Joins the threads. Call [`Self::close`] first.
    pub(crate) fn join(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        open.into_iter().for_each(|(_, worker)| drop(worker.join()));
    }
}

fn end((stream, _): &Open) {
    let _closed_already = stream.shutdown(Shutdown::Both);
}

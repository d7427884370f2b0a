//! A web server that sends any bytes as its responses.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::server::TcpServer;

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A web server on a real socket, with one request per connection. Dropping it stops it and joins
/// its threads.
#[derive(Debug)]
pub struct WebServer {
    server: TcpServer,
    heads: Arc<Mutex<Vec<String>>>,
}

impl WebServer {
    /// Starts a server on a free port of 127.0.0.1. `answer` gets the head of each request and
    /// writes the whole response. It returns an error if the client closed the connection.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start(
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<()> + Clone + Send + 'static,
    ) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::bind(address, |stream| stream, answer).expect("a free port on 127.0.0.1")
    }

    /// Starts a server at `address`. `wrap` wraps each connection, for example in TLS.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind<S: Read + Write>(
        address: SocketAddr,
        wrap: impl Fn(TcpStream) -> S + Clone + Send + 'static,
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let serve = move |stream: TcpStream| {
            let _ignored = stream.set_read_timeout(Some(READ_TIMEOUT));
            let mut stream = wrap(stream);
            if let Ok(head) = read_head(&mut stream) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
                // The client may close the connection early.
                let _closed = answer(&head, &mut stream).and_then(|()| stream.flush());
            }
        };
        Ok(Self { server: TcpServer::start("web-server", address, serve)?, heads })
    }

    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The heads of the requests so far: request line and headers.
    pub fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD && stream.read(&mut byte)? == 1 {
        head.extend(byte);
    }
    match head.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(String::from_utf8_lossy(&head).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_what_answer_writes() {
        let server = WebServer::start(|head, out| {
            let word = head.split(' ').nth(1).unwrap_or_default();
            write!(out, "you said {word}")
        });
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET /word HTTP/1.1\r\nA: b\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "you said /word");
        assert_eq!(server.requests(), ["GET /word HTTP/1.1\r\nA: b\r\n\r\n"]);
    }
}

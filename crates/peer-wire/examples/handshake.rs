//! Exchanges handshakes with a peer over a blocking socket and prints those of the peer.
//!
//! ```text
//! cargo run -p peer-wire --example handshake -- 127.0.0.1:6881 INFO-HASH
//! ```
//!
//! `Connection` is the protocol; this file adds a socket and a clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use peer_wire::{
    Connection, ExtensionHandshake, Handshake, InfoHashV1, PeerId, Received, Transmit, client_name,
};

/// How long to wait for the extension handshake after the handshake.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, info_hash] = arguments.as_slice() else {
        return Err("expected an address and an info-hash in hex".into());
    };
    let info_hash: InfoHashV1 = info_hash.parse()?;
    let start = Instant::now();
    let mut peer = Peer {
        stream: TcpStream::connect(address)?,
        connection: Connection::outgoing(Duration::ZERO, ours(info_hash), None),
        start,
    };
    peer.run()
}

/// Returns our handshake. The end of a peer id should be random; an example can use the process id.
fn ours(info_hash: InfoHashV1) -> Handshake {
    let mut tail = [b'0'; 12];
    tail[..4].copy_from_slice(&std::process::id().to_be_bytes());
    Handshake::new(info_hash, PeerId::new(*b"-XX0001-", tail))
}

struct Peer {
    stream: TcpStream,
    connection: Connection,
    start: Instant,
}

impl Peer {
    /// Exchanges messages until the extension handshake came or cannot come.
    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let mut scratch = [0; 4096];
        let mut deadline = None;
        loop {
            self.send()?;
            let Some(length) = self.read(&mut scratch, deadline)? else { return Ok(()) };
            let mut input = &scratch[..length];
            while let Some(received) = self.connection.receive(self.start.elapsed(), &mut input) {
                match received {
                    Received::Handshake(handshake) => {
                        print_handshake(&handshake);
                        if !self.connection.extension_protocol() {
                            return Ok(());
                        }
                        deadline = Some(self.start.elapsed() + PATIENCE);
                    }
                    Received::ExtensionHandshake(extensions) => {
                        print_extensions(&extensions);
                        return Ok(());
                    }
                    Received::Misbehaved(rule) => return Err(rule.into()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(Transmit::Bytes(bytes)) = self.connection.poll_transmit() {
            let length = self.stream.write(bytes)?;
            self.connection.transmitted(length);
        }
        Ok(())
    }

    /// Reads some bytes. Returns `None` if none come before `deadline`.
    fn read(
        &mut self,
        scratch: &mut [u8],
        deadline: Option<Duration>,
    ) -> Result<Option<usize>, Box<dyn Error>> {
        let now = self.start.elapsed();
        let until = deadline.or(self.connection.poll_timeout()).unwrap_or(now);
        let left = until.saturating_sub(now).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        match self.stream.read(scratch) {
            Ok(0) if deadline.is_some() => Ok(None),
            Ok(0) => Err("the peer closed the connection; does it have this torrent?".into()),
            Ok(length) => Ok(Some(length)),
            Err(_) if deadline.is_some() => Ok(None),
            Err(error) => match self.connection.handle_timeout(self.start.elapsed()) {
                Some(expired) => Err(expired.into()),
                None => Err(error.into()),
            },
        }
    }
}

fn print_handshake(handshake: &Handshake) {
    println!("peer id     {}", handshake.peer_id);
    println!("client      {}", client_name(&handshake.peer_id));
    println!("reserved    {}", handshake.reserved);
    let names: Vec<&str> = handshake.reserved.names().collect();
    println!("supports    {}", names.join(", "));
}

fn print_extensions(extensions: &ExtensionHandshake) {
    if let Some(client) = &extensions.client {
        println!("name        {}", client.escape_debug());
    }
    for (name, id) in &extensions.messages {
        println!("extension   {} ({id})", name.escape_debug());
    }
}

//! Two nodes on sockets of 127.0.0.1: one announces a torrent, the other looks it up.
//!
//! `cargo run -p dht --example loopback [INFO_HASH]`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and a clock.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dht::{Announce, Config, Dht, Event, InfoHashV1};

/// A node and its socket.
struct Node {
    dht: Dht,
    socket: UdpSocket,
    name: &'static str,
}

impl Node {
    fn bind(name: &'static str) -> Result<Self, Box<dyn Error>> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        // There is no IPv6 socket, and nobody to ask for.
        let config = Config { v6: false, wants_routers: false, ..Config::new(rand::random()) };
        Ok(Self { dht: Dht::new(&config), socket, name })
    }

    fn address(&self) -> Result<SocketAddr, std::io::Error> {
        self.socket.local_addr()
    }

    /// Does what is due, and returns the events.
    fn turn(&mut self, now: Duration) -> Result<Vec<Event>, Box<dyn Error>> {
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.dht.handle_datagram(now, from, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.dht.poll_timeout().is_some_and(|next| next <= now) {
            self.dht.handle_timeout(now);
        }
        while let Some(transmit) = self.dht.poll_transmit() {
            self.socket.send_to(transmit.bytes, transmit.to)?;
        }
        let events: Vec<Event> = std::iter::from_fn(|| self.dht.poll_event()).collect();
        events.iter().for_each(|event| println!("{}: {event:?}", self.name));
        Ok(events)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let hash = std::env::args().nth(1);
    let hash = hash.as_deref().unwrap_or("00112233445566778899aabbccddeeff00112233");
    let hash: InfoHashV1 = hash.parse()?;
    let start = Instant::now();
    let (mut announcer, mut reader) = (Node::bind("announcer")?, Node::bind("reader")?);
    let mut nodes_met = false;
    let mut announced = false;
    announcer.dht.handle_node(start.elapsed(), reader.address()?);
    reader.dht.handle_node(start.elapsed(), announcer.address()?);
    while start.elapsed() < Duration::from_secs(30) {
        let now = start.elapsed();
        let done = |events: &[Event]| events.iter().any(|it| matches!(it, Event::Done { .. }));
        let has_announced = done(&announcer.turn(now)?);
        let has_read = done(&reader.turn(now)?);
        if !nodes_met && announcer.dht.status().nodes_v4 == 1 {
            nodes_met = true;
            let announce = Announce::Port { port: 51413, seed: false };
            announcer.dht.find_peers(now, hash, announce);
        } else if has_announced && !announced {
            announced = true;
            reader.dht.find_peers(now, hash, Announce::No);
        } else if announced && has_read {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the lookup did not end".into())
}

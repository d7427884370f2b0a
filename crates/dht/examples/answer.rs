//! A node on a socket of loopback that answers without budgets until it is ended, for measurements.
//!
//! `cargo run --release -p dht --example answer ADDRESS:PORT [NODE:PORT..]`
//!
//! It pings the given nodes, and answers with those of them that answered.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A real socket and a clock.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dht::{Config, Dht};

/// How long one call waits for a datagram. Timers may be late by this.
const WAIT: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn Error>> {
    let addresses = std::env::args().skip(1).map(|word| word.parse());
    let addresses: Vec<SocketAddr> = addresses.collect::<Result<_, _>>()?;
    let (own, nodes) = addresses.split_first().ok_or("no address to listen on")?;
    if !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err("a node without budgets is only for loopback".into());
    }
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(WAIT))?;
    let config =
        Config { v6: false, wants_routers: false, throttle: false, ..Config::new(rand::random()) };
    let mut dht = Dht::new(&config);
    let start = Instant::now();
    for node in nodes {
        dht.ping(start.elapsed(), *node);
    }
    let mut buffer = [0; 2048];
    loop {
        while let Some(transmit) = dht.poll_transmit() {
            socket.send_to(transmit.bytes, transmit.to)?;
        }
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => dht.handle_datagram(start.elapsed(), from, &buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        let now = start.elapsed();
        if dht.poll_timeout().is_some_and(|due| due <= now) {
            dht.handle_timeout(now);
        }
        while dht.poll_event().is_some() {}
    }
}

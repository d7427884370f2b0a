//! Runs a tracker over HTTP and UDP that prints every announce.
//!
//! `cargo run -p testkit --example tracker -- [IP:PORT] [SECONDS]`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets and files.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::{HttpTracker, SeenAnnounce, Tracker, UdpTracker};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let address: SocketAddr = words.next().as_deref().unwrap_or("127.0.0.1:6969").parse()?;
    let seconds = words.next().map_or(Ok(u64::MAX), |word| word.parse())?;

    let tracker = Tracker::new();
    let http = HttpTracker::bind(address, tracker.clone())?;
    let udp = UdpTracker::bind(http.address(), tracker.clone())?;
    println!("{}\n{}", http.url(), udp.url());

    let end = std::time::Instant::now() + Duration::from_secs(seconds.min(1 << 30));
    let mut printed = 0;
    while std::time::Instant::now() < end {
        tracker.wait_for(Duration::from_secs(1), |seen| seen.len() > printed);
        for announce in tracker.announces().iter().skip(printed) {
            let SeenAnnounce { from, info_hash, event, port, left, .. } = announce;
            println!("{from} {info_hash} {event:?}: listens on {port}, {left} bytes left");
            printed += 1;
        }
    }
    Ok(())
}

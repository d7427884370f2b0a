//! Prints what is announced within ten minutes, and the first datagram. It sends nothing.
//!
//! `cargo run -p lsd --example schedule -- INFO-HASH..`

use std::time::Duration;

use lsd::{Announce, Group, InfoHashV1, Lsd};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut lsd = Lsd::new(6881, 0x5eed_5eed);
    let mut now = Duration::ZERO;
    for text in std::env::args().skip(1) {
        lsd.announce(now, text.parse::<InfoHashV1>()?);
    }
    let mut first = true;
    while let Some(due) = lsd.poll_timeout().filter(|due| *due < Duration::from_secs(600)) {
        now = now.max(due);
        while let Some(transmit) = lsd.poll_transmit(now) {
            if std::mem::take(&mut first) {
                println!("{}", str::from_utf8(&transmit.bytes)?.trim_end());
            }
            if transmit.group == Group::V4 {
                let announce = Announce::decode(transmit.group, &transmit.bytes)?;
                println!("{:>3} s: {:?}", now.as_secs(), announce.info_hashes);
            }
        }
    }
    Ok(())
}

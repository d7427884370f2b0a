//! Asks the UDP trackers of a .torrent file for peers and prints them.
//!
//! `cargo run -p tracker-udp --example peers_of_a_torrent -- FILE.torrent`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

use metainfo::Metainfo;
use tracker_udp::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: peers_of_a_torrent FILE.torrent")?;
    let metainfo = Metainfo::parse(std::fs::read(&path)?)?;
    let client = Client::default();
    let mut asked = 0;
    for url in metainfo.trackers().iter().flatten().filter(|url| url.starts_with("udp://")) {
        asked += 1;
        match client.get_peers(url, metainfo.info_hash()) {
            Ok(found) => {
                let (seeders, leechers) = (found.seeders, found.leechers);
                println!("{url}: {seeders} seeders, {leechers} leechers");
                println!("  next announce in {} s", found.interval);
                found.peers.iter().for_each(|peer| println!("  {peer}"));
            }
            Err(error) => println!("{url}: {error}"),
        }
    }
    if asked == 0 {
        return Err(format!("{path} names no UDP tracker").into());
    }
    Ok(())
}

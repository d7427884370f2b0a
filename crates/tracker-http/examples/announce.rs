//! Announces `started` and `stopped` to the HTTP trackers of a .torrent file and prints their
//! peers.
//!
//! `cargo run -p tracker-http --example announce -- FILE.torrent`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

use metainfo::Metainfo;
use tracker_http::{AnnounceEvent, AnnounceRequest, Fetcher, FetcherConfig, PeerId, shorten_url};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: announce FILE.torrent")?;
    let metainfo = Metainfo::parse(std::fs::read(&path)?)?;
    let fetcher = Fetcher::new(FetcherConfig::default())?;
    let peer_id = PeerId::new(*b"-XX0001-", *b"example12345");
    let mut request = AnnounceRequest::new(metainfo.info_hash(), peer_id);
    request.left = metainfo.info().geometry().total();
    let mut asked = 0;
    for url in metainfo.trackers().iter().flatten().filter(|url| url.starts_with("http")) {
        asked += 1;
        request.event = AnnounceEvent::Started;
        match fetcher.announce(url, &request) {
            Ok(reply) => {
                println!("{}: {} peers", shorten_url(url), reply.peers.len());
                reply.peers.iter().for_each(|peer| println!("  {peer}"));
                request.event = AnnounceEvent::Stopped;
                // The tracker forgets us after a while even if this fails.
                let _ = fetcher.announce(url, &request);
            }
            Err(error) => println!("{}: {error}", shorten_url(url)),
        }
    }
    if asked == 0 {
        return Err(format!("{path} names no HTTP tracker").into());
    }
    Ok(())
}

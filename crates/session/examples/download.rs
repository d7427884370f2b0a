//! Downloads a torrent, and prints its progress:
//!
//! ```text
//! cargo run -p session --example download -- file.torrent FOLDER [PEER..]
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program has a clock.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metainfo::Metainfo;
use session::{
    AddTorrent, Event, EventKind, PeerState, Session, SessionConfig, StopReason, TorrentStatus,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(torrent), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("expected file.torrent FOLDER [PEER..]".into());
    };
    let peers = arguments.map(|peer| peer.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    let metainfo = Arc::new(Metainfo::parse(std::fs::read(torrent)?)?);
    let session = Session::start(&SessionConfig::default())?;
    session.add(AddTorrent { peers, ..AddTorrent::new(metainfo, folder) })?;
    while !take_events(&session)? {
        session.snapshot()?.iter().for_each(print);
    }
    session.shut_down(Duration::from_secs(3));
    Ok(())
}

/// Shows the events of a second. Returns whether the download is over.
fn take_events(session: &Session) -> Result<bool, Box<dyn Error>> {
    let until = std::time::Instant::now() + Duration::from_secs(1);
    while let Ok(Event { kind, .. }) = session.events().recv_deadline(until) {
        match kind {
            EventKind::Completed => {
                println!("everything is there, verified and synced");
                return Ok(true);
            }
            EventKind::Stopped { reason: StopReason::Failed(error) } => return Err(error.into()),
            EventKind::Stopped { .. } => return Ok(true),
            EventKind::Tracker { url, result: Err(error) } => eprintln!("{url}: {error}"),
            EventKind::Peer { address, state: PeerState::Banned, .. } => {
                eprintln!("{address} sent bad data and is banned");
            }
            EventKind::Warning(text) => eprintln!("{text}"),
            _ => {}
        }
    }
    Ok(false)
}

fn print(status: &TorrentStatus) {
    println!(
        "{}: {} of {} pieces, {} KiB/s from {} of {} peers",
        status.name,
        status.pieces_done,
        status.pieces_total,
        status.down_rate / 1024,
        status.peers_connected,
        status.peers_known,
    );
}

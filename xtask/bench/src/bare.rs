//! A sender without a protocol: it sends all bytes to every connection, from the page cache.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::sendfile;

use super::payload::Description;

/// Serves one connection after another until it is killed.
pub(super) fn send(payload: &Path, folder: &Path, address: SocketAddr) -> Result<()> {
    let payload = Description::read(payload)?;
    for stream in TcpListener::bind(address)?.incoming() {
        // A receiver may disconnect early.
        let _gone = send_all(&payload, folder, &stream?);
    }
    Ok(())
}

fn send_all(payload: &Description, folder: &Path, stream: &TcpStream) -> Result<()> {
    for (path, length) in &payload.files {
        let file = File::open(folder.join(path))?;
        let mut left = *length;
        while left > 0 {
            let sent = sendfile(stream, &file, None, left as usize)?;
            ensure!(sent > 0, "{} is too short", path.display());
            left -= sent as u64;
        }
    }
    Ok(())
}

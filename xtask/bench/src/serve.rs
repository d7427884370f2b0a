//! A seeder that unchokes everyone at once and serves every request, from memory, with a thread for
//! each connection. One process can be as many peers as a benchmark wants: it listens at every
//! address of the machine. Each address may have a line of its own ([`super::line`]).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::line::{self, Line};
use super::payload::{Description, data_below, description_below};

/// Its port; other programs use other ports at some of the addresses.
pub(super) const PORT: u16 = 16882;
/// How much is read at a time, in bytes: requests only.
const READ: usize = 16 * 1024;
/// How much is sent at a time, in bytes, or a block more.
const SEND: usize = 256 * 1024;
/// The longest block that is served, in bytes.
const MAX_BLOCK: u32 = 128 * 1024;

/// Serves the payload below `root` until it is killed, each address over a line of its own: the
/// last byte of the address selects one of `lines`, in rotation.
pub(super) fn serve_over(root: &Path, lines: Vec<Line>) -> Result<()> {
    let (torrents, lines) = (Arc::new(vec![Torrent::open(root)?]), Arc::new(lines));
    for stream in TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?.incoming() {
        let (stream, torrents, lines) = (stream?, torrents.clone(), lines.clone());
        thread::spawn(move || {
            let IpAddr::V4(address) = stream.local_addr()?.ip() else { return Ok(()) };
            let line = lines[usize::from(address.octets()[3]) % lines.len()];
            // The handshake crosses the line too.
            thread::sleep(line.round_trip);
            let peer = Peer::greet(stream, &torrents)?;
            line::serve(&peer.stream, peer.torrent, line)
        });
    }
    Ok(())
}

/// Serves the payloads below `roots` until it is killed, or until `limit` bytes are sent. Writes
/// the file `requested` at the first request.
pub(super) fn serve(roots: &[PathBuf], requested: &Path, limit: Option<u64>) -> Result<()> {
    let torrents = roots.iter().map(|root| Torrent::open(root)).collect::<Result<Vec<_>>>()?;
    let (torrents, sent) = (Arc::new(torrents), Arc::new(AtomicU64::new(0)));
    for stream in TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?.incoming() {
        let (stream, torrents, sent) = (stream?, torrents.clone(), sent.clone());
        let requested = requested.to_owned();
        thread::spawn(move || {
            // The peer may disconnect at any time.
            let _gone = Peer::greet(stream, &torrents)
                .and_then(|peer| peer.serve(&requested, &sent, limit.unwrap_or(u64::MAX)));
        });
    }
    Ok(())
}

/// A payload that can be read.
pub(super) struct Torrent {
    description: Description,
    /// Each file with the position of its first byte.
    files: Vec<(u64, File)>,
}

impl Torrent {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let description = Description::read(&description_below(root))?;
        let (mut files, mut position) = (Vec::new(), 0);
        for (path, length) in &description.files {
            files.push((position, File::open(data_below(root).join(path))?));
            position += length;
        }
        Ok(Self { description, files })
    }

    /// Appends `length` bytes from `position` on to `into`.
    fn read(&self, mut position: u64, length: usize, into: &mut Vec<u8>) -> Result<()> {
        let mut begin = into.len();
        into.resize(begin + length, 0);
        let mut index = self.files.partition_point(|(first, _)| *first <= position) - 1;
        while begin < into.len() {
            let (first, file) = self.files.get(index).context("beyond the end")?;
            let count = file.read_at(&mut into[begin..], position - first)?;
            (begin, position) = (begin + count, position + count as u64);
            index += usize::from(count == 0);
        }
        Ok(())
    }
}

/// A connection after the handshake.
struct Peer<'a> {
    stream: TcpStream,
    torrent: &'a Torrent,
}

impl<'a> Peer<'a> {
    fn greet(mut stream: TcpStream, torrents: &'a [Torrent]) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut hello = [0; 68];
        stream.read_exact(&mut hello)?;
        let wanted = |torrent: &&Torrent| torrent.description.info_hash == hello[28..48];
        let torrent = torrents.iter().find(wanted).context("another torrent")?;
        let address = stream.local_addr()?.ip().to_string();
        hello[20..28].fill(0);
        hello[48..].copy_from_slice(format!("-XX0000-{address:0>12.12}").as_bytes());
        let pieces = torrent.description.size.div_ceil(torrent.description.piece_length);
        let mut bitfield = vec![0xff_u8; pieces.div_ceil(8) as usize];
        if let Some(last) = bitfield.last_mut() {
            *last <<= (8 - pieces % 8) % 8;
        }
        let mut answer = hello.to_vec();
        answer.extend((bitfield.len() as u32 + 1).to_be_bytes());
        answer.push(5);
        answer.extend(bitfield);
        answer.extend(b"\0\0\0\x01\x01");
        stream.write_all(&answer)?;
        Ok(Self { stream, torrent })
    }

    fn serve(mut self, requested: &Path, sent: &AtomicU64, limit: u64) -> Result<()> {
        let (mut input, mut output) = (Vec::new(), Vec::new());
        loop {
            let begin = input.len();
            input.resize(begin + READ, 0);
            let count = self.stream.read(&mut input[begin..])?;
            ensure!(count > 0, "gone");
            input.truncate(begin + count);
            let mut used = 0;
            while let Some(message) = message(&input[used..]) {
                used += message.len();
                if let [_, _, _, _, 6, request @ ..] = message {
                    let block = block_at(self.torrent, request, &mut output)?;
                    if sent.fetch_add(block, Ordering::Relaxed) == 0 {
                        File::create(requested)?;
                    }
                }
                if output.len() >= SEND {
                    self.send(&mut output)?;
                }
            }
            input.drain(..used);
            self.send(&mut output)?;
            if sent.load(Ordering::Relaxed) >= limit {
                std::process::exit(0);
            }
        }
    }

    fn send(&mut self, output: &mut Vec<u8>) -> Result<()> {
        self.stream.write_all(output)?;
        output.clear();
        Ok(())
    }
}

/// Appends the requested block; returns its length.
pub(super) fn block_at(torrent: &Torrent, request: &[u8], output: &mut Vec<u8>) -> Result<u64> {
    let [piece, begin, length] = [0, 4, 8].map(|at| {
        let number = request.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        number.map_or(0, u32::from_be_bytes)
    });
    ensure!(length <= MAX_BLOCK, "too much");
    output.extend((length + 9).to_be_bytes());
    output.push(7);
    output.extend(piece.to_be_bytes());
    output.extend(begin.to_be_bytes());
    let position = u64::from(piece) * torrent.description.piece_length + u64::from(begin);
    torrent.read(position, length as usize, output)?;
    Ok(u64::from(length))
}

/// Returns the message at the start of `input`, with its length, if it is complete.
pub(super) fn message(input: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(*input.first_chunk()?);
    input.get(..4 + length as usize)
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Payload, Shape};
    use super::*;

    #[test]
    fn sent_bytes_are_counted_once() -> Result<()> {
        const BLOCK: u32 = 16 * 1024;
        let folder = tempfile::tempdir()?;
        let shape = Shape { size: 128 * 1024, files: 1, piece_length: 64 * 1024 };
        let payload = Payload::zeros("zeros", shape, "http://unused/", folder.path())?;
        let torrents = [Torrent::open(payload.root())?];
        let requested = folder.path().join("requested");
        let sent = AtomicU64::new(0);

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut stream = TcpStream::connect(listener.local_addr()?)?;
        let (accepted, _) = listener.accept()?;
        let mut hello = [0; 68];
        hello[28..48].copy_from_slice(&torrents[0].description.info_hash);
        stream.write_all(&hello)?;
        for begin in [0, BLOCK, 2 * BLOCK] {
            stream.write_all(b"\0\0\0\x0d\x06\0\0\0\0")?;
            stream.write_all(&[begin.to_be_bytes(), BLOCK.to_be_bytes()].concat())?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let reader = thread::spawn(move || {
            let mut answers = Vec::new();
            stream.read_to_end(&mut answers).map(|_| answers)
        });

        // All requests are there; after them the stream ends, which is an error.
        let gone = Peer::greet(accepted, &torrents)?.serve(&requested, &sent, u64::MAX);
        assert!(gone.is_err());
        assert_eq!(sent.into_inner(), 3 * u64::from(BLOCK));
        assert!(requested.exists());
        let answers = reader.join().expect("no panic")?;
        // The handshake, a bitfield of one byte, an unchoke, and the blocks.
        assert_eq!(answers.len(), 68 + 6 + 5 + 3 * (13 + BLOCK as usize));
        Ok(())
    }
}

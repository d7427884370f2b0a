//! A peer that requests everything and discards it, to measure the transport alone, or a seeder.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{self, AddressFamily, SocketType};
use serde_json::json;

use super::payload::Description;
use e2e::clients::namespace;

/// The length of a request.
const BLOCK: u64 = 16 * 1024;
/// The most requests outstanding on one connection, and on all together.
const MAX_WINDOW: u64 = 250;
const ALL_WINDOWS: u64 = 4000;
/// How much is read at a time, in bytes.
const READ: usize = 256 * 1024;
/// How long a seeder may be silent. Some seeders never unchoke some peers.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Requests blocks over `connections` connections to each of `addresses`: for `seconds`,
/// repeatedly; or until each connection has had its share of the payload. Prints how much each
/// connection received.
pub(super) fn run(
    payload: &Path,
    addresses: &[SocketAddr],
    connections: usize,
    seconds: Option<u64>,
) -> Result<()> {
    let payload = Description::read(payload)?;
    let all: Vec<SocketAddr> =
        addresses.iter().flat_map(|address| vec![*address; connections]).collect();
    let start = Instant::now();
    let end = seconds.map(|seconds| start + Duration::from_secs(seconds));
    let bytes: Vec<Result<u64>> = thread::scope(|scope| {
        let peers: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(index, address)| {
                let share = Share::new(&payload, index as u64, all.len() as u64, end);
                let window = (ALL_WINDOWS / all.len() as u64).clamp(4, MAX_WINDOW);
                let payload = &payload;
                scope.spawn(move || {
                    let got = Peer::connect(*address, payload, index, share, window);
                    let got = got.and_then(Peer::run);
                    // A refused connection has received nothing, which is a result too.
                    if end.is_some() { Ok(got.unwrap_or(0)) } else { got }
                })
            })
            .collect();
        let results = peers.into_iter().map(|peer| peer.join().expect("no peer panics"));
        results.collect()
    });
    let bytes = bytes.into_iter().collect::<Result<Vec<u64>>>()?;
    println!("{}", json!({ "seconds": start.elapsed().as_secs_f64(), "bytes": bytes }));
    Ok(())
}

/// The blocks that one connection requests.
#[derive(Debug)]
struct Share {
    first: u64,
    /// The block after the last.
    end: u64,
    next: u64,
    /// When to stop; until then it starts again at the first block. `None`: each block once.
    until: Option<Instant>,
}

impl Share {
    fn new(payload: &Description, index: u64, of: u64, until: Option<Instant>) -> Self {
        let blocks = payload.size.div_ceil(BLOCK);
        let first = blocks * index / of;
        let end = if until.is_some() { blocks } else { blocks * (index + 1) / of };
        Self { first, end, next: first, until }
    }

    fn next(&mut self) -> Option<u64> {
        if self.next == self.end {
            self.until?;
            (self.first, self.next) = (0, 0);
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// One connection.
struct Peer<'a> {
    payload: &'a Description,
    stream: TcpStream,
    share: Share,
    window: u64,
    unchoked: bool,
    unanswered: u64,
    received: u64,
    requests: Vec<u8>,
}

impl<'a> Peer<'a> {
    fn connect(
        address: SocketAddr,
        payload: &'a Description,
        index: usize,
        share: Share,
        window: u64,
    ) -> Result<Self> {
        let mut stream = connect(address, index)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_LIMIT))?;
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        hello.extend(payload.info_hash);
        hello.extend(format!("-XX0000-{index:012}").into_bytes());
        hello.extend(b"\0\0\0\x01\x02");
        stream.write_all(&hello)?;
        let mut answer = [0; 68];
        stream.read_exact(&mut answer).context("no handshake")?;
        ensure!(answer[28..48] == payload.info_hash, "another info-hash");
        let (unanswered, received, requests) = (0, 0, Vec::new());
        Ok(Self { payload, stream, share, window, unchoked: false, unanswered, received, requests })
    }

    /// Returns the number of bytes received.
    fn run(mut self) -> Result<u64> {
        let mut messages = Messages::default();
        let mut buffer = vec![0; READ];
        loop {
            self.ask()?;
            if self.unchoked && self.unanswered == 0 {
                return Ok(self.received);
            }
            if let Some(until) = self.share.until {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(self.received);
                }
                self.stream.set_read_timeout(Some(left))?;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) if self.share.until.is_some() => return Ok(self.received),
                Ok(0) => anyhow::bail!("the seeder closed the connection"),
                Ok(count) => messages.each(&buffer[..count], |id, length| self.note(id, length)),
                Err(_) if self.share.until.is_some() => return Ok(self.received),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Fills the window of requests, many in one write.
    fn ask(&mut self) -> Result<()> {
        if !self.unchoked || self.unanswered > self.window / 2 {
            return Ok(());
        }
        self.requests.clear();
        while self.unanswered < self.window {
            let Some(block) = self.share.next() else { break };
            let position = block * BLOCK;
            let (piece, begin) =
                (position / self.payload.piece_length, position % self.payload.piece_length);
            let length = BLOCK.min(self.payload.size - position);
            self.requests.extend(b"\0\0\0\x0d\x06");
            for number in [piece, begin, length] {
                self.requests.extend((number as u32).to_be_bytes());
            }
            self.unanswered += 1;
        }
        Ok(self.stream.write_all(&self.requests)?)
    }

    /// Handles a message of this kind and length.
    fn note(&mut self, id: u8, length: u64) {
        match id {
            // A choke drops the requests, which only changes the count here.
            0 => (self.unchoked, self.unanswered) = (false, 0),
            1 => self.unchoked = true,
            7 => {
                self.received += length - 9;
                self.unanswered = self.unanswered.saturating_sub(1);
            }
            _ => {}
        }
    }
}

/// Connects from an address that no other connection has: some seeders allow one connection each.
fn connect(address: SocketAddr, index: usize) -> Result<TcpStream> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    net::bind(&socket, &SocketAddr::from((namespace::numbered_address(index), 0)))?;
    net::connect(&socket, &address)?;
    Ok(TcpStream::from(socket))
}

/// Finds the messages in a stream of bytes, and decodes only their heads.
#[derive(Debug, Default)]
struct Messages {
    head: Vec<u8>,
    /// Bytes of the present message that are still to be skipped.
    skip: u64,
    present: Option<(u8, u64)>,
}

impl Messages {
    /// Calls `seen` with the kind and length of each complete message.
    fn each(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, u64)) {
        loop {
            let skipped = self.skip.min(bytes.len() as u64);
            bytes = &bytes[skipped as usize..];
            self.skip -= skipped;
            if self.skip == 0
                && let Some((id, length)) = self.present.take()
            {
                seen(id, length);
            }
            let Some((first, rest)) = bytes.split_first().filter(|_| self.skip == 0) else {
                return;
            };
            bytes = rest;
            self.head.push(*first);
            self.read_head();
        }
    }

    /// Decodes a head: a length and, unless that is zero, a kind.
    fn read_head(&mut self) {
        let length = match self.head[..] {
            [0, 0, 0, 0] => return self.head.clear(),
            [a, b, c, d, _] => u64::from(u32::from_be_bytes([a, b, c, d])),
            _ => return,
        };
        self.present = Some((self.head[4], length));
        self.skip = length - 1;
        self.head.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_any_portions() {
        let bytes = b"\0\0\0\x01\x01\0\0\0\0\0\0\0\x0b\x07\0\0\0\0\0\0\0\0ab\0\0\0\x01\x00";
        for size in 1..=bytes.len() {
            let (mut messages, mut seen) = (Messages::default(), Vec::new());
            for part in bytes.chunks(size) {
                messages.each(part, |id, length| seen.push((id, length)));
            }
            assert_eq!(seen, [(1, 1), (7, 11), (0, 1)], "parts of {size}");
        }
    }
}

//! A peer that asks for everything, over as many connections as told, and keeps nothing: what is
//! left is the seeder's own cost. For measurements, so one thread with large reads serves all
//! connections, and requests leave in batches.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bt_types::{BLOCK_LENGTH, Geometry, InfoHashV1};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// Fast (BEP 6) and the extension protocol (BEP 10), as in [`crate::ScriptedPeer`].
const RESERVED: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0x04];
const HANDSHAKE_LENGTH: usize = 68;
const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const HAVE_NONE: u8 = 15;
const REJECT: u8 = 16;
const EXTENDED: u8 = 20;
/// The one buffer that all connections are read into, in bytes.
const BUFFER: usize = 256 * 1024;
/// What one connection is read in its turn, in bytes.
const TURN: usize = 1024 * 1024;
/// With less on its way, requests are sent again: not for every block.
const BATCH: u32 = 8;

/// What to drain.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The seeder.
    pub address: SocketAddr,
    /// Of which torrent.
    pub info_hash: InfoHashV1,
    /// Its sizes.
    pub geometry: Geometry,
    /// How many connections at once. Each asks for the whole torrent, from a place of its own.
    pub connections: usize,
    /// How many requests each keeps outstanding.
    pub window: u32,
    /// It ends when that much payload came, in bytes ...
    pub bytes: u64,
    /// ... or after that time.
    pub limit: Duration,
}

/// What came.
#[derive(Debug, Clone)]
pub struct Drained {
    /// From the first byte of payload to the last.
    pub time: Duration,
    /// Payload of each connection, in bytes.
    pub bytes: Vec<u64>,
}

impl Drain {
    /// Takes payload until there is enough, or the time is over.
    ///
    /// # Errors
    /// Those of the sockets; the seeder hangs up or is no seeder of that torrent.
    pub fn run(&self) -> io::Result<Drained> {
        let mut poll = Poll::new()?;
        let mut links = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let mut link = Link::connect(self, number)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut link.stream, Token(number), interest)?;
            links.push(link);
        }
        let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; BUFFER]);
        let (began, mut first, mut total) = (Instant::now(), None, 0);
        let mut ready: Vec<usize> = Vec::new();
        while total < self.bytes && began.elapsed() < self.limit {
            let wait = if ready.is_empty() { Duration::from_millis(100) } else { Duration::ZERO };
            poll.poll(&mut events, Some(wait))?;
            ready.extend(events.iter().map(|event| event.token().0));
            ready.sort_unstable();
            ready.dedup();
            let mut again = Vec::new();
            for number in ready.drain(..) {
                let (came, more) = links[number].turn(self, &mut buffer)?;
                total += came;
                if came > 0 && first.is_none() {
                    first = Some(Instant::now());
                }
                if more {
                    again.push(number);
                }
            }
            ready = again;
        }
        let time = first.map_or(Duration::ZERO, |first| first.elapsed());
        Ok(Drained { time, bytes: links.iter().map(|link| link.payload).collect() })
    }
}

/// One connection.
struct Link {
    stream: TcpStream,
    unchoked: bool,
    /// The number of the next block to ask for, counted over the whole torrent.
    next: u64,
    outstanding: u32,
    /// What could not be written yet.
    unsent: Vec<u8>,
    /// The beginning of a message, until its head is whole.
    head: Vec<u8>,
    /// How much of the message under way is still to come, and whether that is payload.
    rest: (usize, bool),
    payload: u64,
}

impl Link {
    fn connect(drain: &Drain, number: usize) -> io::Result<Self> {
        let mut stream = std::net::TcpStream::connect(drain.address)?;
        stream.set_nodelay(true)?;
        let blocks = drain.geometry.total().div_ceil(BLOCK_LENGTH.into());
        let mut hello = Vec::with_capacity(HANDSHAKE_LENGTH + 16);
        hello.extend(PROTOCOL);
        hello.extend(RESERVED);
        hello.extend(drain.info_hash.as_bytes());
        hello.extend(format!("-DR0000-{number:012}").as_bytes());
        hello.extend([0, 0, 0, 1, HAVE_NONE, 0, 0, 0, 4, EXTENDED, 0, b'd', b'e']);
        hello.extend([0, 0, 0, 1, INTERESTED]);
        stream.write_all(&hello)?;
        // One after another, so that a seeder never has many that did not say what they want.
        stream.read_exact(&mut [0; HANDSHAKE_LENGTH])?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            unchoked: false,
            next: blocks / drain.connections.max(1) as u64 * number as u64,
            outstanding: 0,
            unsent: Vec::new(),
            head: Vec::new(),
            rest: (0, false),
            payload: 0,
        })
    }

    /// Reads and asks for more; says how much payload came and whether there may be more.
    fn turn(&mut self, drain: &Drain, buffer: &mut [u8]) -> io::Result<(u64, bool)> {
        let (before, mut read, mut more) = (self.payload, 0, true);
        self.flush()?;
        while read < TURN && more {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            more = length == buffer.len();
            read += length;
            self.take(&buffer[..length])?;
            self.ask(drain)?;
        }
        Ok((self.payload - before, more))
    }

    fn take(&mut self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() {
            let (rest, payload) = self.rest;
            if rest > 0 {
                let step = rest.min(input.len());
                self.rest = (rest - step, payload);
                self.payload += if payload { step as u64 } else { 0 };
                self.outstanding -= u32::from(payload && step == rest);
                input = &input[step..];
            } else {
                self.head.push(input[0]);
                input = &input[1..];
                self.take_head()?;
            }
        }
        Ok(())
    }

    fn take_head(&mut self) -> io::Result<()> {
        let Some((length, [id, rest @ ..])) = self.head.split_first_chunk::<4>() else {
            if self.head == [0; 4] {
                self.head.clear();
            }
            return Ok(());
        };
        let length = u32::from_be_bytes(*length) as usize;
        match *id {
            PIECE if rest.len() < 8 => return Ok(()),
            PIECE => self.rest = (length - 9, true),
            id => {
                self.rest = (length - 1, false);
                match id {
                    UNCHOKE => self.unchoked = true,
                    CHOKE => self.unchoked = false,
                    REJECT => self.outstanding = self.outstanding.saturating_sub(1),
                    _ => {}
                }
            }
        }
        self.head.clear();
        Ok(())
    }

    /// Keeps the window full.
    fn ask(&mut self, drain: &Drain) -> io::Result<()> {
        if !self.unchoked || self.outstanding + BATCH > drain.window {
            return Ok(());
        }
        let geometry = drain.geometry;
        while self.outstanding < drain.window {
            let at = self.next * u64::from(BLOCK_LENGTH);
            self.next += 1;
            if at >= geometry.total() {
                self.next = 0;
                continue;
            }
            let length = u64::from(geometry.piece_length());
            let Range { start, end } = at..geometry.total().min(at + u64::from(BLOCK_LENGTH));
            let fields = [13, (at / length) as u32, (at % length) as u32, (end - start) as u32];
            self.unsent.extend(fields[0].to_be_bytes());
            self.unsent.push(REQUEST);
            fields[1..].iter().for_each(|field| self.unsent.extend(field.to_be_bytes()));
            self.outstanding += 1;
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

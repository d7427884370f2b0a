//! A seeder behind a line with a rate and a delay. A request arrives half a round trip later; the
//! block leaves at the rate of the line, and arrives half a round trip later. The seeder keeps
//! requests until they are served, so that a CANCEL in time saves a block.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::serve::{Torrent, block_at, message};

/// How much is read at a time, in bytes: requests only.
const READ: usize = 16 * 1024;
/// The portion of bytes that leaves at a time takes the line this long. A shorter time costs more
/// CPU.
const PORTION: Duration = Duration::from_millis(10);

/// The properties of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Bytes per second from the seeder.
    pub(super) rate: u64,
    pub(super) round_trip: Duration,
}

/// A message of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerMessage {
    Request([u8; 12]),
    Cancel([u8; 12]),
}

/// Messages in transit, each with the time at which it arrives.
#[derive(Debug, Default)]
struct InTransit {
    asked: VecDeque<(Instant, PeerMessage)>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    in_transit: Mutex<InTransit>,
    changed: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InTransit> {
        self.in_transit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection after the handshake, until the other side disconnects.
pub(super) fn serve(stream: &TcpStream, torrent: &Torrent, line: Line) -> Result<()> {
    let inbox = Arc::new(Inbox::default());
    let (reader, own) = (stream.try_clone()?, Arc::clone(&inbox));
    thread::spawn(move || {
        // The peer may disconnect at any time.
        let _gone = listen(reader, &own, line.round_trip / 2);
        own.lock().closed = true;
        own.changed.notify_all();
    });
    let sender = Sender {
        stream,
        torrent,
        line,
        queue: VecDeque::new(),
        message: VecDeque::new(),
        free_at: Instant::now(),
        leaving: VecDeque::new(),
    };
    sender.run(&inbox)
}

fn listen(mut stream: TcpStream, inbox: &Inbox, delay: Duration) -> Result<()> {
    let (mut input, mut portion) = (Vec::new(), vec![0; READ]);
    loop {
        let count = stream.read(&mut portion)?;
        ensure!(count > 0, "gone");
        input.extend_from_slice(&portion[..count]);
        let arrives = Instant::now() + delay;
        let mut used = 0;
        while let Some(message) = message(&input[used..]) {
            used += message.len();
            let asked = match message {
                [_, _, _, _, 6, block @ ..] => block.try_into().ok().map(PeerMessage::Request),
                [_, _, _, _, 8, block @ ..] => block.try_into().ok().map(PeerMessage::Cancel),
                _ => None,
            };
            inbox.lock().asked.extend(asked.map(|asked| (arrives, asked)));
        }
        input.drain(..used);
        inbox.changed.notify_all();
    }
}

struct Sender<'a> {
    stream: &'a TcpStream,
    torrent: &'a Torrent,
    line: Line,
    /// Requests that have arrived.
    queue: VecDeque<[u8; 12]>,
    /// The rest of the message that is being sent.
    message: VecDeque<u8>,
    /// When the line is free again.
    free_at: Instant,
    /// Bytes that have left, and when they arrive.
    leaving: VecDeque<(Instant, Vec<u8>)>,
}

impl Sender<'_> {
    fn run(mut self, inbox: &Inbox) -> Result<()> {
        loop {
            let now = Instant::now();
            self.deliver(now)?;
            self.send(now)?;
            let mut in_transit = inbox.lock();
            if in_transit.closed {
                return Ok(());
            }
            if self.receive(now, &mut in_transit) {
                continue;
            }
            match self.next_event(&in_transit) {
                Some(next) => {
                    let wait = next.saturating_duration_since(now);
                    drop(inbox.changed.wait_timeout(in_transit, wait));
                }
                None => drop(inbox.changed.wait(in_transit)),
            }
        }
    }

    /// Handles the messages that have arrived; returns whether there were any.
    fn receive(&mut self, now: Instant, in_transit: &mut InTransit) -> bool {
        let arrived = in_transit.asked.partition_point(|(arrives, _)| *arrives <= now);
        for (_, asked) in in_transit.asked.drain(..arrived) {
            match asked {
                PeerMessage::Request(block) => self.queue.push_back(block),
                PeerMessage::Cancel(block) => self.queue.retain(|other| *other != block),
            }
        }
        arrived > 0
    }

    /// Puts on the line what it has room for by `now`.
    fn send(&mut self, now: Instant) -> Result<()> {
        if self.is_idle() {
            self.free_at = self.free_at.max(now);
        }
        while self.free_at <= now {
            if self.message.is_empty() {
                let Some(request) = self.queue.pop_front() else { return Ok(()) };
                let mut message = Vec::new();
                block_at(self.torrent, &request, &mut message)?;
                self.message = message.into();
            }
            let rate = self.line.rate as f64;
            let portion = ((PORTION.as_secs_f64() * rate) as usize).clamp(1, self.message.len());
            self.free_at += Duration::from_secs_f64(portion as f64 / rate);
            let bytes = self.message.drain(..portion).collect();
            self.leaving.push_back((self.free_at + self.line.round_trip / 2, bytes));
        }
        Ok(())
    }

    /// Writes the bytes that have arrived at the other side.
    fn deliver(&mut self, now: Instant) -> Result<()> {
        let arrived = self.leaving.partition_point(|(arrives, _)| *arrives <= now);
        for (_, bytes) in self.leaving.drain(..arrived) {
            self.stream.write_all(&bytes)?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.message.is_empty() && self.queue.is_empty()
    }

    /// Returns when something arrives or the line is free.
    fn next_event(&self, in_transit: &InTransit) -> Option<Instant> {
        let asked = in_transit.asked.front().map(|(arrives, _)| *arrives);
        let leaving = self.leaving.front().map(|(arrives, _)| *arrives);
        let line = (!self.is_idle()).then_some(self.free_at);
        [asked, leaving, line].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::payload::{Payload, Shape};
    use super::*;

    const BLOCK: u32 = 16 * 1024;

    fn message(kind: u8, begin: u32) -> Vec<u8> {
        let numbers = [0, begin, BLOCK].map(u32::to_be_bytes).concat();
        [&[0, 0, 0, 13, kind][..], &numbers].concat()
    }

    #[test]
    fn cancelled_block_is_not_sent() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let shape = Shape { size: 128 * 1024, files: 1, piece_length: 64 * 1024 };
        let payload = Payload::zeros("zeros", shape, "http://unused/", folder.path())?;
        let torrent = Torrent::open(payload.root())?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut stream = TcpStream::connect(listener.local_addr()?)?;
        let (seeder, _) = listener.accept()?;

        let line = Line { rate: 10_000_000, round_trip: Duration::from_millis(2) };
        let said = [message(6, 0), message(6, BLOCK), message(6, 2 * BLOCK), message(8, BLOCK)];
        stream.write_all(&said.concat())?;
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&seeder, &torrent, line));
            for begin in [0, 2 * BLOCK] {
                let mut block = vec![0; 13 + BLOCK as usize];
                stream.read_exact(&mut block)?;
                assert_eq!(block[9..13], begin.to_be_bytes());
            }
            drop(stream);
            serving.join().expect("no panic")
        })
    }
}

//! A seeder behind a line with a rate and a delay: what it is asked for arrives half a round trip
//! later, leaves no faster than the line permits, and arrives another half later. It keeps requests
//! until they are served, so that a CANCEL in time saves a block.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::serve::{Torrent, block_at, message};

/// How much is read at a time, in bytes: requests only.
const READ: usize = 16 * 1024;
/// How long the line takes for what leaves it at a time. Less would be smoother and cost more.
const PORTION: Duration = Duration::from_millis(10);

/// What a line is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Bytes per second from the seeder.
    pub(super) rate: u64,
    pub(super) round_trip: Duration,
}

/// A message of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Request([u8; 12]),
    Cancel([u8; 12]),
}

/// What is on its way, each with the time at which it arrives.
#[derive(Debug, Default)]
struct UnderWay {
    asked: VecDeque<(Instant, Asked)>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    under_way: Mutex<UnderWay>,
    changed: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection whose handshake is done, until the other side is gone.
pub(super) fn serve(stream: &TcpStream, torrent: &Torrent, line: Line) -> Result<()> {
    let inbox = Arc::new(Inbox::default());
    let (reader, own) = (stream.try_clone()?, Arc::clone(&inbox));
    thread::spawn(move || {
        // Whoever goes away has enough.
        let _gone = listen(reader, &own, line.round_trip / 2);
        own.lock().closed = true;
        own.changed.notify_all();
    });
    Sender { stream, torrent, line, queue: VecDeque::new(), leaving: VecDeque::new() }.run(&inbox)
}

fn listen(mut stream: TcpStream, inbox: &Inbox, delay: Duration) -> Result<()> {
    let (mut input, mut portion) = (Vec::new(), vec![0; READ]);
    loop {
        let count = stream.read(&mut portion)?;
        anyhow::ensure!(count > 0, "gone");
        input.extend_from_slice(&portion[..count]);
        let arrives = Instant::now() + delay;
        let mut used = 0;
        while let Some(message) = message(&input[used..]) {
            used += message.len();
            let asked = match message {
                [_, _, _, _, 6, block @ ..] => block.try_into().ok().map(Asked::Request),
                [_, _, _, _, 8, block @ ..] => block.try_into().ok().map(Asked::Cancel),
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
    /// What has left, and when it arrives.
    leaving: VecDeque<(Instant, Vec<u8>)>,
}

impl Sender<'_> {
    fn run(mut self, inbox: &Inbox) -> Result<()> {
        let (mut block, mut sent) = (Vec::new(), 0);
        // When the line is free again.
        let mut free_at = Instant::now();
        loop {
            self.deliver()?;
            let now = Instant::now();
            let mut under_way = inbox.lock();
            if under_way.closed {
                return Ok(());
            }
            while under_way.asked.front().is_some_and(|(arrives, _)| *arrives <= now) {
                self.take(under_way.asked.pop_front().map(|(_, asked)| asked));
            }
            if sent == block.len() && !self.queue.is_empty() {
                drop(under_way);
                (block, sent) = (self.next_block()?, 0);
                free_at = free_at.max(now);
            } else if sent < block.len() && free_at <= now {
                drop(under_way);
                let portion = (PORTION.as_secs_f64() * self.line.rate as f64) as usize;
                let end = (sent + portion.max(1)).min(block.len());
                let time = Duration::from_secs_f64((end - sent) as f64 / self.line.rate as f64);
                free_at += time;
                let arrives = free_at + self.line.round_trip / 2;
                self.leaving.push_back((arrives, block[sent..end].to_vec()));
                sent = end;
            } else {
                let asked = under_way.asked.front().map(|(arrives, _)| *arrives);
                let leaving = self.leaving.front().map(|(arrives, _)| *arrives);
                let line = (sent < block.len()).then_some(free_at);
                match [asked, leaving, line].into_iter().flatten().min() {
                    Some(next) => {
                        let wait = next.saturating_duration_since(now);
                        drop(inbox.changed.wait_timeout(under_way, wait));
                    }
                    None => drop(inbox.changed.wait(under_way)),
                }
            }
        }
    }

    fn take(&mut self, asked: Option<Asked>) {
        match asked {
            Some(Asked::Request(block)) => self.queue.push_back(block),
            Some(Asked::Cancel(block)) => self.queue.retain(|other| *other != block),
            None => {}
        }
    }

    /// The message with the block that is served next; there must be a request.
    fn next_block(&mut self) -> Result<Vec<u8>> {
        let mut message = Vec::new();
        if let Some(request) = self.queue.pop_front() {
            block_at(self.torrent, &request, &mut message)?;
        }
        Ok(message)
    }

    /// Writes what has arrived at the other side.
    fn deliver(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut arrived = Vec::new();
        while self.leaving.front().is_some_and(|(arrives, _)| *arrives <= now) {
            arrived.extend(self.leaving.pop_front().map(|(_, bytes)| bytes).unwrap_or_default());
        }
        if !arrived.is_empty() {
            self.stream.write_all(&arrived)?;
        }
        Ok(())
    }
}

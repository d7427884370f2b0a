//! One connection of a hostile peer, on a socket that never blocks.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Asked, End, Hello, Hostile, Met, say};
use crate::peer::wire::{HANDSHAKE_LENGTH, PROTOCOL, invalid, numbers};

/// How much of a flood is made at a time, in bytes.
const PORTION: usize = 64 * 1024;
/// Of a flood, so many bytes will do to say that it was said.
const FLOOD: u64 = 1024 * 1024;
/// Of what is said slowly, so many.
const DRIPS: u64 = 20;
/// The longest message read, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Talk {
    script: Arc<Hostile>,
    stream: TcpStream,
    /// What came and is not a whole message yet.
    came: Vec<u8>,
    /// What is to be sent, of which `sent` bytes were.
    out: Vec<u8>,
    sent: usize,
    /// Whether the other side's handshake came.
    greeted: bool,
    unchoked: bool,
    answered: u64,
    /// All that was sent.
    total: u64,
    next_byte: Instant,
}

impl Talk {
    pub(super) fn new(script: Arc<Hostile>, stream: TcpStream, speaks_first: bool) -> Self {
        let mut talk = Self {
            script,
            stream,
            came: Vec::new(),
            out: Vec::new(),
            sent: 0,
            greeted: false,
            unchoked: false,
            answered: 0,
            total: 0,
            next_byte: Instant::now(),
        };
        match &talk.script.hello {
            Hello::Other(bytes) => talk.out.clone_from(bytes),
            _ if speaks_first => talk.greet(),
            _ => {}
        }
        talk
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether it would read.
    pub(super) fn listens(&self) -> bool {
        !(self.script.deaf && self.greeted)
    }

    /// Whether it has something to send now.
    pub(super) fn speaks(&self, now: Instant) -> bool {
        (self.sent < self.out.len() || self.floods()) && self.next_byte <= now
    }

    /// Reads what came, and answers.
    pub(super) fn read(&mut self, met: &mut Met) -> io::Result<()> {
        let mut buffer = [0; PORTION];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.came.extend_from_slice(&buffer[..length]),
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        if matches!(self.script.hello, Hello::Other(_)) {
            self.came.clear();
            return Ok(());
        }
        if !self.greeted && !self.take_handshake(met)? {
            return Ok(());
        }
        while self.listens()
            && let Some(message) = self.take_message()?
        {
            self.handle(message[0], &message[1..], met);
        }
        self.finish(met)
    }

    /// Sends what there is to send, or a part.
    pub(super) fn write(&mut self, now: Instant, met: &mut Met) -> io::Result<()> {
        if self.sent == self.out.len() && self.floods() {
            let times = PORTION.div_ceil(self.script.flood.len());
            (self.out, self.sent) = (self.script.flood.repeat(times), 0);
        }
        let pace = self.pace();
        let slow = pace > Duration::ZERO;
        let end = if slow { self.out.len().min(self.sent + 1) } else { self.out.len() };
        match self.stream.write(&self.out[self.sent..end]) {
            Ok(length) => self.sent += self.count(length, met),
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(error),
        }
        self.next_byte = now + pace;
        if self.sent == self.out.len() {
            (self.out, self.sent) = (Vec::new(), 0);
        }
        self.finish(met)
    }

    /// Notes whether all is said, and ends the connection if the script says so then.
    fn finish(&self, met: &mut Met) -> io::Result<()> {
        met.done |= self.is_done();
        if self.out.is_empty() { self.end_if_due() } else { Ok(()) }
    }

    fn count(&mut self, length: usize, met: &mut Met) -> usize {
        self.total += length as u64;
        met.sent += length as u64;
        length
    }

    /// How long to wait between two bytes.
    fn pace(&self) -> Duration {
        if self.answered > 0 { self.script.pace_of_answers } else { self.script.pace }
    }

    fn floods(&self) -> bool {
        let ready = self.script.when_unchoked.is_empty() || self.unchoked;
        self.greeted && ready && !self.script.flood.is_empty()
    }

    /// Whether what the script says was said.
    fn is_done(&self) -> bool {
        let script = &self.script;
        if script.pace > Duration::ZERO {
            return self.total >= DRIPS.min(script.greeting_length());
        }
        if script.pace_of_answers > Duration::ZERO {
            return self.answered > 0 && self.total >= DRIPS + script.greeting_length();
        }
        let opened = self.greeted || matches!(script.hello, Hello::Other(_));
        let unchoked = script.when_unchoked.is_empty() || self.unchoked;
        let answered = script.answer.is_none() || self.answered > 0;
        let flooded = script.flood.is_empty() || self.total >= FLOOD;
        let said = self.out.is_empty() || !script.flood.is_empty();
        opened && unchoked && answered && flooded && said
    }

    /// Ends the connection if the script says so.
    fn end_if_due(&self) -> io::Result<()> {
        let Some((answers, end)) = self.script.end else { return Ok(()) };
        if self.answered < answers || !self.greeted {
            return Ok(());
        }
        if end == End::Resets {
            rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        }
        Err(ErrorKind::ConnectionAborted.into())
    }

    fn greet(&mut self) {
        let script = &self.script;
        self.out.extend_from_slice(PROTOCOL);
        self.out.extend_from_slice(&script.reserved);
        self.out.extend_from_slice(script.info_hash.as_bytes());
        // Whoever speaks first has nothing to mirror.
        let theirs = self.came.get(48..HANDSHAKE_LENGTH);
        let theirs = theirs.filter(|_| script.hello == Hello::Mirrored);
        self.out.extend_from_slice(theirs.unwrap_or(script.peer_id.as_bytes()));
    }

    /// Takes the other side's handshake if it is complete, and says what is said first.
    fn take_handshake(&mut self, met: &mut Met) -> io::Result<bool> {
        if self.came.len() < HANDSHAKE_LENGTH {
            return Ok(false);
        }
        if !self.came.starts_with(PROTOCOL) {
            return Err(invalid("another protocol than BitTorrent".to_owned()));
        }
        // Whoever speaks first has greeted already.
        if self.total == 0 && self.out.is_empty() {
            self.greet();
        }
        self.came.drain(..HANDSHAKE_LENGTH);
        self.greeted = true;
        met.handshakes += 1;
        self.out.extend_from_slice(&self.script.opening);
        Ok(true)
    }

    /// The next message that is no keep-alive, if it is complete.
    fn take_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some((head, rest)) = self.came.split_first_chunk() else { return Ok(None) };
            let length = u32::from_be_bytes(*head) as usize;
            if length > MAX_MESSAGE {
                return Err(invalid(format!("a message of {length} bytes")));
            }
            let Some(message) = rest.get(..length) else { return Ok(None) };
            let message = message.to_vec();
            self.came.drain(..4 + length);
            if !message.is_empty() {
                return Ok(Some(message));
            }
        }
    }

    fn handle(&mut self, id: u8, payload: &[u8], met: &mut Met) {
        match id {
            say::INTERESTED if self.script.unchokes => {
                self.out.extend(say::message(say::UNCHOKE, &[]));
            }
            say::UNCHOKE => {
                met.unchokes += 1;
                if !std::mem::replace(&mut self.unchoked, true) {
                    self.out.extend_from_slice(&self.script.when_unchoked);
                }
            }
            say::REQUEST => {
                met.requests += 1;
                self.answer(payload);
            }
            _ => {}
        }
    }

    fn answer(&mut self, payload: &[u8]) {
        let (Some(answer), Some([index, offset, length])) = (self.script.answer, numbers(payload))
        else {
            return;
        };
        let begin = u64::from(index) * u64::from(self.script.geometry.piece_length());
        let begin = (begin + u64::from(offset)) as usize;
        let Some(bytes) = self.script.data.get(begin..begin + length as usize) else { return };
        let finished = self.script.end.is_some_and(|(answers, _)| self.answered >= answers);
        if !finished {
            self.out.extend(answer(&Asked { index, offset, bytes, number: self.answered }));
            self.answered += 1;
        }
    }
}

impl Hostile {
    /// How much it says whoever it talks to, in bytes.
    fn greeting_length(&self) -> u64 {
        match &self.hello {
            Hello::Other(bytes) => bytes.len() as u64,
            _ => (HANDSHAKE_LENGTH + self.opening.len()) as u64,
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

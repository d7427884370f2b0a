//! One connection of a hostile peer, on a nonblocking socket.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_types::InfoHashV1;

use super::{Asked, End, Hostile, Observed, Start};
use crate::peer::wire::{HANDSHAKE_LENGTH, PROTOCOL, invalid, numbers};
use crate::raw;

/// How many bytes are read at a time, and how many of a flood are queued at a time.
const CHUNK_LENGTH: usize = 64 * 1024;
/// After how many bytes a flood counts as sent.
const FLOOD_LENGTH: u64 = 1024 * 1024;
/// After how many bytes a slow message counts as sent.
const SLOW_LENGTH: u64 = 20;
/// The longest message that is read, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// The torrent that the peers of a crowd share.
#[derive(Debug)]
pub(super) struct Torrent {
    pub(super) info_hash: InfoHashV1,
    pub(super) piece_length: u32,
    pub(super) data: Arc<[u8]>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    script: Arc<Hostile>,
    torrent: Arc<Torrent>,
    stream: TcpStream,
    /// Received bytes of an incomplete message.
    received: Vec<u8>,
    /// Bytes to send.
    out: Vec<u8>,
    /// How many bytes of `out` were sent.
    sent: usize,
    /// Whether the other side's handshake came.
    has_handshake: bool,
    unchoked: bool,
    answered: u64,
    /// How many bytes were sent in total.
    total: u64,
    next_byte: Instant,
}

impl Connection {
    pub(super) fn new(
        script: Arc<Hostile>,
        torrent: Arc<Torrent>,
        stream: TcpStream,
        is_outgoing: bool,
    ) -> Self {
        let mut connection = Self {
            script,
            torrent,
            stream,
            received: Vec::new(),
            out: Vec::new(),
            sent: 0,
            has_handshake: false,
            unchoked: false,
            answered: 0,
            total: 0,
            next_byte: Instant::now(),
        };
        match &connection.script.start {
            Start::Other(bytes) => connection.out.clone_from(bytes),
            _ if is_outgoing => connection.send_handshake(),
            _ => {}
        }
        connection
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether it reads.
    pub(super) fn wants_to_read(&self) -> bool {
        !(self.script.stops_reading && self.has_handshake)
    }

    /// Whether it has something to send now.
    pub(super) fn wants_to_write(&self, now: Instant) -> bool {
        (self.sent < self.out.len() || self.floods()) && self.next_byte <= now
    }

    /// Reads and answers messages.
    pub(super) fn read(&mut self, observed: &mut Observed) -> io::Result<()> {
        let mut buffer = [0; CHUNK_LENGTH];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) if is_temporary(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        if matches!(self.script.start, Start::Other(_)) {
            self.received.clear();
            return Ok(());
        }
        if !self.has_handshake && !self.take_handshake(observed)? {
            return Ok(());
        }
        while self.wants_to_read()
            && let Some(message) = self.take_message()?
        {
            self.handle(message[0], &message[1..], observed);
        }
        self.finish(observed)
    }

    /// Sends queued bytes, as many as the socket takes.
    pub(super) fn write(&mut self, now: Instant, observed: &mut Observed) -> io::Result<()> {
        if self.sent == self.out.len() && self.floods() {
            let times = CHUNK_LENGTH.div_ceil(self.script.flood.len());
            (self.out, self.sent) = (self.script.flood.repeat(times), 0);
        }
        let pace = self.pace();
        let slow = pace > Duration::ZERO;
        let end = if slow { self.out.len().min(self.sent + 1) } else { self.out.len() };
        match self.stream.write(&self.out[self.sent..end]) {
            Ok(length) => self.sent += self.count(length, observed),
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        self.next_byte = now + pace;
        if self.sent == self.out.len() {
            (self.out, self.sent) = (Vec::new(), 0);
        }
        self.finish(observed)
    }

    /// Records whether the script was followed, and ends the connection if the script is over.
    fn finish(&self, observed: &mut Observed) -> io::Result<()> {
        observed.done |= self.is_done();
        if self.out.is_empty() { self.end_if_due() } else { Ok(()) }
    }

    fn count(&mut self, length: usize, observed: &mut Observed) -> usize {
        self.total += length as u64;
        observed.sent += length as u64;
        length
    }

    /// The pause between two bytes.
    fn pace(&self) -> Duration {
        if self.answered > 0 { self.script.pace_of_answers } else { self.script.pace }
    }

    fn floods(&self) -> bool {
        let ready = self.script.when_unchoked.is_empty() || self.unchoked;
        self.has_handshake && ready && !self.script.flood.is_empty()
    }

    /// Whether the script was followed; see [`Observed::done`].
    fn is_done(&self) -> bool {
        let script = &self.script;
        if script.pace > Duration::ZERO {
            return self.total >= SLOW_LENGTH.min(script.start_length());
        }
        if script.pace_of_answers > Duration::ZERO {
            return self.answered > 0 && self.total >= SLOW_LENGTH + script.start_length();
        }
        let opened = self.has_handshake || matches!(script.start, Start::Other(_));
        let unchoked = script.when_unchoked.is_empty() || self.unchoked;
        let answered = script.answer.is_none() || self.answered > 0;
        let flooded = script.flood.is_empty() || self.total >= FLOOD_LENGTH;
        let sent = self.out.is_empty() || !script.flood.is_empty();
        opened && unchoked && answered && flooded && sent
    }

    /// Ends the connection if the script is over.
    fn end_if_due(&self) -> io::Result<()> {
        let Some((answers, end)) = self.script.end else { return Ok(()) };
        if self.answered < answers || !self.has_handshake {
            return Ok(());
        }
        if end == End::Resets {
            rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
        }
        Err(ErrorKind::ConnectionAborted.into())
    }

    fn send_handshake(&mut self) {
        let script = &self.script;
        self.out.extend_from_slice(PROTOCOL);
        self.out.extend_from_slice(&script.reserved);
        let info_hash = script.info_hash.unwrap_or(self.torrent.info_hash);
        self.out.extend_from_slice(info_hash.as_bytes());
        // On an outgoing connection there is no id to mirror yet.
        let theirs = self.received.get(48..HANDSHAKE_LENGTH);
        let theirs = theirs.filter(|_| script.start == Start::Mirrored);
        self.out.extend_from_slice(theirs.unwrap_or(script.peer_id.as_bytes()));
    }

    /// Takes the other side's handshake if it is complete, and queues ours and the first bytes.
    fn take_handshake(&mut self, observed: &mut Observed) -> io::Result<bool> {
        if self.received.len() < HANDSHAKE_LENGTH {
            return Ok(false);
        }
        if !self.received.starts_with(PROTOCOL) {
            return Err(invalid("another protocol than BitTorrent".to_owned()));
        }
        // On an outgoing connection our handshake is sent already.
        if self.total == 0 && self.out.is_empty() {
            self.send_handshake();
        }
        self.received.drain(..HANDSHAKE_LENGTH);
        self.has_handshake = true;
        observed.handshakes += 1;
        self.out.extend_from_slice(&self.script.after_handshake);
        Ok(true)
    }

    /// Takes the next complete message, without keep-alives.
    fn take_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some((head, rest)) = self.received.split_first_chunk() else { return Ok(None) };
            let length = u32::from_be_bytes(*head) as usize;
            if length > MAX_MESSAGE {
                return Err(invalid(format!("a message of {length} bytes")));
            }
            let Some(message) = rest.get(..length) else { return Ok(None) };
            let message = message.to_vec();
            self.received.drain(..4 + length);
            if !message.is_empty() {
                return Ok(Some(message));
            }
        }
    }

    fn handle(&mut self, id: u8, payload: &[u8], observed: &mut Observed) {
        match id {
            raw::INTERESTED if self.script.unchokes => {
                self.out.extend(raw::message(raw::UNCHOKE, &[]));
            }
            raw::UNCHOKE => {
                observed.unchokes += 1;
                if !std::mem::replace(&mut self.unchoked, true) {
                    self.out.extend_from_slice(&self.script.when_unchoked);
                }
            }
            raw::REQUEST => {
                observed.requests += 1;
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
        let start = u64::from(index) * u64::from(self.torrent.piece_length);
        let start = (start + u64::from(offset)) as usize;
        let Some(bytes) = self.torrent.data.get(start..start + length as usize) else { return };
        let finished = self.script.end.is_some_and(|(answers, _)| self.answered >= answers);
        if !finished {
            self.out.extend(answer(&Asked { index, offset, bytes, number: self.answered }));
            self.answered += 1;
        }
    }
}

impl Hostile {
    /// The length of the handshake and the first bytes.
    fn start_length(&self) -> u64 {
        match &self.start {
            Start::Other(bytes) => bytes.len() as u64,
            _ => (HANDSHAKE_LENGTH + self.after_handshake.len()) as u64,
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

//! Sends messages from memory and payload from the page cache.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use piece_store::Extent;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::engine::Outgoing;

/// Pages that the pipe has room for: 256 KiB of payload in blocks of 16 KiB, each with a page for
/// its head, and half as much again for blocks that start within a page.
const PIPE_PAGES: usize = 128;
/// Payload shorter than that, in bytes, is copied. The head of a block takes a page of the system's
/// memory in the pipe, so a peer that requests single bytes would take many.
const MIN_SPLICED: u32 = 4096;
/// A splice that takes longer has read from the disk, not from the page cache.
const SLOW_SPLICE: Duration = Duration::from_millis(10);
/// For how long a file is not spliced after a slow splice.
const DISTRUST: Duration = Duration::from_secs(60);
/// The most files that are remembered for a slow splice.
const MAX_DISTRUSTED: usize = 64;

/// The result of an attempt to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// That many bytes went out.
    Bytes(usize),
    /// There was nothing to send.
    Nothing,
    /// The payload that comes next is not in memory: have it read again.
    NotResident,
}

/// Sends messages and payload, without waiting for the disk as far as the file system can tell.
#[derive(Default)]
pub(super) struct Sender {
    /// Empty between sends.
    pipe: Option<Pipe>,
    /// Open files whose splice was slow, and until when they are not spliced.
    distrusted: Vec<(Weak<File>, Duration)>,
}

impl Sender {
    /// Sends the first of `parts`. Fresh payload and the heads before it are gathered in a pipe, up
    /// to `limit` bytes or a little more, and go to the socket with one call; this payload is not
    /// copied. Other parts are sent one at a time, payload by way of `buffer`.
    pub(super) fn send<'a>(
        &mut self,
        now: Duration,
        stream: &TcpStream,
        parts: impl Iterator<Item = Outgoing<'a>>,
        limit: usize,
        buffer: &mut [u8],
    ) -> io::Result<Sent> {
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return Ok(Sent::Nothing);
        }
        let mut gathered = 0;
        while gathered < limit
            && let Some(part) = parts.next()
        {
            let payload =
                if let Outgoing::Bytes { .. } = part { parts.peek() } else { Some(&part) };
            if !payload.is_some_and(|payload| self.is_spliced(now, payload)) {
                if gathered == 0 {
                    return copy(stream, &part, buffer);
                }
                break;
            }
            let (put, all) = self.put(now, &part);
            gathered += put;
            if put < all {
                break;
            }
        }
        if gathered == 0 { Ok(Sent::NotResident) } else { self.pass_on(stream, gathered) }
    }

    /// Whether the part is payload that is spliced. If so, there is a pipe afterwards.
    fn is_spliced(&mut self, now: Duration, part: &Outgoing<'_>) -> bool {
        let Outgoing::Payload { extent, fresh: true } = part else { return false };
        if extent.length < MIN_SPLICED || self.is_distrusted(now, &extent.file) {
            return false;
        }
        self.pipe = self.pipe.take().or_else(Pipe::open);
        self.pipe.is_some()
    }

    /// Puts the part into the pipe. Returns how many of its bytes that were, and how many it has.
    /// None are put if the pipe is full or the file fails; the store reads it again and reports the
    /// error.
    fn put(&mut self, now: Duration, part: &Outgoing<'_>) -> (usize, usize) {
        let Some(pipe) = &self.pipe else { return (0, 0) };
        let (extent, began) = match part {
            Outgoing::Bytes { bytes, .. } => return (pipe.write(bytes).unwrap_or(0), bytes.len()),
            Outgoing::Payload { extent, .. } => (extent, Instant::now()),
        };
        let put = pipe.splice(extent);
        let took = began.elapsed();
        let failed = !matches!(put, Ok(_) | Err(Errno::AGAIN | Errno::INTR));
        // It may also have been slow because the processor was busy. Where the file system does not
        // tell what is in memory, there is no better way.
        if failed || (took > SLOW_SPLICE && tells_what_is_resident(extent)) {
            log::debug!("a splice from a file took {} ms: {put:?}", took.as_millis());
            self.distrust(now, &extent.file);
        }
        (put.unwrap_or(0), extent.length as usize)
    }

    /// Moves the bytes in the pipe to the socket. The rest is dropped with the pipe: when the
    /// socket has room again, the link may have something else to send.
    fn pass_on(&mut self, stream: &TcpStream, gathered: usize) -> io::Result<Sent> {
        let Some(pipe) = self.pipe.take() else { return Ok(Sent::Nothing) };
        let flags = SpliceFlags::NONBLOCK;
        let sent = rustix::pipe::splice(&pipe.out, None, stream.as_fd(), None, gathered, flags)?;
        if sent == gathered {
            self.pipe = Some(pipe);
        }
        Ok(Sent::Bytes(sent))
    }

    fn is_distrusted(&self, now: Duration, file: &Arc<File>) -> bool {
        self.distrusted.iter().any(|(known, until)| is_same(known, file) && now < *until)
    }

    fn distrust(&mut self, now: Duration, file: &Arc<File>) {
        self.distrusted.retain(|(known, until)| !is_same(known, file) && now < *until);
        if self.distrusted.len() == MAX_DISTRUSTED {
            self.distrusted.remove(0);
        }
        self.distrusted.push((Arc::downgrade(file), now + DISTRUST));
    }
}

/// Whether it is the same open file. Descriptors do not tell, since their numbers are used again.
fn is_same(known: &Weak<File>, file: &Arc<File>) -> bool {
    std::ptr::eq(known.as_ptr(), Arc::as_ptr(file))
}

/// Both ends of a pipe.
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// Returns `None` if the system has no more pipes; then everything is copied.
    fn open() -> Option<Self> {
        let (out, into) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Some users get a smaller one only, which gathers less.
        let _ = rustix::pipe::fcntl_setpipe_size(&into, PIPE_PAGES * rustix::param::page_size());
        Some(Self { out, into })
    }

    fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::write(&self.into, bytes)
    }

    /// Puts pages of a file into the pipe.
    fn splice(&self, extent: &Extent) -> rustix::io::Result<usize> {
        let (mut offset, length) = (extent.offset, extent.length as usize);
        let (file, flags) = (extent.file.as_fd(), SpliceFlags::NONBLOCK);
        rustix::pipe::splice(file, Some(&mut offset), &self.into, None, length, flags)
    }
}

/// Sends one part from memory.
fn copy(stream: &TcpStream, part: &Outgoing<'_>, buffer: &mut [u8]) -> io::Result<Sent> {
    let (bytes, more) = match part {
        Outgoing::Bytes { bytes, more } => (*bytes, *more),
        Outgoing::Payload { extent, fresh } => match read_resident(extent, *fresh, buffer) {
            // The store reads it again and reports the error, if there is one.
            Ok(0) | Err(_) => return Ok(Sent::NotResident),
            Ok(length) => (&buffer[..length], false),
        },
    };
    // `more` holds the bytes back until the payload that follows.
    let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
    Ok(Sent::Bytes(rustix::net::send(stream.as_fd(), bytes, flags)?))
}

/// Whether the file system tells what is in memory.
fn tells_what_is_resident(extent: &Extent) -> bool {
    let mut byte = [0];
    let mut slices = [io::IoSliceMut::new(&mut byte)];
    let (file, flags) = (extent.file.as_fd(), ReadWriteFlags::NOWAIT);
    !matches!(rustix::io::preadv2(file, &mut slices, extent.offset, flags), Err(Errno::OPNOTSUPP))
}

/// Reads payload without waiting for the disk. If the file system does not tell what is in memory,
/// payload that was read a moment ago (`fresh`) is taken to be there.
fn read_resident(extent: &Extent, fresh: bool, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let length = (extent.length as usize).min(buffer.len());
    let mut slices = [io::IoSliceMut::new(&mut buffer[..length])];
    let (file, flags) = (extent.file.as_fd(), ReadWriteFlags::NOWAIT);
    match rustix::io::preadv2(file, &mut slices, extent.offset, flags) {
        Err(Errno::OPNOTSUPP) if fresh => rustix::io::preadv(file, &mut slices, extent.offset),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const NOW: Duration = Duration::ZERO;
    const HEAD: &[u8] = b"thirteen byte";
    const BLOCK: usize = 16 * 1024;
    const LIMIT: usize = 256 * 1024;

    /// Returns a socket with its peer, and a file of that many blocks with its bytes.
    fn scene(blocks: usize) -> (TcpStream, std::net::TcpStream, Arc<File>, Vec<u8>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let stream = listener.accept().expect("it connects").0;
        stream.set_nonblocking(true).expect("a socket");
        let bytes: Vec<u8> = (0..blocks * BLOCK).map(|at| (at % 251) as u8).collect();
        let file = tempfile::tempfile().expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("room");
        (TcpStream::from_std(stream), peer.expect("it listens"), Arc::new(file), bytes)
    }

    fn payload(file: &Arc<File>, offset: usize, length: usize) -> Outgoing<'static> {
        let extent =
            Extent { file: Arc::clone(file), offset: offset as u64, length: length as u32 };
        Outgoing::Payload { extent, fresh: true }
    }

    /// Returns what is left of all blocks of the file, each with its head, after `sent` bytes.
    fn rest(file: &Arc<File>, blocks: usize, sent: usize) -> Vec<Outgoing<'static>> {
        let whole = HEAD.len() + BLOCK;
        let parts = (sent / whole..blocks).flat_map(|block| {
            let done = sent.saturating_sub(block * whole);
            let (head, body) = (done.min(HEAD.len()), done.saturating_sub(HEAD.len()));
            let head =
                (head < HEAD.len()).then_some(Outgoing::Bytes { bytes: &HEAD[head..], more: true });
            head.into_iter().chain([payload(file, block * BLOCK + body, BLOCK - body)])
        });
        parts.collect()
    }

    #[test]
    fn full_socket_gets_rest_later() {
        const BLOCKS: usize = 1024;
        let (stream, mut peer, file, bytes) = scene(BLOCKS);
        let (mut sender, mut buffer, mut sent, mut cut) = (Sender::default(), [0; 8192], 0, 0);
        let mut received = Vec::new();
        let all = BLOCKS * (HEAD.len() + BLOCK);
        while received.len() < all {
            let parts = rest(&file, BLOCKS, sent).into_iter();
            match sender.send(NOW, &stream, parts, LIMIT, &mut buffer) {
                Ok(Sent::Bytes(length)) => {
                    cut += usize::from(sender.pipe.is_none());
                    sent += length;
                    continue;
                }
                Ok(Sent::Nothing) => assert_eq!(sent, all),
                Ok(Sent::NotResident) => panic!("it is in memory"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            let mut part = vec![0; (sent - received.len()).min(100_000)];
            peer.read_exact(&mut part).expect("it was sent");
            received.extend(part);
        }
        assert!(cut > 0, "the socket took whatever there was");
        let expected: Vec<u8> =
            bytes.chunks(BLOCK).flat_map(|block| [HEAD, block].concat()).collect();
        assert!(received == expected);
    }

    #[test]
    fn only_large_blocks_are_gathered() {
        let (stream, _peer, file, _) = scene(2);
        let (mut sender, mut buffer) = (Sender::default(), [0; 8192]);
        let mut send = |parts: Vec<Outgoing<'_>>| {
            sender.send(NOW, &stream, parts.into_iter(), LIMIT, &mut buffer).expect("room")
        };
        assert_eq!(send(rest(&file, 2, 0)), Sent::Bytes(2 * (HEAD.len() + BLOCK)));
        let head = || Outgoing::Bytes { bytes: HEAD, more: true };
        assert_eq!(send(vec![head(), payload(&file, 0, 1), head()]), Sent::Bytes(HEAD.len()));
        assert_eq!(send(vec![payload(&file, 0, 1), head()]), Sent::Bytes(1));
        let mixed = vec![head(), payload(&file, 0, BLOCK), head(), payload(&file, 0, 1)];
        assert_eq!(send(mixed), Sent::Bytes(HEAD.len() + BLOCK));
        assert_eq!(send(Vec::new()), Sent::Nothing);
    }

    #[test]
    fn shortened_file_is_read_again() {
        let (stream, _peer, file, _) = scene(2);
        let (mut sender, mut buffer) = (Sender::default(), [0; 8192]);
        file.set_len(BLOCK as u64 + 5).expect("a file");
        let mut send = |parts: Vec<Outgoing<'_>>| {
            sender.send(NOW, &stream, parts.into_iter(), LIMIT, &mut buffer).expect("room")
        };
        let whole = HEAD.len() + BLOCK;
        assert_eq!(send(rest(&file, 2, 0)), Sent::Bytes(whole + HEAD.len() + 5));
        assert_eq!(send(rest(&file, 2, whole + HEAD.len() + 5)), Sent::NotResident);
    }

    #[test]
    fn reused_descriptor_is_trusted() {
        let (_, _, file, _) = scene(1);
        let mut sender = Sender::default();
        sender.distrust(NOW, &file);
        assert!(sender.is_distrusted(NOW, &file));
        let file = Arc::try_unwrap(file).expect("nobody else has it");
        let mut number = OwnedFd::from(file);
        rustix::io::dup2(tempfile::tempfile().expect("a file"), &mut number).expect("it is open");
        assert!(!sender.is_distrusted(NOW, &Arc::new(File::from(number))));
    }
}

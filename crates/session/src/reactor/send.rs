//! How bytes leave: messages from memory, payload from the page cache.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use piece_store::Extent;
use rustix::io::ReadWriteFlags;
use rustix::net::SendFlags;

/// A send from the page cache that takes longer was a read from the disk after all.
const SLOW_SEND: Duration = Duration::from_millis(10);
/// For how long a file is not trusted to be resident after a slow send.
const DISTRUST: Duration = Duration::from_secs(60);
/// Files that are not trusted, remembered at a time.
const MAX_DISTRUSTED: usize = 64;

/// Sends messages; `more` holds them back until the payload that follows.
pub(super) fn bytes(stream: &TcpStream, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
    Ok(rustix::net::send(stream.as_fd(), bytes, flags)?)
}

/// Sends payload, without waiting for the disk as far as that can be known.
#[derive(Default)]
pub(super) struct Sender {
    /// Files whose data turned out not to be in memory, and until when that counts.
    distrusted: Vec<(RawFd, Duration)>,
}

impl Sender {
    /// Sends a part of `extent` that is in memory: a `fresh` one without passing through ours, others
    /// by way of `buffer`. `None`: it is not in memory, have it read again.
    pub(super) fn payload(
        &mut self,
        now: Duration,
        stream: &TcpStream,
        extent: &Extent,
        fresh: bool,
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if fresh && !self.is_distrusted(now, &extent.file) {
            return self.send_file(now, stream, extent);
        }
        match read_resident(extent, buffer) {
            Ok(0) => Ok(None),
            Ok(length) => bytes(stream, &buffer[..length], false).map(Some),
            // Not every file system can be asked; then what was read a moment ago must do.
            Err(error) if fresh && error.kind() == io::ErrorKind::Unsupported => {
                self.send_file(now, stream, extent)
            }
            Err(_) => Ok(None),
        }
    }

    fn send_file(
        &mut self,
        now: Duration,
        stream: &TcpStream,
        extent: &Extent,
    ) -> io::Result<Option<usize>> {
        let began = Instant::now();
        let (mut offset, length) = (extent.offset, extent.length as usize);
        let sent =
            rustix::fs::sendfile(stream.as_fd(), extent.file.as_fd(), Some(&mut offset), length);
        let took = began.elapsed();
        if took > SLOW_SEND {
            log::debug!("a send took {} ms", took.as_millis());
            self.distrust(now, &extent.file);
        }
        match sent.map_err(io::Error::from) {
            // The file has become shorter.
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(length)),
            Err(error) if is_of_socket(&error) => Err(error),
            Err(error) => {
                // Reading it again tells what is wrong with the file.
                log::debug!("can't send from a file: {error}");
                self.distrust(now, &extent.file);
                Ok(None)
            }
        }
    }

    fn is_distrusted(&self, now: Duration, file: &File) -> bool {
        let number = file.as_raw_fd();
        self.distrusted.iter().any(|(known, until)| *known == number && now < *until)
    }

    fn distrust(&mut self, now: Duration, file: &File) {
        let number = file.as_raw_fd();
        self.distrusted.retain(|(known, until)| *known != number && now < *until);
        if self.distrusted.len() == MAX_DISTRUSTED {
            self.distrusted.remove(0);
        }
        self.distrusted.push((number, now + DISTRUST));
    }
}

/// Whether a failed `sendfile` is to be laid to the socket, not the file.
fn is_of_socket(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::WouldBlock
            | Kind::Interrupted
            | Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}

/// Reads payload without waiting for the disk.
fn read_resident(extent: &Extent, buffer: &mut [u8]) -> io::Result<usize> {
    let length = (extent.length as usize).min(buffer.len());
    let mut slices = [io::IoSliceMut::new(&mut buffer[..length])];
    let flags = ReadWriteFlags::NOWAIT;
    Ok(rustix::io::preadv2(extent.file.as_fd(), &mut slices, extent.offset, flags)?)
}

//! Handshakes and messages of the peer protocol on a blocking socket (BEP 3, 6, 10). They are decoded
//! here, so that tests check the workspace's own codec independently.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use bt_types::{InfoHashV1, PeerId};

/// The first bytes of every handshake.
pub(crate) const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// The length of a handshake, in bytes.
pub(crate) const HANDSHAKE_LENGTH: usize = 68;
/// The reserved byte and bit of the fast extension (BEP 6).
const FAST: (usize, u8) = (7, 0x04);
/// The reserved byte and bit of the extension protocol (BEP 10).
const EXTENSIONS: (usize, u8) = (5, 0x10);
/// The longest message that is read, in bytes. A block of 128 KiB fits.
const MAX_MESSAGE: u32 = 256 * 1024;

/// One side's handshake.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handshake {
    pub(super) info_hash: InfoHashV1,
    pub(super) peer_id: PeerId,
    pub(super) fast: bool,
    pub(super) extensions: bool,
}

/// A connection that sends and receives whole messages.
pub(super) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Another peer waits for our small messages.
        let _ignored = stream.set_nodelay(true);
        Self { stream }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the next message, without keep-alives.
    pub(super) fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes(head);
            if length > MAX_MESSAGE {
                return Err(invalid(format!("a message of {length} bytes")));
            }
            if length > 0 {
                let mut id = [0];
                self.stream.read_exact(&mut id)?;
                let mut payload = vec![0; length as usize - 1];
                self.stream.read_exact(&mut payload)?;
                return Ok((id[0], payload));
            }
        }
    }

    pub(super) fn write_handshake(&mut self, ours: &Handshake) -> io::Result<()> {
        let mut reserved = [0; 8];
        for ((byte, bit), wanted) in [(FAST, ours.fast), (EXTENSIONS, ours.extensions)] {
            reserved[byte] |= if wanted { bit } else { 0 };
        }
        let parts: [&[u8]; 4] =
            [PROTOCOL, &reserved, ours.info_hash.as_bytes(), ours.peer_id.as_bytes()];
        self.stream.write_all(&parts.concat())
    }

    pub(super) fn read_handshake(&mut self) -> io::Result<Handshake> {
        let mut bytes = [0; HANDSHAKE_LENGTH];
        self.stream.read_exact(&mut bytes)?;
        let (protocol, rest) = bytes.split_at(20);
        let (reserved, rest) = rest.split_at(8);
        let (info_hash, peer_id) = rest.split_at(20);
        if protocol != PROTOCOL {
            return Err(invalid("another protocol than BitTorrent".to_owned()));
        }
        let missing = || invalid("a short handshake".to_owned());
        Ok(Handshake {
            info_hash: InfoHashV1::from_slice(info_hash).ok_or_else(missing)?,
            peer_id: PeerId::from_slice(peer_id).ok_or_else(missing)?,
            fast: reserved[FAST.0] & FAST.1 != 0,
            extensions: reserved[EXTENSIONS.0] & EXTENSIONS.1 != 0,
        })
    }

    /// Reads and ignores bytes until the other side closes the connection.
    pub(super) fn hold(&mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }
}

/// Decodes the numbers at the start of a payload. Returns `None` if it is too short.
pub(crate) fn numbers<const N: usize>(payload: &[u8]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = u32::from_be_bytes(payload.get(index * 4..index * 4 + 4)?.try_into().ok()?);
    }
    Some(numbers)
}

pub(crate) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

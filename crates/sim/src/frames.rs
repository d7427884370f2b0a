//! A codec of the peer protocol (BEP 3, 6), independent of the one under test.

use std::fmt;

pub(crate) const CHOKE: u8 = 0;
pub(crate) const UNCHOKE: u8 = 1;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const HAVE: u8 = 4;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;
pub(crate) const CANCEL: u8 = 8;
pub(crate) const HAVE_ALL: u8 = 14;
pub(crate) const HAVE_NONE: u8 = 15;
pub(crate) const REJECT: u8 = 16;
pub(crate) const ALLOWED_FAST: u8 = 17;

const HANDSHAKE_LENGTH: usize = 68;
/// Reserved bit of the Fast extension: byte 7, value 4.
const FAST: (usize, u8) = (27, 4);
/// The longest frame. Bytes after a longer one are not decoded.
const MAX_FRAME: usize = 1 << 20;

/// A block: piece, offset, length.
pub(crate) type Block = (u32, u32, u32);

/// A message of one side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Handshake {
        fast: bool,
    },
    KeepAlive,
    /// The kind of a message and its body.
    Message(u8, Vec<u8>),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake { fast } => write!(f, "handshake, fast {fast}"),
            Self::KeepAlive => f.write_str("keep-alive"),
            Self::Message(id, body) => {
                const NAMES: [&str; 10] = [
                    "choke",
                    "unchoke",
                    "interested",
                    "not interested",
                    "have",
                    "bitfield",
                    "request",
                    "piece",
                    "cancel",
                    "port",
                ];
                match NAMES.get(*id as usize) {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "message {id}")?,
                }
                match numbers::<2>(body) {
                    Some([piece, offset]) => write!(f, " {piece} {offset}, {} bytes", body.len()),
                    None => write!(f, " {body:?}"),
                }
            }
        }
    }
}

/// Decodes one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    shaken: bool,
    broken: bool,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete message.
    pub(crate) fn next(&mut self) -> Option<Said> {
        if !self.shaken {
            let fast = self.buffer.get(..HANDSHAKE_LENGTH)?[FAST.0] & FAST.1 != 0;
            self.buffer.drain(..HANDSHAKE_LENGTH);
            self.shaken = true;
            return Some(Said::Handshake { fast });
        }
        let length = u32::from_be_bytes(self.buffer.get(..4)?.try_into().ok()?) as usize;
        if length > MAX_FRAME {
            self.broken = true;
            self.buffer.clear();
            return None;
        }
        let frame = self.buffer.get(4..4 + length)?;
        let said = match frame.split_first() {
            None => Said::KeepAlive,
            Some((id, body)) => Said::Message(*id, body.to_vec()),
        };
        self.buffer.drain(..4 + length);
        Some(said)
    }

    /// Whether a message has started and is not complete.
    pub(crate) fn is_amid(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The piece and offset of the block that is arriving.
    pub(crate) fn block_under_way(&self) -> Option<(u32, u32)> {
        let head = self.buffer.get(..13).filter(|head| self.shaken && head[4] == PIECE)?;
        let [piece, offset] = numbers(&head[5..])?;
        Some((piece, offset))
    }
}

/// The numbers at the front of a body.
pub(crate) fn numbers<const N: usize>(body: &[u8]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = u32::from_be_bytes(body.get(index * 4..index * 4 + 4)?.try_into().ok()?);
    }
    Some(numbers)
}

/// The block that a request, cancel or reject names.
pub(crate) fn block(body: &[u8]) -> Option<Block> {
    numbers::<3>(body).map(|[piece, offset, length]| (piece, offset, length))
}

/// The bytes of a message.
pub(crate) fn message(id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = (length as u32).to_be_bytes().to_vec();
    frame.push(id);
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// The bytes of a message that has only numbers.
pub(crate) fn message_of(id: u8, numbers: &[u32]) -> Vec<u8> {
    let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    message(id, &[&body])
}

/// The bytes of a handshake.
pub(crate) fn handshake(info_hash: &[u8], peer_id: &[u8], fast: bool) -> Vec<u8> {
    let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    bytes[FAST.0] |= if fast { FAST.1 } else { 0 };
    bytes.extend_from_slice(info_hash);
    bytes.extend_from_slice(peer_id);
    bytes
}

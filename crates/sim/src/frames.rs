//! Our own encoder and decoder of the peer protocol (BEP 3, 6), so that the simulator can send bad
//! messages and checks ours independently of `peer-wire`.

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
pub(crate) const EXTENDED: u8 = 20;

const HANDSHAKE_LENGTH: usize = 68;
/// Reserved bit of the Fast extension: byte 7, value 4.
const FAST: (usize, u8) = (27, 4);
/// Reserved bit of the extension protocol: byte 5, value 16.
const EXTENSIONS: (usize, u8) = (25, 16);
/// A longer frame is invalid, and nothing after it is decoded.
const MAX_FRAME: usize = 1 << 20;

/// A block: piece, offset, length.
pub(crate) type Block = (u32, u32, u32);

/// What one side of a connection sends as a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Handshake {
        fast: bool,
    },
    KeepAlive,
    /// The kind of a message and its body.
    Message(u8, Vec<u8>),
}

impl fmt::Display for Frame {
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

/// Cuts one direction of a connection into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    buffer: Vec<u8>,
    has_handshake: bool,
    broken: bool,
}

impl FrameBuffer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Returns the next complete frame.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        if !self.has_handshake {
            let fast = self.buffer.get(..HANDSHAKE_LENGTH)?[FAST.0] & FAST.1 != 0;
            self.buffer.drain(..HANDSHAKE_LENGTH);
            self.has_handshake = true;
            return Some(Frame::Handshake { fast });
        }
        let length = u32::from_be_bytes(self.buffer.get(..4)?.try_into().ok()?) as usize;
        if length > MAX_FRAME {
            self.broken = true;
            self.buffer.clear();
            return None;
        }
        let frame = self.buffer.get(4..4 + length)?;
        let said = match frame.split_first() {
            None => Frame::KeepAlive,
            Some((id, body)) => Frame::Message(*id, body.to_vec()),
        };
        self.buffer.drain(..4 + length);
        Some(said)
    }

    /// Whether the buffer has the start of an incomplete frame.
    pub(crate) fn has_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns piece and offset of the block that is arriving.
    pub(crate) fn arriving_block(&self) -> Option<(u32, u32)> {
        let head = self.buffer.get(..13).filter(|head| self.has_handshake && head[4] == PIECE)?;
        let [piece, offset] = numbers(&head[5..])?;
        Some((piece, offset))
    }
}

/// Decodes the numbers at the front of a body.
pub(crate) fn numbers<const N: usize>(body: &[u8]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = u32::from_be_bytes(body.get(index * 4..index * 4 + 4)?.try_into().ok()?);
    }
    Some(numbers)
}

/// Decodes the block of a request, cancel or reject.
pub(crate) fn block(body: &[u8]) -> Option<Block> {
    numbers::<3>(body).map(|[piece, offset, length]| (piece, offset, length))
}

/// Encodes a message.
pub(crate) fn message(id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = (length as u32).to_be_bytes().to_vec();
    frame.push(id);
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// Encodes a message whose body consists of numbers.
pub(crate) fn message_of(id: u8, numbers: &[u32]) -> Vec<u8> {
    let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    message(id, &[&body])
}

/// Sets the bit of the extension protocol in a handshake (BEP 10).
pub(crate) fn set_extended(handshake: &mut [u8]) {
    handshake[EXTENSIONS.0] |= EXTENSIONS.1;
}

/// Encodes a handshake.
pub(crate) fn handshake(info_hash: &[u8], peer_id: &[u8], fast: bool) -> Vec<u8> {
    let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    bytes[FAST.0] |= if fast { FAST.1 } else { 0 };
    bytes.extend_from_slice(info_hash);
    bytes.extend_from_slice(peer_id);
    bytes
}

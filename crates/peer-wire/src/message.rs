//! The codec of messages, without any state.
//!
//! [`crate::Connection`] is the way to communicate with a peer. A capture tool, for example, needs
//! only this codec. Piece indices and ranges are not checked, because the codec knows no torrent.

use bt_types::BlockRequest;

use crate::frame::{self, FrameError, Head};

/// The ids of messages (BEP 3, 5, 6, 10).
pub(crate) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const BLOCK: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
}

/// The unchecked range in a request, cancel, reject or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WireRequest {
    /// The piece.
    pub index: u32,
    /// The offset of the range in the piece, in bytes (BEP 3, "begin").
    pub offset: u32,
    /// The length of the range, in bytes.
    pub length: u32,
}

impl From<BlockRequest> for WireRequest {
    fn from(request: BlockRequest) -> Self {
        Self { index: request.piece().get(), offset: request.offset(), length: request.length() }
    }
}

/// A message of the peer protocol, with borrowed payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A keep-alive, which has no id (BEP 3).
    KeepAlive,
    /// The sender chokes the receiver: it will not answer requests (BEP 3).
    Choke,
    /// The sender unchokes the receiver: it will answer requests (BEP 3).
    Unchoke,
    /// The sender would send requests if it were unchoked (BEP 3).
    Interested,
    /// The sender would send no requests (BEP 3).
    NotInterested,
    /// The sender has this piece (BEP 3).
    Have(u32),
    /// The sender has the pieces whose bits are set (BEP 3).
    Bitfield(&'a [u8]),
    /// The sender requests this range (BEP 3).
    Request(WireRequest),
    /// A block of data (BEP 3, "piece").
    Block {
        /// The piece.
        index: u32,
        /// The offset of the data in the piece, in bytes.
        offset: u32,
        /// The data.
        bytes: &'a [u8],
    },
    /// The sender cancels its request for this range (BEP 3).
    Cancel(WireRequest),
    /// The sender's DHT node listens on this UDP port (BEP 5).
    Port(u16),
    /// The sender suggests that the receiver request this piece (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// The sender will not answer this request (BEP 6).
    Reject(WireRequest),
    /// The sender serves this piece even while the receiver is choked (BEP 6).
    AllowedFast(u32),
    /// A message of the extension protocol (BEP 10).
    Extended {
        /// The extension id; 0 is the extension handshake.
        id: u8,
        /// Its content.
        payload: &'a [u8],
    },
    /// A message with another id.
    Unknown {
        /// Its id.
        id: u8,
        /// Its content.
        payload: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Takes the message at the front of `input`. Returns `None` and takes nothing if it is
    /// incomplete.
    ///
    /// # Errors
    /// The message has a length that its id does not allow.
    pub fn decode(input: &mut &'a [u8]) -> Result<Option<Self>, FrameError> {
        let mut length = 0;
        loop {
            let needed = frame::head_length(input.get(..length).unwrap_or_default())?;
            if needed == length {
                break;
            }
            if input.len() < needed {
                return Ok(None);
            }
            length = needed;
        }
        let (head, rest) = input.split_at(length);
        let Some((message, used)) = with_payload(frame::decode_head(head), rest) else {
            return Ok(None);
        };
        *input = rest.get(used..).unwrap_or_default();
        Ok(Some(message))
    }

    /// Appends the encoded message to `out`. The length of a payload over 4 GiB is truncated to 32
    /// bits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend([0; 4]),
            Self::Choke => put(out, id::CHOKE, &[], &[]),
            Self::Unchoke => put(out, id::UNCHOKE, &[], &[]),
            Self::Interested => put(out, id::INTERESTED, &[], &[]),
            Self::NotInterested => put(out, id::NOT_INTERESTED, &[], &[]),
            Self::Have(index) => put(out, id::HAVE, &index.to_be_bytes(), &[]),
            Self::Bitfield(bytes) => put(out, id::BITFIELD, &[], bytes),
            Self::Request(request) => put(out, id::REQUEST, &request.to_bytes(), &[]),
            Self::Block { index, offset, bytes } => {
                put_block_head(out, index, offset, bytes.len() as u32);
                out.extend_from_slice(bytes);
            }
            Self::Cancel(request) => put(out, id::CANCEL, &request.to_bytes(), &[]),
            Self::Port(port) => put(out, id::PORT, &port.to_be_bytes(), &[]),
            Self::Suggest(index) => put(out, id::SUGGEST, &index.to_be_bytes(), &[]),
            Self::HaveAll => put(out, id::HAVE_ALL, &[], &[]),
            Self::HaveNone => put(out, id::HAVE_NONE, &[], &[]),
            Self::Reject(request) => put(out, id::REJECT, &request.to_bytes(), &[]),
            Self::AllowedFast(index) => put(out, id::ALLOWED_FAST, &index.to_be_bytes(), &[]),
            Self::Extended { id, payload } => put(out, id::EXTENDED, &[id], payload),
            Self::Unknown { id, payload } => put(out, id, &[], payload),
        }
    }
}

impl WireRequest {
    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.index.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.offset.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// Appends the head of a block message with `length` bytes of data.
pub(crate) fn put_block_head(out: &mut Vec<u8>, index: u32, offset: u32, length: u32) {
    let mut head = [0; 13];
    head[..4].copy_from_slice(&length.wrapping_add(9).to_be_bytes());
    head[4] = id::BLOCK;
    head[5..9].copy_from_slice(&index.to_be_bytes());
    head[9..].copy_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&head);
}

/// Appends an extension message with the content `start` and `rest`.
pub(crate) fn put_extended(out: &mut Vec<u8>, id: u8, start: &[u8], rest: &[u8]) {
    put(out, id::EXTENDED, &[&[id], start].concat(), rest);
}

fn put(out: &mut Vec<u8>, id: u8, fields: &[u8], payload: &[u8]) {
    let length = (1 + fields.len() + payload.len()) as u32;
    out.reserve(5 + fields.len() + payload.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.push(id);
    out.extend_from_slice(fields);
    out.extend_from_slice(payload);
}

/// Returns the message with this head and the length of its payload, or `None` if `rest` does not
/// hold the whole payload.
fn with_payload(head: Head, rest: &[u8]) -> Option<(Message<'_>, usize)> {
    let payload = |length: u32| rest.get(..length as usize);
    let (message, length) = match head {
        Head::Whole(message) => (message, 0),
        Head::Block(WireRequest { index, offset, length }) => {
            (Message::Block { index, offset, bytes: payload(length)? }, length)
        }
        Head::Bitfield { length } => (Message::Bitfield(payload(length)?), length),
        Head::Extended { id, length } => {
            (Message::Extended { id, payload: payload(length)? }, length)
        }
        Head::Unknown { id, length } => {
            (Message::Unknown { id, payload: payload(length)? }, length)
        }
    };
    Some((message, length as usize))
}

#[cfg(test)]
mod tests;

//! Framing: message heads, and the lengths that each kind of message may have (BEP 3, "peer
//! messages").
//!
//! ```text
//! | length: u32 | id: u8 | fields          | payload                              |
//! |<------------------ head -------------->|<-- block, bitfield, extension or --->|
//!                                              unknown message; other ids have none
//! ```
//!
//! `length` counts the bytes after itself. The head has at most [`MAX_HEAD`] bytes; the first five
//! determine its length. A length that the id does not allow is refused before any payload is read.

use bt_types::{MAX_PIECE_COUNT, MAX_REQUEST_LENGTH};

use crate::message::{Message, WireRequest, id};

/// The longest payload of an extension message, in bytes.
pub const MAX_EXTENDED_LENGTH: u32 = 128 * 1024;
/// The longest message with an unknown id that is skipped, in bytes.
pub const MAX_UNKNOWN_LENGTH: u32 = 1024 * 1024;
/// The longest bitfield, in bytes: that of a torrent with [`MAX_PIECE_COUNT`] pieces.
pub const MAX_BITFIELD_LENGTH: u32 = MAX_PIECE_COUNT / 8;

/// The longest head, in bytes: that of a request.
pub(crate) const MAX_HEAD: usize = 17;

/// Why the length of a message is invalid. Lengths are in bytes and count the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Occurs when a message of fixed length has another length.
    #[error("expected {expected} bytes in message {id}, got {got}")]
    Length {
        /// The id of the message.
        id: u8,
        /// The fixed length.
        expected: u32,
        /// The length in the head.
        got: u32,
    },
    /// Occurs when a message is shorter than its fixed fields.
    #[error("expected at least {least} bytes in message {id}, got {got}")]
    TooShort {
        /// The id of the message.
        id: u8,
        /// The length of the id and the fixed fields.
        least: u32,
        /// The length in the head.
        got: u32,
    },
    /// Occurs when a message is longer than the limit for its id.
    #[error("expected at most {limit} bytes in message {id}, got {got}")]
    TooLong {
        /// The id of the message.
        id: u8,
        /// The limit.
        limit: u32,
        /// The length in the head.
        got: u32,
    },
}

/// A decoded head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// A complete message, which has no payload.
    Whole(Message<'static>),
    /// `request.length` bytes of a block follow.
    Block(WireRequest),
    /// `length` bytes of a bitfield follow.
    Bitfield { length: u32 },
    /// `length` bytes of the extension message `id` follow.
    Extended { id: u8, length: u32 },
    /// `length` bytes of a message with an unknown id follow.
    Unknown { id: u8, length: u32 },
}

/// Returns the length of the head that begins with `known`, or of the next part of it that `known`
/// determines. The head is complete when `known` has that length.
pub(crate) fn head_length(known: &[u8]) -> Result<usize, FrameError> {
    let Some((length, rest)) = known.split_first_chunk() else { return Ok(4) };
    let length = u32::from_be_bytes(*length);
    match rest.first() {
        Some(id) => Ok(4 + Layout::of(*id, length).check(*id, length)? as usize),
        None if length == 0 => Ok(4),
        None => Ok(5),
    }
}

/// Decodes a head of the length that [`head_length`] returns.
pub(crate) fn decode_head(head: &[u8]) -> Head {
    let mut fields = Fields(head);
    let length = fields.u32();
    if length == 0 {
        return Head::Whole(Message::KeepAlive);
    }
    let whole = match fields.u8() {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(fields.u32()),
        id::BITFIELD => return Head::Bitfield { length: length.saturating_sub(1) },
        id::REQUEST => Message::Request(fields.request()),
        id::BLOCK => return Head::Block(fields.block(length)),
        id::CANCEL => Message::Cancel(fields.request()),
        id::PORT => Message::Port(fields.u16()),
        id::SUGGEST => Message::Suggest(fields.u32()),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(fields.request()),
        id::ALLOWED_FAST => Message::AllowedFast(fields.u32()),
        id::EXTENDED if length > 1 => {
            return Head::Extended { id: fields.u8(), length: length.saturating_sub(2) };
        }
        id => return Head::Unknown { id, length: length.saturating_sub(1) },
    };
    Head::Whole(whole)
}

/// The lengths that a kind of message may have. They count the id.
enum Layout {
    Fixed(u32),
    Open { fields: u32, limit: u32 },
}

impl Layout {
    /// Returns the layout of message `id`. An extension message without an extension id counts as
    /// unknown.
    fn of(id: u8, length: u32) -> Self {
        match id {
            id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED => Self::Fixed(1),
            id::HAVE_ALL | id::HAVE_NONE => Self::Fixed(1),
            id::PORT => Self::Fixed(3),
            id::HAVE | id::SUGGEST | id::ALLOWED_FAST => Self::Fixed(5),
            id::REQUEST | id::CANCEL | id::REJECT => Self::Fixed(13),
            id::BITFIELD => Self::Open { fields: 1, limit: 1 + MAX_BITFIELD_LENGTH },
            id::BLOCK => Self::Open { fields: 9, limit: 9 + MAX_REQUEST_LENGTH },
            id::EXTENDED if length > 1 => Self::Open { fields: 2, limit: 2 + MAX_EXTENDED_LENGTH },
            _ => Self::Open { fields: 1, limit: MAX_UNKNOWN_LENGTH },
        }
    }

    /// Returns the length of the id and the fixed fields if a message may be `got` bytes long.
    fn check(&self, id: u8, got: u32) -> Result<u32, FrameError> {
        match *self {
            Self::Fixed(expected) if got != expected => {
                Err(FrameError::Length { id, expected, got })
            }
            Self::Fixed(expected) => Ok(expected),
            Self::Open { fields: least, .. } if got < least => {
                Err(FrameError::TooShort { id, least, got })
            }
            Self::Open { limit, .. } if got > limit => Err(FrameError::TooLong { id, limit, got }),
            Self::Open { fields, .. } => Ok(fields),
        }
    }
}

/// The fields of a head that are not decoded yet. Missing bytes read as zero; a complete head has
/// none.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn request(&mut self) -> WireRequest {
        WireRequest { index: self.u32(), offset: self.u32(), length: self.u32() }
    }

    /// Decodes the range of a block, whose length follows from that of the frame.
    fn block(&mut self, frame_length: u32) -> WireRequest {
        WireRequest {
            index: self.u32(),
            offset: self.u32(),
            length: frame_length.saturating_sub(9),
        }
    }
}

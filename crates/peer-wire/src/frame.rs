//! How a stream is cut into messages, and how long each may be (BEP 3, "peer messages").
//!
//! ```text
//! | length: u32 | id: u8 | fields          | payload                              |
//! |<------------------ head -------------->|<-- block, bitfield, extension or --->|
//!                                              unknown message; other ids have none
//! ```
//!
//! `length` counts what follows it. The head is at most [`MAX_HEAD`] bytes long, and its own length
//! is known after five of them. A length that the id does not allow is refused there and then,
//! before anything of the payload is read.

use bt_types::{MAX_PIECE_COUNT, MAX_REQUEST_LENGTH};

use crate::message::{Message, WireRequest, id};

/// The longest payload of an extension message, in bytes.
pub const MAX_EXTENDED_LENGTH: u32 = 128 * 1024;
/// The longest message of an unknown kind that is skipped, in bytes.
pub const MAX_UNKNOWN_LENGTH: u32 = 1024 * 1024;
/// The longest bitfield, in bytes: that of a torrent with as many pieces as there may be.
pub const MAX_BITFIELD_LENGTH: u32 = MAX_PIECE_COUNT / 8;

/// The longest head: that of a request.
pub(crate) const MAX_HEAD: usize = 17;

/// A message's length is one that its kind cannot have. Lengths are in bytes and count the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Occurs when a message of fixed length has another.
    #[error("expected {expected} bytes in message {id}, got {got}")]
    Length {
        /// The kind of the message.
        id: u8,
        /// The length that the kind has.
        expected: u32,
        /// The length that was given.
        got: u32,
    },
    /// Occurs when a message is shorter than its fixed fields.
    #[error("expected at least {least} bytes in message {id}, got {got}")]
    TooShort {
        /// The kind of the message.
        id: u8,
        /// The length of id and fields.
        least: u32,
        /// The length that was given.
        got: u32,
    },
    /// Occurs when a message is longer than the limit for its kind.
    #[error("expected at most {limit} bytes in message {id}, got {got}")]
    TooLong {
        /// The kind of the message.
        id: u8,
        /// The limit.
        limit: u32,
        /// The length that was given.
        got: u32,
    },
}

/// What a complete head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// A message without payload: it is complete.
    Whole(Message<'static>),
    /// `request.length` bytes of a block follow.
    Block(WireRequest),
    /// `length` bytes of a bitfield follow.
    Bitfield { length: u32 },
    /// `length` bytes of the extension message `id` follow.
    Extended { id: u8, length: u32 },
    /// `length` bytes that nobody knows follow.
    Unknown { id: u8, length: u32 },
}

/// How many bytes the head has that begins with `known`, as far as `known` tells. It is complete
/// when it has that many.
pub(crate) fn head_length(known: &[u8]) -> Result<usize, FrameError> {
    let Some((length, rest)) = known.split_first_chunk() else { return Ok(4) };
    let length = u32::from_be_bytes(*length);
    match rest.first() {
        Some(id) => Ok(4 + Layout::of(*id, length).check(*id, length)? as usize),
        None if length == 0 => Ok(4),
        None => Ok(5),
    }
}

/// What `head` says, which is as long as [`head_length`] told.
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

/// Which lengths a kind of message can have. All count the id.
enum Layout {
    Fixed(u32),
    Open { fields: u32, limit: u32 },
}

impl Layout {
    /// An extension message that does not say which one it is counts as unknown.
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

    /// The length of id and fields, if a message may be `got` bytes long.
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

/// Reads the numbers of a head. What is missing reads as zero; a complete head misses nothing.
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

    /// The range of a block, whose length only the frame tells.
    fn block(&mut self, frame_length: u32) -> WireRequest {
        WireRequest {
            index: self.u32(),
            offset: self.u32(),
            length: frame_length.saturating_sub(9),
        }
    }
}

//! The messages of the metadata extension, `ut_metadata` (BEP 9).
//!
//! ```text
//! | d8:msg_typei1e5:piecei0e10:total_sizei34256ee | the piece, at most 16 KiB   |
//! |<---- dictionary, in each kind of message ---->|<- only in a data message -->|
//! ```
//!
//! Nothing says where the dictionary ends but the dictionary itself.

use std::borrow::Cow;

use bencode::{DecodeError, Options, Owned, Value};

/// The length of a metadata piece, in bytes. The last one may be shorter (BEP 9, "metadata").
pub const METADATA_PIECE_LENGTH: u32 = 16 * 1024;

const REQUEST: u64 = 0;
const DATA: u64 = 1;
const REJECT: u64 = 2;

/// The dictionary has three keys. The rest is room for future extensions.
const OPTIONS: Options =
    Options { allow_trailing: true, max_depth: 4, max_tokens: 64, ..Options::new() };

/// A message of the metadata extension. Pieces are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// The sender requests a piece.
    Request {
        /// The piece.
        piece: u32,
    },
    /// A piece.
    Data {
        /// The piece.
        piece: u32,
        /// What the sender says is the length of the whole metadata, in bytes. `None` if it says
        /// nothing or something absurd. The extension handshake is where that length is agreed on.
        total_size: Option<u32>,
        /// The bytes: at least one, at most [`METADATA_PIECE_LENGTH`].
        bytes: Cow<'a, [u8]>,
    },
    /// The sender does not have a requested piece, or does not send it.
    Reject {
        /// The piece.
        piece: u32,
    },
}

/// Why bytes are not a message of the metadata extension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Occurs when the bytes do not begin with bencode.
    #[error(transparent)]
    Bencode(#[from] Box<DecodeError>),
    /// Occurs when they do not begin with a dictionary that has the unsigned number `key`.
    #[error("expected a dictionary with the number {key}")]
    NoNumber {
        /// The key: `msg_type` or `piece`.
        key: &'static str,
    },
    /// Occurs when the kind of message is unknown, which BEP 9 says to ignore.
    #[error("unknown kind of message: {got}")]
    UnknownKind {
        /// The kind.
        got: u64,
    },
    /// Occurs when a data message has no data, or more than [`METADATA_PIECE_LENGTH`] bytes.
    #[error("expected 1 to {METADATA_PIECE_LENGTH} bytes of metadata, got {got}")]
    PieceLength {
        /// How many bytes there are.
        got: usize,
    },
}

impl<'a> MetadataMessage<'a> {
    /// Decodes a message. The piece of a data message is borrowed. Ignores unknown keys, and what
    /// follows the dictionary of other messages.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, MetadataError> {
        let (document, length) = OPTIONS.parse_prefix(payload).map_err(Box::new)?;
        let root = document.root();
        let number = |key| number(root, key).ok_or(MetadataError::NoNumber { key });
        let kind = number("msg_type")?;
        let piece = u32::try_from(number("piece")?);
        let piece = piece.map_err(|_| MetadataError::NoNumber { key: "piece" })?;
        match kind {
            REQUEST => Ok(Self::Request { piece }),
            REJECT => Ok(Self::Reject { piece }),
            DATA => {
                let bytes = payload.get(length..).unwrap_or_default();
                if bytes.is_empty() || bytes.len() > METADATA_PIECE_LENGTH as usize {
                    return Err(MetadataError::PieceLength { got: bytes.len() });
                }
                let total_size = number("total_size").ok().and_then(|size| size.try_into().ok());
                Ok(Self::Data { piece, total_size, bytes: Cow::Borrowed(bytes) })
            }
            got => Err(MetadataError::UnknownKind { got }),
        }
    }

    /// Appends the encoded message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.dictionary());
        out.extend_from_slice(self.data());
    }

    /// Returns the message without its borrowed parts.
    pub fn into_owned(self) -> MetadataMessage<'static> {
        match self {
            Self::Request { piece } => MetadataMessage::Request { piece },
            Self::Reject { piece } => MetadataMessage::Reject { piece },
            Self::Data { piece, total_size, bytes } => {
                MetadataMessage::Data { piece, total_size, bytes: Cow::Owned(bytes.into_owned()) }
            }
        }
    }

    /// Returns the bytes of the dictionary.
    pub(crate) fn dictionary(&self) -> Vec<u8> {
        let (kind, piece, total_size) = match *self {
            Self::Request { piece } => (REQUEST, piece, None),
            Self::Data { piece, total_size, .. } => (DATA, piece, total_size),
            Self::Reject { piece } => (REJECT, piece, None),
        };
        let total_size = total_size.map(|size| ("total_size", Owned::from(size)));
        let numbers = [("msg_type", Owned::from(kind)), ("piece", Owned::from(piece))];
        bencode::encode(&Owned::dict(numbers.into_iter().chain(total_size)))
    }

    /// Returns what follows the dictionary.
    pub(crate) fn data(&self) -> &[u8] {
        match self {
            Self::Data { bytes, .. } => bytes,
            Self::Request { .. } | Self::Reject { .. } => &[],
        }
    }
}

fn number(root: Value<'_, '_>, key: &str) -> Option<u64> {
    root.get(key)?.as_uint()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = METADATA_PIECE_LENGTH as usize;

    fn data(piece: u32, total_size: Option<u32>, bytes: &[u8]) -> MetadataMessage<'_> {
        MetadataMessage::Data { piece, total_size, bytes: Cow::Borrowed(bytes) }
    }

    #[test]
    fn messages_of_bep_9() {
        let longest = [b'e'; LONGEST];
        for (message, dictionary) in [
            (MetadataMessage::Request { piece: 0 }, &b"d8:msg_typei0e5:piecei0ee"[..]),
            (MetadataMessage::Reject { piece: 7 }, b"d8:msg_typei2e5:piecei7ee"),
            (data(0, Some(34256), b"x"), b"d8:msg_typei1e5:piecei0e10:total_sizei34256ee"),
            (data(9, None, b"ee"), b"d8:msg_typei1e5:piecei9ee"),
            (
                data(1, Some(u32::MAX), &longest),
                b"d8:msg_typei1e5:piecei1e10:total_sizei4294967295ee",
            ),
        ] {
            let bytes = [dictionary, message.data()].concat();
            assert_eq!(MetadataMessage::decode(&bytes), Ok(message.clone()));
            let mut encoded = Vec::new();
            message.encode(&mut encoded);
            assert_eq!(encoded, bytes);
            for end in 0..dictionary.len() {
                assert!(MetadataMessage::decode(&bytes[..end]).is_err(), "prefix of {end}");
            }
            assert_eq!(message.clone().into_owned(), message);
        }
    }

    #[test]
    fn bytes_after_dictionary() {
        let request = MetadataMessage::decode(b"d8:msg_typei0e5:piecei4eetrailing");
        assert_eq!(request, Ok(MetadataMessage::Request { piece: 4 }));
        // The dictionary ends where its own `e` is, not at the first `ee`.
        let nested = b"d1:ad1:bi1ee8:msg_typei1e5:piecei4e1:xl2:eeeed3:abce";
        assert_eq!(MetadataMessage::decode(nested), Ok(data(4, None, b"d3:abce")));
    }

    #[test]
    fn piece_length_is_limited() {
        let head = b"d8:msg_typei1e5:piecei0ee";
        for got in [0, LONGEST + 1, 2 * LONGEST] {
            let bytes = [&head[..], &vec![1; got]].concat();
            assert_eq!(MetadataMessage::decode(&bytes), Err(MetadataError::PieceLength { got }));
        }
    }

    #[test]
    fn absurd_total_size_is_ignored() {
        for size in ["i-1e", "i4294967296e", "i18446744073709551615e", "1:x", "le"] {
            let bytes = format!("d8:msg_typei1e5:piecei0e10:total_size{size}ex");
            assert_eq!(
                MetadataMessage::decode(bytes.as_bytes()),
                Ok(data(0, None, b"x")),
                "{size}"
            );
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let no_number = |key| Err(MetadataError::NoNumber { key });
        for (bytes, expected) in [
            (&b"i1e"[..], no_number("msg_type")),
            (b"le", no_number("msg_type")),
            (b"de", no_number("msg_type")),
            (b"d8:msg_typei-1e5:piecei0ee", no_number("msg_type")),
            (b"d8:msg_typei0ee", no_number("piece")),
            (b"d8:msg_typei0e5:piecei-1ee", no_number("piece")),
            (b"d8:msg_typei0e5:piecei4294967296ee", no_number("piece")),
            (b"d8:msg_typei0e5:piece1:0e", no_number("piece")),
            (b"d8:msg_typei3e5:piecei0ee", Err(MetadataError::UnknownKind { got: 3 })),
        ] {
            assert_eq!(MetadataMessage::decode(bytes), expected);
        }
        let many = [&b"d1:a"[..], &b"l".repeat(4), &b"e".repeat(4), b"e"].concat();
        let long = [&b"d1:al"[..], &b"i1e".repeat(64), b"ee"].concat();
        let twice = b"d8:msg_typei0e5:piecei0e5:piecei1ee".to_vec();
        for bytes in [&b""[..], b"garbage", &[7; 20], &many, &long, &twice] {
            let error = MetadataMessage::decode(bytes).unwrap_err();
            assert!(matches!(error, MetadataError::Bencode(_)), "{error}");
        }
    }
}

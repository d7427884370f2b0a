//! What was parsed: the bytes and the table of tokens in them.

use crate::token::Token;
use crate::{DecodeError, Options, Value};

/// A parsed value and everything in it. The bytes are borrowed, the table is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    input: &'a [u8],
    tokens: Vec<Token>,
    unsorted: Option<usize>,
}

impl<'a> Document<'a> {
    /// `tokens` must be the table of `input` and not empty.
    pub(crate) fn new(input: &'a [u8], tokens: Vec<Token>, unsorted: Option<usize>) -> Self {
        Self { input, tokens, unsorted }
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'a, '_> {
        Value::new(self.input, &self.tokens, 0)
    }

    /// Where the first key is that sorts before the key in front of it, in bytes from the start;
    /// `None` if the keys of every dictionary are in order, as BEP 3 wants them.
    pub fn unsorted(&self) -> Option<usize> {
        self.unsorted
    }

    /// The bytes of the outermost value.
    pub fn bytes(&self) -> &'a [u8] {
        self.input
    }

    /// How many tokens there are; each takes 8 bytes.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }
}

/// A [`Document`] that owns its bytes, to be kept.
///
/// ```
/// let document = bencode::OwnedDocument::parse(b"l4:spami42ee".to_vec())?;
/// let list = document.root().as_list().expect("a list");
/// assert_eq!(list.get(1).and_then(|value| value.as_int()), Some(42));
/// # Ok::<(), bencode::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedDocument {
    bytes: Box<[u8]>,
    tokens: Box<[Token]>,
    unsorted: Option<usize>,
}

impl OwnedDocument {
    /// Like [`parse`](crate::parse), and keeps the bytes.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`](crate::DecodeErrorKind).
    pub fn parse(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let Document { tokens, unsorted, .. } = Options::new().parse(&bytes)?;
        // Without the room that reading left at their ends: documents are kept by the thousand.
        let (bytes, tokens) = (bytes.into_boxed_slice(), tokens.into_boxed_slice());
        Ok(Self { bytes, tokens, unsorted })
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_, '_> {
        Value::new(&self.bytes, &self.tokens, 0)
    }

    /// See [`Document::unsorted`].
    pub fn unsorted(&self) -> Option<usize> {
        self.unsorted
    }

    /// The bytes of the outermost value.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

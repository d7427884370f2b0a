//! What was parsed: the bytes and the table of tokens in them.

use crate::token::Token;
use crate::{DecodeError, KeyPath, Options, Value};

/// A key that its dictionary had before, in a document that was parsed with
/// [`Options::max_duplicates`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// Where the key is given again, in bytes from the start of the document.
    pub offset: usize,
    /// The key, with those that lead to it.
    pub path: KeyPath,
}

/// The breaches of BEP 3 that the parser accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Oddities {
    /// Where the first key out of order is.
    pub(crate) unsorted: Option<usize>,
    /// The tokens of keys that their dictionary had before, ascending.
    pub(crate) duplicates: Box<[u32]>,
}

impl Oddities {
    fn duplicates<'a>(
        &'a self,
        input: &'a [u8],
        tokens: &'a [Token],
    ) -> impl ExactSizeIterator<Item = DuplicateKey> + 'a {
        self.duplicates.iter().map(|key| {
            let key = *key as usize;
            let offset = tokens.get(key).map_or(0, |key| key.offset as usize);
            DuplicateKey { offset, path: Value::new(input, tokens, key + 1).path() }
        })
    }
}

/// A parsed value and everything in it. The bytes are borrowed, the table is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    input: &'a [u8],
    tokens: Vec<Token>,
    oddities: Oddities,
}

impl<'a> Document<'a> {
    /// `tokens` must be the table of `input` and not empty.
    pub(crate) fn new(input: &'a [u8], tokens: Vec<Token>, oddities: Oddities) -> Self {
        Self { input, tokens, oddities }
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'a, '_> {
        Value::new(self.input, &self.tokens, 0)
    }

    /// Where the first key is that sorts before the key in front of it, in bytes from the start;
    /// `None` if the keys of every dictionary are in order, as BEP 3 wants them.
    pub fn unsorted(&self) -> Option<usize> {
        self.oddities.unsorted
    }

    /// The keys that their dictionary had before, in the order of the input. There are none unless
    /// [`Options::max_duplicates`] allowed some. Each item takes time in proportion to what is in
    /// front of it.
    pub fn duplicates(&self) -> impl ExactSizeIterator<Item = DuplicateKey> + '_ {
        self.oddities.duplicates(self.input, &self.tokens)
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
    oddities: Oddities,
}

impl OwnedDocument {
    /// Like [`parse`](crate::parse), and keeps the bytes.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`](crate::DecodeErrorKind).
    pub fn parse(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let Document { tokens, oddities, .. } = Options::new().parse(&bytes)?;
        Ok(Self::new(bytes, tokens, oddities))
    }

    /// Like [`Options::parse_prefix`], and keeps the bytes of the value only: [`Self::bytes`] says
    /// how many there were.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`](crate::DecodeErrorKind).
    pub fn parse_prefix(mut bytes: Vec<u8>, options: Options) -> Result<Self, DecodeError> {
        let (Document { tokens, oddities, .. }, used) = options.parse_prefix(&bytes)?;
        bytes.truncate(used);
        Ok(Self::new(bytes, tokens, oddities))
    }

    /// Without the room that reading left at the ends: documents are kept by the thousand.
    fn new(bytes: Vec<u8>, tokens: Vec<Token>, oddities: Oddities) -> Self {
        Self { bytes: bytes.into_boxed_slice(), tokens: tokens.into_boxed_slice(), oddities }
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_, '_> {
        Value::new(&self.bytes, &self.tokens, 0)
    }

    /// See [`Document::unsorted`].
    pub fn unsorted(&self) -> Option<usize> {
        self.oddities.unsorted
    }

    /// See [`Document::duplicates`].
    pub fn duplicates(&self) -> impl ExactSizeIterator<Item = DuplicateKey> + '_ {
        self.oddities.duplicates(&self.bytes, &self.tokens)
    }

    /// The bytes of the outermost value.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

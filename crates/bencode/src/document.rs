//! A parsed input: the bytes and the table of tokens in them.

use crate::token::Token;
use crate::{DecodeError, KeyPath, Options, Value};

/// A key that appears earlier in the same dictionary, in a document that was parsed with
/// [`Options::max_duplicates`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The offset of the repeated key, in bytes from the start of the document.
    pub offset: usize,
    /// The path of the key.
    pub path: KeyPath,
}

/// The violations of BEP 3 that the parser accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Oddities {
    /// The offset of the first key out of order.
    pub(crate) unsorted: Option<usize>,
    /// The tokens of duplicate keys, ascending.
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

/// A parsed value and everything in it. It borrows the bytes and owns the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    input: &'a [u8],
    tokens: Vec<Token>,
    oddities: Oddities,
}

impl<'a> Document<'a> {
    /// Joins `input` with `tokens`, its table, which must not be empty.
    pub(crate) fn new(input: &'a [u8], tokens: Vec<Token>, oddities: Oddities) -> Self {
        Self { input, tokens, oddities }
    }

    /// Returns the outermost value.
    pub fn root(&self) -> Value<'a, '_> {
        Value::new(self.input, &self.tokens, 0)
    }

    /// Returns the offset of the first key that sorts before the previous one, in bytes from the
    /// start. `None` if the keys of every dictionary are in order, as BEP 3 requires.
    pub fn unsorted(&self) -> Option<usize> {
        self.oddities.unsorted
    }

    /// Returns the duplicate keys in the order of the input. There are none unless
    /// [`Options::max_duplicates`] allows some. Each item takes time proportional to what comes
    /// before it.
    pub fn duplicates(&self) -> impl ExactSizeIterator<Item = DuplicateKey> + '_ {
        self.oddities.duplicates(self.input, &self.tokens)
    }

    /// Returns the offsets of the duplicate keys, ascending.
    #[cfg(feature = "serde")]
    pub(crate) fn duplicate_offsets(&self) -> Vec<usize> {
        let tokens =
            self.oddities.duplicates.iter().filter_map(|key| self.tokens.get(*key as usize));
        tokens.map(|token| token.offset as usize).collect()
    }

    /// Returns the path of the value at `offset`.
    #[cfg(feature = "serde")]
    pub(crate) fn path_at(&self, offset: usize) -> KeyPath {
        let index = self.tokens.partition_point(|token| (token.offset as usize) < offset);
        Value::new(self.input, &self.tokens, index).path()
    }

    /// Returns the bytes of the outermost value.
    pub fn bytes(&self) -> &'a [u8] {
        self.input
    }

    /// Returns the number of tokens. Each takes 8 bytes.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }
}

/// A [`Document`] that owns its bytes.
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
    /// Parses `bytes` like [`parse`](crate::parse()), and keeps them.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`](crate::DecodeErrorKind).
    pub fn parse(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let Document { tokens, oddities, .. } = Options::new().parse(&bytes)?;
        Ok(Self::new(bytes, tokens, oddities))
    }

    /// Parses `bytes` like [`Options::parse_prefix`], and keeps only those of the value, which
    /// [`Self::bytes`] returns.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`](crate::DecodeErrorKind).
    pub fn parse_prefix(mut bytes: Vec<u8>, options: Options) -> Result<Self, DecodeError> {
        let (Document { tokens, oddities, .. }, used) = options.parse_prefix(&bytes)?;
        bytes.truncate(used);
        Ok(Self::new(bytes, tokens, oddities))
    }

    /// Drops the spare capacity, because a session keeps thousands of documents.
    fn new(bytes: Vec<u8>, tokens: Vec<Token>, oddities: Oddities) -> Self {
        Self { bytes: bytes.into_boxed_slice(), tokens: tokens.into_boxed_slice(), oddities }
    }

    /// Returns the outermost value.
    pub fn root(&self) -> Value<'_, '_> {
        Value::new(&self.bytes, &self.tokens, 0)
    }

    /// Returns what [`Document::unsorted`] does.
    pub fn unsorted(&self) -> Option<usize> {
        self.oddities.unsorted
    }

    /// Returns what [`Document::duplicates`] does.
    pub fn duplicates(&self) -> impl ExactSizeIterator<Item = DuplicateKey> + '_ {
        self.oddities.duplicates(&self.bytes, &self.tokens)
    }

    /// Returns the bytes of the outermost value.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

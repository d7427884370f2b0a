//! From bytes to a table of tokens. Containers are kept on an explicit stack, which lives in the
//! table itself: an open container's entry names the one around it.

use crate::document::Document;
use crate::scalar::{self, Fault, Scan};
use crate::token::{Token, after};
use crate::{DecodeError, DecodeErrorKind, KeyPath};

/// The most levels of lists and dictionaries.
pub const MAX_DEPTH: usize = 100;
/// The most tokens of one document: each value, key and end of a list or dictionary is one. A token
/// takes 8 bytes.
pub const MAX_TOKENS: usize = 3_000_000;
/// The longest input, in bytes.
pub const MAX_INPUT_LENGTH: usize = u32::MAX as usize;

/// Set in an open dictionary's entry once one of its keys was out of order.
const UNSORTED: u32 = 1 << 31;
/// The entry of the root names no container around it.
const NONE: u32 = UNSORTED - 1;

/// Reads the one value that `input` consists of, accepting keys out of order.
///
/// # Errors
/// Everything BEP 3 forbids, and trailing bytes; see [`DecodeErrorKind`].
pub fn parse(input: &[u8]) -> Result<Document<'_>, DecodeError> {
    Options::new().parse(input)
}

/// How to parse: strictness and limits.
///
/// ```
/// let options = bencode::Options::new().strict(true).max_depth(2);
/// assert!(options.parse(b"d1:bi1e1:ai2ee").is_err());
/// assert!(options.parse(b"llleee").is_err());
///
/// let (document, used) = options.parse_prefix(b"i42e and more")?;
/// assert_eq!((document.root().as_int(), used), (Some(42), 4));
/// # Ok::<(), bencode::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    strict: bool,
    allow_trailing: bool,
    max_depth: usize,
    max_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Lenient, nothing after the value, [`MAX_DEPTH`], [`MAX_TOKENS`].
    pub const fn new() -> Self {
        Self { strict: false, allow_trailing: false, max_depth: MAX_DEPTH, max_tokens: MAX_TOKENS }
    }

    /// Whether keys out of order are refused.
    #[must_use]
    pub const fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether [`Self::parse`] ignores what follows the value.
    #[must_use]
    pub const fn allow_trailing(mut self, allow: bool) -> Self {
        self.allow_trailing = allow;
        self
    }

    /// How many levels of lists and dictionaries are accepted, [`MAX_DEPTH`] at most.
    #[must_use]
    pub const fn max_depth(mut self, depth: usize) -> Self {
        self.max_depth = if depth < MAX_DEPTH { depth } else { MAX_DEPTH };
        self
    }

    /// How many tokens are accepted, [`MAX_TOKENS`] at most.
    #[must_use]
    pub const fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = if tokens < MAX_TOKENS { tokens } else { MAX_TOKENS };
        self
    }

    /// Reads the one value that `input` consists of.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`].
    pub fn parse<'a>(&self, input: &'a [u8]) -> Result<Document<'a>, DecodeError> {
        let (document, used) = self.parse_prefix(input)?;
        let count = input.len() - used;
        if count > 0 && !self.allow_trailing {
            let kind = DecodeErrorKind::TrailingBytes { count };
            return Err(DecodeError { kind, offset: used, path: KeyPath::root() });
        }
        Ok(document)
    }

    /// Reads the value at the start of `input` and says how many bytes it took. The document's
    /// bytes are those.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`].
    pub fn parse_prefix<'a>(&self, input: &'a [u8]) -> Result<(Document<'a>, usize), DecodeError> {
        if input.len() > MAX_INPUT_LENGTH {
            let kind = DecodeErrorKind::InputTooLong { limit: MAX_INPUT_LENGTH, got: input.len() };
            return Err(DecodeError { kind, offset: 0, path: KeyPath::root() });
        }
        let mut parser = Parser::new(input, *self);
        parser.document().map_err(|refusal| *refusal)?;
        let used = parser.at(parser.rest);
        let document = Document::new(&input[..used], parser.tokens, parser.unsorted);
        Ok((document, used))
    }
}

/// An error inside the parser: one word, so that handing on a success costs nothing.
type Refusal = Box<DecodeError>;

/// The parser between two tokens. Invariant: below `tokens.len()` every closed container's entry
/// names its end, every open one's the container around it.
struct Parser<'a> {
    options: Options,
    input: &'a [u8],
    rest: &'a [u8],
    tokens: Vec<Token>,
    /// The innermost open container.
    open: u32,
    open_is_dict: bool,
    depth: usize,
    /// The key in front of the place we are at, if that is in a dictionary and not at its start.
    last_key: Option<u32>,
    /// Where the first key out of order is.
    unsorted: Option<usize>,
}

impl<'a> Parser<'a> {
    fn new(input: &'a [u8], options: Options) -> Self {
        // File lists have a token every 20 bytes or so; memory that stays unused is never touched.
        let expected = (input.len() / 8 + 8).min(options.max_tokens);
        Self {
            options,
            input,
            rest: input,
            tokens: Vec::with_capacity(expected),
            open: NONE,
            open_is_dict: false,
            depth: 0,
            last_key: None,
            unsorted: None,
        }
    }

    fn document(&mut self) -> Result<(), Refusal> {
        self.value()?;
        while self.open != NONE {
            match self.rest.first() {
                Some(b'e') => self.close()?,
                None => return Err(self.missing_end()),
                Some(_) if self.open_is_dict => {
                    self.key()?;
                    self.value()?;
                }
                Some(_) => self.value()?,
            }
        }
        Ok(())
    }

    /// Reads a scalar, or the start of a container.
    #[inline]
    fn value(&mut self) -> Result<(), Refusal> {
        match self.rest.first() {
            Some(b'0'..=b'9') => self.scalar(scalar::byte_string),
            Some(b'i') => self.scalar(scalar::integer),
            Some(b'd') => self.open(true),
            Some(b'l') => self.open(false),
            Some(b'e') if self.open_is_dict => Err(self.error(DecodeErrorKind::MissingValue)),
            _ => Err(self.error(scalar::unexpected(self.rest, "a value"))),
        }
    }

    #[inline]
    fn scalar(&mut self, read: impl Fn(&'a [u8]) -> Scan<'a, &'a [u8]>) -> Result<(), Refusal> {
        let offset = self.at(self.rest);
        match read(self.rest) {
            Ok((rest, content)) => {
                self.push(Token::new(offset, content.len()))?;
                self.rest = rest;
                Ok(())
            }
            Err(fault) => Err(self.fault(&fault)),
        }
    }

    fn open(&mut self, is_dict: bool) -> Result<(), Refusal> {
        if self.depth == self.options.max_depth {
            return Err(self.error(DecodeErrorKind::TooDeep { limit: self.options.max_depth }));
        }
        let index = self.tokens.len() as u32;
        // A dictionary around this one needs no word on its state: its last key is in front of us.
        self.push(Token::new(self.at(self.rest), self.open as usize))?;
        self.open = index;
        self.open_is_dict = is_dict;
        self.depth += 1;
        self.last_key = None;
        self.rest = &self.rest[1..];
        Ok(())
    }

    #[inline]
    fn close(&mut self) -> Result<(), Refusal> {
        let closed = self.open;
        let end = self.tokens.len();
        let around = self.tokens[closed as usize].extra;
        if around & UNSORTED != 0 {
            self.check_unsorted_keys(closed as usize)?;
        }
        self.push(Token::new(self.at(self.rest), 0))?;
        self.tokens[closed as usize].extra = end as u32;
        self.rest = &self.rest[1..];
        self.open = around & !UNSORTED;
        self.depth -= 1;
        self.open_is_dict = self.is_dict(self.open);
        self.last_key = self.open_is_dict.then(|| closed - 1);
        Ok(())
    }

    #[inline]
    fn key(&mut self) -> Result<(), Refusal> {
        let index = self.tokens.len() as u32;
        if let Some(got) = self.rest.first().filter(|byte| !byte.is_ascii_digit()) {
            let kind = DecodeErrorKind::KeyNotString { got: *got };
            return Err(self.error_at(self.rest, kind, self.open_path()));
        }
        let at = self.rest;
        let (rest, content) = match scalar::byte_string(at) {
            Ok(read) => read,
            Err(fault) => return Err(self.key_fault(&fault)),
        };
        if let Some(last) = self.last_key {
            let last = self.tokens[last as usize].content(self.input);
            if content <= last {
                self.out_of_order(content, content == last)?;
            }
        }
        self.push(Token::new(self.at(at), content.len()))?;
        self.rest = rest;
        self.last_key = Some(index);
        Ok(())
    }

    #[cold]
    fn out_of_order(&mut self, key: &[u8], duplicate: bool) -> Result<(), Refusal> {
        let refused = match (duplicate, self.options.strict) {
            (true, _) => Some(DecodeErrorKind::DuplicateKey),
            (false, true) => Some(DecodeErrorKind::UnsortedKey),
            (false, false) => None,
        };
        if let Some(kind) = refused {
            return Err(self.error_at(self.rest, kind, self.open_path().key(key)));
        }
        self.unsorted = self.unsorted.or(Some(self.at(self.rest)));
        self.tokens[self.open as usize].extra |= UNSORTED;
        Ok(())
    }

    /// Duplicates in an unsorted dictionary need not be neighbours: sorts the keys to find them.
    #[cold]
    fn check_unsorted_keys(&self, dict: usize) -> Result<(), Refusal> {
        let mut keys = Vec::new();
        let mut index = dict + 1;
        while let Some(token) = self.tokens.get(index) {
            keys.push((token.content(self.input), token.offset));
            index = after(&self.tokens, self.input, index + 1);
        }
        keys.sort_unstable();
        let again = keys.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1]);
        match again.min_by_key(|(_, offset)| *offset) {
            None => Ok(()),
            Some((key, offset)) => {
                let at = &self.input[offset as usize..];
                Err(self.error_at(at, DecodeErrorKind::DuplicateKey, self.open_path().key(key)))
            }
        }
    }

    #[inline]
    fn push(&mut self, token: Token) -> Result<(), Refusal> {
        if self.tokens.len() >= self.options.max_tokens {
            let kind = DecodeErrorKind::TooManyTokens { limit: self.options.max_tokens };
            return Err(self.error_at(self.rest, kind, self.open_path()));
        }
        self.tokens.push(token);
        Ok(())
    }

    fn at(&self, rest: &[u8]) -> usize {
        self.input.len() - rest.len()
    }

    fn is_dict(&self, container: u32) -> bool {
        let token = self.tokens.get(container as usize);
        token.is_some_and(|token| self.input.get(token.offset as usize) == Some(&b'd'))
    }

    #[cold]
    fn missing_end(&self) -> Refusal {
        let expected = if self.open_is_dict {
            "a key or the 'e' of the dictionary"
        } else {
            "a value or the 'e' of the list"
        };
        let kind = DecodeErrorKind::UnexpectedEnd { expected };
        self.error_at(self.rest, kind, self.open_path())
    }

    #[cold]
    fn error(&self, kind: DecodeErrorKind) -> Refusal {
        self.error_at(self.rest, kind, self.value_path())
    }

    #[cold]
    fn fault(&self, fault: &nom::Err<Fault<'a>>) -> Refusal {
        let (at, kind) = self.unwrap_fault(fault);
        self.error_at(at, kind, self.value_path())
    }

    #[cold]
    fn key_fault(&self, fault: &nom::Err<Fault<'a>>) -> Refusal {
        let (at, kind) = self.unwrap_fault(fault);
        self.error_at(at, kind, self.open_path())
    }

    fn unwrap_fault(&self, fault: &nom::Err<Fault<'a>>) -> (&'a [u8], DecodeErrorKind) {
        match fault {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => (fault.at, fault.kind),
            // The scalar parsers are nom's complete ones, which never say this.
            nom::Err::Incomplete(_) => (self.rest, scalar::unexpected(&[], "a value")),
        }
    }

    fn error_at(&self, at: &[u8], kind: DecodeErrorKind, path: KeyPath) -> Refusal {
        Box::new(DecodeError { kind, offset: self.at(at), path })
    }

    /// The path of the value we are at.
    fn value_path(&self) -> KeyPath {
        let step = (self.open != NONE).then_some((self.open as usize, self.tokens.len()));
        self.path(step)
    }

    /// The path of the innermost open container.
    fn open_path(&self) -> KeyPath {
        self.path(None)
    }

    /// The path of the innermost open container, and into its child that would be token `last.1`.
    fn path(&self, last: Option<(usize, usize)>) -> KeyPath {
        let mut steps: Vec<(usize, usize)> = last.into_iter().collect();
        let mut child = self.open;
        while let Some(token) = self.tokens.get(child as usize) {
            let around = token.extra & !UNSORTED;
            if around != NONE {
                steps.push((around as usize, child as usize));
            }
            child = around;
        }
        steps
            .iter()
            .rev()
            .fold(KeyPath::root(), |path, (container, child)| self.step(path, *container, *child))
    }

    fn step(&self, path: KeyPath, container: usize, child: usize) -> KeyPath {
        if self.is_dict(container as u32) {
            let key = self.tokens.get(child - 1).map(|key| key.content(self.input));
            return path.key(key.unwrap_or_default());
        }
        let mut before = 0;
        let mut index = container + 1;
        while index < child {
            index = after(&self.tokens, self.input, index);
            before += 1;
        }
        path.index(before)
    }
}

#[cfg(test)]
mod tests;

//! The parser: turns bytes into a table of tokens. Open containers are on an explicit stack.
//!
//! The compiler inlines everything in the loop into one function that keeps its state in registers.
//! Therefore nothing in it lends `self` to a function that is not inlined: a [`Stop`] carries the
//! bare error, and [`Trail`] finds the path for the message after the loop has ended.

mod keys;

use std::num::NonZeroU32;

use crate::document::{Document, Oddities};
use crate::scalar::{self, Fault};
use crate::token::{Token, after};
use crate::{DecodeError, DecodeErrorKind, KeyPath};
use keys::{find_duplicates, is_same, refusal};

/// The largest number of nested lists and dictionaries.
pub const MAX_DEPTH: usize = 100;
/// The largest number of tokens in one document. Each value, each key and each end of a list or
/// dictionary is a token, and takes 8 bytes.
pub const MAX_TOKENS: usize = 3_000_000;
/// The longest input, in bytes.
pub const MAX_INPUT_LENGTH: usize = u32::MAX as usize;

/// Reads the one value that `input` consists of, accepting keys out of order.
///
/// # Errors
/// If `input` breaks another rule of BEP 3, exceeds a limit, or has trailing bytes; see
/// [`DecodeErrorKind`].
pub fn parse(input: &[u8]) -> Result<Document<'_>, DecodeError> {
    Options::new().parse(input)
}

/// How to parse: strictness and limits.
///
/// ```
/// use bencode::Options;
///
/// let options = Options { strict: true, max_depth: 2, ..Options::new() };
/// assert!(options.parse(b"d1:bi1e1:ai2ee").is_err());
/// assert!(options.parse(b"llleee").is_err());
///
/// // The first value of a duplicate key counts.
/// let options = Options { max_duplicates: 1, ..Options::new() };
/// let document = options.parse(b"d1:ai1e1:ai2ee")?;
/// assert_eq!(document.root().get("a").and_then(|value| value.as_int()), Some(1));
/// assert_eq!(document.duplicates().map(|key| key.offset).collect::<Vec<_>>(), [7]);
///
/// let (document, used) = options.parse_prefix(b"i42e and more")?;
/// assert_eq!((document.root().as_int(), used), (Some(42), 4));
/// # Ok::<(), bencode::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether keys out of order are refused.
    pub strict: bool,
    /// Whether [`Self::parse`] ignores what follows the value.
    pub allow_trailing: bool,
    /// How many duplicate keys are accepted in the whole document. [`Document::duplicates`] reports
    /// them, and [`Dict::get`](crate::Dict::get) finds the first value, as libtorrent does.
    pub max_duplicates: usize,
    /// How many levels of lists and dictionaries are accepted. More than [`MAX_DEPTH`] counts as
    /// that.
    pub max_depth: usize,
    /// How many tokens are accepted. More than [`MAX_TOKENS`] counts as that.
    pub max_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Returns the defaults: accept keys in any order, refuse duplicate keys and trailing bytes,
    /// limit depth to [`MAX_DEPTH`] and tokens to [`MAX_TOKENS`].
    pub const fn new() -> Self {
        Self {
            strict: false,
            allow_trailing: false,
            max_duplicates: 0,
            max_depth: MAX_DEPTH,
            max_tokens: MAX_TOKENS,
        }
    }

    /// Returns these options with limits that are in force.
    pub(crate) fn within_limits(self) -> Self {
        Self {
            max_depth: self.max_depth.min(MAX_DEPTH),
            max_tokens: self.max_tokens.min(MAX_TOKENS),
            ..self
        }
    }

    /// Reads the value at the start of `input`. Trailing bytes are an error unless
    /// [`Self::allow_trailing`] is set.
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

    /// Reads the value at the start of `input`. Returns a document of only the value's bytes, and
    /// their number.
    ///
    /// # Errors
    /// See [`DecodeErrorKind`].
    pub fn parse_prefix<'a>(&self, input: &'a [u8]) -> Result<(Document<'a>, usize), DecodeError> {
        if input.len() > MAX_INPUT_LENGTH {
            let kind = DecodeErrorKind::InputTooLong { limit: MAX_INPUT_LENGTH, got: input.len() };
            return Err(DecodeError { kind, offset: 0, path: KeyPath::root() });
        }
        let options = self.within_limits();
        // File lists have about one token per 8 bytes at most. Memory that stays unused is never
        // touched.
        let expected = (input.len() / 8 + 8).min(options.max_tokens);
        let mut tokens = Vec::with_capacity(expected);
        let mut frames = [NO_FRAME; MAX_DEPTH];
        let mut duplicates = Vec::new();
        let parser = Parser {
            options,
            input,
            rest: input,
            tokens: &mut tokens,
            frames: &mut frames,
            duplicates: &mut duplicates,
            depth: 0,
            in_dict: false,
            last_key: None,
            unsorted: None,
        };
        match parser.document() {
            Ok((used, unsorted)) => {
                // Duplicates are found when a dictionary ends, so an inner one's come before an
                // outer one's.
                duplicates.sort_unstable();
                let oddities = Oddities { unsorted, duplicates: duplicates.into_boxed_slice() };
                Ok((Document::new(&input[..used], tokens, oddities), used))
            }
            Err((stop, depth)) => {
                Err(Trail { input, tokens: &tokens, open: &frames[..depth] }.error(&stop))
            }
        }
    }
}

/// An open list or dictionary.
#[derive(Clone, Copy)]
struct Frame {
    /// Its index in the table.
    token: u32,
    kind: Open,
}

/// The kind of an open container.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Open {
    List,
    Dict,
    /// A dictionary with a key that does not sort after the previous one.
    UnsortedDict,
}

/// Fills the unused part of the stack.
const NO_FRAME: Frame = Frame { token: 0, kind: Open::List };

/// An error that ended the loop.
struct Stop<'a> {
    /// The input from the error on.
    at: &'a [u8],
    kind: DecodeErrorKind,
    target: Target<'a>,
}

/// The value that the path of an error leads to.
enum Target<'a> {
    /// The current value.
    Value,
    /// The innermost open container.
    Container,
    /// The value of this key in the innermost open container.
    Key(&'a [u8]),
}

/// The parser between two tokens. Invariant: the entry of every closed container names its end, and
/// `frames[..depth]` are the open containers, outermost first.
struct Parser<'a, 't> {
    options: Options,
    input: &'a [u8],
    rest: &'a [u8],
    tokens: &'t mut Vec<Token>,
    frames: &'t mut [Frame; MAX_DEPTH],
    /// The tokens of duplicate keys.
    duplicates: &'t mut Vec<u32>,
    depth: usize,
    /// Whether the innermost open container is a dictionary.
    in_dict: bool,
    /// The previous key of the innermost container, if that is a dictionary and has one. Token 0 is
    /// the outermost value, so it is never a key.
    last_key: Option<NonZeroU32>,
    /// The offset of the first key out of order.
    unsorted: Option<usize>,
}

impl<'a> Parser<'a, '_> {
    /// Reads one value. Returns its length and the offset of the first key out of order; or the
    /// error and the number of containers that are open there.
    fn document(mut self) -> Result<(usize, Option<usize>), (Stop<'a>, usize)> {
        match self.read() {
            Ok(()) => Ok((self.at(self.rest), self.unsorted)),
            Err(stop) => Err((stop, self.depth)),
        }
    }

    #[inline(always)]
    fn read(&mut self) -> Result<(), Stop<'a>> {
        self.value()?;
        while self.depth > 0 {
            match self.rest.first() {
                Some(b'e') => self.close()?,
                None => return Err(missing_end(self.rest, self.in_dict)),
                Some(_) => {
                    if self.in_dict {
                        self.key()?;
                    }
                    self.value()?;
                }
            }
        }
        Ok(())
    }

    /// Reads a scalar, or the start of a container.
    #[inline(always)]
    fn value(&mut self) -> Result<(), Stop<'a>> {
        let read = match self.rest.first() {
            Some(b'0'..=b'9') => string(self.rest, Target::Value)?,
            Some(b'i') => integer(self.rest)?,
            Some(b'd') => return self.open(Open::Dict),
            Some(b'l') => return self.open(Open::List),
            Some(b'e') if self.in_dict => {
                return Err(stop(self.rest, DecodeErrorKind::MissingValue, Target::Value));
            }
            _ => return Err(no_value(self.rest)),
        };
        let (rest, content) = read;
        self.push(content.len())?;
        self.rest = rest;
        Ok(())
    }

    #[inline(always)]
    fn open(&mut self, kind: Open) -> Result<(), Stop<'a>> {
        let limit = self.options.max_depth;
        let token = self.tokens.len() as u32;
        match self.frames.get_mut(self.depth) {
            Some(frame) if self.depth < limit => {
                *frame = Frame { token, kind };
            }
            _ => return Err(stop(self.rest, DecodeErrorKind::TooDeep { limit }, Target::Value)),
        }
        // `close` fills in the index of its end.
        self.push(0)?;
        self.depth += 1;
        self.in_dict = kind == Open::Dict;
        self.last_key = None;
        self.rest = &self.rest[1..];
        Ok(())
    }

    #[inline(always)]
    fn close(&mut self) -> Result<(), Stop<'a>> {
        let around = self.depth - 1;
        let closed = self.frames[around];
        if closed.kind == Open::UnsortedDict {
            let (dict, limit) = (closed.token as usize, self.options.max_duplicates);
            find_duplicates(self.input, self.tokens, dict, self.duplicates, limit)?;
        }
        let end = self.tokens.len();
        self.push(0)?;
        self.tokens[closed.token as usize].extra = end as u32;
        self.rest = &self.rest[1..];
        self.depth = around;
        self.in_dict = around > 0 && self.frames[around - 1].kind != Open::List;
        self.last_key = if self.in_dict { NonZeroU32::new(closed.token - 1) } else { None };
        Ok(())
    }

    #[inline(always)]
    fn key(&mut self) -> Result<(), Stop<'a>> {
        if let Some(got) = self.rest.first().filter(|byte| !byte.is_ascii_digit()) {
            let kind = DecodeErrorKind::KeyNotString { got: *got };
            return Err(stop(self.rest, kind, Target::Container));
        }
        let (rest, key) = string(self.rest, Target::Container)?;
        if let Some(last) = self.last_key {
            let last = self.tokens[last.get() as usize].content(self.input);
            if !is_ascending(last, key) {
                self.out_of_order(last, key)?;
            }
        }
        self.last_key = NonZeroU32::new(self.tokens.len() as u32);
        self.push(key.len())?;
        self.rest = rest;
        Ok(())
    }

    #[inline(always)]
    fn out_of_order(&mut self, last: &[u8], key: &'a [u8]) -> Result<(), Stop<'a>> {
        let is_duplicate = is_same(last, key);
        if let Some(kind) = refusal(is_duplicate, self.options) {
            return Err(stop(self.rest, kind, Target::Key(key)));
        }
        if !is_duplicate {
            self.unsorted = self.unsorted.or(Some(self.at(self.rest)));
        }
        self.frames[self.depth - 1].kind = Open::UnsortedDict;
        Ok(())
    }

    /// Appends a token at the current position.
    #[inline(always)]
    fn push(&mut self, extra: usize) -> Result<(), Stop<'a>> {
        let limit = self.options.max_tokens;
        if self.tokens.len() == self.tokens.capacity() && !make_room(self.tokens, limit) {
            let kind = DecodeErrorKind::TooManyTokens { limit };
            return Err(stop(self.rest, kind, Target::Container));
        }
        self.tokens.push(Token::new(self.at(self.rest), extra));
        Ok(())
    }

    #[inline(always)]
    fn at(&self, rest: &[u8]) -> usize {
        self.input.len() - rest.len()
    }
}

/// Makes room for more tokens in a full table, unless it has `limit` of them. Capacity never
/// exceeds `limit`, so `push` compares the length with the capacity only.
#[cold]
fn make_room(tokens: &mut Vec<Token>, limit: usize) -> bool {
    let more = limit.saturating_sub(tokens.len()).min(tokens.len());
    tokens.reserve_exact(more);
    more > 0
}

/// The state at the end of the loop, from which the path of an error is found.
struct Trail<'a, 't> {
    input: &'a [u8],
    tokens: &'t [Token],
    /// The open containers.
    open: &'t [Frame],
}

impl Trail<'_, '_> {
    /// Turns `stop` into the public error.
    #[cold]
    fn error(&self, stop: &Stop<'_>) -> DecodeError {
        let path = match stop.target {
            Target::Container => self.path(None),
            Target::Value => self.path(Some(self.tokens.len())),
            Target::Key(key) => self.path(None).key(key),
        };
        DecodeError { kind: stop.kind.clone(), offset: self.input.len() - stop.at.len(), path }
    }

    /// Returns the path of the innermost open container, or of its child that would be token
    /// `last`.
    fn path(&self, last: Option<usize>) -> KeyPath {
        let children = self.open.iter().skip(1).map(|frame| frame.token as usize).chain(last);
        let steps = self.open.iter().zip(children);
        steps.fold(KeyPath::root(), |path, (container, child)| self.step(path, *container, child))
    }

    fn step(&self, path: KeyPath, container: Frame, child: usize) -> KeyPath {
        if container.kind != Open::List {
            let key = self.tokens.get(child - 1).map(|key| key.content(self.input));
            return path.key(key.unwrap_or_default());
        }
        let mut before = 0;
        let mut index = container.token as usize + 1;
        while index < child {
            index = after(self.tokens, self.input, index);
            before += 1;
        }
        path.index(before)
    }
}

/// Reads a byte string. Returns the rest of the input and the content.
#[inline(always)]
fn string<'a>(at: &'a [u8], target: Target<'a>) -> Result<(&'a [u8], &'a [u8]), Stop<'a>> {
    match scalar::short_string(at) {
        Some(read) => Ok(read),
        None => scalar::byte_string(at).map_err(|fault| fault_at(&fault, target)),
    }
}

/// Reads an integer. Returns the rest of the input and the digits.
#[inline(always)]
fn integer(at: &[u8]) -> Result<(&[u8], &[u8]), Stop<'_>> {
    match scalar::short_integer(at) {
        Some(read) => Ok(read),
        None => scalar::integer(at).map_err(|fault| fault_at(&fault, Target::Value)),
    }
}

/// Returns whether `key` sorts after `last`. Mostly their first bytes decide.
#[inline(always)]
pub(crate) fn is_ascending(last: &[u8], key: &[u8]) -> bool {
    match (last, key) {
        ([last, ..], [key, ..]) if last != key => last < key,
        _ => is_less(last, key),
    }
}

#[inline(never)]
fn is_less(last: &[u8], key: &[u8]) -> bool {
    last < key
}

#[cold]
fn stop<'a>(at: &'a [u8], kind: DecodeErrorKind, target: Target<'a>) -> Stop<'a> {
    Stop { at, kind, target }
}

#[cold]
fn missing_end(at: &[u8], in_dict: bool) -> Stop<'_> {
    let expected = if in_dict {
        "a key or the 'e' of the dictionary"
    } else {
        "a value or the 'e' of the list"
    };
    stop(at, DecodeErrorKind::UnexpectedEnd { expected }, Target::Container)
}

#[cold]
fn no_value(at: &[u8]) -> Stop<'_> {
    stop(at, scalar::unexpected(at, "a value"), Target::Value)
}

#[cold]
fn fault_at<'a>(fault: &nom::Err<Fault<'a>>, target: Target<'a>) -> Stop<'a> {
    match fault {
        nom::Err::Error(fault) | nom::Err::Failure(fault) => {
            stop(fault.at, fault.kind.clone(), target)
        }
        // The scalar parsers use nom's complete ones, which never return this.
        nom::Err::Incomplete(_) => no_value(&[]),
    }
}

#[cfg(test)]
mod tests;

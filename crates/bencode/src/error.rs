//! The errors of the parser.

use crate::{KeyPath, Kind};

/// An error in bencoded bytes: what is wrong, at which byte, in which value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}{}: {kind}", .path.in_parentheses())]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// The offset of the error, in bytes from the start of the input.
    pub offset: usize,
    /// The value that has the error.
    pub path: KeyPath,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// Occurs when the input ends inside a value, for example without the `e` of a list.
    #[error("expected {expected}, got the end of the input")]
    UnexpectedEnd {
        /// What should follow.
        expected: &'static str,
    },
    /// Occurs when a byte can't start or continue the value.
    #[error("expected {expected}, got '{}'", .got.escape_ascii())]
    UnexpectedByte {
        /// What should be there.
        expected: &'static str,
        /// The byte that is there.
        got: u8,
    },
    /// Occurs when an integer or a length has a leading zero, as in `i03e` or `02:ab`.
    #[error("expected a number without leading zeros")]
    LeadingZero,
    /// Occurs for `i-0e`.
    #[error("expected 0, got -0")]
    NegativeZero,
    /// Occurs when an integer is below `i64::MIN` or above `u64::MAX`, or a length is above
    /// `u64::MAX`.
    #[error("expected a number that fits 64 bits, got one of {digits} digits")]
    Overflow {
        /// The number of digits.
        digits: usize,
    },
    /// Occurs when a byte string is longer than the rest of the input.
    #[error(
        "expected a byte string of length {length}, got the end of the input after {remaining}"
    )]
    LengthPastEnd {
        /// The length that the string claims.
        length: u64,
        /// The number of bytes left in the input.
        remaining: usize,
    },
    /// Occurs when a dictionary's key is not a byte string.
    #[error("expected a byte string as key, got '{}'", .got.escape_ascii())]
    KeyNotString {
        /// The byte where the key should start.
        got: u8,
    },
    /// Occurs when a dictionary ends after a key.
    #[error("expected a value for the key, got the end of the dictionary")]
    MissingValue,
    /// Occurs when a dictionary has the same key twice.
    #[error("expected each key once, got this one again")]
    DuplicateKey,
    /// Occurs in strict mode when a key sorts before the previous one.
    #[error("expected keys in order, got one that sorts before the previous key")]
    UnsortedKey,
    /// Occurs when bytes follow the value.
    #[error("expected the end of the input, got further data of length {count}")]
    TrailingBytes {
        /// The number of bytes that follow.
        count: usize,
    },
    /// Occurs when lists and dictionaries are nested too deeply.
    #[error("expected at most {limit} levels of lists and dictionaries, got more")]
    TooDeep {
        /// The limit in force.
        limit: usize,
    },
    /// Occurs when there are too many values.
    #[error("expected at most {limit} tokens, got more")]
    TooManyTokens {
        /// The limit in force.
        limit: usize,
    },
    /// Occurs when the input is longer than [`MAX_INPUT_LENGTH`](crate::MAX_INPUT_LENGTH).
    #[error("expected at most {limit} bytes, got {got}")]
    InputTooLong {
        /// The limit.
        limit: usize,
        /// The length of the input.
        got: usize,
    },
    /// Occurs when a dictionary lacks the key that the path ends with.
    #[error("expected this key, got none")]
    Missing,
    /// Occurs when a value is of another kind than wanted.
    #[error("expected {expected}, got {got}")]
    WrongKind {
        /// The kind that is wanted.
        expected: Kind,
        /// The kind of the value.
        got: Kind,
    },
    /// Occurs when a byte string that is wanted as text is not UTF-8.
    #[error("expected text in UTF-8, got other bytes")]
    NotUtf8,
    /// Occurs when a type does not take the value.
    #[error("{message}")]
    Refused {
        /// What the type says.
        message: Box<str>,
    },
}

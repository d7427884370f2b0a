//! A document's table has one entry per token: 8 bytes that say where it is and how to skip it.
//!
//! ```text
//! input   d 4:name 3:foo 5:sizes l i1e i20e e e
//! token   0 1      2     3       4 5   6    7 8
//! extra   8 4      3     5       7 1   2    0 0
//!         |                      `--- index of the end ---^
//!         `--- index of the end ------------------------------^
//! ```
//!
//! The byte at `offset` is the kind. `extra` is the length of a byte string's content, the length of
//! an integer's text, or the index of the end of a list or dictionary once the parser has read that.

use crate::Kind;

/// A value, a key, or the end of a list or dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// The offset of its first byte in the input.
    pub(crate) offset: u32,
    /// See the module's comment.
    pub(crate) extra: u32,
}

impl Token {
    pub(crate) fn new(offset: usize, extra: usize) -> Self {
        Self { offset: offset as u32, extra: extra as u32 }
    }

    /// Returns the kind of a value or key, `None` for the end of a list or dictionary.
    pub(crate) fn kind(self, input: &[u8]) -> Option<Kind> {
        match input.get(self.offset as usize)? {
            b'i' => Some(Kind::Integer),
            b'l' => Some(Kind::List),
            b'd' => Some(Kind::Dict),
            b'0'..=b'9' => Some(Kind::Bytes),
            _ => None,
        }
    }

    /// Returns the content of a byte string or key.
    pub(crate) fn content(self, input: &[u8]) -> &[u8] {
        let start = self.offset as usize + self.head_length();
        input.get(start..start + self.extra as usize).unwrap_or_default()
    }

    /// Returns how many bytes the length and colon before a byte string take. Lengths have no
    /// leading zeros, so the number tells how many digits it was written with.
    #[inline]
    pub(crate) fn head_length(self) -> usize {
        match self.extra {
            0..10 => 2,
            10..100 => 3,
            length => length.ilog10() as usize + 2,
        }
    }

    /// Returns the text of an integer.
    pub(crate) fn digits(self, input: &[u8]) -> &[u8] {
        let start = self.offset as usize + 1;
        input.get(start..start + self.extra as usize).unwrap_or_default()
    }
}

/// Returns the index of the token after the value at `index`.
pub(crate) fn after(tokens: &[Token], input: &[u8], index: usize) -> usize {
    match tokens.get(index) {
        Some(token) if matches!(token.kind(input), Some(Kind::List | Kind::Dict)) => {
            token.extra as usize + 1
        }
        _ => index + 1,
    }
}

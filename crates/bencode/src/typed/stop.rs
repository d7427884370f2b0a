//! Why reading a type stopped, before the parser adds where.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use crate::DecodeErrorKind;

/// An error on its way out of the types that are being read. Small, so that results are, too.
#[derive(Debug)]
pub(super) struct Stop(Option<Box<Refusal>>);

/// What a type refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: DecodeErrorKind,
    /// The offset of the value, unless it is still to be filled in.
    pub(super) offset: Option<usize>,
    /// The key that the value lacks.
    pub(super) key: Option<&'static str>,
}

impl Stop {
    /// The parser refuses these bytes and knows why.
    #[cold]
    pub(super) fn at_syntax() -> Self {
        Self(None)
    }

    #[cold]
    pub(super) fn new(kind: DecodeErrorKind) -> Self {
        Self(Some(Box::new(Refusal { kind, offset: None, key: None })))
    }

    /// Says that the value at `offset` is refused, unless a value in it was.
    #[cold]
    pub(super) fn at(mut self, offset: usize) -> Self {
        if let Some(refusal) = &mut self.0 {
            refusal.offset.get_or_insert(offset);
        }
        self
    }

    /// Returns what was refused; `None` if the parser knows.
    pub(super) fn refusal(self) -> Option<Box<Refusal>> {
        self.0
    }
}

impl Error for Stop {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(DecodeErrorKind::Refused { message: message.to_string().into() })
    }

    #[cold]
    fn invalid_type(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let got = match got {
            Unexpected::Bytes(_) | Unexpected::Str(_) => "a byte string",
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => "an integer",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a dictionary",
            other => return Self::custom(format_args!("expected {expected}, got {other}")),
        };
        Self::custom(format_args!("expected {expected}, got {got}"))
    }

    #[cold]
    fn invalid_value(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, got {got}"))
    }

    #[cold]
    fn invalid_length(got: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, got {got} of them"))
    }

    #[cold]
    fn missing_field(key: &'static str) -> Self {
        let kind = DecodeErrorKind::Missing;
        Self(Some(Box::new(Refusal { kind, offset: None, key: Some(key) })))
    }
}

impl std::error::Error for Stop {}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(refusal) => refusal.kind.fmt(f),
            None => f.write_str("expected bencode"),
        }
    }
}

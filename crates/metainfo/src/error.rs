//! The errors of the parser of `.torrent` files.

use bencode::{DecodeError, DecodeErrorKind, KeyPath, Kind, Value};
use bt_types::GeometryError;

use crate::paths::PathError;

/// Why the bytes are not an acceptable `.torrent` file: what is wrong, at which byte, under which
/// key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}{}: {kind}", .path.in_parentheses())]
pub struct MetainfoError {
    /// What is wrong.
    pub kind: MetainfoErrorKind,
    /// The offset of the error, in bytes from the start of the file.
    pub offset: usize,
    /// The path of the value that has the error.
    pub path: KeyPath,
}

/// What is wrong with a `.torrent` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoErrorKind {
    /// Occurs when the file is longer than [`MAX_METAINFO_LENGTH`](crate::MAX_METAINFO_LENGTH).
    #[error("expected at most {limit} bytes, got {got}")]
    TooLong {
        /// The limit.
        limit: usize,
        /// The length of the file.
        got: usize,
    },
    /// Occurs when the bytes are not bencode.
    #[error(transparent)]
    Bencode(#[from] DecodeErrorKind),
    /// Occurs when a required key is missing.
    #[error("expected the key '{key}', which is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// Occurs when a value is of the wrong kind.
    #[error("expected {expected}, got {got}")]
    WrongKind {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: Kind,
    },
    /// Occurs when a length is negative.
    #[error("expected a length of 0 or more bytes, got {got}")]
    NegativeLength {
        /// The number.
        got: i64,
    },
    /// Occurs when the piece length is zero or too large, or there are too many pieces.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Occurs when the lengths of the files do not fit 64 bits.
    #[error("expected files whose lengths add up to less than 2^64 bytes, got more")]
    TotalOverflow,
    /// Occurs when there are more or fewer piece hashes than pieces.
    #[error("expected piece hashes of length {expected} for data of length {total}, got {got}")]
    PiecesLength {
        /// 20 bytes for each piece.
        expected: u64,
        /// The size of the data.
        total: u64,
        /// The length of `pieces`.
        got: u64,
    },
    /// Occurs when `info` has neither `length` nor `files`.
    #[error("expected either 'length' or 'files', got neither")]
    NeitherLengthNorFiles,
    /// Occurs when `info` has both `length` and `files`.
    #[error("expected either 'length' or 'files', got both")]
    BothLengthAndFiles,
    /// Occurs when `files` is an empty list.
    #[error("expected at least one file, got an empty list")]
    NoFiles,
    /// Occurs when a name or path can't be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Occurs when the torrent is v2 only (BEP 52).
    #[error("expected a v1 or hybrid torrent, got a v2-only one, which is not supported yet")]
    OnlyV2,
    /// Occurs when the torrent has an unknown version (BEP 52).
    #[error("expected meta version 1 or 2, got {got}")]
    Version {
        /// The version.
        got: i64,
    },
}

impl MetainfoError {
    /// Returns an error at `value`.
    #[cold]
    pub(crate) fn at(value: Value<'_, '_>, kind: impl Into<MetainfoErrorKind>) -> Self {
        Self { kind: kind.into(), offset: value.offset(), path: value.path() }
    }

    /// Returns the error of a `value` that should be `expected`.
    #[cold]
    pub(crate) fn wrong_kind(value: Value<'_, '_>, expected: &'static str) -> Self {
        Self::at(value, MetainfoErrorKind::WrongKind { expected, got: value.kind() })
    }

    /// Returns the error of a dictionary `value` without `key`.
    #[cold]
    pub(crate) fn missing(value: Value<'_, '_>, key: &'static str) -> Self {
        Self::at(value, MetainfoErrorKind::Missing { key })
    }
}

impl From<DecodeError> for MetainfoError {
    fn from(error: DecodeError) -> Self {
        let DecodeError { kind, offset, path } = error;
        Self { kind: kind.into(), offset, path }
    }
}

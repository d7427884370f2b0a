//! Values to write. Their form is canonical by construction: keys are sorted and unique, numbers
//! have no leading zeros. Only [`Raw`] values keep the form they were read in.

use std::collections::BTreeMap;
use std::fmt;

use crate::{DecodeError, Value, parse};

/// A value that borrows nothing: it can be built, changed, kept and written.
///
/// ```
/// use bencode::{Owned, encode};
///
/// let files = Owned::list(["a", "b"].map(|name| Owned::dict([("path", name.into())])));
/// assert_eq!(encode(&files), b"ld4:path1:aed4:path1:bee");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owned {
    /// An integer.
    Integer(Integer),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Owned>),
    /// A dictionary.
    Dict(BTreeMap<Vec<u8>, Owned>),
    /// A value that [`encode`] writes exactly as it was read.
    Raw(Raw),
}

impl Owned {
    /// Makes a dictionary of `entries`, in any order. Of equal keys the last one counts.
    pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Owned)>) -> Self {
        entries.into_iter().collect()
    }

    /// Makes a list of `elements`.
    pub fn list(elements: impl IntoIterator<Item = Owned>) -> Self {
        elements.into_iter().collect()
    }
}

/// Returns the bytes of `value`.
pub fn encode(value: &Owned) -> Vec<u8> {
    let mut output = Vec::new();
    encode_into(value, &mut output);
    output
}

/// Appends the bytes of `value` to `output`.
pub fn encode_into(value: &Owned, output: &mut Vec<u8>) {
    match value {
        Owned::Integer(integer) => write_integer(*integer, output),
        Owned::Bytes(bytes) => write_bytes(bytes, output),
        Owned::List(elements) => {
            output.push(b'l');
            elements.iter().for_each(|element| encode_into(element, output));
            output.push(b'e');
        }
        Owned::Dict(entries) => {
            output.push(b'd');
            for (key, value) in entries {
                write_bytes(key, output);
                encode_into(value, output);
            }
            output.push(b'e');
        }
        Owned::Raw(raw) => output.extend_from_slice(&raw.0),
    }
}

/// Appends a byte string.
pub(crate) fn write_bytes(bytes: &[u8], output: &mut Vec<u8>) {
    write_digits(bytes.len() as u64, output);
    output.push(b':');
    output.extend_from_slice(bytes);
}

/// Appends an integer.
pub(crate) fn write_integer(integer: Integer, output: &mut Vec<u8>) {
    output.push(b'i');
    if integer.0 < 0 {
        output.push(b'-');
    }
    write_digits(integer.0.unsigned_abs() as u64, output);
    output.push(b'e');
}

fn write_digits(mut number: u64, output: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[start..]);
}

/// An integer of bencode: `i64::MIN` to `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Integer(i128);

impl Integer {
    /// Returns the negative integer of this magnitude, which the parser has checked.
    pub(crate) fn negative(magnitude: u64) -> Self {
        Self((-i128::from(magnitude)).max(i128::from(i64::MIN)))
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! integers {
    ($($from:ty),*) => {$(
        impl From<$from> for Integer {
            fn from(number: $from) -> Self {
                Self(i128::from(number))
            }
        }

        impl From<$from> for Owned {
            fn from(number: $from) -> Self {
                Self::Integer(number.into())
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

impl From<usize> for Owned {
    fn from(number: usize) -> Self {
        Self::Integer(Integer(number as i128))
    }
}

impl TryFrom<Integer> for i64 {
    type Error = std::num::TryFromIntError;

    fn try_from(integer: Integer) -> Result<Self, Self::Error> {
        integer.0.try_into()
    }
}

impl TryFrom<Integer> for u64 {
    type Error = std::num::TryFromIntError;

    fn try_from(integer: Integer) -> Result<Self, Self::Error> {
        integer.0.try_into()
    }
}

/// The unchanged bytes of exactly one value. For values whose digest is known, such as an `info`
/// dictionary.
///
/// ```
/// use bencode::{Owned, Raw, encode};
///
/// let info = Raw::new(b"d6:lengthi5ee".to_vec())?;
/// let torrent = Owned::dict([("info", Owned::Raw(info))]);
/// assert_eq!(encode(&torrent), b"d4:infod6:lengthi5eee");
/// # Ok::<(), bencode::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raw(Vec<u8>);

impl Raw {
    /// Checks that `bytes` are one value, and keeps them. Keys out of order stay so.
    ///
    /// # Errors
    /// If `bytes` are not one value; see [`DecodeErrorKind`](crate::DecodeErrorKind).
    pub fn new(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        parse(&bytes)?;
        Ok(Self(bytes))
    }

    /// The same, but keeps duplicate keys, too.
    #[cfg(feature = "serde")]
    pub(crate) fn with_duplicates(bytes: &[u8]) -> Result<Self, DecodeError> {
        crate::Options { max_duplicates: usize::MAX, ..crate::Options::new() }.parse(bytes)?;
        Ok(Self(bytes.to_vec()))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Value<'_, '_>> for Raw {
    fn from(value: Value<'_, '_>) -> Self {
        Self(value.raw().to_vec())
    }
}

impl From<&[u8]> for Owned {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Owned {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Owned {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&str> for Owned {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

impl From<String> for Owned {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes())
    }
}

impl FromIterator<Owned> for Owned {
    fn from_iter<I: IntoIterator<Item = Owned>>(elements: I) -> Self {
        Self::List(elements.into_iter().collect())
    }
}

impl<K: AsRef<[u8]>> FromIterator<(K, Owned)> for Owned {
    fn from_iter<I: IntoIterator<Item = (K, Owned)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        Self::Dict(entries.map(|(key, value)| (key.as_ref().to_vec(), value)).collect())
    }
}

//! Types that implement serde's traits, read from bencode and written as it. Feature `serde`.

mod owned;
mod read;
mod stop;
mod text;
mod write;

use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::Serialize;

use crate::{DecodeError, Options, Value};
pub use write::EncodeError;

/// The name by which [`Raw`](crate::Raw) tells the reader and the writer of this crate that it wants
/// the bytes of a whole value.
const RAW: &str = "$bencode::Raw";

/// Reads a `T` from the one value that `input` consists of. Feature `serde`.
///
/// - Strings and byte strings can be borrowed from `input`: `&str`, and `&[u8]` with
///   `#[serde(borrow)]` or serde_bytes.
/// - A byte string is also read as `[u8; N]` or `Vec<u8>`, `0` and `1` as `bool`, a missing key as
///   `None`, a unit variant of an enum from its name. Other variants, and tags, are as serde
///   describes them.
/// - Unknown keys are skipped, unless `T` denies them.
/// - [`Raw`](crate::Raw) takes the exact bytes of a value, for an info-hash for example.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Reply<'a> {
///     interval: u32,
///     #[serde(rename = "tracker id")]
///     tracker_id: Option<&'a str>,
///     peers: Vec<Peer<'a>>,
/// }
///
/// #[derive(serde::Deserialize)]
/// struct Peer<'a> {
///     ip: &'a str,
///     port: u16,
/// }
///
/// let reply: Reply = bencode::from_slice(
///     b"d8:intervali1800e5:peersld2:ip9:127.0.0.14:porti6881eeee",
/// )?;
/// assert_eq!((reply.interval, reply.tracker_id), (1800, None));
/// assert_eq!((reply.peers[0].ip, reply.peers[0].port), ("127.0.0.1", 6881));
///
/// let error = bencode::from_slice::<Reply>(b"d8:intervali60e5:peersld2:ip3:::1eee").err().unwrap();
/// assert_eq!(error.to_string(), "at byte 23 (peers[0].port): expected this key, got none");
/// # Ok::<(), bencode::DecodeError>(())
/// ```
///
/// # Errors
/// If `input` is not what [`parse()`](crate::parse()) accepts, its error; else, what `T` refuses, as
/// [`DecodeErrorKind::Missing`](crate::DecodeErrorKind::Missing) and the kinds after it.
pub fn from_slice<'de, T: Deserialize<'de>>(input: &'de [u8]) -> Result<T, DecodeError> {
    Options::new().read(input)
}

/// Returns the bytes of `value`, with the keys of each dictionary in order. Feature `serde`.
///
/// A sequence of `u8` that is not empty is written as a byte string, `bool` as `0` or `1`, a unit
/// variant of an enum as its name. `None` and `()` leave out the key that has them.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Query<'a> {
///     y: &'a str,
///     id: [u8; 3],
///     seed: Option<bool>,
/// }
///
/// let query = Query { y: "q", id: *b"abc", seed: None };
/// assert_eq!(bencode::to_vec(&query)?, b"d2:id3:abc1:y1:qe");
/// # Ok::<(), bencode::EncodeError>(())
/// ```
///
/// # Errors
/// See [`EncodeError`].
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    write::to_vec(value)
}

impl Options {
    /// Reads a `T` from the value at the start of `input` as [`from_slice`] does, with these limits.
    /// Trailing bytes are an error unless [`Self::allow_trailing`] is set. Of a duplicate key that is
    /// allowed the first value counts. Feature `serde`.
    ///
    /// # Errors
    /// See [`from_slice`].
    pub fn read<'de, T: Deserialize<'de>>(&self, input: &'de [u8]) -> Result<T, DecodeError> {
        read::read(*self, input)
    }
}

impl Value<'_, '_> {
    /// Reads a `T` from this value as [`from_slice`] does. Feature `serde`.
    ///
    /// # Errors
    /// What `T` refuses, with the offset and path in the whole document.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        let accepted = Options { max_duplicates: usize::MAX, ..Options::new() };
        read::read(accepted, self.raw()).map_err(|error| DecodeError {
            kind: error.kind,
            offset: self.offset() + error.offset,
            path: self.path().join(&error.path),
        })
    }
}

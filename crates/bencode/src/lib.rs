//! Bencode (BEP 3): a zero-copy parser whose errors say where, and an encoder that writes the
//! canonical form.
//!
//! In scope: the four kinds of value (integer, byte string, list, dictionary), the exact bytes of
//! any parsed value (an info-hash is a digest of them), and errors for everything BEP 3 forbids.
//! Out of scope: what the values mean, any I/O, any torrent.
//!
//! - [`parse()`] reads one value that fills the input. [`Options`] sets strictness and limits, and
//!   can read a value that is followed by something else.
//! - [`Document`] is a parsed input: its bytes and a flat table of tokens, 8 bytes per token.
//!   [`Value`], [`List`] and [`Dict`] are cheap, copyable views into it. [`OwnedDocument`] also
//!   owns the input.
//! - [`DecodeError`] says what the parser expected and what it got, at which byte, and under which
//!   [`KeyPath`] (`info.files[3].path`).
//! - [`Owned`] is a value to write; [`encode()`] writes it.
//! - With the feature `serde`, `from_slice` reads types that implement serde's `Deserialize`, with the
//!   same limits and errors, and `to_vec` writes types that implement `Serialize`.
//!
//! ```
//! let reply = b"d8:intervali1800e5:peersld2:ip9:127.0.0.14:porti6881eeee";
//! let document = bencode::parse(reply)?;
//! let reply = document.root().as_dict().expect("a dictionary");
//!
//! assert_eq!(reply.get("interval").and_then(|value| value.as_uint()), Some(1800));
//! for peer in reply.get("peers").and_then(|value| value.as_list()).expect("a list") {
//!     assert_eq!(peer.raw(), b"d2:ip9:127.0.0.14:porti6881ee");
//! }
//!
//! let error = bencode::parse(b"d5:peersli01eee").unwrap_err();
//! assert_eq!(error.to_string(), "at byte 10 (peers[0]): expected a number without leading zeros");
//!
//! let request = bencode::Owned::dict([("piece", 3.into()), ("msg_type", 0.into())]);
//! assert_eq!(bencode::encode(&request), b"d8:msg_typei0e5:piecei3ee");
//! # Ok::<(), bencode::DecodeError>(())
//! ```
//!
//! # Contract
//!
//! - The parser copies nothing, and allocates only the table and the list of duplicate keys.
//! - No input makes it panic. It refuses inputs that nest deeper than [`MAX_DEPTH`] or have more
//!   than [`MAX_TOKENS`] tokens.
//! - For every canonical input, `encode(&value.to_owned())` gives the same bytes. [`Raw`] values
//!   are written as they were read, canonical or not.
//! - Real torrents have keys out of order. The parser accepts and reports them
//!   ([`Document::unsorted`]), or refuses them in [strict mode](Options::strict).
//! - Real torrents have duplicate keys too. The parser refuses them, or accepts and reports a
//!   limited number ([`Options::max_duplicates`], [`Document::duplicates`]). The first value
//!   counts.
//!
//! Sources: BEP 3, "bencoding".

mod document;
mod encode;
mod error;
mod parse;
mod path;
mod scalar;
mod token;
#[cfg(feature = "serde")]
mod typed;
mod value;

pub use document::{Document, DuplicateKey, OwnedDocument};
pub use encode::{Integer, Owned, Raw, encode, encode_into};
pub use error::{DecodeError, DecodeErrorKind};
pub use parse::{MAX_DEPTH, MAX_INPUT_LENGTH, MAX_TOKENS, Options, parse};
pub use path::{KeyPath, PathStep};
#[cfg(feature = "serde")]
pub use typed::{EncodeError, from_slice, to_vec};
pub use value::{Dict, DictIter, Kind, List, ListIter, Value};

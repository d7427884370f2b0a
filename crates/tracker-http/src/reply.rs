//! The parts that announce and scrape replies share: the dictionary and the refusal (BEP 3,
//! "trackers").

use bencode::{DecodeError, Dict, Options, Value};

use crate::text::{MAX_TEXT_LENGTH, printable};

/// The longest start of a malformed reply that an error shows, in bytes.
pub(crate) const START_LENGTH: usize = 80;

/// Why a tracker's reply has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Occurs when the tracker sends a `failure reason`.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// The tracker's reason, safe to show.
        reason: String,
        /// Seconds until the client may ask again: the longest of `interval`, `min interval` and
        /// `retry in` (BEP 31) that is above 0. `None` if there is none; [`u32::MAX`] means never.
        retry_in: Option<u32>,
    },
    /// Occurs when the reply is not bencoded, for example a web page.
    #[error("expected a bencoded reply, got {start:?} ({error})")]
    NotBencode {
        /// The first bytes, at most 80, safe to show.
        start: String,
        /// Why the reply is not bencode.
        error: DecodeError,
    },
    /// Occurs when the reply is bencoded, but not a dictionary.
    #[error("expected a dictionary as the reply, got another bencoded value: {start:?}")]
    NotADictionary {
        /// The first bytes, at most 80, safe to show.
        start: String,
    },
    /// Occurs when a required key is missing.
    #[error("expected the key {key:?} in the reply, got none")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// Occurs when the value of a required key is of the wrong kind.
    #[error("expected {expected} under the key {key:?} of the reply, got another kind of value")]
    WrongKind {
        /// The key.
        key: &'static str,
        /// The kind that was expected.
        expected: &'static str,
    },
}

/// Calls `read` with the dictionary in `bytes`. Ignores bytes after the dictionary, because some
/// trackers end their reply with a newline, and all but the first value of a duplicate key.
///
/// # Errors
/// `bytes` are not a dictionary, the tracker refused, or `read` failed.
pub(crate) fn read_dictionary<T>(
    bytes: &[u8],
    read: impl FnOnce(Dict<'_, '_>) -> Result<T, ReplyError>,
) -> Result<T, ReplyError> {
    let start = || printable(bytes, START_LENGTH);
    let options = Options { allow_trailing: true, max_duplicates: usize::MAX, ..Options::new() };
    let document =
        options.parse(bytes).map_err(|error| ReplyError::NotBencode { start: start(), error })?;
    let Some(root) = document.root().as_dict() else {
        return Err(ReplyError::NotADictionary { start: start() });
    };
    match root.get("failure reason") {
        Some(reason) => Err(failure(reason, root)),
        None => read(root),
    }
}

fn failure(reason: Value<'_, '_>, root: Dict<'_, '_>) -> ReplyError {
    let reason = match reason.as_bytes().unwrap_or_default() {
        [] => "no reason given".to_owned(),
        bytes => printable(bytes, MAX_TEXT_LENGTH),
    };
    let waits = [wait(root, "interval"), wait(root, "min interval"), retry_in(root)];
    ReplyError::Failure { reason, retry_in: waits.into_iter().flatten().max() }
}

/// Returns the value of `retry in` in seconds. It holds minutes, or the word "never" (BEP 31).
fn retry_in(root: Dict<'_, '_>) -> Option<u32> {
    let value = root.get("retry in")?;
    let minutes = match value.as_str().map(str::trim) {
        Some(text) if text.eq_ignore_ascii_case("never") => return Some(u32::MAX),
        Some(text) => text.parse::<u64>().ok()?.min(u32::MAX.into()) as u32,
        None => clamped(value)?,
    };
    Some(minutes.saturating_mul(60)).filter(|seconds| *seconds > 0)
}

/// Returns the seconds under `key`; `None` if they are not above 0.
pub(crate) fn wait(root: Dict<'_, '_>, key: &str) -> Option<u32> {
    root.get(key).and_then(clamped).filter(|seconds| *seconds > 0)
}

/// Returns the number under `key`, clamped to the range of a `u32`.
pub(crate) fn count(root: Dict<'_, '_>, key: &str) -> Option<u32> {
    root.get(key).and_then(clamped)
}

fn clamped(value: Value<'_, '_>) -> Option<u32> {
    match (value.as_int(), value.as_uint()) {
        (Some(number), _) => Some(number.clamp(0, i64::from(u32::MAX)) as u32),
        (None, Some(_)) => Some(u32::MAX),
        (None, None) => None,
    }
}

/// Returns the text under `key`, safe to show.
pub(crate) fn text(root: Dict<'_, '_>, key: &str) -> Option<String> {
    let bytes = root.get(key)?.as_bytes()?;
    Some(printable(bytes, MAX_TEXT_LENGTH))
}

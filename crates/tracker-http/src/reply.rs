//! What announce and scrape replies have in common: a dictionary, in which a refusal comes first
//! (BEP 3, "trackers").

use bencode::{DecodeError, Dict, Options, Value};

use crate::text::{MAX_TEXT_LENGTH, printable};

/// How much of a reply that is not bencoded is shown, in bytes.
pub(crate) const START_LENGTH: usize = 80;

/// Why a tracker's reply gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Occurs when the tracker sends a `failure reason`.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// What the tracker says, safe to show.
        reason: String,
        /// Seconds after which it may be asked again, if it says so: the longest of `interval`,
        /// `min interval` and `retry in` (BEP 31), of which 0 and less count for nothing;
        /// [`u32::MAX`] for never.
        retry_in: Option<u32>,
    },
    /// Occurs when the reply is not bencoded, for example a web page.
    #[error("expected a bencoded reply, got {start:?} ({error})")]
    NotBencode {
        /// The first bytes, at most 80, safe to show.
        start: String,
        /// Where the reply breaks the rules.
        error: DecodeError,
    },
    /// Occurs when the reply is bencoded, but no dictionary.
    #[error("expected a dictionary as the reply, got another bencoded value: {start:?}")]
    NotADictionary {
        /// The first bytes, at most 80, safe to show.
        start: String,
    },
    /// Occurs when a key is missing without which the reply is of no use.
    #[error("expected the key {key:?} in the reply, got none")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// Occurs when the value of such a key is of another kind.
    #[error("expected {expected} under the key {key:?} of the reply, got another kind of value")]
    WrongKind {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// Runs `read` on the dictionary that `bytes` hold. What follows it is ignored: some trackers end
/// their reply with a new line. So are further values of a key.
///
/// # Errors
/// No dictionary; a refusal; what `read` finds.
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

/// The seconds that `retry in` says: minutes, or the word "never" (BEP 31).
fn retry_in(root: Dict<'_, '_>) -> Option<u32> {
    let value = root.get("retry in")?;
    let minutes = match value.as_str().map(str::trim) {
        Some(text) if text.eq_ignore_ascii_case("never") => return Some(u32::MAX),
        Some(text) => text.parse::<u64>().ok()?.min(u32::MAX.into()) as u32,
        None => clamped(value)?,
    };
    Some(minutes.saturating_mul(60)).filter(|seconds| *seconds > 0)
}

/// How long to wait, in seconds, as `key` says. 0 and less say nothing.
pub(crate) fn wait(root: Dict<'_, '_>, key: &str) -> Option<u32> {
    root.get(key).and_then(clamped).filter(|seconds| *seconds > 0)
}

/// The number of something under `key`; out-of-range ones are brought in.
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

/// The text under `key`, safe to show.
pub(crate) fn text(root: Dict<'_, '_>, key: &str) -> Option<String> {
    let bytes = root.get(key)?.as_bytes()?;
    Some(printable(bytes, MAX_TEXT_LENGTH))
}

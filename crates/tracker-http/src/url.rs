//! Tracker URLs: parsing them, adding a query, shortening them for display.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_encode};
use url::Url;

use crate::text::printable;

/// Why a text is not the URL of an HTTP tracker, or not one that can be scraped. Never shows the
/// URL, which may hold a passkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Occurs when the text is not a URL.
    #[error("expected an address like http://host/announce, got one that is no URL: {reason}")]
    Syntax {
        /// The URL parser's error.
        reason: String,
    },
    /// Occurs when the URL has another scheme.
    #[error("expected an http:// or https:// address, got {got}://")]
    Scheme {
        /// The scheme that was given.
        got: String,
    },
    /// Occurs when the path of an announce URL has no `announce`, which a scrape needs (BEP 48).
    #[error("the tracker cannot be scraped: its URL has no \"announce\" in the path")]
    NoScrape,
}

/// The bytes to escape in a query value: all but the unreserved ones of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A path segment of at least this length may be a passkey, in characters.
const SECRET_SEGMENT_LENGTH: usize = 16;
/// A query value of at least this length may be a passkey, in characters.
const SECRET_VALUE_LENGTH: usize = 8;
/// How much of a passkey is shown, in characters, so that a person can recognise it.
const SHOWN_LENGTH: usize = 4;
/// The longest URL that is shown, in bytes.
const MAX_SHOWN_URL: usize = 200;

/// Returns `url` in a form that is safe to show and log. Leaves out the user name, the password and
/// the fragment; shortens path segments and query values that may be passkeys; cuts the whole to
/// 200 bytes. Works on any text and any scheme.
///
/// ```
/// let url = "https://t.example/0123456789abcdef0123/announce?auth=secretsecret&compact=1";
/// assert_eq!(tracker_http::shorten_url(url), "https://t.example/0123../announce?auth=secr..&compact=1");
/// ```
pub fn shorten_url(url: &str) -> String {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, query) = split_before(rest, '?');
    let (authority, path) = split_before(rest, '/');
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut shown = String::with_capacity(url.len());
    if !scheme.is_empty() {
        shown.extend([scheme, "://"]);
    }
    if !userinfo.is_empty() {
        shown.push_str("..@");
    }
    shown.push_str(host);
    for segment in path.split('/').skip(1) {
        shown.push('/');
        push_shortened(segment, SECRET_SEGMENT_LENGTH, &mut shown);
    }
    for (number, pair) in query.trim_start_matches('?').split('&').enumerate() {
        let (key, value) = split_before(pair, '=');
        if !pair.is_empty() {
            shown.push(if number == 0 { '?' } else { '&' });
        }
        let key_limit = if value.is_empty() { SECRET_VALUE_LENGTH } else { SECRET_SEGMENT_LENGTH };
        push_shortened(key, key_limit, &mut shown);
        // `value` begins with the equals sign.
        push_shortened(value, SECRET_VALUE_LENGTH + 1, &mut shown);
    }
    printable(shown.as_bytes(), MAX_SHOWN_URL)
}

/// Splits `text` before the first `mark`.
fn split_before(text: &str, mark: char) -> (&str, &str) {
    text.split_at(text.find(mark).unwrap_or(text.len()))
}

fn push_shortened(text: &str, limit: usize, shown: &mut String) {
    if text.chars().count() < limit {
        shown.push_str(text);
        return;
    }
    let kept = SHOWN_LENGTH + usize::from(text.starts_with('='));
    shown.extend(text.chars().take(kept));
    shown.push_str("..");
}

/// Parses an http or https URL.
pub(crate) fn parse(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|error| UrlError::Syntax { reason: error.to_string() })?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(UrlError::Scheme { got: other.to_owned() }),
    }
}

/// Returns `url` with `pairs` appended to its query. The pairs must be escaped already.
pub(crate) fn with_query(mut url: Url, pairs: &str) -> String {
    let query = match url.query() {
        Some(query) if !query.is_empty() && !pairs.is_empty() => format!("{query}&{pairs}"),
        Some(query) if pairs.is_empty() => query.to_owned(),
        _ => pairs.to_owned(),
    };
    url.set_query((!query.is_empty()).then_some(&query));
    url.set_fragment(None);
    url.into()
}

/// Escapes `bytes` for use as a query value.
pub(crate) fn escape(bytes: &[u8]) -> PercentEncode<'_> {
    percent_encode(bytes, ESCAPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str) {
        assert_eq!(shorten_url(url), shown);
    }

    #[test]
    fn url_without_secrets_stays() {
        check("http://tracker.example:6969/announce", "http://tracker.example:6969/announce");
        check("udp://[::1]:80", "udp://[::1]:80");
        check("http://t.example/announce.php?x=1&y&z=", "http://t.example/announce.php?x=1&y&z=");
        check("http://t.example/?", "http://t.example/");
        check("", "");
        check("no url at all", "no url at all");
    }

    #[test]
    fn secrets_are_cut() {
        check("http://t/0123456789abcdef/announce", "http://t/0123../announce");
        check("http://t/announce?passkey=0123456789", "http://t/announce?passkey=0123..");
        check("http://t/announce?0123456789abcdef", "http://t/announce?0123..");
        check("http://me:secret@t/announce", "http://..@t/announce");
        check("udp://t:80/0123456789abcdef?a=0123456789", "udp://t:80/0123..?a=0123..");
        check("http://t/a#0123456789", "http://t/a");
    }

    #[test]
    fn control_characters_are_removed() {
        check("http://t/\u{1b}[2J", "http://t/ [2J");
        assert!(shorten_url(&format!("http://t{}", "/x".repeat(1000))).len() <= MAX_SHOWN_URL);
    }

    #[test]
    fn only_http_schemes_are_accepted() {
        assert!(parse("HTTPS://t.example/announce").is_ok());
        assert_eq!(parse("udp://t:1"), Err(UrlError::Scheme { got: "udp".into() }));
        assert_eq!(parse("file:///etc/passwd"), Err(UrlError::Scheme { got: "file".into() }));
        assert!(matches!(parse("http://"), Err(UrlError::Syntax { .. })));
        assert!(matches!(parse("tracker"), Err(UrlError::Syntax { .. })));
    }
}

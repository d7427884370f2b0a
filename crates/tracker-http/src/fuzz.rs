//! What must hold for any bytes at all. Run by the fuzzer, and by ordinary tests.

use bt_types::{AnnounceRequest, InfoHashV1, PeerId};

use crate::announce::{MAX_PEERS, announce_url, parse_announce};
use crate::reply::{ReplyError, START_LENGTH};
use crate::scrape::{parse_scrape, scrape_url};
use crate::text::MAX_TEXT_LENGTH;
use crate::url::shorten_url;

/// Takes `data` for the reply to an announce, and asserts what the crate promises about the outcome.
///
/// # Panics
/// If a promise is broken.
pub fn announce(data: &[u8]) {
    match parse_announce(data) {
        Ok(reply) => {
            assert!(reply.peers.len() <= MAX_PEERS);
            assert!(i32::try_from(reply.interval).is_ok_and(|seconds| seconds > 0));
            assert_ne!(reply.min_interval, Some(0));
            reply.warning.iter().for_each(|text| check_shown(text, MAX_TEXT_LENGTH));
        }
        Err(ReplyError::Failure { reason, retry_in }) => {
            check_shown(&reason, MAX_TEXT_LENGTH);
            assert_ne!(retry_in, Some(0));
            assert!(matches!(parse_scrape(data), Err(ReplyError::Failure { .. })));
        }
        Err(ReplyError::NotBencode { start, .. } | ReplyError::NotADictionary { start }) => {
            check_shown(&start, START_LENGTH);
        }
        Err(error) => panic!("an odd value spoils the reply: {error}"),
    }
}

/// Takes `data` for the reply to a scrape, and asserts what the crate promises about the outcome.
///
/// # Panics
/// If a promise is broken.
pub fn scrape(data: &[u8]) {
    match parse_scrape(data) {
        // Each has its 20 bytes of key.
        Ok(entries) => assert!(entries.len() <= data.len() / 20),
        Err(ReplyError::Failure { reason, .. }) => check_shown(&reason, MAX_TEXT_LENGTH),
        Err(_) => {}
    }
}

/// Takes `data` for a tracker's URL, and what follows the first line for where it redirects to.
///
/// # Panics
/// If a promise is broken.
pub fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (text, location) = text.split_once('\n').unwrap_or((text, ""));
    check_url(text);
    #[cfg(feature = "client")]
    if let Ok(from) = crate::url::parse(text)
        && let Ok(to) = crate::client::redirected(&from, location)
    {
        assert!(matches!(to.scheme(), "http" | "https") && to.has_host(), "{to}");
    }
    check_shown(&shorten_url(location), MAX_TEXT_LENGTH);
}

fn check_shown(text: &str, length: usize) {
    assert!(text.len() <= length && !text.contains(char::is_control), "{text:?}");
}

fn check_url(text: &str) {
    check_shown(&shorten_url(text), MAX_TEXT_LENGTH);
    let request = AnnounceRequest::new(InfoHashV1([b'h'; 20]), PeerId([b'p'; 20]));
    let hash = format!("info_hash={}", "h".repeat(20));
    if let Ok(url) = announce_url(text, &request) {
        assert!(url.contains(&hash) && url.starts_with("http"));
        // It is a URL that is not changed by being read again.
        assert!(announce_url(&url, &request).is_ok_and(|again| again.starts_with(&url)));
    }
    if let Ok(url) = scrape_url(text, &[request.info_hash]) {
        assert!(url.contains("scrape") && url.ends_with(&hash), "{url}");
    }
}

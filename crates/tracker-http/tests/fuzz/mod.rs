//! The fuzz targets: each takes any bytes and panics if the crate breaks a promise.

use bt_types::{AnnounceRequest, InfoHashV1, PeerId};
use tracker_http::{
    MAX_PEERS, MAX_TEXT_LENGTH, ReplyError, announce_url, parse_announce, parse_scrape, scrape_url,
    shorten_url,
};

/// The longest start of a malformed reply that an error shows, in bytes.
const START_LENGTH: usize = 80;

/// Reads `data` as the reply to an announce.
pub(crate) fn announce(data: &[u8]) {
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
        Err(error) => panic!("an odd value makes the reply unusable: {error}"),
    }
}

/// Reads `data` as the reply to a scrape.
pub(crate) fn scrape(data: &[u8]) {
    match parse_scrape(data) {
        // Each entry has its 20 bytes of key.
        Ok(entries) => assert!(entries.len() <= data.len() / 20),
        Err(ReplyError::Failure { reason, .. }) => check_shown(&reason, MAX_TEXT_LENGTH),
        Err(_) => {}
    }
}

/// Reads the first line of `data` as a tracker's URL, and shortens the rest as another URL.
pub(crate) fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (text, rest) = text.split_once('\n').unwrap_or((text, ""));
    check_url(text);
    check_shown(&shorten_url(rest), MAX_TEXT_LENGTH);
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
        // Parsing the URL again does not change it.
        assert!(announce_url(&url, &request).is_ok_and(|again| again.starts_with(&url)));
    }
    if let Ok(url) = scrape_url(text, &[request.info_hash]) {
        assert!(url.contains("scrape") && url.ends_with(&hash), "{url}");
    }
}

//! What the user is shown of trackers that did not help.

use session::TrackerStatus;

use crate::failure::without_code;

/// Returns a line for each tracker that failed or has not answered yet, once even if a torrent
/// names it in several tiers. While one answers, the others are not asked.
pub(super) fn errors(trackers: &[TrackerStatus]) -> Vec<String> {
    let one_answers = trackers.iter().any(|tracker| tracker.result == Some(Ok(())));
    let mut lines = Vec::new();
    for TrackerStatus { url, result } in trackers {
        let error = match result {
            Some(Ok(())) => continue,
            Some(Err(error)) => &without_code(error),
            None if one_answers => continue,
            None => "no answer yet",
        };
        let line = format!("{}: {error}", tracker_http::shorten_url(url));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

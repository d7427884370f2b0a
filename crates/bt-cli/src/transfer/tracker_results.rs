//! What the trackers of a torrent answered last.

use std::collections::{BTreeMap, BTreeSet};

use session::TorrentStatus;
use session::limits::MAX_TRACKERS;

use crate::failure::without_code;

/// The trackers of a torrent, and the last result of each that answered or failed.
pub(super) struct TrackerResults<'a> {
    tiers: &'a [Vec<String>],
    results: BTreeMap<&'a str, &'a Result<(), String>>,
}

impl<'a> TrackerResults<'a> {
    pub(super) fn new(tiers: &'a [Vec<String>], status: &'a TorrentStatus) -> Self {
        let results = status.trackers.iter().map(|(url, result)| (url.as_str(), result));
        Self { tiers, results: results.collect() }
    }

    /// Whether the torrent names no tracker.
    pub(super) fn names_none(&self) -> bool {
        self.urls().next().is_none()
    }

    /// Whether no tracker has answered or failed yet.
    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Whether every tracker failed, or there is none.
    pub(super) fn all_failed(&self) -> bool {
        self.urls().all(|url| matches!(self.results.get(url), Some(Err(_))))
    }

    /// Whether no further tracker is asked now: one answered, or all failed.
    pub(super) fn all_done(&self) -> bool {
        self.has_answer() || self.all_failed()
    }

    /// Returns a line for each tracker that failed or has not answered yet.
    pub(super) fn errors(&self) -> impl Iterator<Item = String> {
        let failed =
            self.results.iter().filter_map(|(url, result)| Some((url, result.as_ref().err()?)));
        let failed = failed.map(|(url, error)| line(url, &without_code(error)));
        failed.chain(self.silent().into_iter().map(|url| line(url, "no answer yet")))
    }

    /// Returns the trackers without a result. While one answers, the others are not asked.
    fn silent(&self) -> BTreeSet<&'a str> {
        if self.has_answer() {
            return BTreeSet::new();
        }
        // A torrent may name a tracker in several tiers.
        self.urls().filter(|url| !self.results.contains_key(url)).collect()
    }

    fn has_answer(&self) -> bool {
        self.results.values().any(|result| result.is_ok())
    }

    /// Returns the trackers that the session uses.
    fn urls(&self) -> impl Iterator<Item = &'a str> {
        self.tiers.iter().flatten().take(MAX_TRACKERS).map(String::as_str)
    }
}

fn line(url: &str, error: &str) -> String {
    format!("{}: {error}", tracker_http::shorten_url(url))
}

//! News about trackers: each trouble is shown once, not at every announce.

use std::collections::BTreeMap;

use session::TorrentKey;

/// The state of each tracker of each torrent that was shown last.
#[derive(Debug, Default)]
pub(super) struct TrackerNews {
    /// Its error or its warning; `None` while all is well.
    last: BTreeMap<(TorrentKey, String), Option<String>>,
}

/// A change of a tracker's state that the user does not know yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The tracker failed, refused or warned, with this message.
    Trouble(String),
    /// The tracker answers again without complaint.
    Recovered,
}

impl TrackerNews {
    /// Takes note of an answer's `trouble`. Returns what is new; `None` if it was said before.
    pub(super) fn note(
        &mut self,
        torrent: TorrentKey,
        url: &str,
        trouble: Option<String>,
    ) -> Option<News> {
        let before = self.last.insert((torrent, url.to_owned()), trouble.clone());
        match (before.flatten(), trouble) {
            (None, None) => None,
            (Some(_), None) => Some(News::Recovered),
            (before, Some(trouble)) if before.as_ref() == Some(&trouble) => None,
            (_, Some(trouble)) => Some(News::Trouble(trouble)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_once_per_change() {
        let mut news = TrackerNews::default();
        let trouble = |text: &str| Some(News::Trouble(text.to_owned()));
        for (torrent, url, answer, expected) in [
            (1, "a", Some("refused"), trouble("refused")),
            (1, "a", Some("refused"), None),
            (1, "b", Some("refused"), trouble("refused")),
            (2, "a", Some("refused"), trouble("refused")),
            (1, "a", Some("unreachable"), trouble("unreachable")),
            (1, "a", None, Some(News::Recovered)),
            (1, "a", None, None),
            (1, "a", Some("refused"), trouble("refused")),
            (3, "a", None, None),
        ] {
            let got = news.note(TorrentKey(torrent), url, answer.map(str::to_owned));
            assert_eq!(got, expected, "{torrent} {url} {answer:?}");
        }
    }
}

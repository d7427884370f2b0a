//! News about trackers: each failure and each warning is shown once, not after every announce.

use std::collections::BTreeMap;

use session::TorrentKey;

/// The last failure and warning of each tracker that were shown.
#[derive(Debug, Default)]
pub(super) struct TrackerNews {
    records: BTreeMap<(TorrentKey, String), TrackerRecord>,
}

/// The last failure and warning of one tracker that were shown.
#[derive(Debug, Default)]
struct TrackerRecord {
    /// The error; `None` once the tracker answers.
    failure: Option<String>,
    /// The newest warning. A later reply without one does not remove it.
    warning: Option<String>,
}

/// A change of a tracker's state that the user does not know yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The tracker failed or refused, with this message.
    Failed(String),
    /// The tracker answers, with this warning.
    Warned(String),
    /// The tracker answers after a failure.
    Recovered,
}

impl TrackerNews {
    /// Records the warning of an answer, or why there is no answer. Returns what is new about the
    /// tracker.
    pub(super) fn note(
        &mut self,
        torrent: TorrentKey,
        url: &str,
        answer: Result<Option<String>, String>,
    ) -> Option<News> {
        let record = self.records.entry((torrent, url.to_owned())).or_default();
        match answer {
            Err(failure) if record.failure.as_ref() == Some(&failure) => None,
            Err(failure) => {
                record.failure = Some(failure.clone());
                Some(News::Failed(failure))
            }
            Ok(warning) => {
                let has_recovered = record.failure.take().is_some();
                let warning = warning.filter(|text| record.warning.as_ref() != Some(text));
                if let Some(text) = warning {
                    record.warning = Some(text.clone());
                    return Some(News::Warned(text));
                }
                has_recovered.then_some(News::Recovered)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u64, &'static str, Result<Option<&'static str>, &'static str>, Option<News>);

    #[track_caller]
    fn check(rows: impl IntoIterator<Item = Row>) {
        let mut news = TrackerNews::default();
        for (at, (torrent, url, answer, expected)) in rows.into_iter().enumerate() {
            let given = answer.map(|text| text.map(str::to_owned)).map_err(str::to_owned);
            let got = news.note(TorrentKey(torrent), url, given);
            assert_eq!(got, expected, "row {at}: {torrent} {url} {answer:?}");
        }
    }

    fn failed(text: &str) -> Option<News> {
        Some(News::Failed(text.to_owned()))
    }

    fn warned(text: &str) -> Option<News> {
        Some(News::Warned(text.to_owned()))
    }

    #[test]
    fn failure_is_news_once_per_change() {
        check([
            (1, "a", Err("refused"), failed("refused")),
            (1, "a", Err("refused"), None),
            (1, "b", Err("refused"), failed("refused")),
            (2, "a", Err("refused"), failed("refused")),
            (1, "a", Err("unreachable"), failed("unreachable")),
            (1, "a", Ok(None), Some(News::Recovered)),
            (1, "a", Ok(None), None),
            (1, "a", Err("refused"), failed("refused")),
            (3, "a", Ok(None), None),
        ]);
    }

    #[test]
    fn warning_is_news_once_per_text() {
        check([
            (1, "a", Ok(Some("slow")), warned("slow")),
            (1, "a", Ok(Some("slow")), None),
            // A tracker that no longer warns did not fail before.
            (1, "a", Ok(None), None),
            (1, "a", Ok(Some("slow")), None),
            (1, "a", Ok(Some("slower")), warned("slower")),
            (1, "a", Ok(Some("slow")), warned("slow")),
            (1, "b", Ok(Some("slow")), warned("slow")),
            // The same text is news as an error, but not when it is the old warning.
            (1, "a", Err("slow"), failed("slow")),
            (1, "a", Ok(Some("slow")), Some(News::Recovered)),
            (1, "a", Err("refused"), failed("refused")),
            (1, "a", Ok(Some("soon")), warned("soon")),
            (1, "a", Ok(None), None),
        ]);
    }
}

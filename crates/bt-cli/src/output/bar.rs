//! A progress bar as one line that fits the terminal: a line that wraps can't be erased again.

use console::Alignment::Left;
use console::{measure_text_width, pad_str, truncate_str};

use super::style::Charset;

/// The least width of a line that has a bar. A narrower line has words only.
const BAR_FROM_WIDTH: usize = 78;
/// Columns for the name.
const NAME_WIDTH: usize = 16;
/// Columns that the words take at least, so that the bar keeps its length while they change.
const LEAST_WORDS: usize = 46;
/// Columns that the words take at most: the rest is a short bar.
const MOST_WORDS: usize = 53;
/// Columns for `100%` and the spaces around it.
const PERCENT_WIDTH: usize = 7;

/// The content of a progress bar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar<'a> {
    /// The name of the torrent or task.
    pub(crate) name: &'a str,
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// The text after the bar.
    pub(crate) words: &'a str,
}

impl Bar<'_> {
    /// Returns a line of at most `width` columns.
    pub(super) fn line(&self, width: usize, charset: Charset) -> String {
        let cut = |text: &str, width| {
            let rest = charset.ellipsis();
            let rest = if measure_text_width(rest) > width { "" } else { rest };
            truncate_str(text, width, rest).into_owned()
        };
        let percent = percent(self.done, self.total);
        if width < BAR_FROM_WIDTH {
            let name = cut(self.name, NAME_WIDTH.min(width / 3));
            return cut(&format!("{name} {percent:>3}%  {}", self.words), width);
        }
        let name = cut(self.name, NAME_WIDTH);
        let words = cut(self.words, MOST_WORDS);
        let words_width = measure_text_width(&words).max(LEAST_WORDS);
        let length = width - NAME_WIDTH - 1 - PERCENT_WIDTH - words_width;
        let (name, drawn) = (pad_str(&name, NAME_WIDTH, Left, None), self.drawn(length, charset));
        format!("{name} {drawn} {percent:>3}%  {words}")
    }

    /// Returns the bar alone, of `length` columns.
    fn drawn(&self, length: usize, charset: Charset) -> String {
        let (full, half) = match charset {
            Charset::Unicode => ('━', '╸'),
            Charset::Ascii => ('=', '-'),
        };
        let halves = (u128::from(self.done) * 2 * length as u128).checked_div(self.total.into());
        let halves = halves.map_or(2 * length, |halves| (halves as usize).min(2 * length));
        let mut drawn: String = std::iter::repeat_n(full, halves / 2).collect();
        drawn.extend((halves % 2 == 1).then_some(half));
        pad_str(&drawn, length, Left, None).into_owned()
    }
}

/// Returns how much `done` is of `total`, in percent, rounded down. Nothing to do is all done.
pub(crate) fn percent(done: u64, total: u64) -> u64 {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total));
    percent.map_or(100, |percent| percent.min(100) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "21.2 MiB/s, 1h 05m left, peers 12/200, pieces 35600/40000";

    fn line(width: usize, charset: Charset, name: &str, words: &str) -> String {
        Bar { name, done: 89, total: 100, words }.line(width, charset)
    }

    #[test]
    fn lines_fit_the_terminal() {
        for width in 1..200 {
            for charset in [Charset::Unicode, Charset::Ascii] {
                for name in
                    ["", "demo", "a name that is longer than its columns", "東京の写真とビデオ"]
                {
                    for words in ["", "opening", WORDS] {
                        let line = line(width, charset, name, words);
                        let columns = measure_text_width(&line);
                        assert!(columns <= width, "{columns} of {width}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn line_fits_its_terminal() {
        let rows = [
            (18, Charset::Unicode, "demo  89%  21.2 M…"),
            (38, Charset::Unicode, "demo  89%  21.2 MiB/s, 1h 05m left, p…"),
            (38, Charset::Ascii, "demo  89%  21.2 MiB/s, 1h 05m left, .."),
        ];
        for (width, charset, expected) in rows {
            assert_eq!(line(width, charset, "demo", WORDS), expected);
        }
        let wide = line(78, Charset::Unicode, "demo", "opening");
        assert_eq!(wide, "demo             ━━━━━━━   89%  opening");
        let ascii = line(78, Charset::Ascii, "demo", "opening");
        assert_eq!(ascii, "demo             =======   89%  opening");
    }

    #[test]
    fn percent_is_bounded() {
        for (done, total, expected) in [
            (0, 0, 100),
            (0, 7, 0),
            (6, 7, 85),
            (7, 7, 100),
            (9, 7, 100),
            (u64::MAX - 1, u64::MAX, 99),
        ] {
            assert_eq!(percent(done, total), expected);
        }
    }
}

//! A progress bar as one line that fits the terminal. A line that wraps can't be erased.

use console::Alignment::Left;
use console::{measure_text_width, pad_str, truncate_str};

use super::style::Charset;

/// The least width of a line with a bar. A narrower line has only text.
const MIN_BAR_LINE_WIDTH: usize = 78;
/// Columns for the name.
const NAME_WIDTH: usize = 16;
/// The least columns for the text, so that the bar keeps its length while the text changes.
const MIN_TEXT_WIDTH: usize = 46;
/// The most columns for the text. The rest is a short bar.
const MAX_TEXT_WIDTH: usize = 53;
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
    pub(crate) text: &'a str,
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
        if width < MIN_BAR_LINE_WIDTH {
            let name = cut(self.name, NAME_WIDTH.min(width / 3));
            return cut(&format!("{name} {percent:>3}%  {}", self.text), width);
        }
        let name = cut(self.name, NAME_WIDTH);
        let text = cut(self.text, MAX_TEXT_WIDTH);
        let text_width = measure_text_width(&text).max(MIN_TEXT_WIDTH);
        let length = width - NAME_WIDTH - 1 - PERCENT_WIDTH - text_width;
        let (name, drawn) = (pad_str(&name, NAME_WIDTH, Left, None), self.drawn(length, charset));
        format!("{name} {drawn} {percent:>3}%  {text}")
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

/// Returns how much `done` is of `total`, in percent, rounded down; 100 if `total` is 0.
pub(crate) fn percent(done: u64, total: u64) -> u64 {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total));
    percent.map_or(100, |percent| percent.min(100) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "21.2 MiB/s, 1h 05m left, peers 12/200, pieces 35600/40000";

    fn line(width: usize, charset: Charset, name: &str, text: &str) -> String {
        Bar { name, done: 89, total: 100, text }.line(width, charset)
    }

    #[test]
    fn lines_fit_any_width() {
        for width in 1..200 {
            for charset in [Charset::Unicode, Charset::Ascii] {
                for name in
                    ["", "demo", "a name that is longer than its columns", "東京の写真とビデオ"]
                {
                    for text in ["", "opening", TEXT] {
                        let line = line(width, charset, name, text);
                        let columns = measure_text_width(&line);
                        assert!(columns <= width, "{columns} of {width}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn text_is_cut_bar_is_drawn() {
        let rows = [
            (18, Charset::Unicode, "demo  89%  21.2 M…"),
            (38, Charset::Unicode, "demo  89%  21.2 MiB/s, 1h 05m left, p…"),
            (38, Charset::Ascii, "demo  89%  21.2 MiB/s, 1h 05m left, .."),
        ];
        for (width, charset, expected) in rows {
            assert_eq!(line(width, charset, "demo", TEXT), expected);
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
